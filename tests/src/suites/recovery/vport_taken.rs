//! The kernel's own driver is first.

use mana_pmd::PortEvent;

use super::{assert_moves, events, poll_all, recover, suite};
use crate::events::{is_failed, is_recovered, next_event};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_vport_taken",
    "a vPort that the kernel took while the device was away is waited for",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    rig.take_away();
    rig.bring_back();
    // The port does nothing while it is not asked for events.
    rig.device().set_netdev_up(0, true);
    events(&mut running, |event| *event == PortEvent::Recovering);
    for _ in 0..50 {
        poll_all(&mut running.queues);
        let event = next_event(&mut running.port);
        let over = |event: &PortEvent| is_recovered(event) || is_failed(event);
        assert!(!event.as_ref().is_some_and(over), "{event:?}");
    }
    rig.device().set_netdev_up(0, false);
    recover(&mut running);
    assert_moves(&mut running);
    running.finish();
}
