//! As DTS "rss_reta_update" and "rss_key_update": RSS set anew on a running port, by an independent
//! Toeplitz.

use mana_pmd::{Error, PortEvent};
use pmd_api::RxBurst;

use super::rss::vectors;
use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, mixture};
use crate::toeplitz::{VECTOR_KEY, hash, input, queue_by};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rss_update",
    proves: "indirection table and key of a running port take effect under the same queue handles: \
             every packet, those of the published vectors among them, arrives where the published \
             hash and the new table say; frames in flight are counted, every buffer comes home, \
             sending goes on; tables that the kernel can't make are refused",
    needs: Needs::Model,
    prepare: capture,
    run,
};

const QUEUES: usize = 4;

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(QUEUES, 2));
    let mut key = VECTOR_KEY;
    for order in [
        &[3, 2, 1, 0][..],
        &[1, 3],
        &[2],
        &[0, 2, 1, 3],
        &[3, 0],
        &[0],
        &[0, 1, 2, 3],
    ] {
        let table: [u16; 64] = std::array::from_fn(|entry| order[entry % order.len()]);
        running.port.set_rss_table(&table).expect("the kernel can");
        assert!(running.port.is_rss_changing());
        assert_eq!(change(&mut running), 0, "nothing was in flight");
        assert_arrive(&mut running, &table, &key);
        // Another key on top of it.
        key = std::array::from_fn(|i| key[i].wrapping_mul(5).wrapping_add(i as u8));
        running.port.set_rss_key(&key).expect("the kernel can");
        change(&mut running);
        assert_arrive(&mut running, &table, &key);
    }
    running.port.set_rss_key(&VECTOR_KEY).expect("it is a key");
    change(&mut running);
    in_flight(&mut running);
    refused(&mut running);
    stopped_meanwhile(&mut running);
    running.finish();
}

/// Drives the port, with owners that poll, until the change is done. Returns the frames that it lost.
fn change(running: &mut Running<'_>) -> u64 {
    let (port, queues) = (&mut running.port, &mut running.queues.rx);
    let mut batch = pmd_api::Batch::with_capacity(32);
    let mut done = None;
    running.rig.until(|| {
        for queue in queues.iter_mut() {
            assert_eq!(queue.rx_burst(&mut batch), 0);
        }
        match port.next_event().expect("events can be read") {
            Some(PortEvent::RssChanged { lost, .. }) => done = Some(lost),
            Some(event) => panic!("{event}"),
            None => {}
        }
        done.is_some()
    });
    let lost = done.expect("the change comes");
    assert!(!port.is_rss_changing());
    lost
}

/// Delivers frames of all kinds and of the published vectors; each must arrive where it must.
fn assert_arrive(running: &mut Running<'_>, table: &[u16; 64], key: &[u8; 40]) {
    assert_eq!(running.port.rss_table().as_ref(), Some(table));
    assert_eq!(running.port.rss_key(), *key);
    let hashed = table.iter().any(|queue| *queue != table[0]);
    let mut used = [false; QUEUES];
    let flows = (0..60).flat_map(|flow| Kind::ALL.map(|kind| frame(kind, flow, flow, 90)));
    let mut frames: Vec<Vec<u8>> = flows.chain(vectors()).collect();
    let mut came = Vec::new();
    for some in frames.chunks(16) {
        running.rig.device().deliver_all(some);
        for one in running.receive(some.len()) {
            let bytes = one.mbuf.to_vec();
            assert_eq!(one.queue, queue_by(table, key, &bytes), "{bytes:02x?}");
            let expected = input(&bytes).map(|covered| hash(key, &covered));
            let told = one.mbuf.hash().map(|(hash, _)| hash);
            // Over one queue the kernel leaves RSS off.
            assert_eq!(told, expected.filter(|_| hashed), "{bytes:02x?}");
            used[one.queue] = true;
            came.push(bytes);
        }
    }
    frames.sort();
    came.sort();
    assert!(came == frames, "frames changed");
    for (queue, used) in (0..).zip(used) {
        assert_eq!(used, table.contains(&queue), "queue {queue}");
    }
    let depth = running.queues.rx[0].depth();
    for (queue, used) in running.queues.rx.iter().zip(used) {
        let posted = if used { depth } else { 0 };
        assert!(queue.posted() <= posted && (queue.posted() > 0) == used);
    }
}

/// What had arrived is counted; what is sent goes on, also while an owner is waited for.
fn in_flight(running: &mut Running<'_>) {
    let rig = running.rig;
    rig.device().take_tx_frames();
    let before = running.port.stats();
    let frames: Vec<_> = (0..10)
        .map(|flow| frame(Kind::TcpV4, flow, flow, 90))
        .collect();
    rig.device().deliver_all(&frames);
    let waiting = |running: &Running<'_>| {
        let waiting = running.queues.rx.iter().map(mana_pmd::RxQueue::waiting);
        waiting.sum::<u32>()
    };
    assert!(rig.until(|| waiting(running) == 10));
    let frames = mixture(8, 400);
    let mbufs = frames.iter().map(|frame| running.packet(frame)).collect();
    running.send(0, mbufs);
    let table: [u16; 64] = std::array::from_fn(|entry| 3 - entry as u16 % 4);
    running.port.set_rss_table(&table).expect("the kernel can");
    // Nobody gave his queue up yet.
    running.send_frames(1, &frames);
    running.settle();
    assert_eq!(waiting(running), 10);
    assert_ne!(running.port.rss_table(), Some(table));
    assert_eq!(change(running), 10);
    running.send_frames(0, &frames);
    running.settle();
    let after = running.port.stats() - before;
    assert_eq!((after.rx_packets, after.rx_errors), (0, 10));
    assert_eq!((after.tx_packets, after.tx_errors), (24, 0));
    assert_eq!(rig.device().take_tx_frames().len(), 24);
    let posted = QUEUES as u32 * running.queues.rx[0].depth();
    assert_eq!(running.rx_pool.in_use(), posted);
    assert_arrive(running, &table, &VECTOR_KEY);
}

/// Whatever is wrong with a table, it is told, and nothing changes.
fn refused(running: &mut Running<'_>) {
    let before = running.port.rss_table();
    for length in [0, 1, 32, 63, 65, 128] {
        let error = running.port.set_rss_table(&vec![0; length]);
        assert!(matches!(error, Err(Error::RssTableLength { given }) if given == length));
    }
    let mut table = [0; 64];
    table[17] = QUEUES as u16;
    let error = running.port.set_rss_table(&table);
    assert!(matches!(
        error,
        Err(Error::RssTableQueue {
            entry: 17,
            queue: 4,
            queues: 4
        })
    ));
    // Shares of another size than the kernel makes.
    for order in [&[0, 1, 2][..], &[0, 0, 1, 1], &[0, 1, 0, 2]] {
        let table: [u16; 64] = std::array::from_fn(|entry| order[entry % order.len()]);
        let error = running
            .port
            .set_rss_table(&table)
            .expect_err("no such table");
        assert!(matches!(error, Error::RssTable { .. }));
        assert!(error.to_string().contains("not by this kernel"), "{error}");
    }
    for length in [0, 39, 41, 52] {
        let error = running.port.set_rss_key(&vec![7; length]);
        assert!(matches!(error, Err(Error::RssKey { given }) if given == length));
    }
    assert!(!running.port.is_rss_changing());
    assert_eq!(running.port.rss_table(), before);
    assert_eq!(running.port.next_event().expect("events can be read"), None);
}

/// A stop does not wait for the change; the next start brings it.
fn stopped_meanwhile(running: &mut Running<'_>) {
    let table: [u16; 64] = std::array::from_fn(|entry| 2 + entry as u16 % 2);
    running.port.set_rss_table(&table).expect("the kernel can");
    running.restart();
    assert!(!running.port.is_rss_changing());
    assert_arrive(running, &table, &VECTOR_KEY);
    // Set while the port is stopped.
    running.stop();
    let table: [u16; 64] = std::array::from_fn(|entry| [1, 0][entry % 2]);
    running
        .port
        .set_rss_table(&table)
        .expect("it is configured");
    assert_eq!(running.port.rss_table(), Some(table));
    running.start_again();
    assert_arrive(running, &table, &VECTOR_KEY);
}
