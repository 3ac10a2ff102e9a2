//! Rates: how many frames a link may deliver by now.

use std::time::Duration;

/// Time that a link may fall behind and still make up for: longer pauses of the machine would
/// otherwise end in a flood that no ring holds.
const BACKLOG: Duration = Duration::from_millis(10);
/// One frame in the unit of [`Pace::due`].
const FRAME: u128 = 1_000_000_000;

/// A rate in frames a second, or none.
pub(super) struct Pace {
    pps: Option<u64>,
    /// Time of the last tick.
    last: Duration,
    /// Frames that are due, in units of a thousand millionth.
    due: u128,
}

impl Pace {
    pub(super) fn new(pps: Option<u64>) -> Self {
        Self {
            pps,
            last: Duration::ZERO,
            due: 0,
        }
    }

    #[inline]
    pub(super) fn is_unlimited(&self) -> bool {
        self.pps.is_none()
    }

    /// Lets time pass until `now`, which never goes backwards.
    pub(super) fn tick(&mut self, now: Duration) {
        let Some(pps) = self.pps.map(u128::from) else {
            return;
        };
        let elapsed = now.saturating_sub(self.last);
        self.last = now;
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

    fn taken(pace: &mut Pace) -> usize {
        std::iter::repeat_with(|| pace.take())
            .take_while(|due| *due)
            .count()
    }

    #[test]
    fn a_rate_is_kept_over_a_second_of_small_steps() {
        for pps in [1, 999, 12_345, 5_000_000] {
            let mut pace = Pace::new(Some(pps));
            let mut frames = 0;
            for step in 1..=7000 {
                pace.tick(Duration::from_secs(1) * step / 7000);
                frames += taken(&mut pace);
            }
            assert_eq!(frames, pps as usize);
        }
    }

    #[test]
    fn a_long_pause_is_made_up_for_by_ten_milliseconds_or_one_frame() {
        for (pps, frames) in [(1000, 10), (1, 1)] {
            let mut pace = Pace::new(Some(pps));
            pace.tick(Duration::from_secs(5));
            pace.tick(Duration::from_secs(100));
            assert_eq!(taken(&mut pace), frames);
        }
    }
}
