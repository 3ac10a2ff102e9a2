//! Cache records: a few hundred items that one thread takes and gives back without anybody else.
//!
//! A record belongs to the thread that claimed it. Only when a pool loses its last handle does
//! another thread look inside, to count what rests there as home; `gate` is where the two meet.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::depot::Depot;
use super::slots::Slots;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Most records that a pool can have.
pub(crate) const MAX_RECORDS: u32 = 64;

/// The records of one pool. They outlive the pool: each claim shares their ownership.
pub(crate) struct RecordTable<T> {
    records: Box<[CachePadded<Record<T>>]>,
    /// Bit `i`: record `i` may be claimed.
    free: AtomicU64,
}

impl<T: Copy> RecordTable<T> {
    /// `count` records (at most [`MAX_RECORDS`]) of `size` items each.
    pub(crate) fn new(count: u32, size: u32) -> Self {
        let count = if size == 0 { 0 } else { count.min(MAX_RECORDS) };
        Self {
            records: (0..count)
                .map(|_| CachePadded::new(Record::new(size)))
                .collect(),
            free: AtomicU64::new(match count {
                0 => 0,
                count => u64::MAX >> (64 - count),
            }),
        }
    }

    /// Takes a free record.
    pub(crate) fn claim(&self) -> Option<usize> {
        let mut free = self.free.load(Ordering::Relaxed);
        while free != 0 {
            let lowest = free & free.wrapping_neg();
            // Acquire: after whatever its last owner did with the record.
            match self.free.compare_exchange_weak(
                free,
                free & !lowest,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(lowest.trailing_zeros() as usize),
                Err(now) => free = now,
            }
        }
        None
    }

    /// Gives record `index` back.
    pub(crate) fn unclaim(&self, index: usize) {
        self.free.fetch_or(1 << index, Ordering::Release);
    }

    pub(crate) fn record(&self, index: usize) -> &Record<T> {
        &self.records[index]
    }

    /// Items resting in all records.
    pub(crate) fn len(&self) -> u32 {
        self.records
            .iter()
            .map(|record| record.len.load(Ordering::Acquire))
            .sum()
    }

    /// Closes all records and returns how many items rest in them for good.
    pub(crate) fn close(&self) -> u32 {
        self.records.iter().map(|record| record.close()).sum()
    }
}

/// One thread's items, the last in first out.
pub(crate) struct Record<T> {
    /// One of the states below in bits 0 and 1; its argument above.
    gate: AtomicU64,
    /// Written by the owner only.
    len: AtomicU32,
    /// Items a refill aims at.
    size: u32,
    /// Items above which the record is flushed: 1.5 times the size.
    limit: u32,
    /// Twice the size: a refill of up to one size on top of the request fits.
    slots: Slots<T>,
}

/// The owner may put and take. Argument: number of flushes so far, so that a flush between two
/// looks at the gate is seen.
const OPEN: u64 = 0;
/// The owner is moving items to the ring: what is inside can't be counted.
const FLUSHING: u64 = 1;
/// The pool has no handle any more. Argument: number of items, from slot 0 on, that were counted
/// as home; nobody touches them again.
const CLOSED: u64 = 2;
const STATE: u64 = 3;
const ARGUMENT: u32 = 2;

impl<T: Copy> Record<T> {
    fn new(size: u32) -> Self {
        Self {
            gate: AtomicU64::new(OPEN),
            len: AtomicU32::new(0),
            size,
            limit: size + size / 2,
            slots: Slots::new(2 * size as usize),
        }
    }

    /// Puts one item in; `false` (and nothing done) if the record is full or closed.
    ///
    /// # Safety
    /// The caller is the owner's thread, outside any other call on this record, and hands over an
    /// item of this pool that it owns.
    #[inline]
    pub(crate) unsafe fn push(&self, item: T) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        if len >= self.limit || self.gate.load(Ordering::Relaxed) & STATE != OPEN {
            return false;
        }
        // SAFETY: slot `len` exists (`limit` is below the number of slots), and slots from `len`
        // on are the owner's alone.
        unsafe { self.slots.write(len as usize, &[item]) };
        self.len.store(len + 1, Ordering::Release);
        true
    }

    /// Puts `items` in; flushes to the ring what is too much, and everything that is not counted
    /// as home if the pool has no handle any more.
    ///
    /// # Safety
    /// As for [`Record::push`]. `depot` returns the pool's; it is alive because the items are
    /// missing from it, and may be gone when this returns.
    #[inline]
    pub(crate) unsafe fn put<B>(&self, items: &[T], depot: impl FnOnce() -> NonNull<Depot<T, B>>) {
        let len = self.len.load(Ordering::Relaxed);
        if len as usize + items.len() <= self.limit as usize
            && self.gate.load(Ordering::Relaxed) & STATE == OPEN
        {
            // SAFETY: slots `len..limit` exist and are the owner's alone.
            unsafe { self.slots.write(len as usize, items) };
            self.len.store(len + items.len() as u32, Ordering::Release);
        } else {
            // SAFETY: the caller's promise, passed on.
            unsafe { self.put_slow(items, depot()) }
        }
    }

    /// # Safety
    /// As for [`Record::put`].
    #[cold]
    #[inline(never)]
    unsafe fn put_slow<B>(&self, items: &[T], depot: NonNull<Depot<T, B>>) {
        if items.is_empty() {
            return;
        }
        let keep = self.len.load(Ordering::Relaxed).min(self.size / 2);
        if keep as usize + items.len() <= self.limit as usize {
            // SAFETY: `items`, which stay with the caller meanwhile, keep the depot alive.
            let open = unsafe { self.flush(keep, depot) };
            if open {
                // SAFETY: `flush` left `keep` items, so slots `keep..limit` are free.
                unsafe { self.slots.write(keep as usize, items) };
                self.len.store(keep + items.len() as u32, Ordering::Release);
                return;
            }
        } else if self.gate.load(Ordering::Acquire) & STATE == CLOSED {
            // SAFETY: as above.
            unsafe { self.flush(0, depot) };
        }
        // SAFETY: handed over by the caller, and alive until then because these are missing.
        unsafe { Depot::put(depot, items) };
    }

    /// Moves all items but the youngest `keep` to the ring, and all that are not counted as home if
    /// the record is closed. Returns whether the record is open.
    ///
    /// # Safety
    /// The owner's thread, as for [`Record::push`]. The depot is alive as long as an item is missing
    /// from it: those that this moves, or others in the hand of the caller.
    pub(crate) unsafe fn flush<B>(&self, keep: u32, depot: NonNull<Depot<T, B>>) -> bool {
        let gate = self.gate.load(Ordering::Acquire);
        let open = gate & STATE == OPEN
            && self
                .gate
                .compare_exchange(gate, gate | FLUSHING, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if !open {
            // Closed. What came in while it was being counted is still missing from the pool.
            let counted = (self.gate.load(Ordering::Acquire) >> ARGUMENT) as u32;
            // SAFETY: the caller's promise; items above `counted` are missing.
            unsafe { self.move_out(counted, self.len.load(Ordering::Relaxed), counted, depot) };
            return false;
        }
        let len = self.len.load(Ordering::Relaxed);
        let out = len - keep.min(len);
        if keep == 0 {
            // SAFETY: the owner's items, none of them counted while the gate says FLUSHING.
            unsafe { self.move_out(0, len, 0, depot) };
        } else if out != 0 {
            // The oldest go, the youngest are the likeliest to be in a CPU's cache. The `keep`
            // items that stay are missing, so the depot outlives this.
            // SAFETY: the owner's items, as above.
            unsafe {
                self.slots
                    .lend(0, out as usize, |items| Depot::put(depot, items))
            };
            // SAFETY: the owner's slots; nobody reads them while the gate says FLUSHING.
            unsafe { self.slots.move_to_front(out as usize, keep as usize) };
            self.len.store(keep, Ordering::Release);
        }
        let reopened = (gate >> ARGUMENT).wrapping_add(1) << ARGUMENT | OPEN;
        if self
            .gate
            .compare_exchange(
                gate | FLUSHING,
                reopened,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
        {
            return true;
        }
        // Closed meanwhile, with nothing counted.
        // SAFETY: as above.
        unsafe { self.move_out(0, self.len.load(Ordering::Relaxed), 0, depot) };
        false
    }

    /// Moves slots `from..to` to the ring and leaves `left` items.
    ///
    /// # Safety
    /// The slots are the owner's, and their items are missing from the depot.
    unsafe fn move_out<B>(&self, from: u32, to: u32, left: u32, depot: NonNull<Depot<T, B>>) {
        if from >= to {
            return;
        }
        // Before they are published, so that nobody finds an item in both places.
        self.len.store(left, Ordering::Release);
        // SAFETY: written slots of the owner; the items are missing, so the depot is alive.
        unsafe {
            self.slots
                .lend(from as usize, (to - from) as usize, |items| {
                    Depot::put(depot, items)
                });
        }
    }

    /// Fills `into` with as many items as there are here and in the ring, but with none if these
    /// are fewer than `at_least`. Returns how many.
    ///
    /// # Safety
    /// The owner's thread, as for [`Record::push`]; the pool has a handle while this runs.
    #[inline]
    pub(crate) unsafe fn take<B>(
        &self,
        into: &mut [MaybeUninit<T>],
        at_least: usize,
        depot: &Depot<T, B>,
    ) -> usize {
        let len = self.len.load(Ordering::Relaxed) as usize;
        if into.len() > len {
            // SAFETY: the caller's promise, passed on.
            return unsafe { self.take_slow(into, at_least, depot) };
        }
        let left = len - into.len();
        // SAFETY: slots `left..len` are the owner's and were written.
        unsafe { self.slots.read(left, into) };
        self.len.store(left as u32, Ordering::Release);
        into.len()
    }

    /// # Safety
    /// As for [`Record::take`].
    #[cold]
    #[inline(never)]
    unsafe fn take_slow<B>(
        &self,
        into: &mut [MaybeUninit<T>],
        at_least: usize,
        depot: &Depot<T, B>,
    ) -> usize {
        let mut len = self.len.load(Ordering::Relaxed) as usize;
        let wanted = into.len();
        let (direct, cached) = if wanted <= self.size as usize {
            let mut fresh = [const { MaybeUninit::uninit() }; REFILL];
            let goal = self.size as usize + wanted;
            while len < goal {
                let most = REFILL.min(goal - len);
                let got = depot.take(&mut fresh[..most], 0);
                // SAFETY: `dequeue` has initialised the first `got`.
                let fresh = unsafe { fresh[..got].assume_init_ref() };
                // SAFETY: `goal` is at most the number of slots; those from `len` on are free.
                unsafe { self.slots.write(len, fresh) };
                len += got;
                if got < most {
                    break;
                }
            }
            self.len.store(len as u32, Ordering::Release);
            (0, wanted.min(len))
        } else {
            let need = at_least.saturating_sub(len);
            let got = depot.take(&mut into[..wanted - len], need as u32);
            (got, if got < need { 0 } else { len })
        };
        if direct + cached < at_least {
            return 0;
        }
        let left = len - cached;
        // SAFETY: slots `left..len` are the owner's and were written.
        unsafe { self.slots.read(left, &mut into[direct..direct + cached]) };
        self.len.store(left as u32, Ordering::Release);
        direct + cached
    }

    /// The pool has lost its last handle: nobody will take. Returns how many items count as home.
    fn close(&self) -> u32 {
        let mut gate = self.gate.load(Ordering::Acquire);
        loop {
            // Read before the exchange: a flush in between changes the gate, a put only adds.
            let len = match gate & STATE {
                OPEN => self.len.load(Ordering::Acquire),
                _ => 0,
            };
            let closed = u64::from(len) << ARGUMENT | CLOSED;
            match self
                .gate
                .compare_exchange(gate, closed, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return len,
                Err(now) => gate = now,
            }
        }
    }

    /// Whether the pool has lost its last handle.
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Acquire) & STATE == CLOSED
    }
}

/// Items that a refill fetches from the ring at a time.
const REFILL: usize = 64;
