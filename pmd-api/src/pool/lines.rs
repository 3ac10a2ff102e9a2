//! The metadata lines of a pool, and the way from a line to its pool and to its buffer.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{External, PoolDepot};
use crate::meta::{Handle, Line};

/// Lines lie in slabs of this many bytes, aligned to it, each with a header in place of its first
/// line. So the pool of a line is found without a table.
const SLAB: usize = 1 << 16;
const LINE: usize = size_of::<Line>();
const SLOTS: usize = SLAB / LINE;

/// The first slot of a slab.
#[repr(C, align(64))]
struct Header {
    depot: AtomicPtr<PoolDepot>,
}

const _: () = assert!(size_of::<Header>() == LINE);

/// The lines of one pool, counted in slots of 64 bytes. Slot 0 and every 1024th are headers; the
/// buffer of the line in slot `s` is the pool's `s - 1`-th, so that its address follows from the
/// line's by one multiplication. The buffers that headers would have are not used.
pub(crate) struct Lines {
    base: NonNull<u8>,
    slots: usize,
    /// For a slot whose mbuf is a clone: the line that owns the buffer it refers to. For one that
    /// refers to external memory: that, as `Arc::into_raw` gives it. A line's origin says which.
    owners: Box<[AtomicPtr<Line>]>,
}

// SAFETY: owns its memory; what the lines allow to whom is a matter of `Handle` and `Mbuf`.
unsafe impl Send for Lines {}
// SAFETY: as above: shared access reads the fields, and the table of owners is atomic.
unsafe impl Sync for Lines {}

/// Buffers that must exist for `count` lines to have one each.
pub(crate) fn buffers_needed(count: u32) -> usize {
    slots_needed(count) - 1
}

fn slots_needed(count: u32) -> usize {
    let count = count as usize;
    count + count.div_ceil(SLOTS - 1)
}

impl Lines {
    /// Builds `count` free lines; `line(i)` is the line of buffer `i`.
    pub(crate) fn new(count: u32, line: impl Fn(usize) -> Line) -> Self {
        let slots = slots_needed(count);
        let layout = Self::layout(slots);
        // SAFETY: the layout is not empty: there is a header and a line.
        let Some(base) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        for slot in 0..slots {
            // SAFETY: `slot * LINE` lies within the allocation, which is aligned to more than 64
            // bytes and not yet known to anybody else; both types fill one slot.
            unsafe {
                let place = base.as_ptr().add(slot * LINE);
                if slot % SLOTS == 0 {
                    let depot = AtomicPtr::new(ptr::null_mut());
                    place.cast::<Header>().write(Header { depot });
                } else {
                    place.cast::<Line>().write(line(slot - 1));
                }
            }
        }
        let owners = (0..slots)
            .map(|_| AtomicPtr::new(ptr::null_mut()))
            .collect();
        Self {
            base,
            slots,
            owners,
        }
    }

    fn layout(slots: usize) -> Layout {
        Layout::from_size_align(slots * LINE, SLAB).expect("32-bit counts of 64-byte lines fit")
    }

    /// All lines, in the order of their buffers.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        (0..self.slots)
            .filter(|slot| slot % SLOTS != 0)
            .map(|slot| {
                // SAFETY: within the allocation.
                Handle::new(unsafe { self.base.add(slot * LINE) }.cast())
            })
            .collect()
    }

    /// Address of slot 0: `address_of(line) - base()` is 64 times the slot.
    pub(crate) fn base(&self) -> usize {
        self.base.addr().get()
    }

    /// Number of the line's own buffer.
    pub(crate) fn buffer_of(&self, line: Handle) -> usize {
        self.slot_of(line) - 1
    }

    /// The line that owns the buffer to which `line`, a clone of this pool, refers.
    pub(crate) fn owner_of(&self, line: Handle) -> Option<Handle> {
        // Written by the thread that made the clone, before it handed it on.
        NonNull::new(self.owners[self.slot_of(line)].load(Ordering::Relaxed)).map(Handle::new)
    }

    /// Notes, or with `None` forgets, whose buffer `line` refers to.
    pub(crate) fn set_owner(&self, line: Handle, owner: Option<Handle>) {
        let owner = owner.map_or(ptr::null_mut(), |owner| owner.as_ptr().as_ptr());
        self.owners[self.slot_of(line)].store(owner, Ordering::Relaxed);
    }

    /// Notes the external memory to which `line` refers.
    pub(crate) fn set_external(&self, line: Handle, memory: Arc<External>) {
        let memory = Arc::into_raw(memory).cast_mut();
        self.owners[self.slot_of(line)].store(memory.cast(), Ordering::Relaxed);
    }

    /// Takes what [`Lines::set_external`] noted.
    ///
    /// # Safety
    /// It was noted for `line` and not taken since, and the line is the caller's.
    pub(crate) unsafe fn take_external(&self, line: Handle) -> Arc<External> {
        let memory = self.owners[self.slot_of(line)].swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: it came out of `Arc::into_raw`, says the caller, and is gone from the table.
        unsafe { Arc::from_raw(memory.cast_const().cast()) }
    }

    fn slot_of(&self, line: Handle) -> usize {
        (line.as_ptr().addr().get() - self.base()) / LINE
    }

    /// Tells every line its pool. Before any line is handed out.
    pub(crate) fn set_depot(&self, depot: NonNull<PoolDepot>) {
        for slot in (0..self.slots).step_by(SLOTS) {
            // SAFETY: these slots are headers, initialised in `new`.
            let header = unsafe { self.base.add(slot * LINE).cast::<Header>().as_ref() };
            header.depot.store(depot.as_ptr(), Ordering::Relaxed);
        }
    }

    /// The pool of a line.
    ///
    /// # Safety
    /// The line's pool is alive, and keeps being so while the result is used.
    #[inline]
    pub(crate) unsafe fn depot_of(line: Handle) -> NonNull<PoolDepot> {
        let header = line
            .as_ptr()
            .as_ptr()
            .map_addr(|address| address & !(SLAB - 1));
        // SAFETY: slabs are aligned to their size and begin with a header; the handle was derived
        // from the whole allocation. `set_depot` came before any line was handed out.
        unsafe {
            let depot = (*header.cast::<Header>()).depot.load(Ordering::Relaxed);
            NonNull::new_unchecked(depot)
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. Lines and headers have nothing to drop.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.slots)) }
    }
}
