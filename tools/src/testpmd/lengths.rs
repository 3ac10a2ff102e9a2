//! How long generated packets are, and in how many segments: what `--txpkts` and `--txsplit` say.

use std::fmt;
use std::str::FromStr;

use super::app_args::MIN_TX_PACKET;

/// Whether a packet has all segments of its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// All of them. (In testpmd `off` and `on` differ in csum mode alone, which does not split here.)
    #[default]
    All,
    /// The first one, or more, as chance has it.
    Rand,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::All => "off",
            Split::Rand => "rand",
        })
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" | "on" => Ok(Split::All),
            "rand" => Ok(Split::Rand),
            _ => Err("expected off, on or rand".to_owned()),
        }
    }
}

/// Lengths of packets and their segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths {
    /// Of the segments in bytes; together at least the headers.
    pub segments: Vec<u32>,
    /// The shortest packet, where lengths vary between it and that of the only segment.
    pub least: Option<u32>,
    /// How many of the segments a packet has.
    pub split: Split,
}

impl Default for Lengths {
    /// testpmd's.
    fn default() -> Self {
        Lengths {
            segments: vec![64],
            least: None,
            split: Split::All,
        }
    }
}

impl Lengths {
    /// Takes the value of `--txpkts`: LEN[,LEN…], segments, or LEAST-MOST, packets of one segment.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn take(&mut self, text: &str) -> Result<(), String> {
        let length = |text: &str| text.trim().parse().ok().filter(|length| *length > 0);
        let (least, segments) = match text.split_once('-') {
            Some((least, most)) => {
                let both = length(least).zip(length(most));
                let ordered = both.filter(|(least, most)| least <= most);
                let (least, most) = ordered.ok_or("expected LEAST-MOST with lengths in bytes")?;
                (Some(least), vec![most])
            }
            None => {
                let lengths: Option<Vec<u32>> = text.split(',').map(length).collect();
                let expected = "expected LEN[,LEN…] or LEAST-MOST with lengths in bytes";
                (None, lengths.ok_or(expected)?)
            }
        };
        let most: u64 = segments.iter().copied().map(u64::from).sum();
        for total in [least.map_or(most, u64::from), most] {
            if !(u64::from(MIN_TX_PACKET)..=u64::from(u16::MAX)).contains(&total) {
                return Err(format!(
                    "a packet of {total} bytes: expected {MIN_TX_PACKET} (its Ethernet, IPv4 and \
                     UDP headers) to {}",
                    u16::MAX
                ));
            }
        }
        (self.least, self.segments) = (least, segments);
        Ok(())
    }

    /// What is wrong with lengths and split together.
    ///
    /// # Errors
    ///
    /// A random split whose shortest packet has no room for its headers, or that has nothing to
    /// split.
    pub fn check(&self) -> Result<(), String> {
        if self.split == Split::All {
            return Ok(());
        }
        if self.least.is_some() {
            return Err(
                "--txsplit=rand chooses among segments, and a range in --txpkts has one: leave \
                 one of them out"
                    .to_owned(),
            );
        }
        let first = self.segments.first().copied().unwrap_or(0);
        if first < MIN_TX_PACKET {
            return Err(format!(
                "--txsplit=rand sends packets of the first segment alone, and {first} bytes hold \
                 no Ethernet, IPv4 and UDP header: give it {MIN_TX_PACKET} in --txpkts"
            ));
        }
        Ok(())
    }

    /// Whether packets differ in their length.
    pub fn vary(&self) -> bool {
        self.least.is_some() || self.split == Split::Rand
    }

    /// As the start-up lines tell the length of a packet.
    pub fn describe(&self) -> String {
        let most: u32 = self.segments.iter().sum();
        match self.least {
            Some(least) => format!("{least}-{most}"),
            None => most.to_string(),
        }
    }

    /// Length of the next packet of one segment.
    #[inline]
    pub fn next_length(&self, random: &mut Random) -> u32 {
        let most = self.segments[0];
        match self.least {
            Some(least) => least + random.below(most - least + 1),
            None => most,
        }
    }

    /// Number of segments of the next packet.
    #[inline]
    pub fn next_segments(&self, random: &mut Random) -> usize {
        let all = self.segments.len();
        match self.split {
            Split::Rand => 1 + random.below(all as u32) as usize,
            Split::All => all,
        }
    }
}

/// A small generator (Marsaglia's xorshift64): the same numbers in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(0x9E37_79B9_7F4A_7C15)
    }
}

impl Random {
    /// A number below `bound`, without division.
    #[inline]
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Lengths, String> {
        let mut lengths = Lengths::default();
        lengths.take(text).map(|()| lengths)
    }

    #[test]
    fn lists_and_ranges_are_told_apart() {
        let list = take("64,128").unwrap();
        assert_eq!(
            (list.segments.as_slice(), list.least),
            (&[64, 128][..], None)
        );
        assert_eq!((list.describe().as_str(), list.vary()), ("192", false));
        let range = take("64-1500").unwrap();
        assert_eq!(
            (range.segments.as_slice(), range.least),
            (&[1500][..], Some(64))
        );
        assert_eq!((range.describe().as_str(), range.vary()), ("64-1500", true));
        assert!(take("64-64").is_ok());
        for text in [
            "", "64,", "0", "41", "41-64", "64-63", "64-", "-64", "64-65536", "64-128,9",
        ] {
            assert!(take(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_random_split_needs_headers_in_the_first_segment_and_no_range() {
        let check = |text: &str| {
            let mut lengths = take(text).unwrap();
            lengths.split = "rand".parse().unwrap();
            lengths.check()
        };
        assert_eq!(check("42,1"), Ok(()));
        assert!(check("41,1").unwrap_err().contains("give it 42"));
        assert!(check("64-128").unwrap_err().contains("range"));
        assert_eq!("off".parse(), Ok(Split::All));
        assert!("random".parse::<Split>().is_err());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::default();
        for bound in [1, 2, 3, 10, 1437] {
            let mut seen = vec![false; bound as usize];
            (0..20 * bound).for_each(|_| seen[random.below(bound) as usize] = true);
            assert!(seen.iter().all(|seen| *seen), "{bound}");
        }
        let largest = (0..1000).map(|_| random.below(u32::MAX)).max();
        assert!(largest > Some(u32::MAX / 100 * 99));
    }
}
