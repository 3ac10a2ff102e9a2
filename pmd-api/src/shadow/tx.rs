//! Packets handed to a device for transmission.

use std::sync::atomic::{Ordering, fence};

use super::Slots;
use crate::meta::SINGLE;
use crate::{Batch, Mbuf, pool};

/// Packets in flight, oldest first, in a ring of fixed capacity. Dropping it drops them.
///
/// What is known of the packets when they come in is remembered: those that were simple and of one
/// pool go home by a copy of their handles, and their metadata is not looked at again. It can't
/// have changed: to clone or chain a packet one needs it exclusively, and the ring has it.
pub struct TxShadowRing {
    slots: Slots,
    /// Runs of packets that are alike, oldest first: one slot for each packet, so it never lacks
    /// room.
    runs: Box<[Run]>,
    head: u32,
    tail: u32,
    first_run: u32,
    last_run: u32,
}

/// Packets up to cursor `end` that are simple and of the pool with this id; anything if it is 0.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    end: u32,
    pool: u32,
}

const MIXED: u32 = 0;

// SAFETY: the ring owns its packets, and mbufs are `Send`.
unsafe impl Send for TxShadowRing {}

impl TxShadowRing {
    /// A ring for `capacity` packets (rounded up to a power of two), empty.
    ///
    /// # Panics
    /// If `capacity` is 0 or above 2^31.
    pub fn new(capacity: u32) -> Self {
        Self::with_cursor(capacity, 0)
    }

    fn with_cursor(capacity: u32, cursor: u32) -> Self {
        let slots = Slots::new(capacity);
        let runs = vec![Run::default(); slots.slots.len()].into();
        Self {
            slots,
            runs,
            head: cursor,
            tail: cursor,
            first_run: cursor,
            last_run: cursor,
        }
    }

    /// Packets it can hold.
    pub fn capacity(&self) -> u32 {
        self.slots.slots.len() as u32
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// Whether no packet is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Packets that it can still take.
    #[inline]
    pub fn room(&self) -> u32 {
        self.capacity() - self.len()
    }

    /// Offers the packets of `batch` to `accept`, from the front, until it declines one, `limit`
    /// packets are accepted, or the ring is full. Moves the accepted ones in; the others stay, in
    /// order, at the front of the batch. Returns how many were accepted.
    ///
    /// With each packet comes whether it is *simple*: unshared, one segment, in its own buffer, of
    /// the pool [`Mbuf::buffer_pool`] of the first packet of the batch. One memory key serves all
    /// simple packets of a call.
    ///
    /// If `accept` panics, no packet is moved: then the device may have been told of packets that
    /// the batch still owns.
    #[inline]
    pub fn push_while(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        mut accept: impl FnMut(&Mbuf, bool) -> bool,
    ) -> usize {
        let limit = limit.min(self.room() as usize).min(batch.len());
        let Some(first) = batch.as_slice().first() else {
            return 0;
        };
        let origin = first.line().origin.get().to_own();
        let mut count = 0;
        let mut alike = true;
        for mbuf in &batch.as_slice()[..limit] {
            let line = mbuf.line();
            let simple = line.head.load(Ordering::Relaxed) == SINGLE && line.origin.get() == origin;
            if !accept(mbuf, simple) {
                break;
            }
            alike &= simple;
            count += 1;
        }
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        if count != 0 {
            batch.move_prefix(self.slots.pieces_mut(self.tail, count as u32));
            self.tail = self.tail.wrapping_add(count as u32);
            self.note_run(if alike { origin.pool() } else { MIXED });
        }
        count
    }

    /// The packets from the end of the last run on are of this kind.
    #[inline]
    fn note_run(&mut self, pool: u32) {
        let mask = self.runs.len() - 1;
        let last = self.last_run.wrapping_sub(1);
        if self.first_run != self.last_run && self.runs[last as usize & mask].pool == pool {
            self.runs[last as usize & mask].end = self.tail;
        } else {
            self.runs[self.last_run as usize & mask] = Run {
                end: self.tail,
                pool,
            };
            self.last_run = self.last_run.wrapping_add(1);
        }
    }

    /// The device is done with the `count` oldest packets (all, if there are fewer): they go home,
    /// simple ones in bulk through this thread's cache record.
    #[inline]
    pub fn release(&mut self, count: u32) {
        let mut left = count.min(self.len());
        let mask = self.runs.len() - 1;
        while left != 0 {
            let run = self.runs[self.first_run as usize & mask];
            let here = run.end.wrapping_sub(self.head);
            let now = left.min(here);
            let start = self.head;
            // First of all: from here on the packets are not the ring's.
            self.head = start.wrapping_add(now);
            if now == here {
                self.first_run = self.first_run.wrapping_add(1);
            }
            left -= now;
            let (before, after) = self.slots.pieces(start, now);
            for piece in [before, after] {
                // SAFETY: slots between head and tail hold the handles of mbufs.
                let handles = unsafe { piece.assume_init_ref() };
                if run.pool == MIXED {
                    // SAFETY: the ring owned these mbufs and has let go of them above.
                    unsafe { pool::drop_all(handles) };
                } else {
                    // SAFETY: as above; all were simple and of that pool when they came in, and
                    // the ring was their only owner since.
                    unsafe { pool::recycle(handles, run.pool) };
                }
            }
        }
    }
}

impl Drop for TxShadowRing {
    fn drop(&mut self) {
        self.release(self.len());
    }
}

impl std::fmt::Debug for TxShadowRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxShadowRing")
            .field("capacity", &self.capacity())
            .field("head", &self.head)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}
