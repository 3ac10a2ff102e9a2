//! Statistics of one queue: written by its owner a few times a burst, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gdma::cqe::tx;
use pmd_api::QueueStats;

use super::histograms::Recorders;

/// Types of error completions of a send queue, the first of which is SA_DROP
/// (reference/mana-hardware.md §3.4).
pub(crate) const TX_ERRORS: usize = (tx::GDMA_ERR - tx::SA_DROP + 1) as usize;

/// Cache lines of a queue of their own, so that two queues never share one. The first is what every
/// burst writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    /// Packets received, or handed to the device, but for `singles`.
    pub(super) packets: Counter,
    /// Bytes of all of them, without FCS.
    pub(super) bytes: Counter,
    /// Bursts, of whatever size, but for `singles` and `idle`.
    pub(super) bursts: Counter,
    /// Receive: bursts that filled the batch. Transmit: bursts that left packets in it for want of
    /// room in the ring.
    pub(super) full: Counter,
    /// Doorbells of the work queue, but for `singles`.
    pub(super) doorbells: Counter,
    /// Receive: completions, of whatever type.
    pub(super) completions: Counter,
    /// Transmit: packets that a burst of their own handed to the device. They, their bursts and their
    /// doorbells are counted here only.
    pub(super) singles: Counter,
    /// Receive: bursts that found nothing on a queue with nothing else to do. Counted here only.
    pub(super) idle: Counter,
    /// Receive: bursts that brought nothing, but for `idle`.
    pub(super) empty: Counter,
    /// Packets that were handed to the device and failed; counted above, too.
    pub(super) failed: Counter,
    /// Their bytes.
    pub(super) failed_bytes: Counter,
    /// Packets that the device lost on reception.
    pub(super) errors: Counter,
    /// Completions that contradict our own state.
    pub(super) bad_completions: Counter,
    /// Receive buffers that could not be allocated when they were due.
    pub(super) nombuf: Counter,
    /// Packets that can never be sent.
    pub(super) rejected: Counter,
    /// Packets handed to the device that are complete or lost.
    pub(super) finished: Counter,
    /// How often completions of transmission were looked for.
    pub(super) looks: Counter,
    /// Receive: bursts that found the device without a single buffer.
    pub(super) ring_empty: Counter,
    /// Receive: buffers that were missing after the last refill.
    pub(super) deficit: Counter,
    /// Receive: most buffers that were missing before a refill.
    pub(super) deficit_max: Counter,
    /// Transmit: error completions by type.
    pub(super) by_type: [Counter; TX_ERRORS],
    /// Where they are asked for.
    pub(crate) histograms: Recorders,
}

/// What a queue counts beyond [`QueueStats`], at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) bursts: u64,
    pub(crate) empty: u64,
    pub(crate) full: u64,
    pub(crate) doorbells: u64,
    pub(crate) completions: u64,
    pub(crate) ring_empty: u64,
    /// Of the queue that runs; a stopped one misses nothing.
    pub(crate) deficit: u64,
    pub(crate) deficit_max: u64,
    pub(crate) by_type: [u64; TX_ERRORS],
}

impl Details {
    /// Goes on from what an earlier queue of this index counted.
    pub(crate) fn after(self, earlier: &Self) -> Self {
        Self {
            bursts: self.bursts + earlier.bursts,
            empty: self.empty + earlier.empty,
            full: self.full + earlier.full,
            doorbells: self.doorbells + earlier.doorbells,
            completions: self.completions + earlier.completions,
            ring_empty: self.ring_empty + earlier.ring_empty,
            deficit: self.deficit,
            deficit_max: self.deficit_max.max(earlier.deficit_max),
            by_type: std::array::from_fn(|at| self.by_type[at] + earlier.by_type[at]),
        }
    }
}

impl Counters {
    /// Packets of a transmit queue that are complete, and those in flight.
    pub(crate) fn progress(&self) -> (u64, u64) {
        // Finished first: what is handed over meanwhile only adds to the packets in flight.
        let finished = self.finished.get();
        (finished, self.all_packets().saturating_sub(finished))
    }

    /// Packets received, or handed to the device.
    fn all_packets(&self) -> u64 {
        self.packets.get() + self.singles.get()
    }

    /// How often the owner has looked for completions.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// Counts packets handed over, packets complete, and looks at completions.
    #[cfg(test)]
    pub(crate) fn count_tx(&self, packets: u64, finished: u64, looks: u64) {
        self.packets.add(packets);
        self.finished.add(finished);
        self.looks.add(looks);
    }

    /// What the queue counted until its last burst.
    pub(crate) fn snapshot(&self) -> QueueStats {
        QueueStats {
            packets: self.all_packets().saturating_sub(self.failed.get()),
            bytes: self.bytes.get().saturating_sub(self.failed_bytes.get()),
            errors: self.failed.get() + self.errors.get(),
            error_bytes: self.failed_bytes.get(),
            bad_completions: self.bad_completions.get(),
            nombuf: self.nombuf.get(),
            rejected: self.rejected.get(),
        }
    }

    /// The rest of it.
    pub(crate) fn details(&self) -> Details {
        let (singles, idle) = (self.singles.get(), self.idle.get());
        Details {
            bursts: self.bursts.get() + singles + idle,
            empty: self.empty.get() + idle,
            full: self.full.get(),
            doorbells: self.doorbells.get() + singles,
            completions: self.completions.get(),
            ring_empty: self.ring_empty.get(),
            deficit: self.deficit.get(),
            deficit_max: self.deficit_max.get(),
            by_type: std::array::from_fn(|at| self.by_type[at].get()),
        }
    }
}

/// A counter with one writer: a load and a store, never a read-modify-write.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Makes it `n`.
    #[inline]
    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Makes it `n`, unless it was more before.
    #[inline]
    pub(super) fn raise(&self, n: u64) {
        self.set(self.get().max(n));
    }

    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
