//! txonly: UDP packets are made and sent; what the TX queue does not take is dropped.

use std::net::Ipv4Addr;

use pmd_api::{Batch, InternetSum, Mbuf, Pool};
use uverbs_abi::Mac;

use super::{Flows, ForwardMode};
use crate::testpmd::app_args::MIN_TX_PACKET;
use crate::testpmd::lane::Lane;
use crate::testpmd::lengths::{Lengths, Random};

/// Bytes of Ethernet, IPv4 and UDP header.
const HEADERS: usize = MIN_TX_PACKET as usize;
/// Where the UDP source port stands.
const SOURCE_PORT: std::ops::Range<usize> = 34..36;

/// What generated packets look like, apart from their MACs.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Lengths of packets and their segments.
    pub lengths: Lengths,
    /// IPv4 source and destination.
    pub ip: (Ipv4Addr, Ipv4Addr),
    /// UDP source and destination port.
    pub udp: (u16, u16),
    /// Source ports that follow one another in place of the one, where flows vary.
    pub source_ports: Option<SourcePorts>,
    /// Packets a burst.
    pub burst: usize,
    /// The flows of flowgen.
    pub flows: Flows,
}

/// UDP source ports of one core, by testpmd's rule: the high byte goes from 0xc0 on, the low one is the
/// core's number, so that no two cores have a flow in
/// common. They are few, as a cloud's switches keep a state for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    /// Number of the core.
    pub core: u8,
    /// Ports, 1 to [`SourcePorts::MOST`].
    pub flows: u8,
}

impl SourcePorts {
    /// Ports that a core has: as many as high bytes of the dynamic ports.
    pub const MOST: u8 = 64;

    fn bytes(self, flow: u8) -> [u8; 2] {
        [0xc0 | flow, self.core]
    }
}

/// A generator for one stream.
pub struct TxOnly {
    pool: Pool,
    headers: [u8; HEADERS],
    lengths: Lengths,
    random: Random,
    burst: usize,
    source_ports: Option<SourcePorts>,
    /// The next flow, where flows vary.
    flow: u8,
    /// Buffers of a burst of multi-segment packets before they are chained.
    buffers: Batch,
}

impl TxOnly {
    /// Packets go from `source` to `peer`; their buffers come from `pool`.
    pub fn new(source: Mac, peer: Mac, shape: &Shape, pool: Pool) -> Self {
        let segments = shape.lengths.segments.len();
        TxOnly {
            pool,
            headers: headers(source, peer, shape),
            lengths: shape.lengths.clone(),
            random: Random::default(),
            burst: shape.burst,
            source_ports: shape.source_ports,
            flow: 0,
            buffers: Batch::with_capacity(if segments > 1 {
                shape.burst * segments
            } else {
                0
            }),
        }
    }

    /// The headers of the next packet, which will have `length` bytes.
    fn next_headers(&mut self, length: u32) -> [u8; HEADERS] {
        if let Some(ports) = self.source_ports {
            // The UDP checksum is absent and IPv4's does not cover ports.
            self.headers[SOURCE_PORT].copy_from_slice(&ports.bytes(self.flow));
            self.flow += 1;
            if self.flow >= ports.flows {
                self.flow = 0;
            }
        }
        if self.lengths.vary() {
            write_length(&mut self.headers, length);
        }
        self.headers
    }

    /// Fills the batch with packets of one segment.
    fn make_simple(&mut self, batch: &mut Batch) -> bool {
        if take(&self.pool, batch, self.burst.min(batch.room()), 1) == 0 {
            return false;
        }
        for mbuf in batch.iter_mut() {
            let length = self.lengths.next_length(&mut self.random);
            let headers = self.next_headers(length);
            // Its room was checked against the mbuf size: a packet that stayed empty is rejected by
            // the queue and counted.
            if let Ok(data) = mbuf.append(length as usize)
                && let Some(start) = data.first_chunk_mut()
            {
                *start = headers;
            }
        }
        true
    }

    /// Fills the batch with packets of several segments.
    fn make_chains(&mut self, batch: &mut Batch) -> bool {
        let count = self.burst.min(batch.room());
        let most = self.lengths.segments.len();
        let count = take(&self.pool, &mut self.buffers, count, most);
        if count == 0 {
            return false;
        }
        for _ in 0..count {
            let segments = self.lengths.next_segments(&mut self.random);
            let headers = self.next_headers(self.lengths.segments[..segments].iter().sum());
            let mut rest = headers.as_slice();
            let mut packet: Option<Mbuf> = None;
            for length in &self.lengths.segments[..segments] {
                let Some(mut mbuf) = self.buffers.pop() else {
                    break;
                };
                if let Ok(data) = mbuf.append(*length as usize) {
                    let (here, later) = rest.split_at(rest.len().min(data.len()));
                    data[..here.len()].copy_from_slice(here);
                    rest = later;
                }
                match &mut packet {
                    None => packet = Some(mbuf),
                    // A chain that grew too long (the queue takes fewer segments) ends here.
                    Some(packet) => drop(packet.chain(mbuf)),
                }
            }
            if let Some(packet) = packet {
                drop(batch.push(packet));
            }
        }
        self.buffers.clear();
        true
    }
}

impl ForwardMode for TxOnly {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let made = match self.lengths.segments.len() {
            1 => self.make_simple(lane.batch),
            _ => self.make_chains(lane.batch),
        };
        if !made {
            // All buffers are in flight: bring home those that are done.
            lane.reclaim();
            return 0;
        }
        lane.tag_generated();
        lane.transmit_once()
    }
}

/// Takes the buffers of as many packets as the pool still has, at most `packets`, halving the number
/// until it fits; returns it.
pub fn take(pool: &Pool, buffers: &mut Batch, packets: usize, segments: usize) -> usize {
    let mut packets = packets;
    while packets > 0 && pool.alloc_bulk(buffers, packets * segments).is_err() {
        packets /= 2;
    }
    packets
}

/// The headers of every packet: valid IPv4 header checksum, no UDP checksum, as testpmd's.
pub fn headers(source: Mac, peer: Mac, shape: &Shape) -> [u8; HEADERS] {
    let mut headers = [0; HEADERS];
    headers[0..6].copy_from_slice(&peer.0);
    headers[6..12].copy_from_slice(&source.0);
    headers[12..14].copy_from_slice(&[0x08, 0x00]);
    // Version 4 with 5 words of header; time to live 64; protocol 17, UDP.
    headers[14] = 0x45;
    headers[22] = 64;
    headers[23] = 17;
    headers[26..30].copy_from_slice(&shape.ip.0.octets());
    headers[30..34].copy_from_slice(&shape.ip.1.octets());
    headers[SOURCE_PORT].copy_from_slice(&shape.udp.0.to_be_bytes());
    headers[36..38].copy_from_slice(&shape.udp.1.to_be_bytes());
    write_length(&mut headers, shape.lengths.segments.iter().sum());
    headers
}

/// Makes them the headers of a packet of `total` bytes.
fn write_length(headers: &mut [u8; HEADERS], total: u32) {
    let ip_length = (total as u16).saturating_sub(14);
    let udp_length = ip_length.saturating_sub(20);
    headers[16..18].copy_from_slice(&ip_length.to_be_bytes());
    headers[24..26].fill(0);
    let mut sum = InternetSum::default();
    sum.add(&headers[14..34]);
    headers[24..26].copy_from_slice(&sum.checksum().to_be_bytes());
    headers[38..40].copy_from_slice(&udp_length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::lane::tests::{frames, pool, stream_with};
    use crate::testpmd::lengths::Split;

    impl Shape {
        /// testpmd's packet, in bursts of 4.
        pub fn of_tests() -> Shape {
            Shape {
                lengths: Lengths::default(),
                ip: (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)),
                udp: (9, 9),
                source_ports: None,
                burst: 4,
                flows: Flows::default(),
            }
        }
    }

    fn shape(segments: &[u32]) -> Shape {
        Shape {
            lengths: Lengths {
                segments: segments.to_vec(),
                ..Lengths::default()
            },
            ..Shape::of_tests()
        }
    }

    const SOURCE: Mac = Mac([0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 0]);

    /// testpmd's default packet, byte by byte; the checksum is worked out by hand:
    /// 4500 + 0032 + 4011 + c612 + 0001 + c612 + 0002 = 2116a -> 116c -> !116c = ee93.
    #[rustfmt::skip]
    const PACKET: [u8; HEADERS] = [
        0x02, 0, 0, 0, 0, 0,  0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0,  0x08, 0x00,
        0x45, 0x00, 0x00, 0x32,  0, 0, 0, 0,  0x40, 0x11, 0xee, 0x93,
        0xc6, 0x12, 0x00, 0x01,  0xc6, 0x12, 0x00, 0x02,
        0x00, 0x09, 0x00, 0x09, 0x00, 0x1e, 0x00, 0x00,
    ];

    #[test]
    fn a_packet_is_testpmds_udp_packet() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape(&[64]), pool(64));
        assert_eq!(mode.forward(&mut stream.lane()), 4);
        let frames = frames(&wire);
        assert_eq!(frames.len(), 4);
        for frame in frames {
            assert_eq!(frame.len(), 64);
            assert_eq!(frame[..HEADERS], PACKET);
        }
    }

    #[test]
    fn segments_have_the_lengths_asked_for_and_headers_may_cross_them() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape(&[20, 20, 24]), pool(64));
        assert_eq!(mode.forward(&mut stream.lane()), 4);
        let packets = wire.sent_segments();
        assert_eq!(packets.len(), 4);
        for packet in packets {
            let lengths: Vec<usize> = packet.iter().map(Vec::len).collect();
            assert_eq!(lengths, [20, 20, 24]);
            assert_eq!(packet.concat()[..HEADERS], PACKET);
        }
    }

    /// Of each packet: whether its IPv4 header checksum is right and both lengths are its own.
    fn assert_consistent(frame: &[u8]) {
        let mut sum = 0u32;
        for word in frame[14..34].chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(word[1]);
        }
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{frame:02x?}");
        let length = |at: usize| usize::from(frame[at]) << 8 | usize::from(frame[at + 1]);
        assert_eq!(
            (length(16) + 14, length(38) + 34),
            (frame.len(), frame.len())
        );
    }

    #[test]
    fn lengths_of_a_range_come_all_and_no_others_and_the_headers_agree() {
        let (mut stream, wire) = stream_with(&[]);
        let mut shape = shape(&[73]);
        shape.lengths.least = Some(60);
        let pool = pool(512);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape, pool.clone());
        for _ in 0..100 {
            assert_eq!(mode.forward(&mut stream.lane()), 4);
        }
        let mut count = [0; 100];
        for frame in frames(&wire) {
            assert_consistent(&frame);
            count[frame.len()] += 1;
        }
        assert!(count[60..=73].iter().all(|count| *count > 5), "{count:?}");
        assert_eq!(count[60..=73].iter().sum::<i32>(), 400);
        drop((stream, wire, mode));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_random_split_sends_the_first_segments_and_the_headers_agree() {
        let (mut stream, wire) = stream_with(&[]);
        let mut shape = shape(&[50, 7, 100]);
        shape.lengths.split = Split::Rand;
        let pool = pool(512);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape, pool.clone());
        for _ in 0..40 {
            assert_eq!(mode.forward(&mut stream.lane()), 4);
        }
        let mut count = [0; 3];
        for packet in wire.sent_segments() {
            assert_consistent(&packet.concat());
            let lengths: Vec<usize> = packet.iter().map(Vec::len).collect();
            assert_eq!(lengths, [50, 7, 100][..packet.len()]);
            count[packet.len() - 1] += 1;
        }
        assert!(count.iter().all(|count| *count > 20), "{count:?}");
        drop((stream, wire, mode));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn with_many_flows_only_the_source_port_varies_among_the_cores_own() {
        let (mut stream, wire) = stream_with(&[]);
        let many = Shape {
            source_ports: Some(SourcePorts { core: 5, flows: 3 }),
            ..shape(&[64])
        };
        let mut mode = TxOnly::new(SOURCE, PEER, &many, pool(64));
        mode.forward(&mut stream.lane());
        let frames = frames(&wire);
        let ports: Vec<_> = frames.iter().map(|frame| &frame[SOURCE_PORT]).collect();
        // As testpmd's on core 5 with --txonly-flows=3.
        assert_eq!(ports, [[0xc0, 5], [0xc1, 5], [0xc2, 5], [0xc0, 5]]);
        assert_eq!(frames[1][..34], PACKET[..34]);
    }

    #[test]
    fn a_cores_last_flow_has_the_last_dynamic_ports() {
        let ports = SourcePorts {
            core: 255,
            flows: SourcePorts::MOST,
        };
        assert_eq!(ports.bytes(ports.flows - 1), [0xff, 0xff]);
    }

    #[test]
    fn what_a_full_queue_does_not_take_is_dropped_and_counted() {
        let (mut stream, wire) = stream_with(&[]);
        wire.accept(3);
        let pool = pool(64);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape(&[64]), pool.clone());
        assert_eq!(mode.forward(&mut stream.lane()), 3);
        assert_eq!(stream.counters().snapshot().tx_dropped, 1);
        assert!(stream.lane().batch.is_empty());
    }

    #[test]
    fn a_pool_that_holds_no_whole_burst_makes_a_shorter_one() {
        let (mut stream, wire) = stream_with(&[]);
        let mut mode = TxOnly::new(SOURCE, PEER, &shape(&[64, 64]), pool(5));
        assert_eq!(mode.forward(&mut stream.lane()), 2);
        assert_eq!(frames(&wire).len(), 2);
    }

    #[test]
    fn an_empty_pool_makes_no_packets_and_reclaims() {
        let (mut stream, wire) = stream_with(&[]);
        let pool = pool(8);
        let mut all = Batch::with_capacity(8);
        pool.alloc_bulk(&mut all, 8).unwrap();
        let mut mode = TxOnly::new(SOURCE, PEER, &shape(&[64]), pool);
        assert_eq!(mode.forward(&mut stream.lane()), 0);
        assert_eq!(wire.reclaims(), 1);
    }
}
