//! The receive ring of packets in several buffers: one WQE a packet, with an element a buffer.

use crate::doorbell::{Doorbell, ReceiveValue};
use crate::memory::{RingError, RingMemory, check_id};
use crate::oob::SHORT;
use crate::wqe::{MAX_RX_SGES, Sge, UNIT, WqeHeader, units};

/// Words of a unit.
const UNIT_WORDS: u32 = (UNIT / 8) as u32;
/// Words of an element.
const SGE_WORDS: u32 = 2;
/// Word of a WQE that holds the first buffer's address: behind header and OOB.
const ADDRESS_WORD: u32 = 2;

/// The producer's side of a receive queue whose WQEs have the same number of elements each (§3.5: up
/// to 15; "one packet always uses one WQE").
///
/// A WQE of several units begins at another place in every lap, so each is written whole. Its list
/// of elements may wrap to the start of the ring between two elements (§2.3). Cursors are in units,
/// as in [`crate::SendRing`].
#[derive(Debug)]
pub struct ScatterRing {
    memory: RingMemory,
    doorbell: Doorbell,
    id: u32,
    head: u32,
    header: u64,
    /// Key and size, of every element the same.
    rest: u64,
    units: u32,
    segments: u32,
}

impl ScatterRing {
    /// A fresh ring of the receive queue `id` for packets of `segments` buffers (1 to 15) of `size`
    /// bytes each, registered under `key`.
    ///
    /// # Errors
    ///
    /// [`RingError::Id`] beyond 24 bits, [`RingError::Segments`] where no WQE has that many elements.
    ///
    /// # Safety
    ///
    /// `memory` and `doorbell` belong to the receive queue `id` of a device. At every address that
    /// the caller commits, `size` bytes are registered under `key`, and stay alive and unaliased
    /// until that WQE has completed or the queue was destroyed.
    pub unsafe fn new(
        memory: RingMemory,
        id: u32,
        doorbell: Doorbell,
        key: u32,
        size: u32,
        segments: u32,
    ) -> Result<Self, RingError> {
        if segments == 0 || segments > MAX_RX_SGES as u32 {
            return Err(RingError::Segments(segments));
        }
        let [_, rest] = Sge {
            address: 0,
            key,
            size,
        }
        .words();
        Ok(Self {
            memory,
            doorbell,
            id: check_id(id)?,
            head: 0,
            header: WqeHeader::plain(SHORT, segments as usize).into_bits(),
            rest,
            units: units(SHORT, segments as usize),
            segments,
        })
    }

    /// Packets for which the ring has WQEs.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.memory.words() / UNIT_WORDS / self.units
    }

    /// Units of a WQE.
    #[must_use]
    pub const fn units(&self) -> u32 {
        self.units
    }

    /// Cursor behind the last committed WQE.
    #[must_use]
    pub const fn head(&self) -> u32 {
        self.head
    }

    /// Writes the address of buffer `segment` of the WQE at cursor `at`, with the first also what
    /// precedes the list. All buffers of a WQE must be written before it is committed.
    #[inline]
    pub fn set_address(&self, at: u32, segment: u32, address: u64) {
        debug_assert!(segment < self.segments);
        let first = at.wrapping_mul(UNIT_WORDS);
        if segment == 0 {
            self.memory.store(first, self.header);
            // The OOB of a receive WQE has no content but its room (§2.3).
            self.memory.store(first.wrapping_add(1), 0);
        }
        let index = first.wrapping_add(ADDRESS_WORD + SGE_WORDS * segment);
        self.memory.store(index, address);
        self.memory.store(index.wrapping_add(1), self.rest);
    }

    /// Hands all WQEs before cursor `head` to the device. `wqe_cnt` is zero (§2.7).
    #[inline]
    pub fn commit(&mut self, head: u32) {
        self.head = head;
        let tail = head.wrapping_mul(UNIT as u32);
        self.doorbell
            .ring(ReceiveValue::at(self.id, tail).into_bits());
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use core::ptr::NonNull;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;
    use crate::memory::test_memory::Memory;

    fn ring(memory: &Memory, cell: &AtomicU64, segments: u32) -> Result<ScatterRing, RingError> {
        let doorbell = NonNull::from(cell).cast();
        // SAFETY: the cell is aligned, atomic and outlives the ring; there is no device.
        unsafe {
            ScatterRing::new(
                memory.ring(),
                3,
                Doorbell::new(doorbell),
                0x55,
                2048,
                segments,
            )
        }
    }

    /// §2.3: dw1 0-7 num_sge, 8-10 OOB dwords (2); "WQE size = align32(8 + oob + 16*max(1,num_sge))".
    #[test]
    fn a_wqe_has_header_room_for_an_oob_and_an_element_a_buffer() {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        let mut ring = ring(&memory, &cell, 5).unwrap();
        // 8 + 8 + 80 bytes in units of 32; 128 units in the ring.
        assert_eq!((ring.units(), ring.capacity()), (3, 42));
        for segment in 0..5 {
            ring.set_address(6, segment, 0x1000 + u64::from(segment));
        }
        let mut expected = vec![0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for segment in 0..5u64 {
            expected.extend((0x1000 + segment).to_le_bytes());
            expected.extend([0x55, 0, 0, 0, 0, 8, 0, 0]);
        }
        assert_eq!(memory.bytes()[6 * 32..][..96], expected);
        ring.commit(9);
        // §2.7: the queue in bits 0-23, wqe_cnt 0, the tail in bytes from bit 32 on.
        assert_eq!(cell.load(Relaxed).to_le_bytes(), [3, 0, 0, 0, 32, 1, 0, 0]);
    }

    #[test]
    fn numbers_of_buffers_that_no_wqe_has_are_refused() {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        for bad in [0, 16, u32::MAX] {
            assert_eq!(
                ring(&memory, &cell, bad).unwrap_err(),
                RingError::Segments(bad)
            );
        }
        // §2.1: the largest receive WQE has 256 bytes.
        assert_eq!(ring(&memory, &cell, 15).unwrap().units(), 8);
    }

    proptest! {
        /// §2.3: "The SGL may wrap to offset 0 of the ring, at 16-byte granularity".
        #[test]
        fn wqes_are_whole_wherever_they_begin(
            start in prop_oneof![Just(0u32), u32::MAX - 400..=u32::MAX, any::<u32>()],
            segments in 1u32..=15,
            count in 1u32..=16,
        ) {
            let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
            let mut ring = ring(&memory, &cell, segments).unwrap();
            ring.head = start;
            let count = count.min(ring.capacity());
            for number in 0..count {
                let at = start.wrapping_add(number * ring.units());
                for segment in 0..segments {
                    ring.set_address(at, segment, u64::from(number << 8 | segment));
                }
            }
            let bytes = memory.bytes();
            let word = |offset: u128| {
                let at = (offset % 4096) as usize;
                u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
            };
            for number in 0..count {
                let at = (u128::from(start) + u128::from(number * ring.units())) * 32;
                prop_assert_eq!(word(at), u64::from(0x200 | segments) << 32);
                prop_assert_eq!(word(at + 8), 0);
                for segment in 0..segments {
                    let at = at + 16 + 16 * u128::from(segment);
                    prop_assert_eq!(word(at), u64::from(number << 8 | segment));
                    prop_assert_eq!(word(at + 8), 0x55 | 2048 << 32);
                }
            }
        }
    }
}
