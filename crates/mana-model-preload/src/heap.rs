//! Memory of this library, apart from the program's: the device is stepped inside a fault handler,
//! where the program's `malloc` must not be entered (it may be any, and it may itself be waiting).
//!
//! Blocks are powers of two, kept in lists by size and never given back; larger ones are mappings.
//! Whoever allocates has signals blocked (`gate`), so a spinning lock can't wait for its own
//! thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ffi::c_long;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Smallest block, as a power of two.
const LEAST: u32 = 4;
/// Largest block that comes from a list.
const MOST: u32 = 20;
const CLASSES: usize = (MOST - LEAST + 1) as usize;
/// Bytes that are mapped at once for small blocks.
const CHUNK: usize = 1 << 18;
const PAGE: usize = 4096;

/// A block in a list.
struct Free {
    next: *mut Free,
}

pub(crate) struct Heap {
    locked: AtomicBool,
    lists: UnsafeCell<[*mut Free; CLASSES]>,
}

// SAFETY: the lists are reached with `locked` held only.
unsafe impl Sync for Heap {}

#[cfg_attr(not(test), global_allocator)]
pub(crate) static HEAP: Heap = Heap::new();

impl Heap {
    const fn new() -> Self {
        Self {
            locked: AtomicBool::new(false),
            lists: UnsafeCell::new([ptr::null_mut(); CLASSES]),
        }
    }

    pub(crate) fn lock(&self) {
        // Acquire pairs with the release in `unlock`.
        while self.locked.swap(true, Ordering::Acquire) {
            // SAFETY: sched_yield takes nothing.
            unsafe { libc::syscall(libc::SYS_sched_yield) };
        }
    }

    pub(crate) fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn take(&self, class: usize) -> *mut u8 {
        self.lock();
        // SAFETY: the lock is held, so this is the only reference.
        let lists = unsafe { &mut *self.lists.get() };
        if lists[class].is_null() {
            lists[class] = carve(class);
        }
        let block = lists[class];
        if !block.is_null() {
            // SAFETY: blocks in a list are free, and each holds the link to the next.
            lists[class] = unsafe { (*block).next };
        }
        self.unlock();
        block.cast()
    }

    fn give(&self, class: usize, block: *mut u8) {
        let block = block.cast::<Free>();
        self.lock();
        // SAFETY: the lock is held, so this is the only reference.
        let lists = unsafe { &mut *self.lists.get() };
        // SAFETY: the block is free now, aligned to 16, and holds at least 16 bytes.
        unsafe { (*block).next = lists[class] };
        lists[class] = block;
        self.unlock();
    }
}

/// A list of fresh blocks; empty where the system has no memory.
fn carve(class: usize) -> *mut Free {
    let size = 1 << (class as u32 + LEAST);
    let bytes = CHUNK.max(size);
    let chunk = map(bytes);
    let mut list = ptr::null_mut();
    if chunk.is_null() {
        return list;
    }
    for offset in (0..bytes).step_by(size).rev() {
        // SAFETY: the offset is inside the chunk, where a block of `size` bytes begins.
        let block = unsafe { chunk.add(offset) }.cast::<Free>();
        // SAFETY: the chunk is fresh memory, aligned to a page.
        unsafe { (*block).next = list };
        list = block;
    }
    list
}

fn map(bytes: usize) -> *mut u8 {
    // SAFETY: a mapping of its own, at no given address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            0 as c_long,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1 as c_long,
            0 as c_long,
        )
    };
    if (-4095..0).contains(&result) {
        return ptr::null_mut();
    }
    ptr::with_exposed_provenance_mut(result as usize)
}

/// The list for a layout; `None` for a mapping of its own.
fn class(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << LEAST);
    let power = size.next_power_of_two().trailing_zeros();
    (power <= MOST).then_some((power - LEAST) as usize)
}

// SAFETY: blocks are at least as large as asked for, are handed out once until given back, and are
// aligned to their size up to a page; larger alignments are refused.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE {
            return ptr::null_mut();
        }
        match class(layout) {
            Some(class) => self.take(class),
            None => map(layout.size().next_multiple_of(PAGE)),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => self.give(class, block),
            None => {
                // SAFETY: the mapping was made by `alloc` for this layout and is not used any more.
                unsafe {
                    libc::syscall(
                        libc::SYS_munmap,
                        block,
                        layout.size().next_multiple_of(PAGE),
                    )
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_come_back() {
        let heap = Heap::new();
        let layouts = [
            (1, 1),
            (16, 16),
            (24, 8),
            (100, 64),
            (5000, 4096),
            (3 << 20, 8),
        ];
        let mut blocks = Vec::new();
        for (size, align) in layouts {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout is not empty.
            let block = unsafe { heap.alloc(layout) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align));
            // SAFETY: the block holds `size` bytes.
            unsafe { block.write_bytes(0xA5, size) };
            for (other, other_layout) in &blocks {
                let other: *mut u8 = *other;
                let other_layout: &Layout = other_layout;
                let apart = block.addr() + size <= other.addr()
                    || other.addr() + other_layout.size() <= block.addr();
                assert!(apart);
            }
            blocks.push((block, layout));
        }
        let (block, layout) = blocks[2];
        // SAFETY: the block is of this heap and layout; nothing uses it any more.
        unsafe { heap.dealloc(block, layout) };
        // SAFETY: the layout is not empty.
        assert_eq!(unsafe { heap.alloc(layout) }, block);
        let huge = Layout::from_size_align(64, 8192).unwrap();
        // SAFETY: the layout is not empty.
        assert!(unsafe { heap.alloc(huge) }.is_null());
    }
}
