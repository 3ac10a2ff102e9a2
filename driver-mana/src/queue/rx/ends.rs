//! How a receive queue begins, what may be asked about it, and how it ends.

use std::sync::Arc;

use gdma::cqe::Cqe;
use mana_verbs::VerbsError;

use super::super::buffers::Buffers;
use super::super::rings::{Posting, RxRings};
use super::super::{Counters, QueueError, RxSetup};
use super::others::{COALESCED_4, COALESCED_8, most, packet};
use super::refill::low;
use super::{BUSY, OKAY, Pending, RxCore, RxState, TYPE_MASK};

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
                pending: Pending::Nothing,
                vacant: BUSY,
                depth,
                low: low(depth),
                unfilled: 0,
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
        let (mut waiting, failed) = match &self.state.pending {
            Pending::Nothing => (0, false),
            Pending::Rest(cqe, next) => (packets(cqe, *next), false),
            Pending::Failed => (0, true),
        };
        let cq = &self.state.rings.cq;
        let mut cursor = cq.cursor();
        // No more than there are buffers, whatever the device wrote.
        while waiting < self.buffers.len() && !failed && cq.is_ready(cursor) {
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
        if matches!(self.state.pending, Pending::Rest(..)) {
            self.state.pending = Pending::Nothing;
        }
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
}
