//! As LISA's loopback of testpmd: what is sent comes back byte by byte.

use super::{Needs, Suite};
use crate::packets::{Kind, frame, mixture};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "loopback",
    proves: "every byte of packets of 60 to 9000 bytes comes back, each once, in the order of its \
             queue, on one and on several queues",
    needs: Needs::Loop,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    every_size_in_order(rig);
    several_queues(rig);
}

/// One queue: sizes around every limit that could matter, in order.
fn every_size_in_order(rig: &Rig) {
    let plan = Plan {
        packet: 9014,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    let sizes = (60..=300)
        .chain([
            1499, 1500, 1513, 1514, 1515, 2047, 2048, 4095, 4096, 8999, 9000,
        ])
        .filter(|size| *size <= rig.largest_frame());
    let frames: Vec<Vec<u8>> = (0..)
        .zip(sizes)
        .map(|(seed, size)| frame(Kind::UdpV4, 5, seed, size))
        .collect();
    let back = running.exchange(0, &frames);
    for (sent, (_, came)) in frames.iter().zip(&back) {
        assert!(sent == came, "a packet of {} bytes changed", sent.len());
    }
    running.finish();
}

/// Several queues, several laps of every ring: nothing lost, nothing twice, nothing changed.
fn several_queues(rig: &Rig) {
    for queues in [2, 4] {
        let mut running = Running::start(rig, &Plan::queues(queues, queues));
        let frames = mixture(1200, 1514);
        let mut back = Vec::new();
        for (queue, some) in frames.chunks(frames.len() / queues).enumerate() {
            back.extend(
                running
                    .exchange(queue, some)
                    .into_iter()
                    .map(|(_, bytes)| bytes),
            );
        }
        let mut frames = frames;
        frames.sort();
        back.sort();
        assert!(frames == back, "packets changed on their way");
        running.finish();
    }
}
