//! The kernel's own netdev as mana_en.c drives it: queues in the device's domain, named by addresses of
//! the bus, whose completions wake event queues. Rings are written as bytes from the tables of
//! reference/mana-hardware.md §2 and §3.

use mana_model::{DeviceConfig, LinkConfig};

use super::guest::{Guest, MANA, Message};

/// Bytes of each ring.
pub(super) const RING: u64 = 4096;
/// Completions of a ring.
pub(super) const ENTRIES: u64 = RING / 64;
/// Handle of the first vPort.
pub(super) const VPORT: u64 = 0x77;
pub(super) const SHORT: u32 = 0;
pub(super) const LONG: u32 = 1;
pub(super) const OKAY: u32 = 1;
pub(super) const COALESCED_4: u32 = 2;
pub(super) const FENCE: u32 = 3;
pub(super) const COALESCED_8: u32 = 7;
pub(super) const TX_OKAY: u32 = 32;

/// One event queue.
pub(super) struct Events {
    pub(super) id: u32,
    pub(super) ring: u64,
    pub(super) head: u64,
}

/// One work queue with its completion queue.
pub(super) struct Queue {
    pub(super) handle: u64,
    pub(super) kind: u32,
    pub(super) wq: u32,
    pub(super) cq: u32,
    pub(super) ring: u64,
    pub(super) cq_ring: u64,
    /// Bytes written.
    pub(super) tail: u32,
    /// Completions read.
    pub(super) head: u64,
}

/// A guest whose netdev is up.
pub(super) struct Netdev {
    pub(super) guest: Guest,
    pub(super) domain: u32,
    pub(super) key: u32,
    pub(super) page: u32,
    pub(super) events: Vec<Events>,
}

impl Netdev {
    /// The driver has probed, and has two event queues on vectors 1 and 2.
    pub(super) fn new(links: &[LinkConfig], change: impl FnOnce(&mut DeviceConfig)) -> Self {
        let mut guest = Guest::new(links, change);
        let [domain, key, page] = guest.register(MANA);
        let mut netdev = Self {
            guest,
            domain,
            key,
            page,
            events: Vec::new(),
        };
        for vector in [1, 2] {
            let (region, ring) = netdev.guest.region(0x8000);
            let reply = netdev.guest.done(
                &Message::new(0xC, MANA, 96, 36)
                    .u32(40, 4)
                    .u32(48, domain)
                    .u32(52, page)
                    .u64(56, region)
                    .u32(68, 0x8000)
                    .u32(76, vector),
            );
            netdev.events.push(Events {
                id: reply.u32(32),
                ring,
                head: 2048,
            });
        }
        for port in 0..links.len() as u64 {
            netdev.configure_sending(VPORT + port, page);
        }
        netdev
    }

    /// CONFIG_VPORT_TX; returns the offset.
    pub(super) fn configure_sending(&mut self, vport: u64, page: u32) -> u16 {
        let message = Message::new(0x2_0003, MANA, 56, 36).u64(40, vport);
        let message = message.u32(48, self.domain).u32(52, page);
        self.guest.done(&message).u16(32)
    }

    /// CREATE_WQ_OBJ on event queue `events`.
    pub(super) fn queue(&mut self, vport: u64, kind: u32, events: usize) -> Queue {
        let (region, ring) = self.guest.region(RING);
        let (cq_region, cq_ring) = self.guest.region(RING);
        let reply = self.guest.done(
            &Message::new(0x2_0004, MANA, 88, 48)
                .u64(40, vport)
                .u32(48, kind)
                .u64(56, region)
                .u64(64, cq_region)
                .u32(72, RING as u32)
                .u32(76, RING as u32)
                .u32(84, self.events[events].id),
        );
        Queue {
            handle: reply.u64(40),
            kind,
            wq: reply.u32(32),
            cq: reply.u32(36),
            ring,
            cq_ring,
            tail: 0,
            head: ENTRIES,
        }
    }

    pub(super) fn destroy(&mut self, queue: &Queue) {
        let message = Message::new(0x2_0005, MANA, 56, 32);
        self.guest
            .done(&message.u32(40, queue.kind).u64(48, queue.handle));
    }

    /// CONFIG_VPORT_RX of version 2: reception on, RSS over these queues by entry.
    pub(super) fn steer(&mut self, vport: u64, queues: &[&Queue], coalescing: bool) {
        let message = steering(vport, 2)
            .u32(52, 1)
            .u32(56, 1)
            .u8(60, 1)
            .u8(61, 1)
            .u8(62, 1)
            .u64(64, queues[0].handle)
            .bytes(72, &KEY)
            .u8(112, coalescing.into());
        self.guest.done(&entries(message, queues));
    }

    /// Writes a WQE at the ring's end, which must not be reached inside it, and rings.
    pub(super) fn post(&mut self, queue: &mut Queue, wqe: &[u8]) {
        let at = u64::from(queue.tail) % RING;
        assert!(at + wqe.len() as u64 <= RING);
        self.write(queue.ring + at, wqe);
        queue.tail += wqe.len().next_multiple_of(32) as u32;
        let offset = if queue.kind == 1 { 0x000 } else { 0x400 };
        let value = u64::from(queue.wq) | u64::from(queue.tail) << 32;
        self.guest.function.doorbell(self.page, offset, value);
    }

    /// Posts a buffer of 2 KiB; returns its address.
    pub(super) fn buffer(&mut self, queue: &mut Queue) -> u64 {
        let address = self.guest.pages(1);
        let wqe = wqe(&[0; 8], 0, &[(address, self.key, 2048)]);
        self.post(queue, &wqe);
        address
    }

    pub(super) fn buffers(&mut self, queue: &mut Queue, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.buffer(queue)).collect()
    }

    /// Sends a frame by a short OOB, in one element.
    pub(super) fn send(&mut self, queue: &mut Queue, frame: &[u8]) {
        let address = self.guest.pages(3);
        self.write(address, frame);
        let wqe = wqe(
            &short(queue, 0, 0),
            0,
            &[(address, self.key, frame.len() as u32)],
        );
        self.post(queue, &wqe);
    }

    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.guest
            .function
            .hardware()
            .memory()
            .write(address, bytes)
            .unwrap();
    }

    pub(super) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.guest
            .function
            .hardware()
            .memory()
            .read(address, &mut bytes)
            .unwrap();
        bytes
    }

    /// Lets the device work until nothing moves.
    pub(super) fn step(&mut self) {
        while self.guest.function.step() > 0 {}
    }

    /// The next completion, if there is one; its last word is checked.
    pub(super) fn poll(&self, queue: &mut Queue) -> Option<[u32; 16]> {
        let cqe: [u32; 16] = self
            .guest
            .memory
            .dwords(queue.cq_ring + queue.head % ENTRIES * 64);
        if cqe[15] >> 29 != (queue.head / ENTRIES) as u32 & 7 {
            return None;
        }
        let is_sq = u32::from(queue.kind == 1);
        assert_eq!(cqe[15] & 0x1FFF_FFFF, queue.wq | is_sq << 24);
        queue.head += 1;
        Some(cqe)
    }

    /// The types of all completions that are there.
    pub(super) fn types(&self, queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| self.poll(queue))
            .map(|cqe| cqe[0] & 0x3F)
            .collect()
    }

    /// The next event of a queue: type and first detail.
    pub(super) fn event(&mut self, index: usize) -> Option<(u32, u32)> {
        let events = &mut self.events[index];
        let eqe: [u32; 4] = self
            .guest
            .memory
            .dwords(events.ring + events.head % 2048 * 16);
        if eqe[3] >> 29 != (events.head / 2048) as u32 & 7 {
            return None;
        }
        events.head += 1;
        Some((eqe[3] & 0xFF, eqe[0]))
    }

    /// Rings an event queue, armed.
    pub(super) fn arm_events(&mut self, index: usize) {
        let events = &self.events[index];
        let tail = events.head % (8 * 2048);
        let value = u64::from(events.id) | tail << 32 | 1 << 63;
        self.guest.function.doorbell(self.page, 0xFF8, value);
    }

    /// Rings a completion queue, armed.
    pub(super) fn arm(&mut self, queue: &Queue) {
        let value = u64::from(queue.cq) | (queue.head % (8 * ENTRIES)) << 32 | 1 << 63;
        self.guest.function.doorbell(self.page, 0x800, value);
    }

    pub(super) fn assert_clean(&self) {
        assert_eq!(self.guest.function.hardware().findings(), []);
    }
}

/// The key of Microsoft's RSS verification suite.
pub(super) const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// CONFIG_VPORT_RX that keeps everything, with room for 64 entries.
pub(super) fn steering(vport: u64, version: u16) -> Message {
    Message::new(0x2_0007, MANA, 632, 40)
        .versions(version, 2)
        .u64(40, vport)
        .u16(48, 64)
        .u16(50, 120)
        .u32(52, u32::MAX)
        .u32(56, u32::MAX)
}

/// The indirection table: queue `i % n` in entry `i`.
pub(super) fn entries(mut message: Message, queues: &[&Queue]) -> Message {
    for entry in 0..64 {
        message = message.u64(120 + 8 * entry, queues[entry % queues.len()].handle);
    }
    message
}

/// §2.3: header, OOB, elements of (address, key, size).
pub(super) fn wqe(oob: &[u8], header: u32, elements: &[(u64, u32, u32)]) -> Vec<u8> {
    let second = elements.len() as u32 | (oob.len() as u32 / 4) << 8 | header;
    let mut wqe = vec![0; 4];
    wqe.extend_from_slice(&second.to_le_bytes());
    wqe.extend_from_slice(oob);
    for (address, key, size) in elements {
        wqe.extend_from_slice(&address.to_le_bytes());
        wqe.extend_from_slice(&key.to_le_bytes());
        wqe.extend_from_slice(&size.to_le_bytes());
    }
    wqe
}

/// §3.1, with these flags in bits 2 to 7 of the first dword and the transport header's offset.
pub(super) fn short(queue: &Queue, flags: u32, transport: u32) -> [u8; 8] {
    oob(SHORT, queue, flags, transport)
}

pub(super) fn oob(format: u32, queue: &Queue, flags: u32, transport: u32) -> [u8; 8] {
    let first = format | flags | queue.cq << 8;
    let second = transport | (queue.wq >> 10) << 10 | 1 << 24;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_le_bytes());
    bytes[4..].copy_from_slice(&second.to_le_bytes());
    bytes
}

/// A frame of so many bytes of no protocol to this destination.
pub(super) fn frame(destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
    frame[..6].copy_from_slice(&destination);
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame
}

pub(super) const STATION: [u8; 6] = [0x00, 0x0D, 0x3A, 1, 2, 3];
pub(super) const GROUP: [u8; 6] = [0x01, 0x00, 0x5E, 1, 2, 3];
pub(super) const ALL: [u8; 6] = [0xFF; 6];

/// The UDP packets of the RSS verification suite over IPv4: hash and its entry.
pub(super) fn udp(source: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let mut frame = frame(STATION, 60);
    frame[12..].fill(0);
    frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    frame[17] = 46;
    frame[23] = 17;
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&[161, 142, 100, 80]);
    frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
    frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
    frame
}

/// "66.9.149.187:2794 to 161.142.100.80:1766": 0x51ccc178, entry 56.
pub(super) fn entry_56() -> Vec<u8> {
    udp([66, 9, 149, 187], [2794, 1766])
}
