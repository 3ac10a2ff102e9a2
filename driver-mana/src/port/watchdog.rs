//! The watchdog of transmit queues: the control plane looks at what the bursts count anyway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::PortEvent;
use crate::queue::Counters;

/// What is known of every transmit queue.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    queues: Vec<Watched>,
}

/// A queue since its last progress.
#[derive(Debug)]
struct Watched {
    finished: u64,
    since: Instant,
    /// How often the owner had looked for completions when the time was over. Only one that looked
    /// later and found nothing has a stuck queue.
    looks: Option<u64>,
    told: bool,
}

impl Watched {
    fn new(finished: u64, now: Instant) -> Self {
        Self {
            finished,
            since: now,
            looks: None,
            told: false,
        }
    }
}

impl Watchdog {
    /// Forgets everything: the queues are others.
    pub(super) fn reset(&mut self) {
        self.queues.clear();
    }

    /// The queues whose oldest packet is in flight for `timeout` although their owners look for
    /// completions; each is told once, until it makes progress.
    pub(super) fn look(
        &mut self,
        counters: &[Arc<Counters>],
        timeout: Duration,
        now: Instant,
    ) -> Vec<PortEvent> {
        let mut stuck = Vec::new();
        for (index, counters) in counters.iter().enumerate() {
            let (finished, in_flight) = counters.progress();
            if index == self.queues.len() {
                self.queues.push(Watched::new(finished, now));
            }
            let queue = &mut self.queues[index];
            if in_flight == 0 || finished != queue.finished {
                *queue = Watched::new(finished, now);
                continue;
            }
            let age = now.duration_since(queue.since);
            if age < timeout {
                continue;
            }
            let looks = counters.looks();
            if *queue.looks.get_or_insert(looks) != looks && !queue.told {
                queue.told = true;
                stuck.push(PortEvent::TxStuck {
                    queue: index as u16,
                    in_flight,
                    age,
                });
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn a_queue_is_stuck_when_its_owner_looks_and_nothing_completes_for_the_whole_time() {
        let counters = [Arc::<Counters>::default()];
        let mut dog = Watchdog::default();
        let start = Instant::now();
        let mut look = |seconds| {
            let now = start + Duration::from_secs(seconds);
            dog.look(&counters, TIMEOUT, now)
        };
        assert_eq!(look(0), []);
        assert_eq!(look(100), [], "nothing in flight");
        counters[0].count_tx(3, 0, 0);
        assert_eq!(look(104), []);
        // The owner is silent: nobody can know.
        assert_eq!(look(106), []);
        assert_eq!(look(200), []);
        counters[0].count_tx(0, 0, 1);
        let told = look(201);
        let expected = PortEvent::TxStuck {
            queue: 0,
            in_flight: 3,
            age: Duration::from_secs(101),
        };
        assert_eq!(told, [expected]);
        counters[0].count_tx(0, 0, 1);
        assert_eq!(look(202), [], "told once");
        // Progress starts the time anew.
        counters[0].count_tx(0, 1, 1);
        assert_eq!(look(203), []);
        assert_eq!(look(207), []);
        assert_eq!(look(208), []);
        counters[0].count_tx(0, 0, 1);
        assert_eq!(look(209).len(), 1);
    }
}
