//! Rates: how many frames a link may deliver by now.

use std::time::{Duration, Instant};

/// Time that a link may fall behind and still make up for.
const BACKLOG: Duration = Duration::from_millis(10);

/// A rate in frames a second, or none.
pub(super) struct Pace {
    pps: Option<u64>,
    last: Instant,
    /// Frames that are due, in units of 1/1,000,000,000.
    due: u128,
}

/// One frame in the unit of `due`.
const FRAME: u128 = 1_000_000_000;

impl Pace {
    pub(super) fn new(pps: Option<u64>) -> Self {
        Self { pps, last: Instant::now(), due: 0 }
    }

    /// Whether there is no rate.
    pub(super) fn is_free(&self) -> bool {
        self.pps.is_none()
    }

    /// Lets time pass until now.
    pub(super) fn tick(&mut self) {
        if self.pps.is_some() {
            self.tick_at(Instant::now());
        }
    }

    fn tick_at(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.last).min(BACKLOG);
        self.last = now;
        let pps = u128::from(self.pps.unwrap_or(0));
        let most = (pps * BACKLOG.as_nanos()).max(FRAME);
        self.due = (self.due + pps * elapsed.as_nanos()).min(most);
    }

    /// Takes one frame if one is due.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        if self.pps.is_none() {
            return true;
        }
        let due = self.due >= FRAME;
        if due {
            self.due -= FRAME;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_a_second_of_small_steps() {
        let mut pace = Pace::new(Some(12_345));
        let start = pace.last;
        let mut frames = 0;
        for millisecond in 1..=1000 {
            pace.tick_at(start + Duration::from_millis(millisecond));
            while pace.take() {
                frames += 1;
            }
        }
        assert!((12_344..=12_345).contains(&frames), "{frames}");
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(Some(1000));
        pace.tick_at(pace.last + Duration::from_secs(100));
        assert_eq!((0..1000).filter(|_| pace.take()).count(), 10);
    }
}
