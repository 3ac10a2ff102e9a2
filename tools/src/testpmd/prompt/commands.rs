//! The table of commands, in the order of the help text.

use super::parse::{Run, Spec};
use super::{devices, forwarding, help, histograms, packets, ports, rss, settings, show};

const CONTROL: &str = "control";
const DISPLAY: &str = "display";
const CONFIG: &str = "config";
const PORTS: &str = "ports";

/// The sections of the help text with their titles.
pub const SECTIONS: [(&str, &str); 4] = [
    (CONTROL, "Start and stop forwarding."),
    (DISPLAY, "Displaying port, stats and config information."),
    (CONFIG, "Configuration information."),
    (PORTS, "Configuring ports."),
];

const fn spec(section: &'static str, form: &'static str, run: Run, help: &'static str) -> Spec {
    Spec {
        form,
        help,
        section,
        run,
    }
}

/// All commands.
#[rustfmt::skip]
pub const TABLE: &[Spec] = &[
    spec(CONTROL, "start", forwarding::start, "Start packet forwarding with current configuration."),
    spec(CONTROL, "start tx_first", forwarding::start_tx_first, "The same, after one burst of packets on every stream."),
    spec(CONTROL, "start tx_first N", forwarding::start_tx_first_bursts, "The same, after N bursts of packets on every stream."),
    spec(CONTROL, "stop", forwarding::stop, "Stop packet forwarding, and display accumulated statistics."),
    spec(CONTROL, "quit", forwarding::quit, "Stop, close all ports, and leave."),
    spec(CONTROL, "help", help::sections, "Display the sections of the help text."),
    spec(CONTROL, "help SECTION", help::section, "Display the commands of a section, or of all."),

    spec(DISPLAY, "show port info|stats|xstats|summary PORTS", show::port, "Display one of these for a port, or all."),
    spec(DISPLAY, "show port histograms PORTS", histograms::show, "Display bursts, rings and completion times by magnitude (not in DPDK)."),
    spec(DISPLAY, "show device info DEVICE", devices::info, "Display a PCI function and its ports, or all."),
    spec(DISPLAY, "show port N rss-hash", rss::hash, "Display what is hashed."),
    spec(DISPLAY, "show port N rss-hash key", rss::hash_key, "Display what is hashed, and the key."),
    spec(DISPLAY, "show port N rss reta SIZE MASKS", rss::reta, "Display entries of the redirection table, as in 64 (0xff)."),
    spec(DISPLAY, "show rxq|txq info N QUEUE", show::queue, "Display a queue."),
    spec(DISPLAY, "show fwd stats PORTS", show::forward, "Display what was forwarded since the last start."),
    spec(DISPLAY, "show config fwd|rxtx|cores|txpkts", show::config, "Display what is configured."),
    spec(DISPLAY, "show event", packets::show_events, "Display what happened to the ports."),
    spec(DISPLAY, "clear port stats|xstats PORTS", show::clear_port, "Count from 0 again."),
    spec(DISPLAY, "clear fwd stats PORTS", show::clear_forward, "Count forwarded packets from 0 again."),
    spec(DISPLAY, "dump_mempool", show::dump_mempool, "Display the mbuf pools."),

    spec(CONFIG, "set fwd MODE", settings::mode, "Set the forwarding mode, from the next start on."),
    spec(CONFIG, "set burst N", settings::burst, "Set packets a burst, from the next start on."),
    spec(CONFIG, "set txpkts LENGTHS", settings::lengths, "Set the segments of generated packets, as in 64,128."),
    spec(CONFIG, "set nbcore N", settings::cores, "Set the number of forwarding cores."),
    spec(CONFIG, "set eth-peer N MAC", settings::peer, "Set the destination of what leaves by a port."),
    spec(CONFIG, "set verbose LEVEL", packets::verbose, "Print packets: 1 received, 2 sent, 3 both, 0 none."),
    spec(CONFIG, "set capture rx|tx N FILE", packets::capture, "Write a port's packets to a pcap file; off ends it (not in DPDK)."),
    spec(CONFIG, "set histograms on|off", histograms::set, "Let queues count in histograms (not in DPDK)."),
    spec(CONFIG, "set promisc PORTS on|off", settings::promisc, "Receive packets for other addresses."),
    spec(CONFIG, "set allmulti PORTS on|off", settings::allmulti, "Receive all multicast packets."),
    spec(CONFIG, "csum set ip|udp|tcp|sctp|outer-ip|outer-udp hw|sw N", settings::csum, "Choose who computes a checksum in csum mode."),
    spec(CONFIG, "csum show N", settings::csum_show, "Display who computes checksums in csum mode."),
    spec(CONFIG, "tso set SIZE N", settings::tso, "Set the segment size of csum mode's TSO."),
    spec(CONFIG, "tso show N", settings::tso_show, "Display the segment size of csum mode's TSO."),
    spec(CONFIG, "tx_vlan set N VLAN", settings::tx_vlan, "Let the device put a VLAN tag into what leaves by a port."),
    spec(CONFIG, "tx_vlan reset N", settings::tx_vlan_reset, "Let what leaves by a port be without a VLAN tag of its own."),
    spec(CONFIG, "vlan set strip on|off N", settings::vlan_strip, "Let the device take VLAN tags out."),

    spec(PORTS, "port start|stop|close|reset PORTS", ports::change, "Start, stop, close or reset a port, or all."),
    spec(PORTS, "port config mtu N VALUE", ports::mtu, "Set the MTU."),
    spec(PORTS, "port config N rss-hash-key TYPE KEY", rss::set_key, "Set the RSS key, 80 hexadecimal digits."),
    spec(PORTS, "port config PORTS rss reta ENTRIES", rss::set_reta, "Set entries of the redirection table, as in (0,1),(1,0)."),
    spec(PORTS, "port config all rxq|txq|rxd|txd N", ports::queues, "Set queues, or their descriptors, of all ports."),
    spec(PORTS, "port N rxq|txq QUEUE start|stop", ports::queue, "Start or stop one queue."),
];
