//! The doorbell cells of one context: one a queue, taken by the device, never lost.
//!
//! Hardware has one register a kind and page, which all queues of a context share; a model that
//! polls such a cell would lose doorbells for good (reference/uverbs-boundary.md §6). So each queue
//! has a cell of its own here.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uverbs_abi::DoorbellKind;

/// What an untouched cell holds. No doorbell has this value: bits 24 to 31 of every one are zero
/// (reference/mana-hardware.md §2.7).
const UNTOUCHED: u64 = u64::MAX;

/// Cells of destroyed queues that are still looked at. Ids come back late, so without a bound they
/// would pile up where queues come and go.
const WATCHED: usize = 64;

/// One register, on cache lines of its own because driver and device both write it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(UNTOUCHED)))
    }

    /// Address of the register, valid as long as the `Arc` lives.
    pub(crate) fn register(&self) -> NonNull<u64> {
        NonNull::from(&self.0).cast()
    }

    /// The value rung since the last call, if any. Taken by an exchange, so that a value equal to
    /// the one before still counts; the load before it keeps idle polling from writing the line.
    #[inline]
    fn take(&self) -> Option<u64> {
        // Relaxed: only decides whether to look.
        if self.0.load(Ordering::Relaxed) == UNTOUCHED {
            return None;
        }
        // Acquire pairs with the driver's release store: ring words written before the doorbell
        // are visible to whoever took its value.
        let value = self.0.swap(UNTOUCHED, Ordering::Acquire);
        (value != UNTOUCHED).then_some(value)
    }
}

/// A cell and the queue it was mapped for.
#[derive(Debug)]
struct Mapped {
    kind: DoorbellKind,
    queue_id: u32,
    cell: Arc<Cell>,
}

/// All cells of a context.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// Of queues that may exist: polled.
    live: Vec<Mapped>,
    /// Of the queues destroyed last: read only where time does not matter.
    retired: Vec<Mapped>,
    /// The page that an unmodified program stores to, where its stores are not trapped.
    page: Option<PlainPage>,
}

/// A page with the hardware's three registers, which all queues of a context share.
#[derive(Debug)]
pub(crate) struct PlainPage(NonNull<u64>);

// SAFETY: the page is reached by atomic operations only, from whatever thread.
unsafe impl Send for PlainPage {}

impl PlainPage {
    /// # Safety
    ///
    /// `page` is the first of 4096 bytes, aligned to 8, that stay mapped for reads and writes and are
    /// reached by whole 64-bit accesses only, as long as the value lives.
    pub(crate) unsafe fn new(page: *mut u64) -> Self {
        // SAFETY: a mapped page is not at address 0.
        let page = Self(unsafe { NonNull::new_unchecked(page) });
        for kind in KINDS {
            page.register(kind).store(UNTOUCHED, Ordering::Relaxed);
        }
        page
    }

    fn register(&self, kind: DoorbellKind) -> &AtomicU64 {
        // SAFETY: the registers lie inside the page, aligned to 8, which `new`'s caller keeps mapped.
        unsafe { AtomicU64::from_ptr(self.0.byte_add(kind.offset()).as_ptr()) }
    }
}

const KINDS: [DoorbellKind; 3] = [
    DoorbellKind::Send,
    DoorbellKind::Receive,
    DoorbellKind::Completion,
];

impl Cells {
    /// The cell of a queue; the same one for the same queue id.
    pub(crate) fn map(&mut self, kind: DoorbellKind, queue_id: u32) -> Arc<Cell> {
        let is = |mapped: &Mapped| mapped.kind == kind && mapped.queue_id == queue_id;
        if let Some(mapped) = self.live.iter().find(|mapped| is(mapped)) {
            return Arc::clone(&mapped.cell);
        }
        let mapped = match self.retired.iter().position(is) {
            Some(position) => self.retired.remove(position),
            None => Mapped {
                kind,
                queue_id,
                cell: Cell::new(),
            },
        };
        // What was rung while the id had no queue is not for the one that has it now.
        mapped.cell.take();
        let cell = Arc::clone(&mapped.cell);
        self.live.push(mapped);
        cell
    }

    /// Looks at `page` from now on.
    pub(crate) fn watch(&mut self, page: PlainPage) {
        self.page = Some(page);
    }

    /// Looks at it no more.
    pub(crate) fn forget_page(&mut self) {
        self.page = None;
    }

    /// The queue is gone; its cell stays valid.
    pub(crate) fn retire(&mut self, kind: DoorbellKind, queue_id: u32) {
        let found = self
            .live
            .iter()
            .position(|mapped| mapped.kind == kind && mapped.queue_id == queue_id);
        if let Some(position) = found {
            let mapped = self.live.remove(position);
            mapped.cell.take();
            if self.retired.len() == WATCHED {
                self.retired.remove(0);
            }
            self.retired.push(mapped);
        }
    }

    /// Takes what was rung on cells of live queues and, where `all`, of destroyed ones.
    #[inline]
    pub(crate) fn take(&self, all: bool, mut each: impl FnMut(DoorbellKind, u32, u64)) {
        let retired = if all { &self.retired[..] } else { &[] };
        for mapped in self.live.iter().chain(retired) {
            if let Some(value) = mapped.cell.take() {
                each(mapped.kind, mapped.queue_id, value);
            }
        }
        if let Some(page) = &self.page {
            for kind in KINDS {
                let value = page.register(kind).swap(UNTOUCHED, Ordering::Acquire);
                if value != UNTOUCHED {
                    each(kind, (value & 0xFF_FFFF) as u32, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(cell: &Cell, value: u64) {
        cell.0.store(value, Ordering::Release);
    }

    fn taken(cells: &Cells, all: bool) -> Vec<(DoorbellKind, u32, u64)> {
        let mut list = Vec::new();
        cells.take(all, |kind, id, value| list.push((kind, id, value)));
        list
    }

    #[test]
    fn equal_values_count_each_time_they_are_rung() {
        let mut cells = Cells::default();
        let cell = cells.map(DoorbellKind::Send, 7);
        for _ in 0..2 {
            ring(&cell, 5);
            assert_eq!(taken(&cells, false), [(DoorbellKind::Send, 7, 5)]);
            assert_eq!(taken(&cells, false), []);
        }
    }

    #[test]
    fn queues_do_not_share_a_cell_and_one_queue_keeps_its_own() {
        let mut cells = Cells::default();
        let registers = [
            (DoorbellKind::Send, 1),
            (DoorbellKind::Send, 2),
            (DoorbellKind::Receive, 1),
            (DoorbellKind::Send, 1),
        ]
        .map(|(kind, id)| cells.map(kind, id).register());
        assert_eq!(registers[0], registers[3]);
        assert_ne!(registers[0], registers[1]);
        assert_ne!(registers[0], registers[2]);
    }

    #[test]
    fn a_doorbell_of_a_destroyed_queue_is_not_for_its_successor() {
        let mut cells = Cells::default();
        let cell = cells.map(DoorbellKind::Send, 7);
        cells.retire(DoorbellKind::Send, 7);
        ring(&cell, 5);
        assert_eq!(taken(&cells, false), []);
        assert_eq!(taken(&cells, true), [(DoorbellKind::Send, 7, 5)]);
        ring(&cell, 6);
        let again = cells.map(DoorbellKind::Send, 7);
        assert_eq!(again.register(), cell.register());
        assert_eq!(taken(&cells, true), []);
    }
}
