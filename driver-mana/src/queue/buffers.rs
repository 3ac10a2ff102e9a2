//! The two kinds of receive queues: one buffer a packet, and several. A port chooses when it starts;
//! the burst (`rx.rs`) is compiled for each.

use gdma::{ReceiveRing, ScatterRing};
use pmd_api::{
    Arrival, Batch, Pool, Posted, PostedGroups, PostedNeighbours, RxShadowRing, ScatterShadowRing,
};

use super::QueueError;
use super::rings::{Posting, RxRings};

/// Buffers that a turn of the loop that posts them takes.
const UNROLLED: usize = 4;

/// What a burst does with posted buffers. Counted in packets: a buffer each, or a group of them.
pub(super) trait RxBuffers {
    /// The packets that are posted, oldest first.
    type Posted<'a>: Noted
    where
        Self: 'a;

    /// Packets that are posted.
    fn len(&self) -> u32;

    /// To note what arrived.
    fn posted(&mut self) -> Self::Posted<'_>;

    /// See [`RxShadowRing::receive_each`].
    fn receive_each(
        &mut self,
        arrivals: impl ExactSizeIterator<Item = Option<Arrival>>,
        batch: &mut Batch,
    ) -> (usize, u64);

    /// Moves what arrived in the `count` oldest to the batch.
    fn receive(&mut self, count: u32, batch: &mut Batch) -> u32;

    /// Gives up the `count` oldest.
    fn discard(&mut self, count: u32) -> u32;

    /// Posts up to `count` and tells the device; returns how many.
    fn refill(&mut self, count: u32) -> u32;
}

/// See [`Posted`].
pub(super) trait Noted {
    /// See [`PostedNeighbours`].
    type Neighbours<'a>: Neighbours
    where
        Self: 'a;

    /// See [`Posted::neighbours`].
    fn neighbours(&self, from: u32, count: u32) -> Self::Neighbours<'_>;
}

/// See [`PostedNeighbours`].
pub(super) trait Neighbours: Copy {
    /// How many there are.
    fn len(self) -> usize;

    /// See [`PostedNeighbours::set_received`].
    fn set_received(self, index: usize, len: u32, hash: u32, rx_word: u32) -> bool;
}

impl Noted for Posted<'_> {
    type Neighbours<'a>
        = PostedNeighbours<'a>
    where
        Self: 'a;

    #[inline]
    fn neighbours(&self, from: u32, count: u32) -> PostedNeighbours<'_> {
        Posted::neighbours(self, from, count)
    }
}

impl Neighbours for PostedNeighbours<'_> {
    #[inline]
    fn len(self) -> usize {
        PostedNeighbours::len(&self)
    }

    #[inline]
    fn set_received(self, index: usize, len: u32, hash: u32, rx_word: u32) -> bool {
        PostedNeighbours::set_received(&self, index, len, hash, rx_word)
    }
}

/// Groups have no neighbours in memory; it makes no difference.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    posted: &'a PostedGroups<'a>,
    from: u32,
    count: u32,
}

impl Noted for PostedGroups<'_> {
    type Neighbours<'a>
        = Groups<'a>
    where
        Self: 'a;

    #[inline]
    fn neighbours(&self, from: u32, count: u32) -> Groups<'_> {
        Groups {
            posted: self,
            from,
            count,
        }
    }
}

impl Neighbours for Groups<'_> {
    #[inline]
    fn len(self) -> usize {
        self.count as usize
    }

    #[inline]
    fn set_received(self, index: usize, len: u32, hash: u32, rx_word: u32) -> bool {
        let group = self.from.wrapping_add(index as u32);
        let good = index < self.len() && len != 0;
        good && self.posted.set_received(group, len, hash, rx_word)
    }
}

/// One buffer a packet.
#[derive(Debug)]
pub(super) struct Single {
    rq: ReceiveRing,
    shadow: RxShadowRing,
}

impl RxBuffers for Single {
    type Posted<'a> = Posted<'a>;

    #[inline]
    fn len(&self) -> u32 {
        self.shadow.len()
    }

    #[inline]
    fn posted(&mut self) -> Posted<'_> {
        self.shadow.posted()
    }

    #[inline(always)]
    fn receive_each(
        &mut self,
        arrivals: impl ExactSizeIterator<Item = Option<Arrival>>,
        batch: &mut Batch,
    ) -> (usize, u64) {
        self.shadow.receive_each(arrivals, batch)
    }

    #[inline]
    fn receive(&mut self, count: u32, batch: &mut Batch) -> u32 {
        self.shadow.receive(count, batch)
    }

    fn discard(&mut self, count: u32) -> u32 {
        self.shadow.discard(count)
    }

    #[inline]
    fn refill(&mut self, count: u32) -> u32 {
        let (rq, start) = (&self.rq, self.rq.head());
        let filled = self.shadow.refill(count, |first, mut addresses| {
            let mut at = start.wrapping_add(first);
            while !addresses.is_empty() {
                let wqes = rq.wqes(at, addresses.len());
                let here = wqes.len();
                wqes.set_addresses(addresses.groups::<UNROLLED>());
                let whole = here - here % UNROLLED;
                let rest = addresses.skip(whole).groups::<1>();
                wqes.skip(whole).set_addresses(rest);
                at = at.wrapping_add(here as u32);
                addresses = addresses.skip(here);
            }
        });
        if filled > 0 {
            self.rq.commit(start.wrapping_add(filled));
        }
        filled
    }
}

/// Several buffers a packet (reference/mana-hardware.md §3.5).
#[derive(Debug)]
pub(super) struct Scatter {
    rq: ScatterRing,
    shadow: ScatterShadowRing,
}

impl RxBuffers for Scatter {
    type Posted<'a> = PostedGroups<'a>;

    fn len(&self) -> u32 {
        self.shadow.len()
    }

    fn posted(&mut self) -> PostedGroups<'_> {
        self.shadow.posted()
    }

    fn receive_each(
        &mut self,
        mut arrivals: impl ExactSizeIterator<Item = Option<Arrival>>,
        batch: &mut Batch,
    ) -> (usize, u64) {
        let most = arrivals.len().min(batch.room());
        let posted = self.shadow.posted();
        let groups = posted.neighbours(0, most as u32);
        let (mut count, mut bytes) = (0, 0);
        while count < most
            && let Some(Some(Arrival { len, hash, rx_word })) = arrivals.next()
            && groups.set_received(count, len, hash, rx_word)
        {
            count += 1;
            bytes += u64::from(len);
        }
        self.shadow.receive(count as u32, batch);
        (count, bytes)
    }

    fn receive(&mut self, count: u32, batch: &mut Batch) -> u32 {
        self.shadow.receive(count, batch)
    }

    fn discard(&mut self, count: u32) -> u32 {
        self.shadow.discard(count)
    }

    fn refill(&mut self, count: u32) -> u32 {
        let (rq, start, units) = (&self.rq, self.rq.head(), self.rq.units());
        let at = |packet: u32| start.wrapping_add(packet.wrapping_mul(units));
        let filled = self.shadow.refill(count, |packet, segment, address| {
            rq.set_address(at(packet), segment, address);
        });
        if filled > 0 {
            self.rq.commit(at(filled));
        }
        filled
    }
}

/// The buffers of a receive queue, of either kind.
#[derive(Debug)]
pub(super) enum Buffers {
    Single(Single),
    Scatter(Scatter),
}

impl Buffers {
    /// For `depth` packets of `posting.segments` buffers of `pool`, none of them posted yet. `port`
    /// is written into received packets.
    pub(super) fn new(
        rings: &RxRings,
        posting: Posting,
        depth: u32,
        pool: Pool,
        port: u16,
    ) -> Result<Self, QueueError> {
        Ok(match posting.segments {
            1 => Self::Single(Single {
                rq: rings.single(posting)?,
                shadow: RxShadowRing::new(depth, pool, port),
            }),
            segments => Self::Scatter(Scatter {
                rq: rings.scatter(posting)?,
                shadow: ScatterShadowRing::new(depth, segments, pool, port),
            }),
        })
    }

    /// Packets that are posted.
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Single(buffers) => buffers.len(),
            Self::Scatter(buffers) => buffers.len(),
        }
    }

    /// Buffers of a packet.
    pub(super) fn segments(&self) -> u32 {
        match self {
            Self::Single(_) => 1,
            Self::Scatter(buffers) => buffers.shadow.segments(),
        }
    }

    /// The buffers alone, to be dropped or kept. Their ring is gone.
    pub(super) fn into_shadow(self) -> Shadow {
        match self {
            Self::Single(Single { shadow, .. }) => Shadow::Single(shadow),
            Self::Scatter(Scatter { shadow, .. }) => Shadow::Scatter(shadow),
        }
    }
}

/// Posted buffers without their ring; held only to be dropped.
#[expect(dead_code, reason = "what is in it matters when it is dropped")]
pub(super) enum Shadow {
    Single(RxShadowRing),
    Scatter(ScatterShadowRing),
}
