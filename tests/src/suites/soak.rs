//! Everything that can happen to ports, in an order that chance decides.

use std::time::Duration;

use super::{Needs, Suite, two_ports};
use crate::{Rig, soak};

pub(super) const SUITE: Suite = Suite {
    name: "soak",
    proves: "ports live through starts, stops, resets, removals and failing recoveries under \
             traffic, in an order that a seed decides, and neither buffers nor objects, descriptors \
             or mappings of the process become more",
    needs: Needs::Neighbour,
    prepare: two_ports,
    run,
};

/// How long, unless `MANA_SOAK_SECONDS` says so.
const USUAL: u64 = 3;

fn run(rig: &Rig) {
    let asked = std::env::var("MANA_SOAK_SECONDS").ok();
    let seconds = asked.as_ref().map(|text| text.parse().expect("a number"));
    let time = Duration::from_secs(seconds.unwrap_or(USUAL));
    let report = soak::run_on(soak::seed(), time, rig);
    if asked.is_some() {
        eprintln!("{report:?}");
    }
    assert!(report.received > 0, "{report:?}");
}
