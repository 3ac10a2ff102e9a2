//! Buffers posted to a device for reception.

use std::cell::Cell;
use std::marker::PhantomData;

use super::Slots;
use crate::meta::Handle;
use crate::pool::DataAddress;
use crate::{Batch, HEADROOM, Pool, pool};

/// Free buffers of one pool in the hands of a device, oldest first, in a ring of fixed capacity.
/// Dropping it sends them home.
///
/// The metadata of a buffer is not looked at on its way: it is written once, when a packet has
/// arrived in it ([`PostedNeighbours::set_received`]).
pub struct RxShadowRing {
    slots: Slots,
    head: u32,
    tail: u32,
    pool_id: u32,
    port: u16,
    /// Bytes that a packet may have.
    data_limit: u32,
    address: DataAddress,
    pool: Pool,
}

// SAFETY: the ring owns its buffers, and mbufs are `Send`.
unsafe impl Send for RxShadowRing {}

impl RxShadowRing {
    /// A ring for `capacity` buffers (rounded up to a power of two) of `pool`, empty. `port` is
    /// written into every packet received.
    ///
    /// # Panics
    /// If `capacity` is 0 or above 2^31.
    pub fn new(capacity: u32, pool: Pool, port: u16) -> Self {
        Self::with_cursor(capacity, pool, port, 0)
    }

    fn with_cursor(capacity: u32, pool: Pool, port: u16, cursor: u32) -> Self {
        Self {
            slots: Slots::new(capacity),
            head: cursor,
            tail: cursor,
            pool_id: pool.id().0,
            port,
            data_limit: pool.data_room() - HEADROOM as u32,
            address: pool.body().data_address(),
            pool,
        }
    }

    /// Buffers it can hold.
    pub fn capacity(&self) -> u32 {
        self.slots.slots.len() as u32
    }

    /// Buffers in it.
    #[inline]
    pub fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// Whether no buffer is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Buffers that it can still take.
    #[inline]
    pub fn room(&self) -> u32 {
        self.capacity() - self.len()
    }

    /// Bytes that a packet received into one of the buffers may have.
    pub fn data_limit(&self) -> u32 {
        self.data_limit
    }

    /// The pool the buffers come from.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes up to `count` buffers from the pool, fewer if the pool or the ring runs short, through
    /// this thread's cache record. Tells `post` in one or two calls where packets will start in them,
    /// behind the headroom, and the number of the first within this call. Returns how many it took.
    ///
    /// If `post` panics, the buffers are in the ring nevertheless.
    #[inline]
    pub fn refill(&mut self, count: u32, mut post: impl FnMut(u32, Addresses<'_>)) -> u32 {
        let count = count.min(self.room());
        let start = self.tail;
        let (before, after) = self.slots.pieces_mut(start, count);
        let wanted = before.len();
        let mut got = self.pool.fill(before, 0);
        if got == wanted && !after.is_empty() {
            got += self.pool.fill(after, 0);
        }
        let got = got as u32;
        self.tail = start.wrapping_add(got);
        let address = self.address;
        let (before, after) = self.slots.pieces(start, got);
        let mut number = 0;
        for piece in [before, after] {
            if !piece.is_empty() {
                // SAFETY: `fill` has initialised these slots.
                let lines = unsafe { piece.assume_init_ref() };
                post(number, Addresses { lines, address });
                number += lines.len() as u32;
            }
        }
        got
    }

    /// The buffers in the ring, to note what has arrived in the oldest ones.
    #[inline]
    pub fn posted(&mut self) -> Posted<'_> {
        Posted {
            head: self.head,
            len: self.len(),
            data_limit: self.data_limit,
            first_word: Handle::first_word(self.port),
            slots: &mut self.slots,
            not_sync: PhantomData,
        }
    }

    /// Moves up to `count` of the oldest buffers to the end of `batch`, fewer if there are fewer or
    /// the batch is full. Returns how many. They are packets: those for which nothing was
    /// noted with [`PostedNeighbours::set_received`] have whatever length their last use left.
    #[inline]
    pub fn receive(&mut self, count: u32, batch: &mut Batch) -> u32 {
        let room = u32::try_from(batch.room()).unwrap_or(u32::MAX);
        let count = count.min(self.len()).min(room);
        let (before, after) = self.slots.pieces(self.head, count);
        let into = batch.free_slots(count as usize);
        into[..before.len()].copy_from_slice(before);
        if !after.is_empty() {
            into[before.len()..].copy_from_slice(after);
        }
        self.head = self.head.wrapping_add(count);
        // SAFETY: these slots hold whole mbufs (free memory is), which the ring has let go of.
        unsafe { batch.grow(count as usize) };
        count
    }

    /// Notes what has arrived in the oldest buffers and moves them to the end of `batch`, one after the
    /// other, as long as `arrivals` tells of one, there is a buffer and room in the batch for it, and the
    /// buffers lie in memory side by side. It ends before a packet that is empty or longer than its
    /// buffer, too. Returns how many, and their bytes.
    ///
    /// What [`Posted::neighbours`], [`PostedNeighbours::set_received`] and [`RxShadowRing::receive`] do
    /// together, in one loop: a burst of few packets is for the most part what is around loops.
    #[inline(always)]
    pub fn receive_each(
        &mut self,
        arrivals: impl ExactSizeIterator<Item = Option<Arrival>>,
        batch: &mut Batch,
    ) -> (usize, u64) {
        let most = arrivals.len().min(batch.room()).min(self.len() as usize);
        let lines = self.slots.first_piece(self.head, most);
        // SAFETY: slots between head and tail hold lines.
        let lines = unsafe { lines.assume_init_ref() };
        let into = batch.free_slots(lines.len());
        let (first_word, limit) = (Handle::first_word(self.port), self.data_limit);
        let (mut count, mut bytes) = (0, 0);
        // In this order nothing is asked of an arrival for which there is no buffer.
        for ((&line, into), arrival) in lines.iter().zip(into).zip(arrivals) {
            let Some(Arrival { len, hash, rx_word }) = arrival else {
                break;
            };
            // Less than nothing is more than any limit.
            if len.wrapping_sub(1) >= limit {
                break;
            }
            // SAFETY: the ring's lines are its own and as free memory is; the length was checked.
            unsafe { line.write_first_half(first_word, len, hash, rx_word) };
            into.write(line);
            bytes += u64::from(len);
            count += 1;
        }
        self.head = self.head.wrapping_add(count as u32);
        // SAFETY: `count` slots hold whole mbufs now, which the ring has let go of.
        unsafe { batch.grow(count) };
        (count, bytes)
    }

    /// Sends up to `count` of the oldest buffers back to the pool. Returns how many.
    pub fn discard(&mut self, count: u32) -> u32 {
        let count = count.min(self.len());
        let start = self.head;
        self.head = start.wrapping_add(count);
        let (before, after) = self.slots.pieces(start, count);
        for piece in [before, after] {
            // SAFETY: slots between head and tail hold lines that came out of the pool; the ring
            // has let go of them above. At most their first half was written since.
            unsafe { pool::recycle(piece.assume_init_ref(), self.pool_id) };
        }
        count
    }
}

impl Drop for RxShadowRing {
    fn drop(&mut self) {
        self.discard(self.len());
    }
}

impl std::fmt::Debug for RxShadowRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RxShadowRing")
            .field("capacity", &self.capacity())
            .field("head", &self.head)
            .field("tail", &self.tail)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// What came with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its bytes.
    pub len: u32,
    /// Its RSS hash.
    pub hash: u32,
    /// See [`RxWord`](crate::RxWord).
    pub rx_word: u32,
}

/// Where packets will start in fresh buffers: see [`RxShadowRing::refill`].
#[derive(Clone, Copy)]
pub struct Addresses<'a> {
    lines: &'a [Handle],
    address: DataAddress,
}

impl<'a> Addresses<'a> {
    /// How many.
    #[inline]
    pub fn len(self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.lines.is_empty()
    }

    /// All but the first `count`; none, if there are no more.
    #[inline]
    pub fn skip(self, count: usize) -> Self {
        Self {
            lines: self.lines.get(count..).unwrap_or(&[]),
            ..self
        }
    }

    /// The addresses in groups of `N`, from the first on; not those that are left over.
    #[inline]
    pub fn groups<const N: usize>(self) -> impl ExactSizeIterator<Item = [u64; N]> + 'a {
        let (groups, _) = self.lines.as_chunks::<N>();
        (groups.iter()).map(move |group| group.map(|line| self.address.of(line)))
    }
}

/// The buffers of a receive ring, oldest first.
pub struct Posted<'a> {
    slots: &'a mut Slots,
    head: u32,
    len: u32,
    data_limit: u32,
    first_word: u64,
    /// It writes through shared borrows, so it stays on one thread.
    not_sync: PhantomData<Cell<()>>,
}

impl Posted<'_> {
    /// Buffers in the ring.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Neighbours: up to `count` buffers from the `from`-th oldest on, fewer where the ring wraps or
    /// ends.
    #[inline]
    pub fn neighbours(&self, from: u32, count: u32) -> PostedNeighbours<'_> {
        let from = from.min(self.len);
        let count = count.min(self.len - from);
        let lines = (self.slots).first_piece(self.head.wrapping_add(from), count as usize);
        // SAFETY: slots between head and tail hold lines.
        let lines = unsafe { lines.assume_init_ref() };
        PostedNeighbours {
            lines,
            data_limit: self.data_limit,
            first_word: self.first_word,
            one_thread: PhantomData,
        }
    }
}

/// Buffers that are neighbours in a receive ring, numbered from 0. Values, so that a loop keeps them
/// in registers.
///
/// There may be several of the same buffers, so they stay on one thread:
///
/// ```compile_fail,E0277
/// fn on_any_thread<T: Send>() {}
/// on_any_thread::<pmd_api::PostedNeighbours<'static>>();
/// ```
#[derive(Clone, Copy)]
pub struct PostedNeighbours<'a> {
    /// Lines of the ring's pool, which are the ring's alone and as free memory is. The ring is
    /// borrowed by this thread.
    lines: &'a [Handle],
    data_limit: u32,
    first_word: u64,
    one_thread: PhantomData<&'a Cell<()>>,
}

impl PostedNeighbours<'_> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Notes that a packet of `len` bytes has arrived in buffer `index`, with its RSS hash and receive
    /// word (see [`RxWord`](crate::RxWord)). Writes 32 bytes of metadata and reads none. `false`, and
    /// nothing is written, if there is no such buffer, or the packet is empty or longer than it.
    #[inline]
    #[must_use]
    pub fn set_received(&self, index: usize, len: u32, hash: u32, rx_word: u32) -> bool {
        let Some(line) = self.lines.get(index) else {
            return false;
        };
        // Less than nothing is more than any limit.
        if len.wrapping_sub(1) >= self.data_limit {
            return false;
        }
        // SAFETY: the lines are this thread's alone and as free memory is; the length was checked.
        unsafe { line.write_first_half(self.first_word, len, hash, rx_word) };
        true
    }
}

#[cfg(all(test, not(mana_loom)))]
#[path = "rx_tests.rs"]
mod tests;
