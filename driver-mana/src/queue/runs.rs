//! The run ring: what one doorbell handed over and one completion will stand for.

/// The packets between two doorbells: cursors behind the last one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// In packets, free-running: position in the shadow ring.
    pub(super) packets_end: u32,
    /// In units, free-running: position in the send ring.
    pub(super) units_end: u32,
}

/// Runs in flight, oldest first. As many fit as packets may be in flight.
#[derive(Debug)]
pub(super) struct RunRing {
    runs: Box<[Run]>,
    head: u32,
    tail: u32,
}

impl RunRing {
    /// `depth` is a power of two.
    pub(super) fn new(depth: u32) -> Self {
        debug_assert!(depth.is_power_of_two());
        Self {
            runs: vec![Run::default(); depth as usize].into(),
            head: 0,
            tail: 0,
        }
    }

    /// Appends a run. The caller bounds the number of packets in flight, and each run has one.
    #[inline]
    pub(super) fn push(&mut self, run: Run) {
        let mask = self.runs.len() - 1;
        if let Some(slot) = self.runs.get_mut(self.head as usize & mask) {
            *slot = run;
        }
        self.head = self.head.wrapping_add(1);
    }

    /// The oldest run.
    #[inline]
    pub(super) fn first(&self) -> Option<Run> {
        let mask = self.runs.len() - 1;
        (self.head != self.tail).then(|| self.runs[self.tail as usize & mask])
    }

    /// Number of runs.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// Removes the `count` oldest runs, which are there, and returns the last of them.
    #[inline]
    pub(super) fn pop(&mut self, count: u32) -> Option<Run> {
        debug_assert!(count <= self.len());
        self.tail = self.tail.wrapping_add(count);
        let mask = self.runs.len() - 1;
        let last = self.tail.wrapping_sub(1) as usize & mask;
        self.runs.get(last).copied().filter(|_| count != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_out_in_order() {
        let mut ring = RunRing::new(4);
        let ends = |ring: &RunRing| ring.first().map(|run| run.packets_end);
        assert_eq!(ends(&ring), None);
        for end in 0..100 {
            ring.push(Run {
                packets_end: 2 * end,
                units_end: 0,
            });
            ring.push(Run {
                packets_end: 2 * end + 1,
                units_end: 0,
            });
            assert_eq!((ring.len(), ends(&ring)), (2, Some(2 * end)));
            assert!(ring.pop(0).is_none());
            // One by one, or both at once.
            let last = match end % 2 {
                0 => ring.pop(1).and_then(|_| ring.pop(1)),
                _ => ring.pop(2),
            };
            assert_eq!(last.map(|run| run.packets_end), Some(2 * end + 1));
        }
        assert_eq!(ends(&ring), None);
    }
}
