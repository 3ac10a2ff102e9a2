//! What `ping` saw.

use super::Namespace;
use std::time::Duration;

/// How long one ping may take.
const LIMIT: Duration = Duration::from_secs(60);

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

    /// Runs `ping` with these arguments in a namespace. Losses are counted, not judged.
    ///
    /// # Panics
    ///
    /// If ping prints no sums.
    #[must_use]
    #[track_caller]
    pub fn run(namespace: &Namespace, arguments: &str) -> Self {
        let ended = namespace
            .start(&format!("ping -q {arguments}"), LIMIT)
            .end();
        Self::parse(&ended.stdout).unwrap_or_else(|| panic!("no sums: {ended}"))
    }

    /// Reads `1000 packets transmitted, 999 received, +1 duplicates, +2 errors, 0.1% packet loss`.
    fn parse(text: &str) -> Option<Self> {
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
