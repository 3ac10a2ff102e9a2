//! The options right of `--`.

use super::{NO_SECOND_PROCESS, flag, knows, spec, value};
use crate::testpmd::getopt::{OptionSpec, Side, Takes};

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
    /// `--txsplit`, ours.
    Txsplit,
    /// `--tx-ip`.
    TxIp,
    /// `--tx-udp`.
    TxUdp,
    /// `--txonly-multi-flow`.
    TxonlyMultiFlow,
    /// `--csum`, ours.
    Csum,
    /// `--tso`, ours.
    Tso,
    /// `--tx-offloads`.
    TxOffloads,
    /// `--flowgen-flows`.
    FlowgenFlows,
    /// `--flowgen-clones`.
    FlowgenClones,
    /// `--txonly-flows`.
    TxonlyFlows,
    /// `--eth-peer`.
    EthPeer,
    /// `--port-topology`.
    PortTopology,
    /// `--stats-period`.
    StatsPeriod,
    /// `--enable-scatter`.
    EnableScatter,
    /// `--max-pkt-len`.
    MaxPktLen,
    /// `--auto-start`.
    AutoStart,
    /// `--interactive`.
    Interactive,
    /// `--cmdline-file`.
    CmdlineFile,
    /// `--cmdline-file-noecho`, of DPDK 25.03 and later.
    CmdlineFileNoecho,
    /// `--record-burst-stats`.
    RecordBurstStats,
    /// `--record-core-cycles`.
    RecordCoreCycles,
    /// `--no-flush-rx`.
    NoFlushRx,
    /// `--histograms`, ours.
    Histograms,
    /// `--rx-interrupts`, ours.
    RxInterrupts,
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

/// The side right of `--`.
pub const APP: Side<AppOption> = Side {
    name: "testpmd",
    table: APP_TABLE,
    other_knows: |name| knows(super::EAL.table, name),
    other_place: "before `--`",
};

const NO_THRESHOLD: &str = "MANA's queues have no such threshold";
const ONLY_KERNEL_RSS: &str = "the kernel fixes hash fields and table of a MANA port";
const ALWAYS_OFFLOADED: &str = "what the device reports arrives in every mbuf, unasked";
const NO_DEVICE_FEATURE: &str = "MANA does not have this";
const NO_HAIRPIN: &str = "MANA has no hairpin queues";
const ON_PORTS_NODE: &str = "memory lies on each port's own NUMA node";
const NO_EVENTS: &str = "device events are always in the log";
const OTHER_MODE: &str = "belongs to a forward mode that does not exist here";
const PORTS_BY_DEVICE: &str = "choose ports by device, as in -a 7870:00:00.0,mac=…";

const APP_TABLE: &[OptionSpec<AppOption>] = {
    use AppOption::*;
    use Takes::Nothing;
    &[
        value(
            "forward-mode",
            ForwardMode,
            "MODE: io (default), mac, macswap, rxonly, txonly, csum, icmpecho, 5tswap, flowgen",
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
            "LEN[,LEN…]: segment lengths of txonly's packets (default 64), or LEAST-MOST: random \
             lengths, one segment (not in DPDK)",
        ),
        value(
            "txsplit",
            Txsplit,
            "off (default), on, rand: how many of the segments txonly's packets have: all, all, \
             chance (not in DPDK; testpmd's `set txsplit`)",
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
            "txonly-flows",
            TxonlyFlows,
            "N: source ports a core for --txonly-multi-flow, 1-64 (default 64)",
        ),
        value(
            "csum",
            Csum,
            "hw, sw (default), or a list like ip=hw,udp=sw,tcp=hw: who computes the checksums of \
             csum (not in DPDK; testpmd's `csum set`)",
        ),
        value(
            "tso",
            Tso,
            "BYTES: csum lets the device cut TCP packets with more payload into packets of that \
             much, 0 for off (not in DPDK; testpmd's `tso set`)",
        ),
        value(
            "tx-offloads",
            TxOffloads,
            "MASK: the same by DPDK's offload bits: 0x2 IPv4, 0x4 UDP, 0x8 TCP by the device",
        ),
        value(
            "flowgen-flows",
            FlowgenFlows,
            "N: flows of flowgen, by IPv4 destination (default 1024)",
        ),
        value(
            "flowgen-clones",
            FlowgenClones,
            "N: clones that flowgen sends of each packet (default 0)",
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
            "no-flush-rx",
            NoFlushRx,
            "forward also what came before (else dropped, unless from a source that ends)",
        ),
        flag(
            "histograms",
            Histograms,
            "queues count bursts, rings and completion times by magnitude, in telemetry and for \
             `show port histograms` (not in DPDK)",
        ),
        flag(
            "rx-interrupts",
            RxInterrupts,
            "idle cores sleep until a packet comes (not in DPDK)",
        ),
        flag(
            "tx-first",
            TxFirst,
            "send one burst on every stream before forwarding",
        ),
        flag(
            "record-burst-stats",
            RecordBurstStats,
            "end with how large the bursts were",
        ),
        flag(
            "record-core-cycles",
            RecordCoreCycles,
            "end with what a packet cost in counts of the time-stamp counter",
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
        spec(
            "interactive",
            Some('i'),
            Nothing,
            Interactive,
            "prompt for commands (`help` lists them)",
        ),
        value(
            "cmdline-file",
            CmdlineFile,
            "FILE: run the commands in it, each printed, before the prompt or forwarding",
        ),
        value(
            "cmdline-file-noecho",
            CmdlineFileNoecho,
            "FILE: the same without printing them",
        ),
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
        flag(
            "enable-scatter",
            EnableScatter,
            "packets larger than an mbuf arrive in several",
        ),
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
        flag("disable-device-start", Meaningless, "`port stop` stops it"),
        flag("no-lsc-interrupt", Meaningless, NO_EVENTS),
        flag("no-rmv-interrupt", Meaningless, NO_EVENTS),
        value("print-event", Meaningless, NO_EVENTS),
        value("mask-event", Meaningless, NO_EVENTS),
        flag("hot-plug", Meaningless, NO_EVENTS),
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
