//! What the hot loop leaves at the cursor: completions of several packets, those that are no packet,
//! and those that make no sense.

use gdma::cqe::{Cqe, rx};
use gdma::{Entries, Polled};
use pmd_api::Batch;

use super::super::buffers::{Neighbours, Noted, RxBuffers};
use super::{OKAY, Pending, RxState, TYPE_MASK, singles};

pub(super) const COALESCED_4: u64 = rx::COALESCED_4 as u64;
pub(super) const COALESCED_8: u64 = rx::COALESCED_8 as u64;
const OBJECT_FENCE: u64 = rx::OBJECT_FENCE as u64;
const TRUNCATED: u64 = rx::TRUNCATED as u64;

impl RxState {
    /// Goes on with a burst that has received `before` packets: takes whatever is at the cursor until
    /// nothing is, or the batch is full. Returns the packets of the whole burst.
    #[inline(never)]
    pub(super) fn receive_others<B: RxBuffers>(
        &mut self,
        before: usize,
        buffers: &mut B,
        batch: &mut Batch,
    ) -> usize {
        let (start, had) = (self.rings.cq.cursor().head(), batch.len());
        // Each turn handles one completion at least; a device that produces more of them meanwhile must
        // not keep us here.
        for _ in 0..=self.depth {
            if batch.room() == 0 || !self.step(buffers, batch) {
                break;
            }
        }
        let received = before + batch.len() - had;
        let completions = self.rings.cq.cursor().head().wrapping_sub(start);
        let counters = &*self.counters;
        counters.completions.add(completions.into());
        if received == 0 {
            counters.empty.add(1);
        } else if batch.room() == 0 {
            counters.full.add(1);
        }
        received
    }

    /// Takes what comes next, though it be no packet. False if that was nothing. The batch has room.
    fn step<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> bool {
        if let Pending::Rest(cqe, next) = self.pending {
            self.pending = Pending::Nothing;
            self.take(&cqe, next, buffers, batch);
            return true;
        }
        let cursor = self.rings.cq.cursor();
        match self.rings.cq.look(cursor) {
            Polled::Empty => return false,
            Polled::Overflow => {
                self.overflow();
                return false;
            }
            Polled::Foreign => self.skip_nonsense(),
            Polled::Ready => match self.rings.cq.load(cursor, 0) & TYPE_MASK {
                // More packets reported than buffers posted.
                OKAY | COALESCED_4 | COALESCED_8 if buffers.len() == 0 => self.skip_nonsense(),
                OKAY => self.take_singles(buffers, batch),
                COALESCED_4 if self.take_fours(buffers, batch) => {}
                COALESCED_4 | COALESCED_8 => {
                    let cqe = self.rings.cq.cqe(cursor);
                    self.advance(1);
                    self.take(&cqe, 0, buffers, batch);
                }
                kind => {
                    self.rare(kind, buffers);
                    self.advance(1);
                }
            },
        }
        true
    }

    /// Takes completions of one packet each.
    fn take_singles<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) {
        let cq = &self.rings.cq;
        let entries = cq.ahead(cq.cursor(), batch.room());
        let (packets, bytes) = singles(entries, buffers, batch);
        self.count(packets, bytes);
        // One stands there: of a length that is none.
        if packets == 0 {
            self.discard_bad(buffers);
        }
        self.advance(packets.max(1));
    }

    /// Takes completions of four packets each, as long as all of their packets fit. False if none was
    /// taken.
    fn take_fours<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> bool {
        let cq = &self.rings.cq;
        let posted = buffers.posted();
        let here = posted.neighbours(0, batch.room() as u32);
        let Fours {
            completions,
            packets,
            bytes,
        } = fours(cq.ahead(cq.cursor(), batch.room()), here);
        drop(posted);
        buffers.receive(packets as u32, batch);
        self.count(packets, bytes);
        self.advance(completions);
        completions > 0
    }

    /// Takes the packets of a coalesced completion from the `next` one on, as far as there is room;
    /// what does not fit is for the next burst.
    fn take<B: RxBuffers>(
        &mut self,
        cqe: &Cqe,
        mut next: usize,
        buffers: &mut B,
        batch: &mut Batch,
    ) {
        while next < most(cqe) {
            let (len, hash) = packet(cqe, next);
            // The list ends at length 0; a list without a packet makes no sense but harms nobody.
            if len == 0 {
                return;
            }
            if batch.room() == 0 {
                self.pending = Pending::Rest(*cqe, next);
                return;
            }
            if buffers.len() == 0 {
                // More packets reported than buffers posted.
                self.counters.bad_completions.add(1);
                return;
            }
            next += 1;
            let good = buffers
                .posted()
                .neighbours(0, 1)
                .set_received(0, len, hash, cqe.dword(1));
            if good {
                buffers.receive(1, batch);
                self.count(1, len.into());
            } else {
                self.discard_bad(buffers);
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

    /// A packet whose length is none: one buffer was consumed for nothing.
    #[cold]
    fn discard_bad(&mut self, buffers: &mut impl RxBuffers) {
        self.counters.bad_completions.add(1);
        buffers.discard(1);
    }

    /// A completion that contradicts our own state.
    #[cold]
    fn skip_nonsense(&mut self) {
        self.counters.bad_completions.add(1);
        self.advance(1);
    }

    #[cold]
    fn overflow(&mut self) {
        self.pending = Pending::Failed;
        self.counters.bad_completions.add(1);
        tracing::error!(
            queue = self.index,
            "the device overtook the receive completions: stop and start the port"
        );
    }

    fn advance(&mut self, completions: usize) {
        let cq = &mut self.rings.cq;
        cq.set_cursor(cq.skip(cq.cursor(), completions as u32));
    }

    fn count(&self, packets: usize, bytes: u64) {
        self.counters.packets.add(packets as u64);
        self.counters.bytes.add(bytes);
    }
}

/// What [`fours`] took.
struct Fours {
    completions: usize,
    packets: usize,
    bytes: u64,
}

/// Takes completions of up to four packets each, from the first on, while all of their packets fit the
/// buffers. A completion of which one does not fit, or makes no sense, is not taken: what was noted
/// of it is noted again.
#[inline(never)]
fn fours(entries: Entries<'_>, buffers: impl Neighbours) -> Fours {
    let (mut at, mut buffer, mut bytes) = (0, 0, 0);
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
        completions: at,
        packets: buffer,
        bytes,
    }
}

/// Packets of a coalesced completion at most.
pub(super) fn most(cqe: &Cqe) -> usize {
    match cqe.head().cqe_type() {
        rx::COALESCED_8 => 8,
        _ => 4,
    }
}

/// Length and hash of packet `index` of a coalesced completion.
pub(super) fn packet(cqe: &Cqe, index: usize) -> (u32, u32) {
    match cqe.head().cqe_type() {
        rx::COALESCED_8 => cqe.rx_packet_of_8(index),
        _ => cqe.rx_packet(index),
    }
}
