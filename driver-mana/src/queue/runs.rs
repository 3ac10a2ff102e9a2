//! The run ring: what one doorbell handed over and one completion will stand for.

/// The packets between two doorbells: cursors behind the last one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// In packets, free-running: position in the shadow ring.
    pub(super) packets_end: u32,
    /// In units, free-running: position in the send ring.
    pub(super) units_end: u32,
}

impl Run {
    /// The cursors `count` packets of one unit each behind these.
    #[inline]
    fn after(self, count: u32) -> Self {
        self.before(count.wrapping_neg())
    }

    /// The cursors `count` packets of one unit each before these.
    #[inline]
    fn before(self, count: u32) -> Self {
        Self {
            packets_end: self.packets_end.wrapping_sub(count),
            units_end: self.units_end.wrapping_sub(count),
        }
    }
}

/// Runs in flight, oldest first.
///
/// Runs of one packet of one unit in a row are counted, and stand in the ring as one entry once
/// another run comes behind them.
#[derive(Debug)]
pub(super) struct RunRing {
    /// As many fit as packets may be in flight: each entry has one.
    entries: Box<[Entry]>,
    head: u32,
    tail: u32,
    /// Runs in the ring.
    queued: u32,
    /// The end of the last one that is or was in the ring, and of those of the ones behind it that were
    /// removed.
    end: Run,
    /// Runs of one packet of one unit behind it.
    ones: u32,
}

/// The end of a run, or of `count` runs of one packet of one unit each.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    end: Run,
    count: u32,
}

impl RunRing {
    /// `depth` is a power of two.
    pub(super) fn new(depth: u32) -> Self {
        debug_assert!(depth.is_power_of_two());
        Self {
            entries: vec![Entry::default(); depth as usize].into(),
            head: 0,
            tail: 0,
            queued: 0,
            end: Run::default(),
            ones: 0,
        }
    }

    /// Appends a run of one packet of one unit.
    #[inline]
    pub(super) fn push_one(&mut self) {
        self.ones = self.ones.wrapping_add(1);
    }

    /// Appends a run. The caller bounds the number of packets in flight, and each run has one.
    #[inline]
    pub(super) fn push(&mut self, run: Run) {
        if self.ones != 0 {
            self.queue_ones();
        }
        self.queue(run, 1);
    }

    #[inline(never)]
    fn queue_ones(&mut self) {
        let ones = std::mem::take(&mut self.ones);
        self.queue(self.end.after(ones), ones);
    }

    #[inline]
    fn queue(&mut self, end: Run, count: u32) {
        let mask = self.entries.len() - 1;
        if let Some(entry) = self.entries.get_mut(self.head as usize & mask) {
            *entry = Entry { end, count };
        }
        self.head = self.head.wrapping_add(1);
        self.queued = self.queued.wrapping_add(count);
        self.end = end;
    }

    /// The oldest run.
    pub(super) fn first(&self) -> Option<Run> {
        let mask = self.entries.len() - 1;
        if self.head != self.tail {
            let Entry { end, count } = self.entries[self.tail as usize & mask];
            return Some(end.before(count - 1));
        }
        (self.ones != 0).then(|| self.end.after(1))
    }

    /// Number of runs.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.queued.wrapping_add(self.ones)
    }

    /// Removes the `count` oldest runs, which are there, and returns the last of them.
    #[inline]
    pub(super) fn pop(&mut self, count: u32) -> Option<Run> {
        debug_assert!(count <= self.len());
        let mask = self.entries.len() - 1;
        let (mut left, mut last) = (count, None);
        while left != 0 && self.head != self.tail {
            let entry = &mut self.entries[self.tail as usize & mask];
            let now = left.min(entry.count);
            entry.count -= now;
            last = Some(entry.end.before(entry.count));
            if entry.count == 0 {
                self.tail = self.tail.wrapping_add(1);
            }
            self.queued = self.queued.wrapping_sub(now);
            left -= now;
        }
        let now = left.min(self.ones);
        if now != 0 {
            self.ones -= now;
            self.end = self.end.after(now);
            last = Some(self.end);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a queue of cursors would have it.
        #[test]
        fn runs_come_out_in_order(
            depth in 0_u32..5,
            start in prop_oneof![Just(0), Just(u32::MAX - 9)],
            turns in prop::collection::vec((0_u32..6, 1_u32..9, 0_u32..9), 1..200),
        ) {
            let mut ring = RunRing::new(1 << depth);
            let mut expected = VecDeque::new();
            let (mut packets, mut units) = (start, start.wrapping_mul(3));
            ring.end = Run { packets_end: packets, units_end: units };
            for (pushed, size, popped) in turns {
                for number in 0..pushed.min((1 << depth) - expected.len() as u32) {
                    // One by one as often as in larger runs.
                    if number % 2 == 0 {
                        (packets, units) = (packets.wrapping_add(1), units.wrapping_add(1));
                        ring.push_one();
                    } else {
                        packets = packets.wrapping_add(size);
                        units = units.wrapping_add(size + number);
                        ring.push(Run { packets_end: packets, units_end: units });
                    }
                    expected.push_back((packets, units));
                }
                let ends = |run: Run| (run.packets_end, run.units_end);
                prop_assert_eq!(ring.len() as usize, expected.len());
                prop_assert_eq!(ring.first().map(ends), expected.front().copied());
                let count = popped.min(expected.len() as u32);
                let last = expected.drain(..count as usize).next_back();
                prop_assert_eq!(ring.pop(count).map(ends), last);
            }
        }
    }
}
