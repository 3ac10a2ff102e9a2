//! The completion ring: whose entry is it, found out in one compare.

use core::sync::atomic::Ordering;

use crate::cqe::{Cqe, CqeTail, OWNER_SHIFT, TAIL_MASK, WORDS};
use crate::doorbell::{CompletionValue, Doorbell};
use crate::memory::{AtomicU64, Place, RingError, RingMemory, check_id};
use crate::owner::{initial_cursor, owner, stale};

/// The word of an entry that holds its last dword.
const TAIL_WORD: u32 = WORDS as u32 - 1;
/// Laps after which the device is told how far the consumer is. The hardware asks for that at least
/// every 8, and drivers do it every 4 (§2.8). A burst, at whose end it is decided, takes one more at
/// most: no more completions can be outstanding than there are entries.
const LAPS_PER_DOORBELL: u32 = 3;

/// What stands at a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Nothing yet.
    Empty,
    /// An entry of the queue this ring serves.
    Ready,
    /// An entry with the right owner that names another queue or kind.
    Foreign,
    /// The device overtook the consumer: entries were lost.
    Overflow,
}

/// The consumer's cursor and the last dword it expects there: state for the locals of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CqCursor {
    head: u32,
    expected: u32,
}

impl CqCursor {
    /// Free-running, in entries.
    #[inline]
    #[must_use]
    pub const fn head(self) -> u32 {
        self.head
    }
}

/// Neighbouring entries of a completion ring, all of one lap: for loops that look at one after the
/// other. Numbered from 0.
///
/// # Panics
///
/// Its methods, for an entry that is not there.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    entries: &'a [[AtomicU64; WORDS]],
    /// What the last word of an entry of ours is, under the mask.
    expected: u64,
}

/// One of [`Entries`].
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    words: &'a [AtomicU64; WORDS],
    expected: u64,
}

impl Entry<'_> {
    /// Whether it is one of ours: as [`CompletionRing::is_ready`].
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let tail = self.words[TAIL_WORD as usize].load(Ordering::Acquire);
        tail & TAIL_WORD_MASK == self.expected
    }

    /// Asks the processor for the line of the entry `ahead` places further on, or whatever lies there behind
    /// the end of the ring.
    #[inline]
    pub fn prefetch(&self, ahead: usize) {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = ahead;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64, and the instruction never faults, whatever the address is.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(self.words).wrapping_add(ahead).cast());
        }
    }

    /// 64-bit word `word` (0-7).
    #[inline]
    #[must_use]
    pub fn load(&self, word: usize) -> u64 {
        self.words[word & TAIL_WORD as usize].load(Ordering::Relaxed)
    }
}

/// Bits of an entry's first word that are its type. The client type beside it is not looked at: a CQ
/// of ours serves one queue of one client.
const TYPE_MASK: u64 = 0x3F;

/// [`TAIL_MASK`] in an entry's last word.
const TAIL_WORD_MASK: u64 = (TAIL_MASK as u64) << 32;

impl Entries<'_> {
    /// How many there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One after the other.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.entries.iter().map(|words| Entry {
            words,
            expected: self.expected,
        })
    }

    /// Whether entry `index` is one of ours: as [`CompletionRing::is_ready`].
    #[inline]
    #[must_use]
    pub fn is_ready(&self, index: usize) -> bool {
        let tail = self.entries[index][TAIL_WORD as usize].load(Ordering::Acquire);
        tail & TAIL_WORD_MASK == self.expected
    }

    /// How many of the first ones are of ours and of type `cqe_type`.
    #[inline]
    #[must_use]
    pub fn count_ready(&self, cqe_type: u8) -> usize {
        let is_it = |entry: &&[AtomicU64; WORDS]| {
            let tail = entry[TAIL_WORD as usize].load(Ordering::Acquire);
            tail & TAIL_WORD_MASK == self.expected
                && entry[0].load(Ordering::Relaxed) & TYPE_MASK == cqe_type.into()
        };
        self.entries.iter().take_while(is_it).count()
    }

    /// 64-bit word `word` (0-7) of entry `index`.
    #[inline]
    #[must_use]
    pub fn load(&self, index: usize, word: usize) -> u64 {
        self.entries[index][word & TAIL_WORD as usize].load(Ordering::Relaxed)
    }
}

/// Index of word `word` (0-7) of the entry at `cursor`. The ring's memory masks it.
#[inline]
const fn word_index(cursor: CqCursor, word: u32) -> u32 {
    cursor.head.wrapping_mul(WORDS as u32) | word
}

/// The consumer's side of a completion queue that serves one work queue.
#[derive(Debug)]
pub struct CompletionRing {
    memory: RingMemory,
    doorbell: Doorbell,
    id: u32,
    /// Base 2 logarithm of the number of entries.
    log2: u32,
    cursor: CqCursor,
    /// The last word of the entry that is watched.
    watched: Place,
    /// Where the last doorbell said the consumer is.
    told: u32,
    /// Entries after which the next one is due.
    tell_after: u32,
}

impl CompletionRing {
    /// A fresh ring of the completion queue `id` with `entries` entries that serves the send
    /// (`is_sq`) or receive queue `wq_id`.
    ///
    /// # Errors
    ///
    /// [`RingError::Id`] beyond 24 bits; [`RingError::Entries`] unless `entries` is a power of two
    /// of at least 64 that fits `memory`.
    ///
    /// # Safety
    ///
    /// `memory` was zero when the queue was created, and belongs with `doorbell` to the completion
    /// queue `id` of a device.
    pub unsafe fn new(
        memory: RingMemory,
        entries: u32,
        id: u32,
        wq_id: u32,
        is_sq: bool,
        doorbell: Doorbell,
    ) -> Result<Self, RingError> {
        if !entries.is_power_of_two() || entries < 64 || entries > memory.words() / WORDS as u32 {
            return Err(RingError::Entries(entries));
        }
        let (id, wq_id) = match (check_id(id), check_id(wq_id)) {
            (Ok(id), Ok(wq_id)) => (id, wq_id),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(Self::build(memory, entries, id, wq_id, is_sq, doorbell))
    }

    const fn build(
        memory: RingMemory,
        entries: u32,
        id: u32,
        wq_id: u32,
        is_sq: bool,
        doorbell: Doorbell,
    ) -> Self {
        let memory = memory.shortened(entries * WORDS as u32);
        let log2 = entries.trailing_zeros();
        let head = initial_cursor(entries);
        let expected = CqeTail::new()
            .with_wq_num(wq_id)
            .with_is_sq(is_sq)
            .with_owner(owner(head, log2));
        let cursor = CqCursor {
            head,
            expected: expected.into_bits(),
        };
        Self {
            watched: memory.place(word_index(cursor, TAIL_WORD)),
            memory,
            doorbell,
            id,
            log2,
            cursor,
            told: head,
            tell_after: LAPS_PER_DOORBELL << log2,
        }
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.memory.words() / WORDS as u32
    }

    /// The consumer's position, for the locals of a loop; [`CompletionRing::set_cursor`] puts it
    /// back.
    #[inline]
    #[must_use]
    pub const fn cursor(&self) -> CqCursor {
        self.cursor
    }

    /// Publishes the consumer's position; rings the unarmed doorbell often enough that no 4 laps
    /// pass without one (§2.8).
    #[inline]
    pub fn set_cursor(&mut self, cursor: CqCursor) {
        self.cursor = cursor;
        if cursor.head.wrapping_sub(self.told) >= self.tell_after {
            self.tell(false);
        }
    }

    /// Whether an entry of ours stands at `cursor`: owner, kind and queue in one compare. What
    /// [`CompletionRing::load`] reads afterwards is at least as new. If not, [`CompletionRing::look`]
    /// says what does.
    #[inline]
    #[must_use]
    pub fn is_ready(&self, cursor: CqCursor) -> bool {
        self.tail(cursor) & TAIL_MASK == cursor.expected
    }

    /// From now on [`CompletionRing::watched_owner`] looks at where the ring's own cursor is now, which it
    /// does not follow. Returns the owner bits (0-7) that it finds there for as long as
    /// [`CompletionRing::look`] finds nothing.
    #[inline]
    pub fn watch(&mut self) -> u8 {
        self.watched = self.memory.place(word_index(self.cursor, TAIL_WORD));
        stale(owner_bits(self.cursor.expected))
    }

    /// The owner bits (0-7) that stand where the ring is watched, at first at its first entry. Of an idle
    /// ring this is the least that can be asked: two loads that wait for each other.
    #[inline]
    #[must_use]
    pub fn watched_owner(&self) -> u8 {
        // SAFETY: `build` and `watch`, which alone set the place, get it from this memory, after it was
        // shortened to the ring; the ring never exchanges its memory.
        let word = unsafe { self.memory.load_place(self.watched) };
        owner_bits((word >> 32) as u32)
    }

    /// What stands at `cursor`, in full.
    #[inline]
    #[must_use]
    pub fn look(&self, cursor: CqCursor) -> Polled {
        let tail = self.tail(cursor);
        if tail & TAIL_MASK == cursor.expected {
            return Polled::Ready;
        }
        let [found, wanted] = [tail, cursor.expected].map(owner_bits);
        if found == stale(wanted) {
            Polled::Empty
        } else if found == wanted {
            Polled::Foreign
        } else {
            Polled::Overflow
        }
    }

    /// 64-bit word `index` (0-7) of the entry at `cursor`.
    #[inline]
    #[must_use]
    pub fn load(&self, cursor: CqCursor, index: u32) -> u64 {
        self.memory.load(word_index(cursor, index & TAIL_WORD))
    }

    /// A copy of the entry at `cursor`.
    #[must_use]
    pub fn cqe(&self, cursor: CqCursor) -> Cqe {
        Cqe {
            words: core::array::from_fn(|index| self.load(cursor, index as u32)),
        }
    }

    /// The next position. The owner bits change at a wrap only.
    #[inline]
    #[must_use]
    pub const fn next(&self, cursor: CqCursor) -> CqCursor {
        let head = cursor.head.wrapping_add(1);
        let first = word_index(CqCursor { head, ..cursor }, 0);
        let expected = if self.memory.is_start(first) {
            // The owner bits are the topmost: counting up leaves queue and kind alone, and the
            // eighth lap is followed by owner 0.
            cursor.expected.wrapping_add(1 << OWNER_SHIFT)
        } else {
            cursor.expected
        };
        CqCursor { head, expected }
    }

    /// The entries from `cursor` on, up to `count`, as far as the end of the ring.
    #[inline]
    #[must_use]
    pub fn ahead(&self, cursor: CqCursor, count: usize) -> Entries<'_> {
        Entries {
            entries: self.memory.entries(cursor.head, count),
            expected: u64::from(cursor.expected) << 32,
        }
    }

    /// The position `count` entries further.
    #[inline]
    #[must_use]
    pub const fn skip(&self, cursor: CqCursor, count: u32) -> CqCursor {
        let head = cursor.head.wrapping_add(count);
        // As in `next`: the laps in between, modulo 8.
        let laps = (head >> self.log2).wrapping_sub(cursor.head >> self.log2);
        let expected = cursor.expected.wrapping_add(laps << OWNER_SHIFT);
        CqCursor { head, expected }
    }

    /// Asks for an event when an entry arrives that was not consumed yet (§2.8).
    pub fn arm(&mut self) {
        self.tell(true);
    }

    #[cold]
    fn tell(&mut self, arm: bool) {
        self.told = self.cursor.head;
        // §2.7: "CQ/EQ tail = head % (count << 3) entries".
        let tail = self.cursor.head & ((8 << self.log2) - 1);
        let value = CompletionValue::at(self.id, tail).with_arm(arm);
        self.doorbell.ring(value.into_bits());
    }

    /// The last dword of the entry at `cursor`, before everything read later.
    #[inline]
    fn tail(&self, cursor: CqCursor) -> u32 {
        (self.memory.load_acquire(word_index(cursor, TAIL_WORD)) >> 32) as u32
    }

    /// Starts elsewhere: for proofs across 2^32.
    #[cfg(all(test, not(mana_loom)))]
    pub(crate) fn start_at(&mut self, head: u32) {
        let expected = CqeTail::from_bits(self.cursor.expected)
            .with_owner(owner(head, self.log2))
            .into_bits();
        self.cursor = CqCursor { head, expected };
        self.told = head;
    }
}

/// The owner bits of an entry's last dword.
#[inline]
const fn owner_bits(dword: u32) -> u8 {
    (dword >> OWNER_SHIFT) as u8
}

#[cfg(all(test, not(mana_loom)))]
#[path = "completion_tests.rs"]
mod tests;

#[cfg(all(test, mana_loom))]
#[path = "completion_loom.rs"]
mod loom;
