//! What all handles of a pool share: memory, metadata lines, resting places.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use dma_memory::Region;

use super::home::Home;
use super::{PoolConfig, PoolError, PoolId};
use crate::meta::Meta;
use crate::{HEADROOM, Mbuf};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A pool without its handles.
#[derive(Debug)]
pub(crate) struct PoolCore {
    pub(crate) id: PoolId,
    pub(crate) config: PoolConfig,
    pub(crate) region: Arc<Region>,
    pub(crate) home: Home,
    /// Bytes between two buffers.
    stride: usize,
    /// The metadata lines; see [`Lines`].
    lines: Lines,
    /// Side table: how many `Mbuf`s share a buffer beyond the first. Cold: only clones touch it.
    shares: Box<[AtomicU32]>,
    handles: AtomicUsize,
}

/// The metadata lines of a pool: heap memory that is only reached by raw pointers, each line by the
/// one `Mbuf` that owns it.
#[derive(Debug)]
struct Lines {
    first: NonNull<Meta>,
    count: usize,
}

// SAFETY: the lines are plain data whose ownership is handed around with their indexes (through the
// ring and records, which synchronise) or with `Mbuf`s (which are `Send` by the same argument).
unsafe impl Send for Lines {}
// SAFETY: as above; through a shared `Lines` only pointers are computed.
unsafe impl Sync for Lines {}

impl Lines {
    fn new(lines: Box<[Meta]>) -> Self {
        let count = lines.len();
        let first = NonNull::from(Box::leak(lines)).cast();
        Self { first, count }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let lines = std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.count);
        // SAFETY: the pointer and length come from a leaked box of exactly this type. The pool is
        // dropped only when every line is home (registry.rs), so no `Mbuf` points here.
        drop(unsafe { Box::from_raw(lines) });
    }
}

impl PoolCore {
    pub(super) fn new(config: PoolConfig) -> Result<Arc<Self>, PoolError> {
        static IDS: AtomicU32 = AtomicU32::new(1);
        let id = IDS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| PoolError::Ids)?;
        let stride = stride(config.data_room);
        let region = Region::allocate(&config.name, stride * config.buffers as usize, &config.memory)
            .map_err(|error| PoolError::Memory { name: config.name.clone(), error })?;
        let lines = (0..config.buffers as usize)
            .map(|index| {
                // SAFETY: the region has room for `buffers` strides, so the offset is inside it.
                let buffer = unsafe { region.base().add(index * stride) };
                Meta::free(id, buffer, config.data_room)
            })
            .collect();
        Ok(Arc::new(Self {
            id: PoolId(id),
            home: Home::new(config.buffers, config.cache_records, config.cache),
            region: Arc::new(region),
            stride,
            lines: Lines::new(lines),
            shares: (0..config.buffers).map(|_| AtomicU32::new(0)).collect(),
            handles: AtomicUsize::new(1),
            config,
        }))
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.lines.count as u32
    }

    /// The line of buffer `index`, which is below the capacity.
    #[inline]
    pub(crate) fn line(&self, index: u32) -> NonNull<Meta> {
        debug_assert!((index as usize) < self.lines.count);
        // SAFETY: indexes in the home are those of the pool's lines: they were put there by
        // `Home::new` and come back only through `index_of`, which gives indexes of lines.
        unsafe { self.lines.first.add(index as usize) }
    }

    /// The index of a line of this pool, or `None` for another pool's.
    #[inline]
    pub(crate) fn index_of(&self, line: NonNull<Meta>) -> Option<u32> {
        let offset = (line.as_ptr() as usize).wrapping_sub(self.lines.first.as_ptr() as usize);
        let index = offset / size_of::<Meta>();
        (index < self.lines.count).then_some(index as u32)
    }

    /// The address of the first line, and behind the last one.
    pub(crate) fn lines_range(&self) -> std::ops::Range<usize> {
        let first = self.lines.first.as_ptr() as usize;
        first..first + self.lines.count * size_of::<Meta>()
    }

    /// The index of the buffer that `address` points into.
    pub(crate) fn buffer_index(&self, address: NonNull<u8>) -> u32 {
        let offset = address.as_ptr() as usize - self.region.base().as_ptr() as usize;
        (offset / self.stride) as u32
    }

    /// Where a packet starts in the buffer of line `index`, as the device sees it.
    #[inline]
    pub(crate) fn data_address(&self, index: u32) -> u64 {
        let base = self.region.base().as_ptr() as u64;
        base + u64::from(index) * self.stride as u64 + HEADROOM as u64
    }

    /// An empty packet in buffer `index`, which the caller took from the home.
    #[inline]
    pub(crate) fn fresh(&self, index: u32) -> Mbuf {
        let mut line = self.line(index);
        // SAFETY: the index was taken from the home, so no `Mbuf` owns the line and this caller does.
        unsafe { line.as_mut() }.set_received(0, 0, 0, 0);
        // SAFETY: as above; the new `Mbuf` takes the ownership over.
        unsafe { Mbuf::from_line(line) }
    }

    /// Counts one more user of the buffer `index`.
    pub(crate) fn share(&self, index: u32) {
        // Relaxed: the new user gets what it may read through the `Mbuf` it is made from.
        self.shares[index as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether others use the buffer `index`. What they did with it happened before a `false`.
    pub(crate) fn is_shared(&self, index: u32) -> bool {
        self.shares[index as usize].load(Ordering::Acquire) != 0
    }

    /// Counts one user of the buffer `index` less; true if it was the last one.
    pub(crate) fn unshare(&self, index: u32) -> bool {
        // The count is of users beyond the first: the last one finds 0 and resets it.
        let before = self.shares[index as usize].fetch_sub(1, Ordering::AcqRel);
        if before == 0 {
            self.shares[index as usize].store(0, Ordering::Relaxed);
        }
        before == 0
    }

    /// Makes the line of buffer `index` free again; the caller owns it.
    pub(crate) fn reset(&self, index: u32) {
        // SAFETY: the caller owns the line, and `index` is one of this pool's.
        unsafe {
            let buffer = self.region.base().add(index as usize * self.stride);
            self.line(index).write(Meta::free(self.id.0, buffer, self.config.data_room));
        }
    }

    /// Whether the pool has lost its last handle.
    pub(super) fn is_orphaned(&self) -> bool {
        self.home.is_orphaned()
    }

    pub(super) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// True if it was the last one.
    pub(super) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// Bytes between two buffers of `data_room` bytes: whole cache lines, an odd number of them, so that
/// packet starts spread over all sets of the caches.
const fn stride(data_room: u32) -> usize {
    let lines = (data_room as usize).div_ceil(LINE);
    (lines | 1) * LINE
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::*;

    #[test]
    fn strides_are_odd_numbers_of_lines_that_hold_the_buffer() {
        for room in [129, 192, 2048, 2176, 4096, 9728, 65_535] {
            let stride = stride(room);
            assert!(stride >= room as usize && stride % LINE == 0 && stride / LINE % 2 == 1);
        }
        assert_eq!(stride(2176), 35 * 64);
    }
}
