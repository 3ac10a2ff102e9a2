//! As DTS "rss": an independent Toeplitz says where a packet must arrive.

use pmd_api::{Batch, HashType, RxBurst, Toeplitz};

use mana_pmd::{Error, PortConfig, RxQueueConfig, TxQueueConfig};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::toeplitz::{self, VECTOR_KEY, VECTORS_V4, VECTORS_V6, hash, input, queue};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rss",
    proves: "every packet arrives on the queue of entry hash & 63 and carries the hash that the \
             published definition gives, with 4 and 64 queues, any key, and for the published \
             vectors",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let other: [u8; 40] = std::array::from_fn(|i| (i * 37 + 11) as u8);
    for (queues, key) in [(1, None), (4, None), (64, None), (16, Some(other))] {
        let plan = Plan {
            rss_key: key,
            ..Plan::queues(queues, 1)
        };
        let mut running = Running::start(rig, &plan);
        let key = key.unwrap_or(VECTOR_KEY);
        let mut used = vec![false; queues];
        for flow in 0..300 {
            let frames = Kind::ALL.map(|kind| frame(kind, flow, flow, 90));
            for queue in check(&mut running, &key, &frames, queues) {
                used[queue] = true;
            }
        }
        assert!(used.iter().all(|used| *used), "a queue got nothing");
        for frame in vectors() {
            check(&mut running, &key, &[frame], queues);
        }
        assert_eq!(running.port.rss_key(), key);
        let table = running.port.rss_table().expect("it is configured");
        assert!((0..64).all(|entry| usize::from(table[entry]) == entry % queues));
        running.finish();
    }
    keys(rig);
}

/// A key is exchanged between two starts; one of another length never is.
fn keys(rig: &Rig) {
    let plan = Plan::queues(4, 1);
    let (pool, other) = (plan.pool("received"), [0x5A; 40]);
    let mut port = rig.open();
    assert!(matches!(
        port.set_rss_key(&other),
        Err(Error::NotConfigured)
    ));
    port.configure(PortConfig {
        rx: vec![RxQueueConfig { depth: 64, pool }; 4],
        tx: vec![TxQueueConfig { depth: 64 }],
        ..PortConfig::default()
    })
    .expect("it is configured");
    assert_eq!(port.rss_key(), VECTOR_KEY);
    port.set_rss_key(&other).expect("40 bytes");
    for length in [0, 39, 41, 52] {
        let refused = port.set_rss_key(&vec![1; length]);
        assert!(matches!(refused, Err(Error::RssKey { given }) if given == length));
    }
    assert_eq!(port.rss_key(), other);
    // All bits of the windows repeat, so the hash is 0 or the window: seen by the packet.
    let mut queues = port.start().expect("it starts");
    let bytes = frame(Kind::UdpV4, 3, 3, 90);
    rig.device().deliver(&bytes);
    let mut batch = Batch::with_capacity(4);
    let arrived = rig.until(|| queues.rx.iter_mut().any(|rx| rx.rx_burst(&mut batch) > 0));
    assert!(arrived, "nothing arrived");
    let hash = batch.as_slice()[0].hash().map(|(hash, _)| hash);
    assert_eq!(
        hash,
        input(&bytes).map(|covered| toeplitz::hash(&other, &covered))
    );
    drop(batch);
    port.stop(queues).expect("it stops");
}

/// Delivers frames; each must arrive where it must, with the right hash. Returns the queues.
fn check(
    running: &mut Running<'_>,
    key: &[u8; 40],
    frames: &[Vec<u8>],
    queues: usize,
) -> Vec<usize> {
    running.rig.device().deliver_all(frames);
    let received = running.receive(frames.len());
    let mut came: Vec<Vec<u8>> = Vec::new();
    for one in &received {
        let bytes = one.mbuf.to_vec();
        assert_eq!(one.queue, queue(key, &bytes, queues), "{bytes:02x?}");
        if queues > 1 {
            // What software computes is what the device does.
            assert_eq!(Toeplitz::new(key).packet(&bytes), one.mbuf.hash());
            let covered = input(&bytes);
            let expected = covered.map(|covered| (hash(key, &covered), covers(&covered, &bytes)));
            assert_eq!(one.mbuf.hash(), expected, "{bytes:02x?}");
        }
        came.push(bytes);
    }
    let mut frames = frames.to_vec();
    frames.sort();
    came.sort();
    assert!(came == frames, "frames changed");
    received.iter().map(|one| one.queue).collect()
}

/// What a hash over so many bytes of that frame is called.
fn covers(covered: &[u8], frame: &[u8]) -> HashType {
    let tcp = frame[if frame[12] == 0x08 { 23 } else { 20 }] == 6;
    match (covered.len(), tcp) {
        (8, _) => HashType::Ipv4,
        (12, true) => HashType::TcpIpv4,
        (12, false) => HashType::UdpIpv4,
        (32, _) => HashType::Ipv6,
        (_, true) => HashType::TcpIpv6,
        (_, false) => HashType::UdpIpv6,
    }
}

/// Frames of the published vectors, which are hashed with their ports and without.
pub(super) fn vectors() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (from, from_port, to, to_port, ..) in VECTORS_V4 {
        for kind in [Kind::TcpV4, Kind::IcmpV4] {
            let mut bytes = frame(kind, 0, 0, 90);
            bytes[26..30].copy_from_slice(&from.octets());
            bytes[30..34].copy_from_slice(&to.octets());
            if kind == Kind::TcpV4 {
                bytes[34..36].copy_from_slice(&from_port.to_be_bytes());
                bytes[36..38].copy_from_slice(&to_port.to_be_bytes());
            }
            frames.push(bytes);
        }
    }
    for (from, from_port, to, to_port, ..) in VECTORS_V6 {
        for kind in [Kind::TcpV6, Kind::IcmpV6] {
            let mut bytes = frame(kind, 0, 0, 90);
            bytes[22..38].copy_from_slice(&from.octets());
            bytes[38..54].copy_from_slice(&to.octets());
            if kind == Kind::TcpV6 {
                bytes[54..56].copy_from_slice(&from_port.to_be_bytes());
                bytes[56..58].copy_from_slice(&to_port.to_be_bytes());
            }
            frames.push(bytes);
        }
    }
    frames
}
