//! Statistics of a port over all its starts.

use std::ops::Add;
use std::sync::Arc;

use pmd_api::{PortStats, QueueStats};

use crate::queue::{Counters, Details, QueueHistograms};

/// What the queues of one direction counted since the port was opened.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Of queues that are gone, by index.
    ended: Vec<(QueueStats, Details)>,
    /// Of queues that run, by index.
    running: Vec<Arc<Counters>>,
    /// Histograms of queues that are gone, by index, once they were asked for.
    shapes: Vec<QueueHistograms>,
    /// Whether histograms are asked for now, and whether they ever were.
    shaping: bool,
    shaped: bool,
}

impl Totals {
    /// Goes on with the counters of the queues that were just started.
    pub(crate) fn begin(&mut self, running: Vec<Arc<Counters>>) {
        self.end();
        self.running = running;
        self.set_histograms(self.shaping);
    }

    /// Counters of the queues that run, by index.
    pub(crate) fn running(&self) -> &[Arc<Counters>] {
        &self.running
    }

    /// Keeps what was counted; the queues are gone.
    pub(crate) fn end(&mut self) {
        if self.shaped {
            self.shapes.resize(self.queues(), Default::default());
            for (shape, counters) in self.shapes.iter_mut().zip(&self.running) {
                shape.add(&counters.histograms.read());
            }
        }
        self.ended.resize(self.queues(), Default::default());
        for ((stats, details), counters) in self.ended.iter_mut().zip(self.running.drain(..)) {
            *stats += counters.snapshot();
            *details = counters.details().after(details);
            // Of a queue that is gone nothing is missing.
            details.deficit = 0;
        }
    }

    /// How many indices ever had a queue.
    pub(crate) fn queues(&self) -> usize {
        self.ended.len().max(self.running.len())
    }

    /// What the queue of this index counted; zeros if there never was one.
    pub(crate) fn queue(&self, index: usize) -> QueueStats {
        let mut stats = self.ended.get(index).copied().unwrap_or_default().0;
        if let Some(counters) = self.running.get(index) {
            stats += counters.snapshot();
        }
        stats
    }

    /// The rest of what the queue of this index counted.
    pub(crate) fn details(&self, index: usize) -> Details {
        let ended = self.ended.get(index).copied().unwrap_or_default().1;
        match self.running.get(index) {
            Some(counters) => counters.details().after(&ended),
            None => ended,
        }
    }

    /// Lets queues count in histograms, or not.
    pub(crate) fn set_histograms(&mut self, on: bool) {
        self.shaping = on;
        self.shaped |= on;
        for counters in &self.running {
            counters.histograms.set(on);
        }
    }

    /// Whether histograms were ever asked for.
    pub(crate) fn has_histograms(&self) -> bool {
        self.shaped
    }

    /// Histograms of the queue of this index.
    pub(crate) fn histograms(&self, index: usize) -> QueueHistograms {
        let mut all = self.shapes.get(index).cloned().unwrap_or_default();
        if let Some(counters) = self.running.get(index) {
            all.add(&counters.histograms.read());
        }
        all
    }

    pub(crate) fn sum(&self) -> QueueStats {
        (0..self.queues())
            .map(|index| self.queue(index))
            .fold(QueueStats::default(), Add::add)
    }
}

/// The sums over all queues, and what the kernel told of `missed` packets.
pub(crate) fn port_stats(rx: &Totals, tx: &Totals, missed: u64) -> PortStats {
    let (rx, tx) = (rx.sum(), tx.sum());
    PortStats {
        rx_packets: rx.packets,
        tx_packets: tx.packets,
        rx_bytes: rx.bytes,
        tx_bytes: tx.bytes,
        rx_errors: rx.errors,
        tx_errors: tx.errors + tx.rejected,
        rx_missed: missed,
        rx_nombuf: rx.nombuf,
    }
}
