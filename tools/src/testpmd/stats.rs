//! Counters that forwarding threads write and the main core reads, and the rates between two looks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::bursts::BurstSizes;
use pmd_api::{Checksum, PortStats, RxWord};

/// What one stream has done. Written by its forwarding core only; on two cache lines of its own, so
/// that no core waits for another's counters.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct StreamCounters {
    rx_packets: AtomicU64,
    tx_packets: AtomicU64,
    tx_dropped: AtomicU64,
    bad_ip: AtomicU64,
    bad_l4: AtomicU64,
    bad_outer_ip: AtomicU64,
    busy_cycles: AtomicU64,
    /// Received and sent bursts by size, if that is recorded.
    bursts: Option<Box<(BurstSizes, BurstSizes)>>,
}

/// A copy of [`StreamCounters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets handed to the TX queue.
    pub tx_packets: u64,
    /// Packets that the TX queue did not take, or never could.
    pub tx_dropped: u64,
    /// Received packets whose checksums the device found wrong (csum mode counts them).
    pub bad: BadChecksums,
    /// Counts of the cycle counter over passes that moved packets, if that is recorded.
    pub busy_cycles: u64,
}

/// Packets by the checksum that the device found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BadChecksums {
    /// IPv4 header.
    pub ip: u64,
    /// TCP or UDP.
    pub l4: u64,
    /// Outer IPv4 header, of an encapsulated packet.
    pub outer_ip: u64,
}

impl BadChecksums {
    /// Counts what the device says of one packet.
    #[inline]
    pub fn count(&mut self, word: RxWord) {
        let bad = |verdict| u64::from(verdict == Checksum::Bad);
        self.ip += bad(word.ip_checksum());
        self.l4 += bad(word.l4_checksum());
        self.outer_ip += bad(word.outer_ip_checksum());
    }
}

impl std::ops::AddAssign for BadChecksums {
    fn add_assign(&mut self, other: BadChecksums) {
        self.ip += other.ip;
        self.l4 += other.l4;
        self.outer_ip += other.outer_ip;
    }
}

impl StreamCounters {
    /// Counters at 0. `record_bursts` keeps the sizes of bursts, too.
    pub fn new(record_bursts: bool) -> Self {
        StreamCounters {
            bursts: record_bursts.then(Box::default),
            ..StreamCounters::default()
        }
    }

    /// Records the size of a received burst, if that was asked for.
    #[inline]
    pub fn record_rx(&self, packets: usize) {
        if let Some(bursts) = &self.bursts {
            bursts.0.record(packets);
        }
    }

    /// Records the size of a sent burst, if that was asked for.
    #[inline]
    pub fn record_tx(&self, packets: usize) {
        if let Some(bursts) = &self.bursts {
            bursts.1.record(packets);
        }
    }

    /// testpmd's lines on received and sent bursts; empty if they were not recorded.
    pub fn burst_lines(&self) -> (String, String) {
        let bursts = self.bursts.as_ref();
        bursts.map_or_else(Default::default, |bursts| {
            (bursts.0.line("RX"), bursts.1.line("TX"))
        })
    }

    /// Counts cycles of a pass that moved packets.
    pub fn busy(&self, cycles: u64) {
        add(&self.busy_cycles, cycles as usize);
    }

    /// Counts received packets.
    pub fn received(&self, packets: usize) {
        add(&self.rx_packets, packets);
    }

    /// Counts packets handed over.
    pub fn sent(&self, packets: usize) {
        add(&self.tx_packets, packets);
    }

    /// Counts packets dropped.
    pub fn dropped(&self, packets: usize) {
        add(&self.tx_dropped, packets);
    }

    /// Counts packets with wrong checksums.
    pub fn found_bad(&self, bad: BadChecksums) {
        add(&self.bad_ip, bad.ip as usize);
        add(&self.bad_l4, bad.l4 as usize);
        add(&self.bad_outer_ip, bad.outer_ip as usize);
    }

    /// The numbers at this moment.
    pub fn snapshot(&self) -> StreamStats {
        StreamStats {
            rx_packets: self.rx_packets.load(Relaxed),
            tx_packets: self.tx_packets.load(Relaxed),
            tx_dropped: self.tx_dropped.load(Relaxed),
            bad: BadChecksums {
                ip: self.bad_ip.load(Relaxed),
                l4: self.bad_l4.load(Relaxed),
                outer_ip: self.bad_outer_ip.load(Relaxed),
            },
            busy_cycles: self.busy_cycles.load(Relaxed),
        }
    }
}

/// One writer: a load and a store, no locked instruction.
pub fn add(counter: &AtomicU64, packets: usize) {
    counter.store(counter.load(Relaxed) + packets as u64, Relaxed);
}

impl std::ops::AddAssign for StreamStats {
    fn add_assign(&mut self, other: StreamStats) {
        self.rx_packets += other.rx_packets;
        self.tx_packets += other.tx_packets;
        self.tx_dropped += other.tx_dropped;
        self.bad += other.bad;
        self.busy_cycles += other.busy_cycles;
    }
}

/// What was counted between two looks.
impl std::ops::Sub for StreamStats {
    type Output = StreamStats;

    fn sub(self, earlier: StreamStats) -> StreamStats {
        StreamStats {
            rx_packets: self.rx_packets - earlier.rx_packets,
            tx_packets: self.tx_packets - earlier.tx_packets,
            tx_dropped: self.tx_dropped - earlier.tx_dropped,
            bad: BadChecksums {
                ip: self.bad.ip - earlier.bad.ip,
                l4: self.bad.l4 - earlier.bad.l4,
                outer_ip: self.bad.outer_ip - earlier.bad.outer_ip,
            },
            busy_cycles: self.busy_cycles - earlier.busy_cycles,
        }
    }
}

/// Packets and bits a second since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Received packets a second.
    pub rx_pps: u64,
    /// Received bits a second.
    pub rx_bps: u64,
    /// Sent packets a second.
    pub tx_pps: u64,
    /// Sent bits a second.
    pub tx_bps: u64,
}

/// Remembers a port's last statistics. The first look shows no rate, as testpmd's does.
#[derive(Debug, Default)]
pub struct RateMeter {
    last: Option<(Instant, PortStats)>,
}

impl RateMeter {
    /// The rates between the last look and this one.
    pub fn look(&mut self, now: Instant, stats: &PortStats) -> Rates {
        let last = self.last.replace((now, *stats));
        let Some((then, before)) = last else {
            return Rates::default();
        };
        let nanoseconds = now.saturating_duration_since(then).as_nanos();
        let rate = |now: u64, before: u64| {
            let moved = u128::from(now.saturating_sub(before));
            (moved * 1_000_000_000)
                .checked_div(nanoseconds)
                .unwrap_or(0) as u64
        };
        Rates {
            rx_pps: rate(stats.rx_packets, before.rx_packets),
            rx_bps: rate(stats.rx_bytes, before.rx_bytes) * 8,
            tx_pps: rate(stats.tx_packets, before.tx_packets),
            tx_bps: rate(stats.tx_bytes, before.tx_bytes) * 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_differences_over_time_and_the_first_look_shows_none() {
        let mut meter = RateMeter::default();
        let start = Instant::now();
        let mut stats = PortStats {
            tx_packets: 3392,
            tx_bytes: 217_088,
            ..PortStats::default()
        };
        assert_eq!(meter.look(start, &stats), Rates::default());
        stats.tx_packets += 5_000;
        stats.tx_bytes += 320_000;
        stats.rx_packets += 10;
        stats.rx_bytes += 600;
        let rates = meter.look(start + Duration::from_secs(5), &stats);
        let expected = Rates {
            rx_pps: 2,
            rx_bps: 960,
            tx_pps: 1_000,
            tx_bps: 512_000,
        };
        assert_eq!(rates, expected);
    }

    #[test]
    fn two_looks_at_one_moment_do_not_divide_by_zero() {
        let mut meter = RateMeter::default();
        let now = Instant::now();
        meter.look(now, &PortStats::default());
        assert_eq!(meter.look(now, &PortStats::default()), Rates::default());
    }

    #[test]
    fn what_the_device_found_wrong_is_counted_by_checksum() {
        // Right, IPv4 header wrong, TCP wrong, UDP wrong, outer header wrong.
        let words = [0x2A00_2000, 0x0400_0000, 0x1000_0000, 0x4000_0000, 0x4000];
        let mut bad = BadChecksums::default();
        for word in words {
            bad.count(RxWord::from_bits(word));
        }
        let expected = BadChecksums {
            ip: 1,
            l4: 2,
            outer_ip: 1,
        };
        assert_eq!(bad, expected);
        let counters = StreamCounters::default();
        counters.found_bad(bad);
        assert_eq!(counters.snapshot().bad, expected);
    }

    #[test]
    fn a_streams_counters_add_up() {
        let counters = StreamCounters::default();
        counters.received(32);
        counters.sent(30);
        counters.dropped(2);
        counters.received(1);
        let mut total = counters.snapshot();
        total += counters.snapshot();
        let expected = StreamStats {
            rx_packets: 66,
            tx_packets: 60,
            tx_dropped: 4,
            ..StreamStats::default()
        };
        assert_eq!(total, expected);
    }
}
