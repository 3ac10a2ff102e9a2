//! A handle that nobody calls or drops.

use mana_pmd::{Error, PortEvent};

use super::{events, suite};
use crate::events::is_recovered;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_forgotten_handle",
    "a forgotten handle is waited for and named, stopping and closing the port say that it is \
     missing, and return; should it be dropped long after, the rest goes with it",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    let forgotten = running.queues.tx.remove(0);
    rig.take_away();
    rig.bring_back();
    let named = PortEvent::WaitingForQueue {
        queues: vec!["tx 0".to_owned()],
    };
    let events = events(&mut running, |event| *event == named);
    assert!(!events.iter().any(is_recovered), "{events:?}");
    let Running {
        mut port,
        queues,
        rx_pool,
        tx_pool,
        ..
    } = running;
    let error = port.stop(queues).unwrap_err();
    assert!(matches!(error, Error::QueuesOutstanding { .. }), "{error}");
    let error = port.close().unwrap_err();
    assert!(matches!(error, Error::QueuesOutstanding { .. }), "{error}");
    drop(forgotten);
    rig.assert_clean(&[&rx_pool, &tx_pool]);
}
