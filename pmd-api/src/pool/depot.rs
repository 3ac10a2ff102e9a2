//! The part of a pool that lives until its last buffer is home: the ring, and what it guards.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::record::RecordTable;
use super::ring::{BulkRing, Home};
use crate::sync::Arc;

/// Items of type `T` at home, the records in front of them, and `body`: what is dropped when the
/// pool has no handle and every item is home.
pub(crate) struct Depot<T, B> {
    ring: BulkRing<T>,
    records: Arc<RecordTable<T>>,
    capacity: u32,
    body: B,
}

impl<T: Copy, B> Depot<T, B> {
    /// A depot that owns `items` (at least one). It frees itself: see [`Depot::retire`].
    pub(crate) fn new(items: &[T], records: RecordTable<T>, body: B) -> NonNull<Self> {
        Self::with_cursor(items, records, body, 0)
    }

    /// The same with the cursors of the ring starting at `cursor`.
    pub(crate) fn with_cursor(
        items: &[T],
        records: RecordTable<T>,
        body: B,
        cursor: u32,
    ) -> NonNull<Self> {
        let capacity = items.len() as u32;
        let depot = NonNull::from(Box::leak(Box::new(Self {
            ring: BulkRing::with_cursor(capacity, cursor),
            records: Arc::new(records),
            capacity,
            body,
        })));
        // SAFETY: just made, known to nobody else; these are its first `capacity` items.
        unsafe { Self::put(depot, items) };
        depot
    }

    /// Hands `items` to the ring, and frees the depot if they were the last ones missing.
    ///
    /// # Safety
    /// The caller owns these items of this depot and gives them up. They keep the depot alive until
    /// then; afterwards only other items, or a handle, do.
    pub(crate) unsafe fn put(this: NonNull<Self>, items: &[T]) {
        // SAFETY: alive because of the items, so the field may be named.
        let ring = unsafe { NonNull::new_unchecked(&raw mut (*this.as_ptr()).ring) };
        // SAFETY: the caller's promise.
        if unsafe { BulkRing::enqueue(ring, items) } == Home::Free {
            // SAFETY: `Free` is said to one thread, when no handle and no item is left outside.
            unsafe { Self::free(this) };
        }
    }

    /// Takes items from the ring; see [`BulkRing::dequeue`]. The pool has a handle.
    pub(crate) fn take(&self, into: &mut [MaybeUninit<T>], at_least: u32) -> usize {
        self.ring.dequeue(into, at_least) as usize
    }

    /// The last handle is gone: the depot is freed as soon as all items are home, which may be now.
    ///
    /// # Safety
    /// Called once, by the last handle, which gives up its right to the depot.
    pub(crate) unsafe fn retire(this: NonNull<Self>) {
        // SAFETY: nobody frees the depot before it is retired below.
        let (ring, records) = unsafe {
            let depot = this.as_ptr();
            (
                NonNull::new_unchecked(&raw mut (*depot).ring),
                Arc::clone(&(*depot).records),
            )
        };
        let resting = records.close();
        // SAFETY: as above; `resting` items stay where they are for good.
        if unsafe { BulkRing::retire(ring, resting) } == Home::Free {
            // SAFETY: `Free` is said to one thread, when no handle and no item is left outside.
            unsafe { Self::free(this) };
        }
    }

    /// # Safety
    /// Nobody else knows the depot any more.
    #[cold]
    unsafe fn free(this: NonNull<Self>) {
        // SAFETY: it came out of a box in `with_cursor`, and the caller is the last to know it.
        drop(unsafe { Box::from_raw(this.as_ptr()) });
    }

    /// Items at home: in the ring and in the records. Exact while nobody takes or gives back.
    pub(crate) fn available(&self) -> u32 {
        self.ring
            .len()
            .saturating_add(self.records.len())
            .min(self.capacity)
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn records(&self) -> &Arc<RecordTable<T>> {
        &self.records
    }

    pub(crate) fn body(&self) -> &B {
        &self.body
    }
}

/// One thread's right to one record of a depot.
pub(crate) struct Claim<T: Copy, B> {
    depot: NonNull<Depot<T, B>>,
    records: Arc<RecordTable<T>>,
    index: usize,
}

impl<T: Copy, B> Claim<T, B> {
    /// Claims a free record.
    ///
    /// # Safety
    /// The depot is alive while this runs: a handle or a missing item keeps it. The claim stays on
    /// this thread.
    pub(crate) unsafe fn new(depot: NonNull<Depot<T, B>>) -> Option<Self> {
        // SAFETY: alive, says the caller.
        let records = unsafe { depot.as_ref() }.records();
        let index = records.claim()?;
        Some(Self {
            depot,
            records: Arc::clone(records),
            index,
        })
    }

    /// The record. Lives as long as the claim.
    pub(crate) fn record(&self) -> NonNull<super::record::Record<T>> {
        NonNull::from(self.records.record(self.index))
    }

    /// Whether the pool has lost its last handle.
    pub(crate) fn is_closed(&self) -> bool {
        self.records.record(self.index).is_closed()
    }
}

/// Sends what rests in the record home and gives the record back.
impl<T: Copy, B> Drop for Claim<T, B> {
    fn drop(&mut self) {
        // SAFETY: the claim is this thread's, and the thread is in no other call on the record. The
        // depot is touched only for items that are missing from it, which keep it alive.
        unsafe { self.records.record(self.index).flush(0, self.depot) };
        self.records.unclaim(self.index);
    }
}
