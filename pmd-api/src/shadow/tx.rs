//! Packets handed to a device for transmission.

mod push;

use std::sync::atomic::{Ordering, fence};

pub use push::{PlainSegment, PlainSegments, TxPush};

use super::Slots;
use crate::meta::Origin;
use crate::{Batch, Mbuf, pool};

/// Packets in flight, oldest first, in a ring of fixed capacity. Dropping it drops them.
///
/// What is known of the packets when they come in is remembered: those that were simple and of one
/// pool go home by a copy of their handles, and their metadata is not looked at again. It can't
/// have changed: to clone or chain a packet one needs it exclusively, and the ring has it. So do chains
/// whose segments are all unshared and of one pool, but for the links between them.
pub struct TxShadowRing {
    slots: Slots,
    /// Runs of packets that are alike, oldest first, but for the newest: one slot for each packet, so it
    /// never lacks room.
    runs: Box<[Run]>,
    /// What the newest packets have in common: those behind these runs.
    newest: Alike,
    head: u32,
    tail: u32,
    /// Cursor up to which packets are taken without a question. Between `tail` and as many slots as
    /// there are behind `head`.
    stop: u32,
    first_run: u32,
    last_run: u32,
}

/// Packets up to cursor `end`.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    end: u32,
    alike: Alike,
}

/// What packets have in common: the [`Origin`] of their own buffers, and above its bits their kind.
/// The pool of mixed ones says nothing. The origin of a simple packet is what it is alike itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Alike(u64);

impl Alike {
    /// Position of the kind, in bits that an origin of an own buffer has clear.
    const KIND: u32 = Origin::SPARE;

    /// Packets of this kind, whose buffers are of this origin, which is an own one's.
    #[inline]
    fn new(origin: Origin, kind: Kind) -> Self {
        debug_assert!(origin.is_own());
        Self(origin.to_bits() | (kind as u64) << Self::KIND)
    }

    /// Whether they are simple, and so is a packet of this origin that has one reference and one
    /// segment.
    #[inline]
    fn is_simple_of(self, origin: Origin) -> bool {
        self.0 == origin.to_bits()
    }

    #[inline]
    fn is(self, kind: Kind) -> bool {
        self.0 >> Self::KIND == kind as u64
    }

    #[inline]
    fn pool(self) -> u32 {
        self.0 as u32
    }
}

/// How packets are. What is less is also what is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Unshared, one segment, in its own buffer.
    #[default]
    Simple,
    /// Unshared segments, each in its own buffer.
    Plain,
    Mixed,
}

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
            newest: Alike::default(),
            head: cursor,
            tail: cursor,
            stop: cursor,
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

    /// Packets that ever came in, modulo 2^32.
    #[inline]
    pub fn taken(&self) -> u32 {
        self.tail
    }

    /// Packets that ever went home, modulo 2^32.
    #[inline]
    pub fn released(&self) -> u32 {
        self.head
    }

    /// From now on `count` packets may come in before the driver wants to look at its device again, or
    /// fewer, if there is no room for so many. A fresh ring allows none.
    #[inline]
    pub fn allow(&mut self, count: u32) {
        self.stop = self.tail.wrapping_add(count.min(self.room()));
    }

    /// How many of these are left. [`TxShadowRing::push`] may take more than that.
    #[inline]
    pub fn allowed(&self) -> u32 {
        self.stop.wrapping_sub(self.tail)
    }

    /// Begins to take packets from the front of `batch`: at most `limit`, and as many as there is room
    /// for.
    #[inline]
    pub fn push<'a>(&'a mut self, batch: &'a mut Batch, limit: usize) -> TxPush<'a> {
        TxPush::new(self, batch, limit)
    }

    /// Takes the packet of a batch that has no other, if one more is allowed, it is simple (see
    /// [`TxPush::simple`]) and like the newest ones of the ring, and `write` accepts it: what
    /// [`TxShadowRing::push`] does, for bursts of one. Otherwise nothing changes, and that way is to be
    /// taken.
    ///
    /// When `write` has accepted the packet the ring has it, without anything that may fail in between:
    /// `write` may hand it to the device. If `write` panics, the batch has it still.
    #[inline(always)]
    pub fn push_one(&mut self, batch: &mut Batch, write: impl FnOnce(&Mbuf) -> bool) -> bool {
        let [mbuf] = batch.as_slice() else {
            return false;
        };
        let (line, handle, tail) = (mbuf.line(), mbuf.handle(), self.tail);
        let allowed = tail != self.stop;
        let alike = self.newest.is_simple_of(line.origin.get());
        if !allowed || !alike || !line.is_single() || !write(mbuf) {
            return false;
        }
        // The device may have it already: nothing from here on can panic.
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        self.slots.set(tail, handle);
        self.tail = tail.wrapping_add(1);
        // The ring has it now.
        batch.let_go();
        true
    }

    /// Takes all packets of a batch, if there is room and a place for each, they are simple and of one
    /// pool (see [`TxPush::simple`]), the newest ones of the ring were simple, too, and `write` accepts each
    /// by telling its bytes, which are not 0: what [`TxShadowRing::push`] does, for bursts like most
    /// others. As that does it may take more than are allowed. Returns how many there are, and their
    /// bytes. If these are 0, the ring and the batch are as before, `write` may have been called, and that
    /// way is to be taken.
    #[inline(always)]
    pub fn push_alike<P>(
        &mut self,
        batch: &mut Batch,
        places: impl ExactSizeIterator<Item = P>,
        write: impl Fn(&Mbuf, P) -> u64,
    ) -> (usize, u64) {
        let packets = batch.as_slice();
        let count = packets.len();
        let Some(first) = packets.first() else {
            return (0, 0);
        };
        let origin = first.line().origin.get();
        let room = self.slots.neighbours(self.tail).min(places.len());
        let alike = origin.is_own() && self.newest.is(Kind::Simple);
        if count > room || count > self.room() as usize || !alike {
            return (0, 0);
        }
        let (accepted, bytes) = offer(packets, origin, places, write);
        if accepted != count {
            return (0, 0);
        }
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        let alike = Alike::new(origin, Kind::Simple);
        if self.newest != alike {
            self.begin_run(alike);
        }
        batch.move_all(self.slots.first_piece_mut(self.tail, count));
        self.advance(count as u32);
        (count, bytes)
    }

    /// So many packets more are in the ring.
    #[inline]
    fn advance(&mut self, count: u32) {
        let left = self.allowed().saturating_sub(count);
        self.tail = self.tail.wrapping_add(count);
        self.stop = self.tail.wrapping_add(left);
    }

    /// The packets that come next are not like the newest.
    #[inline(never)]
    fn begin_run(&mut self, alike: Alike) {
        let mask = self.runs.len() - 1;
        let start = match self.first_run == self.last_run {
            true => self.head,
            false => self.runs[self.last_run.wrapping_sub(1) as usize & mask].end,
        };
        if start != self.tail {
            self.runs[self.last_run as usize & mask] = Run {
                end: self.tail,
                alike: self.newest,
            };
            self.last_run = self.last_run.wrapping_add(1);
        }
        self.newest = alike;
    }

    /// The device is done with the `count` oldest packets (all, if there are fewer): they go home,
    /// simple ones in bulk through this thread's cache record.
    #[inline]
    pub fn release(&mut self, count: u32) {
        let mut left = count.min(self.len());
        let mask = self.runs.len() - 1;
        while left != 0 {
            let newest = self.first_run == self.last_run;
            let Run { end, alike } = match newest {
                true => Run {
                    end: self.tail,
                    alike: self.newest,
                },
                false => self.runs[self.first_run as usize & mask],
            };
            let here = end.wrapping_sub(self.head);
            let now = left.min(here);
            let start = self.head;
            // First of all: from here on the packets are not the ring's.
            self.head = start.wrapping_add(now);
            if now == here && !newest {
                self.first_run = self.first_run.wrapping_add(1);
            }
            left -= now;
            let (before, after) = self.slots.pieces(start, now);
            for piece in [before, after] {
                // SAFETY: slots between head and tail hold the handles of mbufs.
                let handles = unsafe { piece.assume_init_ref() };
                if alike.is(Kind::Simple) {
                    // SAFETY: the ring owned these mbufs and has let go of them above; all were
                    // simple and of that pool when they came in, and the ring was their only owner
                    // since.
                    unsafe { pool::recycle(handles, alike.pool()) };
                } else if alike.is(Kind::Plain) && !handles.is_empty() {
                    // SAFETY: as above, with all their segments.
                    unsafe { pool::recycle_chains(handles, alike.pool()) };
                } else {
                    // SAFETY: as above, but nothing is known of them.
                    unsafe { pool::drop_all(handles) };
                }
            }
        }
    }
}

/// Offers packets to `write` while they are simple ones of this origin, and it accepts them. Returns how
/// many these are, and their bytes. Alone, because its loop has use for every register.
#[inline(never)]
fn offer<P>(
    packets: &[Mbuf],
    origin: Origin,
    places: impl Iterator<Item = P>,
    write: impl Fn(&Mbuf, P) -> u64,
) -> (usize, u64) {
    let (mut accepted, mut bytes) = (0, 0);
    for (mbuf, place) in packets.iter().zip(places) {
        if !mbuf.line().is_simple_of(origin) {
            break;
        }
        let len = write(mbuf, place);
        if len == 0 {
            break;
        }
        bytes += len;
        accepted += 1;
    }
    (accepted, bytes)
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
#[path = "tx_tests.rs"]
mod tests;
