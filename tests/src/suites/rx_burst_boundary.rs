//! Completions carry several packets; a burst may end inside one.

use pmd_api::{Batch, RxBurst};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rx_burst_boundary",
    proves: "bursts of 1, 3, 5 and 32 packets against completions of up to 4, or 8, lose \
             and repeat nothing and keep the order, wherever the burst ends",
    needs: Needs::Model,
    prepare: |device| {
        capture(device);
        device.coalescing = device.coalescing.max(4);
    },
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    // What is delivered between two steps shares completions.
    rig.device().hold(true);
    let mut seed = 0;
    for burst in [1, 2, 3, 5, 7, 32] {
        let mut batch = Batch::with_capacity(burst);
        // More packets than the ring has buffers in all, in groups of every length.
        for group in 1..=24 {
            let first = seed;
            let mut frames = Vec::new();
            for _ in 0..group {
                // A break of flags now and then ends a completion early.
                let kind = if seed % 7 == 6 {
                    Kind::TcpV6
                } else {
                    Kind::UdpV4
                };
                frames.push(frame(kind, 1, seed, 80));
                seed += 1;
            }
            rig.device().deliver_all(&frames);
            let mut expected = first;
            rig.until(|| {
                let came = running.queues.rx[0].rx_burst(&mut batch);
                assert_eq!(came, batch.len());
                assert!(came <= burst, "{came} packets for a batch of {burst}");
                for mbuf in batch.drain(..) {
                    assert_eq!(seed_of(&mbuf.to_vec()), expected, "burst of {burst}");
                    expected += 1;
                }
                expected >= seed
            });
            assert_eq!(expected, seed, "packets are lost, burst of {burst}");
        }
    }
    partly_full_batch(&mut running);
    rig.device().hold(false);
    running.finish();
}

/// A burst appends, and takes no more than there is room for.
fn partly_full_batch(running: &mut Running<'_>) {
    let mut batch = Batch::with_capacity(4);
    for room in [1, 2, 3] {
        for _ in 0..4 - room {
            batch.push(running.packet(&[0x77; 60])).expect("room");
        }
        for seed in 0..room as u32 + 2 {
            running
                .rig
                .device()
                .deliver(&frame(Kind::UdpV4, 1, seed, 80));
        }
        running.rig.advance();
        assert_eq!(running.queues.rx[0].rx_burst(&mut batch), room);
        assert!(
            batch
                .iter()
                .take(4 - room)
                .all(|mbuf| mbuf.data()[0] == 0x77)
        );
        assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
        batch.clear();
        let rest = running.receive(2);
        assert_eq!(seed_of(&rest[0].mbuf.to_vec()), room as u32);
    }
}
