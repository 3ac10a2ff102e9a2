//! Histograms by powers of two, as plain values.

use std::ops::AddAssign;

/// How often values of each magnitude were seen: 0, 1, 2 to 3, 4 to 7, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Histogram::BUCKETS],
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new([0; Self::BUCKETS], 0, 0)
    }
}

impl Histogram {
    /// Buckets of a histogram. The last takes everything from 2^38 on.
    pub const BUCKETS: usize = 40;

    /// Of what was counted in each bucket, with the sum of all values and the largest.
    #[must_use]
    pub fn new(counts: [u64; Self::BUCKETS], sum: u64, max: u64) -> Self {
        Self { counts, sum, max }
    }

    /// The bucket of a value.
    #[inline]
    #[must_use]
    pub const fn bucket(value: u64) -> usize {
        let magnitude = (u64::BITS - value.leading_zeros()) as usize;
        if magnitude < Self::BUCKETS {
            magnitude
        } else {
            Self::BUCKETS - 1
        }
    }

    /// The largest value of a bucket.
    #[must_use]
    pub const fn most(bucket: usize) -> u64 {
        if bucket + 1 < Self::BUCKETS {
            (1 << bucket) - 1
        } else {
            u64::MAX
        }
    }

    /// Values seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest of them; 0 where there was none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many were in each bucket, with the least and the largest value of it, up to the last bucket
    /// with one.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let used = self.counts.iter().rposition(|&count| count > 0);
        let counts = self.counts.iter().take(used.map_or(0, |last| last + 1));
        counts.enumerate().map(|(bucket, &count)| {
            let least = match bucket {
                0 => 0,
                _ => Self::most(bucket - 1) + 1,
            };
            (least, Self::most(bucket), count)
        })
    }

    /// A value that `percent` of those seen are not above, and at most twice the least such value: the
    /// largest of its bucket, or of all. 0 where none was seen.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let rank = (percent / 100.0 * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::most(bucket).min(self.max);
            }
        }
        self.max
    }
}

impl AddAssign<&Histogram> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut counts = [0; Histogram::BUCKETS];
        for &value in values {
            counts[Histogram::bucket(value)] += 1;
        }
        let max = values.iter().copied().max().unwrap_or(0);
        Histogram::new(counts, values.iter().sum(), max)
    }

    #[test]
    fn every_value_is_in_the_bucket_whose_bounds_hold_it() {
        for value in (0..70).chain([1023, 1024, 1 << 37, 1 << 38, 1 << 50, u64::MAX]) {
            let bucket = Histogram::bucket(value);
            assert!(value <= Histogram::most(bucket));
            assert!(
                bucket == 0 || value > Histogram::most(bucket - 1),
                "{value}"
            );
        }
        let seen: Vec<_> = of(&[0, 1, 5, 6]).buckets().collect();
        assert_eq!(seen, [(0, 0, 1), (1, 1, 1), (2, 3, 0), (4, 7, 2)]);
        assert_eq!(of(&[]).buckets().count(), 0);
    }

    #[test]
    fn percentiles_are_bounds_from_above_and_never_beyond_the_largest() {
        let values: Vec<u64> = (1..=100).collect();
        let all = of(&values);
        for (percent, exact) in [(0.0, 1), (1.0, 1), (50.0, 50), (99.0, 99), (100.0, 100)] {
            let told = all.percentile(percent);
            assert!(told >= exact && told < 2 * exact, "{percent} %: {told}");
        }
        assert_eq!(all.percentile(99.0), 100);
        assert_eq!(of(&[]).percentile(50.0), 0);
    }

    #[test]
    fn a_sum_of_two_is_that_of_all_their_values() {
        let mut sum = of(&[1, 2, 3]);
        sum += &of(&[40, 0]);
        assert_eq!(sum, of(&[1, 2, 3, 40, 0]));
        assert_eq!((sum.count(), sum.sum(), sum.max()), (5, 46, 40));
    }
}
