//! Statistics of one queue: written by its owner once a burst, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pmd_api::QueueStats;

/// One cache line a queue, so that two queues never share one.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    /// Packets received, or handed to the device.
    pub(super) packets: Counter,
    /// Their bytes, without FCS.
    pub(super) bytes: Counter,
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
}

impl Counters {
    /// Packets of a transmit queue that are complete, and those in flight.
    pub(crate) fn progress(&self) -> (u64, u64) {
        // Finished first: what is handed over meanwhile only adds to the packets in flight.
        let finished = self.finished.get();
        (finished, self.packets.get().saturating_sub(finished))
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
            packets: self.packets.get().saturating_sub(self.failed.get()),
            bytes: self.bytes.get().saturating_sub(self.failed_bytes.get()),
            errors: self.failed.get() + self.errors.get(),
            error_bytes: self.failed_bytes.get(),
            bad_completions: self.bad_completions.get(),
            nombuf: self.nombuf.get(),
            rejected: self.rejected.get(),
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

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
