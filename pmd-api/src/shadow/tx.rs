//! Packets handed to a device for transmission.

use std::sync::atomic::{Ordering, fence};

use std::marker::PhantomData;

use super::Slots;
use crate::meta::{Handle, Line, Origin, REFERENCES};
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
    const KIND: u32 = 48;

    /// Packets of this kind, whose buffers are of this origin, which is an own one's.
    #[inline]
    fn new(origin: Origin, kind: Kind) -> Self {
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
        let first = batch.as_slice().first();
        TxPush {
            limit: limit.min(self.room() as usize).min(batch.len()),
            origin: first.map(|mbuf| mbuf.line().origin.get().to_own()),
            ring: self,
            batch,
            count: 0,
            kind: Kind::Simple,
        }
    }

    /// Takes the packet of a batch that has no other, if one more is allowed, it is simple (see
    /// [`TxPush::simple`]) and like the newest ones of the ring, and `write` accepts it: what
    /// [`TxShadowRing::push`] does, for bursts of one. Otherwise nothing changes, and that way is to be
    /// taken.
    #[inline]
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
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        self.slots.set(tail, handle);
        self.tail = tail.wrapping_add(1);
        // The ring has it now.
        batch.let_go();
        true
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
    /// Of the packets accepted.
    kind: Kind,
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

    /// Offers packets to `write` while there are some and it accepts them, each with those of its
    /// segments that are *plain*, from the first on until one is not. Returns how many it accepted.
    ///
    /// A segment is plain if it is unshared and not empty, in its own buffer, and of the pool that
    /// [`TxPush::simple`] names. Packets of which `write` has taken all segments cost less when they are
    /// done with.
    #[inline]
    pub fn plain(&mut self, mut write: impl FnMut(&Mbuf, &mut PlainSegments<'_>) -> bool) -> usize {
        let Some(origin) = self.origin else { return 0 };
        let packets = &self.batch.as_slice()[self.count..self.limit];
        let mut accepted = 0;
        // Numbers of segments, put together: 1 only if they all are.
        let (mut segments_of_all, mut done) = (0, true);
        for mbuf in packets {
            let mut segments = PlainSegments::of(mbuf, origin);
            if !write(mbuf, &mut segments) {
                break;
            }
            accepted += 1;
            segments_of_all |= mbuf.line().segments();
            done &= segments.is_done();
        }
        self.kind = self.kind.max(match done {
            true if segments_of_all <= 1 => Kind::Simple,
            true => Kind::Plain,
            false => Kind::Mixed,
        });
        self.count += accepted;
        accepted
    }

    /// The next packet.
    #[inline]
    pub fn peek(&self) -> Option<&Mbuf> {
        self.batch.as_slice()[..self.limit].get(self.count)
    }

    fn kind_of(&self, mbuf: &Mbuf) -> Kind {
        let Some(origin) = self.origin else {
            return Kind::Mixed;
        };
        let mut segments = PlainSegments::of(mbuf, origin);
        while segments.next().is_some() {}
        match segments.is_done() {
            true if mbuf.segments() == 1 => Kind::Simple,
            true => Kind::Plain,
            false => Kind::Mixed,
        }
    }

    /// Offers the next packet, whatever it is like. Whether it was accepted; not if there is none.
    #[inline]
    pub fn next(&mut self, accept: impl FnOnce(&Mbuf) -> bool) -> bool {
        let Some(mbuf) = self.peek() else {
            return false;
        };
        let kind = self.kind_of(mbuf);
        let accepted = accept(mbuf);
        if accepted {
            self.count += 1;
            self.kind = self.kind.max(kind);
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
            kind,
            ..
        } = self;
        // The last accesses of clones that were seen to be gone come before the reuse.
        fence(Ordering::Acquire);
        if let (1.., Some(origin)) = (count, origin) {
            let alike = Alike::new(origin, kind);
            if ring.newest != alike {
                ring.begin_run(alike);
            }
            let left = ring.allowed().saturating_sub(count as u32);
            batch.move_prefix(ring.slots.pieces_mut(ring.tail, count as u32));
            ring.tail = ring.tail.wrapping_add(count as u32);
            ring.stop = ring.tail.wrapping_add(left);
        }
        count
    }
}

/// The plain segments of a packet: see [`TxPush::plain`].
#[derive(Debug)]
pub struct PlainSegments<'a> {
    next: Option<Handle>,
    origin: Origin,
    of: PhantomData<&'a Mbuf>,
}

impl<'a> PlainSegments<'a> {
    #[inline]
    fn of(mbuf: &'a Mbuf, origin: Origin) -> Self {
        Self {
            next: Some(mbuf.handle()),
            origin,
            of: PhantomData,
        }
    }

    /// Whether every segment of the packet was plain and was taken.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }
}

impl Iterator for PlainSegments<'_> {
    type Item = PlainSegment;

    #[inline]
    fn next(&mut self) -> Option<PlainSegment> {
        // SAFETY: a line of the mbuf that is borrowed for 'a.
        let line: &Line = unsafe { self.next?.line() };
        let (references, len) = (line.head.load(Ordering::Relaxed), line.data_len.get());
        if line.origin.get() != self.origin || references & REFERENCES != 1 || len == 0 {
            return None;
        }
        self.next = line.next.get();
        Some(PlainSegment {
            address: line.data().addr() as u64,
            len,
        })
    }
}

/// Where the data of a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainSegment {
    /// Address of its first byte.
    pub address: u64,
    /// Number of its bytes.
    pub len: u32,
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
