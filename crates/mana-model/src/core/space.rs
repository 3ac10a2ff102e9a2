//! Memory that the device reaches: rings and memory regions, as (space, byte offset).
//!
//! Ring words are 64-bit atomics, because the driver reads and writes them at the same time. Packet
//! bytes are copied. Every access is checked and may fail; no pointer leaves this file.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bus::{BusMemory, BusPages};
use super::cooling::Cooling;

/// A stretch of memory.
#[derive(Debug)]
pub(crate) enum DmaSpace {
    /// Memory of this process.
    Process(ProcessMemory),
    /// Scattered pages of a bus.
    Pages(BusPages),
    /// All of a bus, by its own addresses.
    Bus(WholeBus),
    /// Pages scattered over a buffer of its own, to prove that nothing relies on contiguity.
    #[cfg(test)]
    Shuffled(tests::Shuffled),
}

impl DmaSpace {
    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Process(memory) => memory.len,
            Self::Pages(pages) => pages.len(),
            Self::Bus(_) => u64::MAX,
            #[cfg(test)]
            Self::Shuffled(memory) => memory.len(),
        }
    }

    /// The word at byte `offset`, a multiple of 8.
    #[inline]
    pub(crate) fn load(&self, offset: u64) -> Option<u64> {
        match self {
            Self::Process(memory) => Some(memory.word(offset)?.load(Ordering::Relaxed)),
            Self::Pages(pages) => pages.load(offset),
            Self::Bus(bus) => bus.0.load(offset),
            #[cfg(test)]
            Self::Shuffled(memory) => memory.load(offset),
        }
    }

    /// Writes 64 bytes at byte `offset`, a multiple of 8; the last word last, with release.
    #[inline]
    pub(crate) fn store_entry(&mut self, offset: u64, words: &[u64; 8]) -> Option<()> {
        match self {
            Self::Process(memory) => {
                memory.word(offset + 56)?;
                for (index, word) in words[..7].iter().enumerate() {
                    memory
                        .word(offset + 8 * index as u64)?
                        .store(*word, Ordering::Relaxed);
                }
                memory.word(offset + 56)?.store(words[7], Ordering::Release);
                Some(())
            }
            Self::Pages(pages) => pages.store_entry(offset, words),
            Self::Bus(bus) => bus.0.store_entry(offset, words),
            #[cfg(test)]
            Self::Shuffled(memory) => memory.store_entry(offset, words),
        }
    }

    /// Moves the line of cache at byte `offset` away. Of memory of this process only.
    pub(crate) fn cool(&self, offset: u64, cooling: Cooling) {
        match self {
            Self::Process(memory) => {
                if let Some(line) = memory.at(offset, 1) {
                    cooling.apply(line.as_ptr());
                }
            }
            Self::Pages(_) | Self::Bus(_) => {}
            #[cfg(test)]
            Self::Shuffled(_) => {}
        }
    }

    /// Copies bytes from `offset` on.
    #[inline]
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        match self {
            Self::Process(memory) => memory.read(offset, bytes),
            Self::Pages(pages) => pages.read(offset, bytes),
            Self::Bus(bus) => bus.0.read(offset, bytes),
            #[cfg(test)]
            Self::Shuffled(memory) => memory.read(offset, bytes),
        }
    }

    /// Copies bytes to `offset`.
    #[inline]
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        match self {
            Self::Process(memory) => memory.write(offset, bytes),
            Self::Pages(pages) => pages.write(offset, bytes),
            Self::Bus(bus) => bus.0.write(offset, bytes),
            #[cfg(test)]
            Self::Shuffled(memory) => memory.write(offset, bytes),
        }
    }
}

/// All of a bus.
pub(crate) struct WholeBus(pub(crate) Arc<dyn BusMemory>);

impl fmt::Debug for WholeBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WholeBus")
    }
}

/// Memory of this process, by address.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: `new` requires that the memory may be reached from any thread: words by atomics, payload
// under the ownership that doorbells and completions hand over.
unsafe impl Send for ProcessMemory {}

impl ProcessMemory {
    /// The `len` bytes at `address`; none where that is no range of addresses.
    ///
    /// # Safety
    ///
    /// Until the value is dropped, the memory is mapped readable (and writable where it is written),
    /// no Rust reference reaches words used as ring entries but atomics, and payload bytes are
    /// left alone by others while a posted WQE names them.
    pub(crate) unsafe fn new(address: u64, len: u64) -> Self {
        let sound = address.checked_add(len).is_some() && isize::try_from(len).is_ok();
        let base = NonNull::new(std::ptr::with_exposed_provenance_mut(address as usize));
        match base.filter(|_| sound) {
            Some(base) => Self { base, len },
            None => Self {
                base: NonNull::dangling(),
                len: 0,
            },
        }
    }

    /// The first of `len` bytes at `offset`, if all are inside.
    #[inline]
    fn at(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len {
            return None;
        }
        // SAFETY: the offset is at most `len`, which fits isize and which `new` requires to be
        // mapped from `base` on, so the result is inside or one behind the memory.
        Some(unsafe { self.base.add(offset as usize) })
    }

    #[inline]
    fn word(&self, offset: u64) -> Option<&AtomicU64> {
        let word = self.at(offset, 8)?.cast::<AtomicU64>();
        if !word.is_aligned() {
            return None;
        }
        // SAFETY: the word is inside the memory and aligned; `new` requires that it is mapped and
        // that others reach it by atomics only.
        Some(unsafe { word.as_ref() })
    }

    #[inline]
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
        let (from, len) = (self.at(offset, bytes.len())?, bytes.len());
        // SAFETY: the source is inside the mapped memory; the driver leaves bytes of a posted WQE
        // alone, and they happened before the doorbell that the front took with acquire. The target
        // is a buffer of the model.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(bytes).cast(), len) };
        Some(())
    }

    #[inline]
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: the target is inside the mapped memory and belongs to a posted receive WQE, which
        // the driver leaves alone until its completion is stored with release. The source is a
        // buffer of the model.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Some(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A page of a shuffled space.
    const PAGE: u64 = 4096;

    /// Contiguous for the device, scattered in memory: page `i` stands at `order[i]`.
    #[derive(Debug, Clone)]
    pub(crate) struct Shuffled {
        pages: std::sync::Arc<Vec<AtomicU64>>,
        order: Vec<u64>,
    }

    impl Shuffled {
        /// `pages` pages of zeros.
        pub(crate) fn new(pages: u64) -> Self {
            let words = (0..pages * PAGE / 8).map(|_| AtomicU64::new(0)).collect();
            // Odd pages first: no two pages stand one behind the other as the device sees them.
            let order = (1..pages).step_by(2).chain((0..pages).step_by(2));
            Self {
                pages: std::sync::Arc::new(words),
                order: order.collect(),
            }
        }

        pub(super) fn len(&self) -> u64 {
            self.order.len() as u64 * PAGE
        }

        pub(crate) fn word(&self, offset: u64) -> Option<&AtomicU64> {
            let page = self.order.get((offset / PAGE) as usize)?;
            self.pages.get(((page * PAGE + offset % PAGE) / 8) as usize)
        }

        pub(crate) fn load(&self, offset: u64) -> Option<u64> {
            Some(self.word(offset)?.load(Ordering::Relaxed))
        }

        pub(super) fn store_entry(&mut self, offset: u64, words: &[u64; 8]) -> Option<()> {
            for (index, word) in words.iter().enumerate() {
                self.word(offset + 8 * index as u64)?
                    .store(*word, Ordering::Release);
            }
            Some(())
        }

        pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Option<()> {
            for (byte, at) in bytes.iter_mut().zip(offset..) {
                *byte = self.load(at & !7)?.to_le_bytes()[(at & 7) as usize];
            }
            Some(())
        }

        pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
            for (byte, at) in bytes.iter().zip(offset..) {
                let mut word = self.load(at & !7)?.to_le_bytes();
                word[(at & 7) as usize] = *byte;
                self.word(at & !7)?
                    .store(u64::from_le_bytes(word), Ordering::Relaxed);
            }
            Some(())
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        let mut words = vec![0u64; 16];
        // SAFETY: the vector outlives the space, and only the space reaches it.
        let memory =
            unsafe { ProcessMemory::new(words.as_mut_ptr().expose_provenance() as u64, 128) };
        let mut space = DmaSpace::Process(memory);
        assert_eq!(space.load(120), Some(0));
        assert_eq!(
            (space.load(121), space.load(128), space.load(4)),
            (None, None, None)
        );
        assert_eq!(space.load(u64::MAX - 3), None);
        assert_eq!(space.store_entry(72, &[1; 8]), None);
        assert_eq!(space.store_entry(64, &[1; 8]), Some(()));
        assert_eq!(space.write(120, &[1; 9]), None);
        assert_eq!(space.read(128, &mut []), Some(()));
        let mut bytes = [0; 8];
        assert_eq!(space.read(64, &mut bytes), Some(()));
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 0]);
        // SAFETY: nothing is reached.
        assert_eq!(unsafe { ProcessMemory::new(u64::MAX, 2) }.len, 0);
    }
}
