//! Histograms of one queue: written by its owner where that was asked for, readable from any thread.
//!
//! A burst looks at one flag, the short ways before they begin and all others at their end; all else is
//! out of line.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use pmd_api::Histogram;

use super::counters::Counter;

/// Of so many receive bursts one looks how many packets wait behind it.
pub(super) const LOOK_EVERY: u32 = 16;

/// What a queue counts by magnitude, while [`crate::Port::set_histograms`] says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueHistograms {
    /// Packets that each burst returned, or sent; bursts without one count, too.
    pub burst: Histogram,
    /// Packets in the ring. Receive: those that had arrived when a burst looked, its own and what it
    /// left, of every sixteenth burst. Transmit: those in flight after each burst that sent one.
    pub ring: Histogram,
    /// Transmit: nanoseconds from the end of the burst that sent a packet to the end of the call
    /// ([`crate::TxBurst::tx_burst`] or [`crate::TxBurst::reclaim`]) that found it complete: what the
    /// device took and the time until somebody looked. One packet at a time, the next after the last
    /// was found.
    pub completion_ns: Histogram,
}

impl QueueHistograms {
    /// Each with its name in statistics: those of a receive queue, or with `tx` of a transmit queue.
    pub fn named(&self, direction: &str) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let completion = (direction == "tx").then_some(("completion_ns", &self.completion_ns));
        let both = [("burst_packets", &self.burst), ("ring_packets", &self.ring)];
        both.into_iter().chain(completion)
    }

    /// Goes on from what an earlier queue counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.burst += &other.burst;
        self.ring += &other.ring;
        self.completion_ns += &other.completion_ns;
    }
}

/// The histograms as they are written.
#[derive(Debug, Default)]
pub(crate) struct Recorders {
    /// Counts how often they were turned on and off: odd is on.
    switched: AtomicU32,
    pub(super) burst: Recorder,
    pub(super) ring: Recorder,
    pub(super) completion_ns: Recorder,
}

impl Recorders {
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.switched() & 1 == 1
    }

    /// The same number as long as they are neither turned on nor off.
    #[inline]
    pub(super) fn switched(&self) -> u32 {
        self.switched.load(Relaxed)
    }

    /// From one of the owner's next bursts on. Only the control plane turns them.
    pub(crate) fn set(&self, on: bool) {
        if self.is_on() != on {
            self.switched
                .store(self.switched().wrapping_add(1), Relaxed);
        }
    }

    pub(crate) fn read(&self) -> QueueHistograms {
        QueueHistograms {
            burst: self.burst.read(),
            ring: self.ring.read(),
            completion_ns: self.completion_ns.read(),
        }
    }
}

/// A histogram with one writer.
#[derive(Debug)]
pub(super) struct Recorder {
    counts: [Counter; Histogram::BUCKETS],
    sum: Counter,
    max: Counter,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| Counter::default()),
            sum: Counter::default(),
            max: Counter::default(),
        }
    }
}

impl Recorder {
    pub(super) fn record(&self, value: u64) {
        self.counts[Histogram::bucket(value)].add(1);
        self.sum.add(value);
        self.max.raise(value);
    }

    fn read(&self) -> Histogram {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].get());
        Histogram::new(counts, self.sum.get(), self.max.get())
    }
}

/// A packet whose completion is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Position behind it, in packets, free-running.
    pub(super) end: u32,
    /// When it was handed to the device.
    pub(super) at: Instant,
    /// [`Recorders::switched`] then.
    pub(super) switched: u32,
}
