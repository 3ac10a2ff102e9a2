//! Transmission.
//!
//! A packet of one unshared segment that wants no VLAN tag is *simple*: its WQE is the queue's
//! template, the offload bits of its transmit word, and its address, key and length. Everything else
//! takes `general.rs`. All WQEs are written suppressed; the last one of a burst asks for a
//! completion, which stands for the whole burst (reference/mana-hardware.md §3.4).

use std::sync::Arc;
use std::time::Instant;

use gdma::Polled;
use gdma::cqe::{CqeHead, tx};
use gdma::oob::{LONG, MAX_SHORT_VPORT_OFFSET, OFFLOAD_MASK, SHORT, ShortOob};
use gdma::wqe::{MAX_TX_SGES, WqeHeader};
use mana_verbs::VerbsError;
use pmd_api::{BadPacket, Batch, TxFlags, TxOutcome, TxShadowRing};

use super::general::{General, write_general};
use super::histograms::Sample;
use super::prepare::prepare_all;
use super::rings::TxRings;
use super::runs::{Run, RunRing};
use super::{Counters, Lkeys, QueueError, TxSetup};

/// Bits of a completion's first dword that are its type. The client type beside it is not looked at:
/// a CQ of ours serves one queue of one client.
const TYPE_MASK: u32 = 0x3F;
const OKAY: u32 = tx::OKAY as u32;
/// Bits of `tx_wqe_offset` (§3.4).
const OFFSET_MASK: u32 = (1 << 27) - 1;

/// Units of the largest WQE. A ring with less room than that must be looked at for completions, or a
/// packet of many segments would never find it emptier.
const LARGEST: u32 = gdma::wqe::units(LONG, MAX_TX_SGES);

/// Requests of the transmit word that take more than the offload bits of the short OOB. The word
/// itself makes sense: it can only be built from requests that were checked.
const SPECIAL: u64 = (TxFlags::VLAN.bits() | TxFlags::TSO.bits()) as u64;

/// What a transmit queue's bursts work on.
#[derive(Debug)]
pub(crate) struct TxCore {
    rings: TxRings,
    shadow: TxShadowRing,
    runs: RunRing,
    /// Free-running, in packets: behind the last one posted, and the last one complete.
    posted: u32,
    completed: u32,
    depth: u32,
    template: Template,
    lkeys: Lkeys,
    max_segments: usize,
    /// The device stopped the queue; nothing is sent any more until the port is started again.
    failed: bool,
    index: u16,
    /// The packet whose completion is timed, where histograms are asked for.
    sample: Option<Sample>,
    counters: Arc<Counters>,
}

/// What all WQEs of the queue have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Template {
    /// Header of a WQE with a short OOB and one element.
    header: u64,
    /// Short OOB of a suppressed packet without offloads.
    pub(super) oob: ShortOob,
    pub(super) vport_offset: u16,
    /// The vPort offset fits the short OOB.
    pub(super) short: bool,
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
        let vport_offset = queue.vport_offset();
        let short = vport_offset <= MAX_SHORT_VPORT_OFFSET;
        let oob = ShortOob::new()
            .with_suppress_txcqe_gen(true)
            .with_vcq_num(queue.cq_id() & 0xFF_FFFF)
            .with_vsq_frame((queue.sq_id() >> 10 & 0x3FFF) as u16)
            .with_short_vp_offset(if short { vport_offset as u8 } else { 0 });
        let template = Template {
            header: WqeHeader::plain(SHORT, 1).into_bits(),
            oob,
            vport_offset: (vport_offset & 0xFFF) as u16,
            short,
        };
        Ok(Self {
            rings: TxRings::new(context, queue, depth)?,
            shadow: TxShadowRing::new(depth),
            runs: RunRing::new(depth),
            posted: 0,
            completed: 0,
            depth,
            template,
            lkeys,
            max_segments: (max_segments as usize).min(MAX_TX_SGES),
            failed: false,
            index,
            sample: None,
            counters,
        })
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.posted.wrapping_sub(self.completed)
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

    /// See [`pmd_api::TxBurst::tx_burst`].
    #[inline]
    pub(super) fn burst(&mut self, batch: &mut Batch) -> TxOutcome {
        let outcome = self.push(batch);
        self.counters.bursts.add(1);
        if !batch.is_empty() && outcome.rejected.is_none() {
            self.counters.full.add(1);
        }
        if self.counters.histograms.is_on() {
            self.record(outcome.sent);
        }
        outcome
    }

    /// Counts a burst in the histograms.
    #[cold]
    fn record(&mut self, sent: usize) {
        self.record_completion();
        let histograms = &self.counters.histograms;
        histograms.burst.record(sent as u64);
        if sent > 0 {
            histograms.ring.record(self.in_flight().into());
            let (end, switched) = (self.posted, histograms.switched());
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
        if !switched && (self.completed.wrapping_sub(sample.end) as i32) < 0 {
            return;
        }
        self.sample = None;
        if !switched {
            // In 584 years it would not fit.
            let nanoseconds = sample.at.elapsed().as_nanos() as u64;
            histograms.completion_ns.record(nanoseconds);
        }
    }

    /// The burst itself. Alone, because every value that lives longer than its loop costs the loop a
    /// register: counting in here was 12 instructions a packet.
    #[inline(never)]
    fn push(&mut self, batch: &mut Batch) -> TxOutcome {
        let Some(first) = batch.as_slice().first() else {
            return TxOutcome {
                sent: 0,
                rejected: None,
            };
        };
        // All simple packets of the burst are of this pool; others look their keys up.
        let key = self.lkeys.find(first.buffer_pool());
        let wanted = batch.len().min(u32::MAX as usize) as u32;
        if self.in_flight() > self.depth / 2
            || self.depth - self.in_flight() < wanted
            || self.rings.sq.free() < wanted + (LARGEST - 1)
        {
            self.reap();
        }
        if self.failed {
            return TxOutcome {
                sent: 0,
                rejected: None,
            };
        }

        let Self {
            rings,
            shadow,
            lkeys,
            template,
            ..
        } = self;
        let (sq, max_segments) = (&rings.sq, self.max_segments);
        let template = *template;
        let (header, oob) = (template.header, template.oob.into_bits());
        let (fast, key) = (template.short && key.is_some(), u64::from(key.unwrap_or(0)));
        let start = sq.head();
        let end = start.wrapping_add(sq.free());
        let (mut at, mut last, mut bytes, mut reject) = (start, start, 0u64, None);
        let limit = (self.depth - self.posted.wrapping_sub(self.completed)) as usize;
        let mut push = shadow.push(batch, limit);
        while !push.is_full() {
            if fast && push.is_simple_next() {
                let units = sq.units(at, end.wrapping_sub(at));
                let mut sum = 0;
                let simple = push.simple(units, |mbuf, unit| {
                    let (word, len) = (mbuf.tx_word().bits(), mbuf.packet_len() as u64);
                    let good = word & SPECIAL == 0 && len != 0;
                    if good {
                        let oob = oob | word & OFFLOAD_MASK;
                        unit.write([header, oob, mbuf.data_address(), key | len << 32]);
                        sum += len;
                    }
                    good
                });
                bytes += sum;
                // Until a packet that is not simple, or the end of the ring.
                if simple != 0 {
                    at = at.wrapping_add(simple as u32);
                    last = at.wrapping_sub(1);
                    continue;
                }
            }
            let room = end.wrapping_sub(at);
            let accepted = push.next(|mbuf| {
                match write_general(sq, at, room, template, lkeys, max_segments, mbuf) {
                    General::Written { units } => {
                        last = at;
                        at = at.wrapping_add(units);
                        bytes += mbuf.packet_len() as u64;
                        return true;
                    }
                    General::Full => {}
                    General::Rejected(reason) => reject = Some(reason),
                }
                false
            });
            if !accepted {
                break;
            }
        }
        let sent = push.finish();

        if sent > 0 {
            self.posted = self.posted.wrapping_add(sent as u32);
            self.rings.sq.clear_suppress(last);
            self.runs.push(Run {
                packets_end: self.posted,
                units_end: at,
            });
            self.rings.sq.commit(at);
            self.counters.doorbells.add(1);
            self.counters.packets.add(sent as u64);
            self.counters.bytes.add(bytes);
        }
        let rejected = reject.and_then(|reason| Some((batch.remove(0)?, reason)));
        self.counters.rejected.add(rejected.is_some().into());
        TxOutcome { sent, rejected }
    }

    /// See [`pmd_api::TxBurst::tx_prepare`].
    pub(super) fn prepare(&mut self, batch: &mut Batch) -> Result<(), BadPacket> {
        prepare_all(batch, Some(&mut self.lkeys), self.max_segments)
    }

    /// See [`pmd_api::TxBurst::reclaim`].
    pub(super) fn reclaim(&mut self) -> usize {
        let before = self.completed;
        self.reap();
        if self.counters.histograms.is_on() {
            self.record_completion();
        }
        self.completed.wrapping_sub(before) as usize
    }

    /// Takes the completions that are there: at most one for each packet that can be in flight, so that
    /// a device that produces nonsense without end can't keep us here.
    #[inline(never)]
    fn reap(&mut self) {
        self.counters.looks.add(1);
        let mut cursor = self.rings.cq.cursor();
        // The end of what is complete: the buffers of neighbouring runs go home together.
        let mut end = None;
        for _ in 0..self.depth {
            if self.rings.cq.is_ready(cursor) {
                let head = self.rings.cq.load(cursor, 0) as u32;
                if head & TYPE_MASK == OKAY {
                    // The oldest run is complete.
                    match self.runs.first() {
                        Some(run) => {
                            self.runs.pop();
                            end = Some(run);
                        }
                        None => self.counters.bad_completions.add(1),
                    }
                } else {
                    self.complete(end.take());
                    let offset = self.rings.cq.cqe(cursor).tx_wqe_offset();
                    self.fail(CqeHead::from_bits(head), offset);
                }
            } else {
                match self.rings.cq.look(cursor) {
                    Polled::Empty => break,
                    // Arrived between the two looks.
                    Polled::Ready => continue,
                    Polled::Foreign => self.counters.bad_completions.add(1),
                    Polled::Overflow => {
                        self.overflow();
                        break;
                    }
                }
            }
            cursor = self.rings.cq.next(cursor);
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
        let count = packets.wrapping_sub(self.completed);
        self.shadow.release(count);
        self.counters.finished.add(count.into());
        self.completed = packets;
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
        self.complete_to(self.completed.wrapping_add(packets), units);
        // Runs that are complete now have no completion of their own to come.
        while let Some(run) = self.runs.first()
            && run.packets_end.wrapping_sub(self.completed) as i32 <= 0
        {
            self.runs.pop();
        }
        tracing::debug!(
            queue = self.index,
            name,
            error = head.vendor_err(),
            "send failed"
        );
        if head.cqe_type() == tx::GDMA_ERR {
            self.failed = true;
            tracing::error!(
                queue = self.index,
                "the device stopped the transmit queue (TX_GDMA_ERR): stop and start the port"
            );
        }
    }

    #[cold]
    fn overflow(&mut self) {
        if !self.failed {
            self.failed = true;
            self.counters.bad_completions.add(1);
            tracing::error!(
                queue = self.index,
                "the device overtook the transmit completions: stop and start the port"
            );
        }
    }
}
