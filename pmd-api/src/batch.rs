//! A burst's worth of packets.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::RangeBounds;

use crate::Mbuf;
use crate::meta::Handle;
use crate::pool;

/// Packets in order, up to a capacity fixed at creation. Dropping it drops the packets.
///
/// `rx_burst` appends to it, `tx_burst` takes from its front.
pub struct Batch {
    /// Never grows beyond what it was allocated for.
    mbufs: Vec<Mbuf>,
    capacity: usize,
}

impl Batch {
    /// An empty batch for `capacity` packets.
    pub fn with_capacity(capacity: usize) -> Batch {
        Batch {
            mbufs: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// The packet itself, if the batch is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.room() == 0 {
            return Err(mbuf);
        }
        self.mbufs.push(mbuf);
        Ok(())
    }

    /// Takes the last packet out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.mbufs.pop()
    }

    /// Takes packet `index` out; those behind it move up.
    pub fn remove(&mut self, index: usize) -> Option<Mbuf> {
        (index < self.len()).then(|| self.mbufs.remove(index))
    }

    /// Puts a packet in at `index`; those from there on move back.
    ///
    /// # Errors
    /// The packet itself, if the batch is full.
    ///
    /// # Panics
    /// If `index` is behind the end.
    pub fn insert(&mut self, index: usize, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.room() == 0 {
            return Err(mbuf);
        }
        self.mbufs.insert(index, mbuf);
        Ok(())
    }

    /// Number of packets.
    #[inline]
    pub fn len(&self) -> usize {
        self.mbufs.len()
    }

    /// Whether there is no packet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }

    /// Packets it can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Packets that can still be appended.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Drops all packets: in bulk where they are simple and of one pool.
    #[inline]
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Drops the packets from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        let dropped = self.len() - len;
        // SAFETY: `len` is less than the length. From here on the packets behind are ours only.
        unsafe { self.mbufs.set_len(len) };
        let slots = &self.mbufs.spare_capacity_mut()[..dropped];
        // SAFETY: these slots held mbufs, which are handles; nothing has touched them since.
        let handles = unsafe { std::slice::from_raw_parts(slots.as_ptr().cast(), dropped) };
        // SAFETY: they are out of the vector, so this is their only owner.
        unsafe { pool::drop_all(handles) };
    }

    /// Takes a range of packets out, in order. Packets not taken from the iterator are dropped with
    /// it; if it is leaked, so are they and those behind the range.
    pub fn drain(
        &mut self,
        range: impl RangeBounds<usize>,
    ) -> impl DoubleEndedIterator<Item = Mbuf> + ExactSizeIterator + '_ {
        self.mbufs.drain(range)
    }

    /// Keeps the packets for which `keep` says so, in order; drops the others.
    pub fn retain_mut(&mut self, keep: impl FnMut(&mut Mbuf) -> bool) {
        self.mbufs.retain_mut(keep);
    }

    /// Appends packets until the batch is full, and returns those that are left.
    pub fn fill_from<I: IntoIterator<Item = Mbuf>>(&mut self, mbufs: I) -> I::IntoIter {
        let mut mbufs = mbufs.into_iter();
        while self.room() != 0 {
            let Some(mbuf) = mbufs.next() else { break };
            self.mbufs.push(mbuf);
        }
        mbufs
    }

    /// Moves packets from the front of `other` to the end of this batch: all, or what there is room
    /// for. Returns how many.
    pub fn append(&mut self, other: &mut Batch) -> usize {
        let count = other.len().min(self.room());
        self.mbufs.extend(other.mbufs.drain(..count));
        count
    }

    /// The packets.
    #[inline]
    pub fn as_slice(&self) -> &[Mbuf] {
        &self.mbufs
    }

    /// The packets, to change, exchange or reorder.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        &mut self.mbufs
    }

    /// The packets, in order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Mbuf> {
        self.mbufs.iter()
    }

    /// The packets, in order, to change.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Mbuf> {
        self.mbufs.iter_mut()
    }

    /// The first `count` unused slots behind the packets. `count` is at most the room.
    #[inline]
    pub(crate) fn free_slots(&mut self, count: usize) -> &mut [MaybeUninit<Handle>] {
        debug_assert!(count <= self.room());
        let slots = &mut self.mbufs.spare_capacity_mut()[..count];
        // SAFETY: an mbuf is a handle in its memory, and a slot that may be uninitialised takes
        // either. `grow` demands that only handles that are mbufs are counted.
        unsafe { &mut *(std::ptr::from_mut(slots) as *mut [MaybeUninit<Handle>]) }
    }

    /// Makes the next `count` slots part of the batch.
    ///
    /// # Safety
    /// `count` is at most the room, and handles of whole mbufs that nobody else owns were written
    /// into the next `count` of [`Batch::free_slots`].
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        let len = self.len() + count;
        debug_assert!(len <= self.capacity);
        // SAFETY: initialised, says the caller, and within the capacity.
        unsafe { self.mbufs.set_len(len) }
    }

    /// Lets go of the packets, which are leaked unless the caller has their handles.
    #[inline]
    pub(crate) fn let_go(&mut self) {
        // SAFETY: nothing has to be initialised for a length of 0.
        unsafe { self.mbufs.set_len(0) }
    }

    /// Moves all packets out.
    ///
    /// # Panics
    /// If `into` is not as long as the batch.
    #[inline]
    pub(crate) fn move_all(&mut self, into: &mut [MaybeUninit<Handle>]) {
        let count = self.len();
        assert!(count == into.len());
        let mbufs = self.mbufs.as_ptr().cast::<MaybeUninit<Handle>>();
        // SAFETY: so many mbufs, which are handles, are at `mbufs`; `into` is borrowed exclusively and so
        // elsewhere. The batch lets go of them before they are copied.
        unsafe {
            self.mbufs.set_len(0);
            into.as_mut_ptr().copy_from_nonoverlapping(mbufs, count);
        }
    }

    /// Moves the first `into.len()` packets out; the others move to the front.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub(crate) fn move_prefix(
        &mut self,
        into: (&mut [MaybeUninit<Handle>], &mut [MaybeUninit<Handle>]),
    ) {
        let count = into.0.len() + into.1.len();
        assert!(count <= self.len());
        let rest = self.len() - count;
        let mbufs = self.mbufs.as_mut_ptr().cast::<MaybeUninit<Handle>>();
        // SAFETY: `count + rest` mbufs, which are handles, are at `mbufs`; `into` is borrowed
        // exclusively and so elsewhere. Every packet ends up in one place: the length is set to 0
        // before the first is copied, and to `rest` when the others are at the front.
        unsafe {
            self.mbufs.set_len(0);
            into.0
                .as_mut_ptr()
                .copy_from_nonoverlapping(mbufs, into.0.len());
            // A call of memcpy for nothing is dear in a small burst.
            if !into.1.is_empty() {
                into.1
                    .as_mut_ptr()
                    .copy_from_nonoverlapping(mbufs.add(into.0.len()), into.1.len());
            }
            if rest != 0 {
                mbufs.copy_from(mbufs.add(count), rest);
                self.mbufs.set_len(rest);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Mbuf;
    type IntoIter = std::slice::Iter<'a, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Batch {
    type Item = &'a mut Mbuf;
    type IntoIter = std::slice::IterMut<'a, Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl IntoIterator for Batch {
    type Item = Mbuf;
    type IntoIter = std::vec::IntoIter<Mbuf>;

    fn into_iter(self) -> Self::IntoIter {
        let mut batch = ManuallyDrop::new(self);
        std::mem::take(&mut batch.mbufs).into_iter()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("mbufs", &self.mbufs)
            .field("capacity", &self.capacity)
            .finish()
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::*;
    use crate::testing::{batch, pool};

    fn numbers(batch: &Batch) -> Vec<u8> {
        batch.iter().map(|mbuf| mbuf.data()[0]).collect()
    }

    #[test]
    fn a_full_batch_gives_the_packet_back() {
        let pool = pool(4, 192, 0, 0);
        let mut full = batch(&pool, 2);
        assert_eq!((full.len(), full.capacity(), full.room()), (2, 2, 0));
        let mbuf = full.push(pool.alloc().unwrap()).unwrap_err();
        let mbuf = full.insert(0, mbuf).unwrap_err();
        assert_eq!(full.fill_from([mbuf]).count(), 1);
        assert_eq!(pool.in_use(), 2);
    }

    #[test]
    fn packets_leave_in_every_way_and_the_others_keep_their_order() {
        let pool = pool(32, 192, 0, 0);
        let mut packets = batch(&pool, 10);
        assert_eq!(packets.remove(2).unwrap().data()[0], 2);
        assert!(packets.remove(9).is_none());
        let last = packets.pop().unwrap();
        packets.insert(0, last).unwrap();
        packets.retain_mut(|mbuf| mbuf.data()[0] != 5);
        assert_eq!(numbers(&packets), [9, 0, 1, 3, 4, 6, 7, 8]);
        let drained: Vec<Mbuf> = packets.drain(1..3).collect();
        assert_eq!(
            drained
                .iter()
                .map(|mbuf| mbuf.data()[0])
                .collect::<Vec<_>>(),
            [0, 1]
        );
        let mut other = Batch::with_capacity(4);
        assert_eq!(other.append(&mut packets), 4);
        assert_eq!(packets.fill_from(drained).count(), 0);
        assert_eq!(
            (numbers(&other), numbers(&packets)),
            (vec![9, 3, 4, 6], vec![7, 8, 0, 1])
        );
        packets.truncate(1);
        packets.truncate(5);
        assert_eq!(numbers(&packets), [7]);
        assert_eq!(pool.in_use(), 5);
        other.clear();
        drop(packets);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_drain_that_is_leaked_leaks_packets_and_nothing_worse() {
        let pool = pool(8, 192, 0, 0);
        let mut packets = batch(&pool, 6);
        let mut drain = packets.drain(1..4);
        assert_eq!(drain.next().unwrap().data()[0], 1);
        std::mem::forget(drain);
        assert_eq!(numbers(&packets), [0]);
        drop(packets);
        assert_eq!(pool.in_use(), 4);
    }

    #[test]
    fn dropping_a_mixed_batch_sends_each_packet_to_its_own_pool() {
        let (a, b) = (pool(32, 192, 8, 1), pool(32, 192, 8, 1));
        let mut mixed = Batch::with_capacity(12);
        for turn in 0..4 {
            mixed.push(a.alloc().unwrap()).unwrap();
            let mut chain = b.alloc().unwrap();
            chain.chain(a.alloc().unwrap()).unwrap();
            if turn % 2 == 0 {
                mixed.push(chain.clone_shared(&a).unwrap()).unwrap();
            }
            mixed.push(chain).unwrap();
        }
        assert_eq!((a.in_use(), b.in_use()), (12, 4));
        drop(mixed);
        assert_eq!((a.in_use(), b.in_use()), (0, 0));
    }

    #[test]
    fn taking_a_batch_apart_gives_every_packet_once() {
        let pool = pool(8, 192, 0, 0);
        let packets: Vec<Mbuf> = batch(&pool, 5).into_iter().collect();
        assert_eq!((packets.len(), pool.in_use()), (5, 5));
    }
}
