//! The soak in small: seconds of it in every run. `cargo xtask long soak` goes on for hours. Alone in
//! its program, because it counts what the whole process has.

#![forbid(unsafe_code)]

use std::time::Duration;

use conformance::{Rig, soak, suites};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};

/// Of machines whose device runs by itself, and of one that is stepped.
const TIMES: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(4)];

#[test]
fn ports_live_through_resets_removals_and_restarts_and_nothing_of_the_process_grows() {
    let seed = soak::seed();
    println!("MANA_SOAK_SEED={seed}");
    let suite = suites::find("soak").unwrap();
    let machine = suite.machine(DeviceConfig::new(Kernel::V7_3));
    let rig = Rig::machine(machine, DoorbellMode::Stepped);
    let reports = [
        soak::run_on(seed, TIMES[1], &rig),
        soak::run(seed, TIMES[0]),
    ];
    for report in reports {
        println!("{report:?}");
        assert!(report.received > 0);
    }
}
