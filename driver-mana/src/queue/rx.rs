//! Reception.
//!
//! The hot loop takes completions of one packet each. Coalesced ones (up to four packets, all with the
//! same flags) are taken by a function of their own; what is rare leaves the loop and is handled
//! outside it, after the packets so far went to the caller (reference/mana-hardware.md §3.6).

use std::sync::Arc;

use gdma::cqe::{Cqe, rx};
use gdma::{CqCursor, Polled};
use mana_verbs::{CompletionChannel, VerbsError};
use pmd_api::{Batch, Posted, RxShadowRing};

use super::rings::RxRings;
use super::{Counters, QueueError, RxSetup};

/// Buffers that must be missing before the ring is refilled, at most.
const REFILL_THRESHOLD: u32 = 32;
/// Packets of a coalesced completion.
const COALESCED: usize = 4;

/// Bits of a completion's first word that are its type. The client type beside it is not looked at:
/// a CQ of ours serves one queue of one client.
const TYPE_MASK: u64 = 0x3F;
const OKAY: u64 = rx::OKAY as u64;
const COALESCED_4: u64 = rx::COALESCED_4 as u64;
const OBJECT_FENCE: u64 = rx::OBJECT_FENCE as u64;
const TRUNCATED: u64 = rx::TRUNCATED as u64;

/// What a receive queue's bursts work on.
#[derive(Debug)]
pub(crate) struct RxCore {
    pub(super) rings: RxRings,
    shadow: RxShadowRing,
    depth: u32,
    threshold: u32,
    /// A coalesced completion whose packets did not all fit the last burst, and the next of them.
    pub(super) partial: Option<(Cqe, usize)>,
    /// Buffers that could not be allocated and were counted as such.
    unfilled: u32,
    /// The device overtook us; nothing is received any more until the port is started again.
    pub(super) failed: bool,
    pub(super) index: u16,
    counters: Arc<Counters>,
    /// How the queue wakes its owner.
    pub(super) interrupts: Option<CompletionChannel>,
}

/// Packets taken from the completion queue that are not handed over yet.
#[derive(Default)]
struct Taken {
    count: u32,
    bytes: u64,
}

/// Why the hot loop was left.
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
            lkey,
            interrupts,
            counters,
        } = setup;
        let size = pool.data_room() - pmd_api::HEADROOM as u32;
        let mut core = Self {
            rings: RxRings::new(context, ids, ring, cq_ring, depth, lkey, size)?,
            shadow: RxShadowRing::new(depth, pool, port_id),
            depth,
            threshold: REFILL_THRESHOLD.min(depth / 4),
            partial: None,
            unfilled: 0,
            failed: false,
            index,
            counters,
            interrupts,
        };
        core.refill();
        // The first filling is no refill.
        core.counters.deficit_max.set(core.unfilled.into());
        core.counters.ring_empty.set(0);
        Ok(core)
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn posted(&self) -> u32 {
        self.shadow.len()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts what arrived and was not received as lost, and tells how much that is.
    pub(crate) fn lose(&mut self) -> u64 {
        let packets = |cqe: &Cqe, from| {
            let rest = (from..COALESCED).take_while(|&i| cqe.rx_packet(i).0 != 0);
            rest.count() as u64
        };
        let mut lost = self
            .partial
            .take()
            .map_or(0, |(cqe, next)| packets(&cqe, next));
        let cq = &self.rings.cq;
        let mut cursor = cq.cursor();
        for _ in 0..self.depth {
            if self.failed || !cq.is_ready(cursor) {
                break;
            }
            lost += match cq.load(cursor, 0) & TYPE_MASK {
                OKAY => 1,
                COALESCED_4 => packets(&cq.cqe(cursor), 0),
                _ => 0,
            };
            cursor = cq.next(cursor);
        }
        // No more than there were buffers, whatever the device wrote.
        let lost = lost.min(self.shadow.len().into());
        self.counters.errors.add(lost);
        lost
    }

    /// Brings the posted buffers home, now that the RSS queue pair was destroyed. If the device is gone
    /// they come home when its context is closed; otherwise the device may still write to them, and
    /// they are leaked.
    pub(crate) fn release(self, destroyed: &Result<(), VerbsError>) {
        let Self { rings, shadow, .. } = self;
        match destroyed {
            Ok(()) => drop(shadow),
            Err(error) if error.is_disassociated() => rings.context().drop_after_close(shadow),
            Err(_) => std::mem::forget(shadow),
        }
    }

    /// See [`pmd_api::RxBurst::rx_burst`].
    pub(super) fn burst(&mut self, batch: &mut Batch) -> usize {
        if self.failed {
            return 0;
        }
        let before = batch.len();
        let mut cursor = self.rings.cq.cursor();
        // Each turn but the last handles one rare completion; a device that produces nothing else
        // must not keep us here.
        for _ in 0..self.depth {
            let room = batch.room().min(self.shadow.len() as usize) as u32;
            let mut taken = Taken::default();
            let mut left = Left::Done;
            let posted = self.shadow.posted();
            if let Some((cqe, next)) = self.partial.take() {
                (self.partial, left) = coalesced(&posted, &mut taken, room, cqe, next);
            }
            if matches!(left, Left::Done) && self.partial.is_none() {
                let cq = &self.rings.cq;
                while taken.count < room && cq.is_ready(cursor) {
                    let head = cq.load(cursor, 0);
                    if head & TYPE_MASK == OKAY {
                        let (len, hash) = (cq.load(cursor, 1) as u16, cq.load(cursor, 2) as u32);
                        cursor = cq.next(cursor);
                        if !take(&posted, &mut taken, len.into(), hash, (head >> 32) as u32) {
                            left = Left::BadLength;
                            break;
                        }
                    } else if head & TYPE_MASK == COALESCED_4 {
                        let cqe = cq.cqe(cursor);
                        cursor = cq.next(cursor);
                        (self.partial, left) = coalesced(&posted, &mut taken, room, cqe, 0);
                        if self.partial.is_some() || !matches!(left, Left::Done) {
                            break;
                        }
                    } else {
                        left = Left::Rare;
                        break;
                    }
                }
            }
            if taken.count > 0 {
                self.shadow.receive(taken.count, batch);
                self.counters.packets.add(taken.count.into());
                self.counters.bytes.add(taken.bytes);
            }
            match left {
                Left::Done if batch.room() == 0 => break,
                Left::Done => match self.look(cursor) {
                    Ahead::Nothing => break,
                    Ahead::Nonsense => {
                        self.counters.bad_completions.add(1);
                        if self.partial.take().is_none() {
                            cursor = self.rings.cq.next(cursor);
                        }
                    }
                },
                Left::Rare => {
                    self.rare(self.rings.cq.load(cursor, 0) & TYPE_MASK);
                    cursor = self.rings.cq.next(cursor);
                }
                Left::BadLength => {
                    self.counters.bad_completions.add(1);
                    self.shadow.discard(1);
                }
            }
        }
        let completions = cursor.head().wrapping_sub(self.rings.cq.cursor().head());
        self.counters.completions.add(completions.into());
        self.rings.cq.set_cursor(cursor);
        if self.depth - self.shadow.len() >= self.threshold {
            self.refill();
        }
        let received = batch.len() - before;
        let counters = &self.counters;
        counters.bursts.add(1);
        if received == 0 {
            counters.empty.add(1);
        } else if batch.room() == 0 {
            counters.full.add(1);
        }
        received
    }

    /// What stands at the cursor, after the hot loop took all it could though there was room.
    #[inline]
    fn look(&mut self, cursor: CqCursor) -> Ahead {
        match self.rings.cq.look(cursor) {
            // More packets reported than buffers posted.
            Polled::Empty if self.partial.is_some() => Ahead::Nonsense,
            Polled::Empty => Ahead::Nothing,
            // Arrived meanwhile; for the next burst.
            Polled::Ready if !self.shadow.is_empty() => Ahead::Nothing,
            Polled::Ready | Polled::Foreign => Ahead::Nonsense,
            Polled::Overflow => {
                self.overflow();
                Ahead::Nothing
            }
        }
    }

    /// Handles a completion that is no packet.
    #[cold]
    fn rare(&mut self, kind: u64) {
        match kind {
            TRUNCATED if !self.shadow.is_empty() => {
                self.counters.errors.add(1);
                self.shadow.discard(1);
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
    pub(super) fn refill(&mut self) {
        let missing = self.depth - self.shadow.len();
        let counters = &self.counters;
        counters.deficit_max.raise(missing.into());
        counters.ring_empty.add(self.shadow.is_empty().into());
        let (rq, start) = (&self.rings.rq, self.rings.rq.head());
        let filled = self.shadow.refill(missing, |offset, address| {
            rq.set_address(start.wrapping_add(offset), address);
        });
        if filled > 0 {
            self.rings.rq.commit(start.wrapping_add(filled));
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
fn take(posted: &Posted<'_>, taken: &mut Taken, len: u32, hash: u32, flags: u32) -> bool {
    let good = len != 0 && posted.set_received(taken.count, len, hash, flags);
    if good {
        taken.count += 1;
        taken.bytes += u64::from(len);
    }
    good
}

/// Takes the packets of a coalesced completion from the `next` one on. Returns what is left of it.
#[inline(never)]
fn coalesced(
    posted: &Posted<'_>,
    taken: &mut Taken,
    room: u32,
    cqe: Cqe,
    mut next: usize,
) -> (Option<(Cqe, usize)>, Left) {
    while next < COALESCED {
        let (len, hash) = cqe.rx_packet(next);
        // The list ends at length 0; a list without a packet makes no sense but harms nobody.
        if len == 0 {
            break;
        }
        if taken.count == room {
            return (Some((cqe, next)), Left::Done);
        }
        next += 1;
        if !take(posted, taken, len, hash, cqe.dword(1)) {
            let rest = (next < COALESCED).then_some((cqe, next));
            return (rest, Left::BadLength);
        }
    }
    (None, Left::Done)
}
