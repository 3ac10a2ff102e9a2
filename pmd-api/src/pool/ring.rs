//! The bulk ring behind the caches: any number of producers and consumers, many items a turn.
//!
//! Both ends have a head, which a thread advances to reserve slots, and a tail, which it advances
//! when it is done with them, in the order of the reservations (the scheme of DPDK's `rte_ring`).
//!
//! The ring also decides who frees a pool whose last handle is gone. The word that publishes items
//! (`published`) carries in its upper half the tail, and in its lower half the number of items
//! that must still come home: 0 while the pool has handles. Both change in one step, so exactly
//! one producer brings the number down to 0, and it learns so from its own last access to the ring.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::slots::Slots;
use crate::sync::{AtomicU32, AtomicU64, Ordering, wait};

/// See the module. Holds every item that exists at most once, so it never lacks room.
pub(crate) struct BulkRing<T> {
    producer: CachePadded<Producer>,
    consumer: CachePadded<Consumer>,
    slots: Slots<T>,
    mask: u32,
    capacity: u32,
}

struct Producer {
    head: AtomicU32,
    /// tail << 32 | items still missing (0: the ring is in use).
    published: AtomicU64,
}

struct Consumer {
    head: AtomicU32,
    tail: AtomicU32,
}

/// What the thread that added or retired items has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Home {
    /// Nothing; it must not touch the ring again on the strength of these items.
    Continue,
    /// Every item is home and no handle is left: the caller is the only one who knows the ring.
    Free,
}

impl<T: Copy> BulkRing<T> {
    /// A ring for the `capacity` items that exist, `1..=2^31` of them, empty, whose cursors start
    /// at `cursor`.
    pub(crate) fn with_cursor(capacity: u32, cursor: u32) -> Self {
        let size = capacity.next_power_of_two();
        Self {
            producer: CachePadded::new(Producer {
                head: AtomicU32::new(cursor),
                published: AtomicU64::new(u64::from(cursor) << 32),
            }),
            consumer: CachePadded::new(Consumer {
                head: AtomicU32::new(cursor),
                tail: AtomicU32::new(cursor),
            }),
            slots: Slots::new(size as usize),
            mask: size - 1,
            capacity,
        }
    }

    /// Items in the ring. Exact when nobody else is adding or taking.
    pub(crate) fn len(&self) -> u32 {
        let taken = self.consumer.tail.load(Ordering::Acquire);
        let added = tail(self.producer.published.load(Ordering::Acquire));
        added.wrapping_sub(taken).min(self.capacity)
    }

    /// Adds `items`, in order.
    ///
    /// # Safety
    /// The caller owns the items, hands them over, and each came out of this ring before (or is one
    /// of its first `capacity`). The ring is alive until this call has published them; afterwards
    /// another thread may free it at once unless the caller keeps it alive by other means.
    pub(crate) unsafe fn enqueue(this: NonNull<Self>, items: &[T]) -> Home {
        let count = items.len() as u32;
        if count == 0 {
            return Home::Continue;
        }
        // SAFETY: alive, says the caller, because items are still missing from it. The borrow is
        // a local one and is not used after the exchange below.
        let ring = unsafe { this.as_ref() };
        let start = ring.reserve(count);
        // SAFETY: the slots from `start` on are reserved for this thread, and `reserve` has seen
        // that their readers of one lap ago are done.
        unsafe { ring.write(start, items) };

        let published = &ring.producer.published;
        let mut turns = 0;
        loop {
            let word = published.load(Ordering::Acquire);
            if tail(word) != start {
                wait(&mut turns);
                continue;
            }
            let missing = word as u32;
            let left = missing.saturating_sub(count);
            let next = u64::from(start.wrapping_add(count)) << 32 | u64::from(left);
            // Only the retirement of the ring can come between; then the word is read again.
            // Release: what was done with the items comes before their next use. Acquire: the
            // thread that frees comes after all the others.
            if published
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return if missing != 0 && left == 0 {
                    Home::Free
                } else {
                    Home::Continue
                };
            }
        }
    }

    /// Reserves `count` slots for writing.
    fn reserve(&self, count: u32) -> u32 {
        let size = self.mask + 1;
        let mut turns = 0;
        let mut head = self.producer.head.load(Ordering::Acquire);
        loop {
            // Every item exists once, so there is room. What may be behind is this thread's view
            // of the consumers; loading their tail also orders their reads before our writes.
            let taken = self.consumer.tail.load(Ordering::Acquire);
            if head.wrapping_add(count).wrapping_sub(taken) > size {
                wait(&mut turns);
                head = self.producer.head.load(Ordering::Acquire);
                continue;
            }
            match self.producer.head.compare_exchange_weak(
                head,
                head.wrapping_add(count),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return head,
                Err(now) => {
                    head = now;
                    wait(&mut turns);
                }
            }
        }
    }

    /// Takes as many items as fit into `into`, but none if there are fewer than `at_least`. Returns
    /// how many.
    pub(crate) fn dequeue(&self, into: &mut [MaybeUninit<T>], at_least: u32) -> u32 {
        let mut turns = 0;
        let mut head = self.consumer.head.load(Ordering::Acquire);
        let count = loop {
            // The head was read first (acquire), so the tail is at least the one its writer saw:
            // `here` is never negative. If the head is stale, `here` is too large, and the exchange
            // fails.
            let added = tail(self.producer.published.load(Ordering::Acquire));
            let here = added.wrapping_sub(head);
            let count = here.min(into.len() as u32);
            if count == 0 || count < at_least {
                return 0;
            }
            match self.consumer.head.compare_exchange_weak(
                head,
                head.wrapping_add(count),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break count,
                Err(now) => {
                    head = now;
                    wait(&mut turns);
                }
            }
        };
        // SAFETY: the slots from `head` on are reserved for this thread to read, and were
        // published by a release that the load of `added` acquired.
        unsafe { self.read(head, &mut into[..count as usize]) };
        // Acquire and release: the reads of this consumer and of all before it come before the
        // slots are written again.
        while self.consumer.tail.load(Ordering::Acquire) != head {
            wait(&mut turns);
        }
        self.consumer
            .tail
            .store(head.wrapping_add(count), Ordering::Release);
        count
    }

    /// Declares that nobody will take items any more and that `elsewhere` of them rest where they
    /// count as home. Called once.
    ///
    /// # Safety
    /// As for [`BulkRing::enqueue`]: the ring is alive until this call takes effect.
    pub(crate) unsafe fn retire(this: NonNull<Self>, elsewhere: u32) -> Home {
        // SAFETY: alive, says the caller; not used after the exchange.
        let ring = unsafe { this.as_ref() };
        let published = &ring.producer.published;
        let taken = ring.consumer.tail.load(Ordering::Acquire);
        let mut word = published.load(Ordering::Acquire);
        loop {
            let here = tail(word).wrapping_sub(taken);
            let missing = ring.capacity - here - elsewhere;
            if missing == 0 {
                return Home::Free;
            }
            match published.compare_exchange(
                word,
                word | u64::from(missing),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Home::Continue,
                Err(now) => word = now,
            }
        }
    }

    /// # Safety
    /// The slots from cursor `start` on are the caller's to write.
    unsafe fn write(&self, start: u32, items: &[T]) {
        let at = (start & self.mask) as usize;
        let (before, after) = items.split_at(items.len().min(self.mask as usize + 1 - at));
        // SAFETY: the caller's slots, split where the ring wraps.
        unsafe { self.slots.write(at, before) };
        // SAFETY: as above.
        unsafe { self.slots.write(0, after) };
    }

    /// # Safety
    /// The slots from cursor `start` on are the caller's to read.
    unsafe fn read(&self, start: u32, into: &mut [MaybeUninit<T>]) {
        let at = (start & self.mask) as usize;
        let (before, after) = into.split_at_mut(into.len().min(self.mask as usize + 1 - at));
        // SAFETY: the caller's slots, split where the ring wraps.
        unsafe { self.slots.read(at, before) };
        // SAFETY: as above.
        unsafe { self.slots.read(0, after) };
    }
}

#[inline]
fn tail(published: u64) -> u32 {
    (published >> 32) as u32
}
