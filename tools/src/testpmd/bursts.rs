//! How large the bursts of a stream were, for `--record-burst-stats`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::app_args::MAX_BURST;
use super::stats::add;

/// Bursts by the number of their packets; empty ones count, too. Written by one core.
#[derive(Debug)]
pub struct BurstSizes(Box<[AtomicU64]>);

impl Default for BurstSizes {
    fn default() -> Self {
        BurstSizes((0..=MAX_BURST).map(|_| AtomicU64::new(0)).collect())
    }
}

impl BurstSizes {
    /// Counts a burst of so many packets.
    #[inline]
    pub fn record(&self, packets: usize) {
        if let Some(counter) = self.0.get(packets) {
            add(counter, 1);
        }
    }

    /// testpmd's line on them: how many there were, and the shares of empty bursts, of the two most
    /// frequent sizes, and of all others. Nothing if there was no burst. Shares are cut to whole
    /// percents and the last one is what is missing to 100; what is 0 % of bursts is named all the
    /// same.
    pub fn line(&self, direction: &str) -> String {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return String::new();
        }
        // Of equally frequent sizes the smaller one comes first.
        let mut sizes: Vec<usize> = (1..counts.len()).filter(|&size| counts[size] > 0).collect();
        sizes.sort_by_key(|&size| std::cmp::Reverse(counts[size]));
        let mut line = format!("  {direction}-bursts : {total} [");
        let (mut bursts, mut percents) = (0, 0);
        for size in std::iter::once(0).chain(sizes).take(3) {
            bursts += counts[size];
            if bursts == total {
                line.push_str(&format!("{}% of {size} pkts]\n", 100 - percents));
                return line;
            }
            let percent = (u128::from(counts[size]) * 100 / u128::from(total)) as u64;
            line.push_str(&format!("{percent}% of {size} pkts + "));
            percents += percent;
        }
        line.push_str(&format!("{}% of other]\n", 100 - percents));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bursts: &[(usize, u64)]) -> String {
        let sizes = BurstSizes::default();
        for (size, count) in bursts {
            (0..*count).for_each(|_| sizes.record(*size));
        }
        sizes.line("RX")
    }

    #[test]
    fn the_line_has_testpmds_shares() {
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[(0, 7)]), "  RX-bursts : 7 [100% of 0 pkts]\n");
        assert_eq!(
            line(&[(32, 5)]),
            "  RX-bursts : 5 [0% of 0 pkts + 100% of 32 pkts]\n"
        );
        assert_eq!(
            line(&[(0, 1), (32, 2)]),
            "  RX-bursts : 3 [33% of 0 pkts + 67% of 32 pkts]\n"
        );
        assert_eq!(
            line(&[(0, 10), (4, 30), (32, 60)]),
            "  RX-bursts : 100 [10% of 0 pkts + 60% of 32 pkts + 30% of 4 pkts]\n"
        );
        assert_eq!(
            line(&[(1, 10), (2, 10), (3, 1), (512, 29)]),
            "  RX-bursts : 50 [0% of 0 pkts + 58% of 512 pkts + 20% of 1 pkts + 22% of other]\n"
        );
    }
}
