//! Transmission.
//!
//! A packet of one unshared segment that wants no VLAN tag is *simple*: its WQE is the queue's
//! template, the offload bits of its transmit word, and its address, key and length. A burst of one such
//! packet has a way of its own, and so have bursts that consist of them (`burst_of_one`, `burst_alike`);
//! all others are taken by `mixed.rs`, and packets that need thought by `general.rs`. All WQEs are
//! written suppressed; the last one of a burst asks for a
//! completion, which stands for the whole burst (reference/mana-hardware.md §3.4).

use std::sync::Arc;
use std::time::Instant;

use gdma::Polled;
use gdma::cqe::{CqeHead, tx};
use gdma::oob::LONG;
use gdma::wqe::MAX_TX_SGES;
use mana_verbs::VerbsError;
use pmd_api::{BadPacket, Batch, Mbuf, Reject, TxShadowRing};

use super::histograms::Sample;
use super::mixed::Mixed;
use super::prepare::prepare_all;
use super::rings::TxRings;
use super::runs::{Run, RunRing};
use super::template::Template;
use super::{Counters, Lkeys, QueueError, TxSetup};

/// Bits of `tx_wqe_offset` (§3.4).
const OFFSET_MASK: u32 = (1 << 27) - 1;

/// Units of the largest WQE. A ring with less room than that must be looked at for completions, or a
/// packet of many segments would never find it emptier.
const LARGEST: u32 = gdma::wqe::units(LONG, MAX_TX_SGES);

/// Packets after which completions are looked for: often enough that their buffers are found in the
/// nearest caches when they are used again, and that they go home through the pool's cache.
const LOOK: u32 = 64;

/// A packet that can never be sent, and why.
type Rejected = (Mbuf, Reject);

/// What a transmit queue's bursts work on.
#[derive(Debug)]
pub(crate) struct TxCore {
    rings: TxRings,
    /// Packets in flight. It allows as many simple ones more as may be sent before completions must be
    /// looked for again.
    shadow: TxShadowRing,
    runs: RunRing,
    depth: u32,
    template: Template,
    lkeys: Lkeys,
    max_segments: usize,
    /// The device stopped the queue; nothing is sent any more until the port is started again.
    failed: bool,
    /// Why the first packet of the batch can never be sent, for the caller of `push`.
    rejected: Option<Reject>,
    index: u16,
    /// The packet whose completion is timed, where histograms are asked for.
    sample: Option<Sample>,
    counters: Arc<Counters>,
}

impl TxCore {
    pub(crate) fn new(setup: TxSetup) -> Result<Self, QueueError> {
        let TxSetup {
            context,
            index,
            queue,
            depth,
            max_segments,
            lkeys,
            counters,
        } = setup;
        let template = Template::new(&queue);
        let mut core = Self {
            rings: TxRings::new(context, queue, depth)?,
            shadow: TxShadowRing::new(depth),
            runs: RunRing::new(depth),
            depth,
            template,
            lkeys,
            max_segments: (max_segments as usize).min(MAX_TX_SGES),
            failed: false,
            rejected: None,
            index,
            sample: None,
            counters,
        };
        // In a forwarder the first look then falls into the turn in which its receive queue refills, and
        // so do all others under full bursts: what one takes out of the pool's cache the other puts
        // back. Several queues that did one in this turn and the other in the next would swing the
        // cache over both its ends.
        let first = (LOOK / 2).min(depth / 2).min(core.largest_fit());
        core.shadow.allow(first);
        Ok(core)
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.shadow.len()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts what is in flight as lost, and tells how much that is. What has completed is not.
    pub(crate) fn lose(&mut self) -> u64 {
        self.reap();
        let (in_flight, sq) = (self.in_flight(), &self.rings.sq);
        let (mut at, mut bytes) = (sq.tail(), 0);
        for _ in 0..in_flight {
            let (units, size) = sq.read_back(at);
            at = at.wrapping_add(units);
            bytes += size;
        }
        self.counters.failed.add(in_flight.into());
        self.counters.failed_bytes.add(bytes);
        self.counters.finished.add(in_flight.into());
        in_flight.into()
    }

    /// Destroys the queue pair and its CQ, then brings the buffers in flight home. If the device may
    /// still read them they are leaked; the error says so.
    pub(crate) fn destroy(self) -> Result<(), VerbsError> {
        let Self { rings, shadow, .. } = self;
        let (queue, context) = rings.into_parts();
        let destroyed = queue.destroy();
        match &destroyed {
            Ok(()) => drop(shadow),
            Err(error) if error.is_disassociated() => context.drop_after_close(shadow),
            Err(_) => std::mem::forget(shadow),
        }
        destroyed
    }

    /// See [`pmd_api::TxBurst::tx_burst`]: any burst, of which no more than `limit` packets are tried.
    /// Returns how many packets were sent.
    #[inline]
    pub(super) fn burst(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        rejected: &mut Option<Rejected>,
    ) -> usize {
        let sent = self.push(batch, limit);
        self.counters.bursts.add(1);
        if self.counters.histograms.is_on() {
            self.record(sent);
        }
        if !batch.is_empty() {
            self.leave(batch, rejected);
        }
        sent
    }

    /// Counts that packets stay in the batch, or takes out the one that can never be sent.
    #[inline(never)]
    fn leave(&mut self, batch: &mut Batch, rejected: &mut Option<Rejected>) {
        match self.rejected.take() {
            Some(reason) => {
                self.counters.rejected.add(1);
                *rejected = batch.remove(0).map(|mbuf| (mbuf, reason));
            }
            None => self.counters.full.add(1),
        }
    }

    /// Counts a burst in the histograms.
    #[cold]
    fn record(&mut self, sent: usize) {
        self.record_completion();
        let histograms = &self.counters.histograms;
        histograms.burst.record(sent as u64);
        if sent > 0 {
            histograms.ring.record(self.in_flight().into());
            let (end, switched) = (self.shadow.taken(), histograms.switched());
            self.sample.get_or_insert_with(|| Sample {
                end,
                at: Instant::now(),
                switched,
            });
        }
    }

    /// Counts how long the packet took that is waited for, if it is complete.
    #[cold]
    fn record_completion(&mut self) {
        let Some(sample) = self.sample else { return };
        let histograms = &self.counters.histograms;
        let switched = sample.switched != histograms.switched();
        if !switched && (self.shadow.released().wrapping_sub(sample.end) as i32) < 0 {
            return;
        }
        self.sample = None;
        if !switched {
            // In 584 years it would not fit.
            let nanoseconds = sample.at.elapsed().as_nanos() as u64;
            histograms.completion_ns.record(nanoseconds);
        }
    }

    /// A burst of one simple packet like those before it, for which completions need not be looked
    /// for: what `burst` does, without what its loops need. Whether it was one; nothing is done if not.
    #[inline(always)]
    pub(super) fn burst_of_one(&mut self, batch: &mut Batch) -> bool {
        let counters = &*self.counters;
        if batch.len() != 1 || !self.template.short || counters.histograms.is_on() {
            return false;
        }
        let Self {
            rings,
            shadow,
            lkeys,
            template,
            ..
        } = self;
        let at = rings.sq.head();
        let mut bytes = 0;
        let sent = shadow.push_one(batch, |mbuf| {
            if let Some(key) = lkeys.cached(mbuf.buffer_pool()) {
                bytes = template.write_one(key, mbuf, rings.sq.unit(at));
            }
            if bytes != 0 {
                // Before what we note for ourselves: the doorbell's fence waits for all stores before.
                rings.sq.commit(at.wrapping_add(1));
            }
            bytes != 0
        });
        if sent {
            self.runs.push_one();
            counters.singles.add(1);
            counters.bytes.add(bytes);
        }
        sent
    }

    /// A burst of simple packets of one pool, which comes behind simple ones: what `burst` does, in one
    /// loop. Returns how many there are.
    ///
    /// # Errors
    ///
    /// If nothing is sent: of how many packets `burst` may try to send some.
    #[inline(never)]
    pub(super) fn burst_alike(&mut self, batch: &mut Batch) -> Result<usize, usize> {
        let mut count = batch.len();
        if count > self.shadow.allowed() as usize {
            count = count.min(self.make_room());
        }
        let Some(first) = batch.as_slice().first() else {
            return Err(0);
        };
        if count < batch.len() || !self.template.short || self.counters.histograms.is_on() {
            return Err(count);
        }
        let Some(key) = self.lkeys.find(first.buffer_pool()) else {
            return Err(count);
        };
        let start = self.rings.sq.head();
        let units = self.rings.sq.units(start, count as u32);
        let write = self.template.writer(key);
        let (sent, bytes) = self.shadow.push_alike(batch, units, write);
        if sent == 0 {
            return Err(count);
        }
        let at = start.wrapping_add(sent as u32);
        self.rings.sq.clear_suppress(at.wrapping_sub(1));
        self.commit(sent, at, bytes);
        self.counters.bursts.add(1);
        Ok(sent)
    }

    /// Any burst, of which no more than `limit` packets are tried; returns how many were sent. Why the one
    /// behind them can never be is left in `rejected`.
    #[inline(never)]
    fn push(&mut self, batch: &mut Batch, limit: usize) -> usize {
        let Some(first) = batch.as_slice().first() else {
            return 0;
        };
        if limit == 0 {
            return 0;
        }
        // All simple and plain packets of the burst are of this pool; others look their keys up.
        let key = self.lkeys.find(first.buffer_pool());
        let start = self.rings.sq.head();
        let mixed = Mixed {
            sq: &self.rings.sq,
            lkeys: &mut self.lkeys,
            template: &self.template,
            key,
            max_segments: self.max_segments,
            at: start,
            last: start,
            bytes: 0,
            rejected: &mut self.rejected,
        };
        let (sent, at, last, bytes) = mixed.push(self.shadow.push(batch, limit));
        if sent == 0 {
            return 0;
        }
        self.rings.sq.clear_suppress(last);
        self.commit(sent, at, bytes);
        // Of units these packets may have taken more than one each.
        let allowed = self.shadow.allowed().min(self.largest_fit());
        self.shadow.allow(allowed);
        sent
    }

    /// Looks for completions, and says anew how many packets may come before the next look. Returns how
    /// many simple ones there is room for now.
    #[inline(never)]
    fn make_room(&mut self) -> usize {
        self.reap();
        if self.failed {
            return 0;
        }
        let room = self.depth - self.in_flight();
        let allowed = room.min(self.largest_fit()).min(LOOK).min(self.depth / 2);
        self.shadow.allow(allowed);
        room.min(self.rings.sq.free()) as usize
    }

    /// How many packets fit the send ring if one of them is the largest.
    fn largest_fit(&self) -> u32 {
        self.rings.sq.free().saturating_sub(LARGEST - 1)
    }

    /// Hands the WQEs of a burst to the device, of which the last one asks for a completion.
    #[inline]
    fn commit(&mut self, sent: usize, at: u32, bytes: u64) {
        self.runs.push(Run {
            packets_end: self.shadow.taken(),
            units_end: at,
        });
        self.rings.sq.commit(at);
        self.counters.doorbells.add(1);
        self.counters.packets.add(sent as u64);
        self.counters.bytes.add(bytes);
    }

    /// See [`pmd_api::TxBurst::tx_prepare`].
    pub(super) fn prepare(&mut self, batch: &mut Batch) -> Result<(), BadPacket> {
        prepare_all(batch, Some(&mut self.lkeys), self.max_segments)
    }

    /// See [`pmd_api::TxBurst::reclaim`].
    pub(super) fn reclaim(&mut self) -> usize {
        let before = self.shadow.released();
        self.reap();
        if self.counters.histograms.is_on() {
            self.record_completion();
        }
        self.shadow.released().wrapping_sub(before) as usize
    }

    /// Takes the completions that are there: at most one for each packet that can be in flight, so that
    /// a device that produces nonsense without end can't keep us here.
    #[inline(never)]
    fn reap(&mut self) {
        self.counters.looks.add(1);
        let mut cursor = self.rings.cq.cursor();
        // The end of what is complete: the buffers of neighbouring runs go home together.
        let mut end = None;
        let mut left = self.depth;
        while left != 0 {
            // Each of these stands for the oldest run.
            let ahead = self
                .rings
                .cq
                .ahead(cursor, left.min(self.runs.len()) as usize);
            let count = ahead.count_ready(tx::OKAY) as u32;
            if count != 0 {
                cursor = self.rings.cq.skip(cursor, count);
                left -= count;
                end = self.runs.pop(count);
                continue;
            }
            match self.rings.cq.look(cursor) {
                Polled::Empty => break,
                Polled::Ready => {
                    let head = CqeHead::from_bits(self.rings.cq.load(cursor, 0) as u32);
                    if head.cqe_type() != tx::OKAY {
                        self.complete(end.take());
                        let offset = self.rings.cq.cqe(cursor).tx_wqe_offset();
                        self.fail(head, offset);
                    } else if self.runs.len() == 0 {
                        self.counters.bad_completions.add(1);
                    } else {
                        // Arrived between the two looks.
                        continue;
                    }
                }
                Polled::Foreign => self.counters.bad_completions.add(1),
                Polled::Overflow => {
                    self.overflow();
                    break;
                }
            }
            cursor = self.rings.cq.next(cursor);
            left -= 1;
        }
        self.rings.cq.set_cursor(cursor);
        self.complete(end);
    }

    /// Everything to the end of `run` is complete, if that is one.
    #[inline]
    fn complete(&mut self, run: Option<Run>) {
        if let Some(run) = run {
            self.complete_to(run.packets_end, run.units_end);
        }
    }

    #[inline]
    fn complete_to(&mut self, packets: u32, units: u32) {
        let count = packets.wrapping_sub(self.shadow.released());
        self.shadow.release(count);
        self.counters.finished.add(count.into());
        self.rings.sq.release_to(units);
    }

    /// One WQE failed. Errors ignore suppression and complete everything before them (§3.4): the
    /// position that the device names is looked up among the WQEs in flight. Where it names none of
    /// them the oldest WQE is completed, as error completions consume exactly one.
    #[cold]
    fn fail(&mut self, head: CqeHead, offset: u32) {
        let Some(name) = tx::name(head.cqe_type()) else {
            self.counters.bad_completions.add(1);
            return;
        };
        let (in_flight, sq) = (self.in_flight(), &self.rings.sq);
        if in_flight == 0 {
            self.counters.bad_completions.add(1);
            return;
        }
        let mut distance = offset.wrapping_sub(sq.tail()) & OFFSET_MASK;
        if distance >= sq.head().wrapping_sub(sq.tail()) {
            self.counters.bad_completions.add(1);
            distance = 0;
        }
        let (mut packets, mut units) = (0, 0);
        let bytes = loop {
            let (size, bytes) = sq.read_back(sq.tail().wrapping_add(units));
            packets += 1;
            units += size;
            if units > distance || packets == in_flight {
                break bytes;
            }
        };
        let units = units.min(sq.head().wrapping_sub(sq.tail()));
        let units = sq.tail().wrapping_add(units);
        self.counters.failed.add(1);
        self.counters.failed_bytes.add(bytes);
        let type_index = usize::from(head.cqe_type().wrapping_sub(tx::SA_DROP));
        if let Some(counter) = self.counters.by_type.get(type_index) {
            counter.add(1);
        }
        self.complete_to(self.shadow.released().wrapping_add(packets), units);
        // Runs that are complete now have no completion of their own to come.
        while let Some(run) = self.runs.first()
            && run.packets_end.wrapping_sub(self.shadow.released()) as i32 <= 0
        {
            self.runs.pop(1);
        }
        tracing::debug!(
            queue = self.index,
            name,
            error = head.vendor_err(),
            "send failed"
        );
        if head.cqe_type() == tx::GDMA_ERR {
            self.stop();
            tracing::error!(
                queue = self.index,
                "the device stopped the transmit queue (TX_GDMA_ERR): stop and start the port"
            );
        }
    }

    fn stop(&mut self) {
        self.failed = true;
        self.shadow.allow(0);
    }

    #[cold]
    fn overflow(&mut self) {
        if !self.failed {
            self.stop();
            self.counters.bad_completions.add(1);
            tracing::error!(
                queue = self.index,
                "the device overtook the transmit completions: stop and start the port"
            );
        }
    }
}
