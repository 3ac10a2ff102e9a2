//! A guest as far as a function sees it: memory on a bus, and requests written byte by byte at the
//! offsets of reference/kernel-in-a-vm.md §7.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mana_model::hardware::BusMemory;
use mana_model::{DeviceConfig, LinkConfig, PortConfig};

use super::super::Function;

/// Memory of which every page is there, zeroed, but those below [`Memory::UNMAPPED`].
#[derive(Default)]
pub(super) struct Memory {
    pages: Mutex<BTreeMap<u64, [u64; 512]>>,
}

impl Memory {
    /// Addresses below it are nowhere.
    pub(super) const UNMAPPED: u64 = 0x10_0000;

    fn word<T>(&self, address: u64, with: impl FnOnce(&mut u64) -> T) -> Option<T> {
        let mapped = (Self::UNMAPPED..1 << 48).contains(&address) && address.is_multiple_of(8);
        let mut pages = self.pages.lock().unwrap();
        let page = mapped.then(|| pages.entry(address / 4096).or_insert([0; 512]))?;
        Some(with(&mut page[(address % 4096 / 8) as usize]))
    }

    /// The 32-bit words from `address` on.
    pub(super) fn dwords<const N: usize>(&self, address: u64) -> [u32; N] {
        std::array::from_fn(|index| {
            let mut bytes = [0; 4];
            self.read(address + 4 * index as u64, &mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        })
    }
}

impl BusMemory for Memory {
    fn read(&self, mut address: u64, mut bytes: &mut [u8]) -> Option<()> {
        while !bytes.is_empty() {
            let inside = (address & 7) as usize;
            let now = bytes.len().min(8 - inside);
            let word = self.load(address & !7)?.to_le_bytes();
            let (piece, rest) = bytes.split_at_mut(now);
            piece.copy_from_slice(&word[inside..inside + now]);
            (bytes, address) = (rest, address + now as u64);
        }
        Some(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        for (byte, at) in bytes.iter().zip(address..) {
            self.word(at & !7, |word| {
                let mut whole = word.to_le_bytes();
                whole[(at & 7) as usize] = *byte;
                *word = u64::from_le_bytes(whole);
            })?;
        }
        Some(())
    }

    fn load(&self, address: u64) -> Option<u64> {
        self.word(address, |word| *word)
    }

    fn store_entry(&self, address: u64, words: &[u64]) -> Option<()> {
        for (index, word) in words.iter().enumerate() {
            self.word(address.checked_add(8 * index as u64)?, |place| {
                *place = *word
            })?;
        }
        Some(())
    }
}

/// A function, its memory, and where the guest's next free page is.
pub(super) struct Guest {
    pub(super) function: Function,
    pub(super) memory: Arc<Memory>,
    free: u64,
}

/// A request as its bytes.
#[derive(Clone)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A request of `size` bytes whose answer has room for `answer` bytes, both of version 1.
    pub(super) fn new(kind: u32, device: u32, size: usize, answer: u32) -> Self {
        let message = Self(vec![0; size]);
        let message = message
            .u32(4, kind)
            .u16(8, 1)
            .u16(10, 0x77)
            .u32(12, size as u32);
        message
            .u32(20, kind)
            .u16(24, 1)
            .u32(28, answer)
            .u32(32, device)
            .u32(36, 0xAC71)
    }

    pub(super) fn versions(self, request: u16, answer: u16) -> Self {
        self.u16(8, request).u16(24, answer)
    }

    pub(super) fn bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn u8(self, offset: usize, value: u8) -> Self {
        self.bytes(offset, &[value])
    }

    pub(super) fn u16(self, offset: usize, value: u16) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    pub(super) fn u32(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    pub(super) fn u64(self, offset: usize, value: u64) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }
}

/// An answer as its bytes.
pub(super) struct Reply(pub(super) Vec<u8>);

impl Reply {
    pub(super) fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.0[offset..offset + 2].try_into().unwrap())
    }

    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.0[offset..offset + 4].try_into().unwrap())
    }

    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }

    pub(super) fn status(&self) -> u32 {
        self.u32(24)
    }
}

pub(super) const NO_DEVICE: u32 = 0;
pub(super) const MANA: u32 = 2;
pub(super) const MANA_IB: u32 = 3;

impl Guest {
    pub(super) fn new(links: &[LinkConfig], change: impl FnOnce(&mut DeviceConfig)) -> Self {
        let port = |link: &LinkConfig| PortConfig {
            link: link.clone(),
            ..PortConfig::default()
        };
        let mut config = DeviceConfig {
            ports: links.iter().map(port).collect(),
            ..DeviceConfig::default()
        };
        change(&mut config);
        let memory = Arc::new(Memory::default());
        Self {
            function: Function::new(config, memory.clone()).unwrap(),
            memory,
            free: 0x4000_0000,
        }
    }

    /// The answer, whose header must echo the request's.
    pub(super) fn ask(&mut self, message: &Message) -> Reply {
        let mut answer = Vec::new();
        self.function.request(&message.0, &mut answer);
        let (asked, reply) = (Reply(message.0.clone()), Reply(answer));
        assert_eq!(reply.u32(0), 0, "header type");
        assert_eq!(reply.u32(4), asked.u32(4), "message type");
        assert!(
            (1..=asked.u16(24).max(1)).contains(&reply.u16(8)),
            "version {}",
            reply.u16(8)
        );
        assert_eq!(reply.u16(10), asked.u16(10), "message id");
        assert_eq!(reply.u32(12) as usize, reply.0.len(), "message size");
        assert_eq!(reply.u32(16), asked.u32(32), "device");
        assert_eq!(reply.u32(20), asked.u32(36), "activity");
        reply
    }

    /// The answer of a request that is done.
    pub(super) fn done(&mut self, message: &Message) -> Reply {
        let reply = self.ask(message);
        let asked = Reply(message.0.clone());
        assert_eq!(reply.status(), 0, "status of {:#x}", asked.u32(4));
        assert_eq!(reply.0.len() as u32, asked.u32(28), "bytes of the answer");
        reply
    }

    /// The address of so many neighbouring free pages.
    pub(super) fn pages(&mut self, count: u64) -> u64 {
        self.free += 4096 * (count + 1);
        self.free - 4096 * count
    }

    /// A DMA region of neighbouring pages: its handle and where it is.
    pub(super) fn region(&mut self, bytes: u64) -> (u64, u64) {
        let count = bytes.div_ceil(4096);
        let address = self.pages(count);
        let size = 64 + 8 * count as usize;
        let mut message = Message::new(0x19, NO_DEVICE, size, 40)
            .u64(40, bytes)
            .u32(56, count as u32)
            .u32(60, count as u32);
        for page in 0..count {
            message = message.u64(64 + 8 * page as usize, address + 4096 * page);
        }
        (self.done(&message).u64(32), address)
    }

    /// Registers a device: domain, key and doorbell page.
    pub(super) fn register(&mut self, device: u32) -> [u32; 3] {
        let reply = self.done(&Message::new(4, device, 40, 44));
        [32, 36, 40].map(|offset| reply.u32(offset))
    }
}
