//! What `ping` saw.

use std::thread;
use std::time::{Duration, Instant};

use super::Namespace;

/// How long one ping may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long answers may come after the end of a ping.
const LATE: Duration = Duration::from_secs(20);

/// The sums that `ping` prints at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinged {
    /// Requests.
    pub sent: u64,
    /// Requests that were answered.
    pub received: u64,
    /// Further answers to the same requests.
    pub duplicates: u64,
    /// Answers that were not what was sent.
    pub errors: u64,
}

impl Pinged {
    /// Every one of `count` requests answered once.
    #[must_use]
    pub fn all(count: u64) -> Self {
        Self {
            sent: count,
            received: count,
            duplicates: 0,
            errors: 0,
        }
    }

    /// Runs `ping` with these arguments in a namespace where no other does. Losses are counted, not
    /// judged.
    ///
    /// ping leaves after twice the longest time that an answer took, so that on a busy machine the
    /// last ones may come when it is gone: the kernel has counted those.
    ///
    /// # Panics
    ///
    /// If ping prints no sums.
    #[must_use]
    #[track_caller]
    pub fn run(namespace: &Namespace, arguments: &str) -> Self {
        let before = answers(namespace);
        let mut pinged = Self::impatient(namespace, arguments);
        let patience = Instant::now() + LATE;
        while pinged.received < pinged.sent && Instant::now() < patience {
            thread::sleep(Duration::from_millis(50));
            pinged.received = answers(namespace) - before - pinged.duplicates;
        }
        pinged
    }

    /// Runs `ping` and takes its word for it, where others ping as well or losses are expected.
    ///
    /// # Panics
    ///
    /// If ping prints no sums.
    #[must_use]
    #[track_caller]
    pub fn impatient(namespace: &Namespace, arguments: &str) -> Self {
        let line = format!("ping -q {arguments}");
        let ended = namespace.start(&line, LIMIT).end();
        Self::parse(&ended.stdout).unwrap_or_else(|| panic!("no sums: {ended}"))
    }

    /// Pings `target`, options before it, until the first answer, after which the kernel knows its
    /// MAC.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn reach(namespace: &Namespace, target: &str) {
        let line = format!("-c 1 -w 50 {target}");
        let pinged = Self::impatient(namespace, &line);
        assert_eq!(pinged.received, 1, "{target} does not answer: {pinged:?}");
    }

    /// Reads `1000 packets transmitted, 999 received, +1 duplicates, +2 errors, 0.1% packet loss`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let line = text
            .lines()
            .find(|line| line.contains(" packets transmitted"))?;
        let number = |word: &str| {
            let part = line.split(", ").find(|part| part.contains(word))?;
            let digits = part.split_whitespace().next()?;
            digits.trim_start_matches('+').parse().ok()
        };
        Some(Self {
            sent: number("transmitted")?,
            received: number("received")?,
            duplicates: number("duplicates").unwrap_or(0),
            errors: number("errors").unwrap_or(0),
        })
    }
}

/// Echo replies that the kernel has taken in a namespace, for whomever.
fn answers(namespace: &Namespace) -> u64 {
    let counters = namespace.counters();
    counters.get("IcmpInEchoReps") + counters.get("Icmp6InEchoReplies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_from_the_line_of_ping() {
        let line = "5 packets transmitted, 3 received, +2 duplicates, +1 errors, 40% packet loss, time 4ms";
        let pinged = Pinged {
            sent: 5,
            received: 3,
            duplicates: 2,
            errors: 1,
        };
        assert_eq!(Pinged::parse(line), Some(pinged));
        let line = "7 packets transmitted, 7 received, 0% packet loss, time 12ms";
        assert_eq!(Pinged::parse(line), Some(Pinged::all(7)));
        assert_eq!(Pinged::parse("ping: unknown host"), None);
    }
}
