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
#[path = "send_tests.rs"]
mod tests;
