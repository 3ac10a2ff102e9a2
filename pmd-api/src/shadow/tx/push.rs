//! A burst of whatever packets on its way into the ring.

use std::marker::PhantomData;
use std::sync::atomic::{Ordering, fence};

use super::{Alike, Kind, TxShadowRing};
use crate::meta::{Handle, Line, Origin, REFERENCES};
use crate::{Batch, Mbuf};

/// Packets of a batch that are being handed to a device: see [`TxShadowRing::push`].
///
/// They stay in the batch until [`TxPush::finish`]. If that is never called, because of a panic, the
/// device may have been told of packets that the batch still owns.
pub struct TxPush<'a> {
    ring: &'a mut TxShadowRing,
    pub(super) batch: &'a mut Batch,
    /// Of the first packet, if its buffer were its own.
    origin: Option<Origin>,
    limit: usize,
    count: usize,
    /// Of the packets accepted.
    kind: Kind,
}

impl<'a> TxPush<'a> {
    #[inline]
    pub(super) fn new(ring: &'a mut TxShadowRing, batch: &'a mut Batch, limit: usize) -> Self {
        let first = batch.as_slice().first();
        Self {
            limit: limit.min(ring.room() as usize).min(batch.len()),
            origin: first.map(|mbuf| mbuf.line().origin.get().to_own()),
            ring,
            batch,
            count: 0,
            kind: Kind::Simple,
        }
    }
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
            batch.move_prefix(ring.slots.pieces_mut(ring.tail, count as u32));
            ring.advance(count as u32);
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
