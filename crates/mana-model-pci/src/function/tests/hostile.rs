//! A guest that sends anything, in any order: every request has an answer, nothing panics, and a reset
//! leaves nothing behind.

use mana_model::{GenConfig, LinkConfig};
use proptest::prelude::*;

use super::super::kinds::KINDS;
use super::guest::{Guest, MANA, MANA_IB, Memory, Message, Reply};
use super::recorded;

/// One thing that a guest does.
#[derive(Debug, Clone)]
enum Act {
    /// A request of this kind with values that may be right: each field is drawn from what is, or was,
    /// or is near to something.
    Ask {
        kind: usize,
        device: u32,
        version: u16,
        fields: Vec<(usize, Value)>,
        cut: Option<usize>,
    },
    /// A request of random bytes behind a header.
    Noise {
        kind: u32,
        bytes: Vec<u8>,
    },
    /// A sensible step on the way to a working queue.
    Work(u8),
    Doorbell {
        page: u32,
        offset: u32,
        value: u64,
    },
    Step,
    Reset,
}

/// A value of a field.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// The answer's field of an earlier request, so many requests ago, at this offset.
    Earlier(usize, usize),
    Small(u32),
    Any(u64),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..20_usize, prop::sample::select(vec![32, 36, 40])).prop_map(|(ago, at)| Value::Earlier(ago, at)),
        2 => (0..40_u32).prop_map(Value::Small),
        1 => prop::sample::select(vec![0x1000, 0x2000, 0x8000, 0x77, 0x78, u64::MAX, 1 << 63, 0xFFFF_FFFF]).prop_map(Value::Any),
        1 => any::<u64>().prop_map(Value::Any),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let fields = prop::collection::vec(((40..136_usize).prop_map(|at| at & !3), value()), 0..10);
    let cut = prop::option::weighted(0.1, 0..4096_usize);
    let device = prop::sample::select(vec![0, MANA, MANA_IB, 7]);
    prop_oneof![
        6 => (0..KINDS.len(), device, 0..7_u16, fields, cut).prop_map(|(kind, device, version, fields, cut)| {
            Act::Ask { kind, device, version, fields, cut }
        }),
        1 => (any::<u32>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(kind, bytes)| Act::Noise { kind, bytes }),
        5 => any::<u8>().prop_map(Act::Work),
        2 => (0..6_u32, prop::sample::select(vec![0, 8, 0x400, 0x408, 0x800, 0x820, 0xFF8]), any::<u64>(), 0..24_u64).prop_map(
            |(page, offset, value, id)| Act::Doorbell { page, offset, value: (value & !0xFFFF_FFFF) | id }
        ),
        1 => Just(Act::Step),
        1 => prop::bool::weighted(0.1).prop_map(|reset| if reset { Act::Reset } else { Act::Step }),
    ]
}

/// The guest and the answers that it got, youngest last.
struct Fuzzer {
    guest: Guest,
    answers: Vec<Reply>,
}

impl Fuzzer {
    fn new() -> Self {
        let links = [LinkConfig::Gen(GenConfig::default()), LinkConfig::Loop];
        Self {
            guest: Guest::new(&links, |_| ()),
            answers: Vec::new(),
        }
    }

    fn value(&self, value: Value) -> u64 {
        match value {
            Value::Earlier(ago, at) => {
                let reply = self.answers.iter().rev().nth(ago);
                let bytes = reply.and_then(|reply| reply.0.get(at..at + 8));
                bytes.map_or(1, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            }
            Value::Small(value) => value.into(),
            Value::Any(value) => value,
        }
    }

    fn ask(&mut self, message: &Message) -> u64 {
        let reply = self.guest.ask(message);
        let first = reply
            .0
            .get(32..40)
            .map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        self.answers.push(reply);
        first
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Ask {
                kind,
                device,
                version,
                fields,
                cut,
            } => {
                let kind = &KINDS[*kind];
                let mut message =
                    Message::new(kind.number, *device, 4096, 112).versions(*version, *version);
                for (at, value) in fields {
                    message = message.u64(*at, self.value(*value));
                }
                let size = cut.unwrap_or(4096);
                let mut message = message.u32(12, size as u32);
                message.0.truncate(size.max(40));
                if size < 40 {
                    let mut answer = Vec::new();
                    self.guest.function.request(&message.0, &mut answer);
                    return;
                }
                self.ask(&message);
            }
            Act::Noise { kind, bytes } => {
                let message = Message::new(*kind, MANA, 40 + bytes.len(), 64);
                self.ask(&message.bytes(40, bytes));
            }
            Act::Work(step) => self.work(*step),
            Act::Doorbell {
                page,
                offset,
                value,
            } => {
                self.guest.function.doorbell(*page, *offset, *value);
            }
            Act::Step => {
                self.guest.function.step();
                self.guest.function.take_interrupts();
            }
            Act::Reset => {
                self.guest.function.reset();
                assert!(self.guest.function.is_empty());
            }
        }
    }

    /// Ids begin at 1 after a reset, and handles at 0x1000: low ones are likely to be there.
    fn work(&mut self, step: u8) {
        let low = u32::from(step >> 4);
        let message = match step & 7 {
            0 => Message::new(0x4, 2 + (low & 1), 40, 44),
            1 => Message::new(0x2_0003, MANA, 56, 36)
                .u64(40, 0x77 + u64::from(low & 1))
                .u32(48, 1)
                .u32(52, 1),
            2 => {
                let region = self.region();
                Message::new(0xC, MANA, 96, 36)
                    .u32(40, 4)
                    .u32(48, 1)
                    .u32(52, 1)
                    .u64(56, region)
                    .u32(68, 4096)
            }
            3 | 4 => {
                let [ring, cq_ring] = [(); 2].map(|()| self.region());
                Message::new(0x2_0004, MANA, 88, 48)
                    .u64(40, 0x77 + u64::from(low & 1))
                    .u32(48, 1 + u32::from(step & 7 == 4))
                    .u64(56, ring)
                    .u64(64, cq_ring)
                    .u32(72, 4096)
                    .u32(76, 4096)
                    .u32(84, 1)
            }
            5 => {
                let handle = 0x1000 + u64::from(low);
                let message = Message::new(0x2_0007, MANA, 632, 40).versions(2, 1);
                let mut message = message.u64(40, 0x77 + u64::from(low & 1));
                message = message.u16(48, 64).u16(50, 120).u32(52, 1).u32(56, 1);
                message = message.u8(60, 1).u8(62, 1).u64(64, handle).u8(112, 1);
                for entry in 0..64 {
                    message = message.u64(120 + 8 * entry, handle);
                }
                message
            }
            6 => {
                // Something is handed over, whatever the ring holds.
                let offset = if low & 1 == 0 { 0 } else { 0x400 };
                let value = u64::from(low / 2) | 0x400 << 32;
                self.guest.function.doorbell(1, offset, value);
                return;
            }
            _ => Message::new(0x2_0006, MANA, 48, 32).u64(40, 0x1000 + u64::from(low)),
        };
        self.ask(&message);
    }

    fn region(&mut self) -> u64 {
        let address = self.guest.pages(1);
        let message = Message::new(0x19, 0, 72, 40)
            .u64(40, 4096)
            .u32(56, 1)
            .u32(60, 1);
        self.ask(&message.u64(64, address))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_guest_sends_is_too_much(acts in prop::collection::vec(act(), 1..300)) {
        let mut fuzzer = Fuzzer::new();
        for act in &acts {
            fuzzer.act(act);
        }
        fuzzer.guest.function.reset();
        prop_assert!(fuzzer.guest.function.is_empty());
        prop_assert_eq!(fuzzer.guest.function.step(), 0, "nothing is left that moves");
    }

    /// A driver's life in which bytes change and messages get lost, come twice or go to another device.
    #[test]
    fn no_life_is_too_wild(
        life in 0..recorded::LIVES.len(),
        changes in prop::collection::vec((0..100_usize, 0..140_usize, any::<u8>(), 0..8_u8), 0..30),
    ) {
        let mut messages = recorded::messages(recorded::LIVES[life]);
        for (message, offset, byte, what) in changes {
            let message = message % messages.len();
            match what {
                0 => drop(messages.remove(message)),
                1 => messages.insert(message, messages[message].clone()),
                _ => {
                    let bytes = &mut messages[message].0;
                    let offset = offset % bytes.len();
                    bytes[offset] = byte;
                }
            }
        }
        let mut guest = Guest::new(&[LinkConfig::Loop], |_| ());
        let mut answer = Vec::new();
        for message in &messages {
            guest.function.request(&message.0, &mut answer);
            prop_assert!((32..=4096).contains(&answer.len()));
            for (page, offset) in [(1, 0xFF8), (1, 0x800), (2, 0x400), (2, 0)] {
                guest.function.doorbell(page, offset, u64::from(message.0[40.min(message.0.len() - 1)]));
            }
            guest.function.step();
        }
        guest.function.reset();
        prop_assert!(guest.function.is_empty());
    }

    /// WQEs of noise, elements that lead anywhere.
    #[test]
    fn no_ring_is_too_wild(words in prop::collection::vec(any::<u64>(), 64), tail in 0..4096_u32) {
        let mut fuzzer = Fuzzer::new();
        for step in [0, 1, 0x11, 2, 3, 0x13, 4, 0x14] {
            fuzzer.work(step);
        }
        let memory = std::sync::Arc::clone(fuzzer.guest.function.hardware().memory());
        for page in (Memory::UNMAPPED.max(0x4000_0000)..0x4000_0000 + 64 * 4096).step_by(4096) {
            for (index, word) in words.iter().enumerate() {
                // Most have a sensible number of elements and OOB, and the kernel's key.
                let word = match (index % 4, word % 4) {
                    (0, 1..) => (word & 0x3FFF_0000_0000_0000) | 0x0201_0000_0000,
                    (3, 1..) => (word & 0x7FF_0000_0000) | 1,
                    _ => *word,
                };
                memory.store_entry(page + 8 * index as u64, &[word]).unwrap();
            }
        }
        for id in 0..6 {
            for offset in [0, 0x400] {
                fuzzer.guest.function.doorbell(1, offset, id | u64::from(tail & !31) << 32);
            }
        }
        for _ in 0..4 {
            fuzzer.guest.function.step();
        }
        fuzzer.guest.function.reset();
        prop_assert!(fuzzer.guest.function.is_empty());
    }
}
