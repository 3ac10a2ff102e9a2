use core::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::memory::test_memory::Memory;

const ID: u32 = 0x77;
const WQ: u32 = 0x1234;

fn ring(memory: &Memory, entries: u32, cell: &AtomicU64) -> CompletionRing {
    let doorbell = NonNull::from(cell).cast();
    // SAFETY: the cell is aligned, atomic and outlives the ring; the memory is fresh.
    let ring = unsafe {
        CompletionRing::new(
            memory.ring(),
            entries,
            ID,
            WQ,
            true,
            Doorbell::new(doorbell),
        )
    };
    ring.unwrap()
}

/// A device by the book (§2.6): "start tail=count, write owner=(tail>>log2 count)&7, tail++", with
/// arithmetic that cannot wrap.
struct Device<'a> {
    memory: &'a Memory,
    entries: u128,
    tail: u128,
}

impl Device<'_> {
    fn write(&mut self, dword0: u32, wq: u32, is_sq: bool) {
        let entry = (self.tail % self.entries) as usize;
        let owner = (self.tail / self.entries % 8) as u32;
        let last = u64::from(wq | u32::from(is_sq) << 24 | owner << 29) << 32;
        let word = |index: usize| self.memory.words().nth(entry * 8 + index).unwrap();
        word(0).store(u64::from(dword0), Ordering::Relaxed);
        word(7).store(last, Ordering::Release);
        self.tail += 1;
    }
}

#[test]
fn a_fresh_ring_is_empty_and_the_first_entry_has_owner_one() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, 64, &cell);
    let cursor = ring.cursor();
    assert_eq!((cursor.head(), ring.look(cursor)), (64, Polled::Empty));
    assert!(!ring.is_ready(cursor));
    // §2.4, §2.6: queue 0x1234, is_sq, owner 1.
    memory
        .words()
        .nth(7)
        .unwrap()
        .store(0x2100_1234_0000_0000, Ordering::Release);
    assert!(ring.is_ready(cursor));
    assert_eq!(ring.look(cursor), Polled::Ready);
    assert_eq!(ring.cqe(cursor).tail().wq_num(), WQ);
}

#[test]
fn reserved_bits_do_not_hide_an_entry() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, 64, &cell);
    memory
        .words()
        .nth(7)
        .unwrap()
        .store(0x3F00_1234_0000_0000, Ordering::Release);
    assert!(ring.is_ready(ring.cursor()));
}

#[test]
fn entries_of_others_and_overtaking_are_told_apart() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, 64, &cell);
    let word = memory.words().nth(7).unwrap();
    for (tail, polled) in [
        (0x2100_1235u64, Polled::Foreign), // another queue
        (0x2000_1234, Polled::Foreign),    // a receive queue
        (0x4100_1234, Polled::Overflow),   // a lap ahead
        (0xE100_1234, Polled::Overflow),
        (0x0100_1234, Polled::Empty), // the lap before
    ] {
        word.store(tail << 32, Ordering::Release);
        assert!(!ring.is_ready(ring.cursor()), "{tail:#x}");
        assert_eq!(ring.look(ring.cursor()), polled, "{tail:#x}");
    }
}

/// A watched ring finds nothing as long as `look` does, wherever its cursor is.
#[test]
fn a_watched_ring_sees_that_something_came() {
    for start in [64, 64 + 63, 8 * 64 - 1, u32::MAX] {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        let mut ring = ring(&memory, 64, &cell);
        ring.start_at(start);
        for step in 0..3_u32 {
            let at = start.wrapping_add(step) as usize % 64;
            let word = memory.words().nth(8 * at + 7).unwrap();
            let vacant = ring.watch();
            for top in 0..=255 {
                word.store(top << 56 | 0x1234 << 32, Ordering::Release);
                let empty = ring.look(ring.cursor()) == Polled::Empty;
                assert_eq!(ring.watched_owner() == vacant, empty, "{start} {top:#x}");
            }
            ring.set_cursor(ring.next(ring.cursor()));
        }
    }
}

/// Entries looked at as neighbours are those that the cursor finds one by one, in every lap and beyond
/// 2^32; a jump of the cursor ends where as many steps do.
#[test]
fn entries_ahead_are_those_that_the_cursor_comes_to() {
    for start in [64, 64 + 60, 8 * 64 - 3, u32::MAX - 2] {
        for (there, count) in [(0, 9), (2, 9), (9, 9), (40, 9), (5, 0), (64, 64)] {
            let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
            let mut ring = ring(&memory, 64, &cell);
            ring.start_at(start);
            let mut device = Device {
                memory: &memory,
                entries: 64,
                tail: u128::from(start),
            };
            (0..there).for_each(|number| device.write(7 + number, WQ, true));
            let mut cursor = ring.cursor();
            let entries = ring.ahead(cursor, count);
            assert_eq!(entries.len(), count.min((64 - start % 64) as usize));
            assert_eq!(entries.is_empty(), count == 0);
            for index in 0..entries.len() {
                assert_eq!(
                    entries.is_ready(index),
                    ring.is_ready(cursor),
                    "{start} {index}"
                );
                assert_eq!(entries.is_ready(index), index < there as usize);
                let entry = entries.iter().nth(index).unwrap();
                assert_eq!(entry.is_ready(), entries.is_ready(index));
                for word in 0..8 {
                    assert_eq!(entries.load(index, word), ring.load(cursor, word as u32));
                    assert_eq!(entries.load(index, word), entry.load(word));
                }
                assert_eq!(ring.skip(ring.cursor(), index as u32), cursor);
                cursor = ring.next(cursor);
            }
            let far = (0..900).fold(ring.cursor(), |cursor, _| ring.next(cursor));
            assert_eq!(ring.skip(ring.cursor(), 900), far);
        }
    }
}

#[test]
fn ready_entries_are_counted_to_the_first_of_another_type_or_queue() {
    let count = |others: &[(u32, u32)]| {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        let ring = ring(&memory, 64, &cell);
        let (memory, entries, tail) = (&memory, 64, 64);
        let mut device = Device {
            memory,
            entries,
            tail,
        };
        // The client type and the error code beside the type are not looked at.
        device.write(0xFFFF_FFC0 | 1, WQ, true);
        device.write(1, WQ, true);
        (others.iter()).for_each(|&(head, wq)| device.write(head, wq, true));
        let count = |most| ring.ahead(ring.cursor(), most).count_ready(1);
        assert_eq!([count(0), count(1), count(2)], [0, 1, 2]);
        count(64)
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&[(1, WQ), (2, WQ), (1, WQ)]), 3);
    assert_eq!(count(&[(1, WQ + 1), (1, WQ)]), 2);
    assert_eq!(count(&[(1, WQ); 62]), 64);
}

#[test]
fn queues_that_hardware_refuses_are_refused() {
    let (memory, cell) = (Memory::new(8192), AtomicU64::new(0));
    let build = |entries, id, wq| {
        let doorbell = NonNull::from(&cell).cast();
        // SAFETY: construction must fail, so nothing is accessed.
        let doorbell = unsafe { Doorbell::new(doorbell) };
        // SAFETY: as above.
        unsafe { CompletionRing::new(memory.ring(), entries, id, wq, true, doorbell) }.err()
    };
    for entries in [0, 1, 32, 96, 192, 256] {
        assert_eq!(build(entries, 1, 1), Some(RingError::Entries(entries)));
    }
    assert_eq!(build(64, 1 << 24, 1), Some(RingError::Id(1 << 24)));
    assert_eq!(build(64, 1, u32::MAX), Some(RingError::Id(u32::MAX)));
}

/// §2.8: "the hardware needs a CQ doorbell at least once in every 8 wrap-arounds", "the driver rings
/// after 4 wraps"; §2.7: "CQ tail = head % (count << 3)".
#[test]
fn the_device_hears_of_the_consumer_within_four_laps_whatever_the_bursts() {
    for start in [64, (1 << 31) - 77, u32::MAX - 300] {
        for burst in [1, 7, 32, 63, 64] {
            let (memory, cell) = (Memory::new(4096), AtomicU64::new(u64::MAX));
            let mut ring = ring(&memory, 64, &cell);
            ring.start_at(start);
            let (mut consumed, mut told, mut rings) = (u64::from(start), u64::from(start), 0);
            for _ in 0..64 * 64 / burst {
                let mut cursor = ring.cursor();
                for _ in 0..burst {
                    cursor = ring.next(cursor);
                }
                consumed += burst;
                ring.set_cursor(cursor);
                let value = cell.swap(u64::MAX, Ordering::Relaxed);
                if value != u64::MAX {
                    assert_eq!(value, u64::from(ID) | (consumed % 512) << 32);
                    told = consumed;
                    rings += 1;
                }
                assert!(
                    consumed - told <= 4 * 64 - burst,
                    "the next burst would be too late"
                );
            }
            assert!(rings <= 64 * 64 / (3 * 64), "{rings} doorbells in 64 laps");
        }
    }
}

/// §2.7: CQ value with arm in bit 63 and the tail modulo eight laps, also beyond 2^32.
#[test]
fn arming_says_where_the_consumer_is() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let mut ring = ring(&memory, 64, &cell);
    ring.arm();
    let armed = |tail: u64| u64::from(ID) | tail << 32 | 1 << 63;
    assert_eq!(cell.load(Ordering::Relaxed), armed(64));
    ring.start_at(u32::MAX);
    ring.arm();
    assert_eq!(cell.load(Ordering::Relaxed), armed(511));
    ring.set_cursor(ring.next(ring.cursor()));
    ring.arm();
    assert_eq!(cell.load(Ordering::Relaxed), armed(0));
}

/// An armed doorbell tells the device the consumer's position like any other.
#[test]
fn arming_puts_the_next_doorbell_off() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let mut ring = ring(&memory, 64, &cell);
    let advance = |ring: &mut CompletionRing, entries: u32| {
        let cursor = (0..entries).fold(ring.cursor(), |cursor, _| ring.next(cursor));
        ring.set_cursor(cursor);
        cell.swap(0, Ordering::Relaxed) != 0
    };
    assert!(!advance(&mut ring, 64) && !advance(&mut ring, 64));
    ring.arm();
    assert_ne!(cell.swap(0, Ordering::Relaxed), 0);
    assert!(!advance(&mut ring, 64) && !advance(&mut ring, 64));
    assert!(advance(&mut ring, 64));
}

/// §4.3: "CQ count seen by hardware: cqe × 64 bytes as requested, not rounded" to its memory.
#[test]
fn a_queue_smaller_than_its_memory_wraps_at_its_own_size() {
    let (memory, cell) = (Memory::new(16384), AtomicU64::new(0));
    let ring = ring(&memory, 128, &cell);
    assert_eq!(ring.entries(), 128);
    let mut device = Device {
        memory: &memory,
        entries: 128,
        tail: 128,
    };
    let mut cursor = ring.cursor();
    for sent in 0..1000 {
        device.write(sent, WQ, true);
        assert!(ring.is_ready(cursor));
        assert_eq!(ring.load(cursor, 0), u64::from(sent));
        assert_eq!(
            ring.cqe(cursor).tail().owner(),
            ((1 + sent / 128) % 8) as u8
        );
        cursor = ring.next(cursor);
        assert_eq!(ring.look(cursor), Polled::Empty);
    }
}

proptest! {
    /// Every entry is seen once, in order, whatever the lap and across 2^32.
    #[test]
    fn entries_arrive_in_order_across_wraps(
        log2 in 6u32..14,
        start in prop_oneof![
            Just(1u64 << 32),
            (1u64 << 32) - 3000..1 << 32,
            (1u64 << 31) - 3000..(1 << 31) + 3000,
            1u64 << 14..1 << 33,
        ],
        bursts in prop::collection::vec(1u64..100, 1..60),
    ) {
        let entries = 1u32 << log2;
        let (memory, cell) = (Memory::new(64 << log2), AtomicU64::new(0));
        let mut ring = ring(&memory, entries, &cell);
        let mut device = Device { memory: &memory, entries: u128::from(entries), tail: u128::from(start) };
        // What the lap before left behind.
        let old = (u128::from(start) / u128::from(entries) + 7) % 8;
        for (index, word) in memory.words().enumerate() {
            let next = index / 8 < (start % u64::from(entries)) as usize;
            let owner = if next { (old + 1) % 8 } else { old };
            word.store((owner as u64) << 61, Ordering::Relaxed);
        }
        ring.start_at(start as u32);
        let (mut sent, mut seen) = (0u32, 0u32);
        for burst in bursts {
            for _ in 0..burst.min(u64::from(entries)) {
                device.write(sent, WQ, true);
                sent += 1;
            }
            let mut cursor = ring.cursor();
            while ring.is_ready(cursor) {
                prop_assert_eq!(ring.load(cursor, 0) as u32, seen);
                seen += 1;
                cursor = ring.next(cursor);
            }
            prop_assert_eq!(ring.look(cursor), Polled::Empty);
            ring.set_cursor(cursor);
            prop_assert_eq!(seen, sent);
        }
    }
}
