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

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::*;
    use crate::Pool;
    use crate::testing::{batch, pool};

    /// First byte of each packet.
    fn numbers(batch: &Batch) -> Vec<u8> {
        batch.iter().map(|mbuf| mbuf.data()[0]).collect()
    }

    fn push_all(ring: &mut TxShadowRing, batch: &mut Batch) -> Vec<bool> {
        let mut verdicts = Vec::new();
        let count = ring.push_while(batch, usize::MAX, |_, simple| {
            verdicts.push(simple);
            true
        });
        assert_eq!(count, verdicts.len());
        verdicts
    }

    /// What the runs say, oldest first.
    fn runs(ring: &TxShadowRing) -> Vec<(u32, u32)> {
        let mask = ring.runs.len() as u32 - 1;
        let mut start = ring.head;
        (0..ring.last_run.wrapping_sub(ring.first_run))
            .map(|i| {
                let run = ring.runs[(ring.first_run.wrapping_add(i) & mask) as usize];
                (
                    run.pool,
                    run.end.wrapping_sub(std::mem::replace(&mut start, run.end)),
                )
            })
            .collect()
    }

    #[test]
    fn the_accepted_prefix_moves_in_and_the_rest_slides_to_the_front() {
        let pool = pool(64, 192, 0, 0);
        let mut ring = TxShadowRing::new(8);
        let mut batch = batch(&pool, 20);
        // Declined.
        assert_eq!(
            ring.push_while(&mut batch, 99, |mbuf, _| mbuf.data()[0] != 3),
            3
        );
        assert_eq!(numbers(&batch), (3..20).collect::<Vec<_>>());
        // Limited.
        assert_eq!(ring.push_while(&mut batch, 2, |_, _| true), 2);
        assert_eq!(ring.push_while(&mut batch, 0, |_, _| unreachable!()), 0);
        // Full, and across the end of the slots.
        ring.release(4);
        assert_eq!((ring.len(), ring.room()), (1, 7));
        assert_eq!(push_all(&mut ring, &mut batch), [true; 7]);
        assert_eq!(numbers(&batch), (12..20).collect::<Vec<_>>());
        assert_eq!(ring.push_while(&mut batch, 99, |_, _| unreachable!()), 0);
        assert_eq!(pool.in_use(), 16);
        ring.release(u32::MAX);
        assert!(ring.is_empty());
        assert_eq!(pool.in_use(), 8);
        assert_eq!(
            ring.push_while(&mut Batch::with_capacity(1), 9, |_, _| unreachable!()),
            0
        );
    }

    #[test]
    fn simple_packets_of_one_pool_are_one_run_and_others_are_told_apart() {
        let (a, b) = (pool(64, 192, 0, 0), pool(64, 192, 0, 0));
        let (in_a, in_b) = (a.id().0, b.id().0);
        let mut ring = TxShadowRing::new(64);
        assert_eq!(push_all(&mut ring, &mut batch(&a, 3)), [true; 3]);
        assert_eq!(push_all(&mut ring, &mut batch(&a, 2)), [true; 2]);
        assert_eq!(push_all(&mut ring, &mut batch(&b, 2)), [true; 2]);
        assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2)]);

        // Two pools in one burst; a chain; a clone; what was cloned.
        let mut mixed = batch(&a, 4);
        mixed.as_mut_slice()[1] = b.alloc().unwrap();
        let tail = a.alloc().unwrap();
        mixed.as_mut_slice()[2].chain(tail).unwrap();
        let clone = mixed.as_mut_slice()[3].clone_shared(&b).unwrap();
        assert_eq!(push_all(&mut ring, &mut mixed), [true, false, false, false]);
        assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2), (MIXED, 4)]);

        // A clone in front: those behind it in the same pool are simple, the run is not.
        let mut behind = batch(&a, 2);
        drop(clone);
        let mut first = batch(&a, 1);
        let clone = first.as_mut_slice()[0].clone_shared(&b).unwrap();
        let mut front = Batch::with_capacity(3);
        front.push(clone).unwrap();
        front.append(&mut behind);
        assert_eq!(push_all(&mut ring, &mut front), [false, true, true]);
        assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2), (MIXED, 7)]);

        drop(first);
        drop(behind);
        ring.release(4);
        assert_eq!(runs(&ring)[0], (in_a, 1));
        ring.release(2);
        assert_eq!(runs(&ring), [(in_b, 1), (MIXED, 7)]);
        drop(ring);
        assert_eq!((a.available(), b.available()), (64, 64));
    }

    #[test]
    fn a_packet_that_is_still_cloned_when_it_was_sent_goes_home_with_the_clone() {
        let pool = pool(4, 192, 2, 1);
        let mut ring = TxShadowRing::new(4);
        let mut sent = batch(&pool, 1);
        let clone = sent.as_mut_slice()[0].clone_shared(&pool).unwrap();
        assert_eq!(push_all(&mut ring, &mut sent), [false]);
        ring.release(1);
        assert_eq!((pool.available(), clone.data().len()), (2, 60));
        drop(clone);
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn released_simple_packets_are_whole_when_they_are_allocated_again() {
        let pool = pool(8, 192, 0, 0);
        let mut ring = TxShadowRing::new(8);
        let mut sent = batch(&pool, 8);
        for mbuf in &mut sent {
            mbuf.adj(30).unwrap();
            mbuf.set_port(9);
        }
        push_all(&mut ring, &mut sent);
        ring.release(8);
        for mbuf in batch(&pool, 8) {
            assert_eq!(
                (mbuf.data_len(), mbuf.headroom(), mbuf.port()),
                (60, 128, u16::MAX)
            );
        }
    }

    #[test]
    fn the_order_of_packets_survives_the_wrap_of_the_cursors() {
        let pools = [pool(64, 192, 8, 1), pool(64, 192, 8, 1)];
        let mut ring = TxShadowRing::with_cursor(16, u32::MAX - 40);
        let in_flight = |pool: &Pool| pool.in_use();
        for turn in 0..40 {
            let pool = &pools[turn / 3 % 2];
            let before = in_flight(pool);
            let mut batch = batch(pool, 5);
            push_all(&mut ring, &mut batch);
            assert_eq!(in_flight(pool), before + 5);
            // Keeps up to ten in flight.
            ring.release(ring.len().saturating_sub(10));
            assert_eq!(pools.iter().map(in_flight).sum::<u32>(), ring.len());
        }
        assert!(ring.tail < 1000);
    }

    #[test]
    fn packets_in_flight_can_be_freed_on_a_thread_that_never_saw_their_pool() {
        let pool = pool(64, 192, 8, 2);
        let mut ring = TxShadowRing::new(64);
        push_all(&mut ring, &mut batch(&pool, 40));
        let region = std::sync::Arc::downgrade(pool.region());
        drop(pool);
        std::thread::spawn(move || {
            ring.release(39);
            drop(ring);
        })
        .join()
        .unwrap();
        assert!(region.upgrade().is_none());
    }

    #[test]
    fn a_declining_caller_that_panics_loses_nothing() {
        let pool = pool(8, 192, 0, 0);
        let mut ring = TxShadowRing::new(8);
        let mut batch = batch(&pool, 4);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ring.push_while(&mut batch, 4, |mbuf, _| {
                assert!(mbuf.data()[0] < 2);
                true
            })
        }));
        assert!(caught.is_err());
        assert_eq!((ring.len(), batch.len()), (0, 4));
    }
}
