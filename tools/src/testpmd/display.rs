//! testpmd's output, character by character: scripts read it.

use std::fmt::Write;

use pmd_api::PortStats;
use uverbs_abi::Mac;

use super::cores::{Lcore, socket_of};
use super::modes::ModeName;
use super::stats::{BadChecksums, Rates, StreamStats};
use super::streams::StreamPlan;

/// What the start-up lines tell of a port.
#[derive(Debug, Clone, Copy)]
pub struct PortLine {
    /// Its MAC.
    pub mac: Mac,
    /// Its NUMA node, 0 where there are none.
    pub socket: u32,
    /// The MAC of what leaves by it.
    pub peer: Mac,
}

/// What the start-up lines tell of the whole.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Forward mode.
    pub mode: ModeName,
    /// All ports.
    pub ports: &'a [PortLine],
    /// All streams.
    pub streams: &'a [StreamPlan],
    /// Forwarding cores with the streams of each.
    pub cores: &'a [(Lcore, std::ops::Range<usize>)],
    /// RX and TX queues a port.
    pub queues: (u16, u16),
    /// RX and TX descriptors a queue.
    pub depths: (u32, u32),
    /// Packets a burst.
    pub burst: usize,
    /// Segment lengths of what txonly sends.
    pub tx_segments: &'a [u32],
    /// TX offloads by DPDK's bits.
    pub tx_offloads: u64,
}

/// The RX offload flag of DPDK that tells of hashes in mbufs, `RTE_ETH_RX_OFFLOAD_RSS_HASH`.
const RX_OFFLOADS: u64 = 1 << 19;

/// A MAC as DPDK prints it.
pub fn upper(mac: Mac) -> String {
    mac.to_string().to_uppercase()
}

/// `Configuring Port 0 (socket 0)` and `Port 0: 00:0D:…`.
pub fn configured(out: &mut String, port: usize, line: &PortLine) {
    let _ = writeln!(out, "Configuring Port {port} (socket {})", line.socket);
    let _ = writeln!(out, "Port {port}: {}", upper(line.mac));
}

/// Which core forwards what.
pub fn forwarding(out: &mut String, plan: &Plan<'_>) {
    let _ = writeln!(
        out,
        "{} packet forwarding - ports={} - cores={} - streams={} - NUMA support enabled, \
         MP allocation mode: native",
        plan.mode,
        plan.ports.len(),
        plan.cores.len(),
        plan.streams.len(),
    );
    for (core, share) in plan.cores {
        let _ = writeln!(
            out,
            "Logical Core {} (socket {}) forwards packets on {} streams:",
            core.id,
            socket_of(core.cpu),
            share.len(),
        );
        for stream in &plan.streams[share.clone()] {
            let (rx, tx) = (&plan.ports[stream.rx_port], &plan.ports[stream.tx_port]);
            let _ = writeln!(
                out,
                "  RX P={}/Q={} (socket {}) -> TX P={}/Q={} (socket {}) peer={}",
                stream.rx_port,
                stream.queue,
                rx.socket,
                stream.tx_port,
                stream.queue,
                tx.socket,
                upper(tx.peer),
            );
        }
    }
    out.push('\n');
}

/// Burst, packet length, queues and descriptors.
pub fn configuration(out: &mut String, plan: &Plan<'_>) {
    let _ = writeln!(
        out,
        "  {} packet forwarding packets/burst={}",
        plan.mode, plan.burst
    );
    if plan.mode == ModeName::TxOnly {
        let _ = writeln!(
            out,
            "  packet len={} - nb packet segments={}",
            plan.tx_segments.iter().sum::<u32>(),
            plan.tx_segments.len(),
        );
    }
    let _ = writeln!(
        out,
        "  nb forwarding cores={} - nb forwarding ports={}",
        plan.cores.len(),
        plan.ports.len(),
    );
    let tx_offloads = plan.tx_offloads;
    for port in 0..plan.ports.len() {
        let _ = write!(
            out,
            "  port {port}: RX queue number: {} Tx queue number: {}\n    \
             Rx offloads={RX_OFFLOADS:#x} Tx offloads={tx_offloads:#x}\n    \
             RX queue: 0\n      \
             RX desc={} - RX free threshold=0\n      \
             RX threshold registers: pthresh=0 hthresh=0  wthresh=0\n      \
             RX Offloads={RX_OFFLOADS:#x}\n    \
             TX queue: 0\n      \
             TX desc={} - TX free threshold=0\n      \
             TX threshold registers: pthresh=0 hthresh=0  wthresh=0\n      \
             TX offloads={tx_offloads:#x} - TX RS bit threshold=0\n",
            plan.queues.0, plan.queues.1, plan.depths.0, plan.depths.1,
        );
    }
}

/// The heading of the periodic statistics.
pub fn periodic_heading(out: &mut String, clear_screen: bool) {
    if clear_screen {
        out.push_str("\x1b[2J\x1b[1;1H");
    }
    out.push_str("\nPort statistics ====================================");
}

/// One port's block of the periodic statistics.
pub fn port_statistics(out: &mut String, port: usize, stats: &PortStats, rates: &Rates) {
    const BORDER: &str = "########################";
    let _ = write!(
        out,
        "\n  {BORDER} NIC statistics for port {port:<2} {BORDER}\n  \
         RX-packets: {:<10} RX-missed: {:<10} RX-bytes:  {}\n  \
         RX-errors: {}\n  \
         RX-nombuf:  {:<10}\n  \
         TX-packets: {:<10} TX-errors: {:<10} TX-bytes:  {}\n\n  \
         Throughput (since last show)\n  \
         Rx-pps: {:>12}          Rx-bps: {:>12}\n  \
         Tx-pps: {:>12}          Tx-bps: {:>12}\n  \
         {BORDER}############################{BORDER}\n",
        stats.rx_packets,
        stats.rx_missed,
        stats.rx_bytes,
        stats.rx_errors,
        stats.rx_nombuf,
        stats.tx_packets,
        stats.tx_errors,
        stats.tx_bytes,
        rates.rx_pps,
        rates.rx_bps,
        rates.tx_pps,
        rates.tx_bps,
    );
}

/// One stream's lines of the final statistics; nothing for a stream that did nothing. Wrong checksums
/// are told of csum mode.
pub fn stream_statistics(out: &mut String, mode: ModeName, plan: &StreamPlan, stats: &StreamStats) {
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
}

/// What the streams of a port add to its table.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamTotals {
    /// Packets that no TX queue of it took.
    pub tx_dropped: u64,
    /// In csum mode: packets that it received with a wrong checksum.
    pub bad: Option<BadChecksums>,
}

/// One port's table of the final statistics.
pub fn forward_statistics(
    out: &mut String,
    port: usize,
    stats: &PortStats,
    streams: &StreamTotals,
) {
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
        "  TX-packets: {:<14} TX-dropped: {tx_dropped:<14}TX-total: {}\n  \
         {BORDER}--------------------------------{BORDER}\n",
        stats.tx_packets,
        stats.tx_packets + tx_dropped,
    );
}

/// The table over all ports.
pub fn accumulated_statistics(out: &mut String, stats: &PortStats, tx_dropped: u64) {
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
        "  {BORDER}++++++++++++++++++++++++++++++++++++++++++++++{BORDER}\n\nDone."
    );
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
    fn the_periodic_block_is_testpmds() {
        let mut out = String::new();
        let stats = PortStats {
            rx_packets: 72_906_922,
            rx_bytes: 4_666_043_008,
            ..PortStats::default()
        };
        let rates = Rates {
            rx_pps: 14_579_940,
            rx_bps: 7_464_929_376,
            ..Rates::default()
        };
        periodic_heading(&mut out, false);
        port_statistics(&mut out, 1, &stats, &rates);
        let expected = [
            "",
            "Port statistics ====================================",
            "  ######################## NIC statistics for port 1  ########################",
            "  RX-packets: 72906922   RX-missed: 0          RX-bytes:  4666043008",
            "  RX-errors: 0",
            "  RX-nombuf:  0         ",
            "  TX-packets: 0          TX-errors: 0          TX-bytes:  0",
            "",
            "  Throughput (since last show)",
            "  Rx-pps:     14579940          Rx-bps:   7464929376",
            "  Tx-pps:            0          Tx-bps:            0",
            "  ############################################################################",
        ];
        assert_eq!(lines(&out), expected);
        let mut out = String::new();
        periodic_heading(&mut out, true);
        assert!(out.starts_with("\x1b[2J\x1b[1;1H\n"));
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
        stream_statistics(&mut out, ModeName::TxOnly, &plan, &stream);
        stream_statistics(&mut out, ModeName::TxOnly, &plan, &StreamStats::default());
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
            "",
            "Done.",
        ];
        assert_eq!(lines(&out), expected);
    }

    #[test]
    fn the_start_up_lines_are_testpmds() {
        let port = PortLine {
            mac: "7c:1e:52:3e:5b:e3".parse().unwrap(),
            socket: 0,
            peer: "02:00:00:00:00:00".parse().unwrap(),
        };
        let streams = super::super::streams::plan(1, 2, super::super::streams::Topology::Paired);
        let core = |id| Lcore { id, cpu: 0 };
        let cores = [(core(1), 0..1), (core(2), 1..2)];
        let plan = Plan {
            mode: ModeName::TxOnly,
            ports: &[port],
            streams: &streams,
            cores: &cores,
            queues: (4, 4),
            depths: (256, 256),
            burst: 32,
            tx_segments: &[64],
            tx_offloads: 0,
        };
        let mut out = String::new();
        configured(&mut out, 0, &port);
        forwarding(&mut out, &plan);
        configuration(&mut out, &plan);
        let expected = [
            "Configuring Port 0 (socket 0)",
            "Port 0: 7C:1E:52:3E:5B:E3",
            "txonly packet forwarding - ports=1 - cores=2 - streams=2 - NUMA support enabled, \
             MP allocation mode: native",
            "Logical Core 1 (socket 0) forwards packets on 1 streams:",
            "  RX P=0/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0) peer=02:00:00:00:00:00",
            "Logical Core 2 (socket 0) forwards packets on 1 streams:",
            "  RX P=0/Q=1 (socket 0) -> TX P=0/Q=1 (socket 0) peer=02:00:00:00:00:00",
            "",
            "  txonly packet forwarding packets/burst=32",
            "  packet len=64 - nb packet segments=1",
            "  nb forwarding cores=2 - nb forwarding ports=1",
            "  port 0: RX queue number: 4 Tx queue number: 4",
            "    Rx offloads=0x80000 Tx offloads=0x0",
            "    RX queue: 0",
            "      RX desc=256 - RX free threshold=0",
            "      RX threshold registers: pthresh=0 hthresh=0  wthresh=0",
            "      RX Offloads=0x80000",
            "    TX queue: 0",
            "      TX desc=256 - TX free threshold=0",
            "      TX threshold registers: pthresh=0 hthresh=0  wthresh=0",
            "      TX offloads=0x0 - TX RS bit threshold=0",
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
            tx_dropped: 0,
            bad: Some(bad),
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
        stream_statistics(&mut out, ModeName::Csum, &plan, &stats);
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
}
