//! A burst larger than the ring: what fits leaves, the tail stays in order.

use pmd_api::{Batch, TxBurst};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "full_ring",
    proves: "a full ring takes a prefix of the burst and leaves the tail in order; nothing is lost \
             or repeated, whether packets are small, tagged or of many segments",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let plan = Plan {
        spare: 1500,
        ..Plan::default()
    };
    for segments in [1, 2, 7] {
        let mut running = Running::start(rig, &plan);
        for round in 0..5 {
            overfill(&mut running, segments, round);
        }
        running.finish();
    }
}

/// Offers three rings' worth at once while the device stands still between bursts.
fn overfill(running: &mut Running<'_>, segments: usize, round: u32) {
    let offered = 192;
    let mut batch = Batch::with_capacity(offered);
    for seed in 0..offered as u32 {
        let bytes = frame(Kind::UdpV4, round, seed, 140);
        let mut pieces = bytes.chunks(140_usize.div_ceil(segments));
        let mut packet = running.packet(pieces.next().expect("a first piece"));
        for piece in pieces {
            packet.chain(running.packet(piece)).expect("a chain");
        }
        batch.push(packet).expect("room");
    }
    let (rig, tx) = (running.rig, &mut running.queues.tx[0]);
    let mut sent = 0;
    let done = rig.until(|| {
        let outcome = tx.tx_burst(&mut batch);
        assert!(outcome.rejected.is_none());
        sent += outcome.sent;
        assert_eq!(sent + batch.len(), offered);
        assert!(tx.in_flight() <= tx.depth());
        if let Some(next) = batch.as_slice().first() {
            assert_eq!(seed_of(&next.to_vec()), sent as u32, "the tail moved");
            // The ring is full: without the device nothing more is taken.
            if rig.is_stepped() {
                assert!(outcome.sent > 0, "no progress after {sent}");
                let again = tx.tx_burst(&mut batch);
                assert_eq!((again.sent, batch.len()), (0, offered - sent));
            }
        }
        batch.is_empty()
    });
    assert!(done, "only {sent} packets were taken");
    running.settle();
    let left = running.rig.device().take_tx_frames();
    let seeds: Vec<u32> = left.iter().map(|frame| seed_of(frame)).collect();
    assert_eq!(seeds, (0..offered as u32).collect::<Vec<_>>());
}
