//! flowgen: UDP packets of many flows, told apart by their IPv4 destination, are made and sent; what
//! arrives is dropped.
//!
//! Addresses, ports and order of the flows are testpmd's, and so is a length of 4 bytes less than
//! `--txpkts` says, which there counts the FCS. The MACs are not: packets leave with the port's own
//! and go to `--eth-peer`, as a MANA port may not send with another's. Each stream goes through
//! all flows by itself.

use std::net::Ipv4Addr;

use pmd_api::{Batch, Mbuf, Pool};
use uverbs_abi::Mac;

use super::ForwardMode;
use super::incremental::follow_address;
use super::txonly::{Shape, headers, take};
use crate::testpmd::lane::Lane;
use crate::testpmd::lengths::Lengths;

/// Source of all packets, and destination of the first flow.
const ADDRESSES: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(10, 254, 0, 0), Ipv4Addr::new(10, 253, 0, 0));
/// UDP source and destination.
const PORTS: (u16, u16) = (1000, 1001);
/// Where header checksum and destination stand.
const CHECKSUM: usize = 24;
const DESTINATION: usize = 30;
/// Bytes of the FCS.
pub const FCS: u32 = 4;

/// How many packets are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// Flows, at least 1.
    pub flows: u32,
    /// Clones that are sent of each packet.
    pub clones: usize,
}

impl Default for Flows {
    /// testpmd's.
    fn default() -> Self {
        Flows {
            flows: 1024,
            clones: 0,
        }
    }
}

/// A generator for one stream.
pub struct FlowGen {
    pool: Pool,
    /// Of the first flow.
    headers: [u8; 42],
    length: usize,
    flows: Flows,
    /// Packets a burst, and how many of them are no clones.
    burst: usize,
    originals: usize,
    next: u32,
    /// Buffers of a burst before they are packets.
    buffers: Batch,
}

impl FlowGen {
    /// Packets go from `source` to `peer`; their buffers come from `pool`.
    pub fn new(source: Mac, peer: Mac, shape: &Shape, pool: Pool) -> Self {
        let length = shape
            .lengths
            .segments
            .iter()
            .sum::<u32>()
            .saturating_sub(FCS);
        let shape = Shape {
            lengths: Lengths {
                segments: vec![length],
                ..Lengths::default()
            },
            ip: ADDRESSES,
            udp: PORTS,
            ..shape.clone()
        };
        let originals = shape.burst.div_ceil(shape.flows.clones + 1);
        FlowGen {
            pool,
            headers: headers(source, peer, &shape),
            length: length as usize,
            flows: shape.flows,
            burst: shape.burst,
            originals,
            next: 0,
            buffers: Batch::with_capacity(originals),
        }
    }

    /// Fills the batch as far as the pool goes.
    fn make(&mut self, batch: &mut Batch) {
        let packets = self.burst.min(batch.room());
        take(&self.pool, &mut self.buffers, self.originals, 1);
        while batch.len() < packets
            && let Some(mut original) = self.buffers.pop()
        {
            self.write(&mut original);
            let at = batch.len();
            drop(batch.push(original));
            self.advance();
            let end = packets.min(at + 1 + self.flows.clones);
            while batch.len() < end
                && let Ok(clone) = batch.as_mut_slice()[at].clone_shared(&self.pool)
            {
                drop(batch.push(clone));
                // testpmd counts a clone as a packet of the next flow, though it is none.
                self.advance();
            }
        }
        self.buffers.clear();
    }

    /// Makes an empty buffer the next flow's packet. Its room was checked against the mbuf size: a
    /// packet that stayed empty is rejected by the queue and counted.
    fn write(&self, mbuf: &mut Mbuf) {
        let Ok(data) = mbuf.append(self.length) else {
            return;
        };
        let Some(start) = data.first_chunk_mut() else {
            return;
        };
        *start = self.headers;
        let first = ADDRESSES.1;
        let to = Ipv4Addr::from_bits(first.to_bits().wrapping_add(self.next)).octets();
        let checksum = u16::from_be_bytes([start[CHECKSUM], start[CHECKSUM + 1]]);
        let checksum = follow_address(checksum, &first.octets(), &to);
        start[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        start[DESTINATION..DESTINATION + 4].copy_from_slice(&to);
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next >= self.flows.flows {
            self.next = 0;
        }
    }

    /// Goes back by packets that were not sent.
    fn back(&mut self, packets: usize) {
        for _ in 0..packets {
            self.next = self.next.checked_sub(1).unwrap_or(self.flows.flows - 1);
        }
    }
}

impl ForwardMode for FlowGen {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        lane.batch.clear();
        self.make(lane.batch);
        let made = lane.batch.len();
        if made == 0 {
            // All buffers are in flight: bring home those that are done.
            lane.reclaim();
            return received;
        }
        lane.tag_generated();
        let sent = lane.transmit_once();
        self.back(made - sent);
        received + sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::lane::tests::{frames, pool, stream_over, stream_with};
    use crate::testpmd::modes::incremental::tests::{bytes, internet_checksum};

    const SOURCE: Mac = Mac([0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn generator(flows: u32, clones: usize, pool: &Pool) -> FlowGen {
        let shape = Shape {
            flows: Flows { flows, clones },
            ..Shape::of_tests()
        };
        FlowGen::new(SOURCE, PEER, &shape, pool.clone())
    }

    /// The last byte of each packet's destination.
    fn destinations(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().map(|frame| frame[33]).collect()
    }

    #[test]
    fn packets_are_testpmds_and_their_checksums_hold() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = generator(1024, 0, &pool(64));
        assert_eq!(mode.forward(&mut stream.lane()), 4);
        let frames = frames(&wire);
        assert_eq!(frames.len(), 4);
        // The checksum by hand: 4500 + 002e + 4011 + 0afe + 0000 + 0afd + 0000 = 9b3a -> 64c5.
        let first = bytes(
            "020000000007 000d3a763bd0 0800 4500 002e 0000 0000 4011 64c5 0afe0000 0afd0000
             03e8 03e9 001a 0000",
        );
        assert_eq!(frames[0][..42], first);
        for (flow, frame) in frames.iter().enumerate() {
            assert_eq!(frame.len(), 60);
            assert_eq!(frame[30..34], [10, 253, 0, flow as u8]);
            assert_eq!(internet_checksum(&[&frame[14..34]]), 0);
        }
    }

    #[test]
    fn flows_begin_anew_after_the_last() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = generator(3, 0, &pool(64));
        mode.forward(&mut stream.lane());
        mode.forward(&mut stream.lane());
        assert_eq!(destinations(&frames(&wire)), [0, 1, 2, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn clones_are_the_same_packet_and_count_as_flows() {
        let (mut stream, wire) = stream_with(&[]);
        let pool = pool(64);
        let mut mode = generator(1024, 2, &pool);
        mode.forward(&mut stream.lane());
        assert_eq!(destinations(&frames(&wire)), [0, 0, 0, 3]);
        assert_eq!(frames(&wire)[0], frames(&wire)[2]);
        mode.forward(&mut stream.lane());
        assert_eq!(destinations(&frames(&wire)[4..]), [4, 4, 4, 7]);
        assert_eq!(pool.in_use(), 8);
        drop((stream, wire));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_a_full_queue_does_not_take_is_dropped_and_its_flows_come_again() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = generator(3, 0, &pool(64));
        wire.accept(2);
        assert_eq!(mode.forward(&mut stream.lane()), 2);
        assert_eq!(stream.counters().snapshot().tx_dropped, 2);
        wire.accept(usize::MAX);
        mode.forward(&mut stream.lane());
        assert_eq!(destinations(&frames(&wire)), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn what_arrives_is_counted_and_dropped() {
        let pool = pool(64);
        let (mut stream, wire) = stream_over(&pool, &[vec![1; 60], vec![2; 60]]);
        let mut mode = generator(1024, 0, &pool);
        assert_eq!(mode.forward(&mut stream.lane()), 2 + 4);
        let stats = stream.counters().snapshot();
        assert_eq!((stats.rx_packets, stats.tx_packets), (2, 4));
        assert_eq!(frames(&wire).len(), 4);
        assert_eq!(pool.in_use(), 4);
    }

    #[test]
    fn a_pool_too_small_for_a_burst_or_its_clones_makes_a_shorter_one() {
        for (buffers, clones, expected) in [(3, 0, &[0, 1][..]), (3, 2, &[0, 0, 2]), (1, 3, &[0])] {
            let (mut stream, wire) = stream_with(&[]);
            let mut mode = generator(1024, clones, &pool(buffers));
            mode.forward(&mut stream.lane());
            assert_eq!(
                destinations(&frames(&wire)),
                expected,
                "{buffers}, {clones}"
            );
        }
    }

    #[test]
    fn an_empty_pool_makes_no_packets_and_reclaims() {
        let (mut stream, wire) = stream_with(&[]);
        let pool = pool(8);
        let mut all = Batch::with_capacity(8);
        pool.alloc_bulk(&mut all, 8).unwrap();
        assert_eq!(generator(1024, 0, &pool).forward(&mut stream.lane()), 0);
        assert_eq!(wire.reclaims(), 1);
    }
}
