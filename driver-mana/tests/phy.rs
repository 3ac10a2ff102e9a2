//! What smoltcp sees of two queues, over queues of this test's own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use dma_memory::{HugePages, RegionOptions};
use mana_pmd::phy::{BURST, Phy};
use pmd_api::{
    BadPacket, Batch, HEADROOM, Mbuf, Pool, PoolConfig, Reject, RxBurst, RxShadowRing, TxBurst,
    TxOutcome, VLAN_PRESENT,
};
use smoltcp::phy::{Device, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

const NOW: Instant = Instant::ZERO;
/// Bits of the receive word (reference/mana-hardware.md §3.6): a wrong checksum of IP, TCP and UDP, and
/// right ones of IP and UDP.
const WRONG: [u32; 3] = [1 << 26, 1 << 28, 1 << 30];
const RIGHT: u32 = 1 << 25 | 1 << 29;

/// A receive queue of what is put into it.
#[derive(Clone, Default)]
struct Arriving(Arc<Mutex<VecDeque<Mbuf>>>);

impl RxBurst for Arriving {
    fn rx_burst(&mut self, batch: &mut Batch) -> usize {
        let mut waiting = self.0.lock().unwrap();
        let count = batch.room().min(waiting.len());
        assert_eq!(batch.fill_from(waiting.drain(..count)).count(), 0);
        count
    }
}

/// A transmit queue with so much room; what is reclaimed is what was sent.
#[derive(Clone, Default)]
struct Leaving(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    room: usize,
    in_flight: Vec<Mbuf>,
    sent: Vec<Vec<u8>>,
    bursts: usize,
}

impl TxBurst for Leaving {
    fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome {
        let mut line = self.0.lock().unwrap();
        line.bursts += 1;
        let mut sent = 0;
        while !batch.is_empty() {
            let rejected = batch.as_slice()[0].packet_len() == 0;
            if !rejected && line.room == 0 {
                break;
            }
            let packet = batch.remove(0).unwrap();
            if rejected {
                let rejected = Some((packet, Reject::Empty));
                return TxOutcome { sent, rejected };
            }
            line.room -= 1;
            line.sent.push(packet.to_vec());
            line.in_flight.push(packet);
            sent += 1;
        }
        TxOutcome {
            sent,
            rejected: None,
        }
    }

    fn tx_prepare(&mut self, _batch: &mut Batch) -> Result<(), BadPacket> {
        Ok(())
    }

    fn reclaim(&mut self) -> usize {
        self.0.lock().unwrap().in_flight.drain(..).count()
    }
}

struct Bench {
    pool: Pool,
    rx: Arriving,
    tx: Leaving,
    phy: Phy<Arriving, Leaving>,
}

fn pool(buffers: u32) -> Pool {
    Pool::new(PoolConfig {
        buffers,
        cache: 0,
        memory: RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        },
        ..PoolConfig::default()
    })
    .unwrap()
}

impl Bench {
    fn new(buffers: u32, room: usize) -> Self {
        let (pool, rx, tx) = (pool(buffers), Arriving::default(), Leaving::default());
        tx.0.lock().unwrap().room = room;
        let phy = Phy::new(rx.clone(), tx.clone(), pool.clone(), 1500, Some(256));
        Self { pool, rx, tx, phy }
    }

    /// Lets a packet arrive about which the device says `flags`.
    fn arrive(&self, number: u8, flags: u32) {
        let mut ring = RxShadowRing::new(1, pool(1), 0);
        assert_eq!(ring.refill(1, |_, _| ()), 1);
        assert!(ring.posted().neighbours(0, 1).set_received(0, 60, 0, flags));
        let mut batch = Batch::with_capacity(1);
        ring.receive(1, &mut batch);
        let mut packet = batch.pop().unwrap();
        packet.data_mut().unwrap().fill(number);
        self.rx.0.lock().unwrap().push_back(packet);
    }

    /// The first byte of the next packet that smoltcp is given.
    fn take(&mut self) -> Option<u8> {
        let (rx, _) = self.phy.receive(NOW)?;
        Some(rx.consume(|bytes| bytes[0]))
    }

    /// Sends a packet of 60 such bytes, if that is allowed.
    fn send(&mut self, byte: u8) -> bool {
        let token = self.phy.transmit(NOW);
        token
            .map(|token| token.consume(60, |bytes| bytes.fill(byte)))
            .is_some()
    }

    /// The first bytes of what has left.
    fn sent(&self) -> Vec<u8> {
        self.tx
            .0
            .lock()
            .unwrap()
            .sent
            .iter()
            .map(|bytes| bytes[0])
            .collect()
    }

    fn give_room(&self, room: usize) {
        self.tx.0.lock().unwrap().room = room;
    }

    /// All buffers come home.
    fn finish(self) {
        let (rx, mut tx) = self.phy.into_queues();
        tx.reclaim();
        drop((rx, tx));
        assert_eq!(self.pool.in_use(), 0);
    }
}

#[test]
fn smoltcp_is_told_the_mtu_or_what_a_buffer_holds() {
    let bench = Bench::new(8, 8);
    let capabilities = bench.phy.capabilities();
    assert_eq!(capabilities.medium, Medium::Ethernet);
    assert_eq!(capabilities.max_transmission_unit, 1514);
    assert_eq!(capabilities.max_burst_size, Some(256));
    // The stack verifies and computes every checksum.
    assert!(capabilities.checksum.udp.rx() && capabilities.checksum.udp.tx());
    let jumbo = Phy::new(
        bench.rx.clone(),
        bench.tx.clone(),
        bench.pool.clone(),
        9000,
        None,
    );
    assert_eq!(jumbo.capabilities().max_transmission_unit, 2048);
    bench.finish();
}

#[test]
fn a_poll_takes_one_burst_and_the_next_one_the_next() {
    let mut bench = Bench::new(8, 8);
    for number in 0..50 {
        bench.arrive(number, RIGHT);
    }
    let first: Vec<u8> = std::iter::from_fn(|| bench.take()).collect();
    let second: Vec<u8> = std::iter::from_fn(|| bench.take()).collect();
    assert_eq!(first, (0..BURST as u8).collect::<Vec<_>>());
    assert_eq!(second, (BURST as u8..50).collect::<Vec<_>>());
    assert_eq!((bench.take(), bench.take()), (None, None));
    bench.arrive(99, RIGHT);
    assert_eq!(bench.take(), Some(99));
    assert_eq!(bench.phy.counters().received, 51);
    bench.finish();
}

#[test]
fn packets_with_a_wrong_checksum_or_a_tag_are_dropped_and_counted() {
    let mut bench = Bench::new(8, 8);
    for (number, flags) in [
        WRONG[0],
        0,
        WRONG[1],
        RIGHT,
        WRONG[2],
        VLAN_PRESENT | 5,
        WRONG[0] | VLAN_PRESENT,
    ]
    .into_iter()
    .enumerate()
    {
        bench.arrive(number as u8, flags);
    }
    assert_eq!(
        (bench.take(), bench.take(), bench.take()),
        (Some(1), Some(3), None)
    );
    let counters = bench.phy.counters();
    assert_eq!(
        (counters.bad_checksum, counters.tagged, counters.received),
        (4, 1, 2)
    );
    bench.finish();
}

#[test]
fn a_packet_of_several_segments_is_seen_whole() {
    let mut bench = Bench::new(8, 8);
    let mut packet = bench.pool.alloc().unwrap();
    packet.extend_from_slice(&[1; 100]).unwrap();
    for byte in [2, 3] {
        let mut segment = bench.pool.alloc().unwrap();
        segment.extend_from_slice(&[byte; 50]).unwrap();
        packet.chain(segment).unwrap();
    }
    let whole = packet.to_vec();
    bench.rx.0.lock().unwrap().push_back(packet);
    let (rx, _) = bench.phy.receive(NOW).unwrap();
    assert!(rx.consume(|bytes| bytes == whole));
    bench.finish();
}

#[test]
fn packets_go_out_together_when_the_batch_is_full_at_a_flush_and_before_receiving() {
    let mut bench = Bench::new(128, 128);
    for byte in 0..BURST as u8 - 1 {
        assert!(bench.send(byte));
    }
    assert_eq!(bench.sent(), []);
    assert!(bench.send(31));
    assert_eq!(
        (bench.sent().len(), bench.tx.0.lock().unwrap().bursts),
        (BURST, 1)
    );
    assert!(bench.send(32));
    assert_eq!(bench.phy.flush(), 0);
    assert!(bench.send(33));
    assert_eq!(bench.take(), None);
    assert_eq!(bench.sent(), (0..34).collect::<Vec<_>>());
    assert_eq!(bench.phy.counters().sent, 34);
    // Taken along when the queues are given back.
    assert!(bench.send(34));
    let tx = bench.tx.clone();
    bench.finish();
    assert_eq!(tx.0.lock().unwrap().sent.len(), 35);
}

#[test]
fn a_full_ring_gives_no_token_keeps_what_arrives_and_loses_nothing() {
    let mut bench = Bench::new(128, 3);
    let accepted = (0..200).take_while(|byte| bench.send(*byte)).count();
    assert_eq!(accepted, 3 + BURST);
    bench.arrive(77, RIGHT);
    assert_eq!((bench.take(), bench.take()), (None, None));
    assert!(bench.phy.counters().ring_full >= 3);
    bench.give_room(5);
    assert_eq!(bench.take(), Some(77));
    bench.give_room(100);
    assert_eq!(bench.phy.flush(), 0);
    assert_eq!(bench.sent(), (0..35).collect::<Vec<_>>());
    bench.finish();
}

#[test]
fn an_empty_pool_gives_no_token_until_buffers_are_home() {
    let mut bench = Bench::new(4, 128);
    for byte in 0..4 {
        assert!(bench.send(byte));
    }
    // All four are waiting: they go out, are reclaimed, and there is room again.
    assert!(bench.send(4));
    let held: Vec<Mbuf> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    assert!(!held.is_empty());
    bench.phy.flush();
    let held_more: Vec<Mbuf> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    // The buffer that just left comes home by reclaiming; hold that, too.
    bench.phy.flush();
    let last: Vec<Mbuf> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    assert_eq!(held.len() + held_more.len() + last.len(), 4);
    assert!(!bench.send(5));
    bench.arrive(9, RIGHT);
    assert_eq!(bench.take(), None);
    assert_eq!(bench.phy.counters().pool_empty, 2);
    drop((held, held_more, last));
    assert_eq!(bench.take(), Some(9));
    assert!(bench.send(6));
    bench.finish();
}

#[test]
fn absurd_lengths_do_no_harm() {
    let mut bench = Bench::new(8, 8);
    let longest = 2048 + HEADROOM;
    for len in [2049, longest, longest + 1, 1 << 20] {
        let token = bench.phy.transmit(NOW).unwrap();
        assert_eq!(token.consume(len, |bytes| bytes.len()), len);
    }
    assert_eq!((bench.phy.counters().rejected, bench.phy.flush()), (4, 0));
    // No bytes: the queue refuses it.
    bench
        .phy
        .transmit(NOW)
        .unwrap()
        .consume(0, |bytes| assert!(bytes.is_empty()));
    assert!(bench.send(1));
    assert_eq!(bench.phy.flush(), 0);
    let counters = bench.phy.counters();
    assert_eq!(
        (counters.rejected, counters.sent, bench.sent()),
        (5, 1, vec![1])
    );
    bench.finish();
}

#[test]
fn a_token_that_is_dropped_or_panics_sends_nothing() {
    let mut bench = Bench::new(2, 8);
    for _ in 0..10 {
        assert!(bench.phy.transmit(NOW).is_some());
        let token = bench.phy.transmit(NOW).unwrap();
        let panics = || token.consume(60, |_| panic!("expected"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    }
    bench.arrive(1, RIGHT);
    drop(bench.phy.receive(NOW).unwrap());
    assert!(bench.send(7));
    bench.phy.flush();
    assert_eq!(bench.sent(), [7]);
    bench.finish();
}
