//! Packets whose completion never comes.

use std::time::Duration;

use mana_model::Fault;
use mana_pmd::{PortEvent, RecoveryConfig};

use super::{assert_moves, events, poll_all, recover, suite};
use crate::events::next_event;
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_tx_stuck",
    "a queue whose packets never complete is told once, and a recovery mends it",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(1, 2));
    running.port.set_recovery(RecoveryConfig {
        tx_timeout: Some(Duration::from_millis(60)),
        ..RecoveryConfig::default()
    });
    // One burst, one completion, and it comes before those of what the loop brings back.
    rig.device().inject(Fault::LostCqe { port: 0, nth: 1 });
    let packets = (0..5).map(|n| running.packet(&frame(Kind::UdpV4, 1, n, 80)));
    let packets = packets.collect();
    running.send(1, packets);
    rig.advance();
    let events = events(&mut running, |_| true);
    let [
        PortEvent::TxStuck {
            queue: 1,
            in_flight: 5,
            age,
        },
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    assert!(age >= Duration::from_millis(60));
    for _ in 0..200 {
        poll_all(&mut running.queues);
        assert_eq!(next_event(&mut running.port), None, "told once");
    }
    running.port.recover();
    let events = recover(&mut running);
    let Some(PortEvent::Recovered { lost }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((lost.tx, running.tx_pool.in_use()), (5, 0));
    assert_eq!(running.port.tx_queue_stats(1).errors, 5);
    assert_moves(&mut running);
    running.finish();
}
