//! As DTS "smoke tests": a port starts and stops, and counts nothing while nothing moves.

use pmd_api::{PortStats, QueueStats};

use super::{Needs, Suite};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "smoke",
    proves: "a port with any number of queues starts with full rings and stops, and all counters \
             stay zero while nothing moves",
    needs: Needs::Port,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    let info = rig.info();
    for (rx, tx) in [(1, 1), (2, 3), (8, 1), (64, 16)] {
        if rx > info.max_rx_queues.into() || tx > info.max_tx_queues.into() {
            continue;
        }
        let plan = Plan::queues(rx, tx);
        let mut running = Running::start(rig, &plan);
        assert_eq!(
            (running.queues.rx.len(), running.queues.tx.len()),
            (rx, tx),
            "queues"
        );
        assert!(
            running
                .queues
                .rx
                .iter()
                .all(|queue| queue.posted() == plan.depth),
            "a receive ring is not full"
        );
        let came = running.poll().len() as u64;
        // On a real wire others may send.
        assert!(came == 0 || !rig.is_model(), "a packet out of nowhere");
        assert_eq!(running.reclaim(), 0);
        let stats = running.port.stats();
        assert_eq!(stats.rx_packets, came);
        let others = PortStats {
            rx_packets: 0,
            rx_bytes: 0,
            ..stats
        };
        assert_eq!(others, PortStats::default());
        for queue in 0..tx as u16 {
            assert_eq!(running.port.tx_queue_stats(queue), QueueStats::default());
        }
        running.finish();
    }
}
