//! Buffers posted to a device for reception, several of them for each packet.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use crate::meta::SEGMENTS;
use crate::{Batch, HEADROOM, Mbuf, Pool};

/// Free buffers of one pool in the hands of a device, in groups of equal size, oldest first. A packet
/// takes one group: it becomes a chain of as many buffers as it fills, and the others of its group
/// are kept to be posted again. Dropping the ring sends all home.
pub struct ScatterShadowRing {
    /// Group `g` of `segments` buffers each from `g * segments` on; a power of two of groups.
    slots: Box<[Option<Mbuf>]>,
    groups: u32,
    segments: u32,
    head: u32,
    tail: u32,
    port: u16,
    /// Bytes of a packet in one buffer.
    room: u32,
    /// Buffers that came back unused, fresh as from the pool.
    spare: Batch,
    pool: Pool,
}

impl ScatterShadowRing {
    /// A ring for `capacity` groups (rounded up to a power of two) of `segments` buffers of `pool`,
    /// empty. `port` is written into every packet received.
    ///
    /// # Panics
    /// If `capacity` is 0 or above 2^24, or `segments` 0 or above 255.
    pub fn new(capacity: u32, segments: u32, pool: Pool, port: u16) -> Self {
        assert!(
            (1..=1 << 24).contains(&capacity) && (1..=255).contains(&segments),
            "a shadow ring of {capacity} groups of {segments} buffers"
        );
        let groups = capacity.next_power_of_two();
        let slots = groups as usize * segments as usize;
        Self {
            slots: (0..slots).map(|_| None).collect(),
            groups,
            segments,
            head: 0,
            tail: 0,
            port,
            room: pool.data_room().saturating_sub(HEADROOM as u32).max(1),
            spare: Batch::with_capacity(slots),
            pool,
        }
    }

    /// Groups it can hold.
    pub fn capacity(&self) -> u32 {
        self.groups
    }

    /// Groups in it.
    #[inline]
    pub fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// Whether no group is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Buffers of a group.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// Bytes that a packet received into a group may have.
    pub fn data_limit(&self) -> u32 {
        self.room.saturating_mul(self.segments)
    }

    /// Buffers that wait to be posted again.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Fills up to `count` groups, fewer if the pool or the ring runs short: first with buffers that
    /// were not used, then from the pool through this thread's cache record. Tells `post` for each
    /// buffer the number of its group within this call, its number within the group, and the
    /// address at which its data will start, behind the headroom. Returns how many groups were
    /// filled. Buffers that fill no whole group are kept.
    ///
    /// If `post` panics, the group is not in the ring, and its buffers go home.
    pub fn refill(&mut self, count: u32, mut post: impl FnMut(u32, u32, u64)) -> u32 {
        let count = count.min(self.groups - self.len());
        let segments = self.segments as usize;
        let missing = (count as usize * segments).saturating_sub(self.spare.len());
        // All at once, or, where the pool has less, a group at a time.
        let mut by_group = missing > 0 && self.pool.alloc_bulk(&mut self.spare, missing).is_err();
        for group in 0..count {
            if by_group {
                let missing = segments.saturating_sub(self.spare.len());
                by_group = missing == 0 || self.pool.alloc_bulk(&mut self.spare, missing).is_ok();
                if !by_group {
                    return group;
                }
            }
            let at = self.first_slot(self.tail);
            for (segment, slot) in (0..).zip(&mut self.slots[at..at + segments]) {
                let Some(mbuf) = self.spare.pop() else {
                    return group;
                };
                post(group, segment, mbuf.data_address());
                *slot = Some(mbuf);
            }
            self.tail = self.tail.wrapping_add(1);
        }
        count
    }

    /// The groups in the ring, to note what has arrived in the oldest ones.
    #[inline]
    pub fn posted(&mut self) -> PostedGroups<'_> {
        PostedGroups {
            ring: self,
            not_sync: PhantomData,
        }
    }

    /// Moves what arrived in up to `count` of the oldest groups to the end of `batch`, fewer if there
    /// are fewer or the batch is full. Returns how many. A group for which nothing was noted with
    /// [`PostedGroups::set_received`] becomes an empty packet.
    pub fn receive(&mut self, count: u32, batch: &mut Batch) -> u32 {
        let count = count.min(self.len());
        for done in 0..count {
            if batch.room() == 0 {
                return done;
            }
            let packet = self.take_packet();
            self.head = self.head.wrapping_add(1);
            // There is room: looked at above.
            if let Some(packet) = packet {
                let _ = batch.push(packet);
            }
        }
        count
    }

    /// Takes up to `count` of the oldest groups back, whose buffers are posted again. Returns how
    /// many.
    pub fn discard(&mut self, count: u32) -> u32 {
        let count = count.min(self.len());
        for _ in 0..count {
            let at = self.first_slot(self.head);
            self.spare_from(at, at);
            self.head = self.head.wrapping_add(1);
        }
        count
    }

    /// The packet in the oldest group: as many of its buffers as it fills, chained.
    fn take_packet(&mut self) -> Option<Mbuf> {
        let at = self.first_slot(self.head);
        let first = self.slots[at].as_ref()?;
        let (len, room) = (first.line().pkt_len.get(), self.room);
        // A note is never longer than a group holds.
        let used = len.div_ceil(room).clamp(1, self.segments);
        self.spare_from(at, at + used as usize);
        let (mut rest, mut left) = (None, len);
        // From the last to the first, whose length is what its followers leave.
        for segment in (0..used as usize).rev() {
            let mbuf = self.slots[at + segment].take()?;
            let line = mbuf.line();
            let part = left - (segment as u32 * room).min(left);
            left -= part;
            line.data_len.set(part);
            line.next.set(rest);
            if segment > 0 {
                line.pkt_len.set(part);
                rest = Some(mbuf.into_handle());
                continue;
            }
            line.pkt_len.set(len);
            line.port.set(self.port);
            // Nobody else has the buffer, so its count needs no atomic addition.
            line.head.store(1 | used << SEGMENTS, Ordering::Relaxed);
            return Some(mbuf);
        }
        None
    }

    /// Keeps the buffers of the group that begins at slot `group`, from slot `from` on.
    fn spare_from(&mut self, group: usize, from: usize) {
        for slot in &mut self.slots[from..group + self.segments as usize] {
            let Some(mbuf) = slot.take() else { continue };
            // What a note may have left.
            let line = mbuf.line();
            line.pkt_len.set(0);
            line.hash.set(0);
            line.rx.set(0);
            // The batch has a place for every buffer of the ring.
            let _ = self.spare.push(mbuf);
        }
    }

    fn first_slot(&self, cursor: u32) -> usize {
        (cursor & (self.groups - 1)) as usize * self.segments as usize
    }
}

impl std::fmt::Debug for ScatterShadowRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScatterShadowRing")
            .field("capacity", &self.groups)
            .field("segments", &self.segments)
            .field("head", &self.head)
            .field("tail", &self.tail)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// The groups of a receive ring, oldest first.
pub struct PostedGroups<'a> {
    ring: &'a mut ScatterShadowRing,
    /// It writes through shared borrows, so it stays on one thread.
    not_sync: PhantomData<Cell<()>>,
}

impl PostedGroups<'_> {
    /// Notes that a packet of `len` bytes has arrived in the `index`-th oldest group, with its RSS
    /// hash and receive word (see [`RxWord`](crate::RxWord)). `false`, and nothing is noted, if there
    /// is no such group or the packet is longer than its buffers together.
    #[inline]
    #[must_use]
    pub fn set_received(&self, index: u32, len: u32, hash: u32, rx_word: u32) -> bool {
        let ring = &*self.ring;
        if index >= ring.len() || len > ring.data_limit() {
            return false;
        }
        let at = ring.first_slot(ring.head.wrapping_add(index));
        let Some(mbuf) = &ring.slots[at] else {
            return false;
        };
        let line = mbuf.line();
        line.pkt_len.set(len);
        line.hash.set(hash);
        line.rx.set(rx_word);
        true
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::pool;

    /// 64 bytes of data a buffer.
    fn ring(buffers: u32, groups: u32, segments: u32) -> (Pool, ScatterShadowRing) {
        let pool = pool(buffers, 192, 4, 1);
        let ring = ScatterShadowRing::new(groups, segments, pool.clone(), 5);
        (pool, ring)
    }

    fn lengths(mbuf: &Mbuf) -> Vec<usize> {
        mbuf.iter().map(|segment| segment.data_len()).collect()
    }

    #[test]
    fn a_packet_is_a_chain_of_exactly_the_buffers_it_fills() {
        let (pool, mut ring) = ring(64, 8, 3);
        let mut posted = Vec::new();
        assert_eq!(
            ring.refill(8, |g, s, address| posted.push((g, s, address))),
            8
        );
        assert_eq!((ring.len(), ring.data_limit(), pool.in_use()), (8, 192, 24));
        let cases: [(u32, &[usize]); 6] = [
            (1, &[1]),
            (64, &[64]),
            (65, &[64, 1]),
            (128, &[64, 64]),
            (129, &[64, 64, 1]),
            (192, &[64, 64, 64]),
        ];
        let view = ring.posted();
        for (index, (len, _)) in (0..).zip(cases) {
            assert!(view.set_received(index, len, 7 + index, 1 << 17));
        }
        assert!(!view.set_received(6, 193, 0, 0) && !view.set_received(8, 1, 0, 0));
        let mut batch = Batch::with_capacity(8);
        assert_eq!(ring.receive(6, &mut batch), 6);
        for (index, (mbuf, (len, parts))) in batch.iter().zip(cases).enumerate() {
            assert_eq!(lengths(mbuf), parts);
            assert_eq!(
                (mbuf.packet_len(), mbuf.segments()),
                (len as usize, parts.len())
            );
            assert_eq!((mbuf.port(), mbuf.headroom()), (5, 128));
            assert_eq!(mbuf.hash().map(|(hash, _)| hash), Some(7 + index as u32));
            for (segment, place) in mbuf.iter().zip(&posted[3 * index..]) {
                assert_eq!(segment.data_address(), place.2);
            }
        }
        // Six groups of 3 buffers came back, 12 buffers in packets.
        assert_eq!((ring.spare(), pool.in_use()), (18 - 12, 24));
        drop((batch, ring));
        assert_eq!(pool.available(), 64);
    }

    #[test]
    fn buffers_that_were_not_used_are_posted_before_the_pool_is_asked() {
        let (pool, mut ring) = ring(64, 4, 4);
        ring.refill(4, |_, _, _| {});
        assert!(ring.posted().set_received(0, 10, 0, 0));
        let mut batch = Batch::with_capacity(4);
        ring.receive(1, &mut batch);
        assert_eq!(ring.discard(1), 1);
        assert_eq!((ring.spare(), pool.in_use()), (7, 16));
        assert_eq!(ring.refill(9, |_, _, _| {}), 2);
        assert_eq!((ring.spare(), ring.len(), pool.in_use()), (0, 4, 17));
        assert_eq!(batch.as_slice()[0].packet_len(), 10);
    }

    #[test]
    fn a_group_is_filled_whole_or_not_at_all() {
        let (pool, mut ring) = ring(10, 4, 4);
        assert_eq!(ring.refill(4, |_, _, _| {}), 2);
        assert_eq!(ring.refill(4, |_, _, _| unreachable!()), 0);
        let kept: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        assert_eq!(kept.len(), 2);
        ring.discard(1);
        drop(kept);
        assert_eq!(ring.refill(4, |_, _, _| {}), 1);
        assert_eq!(ring.len(), 2);
    }

    #[test]
    fn a_note_that_was_discarded_leaves_no_trace() {
        let (_pool, mut ring) = ring(8, 1, 2);
        ring.refill(1, |_, _, _| {});
        assert!(ring.posted().set_received(0, 100, 9, !0));
        ring.discard(1);
        ring.refill(1, |_, _, _| {});
        let mut batch = Batch::with_capacity(1);
        ring.receive(1, &mut batch);
        let packet = &batch.as_slice()[0];
        assert_eq!((packet.packet_len(), packet.segments()), (0, 1));
        assert_eq!((packet.hash(), packet.vlan()), (None, None));
    }

    proptest! {
        #[test]
        fn no_buffer_is_lost_and_every_packet_has_its_length(
            segments in 1u32..=15,
            steps in prop::collection::vec((0u32..9, 0u32..9, 0u32..1000, any::<bool>()), 1..40),
        ) {
            let (pool, mut ring) = ring(200, 8, segments);
            let mut kept = Vec::new();
            for (fill, take, len, keep) in steps {
                ring.refill(fill, |_, _, _| {});
                let len = len % (ring.data_limit() + 1);
                let take = take.min(ring.len());
                for index in 0..take {
                    prop_assert!(ring.posted().set_received(index, len, 0, 0));
                }
                if !keep {
                    ring.discard(take);
                    continue;
                }
                let mut batch = Batch::with_capacity(8);
                prop_assert_eq!(ring.receive(take, &mut batch), take);
                for mbuf in batch.drain(..) {
                    prop_assert_eq!(mbuf.packet_len(), len as usize);
                    prop_assert_eq!(lengths(&mbuf).iter().sum::<usize>(), len as usize);
                    let wanted = len.div_ceil(64).max(1) as usize;
                    prop_assert_eq!(mbuf.segments(), wanted);
                    kept.push(mbuf);
                }
                let held: usize = kept.iter().map(Mbuf::segments).sum();
                let posted = (ring.len() * segments) as usize;
                prop_assert_eq!(pool.in_use() as usize, held + posted + ring.spare());
            }
            drop((kept, ring));
            prop_assert_eq!(pool.available(), 200);
        }
    }
}
