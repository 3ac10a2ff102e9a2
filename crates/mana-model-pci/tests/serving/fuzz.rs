//! Clients that do anything in any order: registers, doorbells, messages, rings, memory that goes, comes and
//! is cut short, vectors, resets. Seeded: every run does the same.

use std::os::fd::AsRawFd;

use rustix::fs::MemfdFlags;

use crate::datapath::{Queue, queue};
use crate::guest::{BAR0, BASE, CONFIG, Device, Guest, REQUEST, RQ, SIZE, SQ, message};
use crate::hostile::{Dice, assert_well};

/// Parts in which memory is mapped and unmapped.
const PARTS: u64 = 16;
const PART: u64 = SIZE / PARTS;
/// What a driver asks for (reference/mana-hardware.md §6.5 to §6.7).
const KINDS: [u32; 45] = [
    1, 2, 3, 4, 5, 10, 12, 13, 22, 24, 25, 26, 27, 29, 30, 31, 32, 84, 96, 97, 0x2_0001, 0x2_0002,
    0x2_0003, 0x2_0004, 0x2_0005, 0x2_0006, 0x2_0007, 0x2_0008, 0x2_000A, 0x2_000B, 0x2_000C,
    0x3_0001, 0x3_0002, 0x3_0003, 0x3_0004, 0x3_0005, 0x3_0006, 0x3_0007, 0x3_0008, 0x3_0009,
    0x3_000A, 0x3_000B, 0x3_000D, 0x3_0022, 0x3_0023,
];
const DOORBELLS: [u64; 6] = [0, 0x400, 0x408, 0x800, 0x820, 0xFF8];

struct Client {
    guest: Guest,
    dice: Dice,
    mapped: [bool; PARTS as usize],
    /// Whether memory can be cut short.
    unsealed: bool,
    queue: Option<Queue>,
    requests: u32,
}

impl Client {
    fn start(device: &Device, seed: u64, unsealed: bool) -> Self {
        let sealing = match unsealed {
            true => MemfdFlags::empty(),
            false => MemfdFlags::ALLOW_SEALING,
        };
        let mut guest = Guest::start_with(&device.socket(), MemfdFlags::CLOEXEC | sealing);
        guest.client.dma_unmap(BASE, SIZE).unwrap();
        Self {
            guest,
            dice: Dice(seed),
            mapped: [false; PARTS as usize],
            unsealed,
            queue: None,
            requests: 0,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.dice.next() % end
    }

    /// A number that may mean something.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0..3 => self.below(40),
            3 => 4096 << self.below(3),
            4 => BASE + 4096 * self.below(SIZE / 4096 + 2),
            5 => 32 * self.below(256),
            6 => u64::MAX - self.below(3),
            _ => self.dice.next(),
        }
    }

    fn map(&mut self, part: u64) {
        let address = BASE + part * PART;
        let mapped = &mut self.mapped[part as usize];
        let client = &mut self.guest.client;
        match *mapped {
            true => client.dma_unmap(address, PART).unwrap(),
            false => {
                let memory = self.guest.memory.as_raw_fd();
                client.dma_map(part * PART, address, PART, memory).unwrap();
            }
        }
        *mapped ^= true;
    }

    /// Everything as it should be, and a channel.
    fn recover(&mut self) {
        self.guest.memory.set_len(SIZE).unwrap();
        for part in 0..PARTS {
            if !self.mapped[part as usize] {
                self.map(part);
            }
        }
        let client = &mut self.guest.client;
        client.region_write(CONFIG, 4, &[6, 0]).unwrap();
        self.guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        self.guest.establish();
        self.requests = 0;
    }

    fn turn(&mut self, device: &Device) {
        match self.below(100) {
            0..25 => self.request(),
            25..50 => self.ring(),
            50..65 => self.scribble(),
            65..75 => {
                let part = self.below(PARTS);
                self.map(part);
            }
            75..80 => {
                let (offset, len) = (self.below(0x140), self.below(17) as usize);
                let bytes = self.number().to_le_bytes().repeat(3);
                self.guest.write(offset, &bytes[..len]);
                let mut bytes = vec![0; len];
                let client = &mut self.guest.client;
                client.region_read(BAR0, offset, &mut bytes).unwrap();
            }
            80..84 => {
                let (offset, value) = (self.below(256), self.number());
                let client = &mut self.guest.client;
                client
                    .region_write(CONFIG, offset, &value.to_le_bytes()[..2])
                    .unwrap();
            }
            84..87 if self.unsealed => {
                let len = self.below(SIZE);
                self.guest.memory.set_len(len).unwrap();
            }
            87..90 => {
                let line = match self.below(5) {
                    0 => "deliver 0 ffffffffffff00000000000188b500000000",
                    1 => "reset-request",
                    2 => "wire 0 loop",
                    3 => "link 1 down",
                    _ => "take-findings",
                };
                // Without a channel nothing can be told of a reset.
                let _told = device.served.run(line);
            }
            90..92 => self.guest.client.reset().unwrap(),
            92..97 => {
                self.recover();
                if self.below(2) == 0 {
                    let kind = 1 + self.below(2) as u32;
                    self.queue = Some(queue(&mut self.guest, kind));
                    self.requests = 7;
                }
            }
            _ => {
                let vector = self.below(4) as usize;
                self.guest.fired(vector);
            }
        }
    }

    /// A request that is almost right.
    fn request(&mut self) {
        let kind = KINDS[self.below(KINDS.len() as u64) as usize];
        let len = 32 + 8 * self.below(20) as usize;
        let answer = 32 + 8 * self.below(20) as u32;
        let device = self.below(4) as u32;
        let fields: Vec<(usize, u32)> = (40..len.saturating_sub(3))
            .step_by(4)
            .map(|at| (at, self.number() as u32))
            .collect();
        let mut bytes = message(kind, device, len.max(40), answer, &fields);
        if self.below(4) == 0 {
            let at = self.below(bytes.len() as u64) as usize;
            bytes[at] = self.dice.next() as u8;
        }
        let turn = self.requests;
        self.requests += 1;
        self.guest.poke(REQUEST, &bytes);
        let buffer = BASE + 4096 * self.below(SIZE / 4096);
        self.guest.put_wqe(RQ, turn, 8, buffer, 4096);
        self.guest.ring(0x400, 32 * (turn + 1));
        self.guest
            .put_wqe(SQ, 2 * turn, 24, REQUEST, bytes.len() as u32);
        self.guest.ring(0x000, 64 * (turn + 1));
    }

    /// A doorbell of a queue that may exist.
    fn ring(&mut self) {
        let offset = DOORBELLS[self.below(6) as usize];
        let (mut id, mut tail) = (self.below(40), self.number());
        let mut page = self.guest.doorbells + 4096 * self.below(4);
        if let Some(queue) = self.queue.as_ref().filter(|_| tail & 1 == 0) {
            page = queue.page;
            id = u64::from(match offset {
                0xFF8 => queue.eq,
                0x800 | 0x820 => queue.cq,
                _ => queue.wq,
            });
        }
        tail &= 0xFFFF_FFFF;
        self.guest
            .write(page + offset, &(id | tail << 32).to_le_bytes());
    }

    /// Nonsense somewhere in memory, which the rings are in.
    fn scribble(&mut self) {
        let at = match self.below(2) {
            // The channel's queues and the other's.
            0 => 0x1000 + self.below(0x4000),
            _ => 0x1_0000 + self.below(0x4000),
        } & !7;
        let words = 1 + self.below(32);
        let bytes: Vec<u8> = (0..words)
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        self.guest.poke(BASE + at, &bytes);
    }
}

#[test]
fn clients_that_do_anything_in_any_order_harm_themselves_only() {
    let device = Device::new("model0,ports=2,link=pair");
    for seed in 0..4 {
        let mut client = Client::start(&device, seed, seed % 2 == 1);
        for _ in 0..2500 {
            client.turn(&device);
        }
        client.recover();
        assert_well(&mut client.guest);
        drop(client);
        device.assert_released();
    }
}
