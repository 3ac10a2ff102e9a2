//! The device asks for a reset, which the kernel's driver serves (reference/mana-hardware.md §6.8).

use mana_pmd::PortEvent;

use super::{assert_moves, events, suite};
use crate::events::is_recovered;
use crate::packets::mixture;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "kernel_reset_request",
    "a reset that the device asks for is survived by the same queue handles: the port tells that it \
     recovers and that it has, and packets move as before",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(4, 2));
    assert_moves(&mut running);
    running.send_frames(1, &mixture(24, 600));
    rig.device().request_reset(0);
    let told = events(&mut running, is_recovered);
    let [
        PortEvent::DeviceRemoved,
        PortEvent::Recovering,
        PortEvent::Recovered { .. },
    ] = told[..]
    else {
        panic!("{told:?}");
    };
    assert_moves(&mut running);
    running.finish();
}
