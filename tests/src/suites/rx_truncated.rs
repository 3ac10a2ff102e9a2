//! A packet that the device could not store whole is lost, its buffer is not.

use mana_model::Fault;

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rx_truncated",
    proves: "a truncated packet is counted and its buffer used again; those around it arrive, in \
             order",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    let before = running.rx_pool.in_use();
    for nth in (1..=8).chain(1..=8) {
        rig.device().inject(Fault::RxTruncated { port: 0, nth });
        around(&mut running, nth as u32 - 1, |seed| {
            frame(Kind::UdpV4, 1, seed, 100)
        });
    }
    // Not on demand: larger than the buffer.
    for nth in 0..8 {
        around(&mut running, nth, |seed| {
            let size = if seed == nth { 2049 } else { 2048 };
            frame(Kind::UdpV4, 1, seed, size)
        });
    }
    assert_eq!(running.port.stats().rx_errors, 24);
    assert_eq!(rig.device().counters().rx_truncated, 24);
    // 24 buffers lost would show in a ring of 64 that is refilled in steps of 16.
    let seen = running.rx_pool.in_use();
    assert!(
        before - seen < 17,
        "{before} buffers in the ring, then {seen}"
    );
    running.finish();
}

/// Delivers 8 packets of which the one with seed `lost` does not arrive.
fn around(running: &mut Running<'_>, lost: u32, packet: impl Fn(u32) -> Vec<u8>) {
    for seed in 0..8 {
        running.rig.device().deliver(&packet(seed));
    }
    let received = running.receive(7);
    let seeds: Vec<u32> = received
        .iter()
        .map(|one| seed_of(one.mbuf.data()))
        .collect();
    let expected: Vec<u32> = (0..8).filter(|seed| *seed != lost).collect();
    assert_eq!(seeds, expected);
}
