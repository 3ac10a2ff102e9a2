//! Memory that is reached by the addresses of a bus: a guest's, behind an IOMMU.

use std::fmt;
use std::sync::Arc;

/// Memory that a device reaches by the addresses of a bus. What is mapped may change at any time, so
/// every access may fail.
pub trait BusMemory: Send + Sync {
    /// Copies from `address` on. `None` if not all of it is mapped and readable; what `bytes` then
    /// holds is of no meaning.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()>;

    /// Copies to `address`. `None` if not all of it is mapped and writable; a part may be written then.
    fn write(&self, address: u64, bytes: &[u8]) -> Option<()>;

    /// The word at `address`, in one load. `None` if it is not mapped or `address` no multiple of 8.
    fn load(&self, address: u64) -> Option<u64>;

    /// Writes an entry of a ring, each word with one store, the last one last and with release: who
    /// sees it sees all others. `None`, and nothing written, if not all of it is mapped and writable
    /// or `address` is no multiple of 8.
    fn store_entry(&self, address: u64, words: &[u64]) -> Option<()>;
}

/// Bytes of the smallest page (reference/mana-hardware.md §6.5, page type 0).
const PAGE_BITS: u32 = 12;

/// A stretch of bus memory whose pages are scattered: what CREATE_DMA_REGION describes.
#[derive(Clone)]
pub struct BusPages {
    memory: Arc<dyn BusMemory>,
    /// Addresses of the pages.
    pages: Arc<[u64]>,
    /// The size of a page is two to the power of it.
    page_bits: u32,
    /// Where in the first page the stretch begins.
    first: u64,
    len: u64,
}

impl BusPages {
    /// The `len` bytes that begin `first` bytes behind the start of the first of `pages`, which are
    /// `1 << page_bits` bytes long. `None` unless the pages are aligned to their size and are as many
    /// as the stretch needs, and it has at least a byte.
    #[must_use]
    pub fn new(
        memory: Arc<dyn BusMemory>,
        pages: Vec<u64>,
        page_bits: u32,
        first: u64,
        len: u64,
    ) -> Option<Self> {
        let size = 1_u64
            .checked_shl(page_bits)
            .filter(|_| page_bits >= PAGE_BITS)?;
        let end = first.checked_add(len).filter(|_| len > 0 && first < size)?;
        let right = end.div_ceil(size) == pages.len() as u64
            && pages.iter().all(|page| page & (size - 1) == 0);
        right.then(|| Self {
            memory,
            pages: pages.into(),
            page_bits,
            first,
            len,
        })
    }

    /// One page of 4 KiB at `address`; `None` unless it is aligned.
    #[must_use]
    pub fn page(memory: Arc<dyn BusMemory>, address: u64) -> Option<Self> {
        Self::new(memory, vec![address], PAGE_BITS, 0, 1 << PAGE_BITS)
    }

    /// Bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it has at least a byte")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it begins where a page begins, as rings must.
    #[must_use]
    pub fn is_page_aligned(&self) -> bool {
        self.first == 0
    }

    /// Where the byte at `offset` stands on the bus, and how many follow it in its page, itself
    /// included.
    #[inline]
    fn locate(&self, offset: u64) -> Option<(u64, u64)> {
        if offset >= self.len {
            return None;
        }
        let at = self.first + offset;
        let mask = (1 << self.page_bits) - 1;
        let page = self.pages.get((at >> self.page_bits) as usize)?;
        Some((page + (at & mask), mask + 1 - (at & mask)))
    }

    /// The word at byte `offset`.
    #[inline]
    #[must_use]
    pub fn load(&self, offset: u64) -> Option<u64> {
        let (address, left) = self.locate(offset)?;
        let fits = left >= 8 && self.len - offset >= 8;
        self.memory.load(address).filter(|_| fits)
    }

    /// Writes an entry of a ring at byte `offset`, as [`BusMemory::store_entry`]; one that crosses the
    /// end of a page is `None`.
    #[inline]
    pub fn store_entry(&self, offset: u64, words: &[u64]) -> Option<()> {
        let size = size_of_val(words) as u64;
        let (address, left) = self.locate(offset)?;
        if left < size || self.len - offset < size {
            return None;
        }
        self.memory.store_entry(address, words)
    }

    /// Copies bytes from `offset` on, page by page.
    pub fn read(&self, mut offset: u64, mut bytes: &mut [u8]) -> Option<()> {
        self.holds(offset, bytes.len())?;
        while !bytes.is_empty() {
            let (address, left) = self.locate(offset)?;
            let now = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (piece, rest) = bytes.split_at_mut(now);
            self.memory.read(address, piece)?;
            (bytes, offset) = (rest, offset + now as u64);
        }
        Some(())
    }

    /// Copies bytes to `offset`, page by page.
    pub fn write(&self, mut offset: u64, mut bytes: &[u8]) -> Option<()> {
        self.holds(offset, bytes.len())?;
        while !bytes.is_empty() {
            let (address, left) = self.locate(offset)?;
            let now = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (piece, rest) = bytes.split_at(now);
            self.memory.write(address, piece)?;
            (bytes, offset) = (rest, offset + now as u64);
        }
        Some(())
    }

    fn holds(&self, offset: u64, len: usize) -> Option<()> {
        let end = offset.checked_add(len as u64)?;
        (end <= self.len).then_some(())
    }
}

impl fmt::Debug for BusPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusPages")
            .field("pages", &self.pages.len())
            .field("page_bits", &self.page_bits)
            .field("first", &self.first)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// Zeroed pages of 4 KiB at consecutive bus addresses, which can be unmapped.
    pub(crate) struct Pages {
        base: u64,
        words: Vec<AtomicU64>,
        mapped: AtomicBool,
    }

    impl Pages {
        pub(crate) fn new(base: u64, pages: usize) -> Self {
            let words = (0..pages * 512).map(|_| AtomicU64::new(0)).collect();
            let mapped = AtomicBool::new(true);
            Self {
                base,
                words,
                mapped,
            }
        }

        pub(crate) fn unmap(&self) {
            self.mapped.store(false, Ordering::Relaxed);
        }

        fn word(&self, address: u64) -> Option<&AtomicU64> {
            let index = address.checked_sub(self.base)? / 8;
            let mapped = self.mapped.load(Ordering::Relaxed);
            self.words.get(index as usize).filter(|_| mapped)
        }
    }

    impl BusMemory for Pages {
        fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
            for (byte, at) in bytes.iter_mut().zip(address..) {
                *byte = self.load(at & !7)?.to_le_bytes()[(at & 7) as usize];
            }
            Some(())
        }

        fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
            for (byte, at) in bytes.iter().zip(address..) {
                let word = self.word(at & !7)?;
                let mut whole = word.load(Ordering::Relaxed).to_le_bytes();
                whole[(at & 7) as usize] = *byte;
                word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
            }
            Some(())
        }

        fn load(&self, address: u64) -> Option<u64> {
            let word = self.word(address).filter(|_| address.is_multiple_of(8))?;
            Some(word.load(Ordering::Relaxed))
        }

        fn store_entry(&self, address: u64, words: &[u64]) -> Option<()> {
            self.word(address + 8 * words.len() as u64 - 8)?;
            for (word, at) in words.iter().zip((address..).step_by(8)) {
                self.word(at)?.store(*word, Ordering::Release);
            }
            Some(())
        }
    }

    #[test]
    fn pages_are_one_stretch_wherever_they_stand() {
        let memory = Arc::new(Pages::new(0x10_000, 4));
        let pages = vec![0x13_000, 0x10_000, 0x12_000];
        let stretch = BusPages::new(memory.clone(), pages, 12, 0xFF0, 0x1020).unwrap();
        let written: Vec<u8> = (0..0x1020).map(|byte| (byte % 251) as u8).collect();
        stretch.write(0, &written).unwrap();
        let mut read = vec![0; 0x1020];
        stretch.read(0, &mut read).unwrap();
        assert_eq!(read, written);
        let mut bytes = [0; 16];
        memory.read(0x13_FF0, &mut bytes).unwrap();
        assert_eq!(bytes, written[..16], "the first page's end");
        memory.read(0x12_000, &mut bytes).unwrap();
        assert_eq!(bytes, written[0x1010..], "the last page's start");
        assert_eq!(
            stretch.load(8),
            Some(u64::from_le_bytes(written[8..16].try_into().unwrap()))
        );
        assert_eq!(stretch.load(0x1018), memory.load(0x12_008));
    }

    #[test]
    fn nothing_outside_is_reached() {
        let memory = Arc::new(Pages::new(0x1000, 2));
        let stretch = BusPages::new(memory.clone(), vec![0x2000, 0x1000], 12, 0xFE0, 0x30).unwrap();
        assert_eq!(
            stretch.store_entry(0, &[1; 8]),
            None,
            "crosses the page's end"
        );
        assert_eq!(
            stretch.store_entry(0x20, &[1; 8]),
            None,
            "ends behind the stretch"
        );
        assert_eq!(stretch.store_entry(0x20, &[1; 2]), Some(()));
        assert_eq!(
            (
                stretch.load(0x30),
                stretch.load(0x2C),
                stretch.load(u64::MAX)
            ),
            (None, None, None)
        );
        assert_eq!(stretch.write(0x29, &[0; 8]), None);
        assert_eq!(stretch.read(u64::MAX, &mut [0; 8]), None);
        memory.unmap();
        assert_eq!(stretch.load(0), None);
        assert_eq!(stretch.write(0, &[1]), None);
    }

    #[test]
    fn pages_must_be_aligned_and_as_many_as_the_bytes_need() {
        let memory: Arc<dyn BusMemory> = Arc::new(Pages::new(0, 1));
        let new = |pages: &[u64], bits, first, len| {
            BusPages::new(memory.clone(), pages.to_vec(), bits, first, len).is_some()
        };
        assert!(new(&[0x1000], 12, 0, 0x1000));
        assert!(new(&[0x20_0000], 21, 0x64, 0x1F_0000));
        for (pages, bits, first, len) in [
            (&[0x1008][..], 12, 0, 0x1000),
            (&[0x1000], 21, 0, 0x1000),
            (&[0x1000], 12, 1, 0x1000),
            (&[0x1000, 0x2000], 12, 0, 0x1000),
            (&[0x1000], 12, 0, 0),
            (&[], 12, 0, 0),
            (&[0], 64, 0, 1),
            (&[0], 11, 0, 1),
            (&[0x1000], 12, 0x1000, 1),
            (&[0x1000], 12, 1, u64::MAX),
        ] {
            assert!(
                !new(pages, bits, first, len),
                "{pages:x?} {bits} {first:#x} {len:#x}"
            );
        }
    }
}
