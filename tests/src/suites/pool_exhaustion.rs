//! A pool without buffers starves reception and nothing else.

use pmd_api::Mbuf;

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "pool_exhaustion",
    proves: "with an empty pool the posted buffers are used up, the shortage is counted and the \
             device drops; freed buffers bring reception back, and every packet is accounted for",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let plan = Plan::default();
    let mut running = Running::start(rig, &plan);
    for round in 0..3 {
        let mut held: Vec<Mbuf> = Vec::new();
        while let Some(mbuf) = running.rx_pool.alloc() {
            held.push(mbuf);
        }
        assert_eq!(running.rx_pool.available(), 0);
        // As many as are posted arrive and are held back; the rest finds no buffer.
        let offered = plan.depth as usize * 2;
        let before = rig.device().counters();
        for seed in 0..offered as u32 {
            rig.device().deliver(&frame(Kind::UdpV4, seed, seed, 100));
        }
        let mut arrived = Vec::new();
        rig.rest(|| arrived.extend(running.poll().into_iter().map(|one| one.mbuf)));
        let dropped = rig.device().counters().rx_no_buffer - before.rx_no_buffer;
        assert!(dropped > 0, "round {round}: no shortage");
        assert_eq!(
            arrived.len() as u64 + dropped,
            offered as u64,
            "round {round}: packets are not accounted for"
        );
        assert_eq!(running.queues.rx[0].posted(), 0, "the ring is not used up");
        assert!(
            running.port.stats().rx_nombuf > 0,
            "the shortage is not counted"
        );

        drop(held);
        drop(arrived);
        // The next poll finds buffers again without a packet to remind it.
        running.poll();
        assert_eq!(running.queues.rx[0].posted(), plan.depth);
        for seed in 0..plan.depth {
            rig.device().deliver(&frame(Kind::UdpV4, seed, seed, 100));
        }
        running.receive(plan.depth as usize);
    }
    running.finish();
}
