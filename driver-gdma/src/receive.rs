//! The receive ring: one buffer a WQE, one unit a WQE.

use core::sync::atomic::Ordering;

use crate::doorbell::{Doorbell, ReceiveValue};
use crate::memory::{AtomicU64, RingError, RingMemory, check_id};
use crate::oob::SHORT;
use crate::wqe::{Sge, UNIT, WqeHeader};

/// Words of a unit.
const UNIT_WORDS: u32 = (UNIT / 8) as u32;
/// Word of a unit that holds the buffer's address: behind header and OOB.
const ADDRESS_WORD: usize = 2;

/// Neighbouring prebuilt WQEs of a receive ring.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveWqes<'a>(&'a [[AtomicU64; UNIT_WORDS as usize]]);

impl ReceiveWqes<'_> {
    /// How many there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All but the first `count`; none, if there are no more.
    #[inline]
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        Self(self.0.get(count..).unwrap_or(&[]))
    }

    /// Writes the addresses of buffers, `N` a turn of the loop, from the first WQE on: as many whole
    /// groups as there are of both.
    #[inline]
    pub fn set_addresses<const N: usize>(self, addresses: impl Iterator<Item = [u64; N]>) {
        let (groups, _) = self.0.as_chunks::<N>();
        for (wqes, addresses) in groups.iter().zip(addresses) {
            for (wqe, address) in wqes.iter().zip(addresses) {
                wqe[ADDRESS_WORD].store(address, Ordering::Relaxed);
            }
        }
    }
}

/// The producer's side of a receive queue whose WQEs have one element each.
///
/// Header, OOB, key and size of every unit are constant and written once ([`ReceiveRing::new`]);
/// posting a buffer writes the 8 bytes of its address. Cursors as in [`crate::SendRing`].
#[derive(Debug)]
pub struct ReceiveRing {
    memory: RingMemory,
    doorbell: Doorbell,
    id: u32,
    head: u32,
}

impl ReceiveRing {
    /// A fresh ring of the receive queue `id` for buffers of `size` bytes registered under `key`.
    ///
    /// # Errors
    ///
    /// [`RingError::Id`] beyond 24 bits.
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
    ) -> Result<Self, RingError> {
        let id = check_id(id)?;
        // The OOB of a receive WQE has no content but its room (§2.3).
        let header = WqeHeader::plain(SHORT, 1).into_bits();
        let [address, rest] = Sge {
            address: 0,
            key,
            size,
        }
        .words();
        for unit in 0..memory.words() / UNIT_WORDS {
            for (offset, word) in [header, 0, address, rest].into_iter().enumerate() {
                memory.store(unit * UNIT_WORDS + offset as u32, word);
            }
        }
        Ok(Self {
            memory,
            doorbell,
            id,
            head: 0,
        })
    }

    /// Size in units, which is in buffers.
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

    /// Up to `count` WQEs from cursor `at` on, as far as the end of the ring.
    #[inline]
    #[must_use]
    pub fn wqes(&self, at: u32, count: usize) -> ReceiveWqes<'_> {
        ReceiveWqes(self.memory.entries(at, count))
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

    fn set_address(ring: &ReceiveRing, at: u32, address: u64) {
        let wqes = ring.wqes(at, 3);
        let units = ring.capacity();
        assert_eq!(wqes.len() as u32, 3.min(units - at % units));
        assert!(!wqes.is_empty() && wqes.skip(wqes.len()).is_empty() && wqes.skip(4).is_empty());
        wqes.set_addresses([[address]].into_iter());
    }

    /// §2.3: "A 1-SGE RX WQE is therefore exactly 32 B: 8 header + 8 OOB + 16 SGE"; "the size field
    /// still says 2"; §2.7: "wqe_cnt must be 0 for Ethernet".
    #[test]
    fn posting_writes_one_address_into_a_prebuilt_wqe() {
        let (memory, cell) = (Memory::new(4096), AtomicU64::new(0));
        let doorbell = NonNull::from(&cell).cast();
        // SAFETY: the cell is aligned, atomic and outlives the ring; there is no device.
        let ring =
            unsafe { ReceiveRing::new(memory.ring(), 0xABCD, Doorbell::new(doorbell), 0x55, 2048) };
        let mut ring = ring.unwrap();
        assert_eq!(ring.capacity(), 128);
        for cursor in [0, 127, 128 + 5, u32::MAX] {
            set_address(&ring, cursor, 0x1000 + u64::from(cursor));
        }
        let bytes = memory.bytes();
        for unit in 0..128u64 {
            let posted = [
                (0, 0x1000),
                (127, 0x1000 + u64::from(u32::MAX)),
                (5, 0x1000 + 133),
            ];
            let address = posted
                .iter()
                .find(|(at, _)| *at == unit)
                .map_or(0, |(_, value)| *value);
            let mut expected = vec![0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            expected.extend(address.to_le_bytes());
            expected.extend([0x55, 0, 0, 0, 0, 8, 0, 0]);
            assert_eq!(bytes[unit as usize * 32..][..32], expected, "unit {unit}");
        }
        ring.commit(0x0800_0001);
        assert_eq!(
            cell.load(Relaxed).to_le_bytes(),
            [0xCD, 0xAB, 0, 0, 32, 0, 0, 0]
        );
        assert_eq!(ring.head(), 0x0800_0001);
    }

    proptest! {
        /// §2.2: "ring offset in bytes is (head*32) & (size-1)", "Doorbell value is head*32 in bytes,
        /// truncated to u32"; §2.3: the address stands behind 8 bytes of header and 8 of OOB.
        #[test]
        fn buffers_go_to_the_units_of_their_cursors_across_wraps(
            start in prop_oneof![
                Just(0u32),
                u32::MAX - 400..=u32::MAX,
                0x7FFF_FF00..=0x8000_0100u32,
                any::<u32>(),
            ],
            log2 in 12u32..=14,
            bursts in prop::collection::vec(1u32..=128, 1..20),
        ) {
            let (memory, cell) = (Memory::new(1 << log2), AtomicU64::new(0));
            let doorbell = NonNull::from(&cell).cast();
            // SAFETY: the cell is aligned, atomic and outlives the ring; there is no device.
            let ring = unsafe {
                ReceiveRing::new(memory.ring(), 3, Doorbell::new(doorbell), 0x55, 2048)
            };
            let mut ring = ring.unwrap();
            ring.head = start;
            let mut cursor = u128::from(start);
            for burst in bursts {
                let from = ring.head();
                for i in 0..burst {
                    set_address(&ring, from.wrapping_add(i), cursor as u64 + u64::from(i) + 1);
                }
                ring.commit(from.wrapping_add(burst));
                let bytes = memory.bytes();
                for i in 0..u128::from(burst) {
                    let place = ((cursor + i) * 32 % (1 << log2)) as usize + 16;
                    prop_assert_eq!(&bytes[place..][..8], &((cursor + i) as u64 + 1).to_le_bytes());
                }
                cursor += u128::from(burst);
                prop_assert_eq!(u128::from(cell.load(Relaxed) >> 32), cursor * 32 % (1 << 32));
                prop_assert_eq!(cell.load(Relaxed) as u32, 3);
            }
        }
    }
}
