//! Packets handed to a device for transmission.

use std::sync::atomic::{Ordering, fence};

use super::Slots;
use crate::meta::Origin;
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

    /// Begins to take packets from the front of `batch`: at most `limit`, and as many as there is room
    /// for.
    #[inline]
    pub fn push<'a>(&'a mut self, batch: &'a mut Batch, limit: usize) -> TxPush<'a> {
        let first = batch.as_slice().first();
        TxPush {
            limit: limit.min(self.room() as usize).min(batch.len()),
            origin: first.map(|mbuf| mbuf.line().origin.get().to_own()),
            ring: self,
            batch,
            count: 0,
            alike: true,
        }
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

/// Packets of a batch that are being handed to a device: see [`TxShadowRing::push`].
///
/// They stay in the batch until [`TxPush::finish`]. If that is never called, because of a panic, the
/// device may have been told of packets that the batch still owns.
pub struct TxPush<'a> {
    ring: &'a mut TxShadowRing,
    batch: &'a mut Batch,
    /// Of the first packet, if its buffer were its own.
    origin: Option<Origin>,
    limit: usize,
    count: usize,
    alike: bool,
}

impl TxPush<'_> {
    /// Offers packets to `write`, each with one of `places`, while there are both, the packets are
    /// *simple* and `write` accepts them. Returns how many it accepted.
    ///
    /// A packet is simple if it is unshared, has one segment, in its own buffer, and is of the pool
    /// [`Mbuf::buffer_pool`] of the first packet of the batch: one memory key serves them all.
    #[inline]
    pub fn simple<P>(
        &mut self,
        places: impl Iterator<Item = P>,
        mut write: impl FnMut(&Mbuf, P) -> bool,
    ) -> usize {
        let Some(origin) = self.origin else { return 0 };
        let packets = &self.batch.as_slice()[self.count..self.limit];
        let mut accepted = 0;
        for (mbuf, place) in packets.iter().zip(places) {
            if !mbuf.line().is_simple_of(origin) || !write(mbuf, place) {
                break;
            }
            accepted += 1;
        }
        self.count += accepted;
        accepted
    }

    /// Whether there is a next packet and it is simple.
    #[inline]
    pub fn is_simple_next(&self) -> bool {
        let next = self.batch.as_slice()[..self.limit].get(self.count);
        let simple_of = |mbuf: &Mbuf, origin| mbuf.line().is_simple_of(origin);
        next.zip(self.origin)
            .is_some_and(|(mbuf, origin)| simple_of(mbuf, origin))
    }

    /// Offers the next packet, whatever it is like. Whether it was accepted; not if there is none.
    #[inline]
    pub fn next(&mut self, accept: impl FnOnce(&Mbuf) -> bool) -> bool {
        let Some(mbuf) = self.batch.as_slice()[..self.limit].get(self.count) else {
            return false;
        };
        let simple = self.is_simple_next();
        let accepted = accept(mbuf);
        if accepted {
            self.count += 1;
            self.alike &= simple;
        }
        accepted
    }

    /// Whether as many packets are accepted as can be.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count == self.limit
    }

    /// Moves the accepted packets into the ring; the others stay, in order, at the front of the
    /// batch. Returns how many were accepted.
    #[inline]
    pub fn finish(self) -> usize {
        let Self {
            ring,
            batch,
            origin,
            count,
            alike,
            ..
        } = self;
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        if let (1.., Some(origin)) = (count, origin) {
            batch.move_prefix(ring.slots.pieces_mut(ring.tail, count as u32));
            ring.tail = ring.tail.wrapping_add(count as u32);
            ring.note_run(if alike { origin.pool() } else { MIXED });
        }
        count
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

    /// Pushes as a driver does: simple packets in a row, others one by one. Tells `accept` which it
    /// was.
    fn push_while(
        ring: &mut TxShadowRing,
        batch: &mut Batch,
        limit: usize,
        mut accept: impl FnMut(&Mbuf, bool) -> bool,
    ) -> usize {
        let mut push = ring.push(batch, limit);
        let mut declined = false;
        let mut taken = 0;
        while !push.is_full() {
            let ahead = push.is_simple_next();
            let simple = push.simple(std::iter::repeat(()), |mbuf, ()| {
                declined = !accept(mbuf, true);
                !declined
            });
            assert_eq!(ahead, simple != 0 || declined);
            taken += simple;
            if declined || !push.next(|mbuf| accept(mbuf, false)) {
                break;
            }
            taken += 1;
        }
        assert_eq!(push.finish(), taken);
        taken
    }

    fn push_all(ring: &mut TxShadowRing, batch: &mut Batch) -> Vec<bool> {
        let mut verdicts = Vec::new();
        let count = push_while(ring, batch, usize::MAX, |_, simple| {
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
            push_while(&mut ring, &mut batch, 99, |mbuf, _| mbuf.data()[0] != 3),
            3
        );
        assert_eq!(numbers(&batch), (3..20).collect::<Vec<_>>());
        // Limited.
        assert_eq!(push_while(&mut ring, &mut batch, 2, |_, _| true), 2);
        assert_eq!(
            push_while(&mut ring, &mut batch, 0, |_, _| unreachable!()),
            0
        );
        // Full, and across the end of the slots.
        ring.release(4);
        assert_eq!((ring.len(), ring.room()), (1, 7));
        assert_eq!(push_all(&mut ring, &mut batch), [true; 7]);
        assert_eq!(numbers(&batch), (12..20).collect::<Vec<_>>());
        assert_eq!(
            push_while(&mut ring, &mut batch, 99, |_, _| unreachable!()),
            0
        );
        assert_eq!(pool.in_use(), 16);
        ring.release(u32::MAX);
        assert!(ring.is_empty());
        assert_eq!(pool.in_use(), 8);
        assert_eq!(
            push_while(
                &mut ring,
                &mut Batch::with_capacity(1),
                9,
                |_, _| unreachable!()
            ),
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
            push_while(&mut ring, &mut batch, 4, |mbuf, _| {
                assert!(mbuf.data()[0] < 2);
                true
            })
        }));
        assert!(caught.is_err());
        assert_eq!((ring.len(), batch.len()), (0, 4));
    }
}
