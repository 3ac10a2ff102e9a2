//! Statistics of a port over all its starts.

use std::ops::Add;
use std::sync::Arc;

use pmd_api::{PortStats, QueueStats};

use crate::queue::Counters;

/// What the queues of one direction counted since the port was opened.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Of queues that are gone, by index.
    ended: Vec<QueueStats>,
    /// Of queues that run, by index.
    running: Vec<Arc<Counters>>,
}

impl Totals {
    /// Goes on with the counters of the queues that were just started.
    pub(crate) fn begin(&mut self, running: Vec<Arc<Counters>>) {
        self.end();
        self.running = running;
    }

    /// Counters of the queues that run, by index.
    pub(crate) fn running(&self) -> &[Arc<Counters>] {
        &self.running
    }

    /// Keeps what was counted; the queues are gone.
    pub(crate) fn end(&mut self) {
        let queues = self.ended.len().max(self.running.len());
        self.ended.resize(queues, QueueStats::default());
        for (ended, counters) in self.ended.iter_mut().zip(self.running.drain(..)) {
            *ended += counters.snapshot();
        }
    }

    /// What the queue of this index counted; zeros if there never was one.
    pub(crate) fn queue(&self, index: usize) -> QueueStats {
        let mut stats = self.ended.get(index).copied().unwrap_or_default();
        if let Some(counters) = self.running.get(index) {
            stats += counters.snapshot();
        }
        stats
    }

    fn sum(&self) -> QueueStats {
        let queues = self.ended.len().max(self.running.len());
        (0..queues)
            .map(|index| self.queue(index))
            .fold(QueueStats::default(), Add::add)
    }
}

/// The sums over all queues. `rx_missed` stays 0: mana_ib offers no such counter.
pub(crate) fn port_stats(rx: &Totals, tx: &Totals) -> PortStats {
    let (rx, tx) = (rx.sum(), tx.sum());
    PortStats {
        rx_packets: rx.packets,
        tx_packets: tx.packets,
        rx_bytes: rx.bytes,
        tx_bytes: tx.bytes,
        rx_errors: rx.errors,
        tx_errors: tx.errors + tx.rejected,
        rx_missed: 0,
        rx_nombuf: rx.nombuf,
    }
}
