//! The send ring: WQEs in, one doorbell a burst.

use core::sync::atomic::Ordering;

use crate::doorbell::{Doorbell, SendValue};
use crate::memory::{AtomicU64, RingError, RingMemory, check_id};
use crate::oob::{LongOob, SUPPRESS, ShortOob};
use crate::wqe::{Sge, UNIT, WqeHeader, units};

/// Words of a unit.
const UNIT_WORDS: u32 = (UNIT / 8) as u32;

/// The client OOB of a WQE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wqe {
    /// 8 bytes.
    Short(ShortOob),
    /// 24 bytes.
    Long(LongOob),
}

impl Wqe {
    /// Size of the OOB in bytes.
    #[inline]
    #[must_use]
    pub const fn oob_bytes(&self) -> usize {
        match self {
            Self::Short(_) => crate::oob::SHORT,
            Self::Long(_) => crate::oob::LONG,
        }
    }

    /// Units of a WQE with this OOB and `sges` elements.
    #[inline]
    #[must_use]
    pub const fn units(&self, sges: usize) -> u32 {
        units(self.oob_bytes(), sges)
    }
}

/// The producer's side of a send queue.
///
/// Cursors are free-running `u32` in units of 32 bytes (§2.2): `head` is behind the last WQE that
/// the device was told about, `tail` behind the last one that is complete. Writing happens at
/// cursors that the caller carries along; [`SendRing::commit`] publishes them.
#[derive(Debug)]
pub struct SendRing {
    memory: RingMemory,
    doorbell: Doorbell,
    /// What the doorbell is rung with, but for the cursor.
    bell: SendValue,
    head: u32,
    tail: u32,
}

/// One unit of a send ring.
#[derive(Debug)]
pub struct Unit<'a>(&'a [AtomicU64; UNIT / 8]);

impl Unit<'_> {
    /// Writes a WQE that fills the unit (header, short OOB, one element), or a unit of a larger one.
    #[inline]
    pub fn write(self, words: [u64; UNIT / 8]) {
        for (place, word) in self.0.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }
}

impl SendRing {
    /// A fresh ring of the send queue `id`.
    ///
    /// # Errors
    ///
    /// [`RingError::Id`] beyond 24 bits.
    ///
    /// # Safety
    ///
    /// `memory` and `doorbell` belong to the send queue `id` of a device. Every address in a WQE that
    /// the caller commits is registered under the key beside it, and stays alive and unaliased
    /// until that WQE has completed or the queue was destroyed. No unit of a WQE is written to
    /// between its commit and its completion: the device may read it half written.
    pub unsafe fn new(memory: RingMemory, id: u32, doorbell: Doorbell) -> Result<Self, RingError> {
        match check_id(id) {
            Ok(id) => Ok(Self {
                memory,
                doorbell,
                bell: SendValue::at(id, 0),
                head: 0,
                tail: 0,
            }),
            Err(error) => Err(error),
        }
    }

    /// Size in units.
    #[inline]
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.memory.words() / UNIT_WORDS
    }

    /// Cursor behind the last committed WQE.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> u32 {
        self.head
    }

    /// Cursor behind the last completed WQE.
    #[inline]
    #[must_use]
    pub const fn tail(&self) -> u32 {
        self.tail
    }

    /// Units that may be written from `head` on.
    #[inline]
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.capacity() - self.head.wrapping_sub(self.tail)
    }

    /// The unit at cursor `at`. The caller has room for it.
    #[inline]
    #[must_use]
    pub fn unit(&self, at: u32) -> Unit<'_> {
        Unit(self.memory.entry(at))
    }

    /// Up to `count` units from cursor `at` on, as far as the end of the ring. The caller has room for
    /// them.
    #[inline]
    pub fn units(&self, at: u32, count: u32) -> impl ExactSizeIterator<Item = Unit<'_>> + Clone {
        self.memory.entries(at, count as usize).iter().map(Unit)
    }

    /// Writes a WQE at cursor `at` and returns its size in units. The list wraps to the start of
    /// the ring at its end; header and OOB never do (§2.3). Padding is zeroed. `header` is
    /// [`WqeHeader::plain`] for this OOB and a number of elements, perhaps with more fields; the caller
    /// checked that these are 1 to [`crate::wqe::MAX_TX_SGES`] and that there is room for all. Of
    /// `sges` that many are taken; if there are fewer, the WQE is none to be committed.
    #[inline]
    pub fn write(
        &self,
        at: u32,
        header: WqeHeader,
        oob: &Wqe,
        sges: impl IntoIterator<Item = Sge>,
    ) -> u32 {
        debug_assert_eq!(header.inline_oob_size_div4() as usize, oob.oob_bytes() / 4);
        let count = usize::from(header.num_sge());
        let start = at.wrapping_mul(UNIT_WORDS);
        let mut index = start;
        let mut push = |word| {
            self.memory.store(index, word);
            index = index.wrapping_add(1);
        };
        push(header.into_bits());
        match oob {
            Wqe::Short(oob) => push(oob.into_bits()),
            Wqe::Long(oob) => oob.words().into_iter().for_each(&mut push),
        }
        for sge in sges.into_iter().take(count) {
            sge.words().into_iter().for_each(&mut push);
        }
        let size = oob.units(count);
        let end = start.wrapping_add(size * UNIT_WORDS);
        while index != end {
            self.memory.store(index, 0);
            index = index.wrapping_add(1);
        }
        size
    }

    /// Size in units and bytes of data of the WQE at cursor `at`, as its header and elements in the
    /// ring say. For errors: the ring is memory that a device reaches, so this is no more than a
    /// claim; the size is at least 1.
    #[must_use]
    pub fn read_back(&self, at: u32) -> (u32, u64) {
        let index = at.wrapping_mul(UNIT_WORDS);
        let header = WqeHeader::from_bits(self.memory.load(index));
        let oob_bytes = 4 * usize::from(header.inline_oob_size_div4());
        let sges = usize::from(header.num_sge());
        let first = index.wrapping_add(1 + oob_bytes as u32 / 8);
        let sizes =
            (0..sges as u32).map(|sge| self.memory.load(first.wrapping_add(2 * sge + 1)) >> 32);
        (units(oob_bytes, sges), sizes.sum())
    }

    /// Asks for the completion of the WQE at cursor `at`, which was written suppressed.
    #[inline]
    pub fn clear_suppress(&self, at: u32) {
        let index = at.wrapping_mul(UNIT_WORDS).wrapping_add(1);
        self.memory
            .store(index, self.memory.load(index) & !SUPPRESS);
    }

    /// Hands all WQEs before cursor `head` to the device: rings the doorbell with the cursor in
    /// bytes, truncated and not masked (§2.2).
    #[inline]
    pub fn commit(&mut self, head: u32) {
        debug_assert!(head.wrapping_sub(self.tail) <= self.capacity());
        let tail = head.wrapping_mul(UNIT as u32);
        self.doorbell.ring(self.bell.with_tail(tail).into_bits());
        self.head = head;
    }

    /// Takes back the units before cursor `tail`: their WQEs are complete.
    #[inline]
    pub fn release_to(&mut self, tail: u32) {
        debug_assert!(tail.wrapping_sub(self.tail) <= self.head.wrapping_sub(self.tail));
        self.tail = tail;
    }

    /// Starts both cursors elsewhere: for proofs across 2^32.
    #[cfg(all(test, not(mana_loom)))]
    pub(crate) fn set_cursors(&mut self, cursor: u32) {
        self.head = cursor;
        self.tail = cursor;
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
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
}
