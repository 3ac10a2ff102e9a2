//! The two option tables: what is honoured, what is accepted without meaning here and why, and what
//! is refused because ignoring it would change what the run does.

use super::getopt::{OptionSpec, Side, Takes};

/// An option left of `--`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EalOption {
    /// `-l`, `--lcores`.
    Lcores,
    /// `-c`.
    CoreMask,
    /// `--main-lcore`.
    MainLcore,
    /// `-a`, `--allow`, `--vdev`.
    Allow,
    /// `-b`, `--block`.
    Block,
    /// `--no-huge`.
    NoHuge,
    /// `--in-memory`.
    InMemory,
    /// `--log-level`.
    LogLevel,
    /// `-v`.
    Version,
    /// `-h`, `--help`.
    Help,
    /// Accepted; the help text says why it means nothing.
    Meaningless,
}

/// An option right of `--`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppOption {
    /// `--forward-mode`.
    ForwardMode,
    /// `--rxq`.
    Rxq,
    /// `--txq`.
    Txq,
    /// `--rxd`.
    Rxd,
    /// `--txd`.
    Txd,
    /// `--burst`.
    Burst,
    /// `--nb-cores`.
    NbCores,
    /// `--mbuf-size`.
    MbufSize,
    /// `--total-num-mbufs`.
    TotalNumMbufs,
    /// `--mbcache`.
    Mbcache,
    /// `--txpkts`.
    Txpkts,
    /// `--tx-ip`.
    TxIp,
    /// `--tx-udp`.
    TxUdp,
    /// `--txonly-multi-flow`.
    TxonlyMultiFlow,
    /// `--eth-peer`.
    EthPeer,
    /// `--port-topology`.
    PortTopology,
    /// `--stats-period`.
    StatsPeriod,
    /// `--max-pkt-len`.
    MaxPktLen,
    /// `--auto-start`.
    AutoStart,
    /// `--tx-first`.
    TxFirst,
    /// `--no-huge`.
    NoHuge,
    /// `--in-memory`.
    InMemory,
    /// `--duration`, ours.
    Duration,
    /// `--json`, ours.
    Json,
    /// `--help`.
    Help,
    /// Accepted; the help text says why it means nothing.
    Meaningless,
    /// Refused; the help text says what to do instead.
    NotYet,
}

/// The side left of `--`.
pub const EAL: Side<EalOption> = Side {
    name: "EAL",
    table: EAL_TABLE,
    other_knows: |name| APP_TABLE.iter().any(|spec| spec.long.starts_with(name)),
    other_place: "after `--`",
};

/// The side right of `--`.
pub const APP: Side<AppOption> = Side {
    name: "testpmd",
    table: APP_TABLE,
    other_knows: |name| EAL_TABLE.iter().any(|spec| spec.long.starts_with(name)),
    other_place: "before `--`",
};

const fn flag<Id: Copy>(long: &'static str, id: Id, help: &'static str) -> OptionSpec<Id> {
    spec(long, None, Takes::Nothing, id, help)
}

const fn value<Id: Copy>(long: &'static str, id: Id, help: &'static str) -> OptionSpec<Id> {
    spec(long, None, Takes::Value, id, help)
}

const fn spec<Id: Copy>(
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    id: Id,
    help: &'static str,
) -> OptionSpec<Id> {
    OptionSpec {
        long,
        short,
        takes,
        id,
        help,
    }
}

const NO_SECOND_PROCESS: &str = "there is no secondary process to share with";
const NO_DPDK_MEMORY: &str = "each pool takes exactly the memory it needs";
const NO_TRACE: &str = "DPDK's trace points do not exist here";
const NO_BUS_DRIVER: &str = "the driver works on top of the kernel's, without UIO or VFIO";

const EAL_TABLE: &[OptionSpec<EalOption>] = {
    use EalOption::*;
    use Takes::{Nothing, Value};
    &[
        spec(
            "",
            Some('l'),
            Value,
            Lcores,
            "CORES: cores to run on, as in 1-3,5; the first is the main core",
        ),
        value("lcores", Lcores, "CORES: the same as -l"),
        spec(
            "",
            Some('c'),
            Value,
            CoreMask,
            "MASK: cores to run on, hexadecimal",
        ),
        value(
            "main-lcore",
            MainLcore,
            "CORE: the main core, which prints and does not forward",
        ),
        spec(
            "allow",
            Some('a'),
            Value,
            Allow,
            "DEVICE: a device, as in 7870:00:00.0,mac=… | mac=… | netdev=… | ibdev=… | model0,…; repeatable",
        ),
        value("vdev", Allow, "DEVICE: the same as --allow"),
        spec(
            "block",
            Some('b'),
            Value,
            Block,
            "DEVICE: leave out this PCI address or model; repeatable",
        ),
        flag("no-huge", NoHuge, "memory in ordinary pages, no hugepages"),
        flag(
            "in-memory",
            InMemory,
            "nothing shared: always the case here",
        ),
        value(
            "log-level",
            LogLevel,
            "[TYPE:]LEVEL: 1-8 or a name such as debug",
        ),
        spec(
            "",
            Some('v'),
            Nothing,
            Version,
            "print the version at the start",
        ),
        spec("help", Some('h'), Nothing, Help, "print this text"),
        spec(
            "",
            Some('n'),
            Value,
            Meaningless,
            "memory channels are the memory controller's business",
        ),
        spec(
            "",
            Some('r'),
            Value,
            Meaningless,
            "memory ranks are the memory controller's business",
        ),
        spec("", Some('m'), Value, Meaningless, NO_DPDK_MEMORY),
        spec(
            "",
            Some('s'),
            Value,
            Meaningless,
            "there are no service cores",
        ),
        spec(
            "",
            Some('S'),
            Value,
            Meaningless,
            "there are no service cores",
        ),
        spec(
            "",
            Some('d'),
            Value,
            Meaningless,
            "the driver is part of this program",
        ),
        value("socket-mem", Meaningless, NO_DPDK_MEMORY),
        value("socket-limit", Meaningless, NO_DPDK_MEMORY),
        flag("legacy-mem", Meaningless, NO_DPDK_MEMORY),
        flag("single-file-segments", Meaningless, NO_DPDK_MEMORY),
        flag("match-allocations", Meaningless, NO_DPDK_MEMORY),
        value(
            "huge-dir",
            Meaningless,
            "hugepages come from memfd, no mount is needed",
        ),
        flag(
            "huge-unlink",
            Meaningless,
            "hugepages come from memfd, no file remains",
        ),
        flag(
            "huge-worker-stack",
            Meaningless,
            "stacks are the operating system's",
        ),
        value("base-virtaddr", Meaningless, NO_SECOND_PROCESS),
        value("file-prefix", Meaningless, NO_SECOND_PROCESS),
        value("proc-type", Meaningless, NO_SECOND_PROCESS),
        flag("no-shconf", Meaningless, NO_SECOND_PROCESS),
        value(
            "iova-mode",
            Meaningless,
            "the kernel maps memory for the device",
        ),
        flag(
            "no-pci",
            Meaningless,
            "discovery goes by ib devices, not by the PCI bus",
        ),
        flag("create-uio-dev", Meaningless, NO_BUS_DRIVER),
        value("vfio-intr", Meaningless, NO_BUS_DRIVER),
        value("vfio-vf-token", Meaningless, NO_BUS_DRIVER),
        flag("no-hpet", Meaningless, "time comes from the kernel's clock"),
        flag(
            "vmware-tsc-map",
            Meaningless,
            "time comes from the kernel's clock",
        ),
        value(
            "mbuf-pool-ops-name",
            Meaningless,
            "there is one kind of pool",
        ),
        value("syslog", Meaningless, "the log goes to standard error"),
        value("log-color", Meaningless, "the log goes to standard error"),
        value(
            "log-timestamp",
            Meaningless,
            "the log goes to standard error",
        ),
        value("trace", Meaningless, NO_TRACE),
        value("trace-dir", Meaningless, NO_TRACE),
        value("trace-bufsz", Meaningless, NO_TRACE),
        value("trace-mode", Meaningless, NO_TRACE),
        flag("telemetry", Meaningless, "there is no telemetry socket"),
        flag("no-telemetry", Meaningless, "there is no telemetry socket"),
        value(
            "force-max-simd-bitwidth",
            Meaningless,
            "there is one data path",
        ),
        value(
            "remap-lcore-ids",
            Meaningless,
            "lcores are the CPUs of the same number",
        ),
    ]
};

const NO_THRESHOLD: &str = "MANA's queues have no such threshold";
const ONLY_KERNEL_RSS: &str = "the kernel fixes hash fields and table of a MANA port";
const ALWAYS_OFFLOADED: &str = "what the device reports arrives in every mbuf, unasked";
const NO_DEVICE_FEATURE: &str = "MANA does not have this";
const NO_HAIRPIN: &str = "MANA has no hairpin queues";
const ON_PORTS_NODE: &str = "memory lies on each port's own NUMA node";
const NO_EVENTS: &str = "device events are always in the log";
const OTHER_MODE: &str = "belongs to a forward mode that does not exist here";
const PROMPT: &str = "leave it out: forwarding starts at once and Ctrl-C ends it";
const PORTS_BY_DEVICE: &str = "choose ports by device, as in -a 7870:00:00.0,mac=…";

const APP_TABLE: &[OptionSpec<AppOption>] = {
    use AppOption::*;
    use Takes::Nothing;
    &[
        value(
            "forward-mode",
            ForwardMode,
            "MODE: io (default), mac, macswap, rxonly, txonly",
        ),
        value(
            "rxq",
            Rxq,
            "N: RX queues a port, a power of two up to 64 (default 1)",
        ),
        value("txq", Txq, "N: TX queues a port (default 1)"),
        value("rxd", Rxd, "N: descriptors of an RX queue (default 256)"),
        value("txd", Txd, "N: descriptors of a TX queue (default 256)"),
        value("burst", Burst, "N: packets a burst, 1-512 (default 32)"),
        value("nb-cores", NbCores, "N: forwarding cores (default 1)"),
        value(
            "mbuf-size",
            MbufSize,
            "BYTES: data room of an mbuf with its 128 bytes of headroom (default 2176)",
        ),
        value(
            "total-num-mbufs",
            TotalNumMbufs,
            "N: mbufs in each pool (default as testpmd, or what the queues need)",
        ),
        value(
            "mbcache",
            Mbcache,
            "N: mbufs in a core's pool cache, 0-512 (default 250)",
        ),
        value(
            "txpkts",
            Txpkts,
            "LEN[,LEN…]: segment lengths of txonly's packets (default 64)",
        ),
        value(
            "tx-ip",
            TxIp,
            "SRC,DST: IPv4 addresses of txonly (default 198.18.0.1,198.18.0.2)",
        ),
        value(
            "tx-udp",
            TxUdp,
            "SRC[,DST]: UDP ports of txonly (default 9,9)",
        ),
        flag(
            "txonly-multi-flow",
            TxonlyMultiFlow,
            "txonly varies the UDP source port",
        ),
        value(
            "eth-peer",
            EthPeer,
            "PORT,MAC: destination MAC of what leaves by PORT; repeatable",
        ),
        value(
            "port-topology",
            PortTopology,
            "TOPOLOGY: paired (default), chained, loop",
        ),
        value(
            "stats-period",
            StatsPeriod,
            "SECONDS: print statistics that often",
        ),
        value(
            "max-pkt-len",
            MaxPktLen,
            "BYTES: largest packet to be received (checked against --mbuf-size)",
        ),
        spec(
            "auto-start",
            Some('a'),
            Nothing,
            AutoStart,
            "start forwarding (always, without a prompt)",
        ),
        flag(
            "tx-first",
            TxFirst,
            "send one burst on every stream before forwarding",
        ),
        flag("no-huge", NoHuge, "memory in ordinary pages, no hugepages"),
        flag(
            "in-memory",
            InMemory,
            "nothing shared: always the case here",
        ),
        value(
            "duration",
            Duration,
            "SECONDS: stop after that long (not in DPDK)",
        ),
        flag("json", Json, "one JSON line at the end (not in DPDK)"),
        spec("help", Some('h'), Nothing, Help, "print this text"),
        spec("interactive", Some('i'), Nothing, NotYet, PROMPT),
        value("cmdline-file", NotYet, PROMPT),
        value("cmdline-file-noecho", NotYet, PROMPT),
        value("nb-ports", NotYet, PORTS_BY_DEVICE),
        value("portmask", NotYet, PORTS_BY_DEVICE),
        value("portlist", NotYet, PORTS_BY_DEVICE),
        value(
            "coremask",
            NotYet,
            "choose forwarding cores by -l and --nb-cores",
        ),
        value(
            "eth-peers-configfile",
            NotYet,
            "give each peer by --eth-peer",
        ),
        value("num-procs", NotYet, NO_SECOND_PROCESS),
        value("proc-id", NotYet, NO_SECOND_PROCESS),
        value(
            "display-xstats",
            Meaningless,
            "there are no extended statistics",
        ),
        value(
            "latencystats",
            Meaningless,
            "there are no latency statistics",
        ),
        value(
            "bitrate-stats",
            Meaningless,
            "bit rates stand in the periodic statistics",
        ),
        flag("record-core-cycles", Meaningless, "cycles are not recorded"),
        flag(
            "record-burst-stats",
            Meaningless,
            "burst sizes are not recorded",
        ),
        flag("numa", Meaningless, ON_PORTS_NODE),
        flag("no-numa", Meaningless, ON_PORTS_NODE),
        value("port-numa-config", Meaningless, ON_PORTS_NODE),
        value("ring-numa-config", Meaningless, ON_PORTS_NODE),
        value("socket-num", Meaningless, ON_PORTS_NODE),
        flag(
            "mp-anon",
            Meaningless,
            "there is one way to allocate a pool",
        ),
        value(
            "mp-alloc",
            Meaningless,
            "there is one way to allocate a pool",
        ),
        flag(
            "no-iova-contig",
            Meaningless,
            "there is one way to allocate a pool",
        ),
        flag(
            "mlockall",
            Meaningless,
            "registered memory is pinned anyway",
        ),
        flag(
            "no-mlockall",
            Meaningless,
            "registered memory is pinned anyway",
        ),
        flag(
            "no-flush-rx",
            Meaningless,
            "RX queues are never flushed before forwarding",
        ),
        flag("disable-flow-flush", Meaningless, NO_DEVICE_FEATURE),
        flag("flow-isolate-all", Meaningless, NO_DEVICE_FEATURE),
        value("pkt-filter-mode", Meaningless, NO_DEVICE_FEATURE),
        value("pkt-filter-report-hash", Meaningless, NO_DEVICE_FEATURE),
        value("pkt-filter-size", Meaningless, NO_DEVICE_FEATURE),
        value(
            "pkt-filter-flexbytes-offset",
            Meaningless,
            NO_DEVICE_FEATURE,
        ),
        value("pkt-filter-drop-queue", Meaningless, NO_DEVICE_FEATURE),
        value("max-lro-pkt-size", Meaningless, NO_DEVICE_FEATURE),
        flag("enable-lro", Meaningless, NO_DEVICE_FEATURE),
        flag("enable-scatter", Meaningless, NO_DEVICE_FEATURE),
        value("rxoffs", Meaningless, NO_DEVICE_FEATURE),
        value("rxpkts", Meaningless, NO_DEVICE_FEATURE),
        value("rxhdrs", Meaningless, NO_DEVICE_FEATURE),
        flag("multi-rx-mempool", Meaningless, NO_DEVICE_FEATURE),
        value("rxq-share", Meaningless, NO_DEVICE_FEATURE),
        value("vxlan-gpe-port", Meaningless, NO_DEVICE_FEATURE),
        value("geneve-parsed-port", Meaningless, NO_DEVICE_FEATURE),
        value("hairpinq", Meaningless, NO_HAIRPIN),
        value("hairpin-mode", Meaningless, NO_HAIRPIN),
        value("hairpin-map", Meaningless, NO_HAIRPIN),
        flag(
            "disable-crc-strip",
            Meaningless,
            "MANA never delivers the CRC",
        ),
        flag("enable-rx-cksum", Meaningless, ALWAYS_OFFLOADED),
        flag("enable-rx-timestamp", Meaningless, NO_DEVICE_FEATURE),
        flag("enable-hw-vlan", Meaningless, ALWAYS_OFFLOADED),
        flag("enable-hw-vlan-filter", Meaningless, NO_DEVICE_FEATURE),
        flag("enable-hw-vlan-strip", Meaningless, ALWAYS_OFFLOADED),
        flag("enable-hw-vlan-extend", Meaningless, NO_DEVICE_FEATURE),
        flag("enable-hw-qinq-strip", Meaningless, NO_DEVICE_FEATURE),
        flag(
            "enable-drop-en",
            Meaningless,
            "MANA always drops what finds no buffer",
        ),
        value(
            "tx-offloads",
            Meaningless,
            "offloads are requested packet by packet",
        ),
        value("rx-offloads", Meaningless, ALWAYS_OFFLOADED),
        flag("disable-rss", Meaningless, ONLY_KERNEL_RSS),
        flag("rss-ip", Meaningless, ONLY_KERNEL_RSS),
        flag("rss-udp", Meaningless, ONLY_KERNEL_RSS),
        flag("rss-level-inner", Meaningless, ONLY_KERNEL_RSS),
        flag("rss-level-outer", Meaningless, ONLY_KERNEL_RSS),
        value("rx-mq-mode", Meaningless, ONLY_KERNEL_RSS),
        value("rxpt", Meaningless, NO_THRESHOLD),
        value("rxht", Meaningless, NO_THRESHOLD),
        value("rxwt", Meaningless, NO_THRESHOLD),
        value("rxfreet", Meaningless, NO_THRESHOLD),
        value("txpt", Meaningless, NO_THRESHOLD),
        value("txht", Meaningless, NO_THRESHOLD),
        value("txwt", Meaningless, NO_THRESHOLD),
        value("txfreet", Meaningless, NO_THRESHOLD),
        value("txrst", Meaningless, NO_THRESHOLD),
        value("txqflags", Meaningless, NO_THRESHOLD),
        value(
            "rx-queue-stats-mapping",
            Meaningless,
            "every queue has counters of its own",
        ),
        value(
            "tx-queue-stats-mapping",
            Meaningless,
            "every queue has counters of its own",
        ),
        value("eth-link-speed", Meaningless, "a MANA port has one speed"),
        flag(
            "disable-link-check",
            Meaningless,
            "a started MANA port is up",
        ),
        flag(
            "disable-device-start",
            Meaningless,
            "without a prompt nothing could start it later",
        ),
        flag("no-lsc-interrupt", Meaningless, NO_EVENTS),
        flag("no-rmv-interrupt", Meaningless, NO_EVENTS),
        value("print-event", Meaningless, NO_EVENTS),
        value("mask-event", Meaningless, NO_EVENTS),
        flag("hot-plug", Meaningless, NO_EVENTS),
        value("flowgen-clones", Meaningless, OTHER_MODE),
        value("flowgen-flows", Meaningless, OTHER_MODE),
        value("parse-tunnel", Meaningless, OTHER_MODE),
        value("noisy-forward-mode", Meaningless, OTHER_MODE),
        value("noisy-tx-sw-buffer-size", Meaningless, OTHER_MODE),
        value("noisy-tx-sw-buffer-flushtime", Meaningless, OTHER_MODE),
        value("noisy-lkup-memory", Meaningless, OTHER_MODE),
        value("noisy-lkup-num-reads", Meaningless, OTHER_MODE),
        value("noisy-lkup-num-writes", Meaningless, OTHER_MODE),
        value("noisy-lkup-num-reads-writes", Meaningless, OTHER_MODE),
    ]
};

/// The help text of both sides.
pub fn help() -> String {
    let mut text = String::from("Usage: mana testpmd [EAL options] -- [testpmd options]\n");
    side_help(&mut text, &EAL, |id| id != EalOption::Meaningless);
    side_help(&mut text, &APP, |id| {
        !matches!(id, AppOption::Meaningless | AppOption::NotYet)
    });
    text
}

fn side_help<Id: Copy>(text: &mut String, side: &Side<Id>, honoured: impl Fn(Id) -> bool) {
    text.push_str(&format!("\n{} options:\n", side.name));
    let mut others = Vec::new();
    for spec in side.table {
        if !honoured(spec.id) {
            others.push(spec.written());
            continue;
        }
        let name = match (spec.short, spec.long) {
            (Some(letter), "") => format!("-{letter}"),
            (Some(letter), long) => format!("-{letter}, --{long}"),
            (None, long) => format!("    --{long}"),
        };
        text.push_str(&format!("  {name:<24}{}\n", spec.help));
    }
    text.push_str(
        "  Other options of DPDK, accepted with a line that says why they mean nothing\n",
    );
    text.push_str("  here, or refused with what to do instead:\n");
    let mut line = String::from("   ");
    for name in others {
        if line.len() + name.len() > 96 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(&name);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_table_has_a_name_or_letter_twice() {
        fn check<Id>(table: &[OptionSpec<Id>]) {
            let mut seen = HashSet::new();
            for spec in table {
                assert!(
                    spec.long.is_empty() || seen.insert(spec.long.to_owned()),
                    "{}",
                    spec.long
                );
                assert!(
                    spec.short
                        .is_none_or(|letter| seen.insert(letter.to_string()))
                );
                assert!(!spec.help.is_empty(), "{}", spec.long);
            }
        }
        check(EAL_TABLE);
        check(APP_TABLE);
    }

    #[test]
    fn stats_is_an_unambiguous_beginning_of_stats_period() {
        let words = ["--stats".to_owned(), "2".to_owned()];
        assert_eq!(APP.parse(&words).unwrap()[0].id, AppOption::StatsPeriod);
    }

    #[test]
    fn the_help_text_names_every_option() {
        let help = help();
        for spec in EAL_TABLE {
            assert!(help.contains(&spec.written()), "{}", spec.written());
        }
        for spec in APP_TABLE {
            assert!(help.contains(&spec.written()), "{}", spec.written());
        }
    }
}
