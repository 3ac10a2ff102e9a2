//! Posting receive buffers.

use super::super::buffers::{Buffers, RxBuffers};
use super::{RxCore, RxState};

/// Buffers that must be missing before a burst refills the ring, at most.
const MISSING: u32 = 64;

/// Packets for which a ring of `depth` packets has buffers when it is refilled. A quarter is missing
/// then at most: packets that arrive meanwhile find the rest.
pub(super) fn low(depth: u32) -> u32 {
    depth - MISSING.min(depth / 4)
}

impl RxCore {
    /// Posts as many buffers as are missing, or as the pool has.
    #[inline(never)]
    pub(in super::super) fn refill(&mut self) {
        match &mut self.buffers {
            Buffers::Single(buffers) => self.state.refill(buffers),
            Buffers::Scatter(buffers) => self.state.refill(buffers),
        }
    }
}

impl RxState {
    /// Posts as many buffers as are missing, or as the pool has.
    #[inline(never)]
    pub(super) fn refill<B: RxBuffers>(&mut self, buffers: &mut B) {
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
