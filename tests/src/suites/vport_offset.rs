//! vPort offsets above 255 need the long OOB in every packet (reference/mana-hardware.md §3.2).

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "vport_offset",
    proves: "a port whose vPort offset does not fit the short OOB sends every packet all the same",
    needs: Needs::Model,
    prepare: |device| device.vport_offset = 0x8FE,
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    let frames = mixture(300, 1514);
    let back = running.exchange(0, &frames);
    assert!(frames.iter().eq(back.iter().map(|(_, bytes)| bytes)));
    assert_eq!(rig.device().counters().tx_errors, 0);
    running.finish();
}
