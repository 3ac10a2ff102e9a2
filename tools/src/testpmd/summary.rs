//! testpmd's final tables, character by character: streams, ports, all ports together, and what
//! `--record-burst-stats` and `--record-core-cycles` recorded.

use std::fmt::Write;
use std::sync::Arc;

use pmd_api::PortStats;

use super::modes::ModeName;
use super::stats::{BadChecksums, StreamCounters, StreamStats};
use super::streams::StreamPlan;

/// What a run counted and recorded.
pub struct Summary<'a> {
    /// Forward mode.
    pub mode: ModeName,
    /// All streams.
    pub plans: &'a [StreamPlan],
    /// Their counters, in the same order.
    pub counters: &'a [Arc<StreamCounters>],
    /// What the streams had counted when counting began.
    pub before: &'a [StreamStats],
    /// The ports that forward, with their statistics.
    pub ports: &'a [(usize, PortStats)],
    /// Rate of the cycle counter in MHz, if cycles were recorded.
    pub cycles_mhz: Option<u64>,
}

/// Streams (where a port has several), ports, and all ports together.
pub fn tables(summary: &Summary<'_>) -> String {
    let (mode, ports) = (summary.mode, summary.ports);
    let mut text = String::new();
    let bad = (mode == ModeName::Csum).then(BadChecksums::default);
    let fresh = || StreamTotals {
        bad,
        ..StreamTotals::default()
    };
    let end = ports.iter().map(|(number, _)| number + 1).max();
    let mut totals: Vec<StreamTotals> = (0..end.unwrap_or(0)).map(|_| fresh()).collect();
    let mut cycles = 0;
    let several = summary.plans.len() > ports.len();
    let counters = summary.counters.iter().zip(summary.before);
    for (plan, (counters, before)) in summary.plans.iter().zip(counters) {
        let stats = counters.snapshot() - *before;
        cycles += stats.busy_cycles;
        totals[plan.tx_port].tx_dropped += stats.tx_dropped;
        if let Some(bad) = &mut totals[plan.rx_port].bad {
            *bad += stats.bad;
        }
        let (rx, tx) = counters.burst_lines();
        if several {
            stream_statistics(&mut text, mode, plan, &stats, &(rx + &tx));
        } else {
            totals[plan.rx_port].rx_bursts = rx;
            totals[plan.tx_port].tx_bursts = tx;
        }
    }
    let mut all = PortStats::default();
    for (number, stats) in ports {
        forward_statistics(&mut text, *number, stats, &totals[*number]);
        all.rx_packets += stats.rx_packets;
        all.tx_packets += stats.tx_packets;
        all.rx_missed += stats.rx_missed;
        all.rx_nombuf += stats.rx_nombuf;
    }
    let dropped = totals.iter().map(|streams| streams.tx_dropped).sum();
    accumulated_statistics(&mut text, &all, dropped);
    if let Some(mhz) = summary.cycles_mhz {
        cycles_per_packet(&mut text, mode, &all, cycles, mhz);
    }
    text
}

/// One stream's lines of the final statistics; nothing for a stream that did nothing. Wrong checksums
/// are told of csum mode.
fn stream_statistics(
    out: &mut String,
    mode: ModeName,
    plan: &StreamPlan,
    stats: &StreamStats,
    bursts: &str,
) {
    const BORDER: &str = "-------";
    if stats.rx_packets + stats.tx_packets + stats.tx_dropped == 0 {
        return;
    }
    let _ = write!(
        out,
        "\n  {BORDER} Forward Stats for RX Port={:2}/Queue={:2} -> TX Port={:2}/Queue={:2} \
         {BORDER}\n  \
         RX-packets: {:<14} TX-packets: {:<14} TX-dropped: {:<14}",
        plan.rx_port,
        plan.queue,
        plan.tx_port,
        plan.queue,
        stats.rx_packets,
        stats.tx_packets,
        stats.tx_dropped,
    );
    if mode == ModeName::Csum {
        let bad = &stats.bad;
        let _ = write!(
            out,
            "  RX- bad IP checksum: {:<14}  Rx- bad L4 checksum: {:<14} \
             Rx- bad outer L4 checksum: {:<14}\n RX- bad outer IP checksum: {:<14}",
            bad.ip, bad.l4, 0, bad.outer_ip,
        );
    }
    out.push('\n');
    out.push_str(bursts);
}

/// What the streams of a port add to its table.
#[derive(Debug, Default)]
struct StreamTotals {
    /// Packets that no TX queue of it took.
    tx_dropped: u64,
    /// In csum mode: packets that it received with a wrong checksum.
    bad: Option<BadChecksums>,
    /// Line on the bursts of its receiving stream, if recorded.
    rx_bursts: String,
    /// Line on the bursts of its sending stream, if recorded.
    tx_bursts: String,
}

/// One port's table of the final statistics.
fn forward_statistics(out: &mut String, port: usize, stats: &PortStats, streams: &StreamTotals) {
    const BORDER: &str = "----------------------";
    let _ = write!(
        out,
        "\n  {BORDER} Forward statistics for port {port:<2} {BORDER}\n  \
         RX-packets: {:<14} RX-dropped: {:<14}RX-total: {}\n",
        stats.rx_packets,
        stats.rx_missed,
        stats.rx_packets + stats.rx_missed,
    );
    if let Some(bad) = &streams.bad {
        // MANA does not report an outer UDP checksum.
        let _ = write!(
            out,
            "  Bad-ipcsum: {:<14} Bad-l4csum: {:<14}Bad-outer-l4csum: {:<14}\n  \
             Bad-outer-ipcsum: {:<14}\n",
            bad.ip, bad.l4, 0, bad.outer_ip,
        );
    }
    if stats.rx_errors + stats.rx_nombuf > 0 {
        let _ = writeln!(out, "  RX-error: {}", stats.rx_errors);
        let _ = writeln!(out, "  RX-nombufs: {:<14}", stats.rx_nombuf);
    }
    let tx_dropped = streams.tx_dropped;
    let _ = write!(
        out,
        "  TX-packets: {:<14} TX-dropped: {tx_dropped:<14}TX-total: {}\n{}{}  \
         {BORDER}--------------------------------{BORDER}\n",
        stats.tx_packets,
        stats.tx_packets + tx_dropped,
        streams.rx_bursts,
        streams.tx_bursts,
    );
}

/// The table over all ports.
fn accumulated_statistics(out: &mut String, stats: &PortStats, tx_dropped: u64) {
    const BORDER: &str = "+++++++++++++++";
    let _ = write!(
        out,
        "\n  {BORDER} Accumulated forward statistics for all ports{BORDER}\n  \
         RX-packets: {:<14} RX-dropped: {:<14}RX-total: {}\n  \
         TX-packets: {:<14} TX-dropped: {tx_dropped:<14}TX-total: {}\n",
        stats.rx_packets,
        stats.rx_missed,
        stats.rx_packets + stats.rx_missed,
        stats.tx_packets,
        stats.tx_packets + tx_dropped,
    );
    if stats.rx_nombuf > 0 {
        let _ = writeln!(out, "  RX-nombufs: {:<14}", stats.rx_nombuf);
    }
    let _ = writeln!(
        out,
        "  {BORDER}++++++++++++++++++++++++++++++++++++++++++++++{BORDER}"
    );
}

/// What a packet cost, where there were any: in modes that only send those sent, else those received.
fn cycles_per_packet(out: &mut String, mode: ModeName, all: &PortStats, cycles: u64, mhz: u64) {
    let packets = match mode.generates() {
        true => all.tx_packets,
        false => all.rx_packets,
    };
    if packets > 0 {
        let _ = writeln!(
            out,
            "\n  CPU cycles/packet={:.2} (total cycles={cycles} / total {mode} packets={packets}) \
             at {mhz} MHz Clock",
            cycles as f64 / packets as f64,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected texts are lines of dpdk-testpmd's own output on MANA hardware, published as logs
    // (field.md §A.8) and in DPDK's documentation.

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    #[test]
    fn the_final_tables_are_testpmds() {
        let mut out = String::new();
        let plan = StreamPlan {
            rx_port: 1,
            tx_port: 1,
            queue: 0,
        };
        let stream = StreamStats {
            tx_packets: 860_821_344,
            tx_dropped: 954_740_096,
            ..StreamStats::default()
        };
        stream_statistics(&mut out, ModeName::TxOnly, &plan, &stream, "");
        stream_statistics(
            &mut out,
            ModeName::TxOnly,
            &plan,
            &StreamStats::default(),
            "",
        );
        let stats = PortStats {
            tx_packets: 3_362_947_936,
            ..PortStats::default()
        };
        let streams = StreamTotals {
            tx_dropped: 2_021_105_632,
            ..StreamTotals::default()
        };
        forward_statistics(&mut out, 1, &stats, &streams);
        accumulated_statistics(&mut out, &stats, 2_021_105_632);
        let expected = [
            "",
            "  ------- Forward Stats for RX Port= 1/Queue= 0 -> TX Port= 1/Queue= 0 -------",
            "  RX-packets: 0              TX-packets: 860821344      TX-dropped: 954740096     ",
            "",
            "  ---------------------- Forward statistics for port 1  ----------------------",
            "  RX-packets: 0              RX-dropped: 0             RX-total: 0",
            "  TX-packets: 3362947936     TX-dropped: 2021105632    TX-total: 5384053568",
            "  ----------------------------------------------------------------------------",
            "",
            "  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++",
            "  RX-packets: 0              RX-dropped: 0             RX-total: 0",
            "  TX-packets: 3362947936     TX-dropped: 2021105632    TX-total: 5384053568",
            "  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++",
        ];
        assert_eq!(lines(&out), expected);
    }

    /// The lines as DPDK's test plans quote them (Bad-ipcsum, Bad-l4csum), with the two fields that
    /// later releases added.
    #[test]
    fn csum_mode_tells_of_wrong_checksums() {
        let bad = BadChecksums {
            ip: 12,
            l4: 345,
            outer_ip: 6,
        };
        let mut out = String::new();
        let streams = StreamTotals {
            bad: Some(bad),
            ..StreamTotals::default()
        };
        forward_statistics(&mut out, 0, &PortStats::default(), &streams);
        let expected = [
            "  RX-packets: 0              RX-dropped: 0             RX-total: 0",
            "  Bad-ipcsum: 12             Bad-l4csum: 345           Bad-outer-l4csum: 0             ",
            "  Bad-outer-ipcsum: 6             ",
            "  TX-packets: 0              TX-dropped: 0             TX-total: 0",
        ];
        assert_eq!(lines(&out)[2..6], expected);

        let mut out = String::new();
        let plan = StreamPlan {
            rx_port: 0,
            tx_port: 1,
            queue: 3,
        };
        let stats = StreamStats {
            rx_packets: 1000,
            tx_packets: 1000,
            bad,
            ..StreamStats::default()
        };
        stream_statistics(&mut out, ModeName::Csum, &plan, &stats, "");
        let expected = [
            "  ------- Forward Stats for RX Port= 0/Queue= 3 -> TX Port= 1/Queue= 3 -------",
            "  RX-packets: 1000           TX-packets: 1000           TX-dropped: 0               \
             RX- bad IP checksum: 12              Rx- bad L4 checksum: 345            \
             Rx- bad outer L4 checksum: 0             ",
            " RX- bad outer IP checksum: 6             ",
        ];
        assert_eq!(lines(&out)[1..], expected);
    }

    #[test]
    fn lost_buffers_appear_only_where_there_are_some() {
        let mut out = String::new();
        let stats = PortStats {
            rx_errors: 3,
            rx_nombuf: 4,
            ..PortStats::default()
        };
        forward_statistics(&mut out, 0, &stats, &StreamTotals::default());
        assert!(
            out.contains("\n  RX-error: 3\n  RX-nombufs: 4             \n"),
            "{out}"
        );
        accumulated_statistics(&mut out, &stats, 0);
        assert!(
            out.contains("TX-total: 0\n  RX-nombufs: 4             \n  +++"),
            "{out}"
        );
    }

    #[test]
    fn what_was_recorded_stands_where_testpmd_has_it() {
        let summary = |queues: u16| {
            let plans =
                super::super::streams::plan(1, queues, super::super::streams::Topology::Loop);
            let counters: Vec<Arc<StreamCounters>> = plans
                .iter()
                .map(|_| Arc::new(StreamCounters::new(true)))
                .collect();
            for counters in &counters {
                counters.received(32);
                counters.record_rx(32);
                counters.sent(32);
                counters.record_tx(32);
                counters.busy(4_321);
            }
            let all = u64::from(queues) * 32;
            let stats = PortStats {
                rx_packets: all,
                tx_packets: all,
                ..PortStats::default()
            };
            let ports = [(0, stats)];
            let before = vec![StreamStats::default(); counters.len()];
            tables(&Summary {
                before: &before,
                mode: ModeName::MacSwap,
                plans: &plans,
                counters: &counters,
                ports: &ports,
                cycles_mhz: Some(2_100),
            })
        };
        let one = summary(1);
        let bursts = "  RX-bursts : 1 [0% of 0 pkts + 100% of 32 pkts]\n  \
                      TX-bursts : 1 [0% of 0 pkts + 100% of 32 pkts]\n";
        let port = format!("TX-total: 32\n{bursts}  -----");
        assert!(one.contains(&port), "{one}");
        let cycles = "+++\n\n  CPU cycles/packet=135.03 (total cycles=4321 / total macswap \
                      packets=32) at 2100 MHz Clock\n";
        assert!(one.ends_with(cycles), "{one}");
        let two = summary(2);
        let stream = format!("TX-dropped: 0             \n{bursts}\n  -------");
        assert_eq!(two.matches(&stream).count(), 2, "{two}");
        assert!(two.contains("TX-total: 64\n  -----"), "{two}");
    }
}
