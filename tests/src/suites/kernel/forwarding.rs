//! As DTS's "pmd_buffer_scatter" and LISA's forwarding do: packets go through receive and transmit
//! queues again and again.

use std::collections::BTreeMap;

use pmd_api::{Batch, TxBurst};

use super::{flows, suite};
use crate::packets::seed_of;
use crate::toeplitz::{VECTOR_KEY, queue};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "kernel_forwarding",
    "packets of many flows arrive on the queues that the published hash says, are forwarded ten \
     times round, and are as they were, each once",
    run,
);

/// How often each packet is sent.
const ROUNDS: u32 = 10;

fn run(rig: &Rig) {
    let most = usize::from(rig.info().max_rx_queues);
    for (rx, tx) in [(1, 1), (4, 2), (16, 1)] {
        if rx <= most {
            forward(rig, rx, tx);
        }
    }
}

fn forward(rig: &Rig, rx: usize, tx: usize) {
    let plan = Plan {
        depth: 256,
        spare: 256,
        ..Plan::queues(rx, tx)
    };
    let mut running = Running::start(rig, &plan);
    let frames = flows(128, 200);
    running.send_frames(0, &frames);
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    let mut used = vec![false; rx];
    let mut home = 0;
    let mut batch = Batch::with_capacity(crate::running::BURST);
    let done = rig.until(|| {
        for one in running.poll() {
            let bytes = one.mbuf.to_vec();
            let seed = seed_of(&bytes);
            assert!(
                frames.get(seed as usize) == Some(&bytes),
                "packet {seed} changed"
            );
            assert_eq!(one.queue, queue(&VECTOR_KEY, &bytes, rx), "packet {seed}");
            used[one.queue] = true;
            let rounds = seen.entry(seed).or_default();
            *rounds += 1;
            assert!(*rounds <= ROUNDS, "packet {seed} came too often");
            if *rounds == ROUNDS {
                home += 1;
                continue;
            }
            let onto = seed as usize % tx;
            batch.push(running.packet(&bytes)).expect("room");
            let sent = rig.until(|| {
                running.reclaim();
                let outcome = running.queues.tx[onto].tx_burst(&mut batch);
                assert!(outcome.rejected.is_none(), "packet {seed} is rejected");
                batch.is_empty()
            });
            assert!(sent, "queue {onto} takes no packet more");
        }
        running.reclaim();
        home == frames.len()
    });
    assert!(
        done,
        "{home} of {} came home {}",
        frames.len(),
        rig.trouble()
    );
    assert!(used.iter().all(|used| *used), "a queue got nothing");
    running.settle();
    let stats = running.port.stats();
    let all = u64::from(ROUNDS) * frames.len() as u64;
    assert_eq!((stats.rx_packets, stats.tx_packets), (all, all));
    assert_eq!((stats.rx_errors, stats.tx_errors), (0, 0));
    running.finish();
}
