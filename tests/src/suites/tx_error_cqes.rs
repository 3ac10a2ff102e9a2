//! Errors of single packets ignore suppression (reference/mana-hardware.md §3.4).

use mana_model::Fault;

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "tx_error_cqes",
    proves: "an error of each type at each place of a suppressed run counts one packet, brings all \
             buffers home and lets the traffic go on; TX_GDMA_ERR stops the queue until the port \
             is started again",
    needs: Needs::Model,
    prepare: capture,
    run,
};

/// Types that end one packet, and the one that ends the queue.
const PACKET_ERRORS: std::ops::RangeInclusive<u8> = 33..=41;
const QUEUE_ERROR: u8 = 42;
/// Packets that are sent together: in one burst, all but the last suppressed, or in one each.
const RUN: u32 = 8;

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    for burst in [RUN as usize, 1, 3] {
        for cqe_type in PACKET_ERRORS {
            for place in 1..=RUN {
                some_fail(&mut running, burst, cqe_type, &[place]);
            }
            some_fail(&mut running, burst, cqe_type, &[1, 2]);
            some_fail(&mut running, burst, cqe_type, &[3, RUN]);
            some_fail(&mut running, burst, cqe_type, &[1, 4, 5, RUN]);
        }
    }
    running.finish();
    queue_stops(rig);
}

fn packets(running: &Running<'_>) -> Vec<pmd_api::Mbuf> {
    (0..RUN)
        .map(|seed| running.packet(&frame(Kind::UdpV4, 1, seed, 100)))
        .collect()
}

/// The packets at these places (from 1) fail, of bursts of so many; the others leave.
fn some_fail(running: &mut Running<'_>, burst: usize, cqe_type: u8, places: &[u32]) {
    let before = running.port.tx_queue_stats(0);
    for place in places {
        running.rig.device().inject(Fault::TxError {
            port: 0,
            sq: None,
            cqe_type,
            nth: (*place).into(),
        });
    }
    let mut mbufs = packets(running);
    while !mbufs.is_empty() {
        let rest = mbufs.split_off(burst.min(mbufs.len()));
        running.send(0, mbufs);
        mbufs = rest;
    }
    running.settle();
    let stats = running.port.tx_queue_stats(0) - before;
    let failed = places.len() as u64;
    assert_eq!(
        stats.errors, failed,
        "type {cqe_type} at {places:?} in bursts of {burst}"
    );
    assert_eq!(
        stats.packets,
        u64::from(RUN) - failed,
        "type {cqe_type} at {places:?} in bursts of {burst}"
    );
    assert_eq!(
        running.tx_pool.in_use(),
        0,
        "type {cqe_type} at {places:?} in bursts of {burst}"
    );
    let left: Vec<u32> = running
        .rig
        .device()
        .take_tx_frames()
        .iter()
        .map(|frame| seed_of(frame))
        .collect();
    let expected: Vec<u32> = (0..RUN)
        .filter(|seed| !places.contains(&(seed + 1)))
        .collect();
    assert_eq!(left, expected);
}

/// After the queue's error nothing is taken any more; stop and start mend it.
fn queue_stops(rig: &Rig) {
    for place in [1, 3, RUN] {
        let mut running = Running::start(rig, &Plan::default());
        rig.device().inject(Fault::TxError {
            port: 0,
            sq: None,
            cqe_type: QUEUE_ERROR,
            nth: place.into(),
        });
        let mbufs = packets(&running);
        running.send(0, mbufs);
        rig.advance();
        running.reclaim();
        assert_eq!(running.port.tx_queue_stats(0).errors, 1);
        let mut batch = pmd_api::Batch::with_capacity(8);
        batch.fill_from(packets(&running));
        let outcome = pmd_api::TxBurst::tx_burst(&mut running.queues.tx[0], &mut batch);
        assert_eq!((outcome.sent, batch.len()), (0, 8), "a stopped queue sends");
        drop(batch);

        running.restart();
        assert_eq!(running.tx_pool.in_use(), 0);
        let _ = rig.device().take_tx_frames();
        let mbufs = packets(&running);
        running.send(0, mbufs);
        running.settle();
        assert_eq!(rig.device().take_tx_frames().len(), RUN as usize);
        running.finish();
    }
}
