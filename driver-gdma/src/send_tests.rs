use core::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;
use crate::memory::test_memory::Memory;
use crate::oob::LongOobTail;

fn ring(memory: &Memory, cell: &AtomicU64) -> SendRing {
    // SAFETY: the cell is aligned, atomic and outlives the ring; there is no device.
    unsafe {
        SendRing::new(
            memory.ring(),
            0x123,
            Doorbell::new(NonNull::from(cell).cast()),
        )
    }
    .unwrap()
}

fn write_unit(ring: &SendRing, at: u32, words: [u64; 4]) {
    let mut units = ring.units(at, 9);
    assert_eq!(units.len(), 9.min(128 - at as usize % 128));
    units.next().unwrap().write(words);
}

/// A WQE read back from bytes by the table of §2.3: (OOB bytes, elements, units).
fn parse(ring: &[u8], unit: usize) -> (Vec<u8>, Vec<(u64, u32, u32)>, u32) {
    let start = unit * 32;
    let byte = |offset: usize| ring[(start + offset) % ring.len()];
    let number = |offset: usize, size: usize| {
        (0..size).fold(0u64, |value, i| {
            value | u64::from(byte(offset + i)) << (8 * i)
        })
    };
    let dw1 = number(4, 4);
    let (num_sge, oob) = ((dw1 & 0xFF) as usize, ((dw1 >> 8 & 7) * 4) as usize);
    let sges = (0..num_sge).map(|i| {
        let at = 8 + oob + 16 * i;
        (
            number(at, 8),
            number(at + 8, 4) as u32,
            number(at + 12, 4) as u32,
        )
    });
    let size = (8 + oob + 16 * num_sge.max(1)).div_ceil(32) as u32;
    ((8..8 + oob).map(byte).collect(), sges.collect(), size)
}

#[test]
fn a_packet_of_one_segment_is_one_unit() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let mut ring = ring(&memory, &cell);
    let oob = ShortOob::new()
        .with_vcq_num(0x42)
        .with_suppress_txcqe_gen(true);
    let sge = Sge {
        address: 0x7F00_0000_1080,
        key: 0x99,
        size: 60,
    }
    .words();
    write_unit(
        &ring,
        0,
        [
            WqeHeader::plain(8, 1).into_bits(),
            oob.into_bits(),
            sge[0],
            sge[1],
        ],
    );
    ring.clear_suppress(0);
    ring.commit(1);
    let expected = [
        0, 0, 0, 0, 1, 2, 0, 0, // header: one element, 2 dwords of OOB
        0x00, 0x42, 0, 0, 0, 0, 0, 0, // OOB: CQ 0x42, not suppressed any more
        0x80, 0x10, 0, 0, 0, 0x7F, 0, 0, // address
        0x99, 0, 0, 0, 60, 0, 0, 0, // key, size
    ];
    assert_eq!(memory.bytes()[..32], expected);
    // §2.7: id 0x123, 32 bytes.
    assert_eq!(
        cell.load(Relaxed).to_le_bytes(),
        [0x23, 1, 0, 0, 32, 0, 0, 0]
    );
}

/// §2.2: "Doorbell value is head*32 in bytes, truncated to u32, not masked by the ring size".
#[test]
fn the_doorbell_is_in_bytes_and_not_masked() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let mut ring = ring(&memory, &cell);
    ring.set_cursors(0x07FF_FFFF);
    ring.commit(0x0800_0000);
    assert_eq!(cell.load(Relaxed) >> 32, 0, "2^27 units are 2^32 bytes");
    ring.commit(0x0800_0005);
    assert_eq!(cell.load(Relaxed) >> 32, 160);
    ring.release_to(0x0800_0000);
    ring.set_cursors(200);
    ring.commit(201);
    assert_eq!(
        cell.load(Relaxed) >> 32,
        201 * 32,
        "beyond the 128 units of the ring"
    );
}

fn numbered(count: u32) -> Vec<Sge> {
    let sge = |i| Sge {
        address: 0x1000 * u64::from(i + 1),
        key: 0x11 * (i + 1),
        size: 100 + i,
    };
    (0..count).map(sge).collect()
}

/// §2.3: "The SGL may wrap to offset 0 of the ring, at 16-byte granularity". Unit 127 of 128 holds
/// header, short OOB and the first element; the second one and its padding stand at offset 0.
#[test]
fn a_list_goes_on_at_the_start_of_the_ring() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, &cell);
    write_unit(&ring, 0, [u64::MAX; 4]);
    let oob = Wqe::Short(ShortOob::new().with_vcq_num(0x42));
    assert_eq!(
        ring.write(127, WqeHeader::plain(8, 2), &oob, numbered(2)),
        2
    );
    let last = [
        0, 0, 0, 0, 2, 2, 0, 0, // header: two elements, 2 dwords of OOB
        0, 0x42, 0, 0, 0, 0, 0, 0, // OOB: CQ 0x42
        0, 0x10, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 100, 0, 0, 0,
    ];
    let first = [
        0, 0x20, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0, 101, 0, 0, 0, // second element
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // padding
    ];
    assert_eq!(memory.bytes()[4064..], last);
    assert_eq!(memory.bytes()[..32], first);
}

/// §2.3: "header+OOB never wraps (≤32 B and WQEs are 32-aligned)"; "when the SGL starts exactly at
/// the end it starts at offset 0".
#[test]
fn a_list_behind_a_long_oob_in_the_last_unit_starts_at_offset_zero() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, &cell);
    let oob = Wqe::Long(LongOob {
        short: ShortOob::new().with_pkt_fmt(1),
        tail: LongOobTail::new().with_long_vp_offset(0x123),
    });
    assert_eq!(
        ring.write(127, WqeHeader::plain(24, 1), &oob, numbered(1)),
        2
    );
    let last = [
        0, 0, 0, 0, 1, 6, 0, 0, // header: one element, 6 dwords of OOB
        1, 0, 0, 0, 0, 0, 0, 0, // OOB: long format
        0, 0, 0, 0, 0, 0, 0x23, 0x01, // dword 3 bits 16-27: vPort offset
        0, 0, 0, 0, 0, 0, 0, 0, // dwords 4 and 5
    ];
    let first = [0, 0x10, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 100, 0, 0, 0];
    assert_eq!(memory.bytes()[4064..], last);
    assert_eq!(memory.bytes()[..16], first);
    assert_eq!(memory.bytes()[16..32], [0; 16]);
}

/// §2.3, §2.1: "Max SQ WQE 512 B = 16 BU", wherever in the ring it begins, and it touches nothing
/// else.
#[test]
fn the_largest_wqe_fills_sixteen_units_and_no_more() {
    for at in [0, 112, 113, 127, u32::MAX] {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        let ring = ring(&memory, &cell);
        for unit in 0..128 {
            write_unit(&ring, unit, [u64::MAX; 4]);
        }
        let oob = Wqe::Long(LongOob {
            short: ShortOob::new(),
            tail: LongOobTail::new(),
        });
        assert_eq!(
            ring.write(at, WqeHeader::plain(24, 30), &oob, numbered(30)),
            16
        );
        let touched = |unit: u32| memory.bytes()[unit as usize * 32..][..32] != [0xFF; 32];
        for unit in 0..128 {
            assert_eq!(
                touched(unit),
                (unit.wrapping_sub(at) & 127) < 16,
                "{unit} of {at}"
            );
        }
    }
}

/// §2.2: "Free space = size/32 − (head−tail)"; "After a WQE completes the driver adds that WQE's
/// BU count to tail".
#[test]
fn completed_units_are_free_again() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let mut ring = ring(&memory, &cell);
    ring.set_cursors(u32::MAX - 1);
    assert_eq!((ring.capacity(), ring.free()), (128, 128));
    ring.commit(126);
    assert_eq!((ring.free(), ring.tail()), (0, u32::MAX - 1));
    ring.release_to(1);
    assert_eq!((ring.free(), ring.tail()), (3, 1));
    ring.release_to(126);
    assert_eq!(ring.free(), 128);
}

/// §3.1: suppress_txcqe_gen is bit 7 of dword 0.
#[test]
fn asking_for_a_completion_changes_one_bit() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let ring = ring(&memory, &cell);
    write_unit(&ring, u32::MAX, [u64::MAX; 4]);
    ring.clear_suppress(u32::MAX);
    let mut expected = [0xFF; 32];
    expected[8] = 0x7F;
    assert_eq!(memory.bytes()[4064..], expected);
}

#[test]
fn ids_beyond_24_bits_are_refused() {
    let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
    let new = |id| {
        // SAFETY: the cell is aligned, atomic and outlives the ring; there is no device.
        let doorbell = unsafe { Doorbell::new(NonNull::from(&cell).cast()) };
        // SAFETY: as above.
        unsafe { SendRing::new(memory.ring(), id, doorbell) }.err()
    };
    assert_eq!(new(0xFF_FFFF), None);
    assert_eq!(new(0x100_0000), Some(RingError::Id(0x100_0000)));
}

proptest! {
    /// §2.3 "The SGL may wrap to offset 0 of the ring, at 16-byte granularity", and the room
    /// that is left agrees with arithmetic that cannot wrap.
    #[test]
    fn what_is_written_reads_back_across_wraps(
        start in prop_oneof![
            Just(0u32),
            u32::MAX - 400..=u32::MAX,
            0x7FFF_FF00..=0x8000_0100u32,
            0x07FF_FF00..=0x0800_0000u32,
            any::<u32>(),
        ],
        log2 in 12u32..=15,
        packets in prop::collection::vec(
            (1usize..=30, any::<bool>(), any::<u64>(), 0usize..4),
            1..60,
        ),
    ) {
        let (memory, cell) = (Memory::new(1 << log2), AtomicU64::new(0));
        let mut ring = ring(&memory, &cell);
        ring.set_cursors(start);
        let (mut head, mut tail) = (u128::from(start), u128::from(start));
        let mut in_flight = std::collections::VecDeque::new();
        for (count, long, seed, complete) in packets {
            let sges: Vec<Sge> = (0..count as u64)
                .map(|i| Sge { address: seed ^ i, key: seed as u32 ^ 7, size: i as u32 + 1 })
                .collect();
            let short = ShortOob::from_bits(seed);
            let oob = if long {
                let tail = LongOobTail::from_bits(!seed);
                Wqe::Long(LongOob { short, tail })
            } else {
                Wqe::Short(short)
            };
            let size = oob.units(count);
            for _ in 0..complete {
                tail += in_flight.pop_front().unwrap_or(0);
            }
            while head - tail + u128::from(size) > (1 << log2) / 32 {
                tail += in_flight.pop_front().unwrap();
            }
            ring.release_to(tail as u32);
            prop_assert!(ring.free() >= size);
            let at = ring.head();
            prop_assert_eq!(at, head as u32);
            let header = WqeHeader::plain(oob.oob_bytes(), count);
            prop_assert_eq!(ring.write(at, header, &oob, sges.iter().copied()), size);
            ring.commit(at.wrapping_add(size));
            let place = head % ((1 << log2) / 32);
            head += u128::from(size);
            in_flight.push_back(u128::from(size));
            prop_assert_eq!(u128::from(ring.free()), (1 << log2) / 32 - (head - tail));
            prop_assert_eq!(u128::from(cell.load(Relaxed) >> 32), head * 32 % (1 << 32));
            let (oob_bytes, read, read_size) = parse(&memory.bytes(), place as usize);
            prop_assert_eq!(&oob_bytes[..8], &seed.to_le_bytes()[..]);
            if long {
                prop_assert_eq!(&oob_bytes[8..16], &(!seed).to_le_bytes()[..]);
                prop_assert_eq!(&oob_bytes[16..], &[0; 8][..]);
            }
            let expected: Vec<_> = sges.iter().map(|sge| (sge.address, sge.key, sge.size)).collect();
            prop_assert_eq!(read, expected);
            prop_assert_eq!(read_size, size);
            let bytes = sges.iter().map(|sge| u64::from(sge.size)).sum();
            prop_assert_eq!(ring.read_back(at), (size, bytes));
        }
    }
}
