//! A reset during recovery from another.

use mana_pmd::PortEvent;

use super::{assert_moves, learn, recover, suite};
use crate::events::events_until;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_in_a_row",
    "resets in a row are survived, also where the next comes before the owners saw the one before, \
     and where they saw none of them",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(1, 2));
    for silent in [true, false, true] {
        for _ in 0..2 {
            rig.take_away();
            assert_eq!(learn(&mut running), [PortEvent::DeviceRemoved]);
            rig.bring_back();
            if silent {
                let back = |event: &PortEvent| *event == PortEvent::Recovering;
                events_until(rig, &mut running.port, || (), back);
            } else {
                recover(&mut running);
            }
        }
        if silent {
            recover(&mut running);
        }
        assert_moves(&mut running);
    }
    running.finish();
}
