//! Owners that do not call their queues.

use mana_pmd::PortEvent;
use pmd_api::{Batch, RxBurst, TxBurst};

use super::{assert_moves, suite};
use crate::events::{events_until, is_recovered};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_silent_owner",
    "a silent owner is named, keeps back nothing but the recovery, and lets the port recover when \
     it calls",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 1));
    rig.take_away();
    rig.bring_back();
    let waiting = |names: &'static [&'static str]| move |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { queues } if queues == names);
    let names = &["rx 0", "rx 1", "tx 0"];
    let events = events_until(rig, &mut running.port, || (), waiting(names));
    assert_eq!(
        events[..2],
        [PortEvent::DeviceRemoved, PortEvent::Recovering],
        "a silent owner keeps no event back"
    );
    // Everything else goes on: statistics, configuration, the next question.
    assert_eq!(running.port.next_event().unwrap(), None);
    assert!(running.port.is_started());
    let mut batch = Batch::with_capacity(1);
    assert_eq!(running.queues.rx[1].rx_burst(&mut batch), 0);
    running.queues.tx[0].reclaim();
    events_until(rig, &mut running.port, || (), waiting(&["rx 0"]));
    assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
    let events = events_until(rig, &mut running.port, || (), is_recovered);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_moves(&mut running);
    running.finish();
}
