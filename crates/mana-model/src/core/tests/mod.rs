//! The device without any front: rings are written as bytes from the tables of
//! reference/mana-hardware.md §2 and §3, never with our own encoders, and all memory is page-shuffled,
//! so that nothing here works by contiguity.

mod completion;
mod hostile;
mod lso;
mod receive;
mod send;
mod tap;

use super::space::tests::Shuffled;
use super::{ALL_HASHES, DmaSpace, PdId, QueueIds, Steering};
use crate::config::{DeviceConfig, LinkConfig, PortConfig};
use crate::core::Device;
use crate::findings::FindingKind;
use crate::links::Links;
use crate::toeplitz::VERIFICATION_KEY;
use uverbs_abi::DoorbellKind;

/// Address by which segments name the first byte of a bench's memory.
const ADDRESS: u64 = 0x7F12_3456_7000;
/// Pages of memory and of each ring.
const PAGES: u64 = 4;
/// Bytes of each ring: 512 units, 256 completions.
const RING: u64 = PAGES * 4096;
/// The uverbs context that owns everything.
const CONTEXT: u32 = 3;

/// A device with its links, and memory as a driver would have it.
struct Bench {
    device: Device,
    links: Links,
    pd: PdId,
    /// Payload, writable for the device under `key`.
    memory: Shuffled,
    key: u32,
}

/// The driver's side of one queue.
struct Queue {
    kind: DoorbellKind,
    ids: QueueIds,
    ring: Shuffled,
    cq_ring: Shuffled,
    /// Bytes written to the ring so far.
    written: u64,
    /// Completions read so far.
    completed: u64,
}

/// A completion as its 16 dwords.
type Dwords = [u32; 16];

impl Bench {
    /// A device of these ports whose vPort offsets begin at `vport_offset`.
    fn with(links: &[LinkConfig], change: impl FnOnce(&mut DeviceConfig)) -> Self {
        let port = |link: &LinkConfig| PortConfig {
            link: link.clone(),
            ..PortConfig::default()
        };
        let mut config = DeviceConfig {
            ports: links.iter().map(port).collect(),
            vport_offset: 7,
            first_queue_id: 0x1403,
            first_cq_id: 0x5_1234,
            ..DeviceConfig::default()
        };
        change(&mut config);
        let pairs: Vec<_> = match links {
            [LinkConfig::Pair, LinkConfig::Pair] => vec![(0, 1)],
            _ => Vec::new(),
        };
        let mut device = Device::new(&config);
        let pd = device.create_pd();
        for port in 0..links.len() {
            device.configure_vport_tx(port, pd, CONTEXT);
        }
        let memory = Shuffled::new(PAGES);
        let space = DmaSpace::Shuffled(memory.clone());
        let key = device.mrs.add(pd, ADDRESS, 1, space);
        Self {
            links: Links::new(&[config], &pairs).unwrap(),
            device,
            pd,
            memory,
            key,
        }
    }

    /// A device of one port.
    fn new(link: LinkConfig) -> Self {
        Self::with(&[link], |_| {})
    }

    /// A device whose only port keeps what it sends.
    fn capturing() -> Self {
        Self::new(LinkConfig::Sink { capture: true })
    }

    fn queue(&mut self, port: usize, kind: DoorbellKind) -> Queue {
        let (ring, cq_ring) = (Shuffled::new(PAGES), Shuffled::new(PAGES));
        let regions =
            [&ring, &cq_ring].map(|ring| self.device.add_region(DmaSpace::Shuffled(ring.clone())));
        let create = match kind {
            DoorbellKind::Send => Device::create_send_queue,
            _ => Device::create_receive_queue,
        };
        let ids = create(
            &mut self.device,
            port,
            CONTEXT,
            self.pd,
            regions[0],
            regions[1],
        )
        .unwrap();
        Queue {
            kind,
            ids,
            ring,
            cq_ring,
            written: 0,
            completed: 0,
        }
    }

    fn sender(&mut self) -> Queue {
        self.queue(0, DoorbellKind::Send)
    }

    /// `count` receive queues over which port 0 spreads packets, queue `i % count` in entry `i`.
    fn receivers(&mut self, count: usize, coalescing: bool) -> Vec<Queue> {
        let mut queues = Vec::new();
        queues.resize_with(count, || self.queue(0, DoorbellKind::Receive));
        self.steer(&queues, coalescing);
        queues
    }

    fn steer(&mut self, queues: &[Queue], coalescing: bool) {
        let steering = Steering {
            table: std::array::from_fn(|entry| queues[entry % queues.len()].ids.wq_id),
            rss: true,
            default: queues[queues.len() - 1].ids.wq_id,
            key: VERIFICATION_KEY,
            coalescing: if coalescing { 8 } else { 1 },
            hash_types: ALL_HASHES,
        };
        self.device.configure_vport_rx(0, Some(steering));
    }

    /// One receive queue without coalescing and with `buffers` buffers of 2048 bytes, the first at
    /// the start of the memory.
    fn receiver(&mut self, buffers: u64) -> Queue {
        let mut queue = self.receivers(1, false).remove(0);
        for buffer in 0..buffers {
            queue.post(&receive_wqe(&[(ADDRESS + 2048 * buffer, self.key, 2048)]));
        }
        self.ring(&queue);
        queue
    }

    /// Rings the doorbell for everything that was written.
    fn ring(&mut self, queue: &Queue) {
        self.ring_at(queue, queue.written as u32);
    }

    /// Rings the doorbell with a cursor in bytes.
    fn ring_at(&mut self, queue: &Queue, cursor: u32) {
        let id = queue.ids.wq_id;
        let value = u64::from(id) | u64::from(cursor) << 32;
        self.device.doorbell(CONTEXT, queue.kind, id, value);
    }

    /// Lets the device work until nothing moves.
    fn run(&mut self) {
        while self.device.step(&mut self.links, 0) > 0 {}
    }

    /// Rings, runs, and returns what port 0 sent.
    fn send(&mut self, queue: &Queue) -> Vec<Vec<u8>> {
        self.ring(queue);
        self.run();
        self.links.take_frames(0)
    }

    /// Frames arrive at port 0 and are received.
    fn deliver(&mut self, frames: &[&[u8]]) {
        for frame in frames {
            self.links.deliver(0, frame);
        }
        self.run();
    }

    /// Writes payload; returns its address.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> u64 {
        self.memory.write(offset, bytes).unwrap();
        ADDRESS + offset
    }

    fn payload(&self, offset: u64, len: usize) -> Vec<u8> {
        bytes(&self.memory, offset, len)
    }

    fn kinds(&self) -> Vec<FindingKind> {
        let findings = self.device.findings().iter();
        findings.map(|finding| finding.kind).collect()
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert!(
            self.device.findings().is_empty(),
            "{:?}",
            self.device.findings()
        );
    }
}

impl Queue {
    /// Writes a WQE behind the last one, padded to units of 32 bytes, around the ring's end.
    fn post(&mut self, wqe: &[u8]) {
        let padded = wqe.len().next_multiple_of(32);
        for (index, word) in wqe.chunks(8).enumerate() {
            let at = (self.written + 8 * index as u64) % RING;
            self.ring.write(at, word).unwrap();
        }
        self.written += padded as u64;
    }

    /// The completion that stands where the next one is expected, whatever its owner.
    fn peek(&self) -> Dwords {
        let bytes = bytes(&self.cq_ring, self.completed * 64 % RING, 64);
        let dword = |index: usize| bytes[4 * index..4 * index + 4].try_into().unwrap();
        std::array::from_fn(|index| u32::from_le_bytes(dword(index)))
    }

    /// Takes the next completion, by the owner's rule of §2.6.
    fn poll(&mut self) -> Option<Dwords> {
        let dwords = self.peek();
        let lap = 1 + self.completed / (RING / 64);
        if u64::from(dwords[15] >> 29) != lap % 8 {
            return None;
        }
        let is_sq = u32::from(self.kind == DoorbellKind::Send);
        assert_eq!(dwords[15] & 0x1FFF_FFFF, self.ids.wq_id | is_sq << 24);
        self.completed += 1;
        Some(dwords)
    }

    /// The types of all completions that wait.
    fn types(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.poll())
            .map(|cqe| {
                assert_eq!(cqe[0] >> 6 & 3, 1, "client type");
                cqe[0] & 0x3F
            })
            .collect()
    }

    /// Value of the CQ doorbell that says how far the driver has read.
    fn cq_value(&self, arm: bool) -> u64 {
        let entries = RING / 64;
        let tail = (entries + self.completed) % (8 * entries);
        u64::from(self.ids.cq_id) | tail << 32 | u64::from(arm) << 63
    }

    /// §3.1: the short OOB with these low 8 bits, this transport offset, and everything else right
    /// for a vPort offset of 7.
    fn short_oob(&self, flags: u8, trans_off: u16) -> [u8; 8] {
        let dw0 = u32::from(flags) | self.ids.cq_id << 8;
        let dw1 = u32::from(trans_off) | (self.ids.wq_id >> 10) << 10 | 7 << 24;
        concat(dw0, dw1)
    }

    /// A WQE of one segment with the short OOB.
    fn short_wqe(&self, flags: u8, trans_off: u16, segment: Segment) -> Vec<u8> {
        wqe(&self.short_oob(flags, trans_off), &[segment])
    }
}

/// Address, key, bytes.
type Segment = (u64, u32, u32);

fn concat(low: u32, high: u32) -> [u8; 8] {
    (u64::from(low) | u64::from(high) << 32).to_le_bytes()
}

/// §2.3: header, OOB, elements.
fn wqe(oob: &[u8], segments: &[Segment]) -> Vec<u8> {
    let mut bytes = vec![
        0,
        0,
        0,
        0,
        segments.len() as u8,
        (oob.len() / 4) as u8,
        0,
        0,
    ];
    bytes.extend(oob);
    for (address, key, size) in segments {
        bytes.extend(address.to_le_bytes());
        bytes.extend(key.to_le_bytes());
        bytes.extend(size.to_le_bytes());
    }
    bytes
}

/// §3.5: a receive WQE has an OOB of 8 bytes that says nothing.
fn receive_wqe(segments: &[Segment]) -> Vec<u8> {
    wqe(&[0; 8], segments)
}

fn bytes(memory: &Shuffled, offset: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| memory.load(at & !7).unwrap().to_le_bytes()[(at & 7) as usize];
    (offset..offset + len as u64).map(byte).collect()
}

/// A frame that is no IP packet: ARP's type, then counting bytes.
fn plain_frame(len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|index| index as u8).collect();
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

/// First packet of Wireshark's sample capture dns.cap, a UDP datagram; the IP header's checksum is
/// 6547, UDP's is 85ed.
#[rustfmt::skip]
const DNS: [u8; 70] = [
    0x00, 0xc0, 0x9f, 0x32, 0x41, 0x8c, 0x00, 0xe0, 0x18, 0xb1, 0x0c, 0xad, 0x08, 0x00,
    0x45, 0x00, 0x00, 0x38, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x65, 0x47,
    0xc0, 0xa8, 0xaa, 0x08, 0xc0, 0xa8, 0xaa, 0x14,
    0x80, 0x1b, 0x00, 0x35, 0x00, 0x24, 0x85, 0xed,
    0x10, 0x32, 0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x67,
    0x6f, 0x6f, 0x67, 0x6c, 0x65, 0x03, 0x63, 0x6f, 0x6d, 0x00, 0x00, 0x10, 0x00, 0x01,
];

/// First packet of Wireshark's sample capture http.cap, a TCP SYN; the IP header's checksum is 91eb,
/// TCP's is c30c.
#[rustfmt::skip]
const HTTP: [u8; 62] = [
    0xfe, 0xff, 0x20, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x08, 0x00,
    0x45, 0x00, 0x00, 0x30, 0x0f, 0x41, 0x40, 0x00, 0x80, 0x06, 0x91, 0xeb,
    0x91, 0xfe, 0xa0, 0xed, 0x41, 0xd0, 0xe4, 0xdf,
    0x0d, 0x2c, 0x00, 0x50, 0x38, 0xaf, 0xfe, 0x13, 0x00, 0x00, 0x00, 0x00, 0x70, 0x02,
    0x22, 0x38, 0xc3, 0x0c, 0x00, 0x00,
    0x02, 0x04, 0x05, 0xb4, 0x01, 0x01, 0x04, 0x02,
];
