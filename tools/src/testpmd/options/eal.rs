//! The options left of `--`.

use super::{NO_SECOND_PROCESS, flag, knows, spec, value};
use crate::testpmd::getopt::{OptionSpec, Side, Takes};

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
    /// `--file-prefix`.
    FilePrefix,
    /// `--telemetry`.
    Telemetry,
    /// `--no-telemetry`.
    NoTelemetry,
    /// `--metrics`.
    Metrics,
    /// `-v`.
    Version,
    /// `-h`, `--help`.
    Help,
    /// Accepted; the help text says why it means nothing.
    Meaningless,
}

/// The side left of `--`.
pub const EAL: Side<EalOption> = Side {
    name: "EAL",
    table: EAL_TABLE,
    other_knows: |name| knows(super::APP.table, name),
    other_place: "after `--`",
};

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
            "DEVICE: a device, as in 7870:00:00.0,mac=… | mac=… | netdev=… | ibdev=… | model0,…, also with provider=…; repeatable",
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
        value(
            "file-prefix",
            FilePrefix,
            "NAME: folder of the telemetry socket below DPDK's runtime folder, rte without it",
        ),
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
        flag(
            "telemetry",
            Telemetry,
            "serve DPDK's telemetry protocol: always the case here",
        ),
        flag("no-telemetry", NoTelemetry, "no telemetry socket"),
        value(
            "metrics",
            Metrics,
            "[ADDRESS:]PORT: serve OpenMetrics at http://ADDRESS:PORT/metrics, ADDRESS 127.0.0.1 without it (not in DPDK)",
        ),
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
