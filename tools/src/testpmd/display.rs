//! testpmd's output, character by character: scripts read it.

use std::fmt::Write;

use mana_pmd::PortEvent;
use pmd_api::PortStats;
use uverbs_abi::Mac;

use super::cores::{Lcore, socket_of};
use super::lengths::Lengths;
use super::modes::ModeName;
use super::stats::Rates;
use super::streams::StreamPlan;

/// What the start-up lines tell of a port.
#[derive(Debug, Clone)]
pub struct PortLine {
    /// Its number.
    pub number: usize,
    /// Its MAC.
    pub mac: Mac,
    /// Its NUMA node, 0 where there are none.
    pub socket: u32,
    /// Who talks to the kernel for it.
    pub provider: String,
    /// The MAC of what leaves by it.
    pub peer: Mac,
    /// TX offloads by DPDK's bits.
    pub tx_offloads: u64,
}

/// What the start-up lines tell of the whole.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Forward mode.
    pub mode: ModeName,
    /// The ports that forward.
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
    /// Lengths of what is generated.
    pub tx_lengths: &'a Lengths,
    /// Flows that flowgen generates.
    pub flows: u32,
}

impl Plan<'_> {
    /// The port of that number, which forwards.
    fn port(&self, number: usize) -> &PortLine {
        let found = self.ports.iter().find(|line| line.number == number);
        found.expect("streams are of ports that forward")
    }

    /// DPDK tells of hashes where there are several queues.
    fn rx_offloads(&self) -> u64 {
        if self.queues.0 > 1 { RX_OFFLOADS } else { 0 }
    }
}

/// The RX offload flag of DPDK that tells of hashes in mbufs, `RTE_ETH_RX_OFFLOAD_RSS_HASH`.
const RX_OFFLOADS: u64 = 1 << 19;

/// A MAC as DPDK prints it.
pub fn upper(mac: Mac) -> String {
    mac.to_string().to_uppercase()
}

/// `Configuring Port 0 (socket 0)`, `Port 0: 00:0D:…` and, the first time, the port's provider.
pub fn configured(out: &mut String, port: usize, line: &PortLine, first: bool) {
    let _ = writeln!(out, "Configuring Port {port} (socket {})", line.socket);
    let _ = writeln!(out, "Port {port}: {}", upper(line.mac));
    if first {
        let _ = writeln!(out, "Port {port} provider: {}", line.provider);
    }
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
            let (rx, tx) = (plan.port(stream.rx_port), plan.port(stream.tx_port));
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
    if plan.mode.generates() {
        let _ = writeln!(
            out,
            "  packet len={} - nb packet segments={}",
            plan.tx_lengths.describe(),
            plan.tx_lengths.segments.len(),
        );
    }
    let _ = writeln!(
        out,
        "  nb forwarding cores={} - nb forwarding ports={}",
        plan.cores.len(),
        plan.ports.len(),
    );
    let rx_offloads = plan.rx_offloads();
    for line in plan.ports {
        let (port, tx_offloads) = (line.number, line.tx_offloads);
        let _ = write!(
            out,
            "  port {port}: RX queue number: {} Tx queue number: {}\n    \
             Rx offloads={rx_offloads:#x} Tx offloads={tx_offloads:#x}\n    \
             RX queue: 0\n      \
             RX desc={} - RX free threshold=0\n      \
             RX threshold registers: pthresh=0 hthresh=0  wthresh=0\n      \
             RX Offloads={rx_offloads:#x}\n    \
             TX queue: 0\n      \
             TX desc={} - TX free threshold=0\n      \
             TX threshold registers: pthresh=0 hthresh=0  wthresh=0\n      \
             TX offloads={tx_offloads:#x} - TX RS bit threshold=0\n",
            plan.queues.0, plan.queues.1, plan.depths.0, plan.depths.1,
        );
    }
    if plan.mode == ModeName::FlowGen {
        for line in plan.ports {
            let (port, flows) = (line.number, plan.flows);
            let _ = writeln!(out, "  number of flows for port {port}: {flows}");
        }
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

/// What testpmd prints when something happens to a port.
pub fn event(number: usize, event: &PortEvent) -> String {
    let event = match event {
        PortEvent::DeviceRemoved => "device removal",
        PortEvent::Recovering => "error recovering",
        PortEvent::Recovered { .. } => "error recovery successful",
        PortEvent::RecoveryFailed { .. } => "error recovery failed",
        PortEvent::NetdevUp => "netdev up",
        PortEvent::NetdevDown => "netdev down",
        // DPDK has no such events.
        PortEvent::WaitingForQueue { queues } => {
            &format!("waiting for queue ({})", queues.join(", "))
        }
        PortEvent::TxStuck { queue, .. } => &format!("tx queue {queue} stuck"),
        PortEvent::RssChanged { .. } => "rss changed",
        PortEvent::RssChangeFailed { .. } => "rss not changed",
        _ => "unknown",
    };
    format!("\nPort {number}: {event} event\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected texts are lines of dpdk-testpmd's own output on MANA hardware, published as logs
    // (field.md §A.8) and in DPDK's documentation.

    #[test]
    fn events_are_told_in_testpmds_words_and_those_dpdk_does_not_have_name_their_queues() {
        let removed = event(1, &PortEvent::DeviceRemoved);
        assert_eq!(removed, "\nPort 1: device removal event\n");
        let waiting = PortEvent::WaitingForQueue {
            queues: vec!["rx 0".to_owned(), "tx 3".to_owned()],
        };
        assert_eq!(
            event(0, &waiting),
            "\nPort 0: waiting for queue (rx 0, tx 3) event\n"
        );
        let stuck = PortEvent::TxStuck {
            queue: 2,
            in_flight: 7,
            age: std::time::Duration::from_secs(5),
        };
        assert_eq!(event(0, &stuck), "\nPort 0: tx queue 2 stuck event\n");
    }

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
    fn the_start_up_lines_are_testpmds() {
        let port = PortLine {
            number: 0,
            tx_offloads: 0,
            provider: "uverbs (by hand), driver id 20".to_owned(),
            mac: "7c:1e:52:3e:5b:e3".parse().unwrap(),
            socket: 0,
            peer: "02:00:00:00:00:00".parse().unwrap(),
        };
        let streams = super::super::streams::plan(1, 2, super::super::streams::Topology::Paired);
        let core = |id| Lcore { id, cpu: 0 };
        let cores = [(core(1), 0..1), (core(2), 1..2)];
        let plan = Plan {
            mode: ModeName::TxOnly,
            ports: std::slice::from_ref(&port),
            streams: &streams,
            cores: &cores,
            queues: (4, 4),
            depths: (256, 256),
            burst: 32,
            tx_lengths: &Lengths::default(),
            flows: 1024,
        };
        let mut out = String::new();
        configured(&mut out, 0, &port, true);
        forwarding(&mut out, &plan);
        configuration(&mut out, &plan);
        let expected = [
            "Configuring Port 0 (socket 0)",
            "Port 0: 7C:1E:52:3E:5B:E3",
            "Port 0 provider: uverbs (by hand), driver id 20",
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
}
