//! Reception.
//!
//! Completions of one packet each are taken by one hot loop (`singles`), those of four by another
//! (`fours`); both run over entries and buffers that are neighbours in memory. What neither takes,
//! completions of eight and those of which a part did not fit, is taken by `coalesced`; what is rare
//! is handled outside of all, after the packets so far went to the caller
//! (reference/mana-hardware.md §3.6).

use std::sync::Arc;

use gdma::cqe::{Cqe, rx};
use gdma::{CqCursor, Entries, Polled};
use mana_verbs::{CompletionChannel, VerbsError};
use pmd_api::Batch;

use super::buffers::{Buffers, Neighbours, Noted, RxBuffers};
use super::histograms::LOOK_EVERY;
use super::rings::{Posting, RxRings};
use super::{Counters, QueueError, RxSetup};

/// Buffers that must be missing before the ring is refilled, at most.
const REFILL_THRESHOLD: u32 = 32;

/// Bits of a completion's first word that are its type. The client type beside it is not looked at:
/// a CQ of ours serves one queue of one client.
const TYPE_MASK: u64 = 0x3F;
const OKAY: u64 = rx::OKAY as u64;
const COALESCED_4: u64 = rx::COALESCED_4 as u64;
const COALESCED_8: u64 = rx::COALESCED_8 as u64;
const OBJECT_FENCE: u64 = rx::OBJECT_FENCE as u64;
const TRUNCATED: u64 = rx::TRUNCATED as u64;

/// What a receive queue's bursts work on.
#[derive(Debug)]
pub(crate) struct RxCore {
    /// Before the rings' memory, which is in `state`.
    buffers: Buffers,
    pub(super) state: RxState,
    keep_vlan_tags: bool,
    /// Bursts counted in histograms.
    bursts: u32,
    /// How the queue wakes its owner.
    pub(super) interrupts: Option<CompletionChannel>,
}

/// All but the buffers.
#[derive(Debug)]
pub(super) struct RxState {
    pub(super) rings: RxRings,
    depth: u32,
    threshold: u32,
    /// A coalesced completion whose packets did not all fit the last burst, and the next of them.
    pub(super) partial: Option<(Cqe, usize)>,
    /// Packets for which buffers could not be allocated and were counted as such.
    unfilled: u32,
    /// The device overtook us; nothing is received any more until the port is started again.
    pub(super) failed: bool,
    pub(super) index: u16,
    counters: Arc<Counters>,
}

/// Packets taken from the completion queue that are not handed over yet.
#[derive(Default)]
struct Taken {
    count: u32,
    bytes: u64,
}

/// Why the hot loops were left.
enum Left {
    /// Nothing more is there, or fits.
    Done,
    /// A completion that is no packet stands at the cursor.
    Rare,
    /// The next packet's length is none: one buffer was consumed for nothing.
    BadLength,
}

/// What the hot loop left at the cursor.
enum Ahead {
    /// Nothing for this burst.
    Nothing,
    /// A completion that contradicts our own state.
    Nonsense,
}

impl RxCore {
    pub(crate) fn new(setup: RxSetup) -> Result<Self, QueueError> {
        let RxSetup {
            context,
            port_id,
            index,
            ids,
            ring,
            cq_ring,
            depth,
            pool,
            segments,
            keep_vlan_tags,
            lkey,
            interrupts,
            counters,
        } = setup;
        let posting = Posting {
            key: lkey,
            size: pool.data_room() - pmd_api::HEADROOM as u32,
            segments,
        };
        let rings = RxRings::new(context, ids, ring, cq_ring, depth)?;
        let mut core = Self {
            buffers: Buffers::new(&rings, posting, depth, pool, port_id)?,
            state: RxState {
                rings,
                depth,
                threshold: REFILL_THRESHOLD.min(depth / 4),
                partial: None,
                unfilled: 0,
                failed: false,
                index,
                counters,
            },
            keep_vlan_tags,
            bursts: 0,
            interrupts,
        };
        // The first filling is no refill. Where the queue is made anew its counters go on.
        let counters = Arc::clone(&core.state.counters);
        let (most, empty) = (counters.deficit_max.get(), counters.ring_empty.get());
        core.refill();
        (counters.deficit_max).set(most.max(core.state.unfilled.into()));
        counters.ring_empty.set(empty);
        Ok(core)
    }

    pub(crate) fn index(&self) -> u16 {
        self.state.index
    }

    pub(crate) fn posted(&self) -> u32 {
        self.buffers.len()
    }

    /// Buffers of a packet.
    pub(crate) fn segments(&self) -> u32 {
        self.buffers.segments()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.state.counters
    }

    /// Packets that arrived and were not received yet, as far as completions tell.
    pub(crate) fn waiting(&self) -> u32 {
        let packets = |cqe: &Cqe, from| {
            let rest = (from..most(cqe)).take_while(|&i| packet(cqe, i).0 != 0);
            rest.count() as u32
        };
        let partial = self.state.partial.as_ref();
        let mut waiting = partial.map_or(0, |(cqe, next)| packets(cqe, *next));
        let cq = &self.state.rings.cq;
        let mut cursor = cq.cursor();
        // No more than there are buffers, whatever the device wrote.
        while waiting < self.buffers.len() && !self.state.failed && cq.is_ready(cursor) {
            waiting += match cq.load(cursor, 0) & TYPE_MASK {
                OKAY => 1,
                COALESCED_4 | COALESCED_8 => packets(&cq.cqe(cursor), 0),
                _ => 0,
            };
            cursor = cq.next(cursor);
            if cursor.head().wrapping_sub(cq.cursor().head()) >= self.state.depth {
                break;
            }
        }
        waiting.min(self.buffers.len())
    }

    /// Counts what arrived and was not received as lost, and tells how much that is.
    pub(crate) fn lose(&mut self) -> u64 {
        let lost = self.waiting().into();
        self.state.partial = None;
        self.state.counters.errors.add(lost);
        lost
    }

    /// Brings the posted buffers home, now that the RSS queue pair was destroyed. If the device is gone
    /// they come home when its context is closed; otherwise the device may still write to them, and
    /// they are leaked.
    pub(crate) fn release(self, destroyed: &Result<(), VerbsError>) {
        let Self { buffers, state, .. } = self;
        let shadow = buffers.into_shadow();
        match destroyed {
            Ok(()) => drop(shadow),
            Err(error) if error.is_disassociated() => {
                state.rings.context().drop_after_close(shadow);
            }
            Err(_) => std::mem::forget(shadow),
        }
    }

    /// Posts as many buffers as are missing, or as the pool has.
    pub(super) fn refill(&mut self) {
        match &mut self.buffers {
            Buffers::Single(buffers) => self.state.refill(buffers),
            Buffers::Scatter(buffers) => self.state.refill(buffers),
        }
    }

    /// Counts a burst in the histograms.
    #[cold]
    fn record(&mut self, received: usize) {
        let histograms = &self.state.counters.histograms;
        histograms.burst.record(received as u64);
        self.bursts = self.bursts.wrapping_add(1);
        if self.bursts.is_multiple_of(LOOK_EVERY) {
            let behind = u64::from(self.waiting());
            histograms.ring.record(received as u64 + behind);
        }
    }

    /// See [`pmd_api::RxBurst::rx_burst`].
    pub(super) fn burst(&mut self, batch: &mut Batch) -> usize {
        let received = match &mut self.buffers {
            Buffers::Single(buffers) => self.state.burst(buffers, batch),
            Buffers::Scatter(buffers) => self.state.burst(buffers, batch),
        };
        if self.state.counters.histograms.is_on() {
            self.record(received);
        }
        if self.keep_vlan_tags {
            put_tags_back(batch, received);
        }
        received
    }
}

impl RxState {
    fn burst<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> usize {
        if self.failed {
            return 0;
        }
        let before = batch.len();
        let start = self.rings.cq.cursor();
        let mut cursor = start;
        // Each turn but the last handles one rare completion; a device that produces nothing else
        // must not keep us here.
        for _ in 0..self.depth {
            let left = self.take(&mut cursor, buffers, batch);
            let full = matches!(left, Left::Done) && batch.room() == 0;
            if full || !self.go_on(left, &mut cursor, buffers) {
                break;
            }
        }
        let counters = &*self.counters;
        let completions = cursor.head().wrapping_sub(start.head());
        counters.completions.add(completions.into());
        counters.bursts.add(1);
        let received = batch.len() - before;
        if received == 0 {
            counters.empty.add(1);
        } else if batch.room() == 0 {
            counters.full.add(1);
        }
        self.rings.cq.set_cursor(cursor);
        if self.depth - buffers.len() >= self.threshold {
            self.refill(buffers);
        }
        received
    }

    /// Takes packets from the cursor on, while there are packets and room for them.
    #[inline]
    fn take<B: RxBuffers>(
        &mut self,
        from: &mut CqCursor,
        buffers: &mut B,
        batch: &mut Batch,
    ) -> Left {
        let cq = &self.rings.cq;
        let mut cursor = *from;
        if self.partial.is_none() && !cq.is_ready(cursor) {
            return Left::Done;
        }
        let room = batch.room().min(buffers.len() as usize) as u32;
        let posted = buffers.posted();
        let mut taken = Taken::default();
        let mut left = Left::Done;
        if let Some((cqe, next)) = self.partial.take() {
            (self.partial, left) = coalesced(&posted, &mut taken, room, cqe, next);
        }
        if matches!(left, Left::Done) && self.partial.is_none() {
            while taken.count < room {
                let entries = cq.ahead(cursor, room - taken.count);
                let here = posted.neighbours(taken.count, room - taken.count);
                let (packets, bytes) = singles(entries, here);
                taken.count += packets as u32;
                taken.bytes += bytes;
                cursor = cq.skip(cursor, packets as u32);
                if packets == entries.len().min(here.len()) {
                    continue;
                }
                if !entries.is_ready(packets) {
                    break;
                }
                match entries.load(packets, 0) & TYPE_MASK {
                    COALESCED_4 => {
                        let fours = fours(entries, packets, here);
                        taken.count += fours.packets as u32;
                        taken.bytes += fours.bytes;
                        cursor = cq.skip(cursor, fours.completions as u32);
                        if fours.completions != 0 {
                            continue;
                        }
                    }
                    COALESCED_8 => {}
                    OKAY => {
                        // Of a length that is none, or arrived between the two looks.
                        let (len, hash) = (cq.load(cursor, 1) as u16, cq.load(cursor, 2) as u32);
                        let flags = (cq.load(cursor, 0) >> 32) as u32;
                        cursor = cq.next(cursor);
                        if take(&posted, &mut taken, len.into(), hash, flags) {
                            continue;
                        }
                        left = Left::BadLength;
                        break;
                    }
                    _ => {
                        left = Left::Rare;
                        break;
                    }
                }
                let cqe = cq.cqe(cursor);
                cursor = cq.next(cursor);
                (self.partial, left) = coalesced(&posted, &mut taken, room, cqe, 0);
                if self.partial.is_some() || !matches!(left, Left::Done) {
                    break;
                }
            }
        }
        drop(posted);
        *from = cursor;
        if taken.count > 0 {
            buffers.receive(taken.count, batch);
            self.counters.packets.add(taken.count.into());
            self.counters.bytes.add(taken.bytes);
        }
        left
    }

    /// Handles what the hot loops left at the cursor, though there was room. False if that was nothing.
    #[inline]
    fn go_on<B: RxBuffers>(&mut self, left: Left, cursor: &mut CqCursor, buffers: &mut B) -> bool {
        match left {
            Left::Done => match self.look(*cursor, buffers) {
                Ahead::Nothing => return false,
                Ahead::Nonsense => {
                    self.counters.bad_completions.add(1);
                    if self.partial.take().is_none() {
                        *cursor = self.rings.cq.next(*cursor);
                    }
                }
            },
            Left::Rare => {
                self.rare(self.rings.cq.load(*cursor, 0) & TYPE_MASK, buffers);
                *cursor = self.rings.cq.next(*cursor);
            }
            Left::BadLength => {
                self.counters.bad_completions.add(1);
                buffers.discard(1);
            }
        }
        true
    }

    /// What stands at the cursor, after the hot loop took all it could though there was room.
    #[inline]
    fn look(&mut self, cursor: CqCursor, buffers: &impl RxBuffers) -> Ahead {
        match self.rings.cq.look(cursor) {
            // More packets reported than buffers posted.
            Polled::Empty if self.partial.is_some() => Ahead::Nonsense,
            Polled::Empty => Ahead::Nothing,
            // Arrived meanwhile; for the next burst.
            Polled::Ready if buffers.len() > 0 => Ahead::Nothing,
            Polled::Ready | Polled::Foreign => Ahead::Nonsense,
            Polled::Overflow => {
                self.overflow();
                Ahead::Nothing
            }
        }
    }

    /// Handles a completion that is no packet.
    #[cold]
    fn rare(&mut self, kind: u64, buffers: &mut impl RxBuffers) {
        match kind {
            TRUNCATED if buffers.len() > 0 => {
                self.counters.errors.add(1);
                buffers.discard(1);
            }
            OBJECT_FENCE => {}
            _ => self.counters.bad_completions.add(1),
        }
    }

    #[cold]
    fn overflow(&mut self) {
        self.failed = true;
        self.counters.bad_completions.add(1);
        tracing::error!(
            queue = self.index,
            "the device overtook the receive completions: stop and start the port"
        );
    }

    /// Posts as many buffers as are missing, or as the pool has.
    #[inline]
    fn refill<B: RxBuffers>(&mut self, buffers: &mut B) {
        let missing = self.depth - buffers.len();
        let counters = &self.counters;
        counters.deficit_max.raise(missing.into());
        counters.ring_empty.add((buffers.len() == 0).into());
        let filled = buffers.refill(missing);
        if filled > 0 {
            counters.doorbells.add(1);
        }
        // A shortfall is counted once, however often it is met.
        let unfilled = missing - filled;
        counters
            .nombuf
            .add(unfilled.saturating_sub(self.unfilled).into());
        counters.deficit.set(unfilled.into());
        self.unfilled = unfilled;
    }
}

/// Writes the metadata of the next packet; false if the length is no packet's.
#[inline]
fn take(posted: &impl Noted, taken: &mut Taken, len: u32, hash: u32, flags: u32) -> bool {
    let buffer = posted.neighbours(taken.count, 1);
    let good = buffer.set_received(0, len, hash, flags);
    if good {
        taken.count += 1;
        taken.bytes += u64::from(len);
    }
    good
}

/// Takes completions of one packet each, from the first on, into buffers from the first on. Returns how
/// many, and their bytes.
#[inline(always)]
fn singles(entries: Entries<'_>, buffers: impl Neighbours) -> (usize, u64) {
    let (count, mut bytes) = (entries.len().min(buffers.len()), 0);
    for index in 0..count {
        if !entries.is_ready(index) {
            return (index, bytes);
        }
        let head = entries.load(index, 0);
        if head & TYPE_MASK != OKAY {
            return (index, bytes);
        }
        let len = entries.load(index, 1) as u16;
        let hash = entries.load(index, 2) as u32;
        if !buffers.set_received(index, len.into(), hash, (head >> 32) as u32) {
            return (index, bytes);
        }
        bytes += u64::from(len);
    }
    (count, bytes)
}

/// What [`fours`] took.
struct Fours {
    completions: usize,
    packets: usize,
    bytes: u64,
}

/// Takes completions of up to four packets each, from entry and buffer `first` on, while all of their
/// packets fit. A completion of which one does not fit, or makes no sense, is not taken: what was noted
/// of it is noted again.
#[inline(never)]
fn fours(entries: Entries<'_>, first: usize, buffers: impl Neighbours) -> Fours {
    let (mut at, mut buffer, mut bytes) = (first, first, 0);
    'all: while at < entries.len() && entries.is_ready(at) {
        let head = entries.load(at, 0);
        if head & TYPE_MASK != COALESCED_4 {
            break;
        }
        let flags = (head >> 32) as u32;
        let (mut next, mut sum) = (buffer, 0);
        // Packet `i` has its length in dword 2 + 3i, its hash in dword 4 + 3i (§3.6).
        let dword = |index: usize| (entries.load(at, index / 2) >> (32 * (index & 1))) as u32;
        for packet in 0..4 {
            let (len, hash) = (dword(2 + 3 * packet) & 0xFFFF, dword(4 + 3 * packet));
            if !buffers.set_received(next, len, hash, flags) {
                // The list ends at length 0.
                if len == 0 {
                    break;
                }
                break 'all;
            }
            next += 1;
            sum += u64::from(len);
        }
        (buffer, bytes) = (next, bytes + sum);
        at += 1;
    }
    Fours {
        completions: at - first,
        packets: buffer - first,
        bytes,
    }
}

/// Packets of a coalesced completion at most.
#[inline]
fn most(cqe: &Cqe) -> usize {
    match cqe.head().cqe_type() {
        rx::COALESCED_8 => 8,
        _ => 4,
    }
}

/// Length and hash of packet `index` of a coalesced completion.
#[inline]
fn packet(cqe: &Cqe, index: usize) -> (u32, u32) {
    match cqe.head().cqe_type() {
        rx::COALESCED_8 => cqe.rx_packet_of_8(index),
        _ => cqe.rx_packet(index),
    }
}

/// The last `received` packets of a batch have their VLAN tags again.
#[cold]
fn put_tags_back(batch: &mut Batch, received: usize) {
    let packets = batch.as_mut_slice().iter_mut().rev().take(received);
    for mbuf in packets {
        // A fresh packet has its buffer alone and headroom; one too short for a tag keeps it beside.
        let _ = mbuf.restore_vlan();
    }
}

/// Takes the packets of a coalesced completion from the `next` one on. Returns what is left of it.
#[inline(never)]
fn coalesced(
    posted: &impl Noted,
    taken: &mut Taken,
    room: u32,
    cqe: Cqe,
    mut next: usize,
) -> (Option<(Cqe, usize)>, Left) {
    let most = most(&cqe);
    while next < most {
        let (len, hash) = packet(&cqe, next);
        // The list ends at length 0; a list without a packet makes no sense but harms nobody.
        if len == 0 {
            break;
        }
        if taken.count == room {
            return (Some((cqe, next)), Left::Done);
        }
        next += 1;
        if !take(posted, taken, len, hash, cqe.dword(1)) {
            let rest = (next < most).then_some((cqe, next));
            return (rest, Left::BadLength);
        }
    }
    (None, Left::Done)
}
