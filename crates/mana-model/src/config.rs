//! What a model is made of: devices, ports, links, and the `--vdev` text that describes them.

mod check;
mod text;

use std::path::{Path, PathBuf};

use uverbs_abi::{Mac, PciAddress};

pub(crate) use check::{check, default_mac, default_pci};
pub use text::{DEVICE_HELP, parse_device};

use crate::ModelError;

/// Most ports of a device. The kernel allows 256 (reference/mana-hardware.md §1.4); a netdev and a
/// vPort offset each for 16 are enough here.
pub(crate) const MAX_PORTS: usize = 16;

fn ports_out_of_range(device: &str, ports: usize) -> ModelError {
    ModelError::Range {
        device: device.to_owned(),
        what: "number of ports",
        given: ports as u64,
        range: "1 to 16",
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Its PCI functions, in the order in which ports are numbered.
    pub devices: Vec<DeviceConfig>,
    /// How doorbells reach the device.
    pub doorbells: DoorbellMode,
}

impl ModelConfig {
    /// Whether a machine of it can be, as far as that shows without opening files and taps.
    ///
    /// # Errors
    ///
    /// As [`crate::Model::new`], for rules between ports and devices: MACs, pairs, ranges.
    pub fn check(&self) -> Result<(), ModelError> {
        check(self).map(|_| ())
    }
}

/// How doorbells reach the device (DESIGN.md §3, "Three doorbell modes of the model").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorbellMode {
    /// A thread polls them ([`crate::Model::run`]). A value that is overwritten before the thread
    /// saw it is never seen, so checks on single doorbells are not decided.
    Polled,
    /// They are read in [`crate::Model::step`] only.
    Stepped,
    /// Every store is told by [`crate::Node::store`], one after the other; none is ever lost.
    Trapped,
}

/// Whose rules stand in front of the device (reference/mana-hardware.md §4.5-§4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// Linux 6.12: one ib device `mana_N` for Ethernet and RDMA.
    #[default]
    V6_12,
    /// Linux 7.3: `manae_N` for Ethernet and `mana_N` for RDMA.
    V7_3,
    /// Azure's 5.15 with the first mana_ib (that of 6.2): driver id 19, no completion events, one
    /// packet a receive completion.
    V5_15Azure,
}

impl Kernel {
    /// All flavours, for tests that hold in each.
    pub const ALL: [Kernel; 3] = [Kernel::V6_12, Kernel::V7_3, Kernel::V5_15Azure];

    /// The name by which `kernel=` chooses it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_12 => "6.12",
            Self::V7_3 => "7.3",
            Self::V5_15Azure => "5.15-azure",
        }
    }

    /// The driver id that its headers give to mana_ib: 20, but 19 where Azure's backport took mana_ib
    /// without the driver that stands before it (reference/uverbs-boundary.md §3).
    #[must_use]
    pub const fn driver_id(self) -> u32 {
        match self {
            Self::V6_12 | Self::V7_3 => 20,
            Self::V5_15Azure => 19,
        }
    }
}

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name in findings and messages, `model0`.
    pub name: String,
    /// Its PCI address; `None` is 7870:00:00.0 for the first device, 7870:00:01.0 for the next.
    pub pci: Option<PciAddress>,
    /// The kernel in front of it.
    pub kernel: Kernel,
    /// The driver id of that kernel: 20, or 19 in one Azure backport.
    pub driver_id: u32,
    /// Whether the system tells the driver id; otherwise it must be probed.
    pub netlink: bool,
    /// Whether it is a physical function (PCI id 1414:00b9) and no virtual one (1414:00ba). To users of
    /// uverbs both are the same.
    pub physical: bool,
    /// NUMA node of the function.
    pub numa_node: Option<u32>,
    /// 1 to 16 ports.
    pub ports: Vec<PortConfig>,
    /// What the ib device reports, sensible or not.
    pub limits: Limits,
    /// Most packets that one receive CQE carries where the driver asked for coalescing: 1 to 4, or to 8
    /// for a kernel that negotiates completions of 8, as no mana_ib does yet
    /// (reference/mana-hardware.md §3.6).
    pub coalescing: u8,
    /// vPort offset of the first port; the others follow. 12 bits.
    pub vport_offset: u32,
    /// Id of the first send and receive queue. 24 bits; above 1023 the OOB's `vsq_frame` counts.
    pub first_queue_id: u32,
    /// Id of the first completion queue. 24 bits.
    pub first_cq_id: u32,
}

impl DeviceConfig {
    /// A device of one looping port behind `kernel`.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self {
            name: "model0".to_owned(),
            pci: None,
            kernel,
            driver_id: kernel.driver_id(),
            netlink: true,
            physical: false,
            numa_node: None,
            ports: vec![PortConfig::default()],
            limits: Limits::of(kernel),
            coalescing: 4,
            vport_offset: 1,
            first_queue_id: 1,
            first_cq_id: 1,
        }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self::new(Kernel::default())
    }
}

/// One port of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// MAC address; `None` is 00:0d:3a:00:DD:PP with the numbers of device and port.
    pub mac: Option<Mac>,
    /// Whether the kernel's netdev is UP and so owns the vPort.
    pub netdev_up: bool,
    /// What is behind the port.
    pub link: LinkConfig,
    /// Pcap file that is written with every frame that the port sends or that arrives at it, in
    /// order; `None` writes none.
    pub capture: Option<PathBuf>,
    /// Largest frame in bytes, Ethernet header included; a larger one ends as MTU_DROP
    /// (reference/mana-hardware.md §3.10).
    pub adapter_mtu: u32,
}

impl PortConfig {
    /// The files that are written for it.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Path> {
        let sent = match &self.link {
            LinkConfig::Pcap { tx, .. } => tx.as_deref(),
            _ => None,
        };
        sent.into_iter().chain(self.capture.as_deref())
    }
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            mac: None,
            netdev_up: false,
            link: LinkConfig::Loop,
            capture: None,
            adapter_mtu: 9014,
        }
    }
}

/// What is behind a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkConfig {
    /// Every frame comes back to the port that sent it.
    Loop,
    /// Wired to the next port that says so, counted over all devices of the machine.
    Pair,
    /// Frames come from one file and go to another.
    Pcap {
        /// Capture that is delivered once; `None` delivers nothing.
        rx: Option<PathBuf>,
        /// File that is written with what the port sends; `None` drops it.
        tx: Option<PathBuf>,
        /// Frames a second; `None` is as fast as buffers are posted.
        pps: Option<u64>,
    },
    /// An interface of the host's kernel: what the kernel sends there arrives at the port, what the
    /// port sends arrives at the kernel.
    Tap(TapConfig),
    /// A generator of UDP packets; what the port sends is dropped.
    Gen(GenConfig),
    /// What the port sends is dropped, nothing comes.
    Sink {
        /// Whether sent frames are kept for [`crate::PortView::take_tx_frames`].
        capture: bool,
    },
}

/// A tap of the host's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapConfig {
    /// Its name: 1 to 15 bytes. One that exists is attached to and left as it is; one that does not
    /// is made, brought UP, and gone with the model or its process.
    pub name: String,
    /// Its queues, 1 to 256; with 2 or more it is one of `multi_queue`.
    pub queues: u16,
    /// MTU in bytes to be set, from 68 to what the port can send; `None` leaves it.
    pub mtu: Option<u32>,
    /// Whether the kernel leaves checksums to the receiver, as it does for hardware: its frames then
    /// hold only the sum of the pseudo-header. Without it every frame is as on a wire.
    pub csum: bool,
    /// Whether the kernel hands over TCP packets longer than the MTU uncut, up to 64 KiB, as it does
    /// to hardware that segments. Their checksums are then as with `csum`, whatever that says.
    pub tso: bool,
    /// File of the network namespace in which it is looked for and made; `None` is the one of the
    /// calling thread. The model keeps that namespace alive.
    pub netns: Option<PathBuf>,
}

impl TapConfig {
    /// A tap of one queue in this namespace, with whole checksums.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            queues: 1,
            mtu: None,
            csum: false,
            tso: false,
            netns: None,
        }
    }
}

/// What a generator delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenConfig {
    /// Frames a second; `None` is as fast as buffers are posted.
    pub pps: Option<u64>,
    /// Frames in all; `None` never ends.
    pub count: Option<u64>,
    /// Bytes of a frame without FCS, 60 to 9014.
    pub size: u32,
    /// Number of different flows, at least 1.
    pub flows: u32,
}

impl Default for GenConfig {
    fn default() -> Self {
        Self {
            pps: None,
            count: None,
            size: 60,
            flows: 256,
        }
    }
}

/// What the ib device reports (reference/mana-hardware.md §4.7), whatever stands here: absurd values
/// are a test of the driver. As in the kernel only `max_qp_wr`, `max_cqe` and `comp_vectors` are also
/// enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// QPs.
    pub max_qp: u32,
    /// Work requests of a queue.
    pub max_qp_wr: u32,
    /// Entries of a CQ.
    pub max_cqe: u32,
    /// Segments: the smaller of send (30) and receive (15).
    pub max_sge: u32,
    /// CQs.
    pub max_cq: u32,
    /// MRs.
    pub max_mr: u32,
    /// PDs.
    pub max_pd: u32,
    /// Bytes of an MR.
    pub max_mr_size: u64,
    /// Completion vectors.
    pub comp_vectors: u32,
}

impl Limits {
    /// What a kernel reports of a usual device. 6.12 passes on what the adapter answers, where the
    /// numbers are this model's choice; the others' are the kernel's own. The first mana_ib left
    /// numbers of CQs and PDs at 0 and had one completion vector (its `mana_ib_query_device` and
    /// `mana_ib_probe`, Linux 6.2).
    #[must_use]
    pub const fn of(kernel: Kernel) -> Self {
        let depth = match kernel {
            Kernel::V6_12 => 8192,
            Kernel::V7_3 => 2048,
            Kernel::V5_15Azure => 256,
        };
        let usual = Self {
            max_qp: 1024,
            max_qp_wr: depth,
            max_cqe: depth,
            max_sge: 15,
            max_cq: 1024,
            max_mr: 4096,
            max_pd: 0x6000,
            max_mr_size: u64::MAX,
            comp_vectors: 16,
        };
        match kernel {
            Kernel::V6_12 | Kernel::V7_3 => usual,
            Kernel::V5_15Azure => Self {
                max_qp: 64,
                max_cq: 0,
                max_mr: 0xFF_FFFF,
                max_pd: 0,
                comp_vectors: 1,
                ..usual
            },
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(Kernel::default())
    }
}
