//! Reception.
//!
//! This file is the way of most packets, from top to bottom: a burst looks at one word of the completion
//! at its cursor, and completions of one packet each are taken by one loop over entries and buffers
//! that are neighbours in memory. Whatever else stands at the cursor is taken by `others`, out of
//! line; `refill` posts buffers, and `ends` is how a queue begins and ends
//! (reference/mana-hardware.md §3.6).

mod ends;
mod others;
mod refill;

use std::sync::Arc;

use gdma::cqe::{Cqe, rx};
use gdma::{Entries, Polled};
use mana_verbs::CompletionChannel;
use pmd_api::{Arrival, Batch};

use super::Counters;
use super::buffers::{Buffers, RxBuffers};
use super::histograms::LOOK_EVERY;
use super::rings::RxRings;

/// Bits of a completion's first word that are its type. The client type beside it is not looked at:
/// a CQ of ours serves one queue of one client.
const TYPE_MASK: u64 = 0x3F;
const OKAY: u64 = rx::OKAY as u64;

/// Completions that are asked for ahead of the one that is taken. A device has written them, at best to
/// the last level of cache: nothing of our own would hide that.
const PREFETCHED: usize = 8;

/// Owner bits that nothing has.
const BUSY: u8 = u8::MAX;

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
    pub(super) pending: Pending,
    /// The last burst that looked about received nothing, left nothing over, and buffers enough are posted:
    /// while these owner bits stand where the next completion will be, bursts are only counted.
    /// Otherwise [`BUSY`].
    vacant: u8,
    depth: u32,
    /// Packets for which buffers are posted, below or at which the ring is refilled.
    low: u32,
    /// Packets for which buffers could not be allocated and were counted as such.
    unfilled: u32,
    pub(super) index: u16,
    counters: Arc<Counters>,
}

/// What a burst sees to before it looks at the completion ring.
#[derive(Debug)]
pub(super) enum Pending {
    /// Nothing.
    Nothing,
    /// A coalesced completion whose packets did not all fit the last burst, and the next of them.
    Rest(Cqe, usize),
    /// The device overtook us; nothing is received any more until the port is started again.
    Failed,
}

impl RxCore {
    /// See [`pmd_api::RxBurst::rx_burst`].
    #[inline(always)]
    pub(super) fn burst(&mut self, batch: &mut Batch) -> usize {
        let state = &self.state;
        let counters = &*state.counters;
        if state.rings.cq.watched_owner() == state.vacant && !counters.histograms.is_on() {
            counters.idle.add(1);
            return 0;
        }
        self.busy_burst(batch)
    }

    #[inline(never)]
    fn busy_burst(&mut self, batch: &mut Batch) -> usize {
        let state = &mut self.state;
        if matches!(state.pending, Pending::Failed) {
            return 0;
        }
        let received = match &mut self.buffers {
            Buffers::Single(buffers) => state.turn(buffers, batch),
            Buffers::Scatter(buffers) => state.turn_scattered(buffers, batch),
        };
        if self.keep_vlan_tags {
            put_tags_back(batch, received);
        }
        if self.state.counters.histograms.is_on() {
            self.record(received);
        }
        received
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
}

impl RxState {
    /// Takes packets, and posts buffers where they are due.
    #[inline(always)]
    fn turn<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> usize {
        let received = self.receive(buffers, batch);
        self.counters.bursts.add(1);
        if buffers.len() <= self.low {
            self.refill(buffers);
        }
        self.vacant = BUSY;
        if received == 0 {
            self.settle(buffers.len());
        }
        received
    }

    #[inline(never)]
    fn turn_scattered<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> usize {
        self.turn(buffers, batch)
    }

    /// There was nothing to receive: the queue is idle if nothing is left over and buffers enough are
    /// posted.
    #[inline(never)]
    fn settle(&mut self, posted: u32) {
        if matches!(self.pending, Pending::Nothing) && posted > self.low {
            self.vacant = self.rings.cq.watch();
        }
    }

    /// Takes packets: completions of one packet each from the cursor on here, whatever comes then
    /// elsewhere.
    #[inline(always)]
    fn receive<B: RxBuffers>(&mut self, buffers: &mut B, batch: &mut Batch) -> usize {
        if !matches!(self.pending, Pending::Nothing) {
            return self.receive_others(0, buffers, batch);
        }
        let cq = &self.rings.cq;
        let cursor = cq.cursor();
        let (packets, bytes) = singles(cq.ahead(cursor, batch.room()), buffers, batch);
        let cursor = cq.skip(cursor, packets as u32);
        self.rings.cq.set_cursor(cursor);
        let counters = &*self.counters;
        counters.completions.add(packets as u64);
        counters.packets.add(packets as u64);
        counters.bytes.add(bytes);
        if batch.room() == 0 && packets > 0 {
            counters.full.add(1);
            return packets;
        }
        // The end of the packets, of the ring, another kind of completion, or one that makes no sense.
        match self.rings.cq.look(cursor) {
            Polled::Empty if packets > 0 => packets,
            _ => self.receive_others(packets, buffers, batch),
        }
    }
}

/// Takes completions of one packet each, from the first on. Returns how many, and their bytes.
#[inline(always)]
fn singles<B: RxBuffers>(entries: Entries<'_>, buffers: &mut B, batch: &mut Batch) -> (usize, u64) {
    let arrivals = entries.iter().map(|entry| {
        if !entry.is_ready() {
            return None;
        }
        entry.prefetch(PREFETCHED);
        let head = entry.load(0);
        let arrival = Arrival {
            len: (entry.load(1) & 0xFFFF) as u32,
            hash: entry.load(2) as u32,
            rx_word: (head >> 32) as u32,
        };
        (head & TYPE_MASK == OKAY).then_some(arrival)
    });
    buffers.receive_each(arrivals, batch)
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
