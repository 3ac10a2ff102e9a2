//! Ring memory: the only way by which the driver reads and writes what a device reaches.

#[cfg(not(mana_loom))]
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

#[cfg(not(mana_loom))]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(mana_loom)]
pub(crate) use loom::sync::atomic::AtomicU64;

/// Smallest ring in bytes; "required by hardware" (§2.1).
pub const MIN_RING: usize = 4096;

/// Why a ring can't be built over some memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// The size is no power of two of at least 4096 bytes, or beyond what cursors can count.
    Size(usize),
    /// A queue id does not fit the 24 bits of doorbells and CQEs.
    Id(u32),
    /// The number of entries is no power of two of at least 64, or more than the memory holds.
    Entries(u32),
    /// A receive WQE has 1 to 15 elements.
    Segments(u32),
}

impl core::fmt::Display for RingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size(size) => {
                write!(
                    f,
                    "a ring of {size} bytes: it takes a power of two from {MIN_RING} to 2^31"
                )
            }
            Self::Id(id) => write!(f, "queue id {id:#x} does not fit 24 bits"),
            Self::Entries(entries) => write!(
                f,
                "a completion queue of {entries} entries: it takes a power of two of at least 64 \
                 that fits its memory"
            ),
            Self::Segments(segments) => {
                write!(
                    f,
                    "{segments} buffers a packet: a receive WQE takes 1 to 15"
                )
            }
        }
    }
}

impl core::error::Error for RingError {}

/// A power-of-two number of 64-bit words that a device reads and writes at the same time.
///
/// Every access is one 64-bit atomic, relaxed unless the name says otherwise, on both sides. No
/// reference to the memory exists, only this pointer, so neither side can assume anything about
/// words the other one owns. Indexes are masked: none is out of bounds.
#[derive(Debug)]
pub struct RingMemory {
    #[cfg(not(mana_loom))]
    base: NonNull<AtomicU64>,
    #[cfg(mana_loom)]
    base: std::sync::Arc<[AtomicU64]>,
    mask: u32,
}

// SAFETY: all accesses are atomic, so they may come from any thread; `RingMemory::new` requires that
// the memory stays valid while the value exists, whichever thread holds it.
#[cfg(not(mana_loom))]
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// The ring of `bytes` bytes at `base`.
    ///
    /// # Errors
    ///
    /// [`RingError::Size`] unless `bytes` is a power of two from 4096 to 2^31.
    ///
    /// # Safety
    ///
    /// `base` is 8-byte aligned and valid for reads and writes of `bytes` bytes until the value is
    /// dropped, and nothing in this program reaches that memory but through 64-bit atomics.
    #[cfg(not(mana_loom))]
    pub const unsafe fn new(base: NonNull<u64>, bytes: usize) -> Result<Self, RingError> {
        if !bytes.is_power_of_two() || bytes < MIN_RING || bytes > 1 << 31 {
            return Err(RingError::Size(bytes));
        }
        Ok(Self {
            base: base.cast(),
            mask: (bytes / 8 - 1) as u32,
        })
    }

    /// The ring made of loom's atomics, of any power-of-two size.
    #[cfg(mana_loom)]
    pub fn from_words(words: std::sync::Arc<[AtomicU64]>) -> Self {
        assert!(words.len().is_power_of_two());
        let mask = (words.len() - 1) as u32;
        Self { base: words, mask }
    }

    /// Number of words.
    #[inline]
    #[must_use]
    pub const fn words(&self) -> u32 {
        self.mask + 1
    }

    /// The same memory as a smaller ring: its first `words`, a power of two from 4.
    pub(crate) const fn shortened(mut self, words: u32) -> Self {
        debug_assert!(words.is_power_of_two() && words >= 4 && words <= self.words());
        self.mask = words - 1;
        self
    }

    /// `index` modulo the size. That is `index & mask`; said in two parts, of which the lower one is
    /// never masked away (a size is a multiple of 4 words), so that the compiler sees the words of a
    /// unit as neighbours and masks once for all of them.
    #[inline]
    const fn masked(&self, index: u32) -> usize {
        (index & self.mask & !3 | index & 3) as usize
    }

    /// Whether `index` is 0 modulo the size.
    #[inline]
    pub(crate) const fn is_start(&self, index: u32) -> bool {
        index & self.mask == 0
    }

    /// Entry `at` (modulo the ring) of `N` words.
    ///
    /// `N` is a power of two that is at most the size.
    #[cfg(not(mana_loom))]
    #[inline]
    pub(crate) fn entry<const N: usize>(&self, at: u32) -> &[AtomicU64; N] {
        const { assert!(N.is_power_of_two() && N <= MIN_RING / 8) };
        let first = self.masked(at.wrapping_mul(N as u32));
        // SAFETY: the masked index is below the number of words and a multiple of `N`, as that number
        // is, so all words of the entry are below it, too; the rest is as for `entries`.
        unsafe { self.base.add(first).cast().as_ref() }
    }

    #[cfg(mana_loom)]
    pub(crate) fn entry<const N: usize>(&self, at: u32) -> &[AtomicU64; N] {
        &self.entries(at, 1)[0]
    }

    /// Neighbours: up to `count` entries of `N` words each from entry `at` on (modulo the ring), as far
    /// as the end of the ring. For loops, which need neither mask nor check then.
    ///
    /// `N` is a power of two that is at most the size.
    #[cfg(not(mana_loom))]
    #[inline]
    pub(crate) fn entries<const N: usize>(&self, at: u32, count: usize) -> &[[AtomicU64; N]] {
        const { assert!(N.is_power_of_two() && N <= MIN_RING / 8) };
        let (first, count) = self.neighbours(N as u32, at, count);
        // SAFETY: `first + count` is at most the number of entries, so all their words are below the
        // number of words, which `new`'s contract makes valid and aligned for as long as `self`
        // exists; an array of atomics is laid out as they are side by side. Atomics may alias what a
        // device or another thread changes; `new` requires that they do so atomically.
        unsafe {
            let entries = self.base.as_ptr().cast::<[AtomicU64; N]>();
            core::slice::from_raw_parts(entries.add(first as usize), count)
        }
    }

    #[cfg(mana_loom)]
    pub(crate) fn entries<const N: usize>(&self, at: u32, count: usize) -> &[[AtomicU64; N]] {
        let (first, count) = self.neighbours(N as u32, at, count);
        let words = &self.base[first as usize * N..][..count * N];
        words.as_chunks().0
    }

    /// The first of these entries, and how many there are.
    #[inline]
    fn neighbours(&self, words: u32, at: u32, count: usize) -> (u32, usize) {
        let entries = self.words() / words;
        let first = at & (entries - 1);
        (first, count.min((entries - first) as usize))
    }

    #[cfg(not(mana_loom))]
    #[inline]
    fn word(&self, index: u32) -> &AtomicU64 {
        // SAFETY: the masked index is below the number of words, which `new`'s contract makes valid
        // and aligned for as long as `self` exists. An `&AtomicU64` may alias what a device or
        // another thread changes; `new` requires that they do so atomically.
        unsafe { self.base.add(self.masked(index)).as_ref() }
    }

    #[cfg(mana_loom)]
    fn word(&self, index: u32) -> &AtomicU64 {
        &self.base[self.masked(index)]
    }

    /// Word `index` modulo the size.
    #[inline]
    #[must_use]
    pub fn load(&self, index: u32) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    /// Word `index` modulo the size, before every later access.
    #[inline]
    #[must_use]
    pub fn load_acquire(&self, index: u32) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes word `index` modulo the size.
    #[inline]
    pub fn store(&self, index: u32, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Writes word `index` modulo the size, after every earlier access. What a producer of CQEs does
    /// with an entry's last word.
    #[inline]
    pub fn store_release(&self, index: u32, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }
}

/// Index of a word that is within one memory: to read it needs neither mask nor check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

impl RingMemory {
    /// Where word `index` modulo the size is.
    #[inline]
    pub(crate) const fn place(&self, index: u32) -> Place {
        Place(self.masked(index))
    }

    /// The word at `place`, before every later access.
    ///
    /// # Safety
    ///
    /// `place` is one of this memory's.
    #[inline]
    pub(crate) unsafe fn load_place(&self, place: Place) -> u64 {
        #[cfg(mana_loom)]
        let word = &self.base[place.0];
        // SAFETY: what `place` made is below the number of words, of which none was ever taken away but
        // by `shortened`, which leaves them valid; the rest is as for `word`.
        #[cfg(not(mana_loom))]
        let word = unsafe { self.base.add(place.0).as_ref() };
        word.load(Ordering::Acquire)
    }
}

/// Refuses ids that don't fit doorbells.
pub(crate) const fn check_id(id: u32) -> Result<u32, RingError> {
    if id >> 24 == 0 {
        Ok(id)
    } else {
        Err(RingError::Id(id))
    }
}

/// Memory for tests: a page-aligned ring of zeros that both sides of a test reach by atomics.
#[cfg(all(test, not(mana_loom)))]
pub(crate) mod test_memory {
    use super::*;

    #[repr(align(4096))]
    struct Page([AtomicU64; 512]);

    /// Owns the words of a ring.
    pub(crate) struct Memory(Box<[Page]>);

    impl Memory {
        pub(crate) fn new(bytes: usize) -> Self {
            let page = || Page([const { AtomicU64::new(0) }; 512]);
            Self((0..bytes / 4096).map(|_| page()).collect())
        }

        pub(crate) fn words(&self) -> impl Iterator<Item = &AtomicU64> {
            self.0.iter().flat_map(|page| &page.0)
        }

        pub(crate) fn base(&self) -> NonNull<u64> {
            NonNull::from(&self.0[0]).cast()
        }

        /// The bytes as a device would read them.
        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.words()
                .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
                .collect()
        }

        pub(crate) fn ring(&self) -> RingMemory {
            // SAFETY: the pages are aligned, hold atomics, and every test keeps `self` longer.
            unsafe { RingMemory::new(self.base(), self.0.len() * 4096) }.unwrap()
        }
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::test_memory::Memory;
    use super::*;

    #[test]
    fn indexes_wrap_at_the_size() {
        let memory = Memory::new(8192);
        let ring = memory.ring();
        ring.store(1024 + 3, 7);
        assert_eq!(
            (
                ring.load(3),
                ring.load_acquire(u32::MAX - 1020),
                ring.words()
            ),
            (7, 7, 1024)
        );
    }

    #[test]
    fn neighbours_end_where_the_ring_does() {
        let memory = Memory::new(4096);
        let ring = memory.ring();
        (0..512).for_each(|word| ring.store(word, word.into()));
        // (entry asked for, number of entries, first word, entries there are)
        let cases = [
            (0, 200, 0, 128),
            (0, 5, 0, 5),
            (126, 5, 504, 2),
            (127, 1, 508, 1),
            (128, 3, 0, 3),
            (u32::MAX, 3, 508, 1),
            (7, 0, 28, 0),
        ];
        for (at, count, first, there) in cases {
            let entries = ring.entries::<4>(at, count);
            assert_eq!(entries.len(), there, "{count} from {at}");
            let words = entries.iter().flatten();
            let words: Vec<_> = words.map(|word| word.load(Ordering::Relaxed)).collect();
            let expected: Vec<_> = (first..first + 4 * there as u64).collect();
            assert_eq!(words, expected, "{count} from {at}");
        }
    }

    /// §2.1: "Min ring size 4096 B, power of two".
    #[test]
    fn sizes_that_hardware_refuses_are_refused() {
        let memory = Memory::new(8192);
        for bytes in [0, 64, 2048, 4097, 6144, (1 << 31) + 1, 1 << 32] {
            // SAFETY: construction must fail, so nothing is accessed.
            let ring = unsafe { RingMemory::new(memory.base(), bytes) };
            assert_eq!(ring.err(), Some(RingError::Size(bytes)));
        }
        assert_eq!(check_id(1 << 24), Err(RingError::Id(1 << 24)));
    }
}
