//! As DTS "buffer_scatter": packets larger than a buffer arrive as chains.

use mana_model::Fault;
use mana_pmd::Oversize;
use pmd_api::Mbuf;

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "buffer_scatter",
    proves: "a packet of any length up to the MTU arrives in exactly the buffers it fills, in order \
             and unchanged, coalesced or not; what one packet leaves of its buffers the next ones \
             use, and a larger packet than the MTU is lost alone",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    // Packets of up to 9014 bytes: 2, 5 and 15 buffers each.
    for buffer in [4507, 2048, 601] {
        let segments = 9014_usize.div_ceil(buffer);
        let plan = Plan {
            packet: buffer as u32,
            mtu: Some(9000),
            oversize: Oversize::Scatter,
            spare: 64 + 64 * (segments as u32 - 1),
            ..Plan::default()
        };
        let mut running = Running::start(rig, &plan);
        assert_eq!(running.queues.rx[0].segments() as usize, segments);
        assert_eq!(running.queues.rx[0].posted(), 64);
        edges(&mut running, buffer);
        laps(&mut running, buffer);
        lost(&mut running, buffer * segments);
        starved(&mut running);
        running.finish();
    }
    single(rig);
}

/// One byte around every multiple of the buffer.
fn edges(running: &mut Running<'_>, buffer: usize) {
    let around = (1..=9014 / buffer).flat_map(|n| [n * buffer - 1, n * buffer, n * buffer + 1]);
    let sizes: Vec<usize> = [60, 61, 9013, 9014]
        .into_iter()
        .chain(around)
        .filter(|size| (60..=9014).contains(size))
        .collect();
    for some in sizes.chunks(8) {
        arrive(running, buffer, some);
    }
}

/// The ring goes round several times, with mixed sizes in the coalesced completions.
fn laps(running: &mut Running<'_>, buffer: usize) {
    for round in 0..60_usize {
        let sizes: Vec<usize> = (0..8).map(|i| 60 + (round * 8 + i) * 1237 % 8954).collect();
        arrive(running, buffer, &sizes);
    }
}

/// Delivers packets of these sizes, which arrive.
fn arrive(running: &mut Running<'_>, buffer: usize, sizes: &[usize]) {
    let sent: Vec<Vec<u8>> = (0..)
        .zip(sizes)
        .map(|(seed, size)| frame(Kind::UdpV4, 1, seed, *size))
        .collect();
    running.rig.device().deliver_all(&sent);
    let received = running.receive(sent.len());
    for (one, bytes) in received.iter().zip(&sent) {
        let mbuf = &one.mbuf;
        assert!(mbuf.to_vec() == *bytes, "{} bytes changed", bytes.len());
        assert_eq!(mbuf.packet_len(), bytes.len());
        assert_eq!(mbuf.segments(), bytes.len().div_ceil(buffer));
        let full = mbuf.iter().take(mbuf.segments() - 1);
        assert!(full.into_iter().all(|segment| segment.data_len() == buffer));
    }
}

/// A packet that does not fit, and one that the device reports as such, are lost alone, and their
/// buffers are used again: many more are lost than there are.
fn lost(running: &mut Running<'_>, most: usize) {
    let before = running.port.stats();
    for round in 0..100 {
        if round % 2 == 0 {
            let nth = 2;
            running
                .rig
                .device()
                .inject(Fault::RxTruncated { port: 0, nth });
        }
        let size = |seed| match seed == 1 && round % 2 == 1 {
            true => most + 1,
            false => 3000,
        };
        let frames = [0, 1, 2, 3].map(|seed| frame(Kind::UdpV4, 1, seed, size(seed)));
        running.rig.device().deliver_all(&frames);
        let received = running.receive(3);
        let seeds: Vec<u32> = received
            .iter()
            .map(|one| seed_of(&one.mbuf.to_vec()))
            .collect();
        assert_eq!(seeds, [0, 2, 3], "round {round}");
    }
    let after = running.port.stats();
    assert_eq!(after.rx_errors - before.rx_errors, 100);
    assert_eq!(after.rx_nombuf, before.rx_nombuf);
}

/// A pool without buffers postpones, and loses nothing for good.
fn starved(running: &mut Running<'_>) {
    let depth = running.queues.rx[0].depth() as usize;
    let posted = running.queues.rx[0].posted() as usize;
    let held: Vec<Mbuf> = std::iter::from_fn(|| running.rx_pool.alloc()).collect();
    let mut arrived = Vec::new();
    let before = running.rig.device().counters();
    let seeds: Vec<u32> = (0..3 * depth as u32).collect();
    let rig = running.rig;
    for some in seeds.chunks(8) {
        let frames = some
            .iter()
            .map(|seed| frame(Kind::UdpV4, 1, *seed, 9014))
            .collect::<Vec<_>>();
        rig.device().deliver_all(&frames);
    }
    rig.rest(|| arrived.extend(running.poll().into_iter().map(|one| one.mbuf)));
    let dropped = running.rig.device().counters().rx_no_buffer - before.rx_no_buffer;
    assert!(dropped > 0 && arrived.len() >= posted, "no shortage");
    assert_eq!(arrived.len() as u64 + dropped, 3 * depth as u64);
    // Buffers that earlier packets left make a few whole groups.
    assert!((running.queues.rx[0].posted() as usize) < depth);
    let nombuf = running.port.stats().rx_nombuf;
    assert!(nombuf > 0, "the shortage is not counted");
    drop((held, arrived));
    running.poll();
    assert_eq!(running.queues.rx[0].posted() as usize, depth);
}

/// Where a buffer holds what the MTU allows, nothing is chained, and nothing more is posted.
fn single(rig: &Rig) {
    let plan = Plan {
        oversize: Oversize::Scatter,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    assert_eq!(running.queues.rx[0].segments(), 1);
    arrive(&mut running, 2048, &[60, 1514, 2048]);
    running.finish();
}
