//! The soak in small: seconds of it in every run. `cargo xtask long soak` goes on for hours. Alone in
//! its program, because it counts what the whole process has.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TIME: Duration = Duration::from_secs(12);

#[test]
fn ports_live_through_resets_removals_and_restarts_and_nothing_of_the_process_grows() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = match std::env::var("MANA_SOAK_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => now.expect("a clock").as_nanos() as u64,
    };
    println!("MANA_SOAK_SEED={seed}");
    let report = conformance::soak::run(seed, TIME);
    println!("{report:?}");
    assert!(report.received > 0);
}
