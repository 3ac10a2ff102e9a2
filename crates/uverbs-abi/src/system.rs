//! A machine as a MANA driver sees it: ib devices, their netdevs, and how to open them.

use std::fmt;
use std::path::PathBuf;

use crate::{Errno, Mac, PciAddress, Transport};

/// What stands behind a [`System`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemKind {
    /// The running kernel with its devices.
    Linux,
    /// A device model in this process.
    Model,
}

/// One ib device of the machine (a directory of `/sys/class/infiniband` on Linux).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IbDevice {
    /// Name of the ib device, `mana_0` or `manae_0`.
    pub name: String,
    /// Name of its uverbs node, `uverbs0`.
    pub node: String,
    /// PCI function it belongs to.
    pub pci: PciAddress,
    /// PCI vendor id (0x1414 is Microsoft).
    pub vendor_id: u16,
    /// PCI device id (0x00ba is the MANA VF, 0x00b9 the PF).
    pub device_id: u16,
    /// The kernel's driver id where netlink told it; `None` means that it must be probed.
    pub driver_id: Option<u32>,
    /// NUMA node of the PCI function, if the platform has nodes.
    pub numa_node: Option<u32>,
}

/// One netdev of a PCI function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    /// Interface name.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
    /// `dev_port`: the IB port number minus 1 (reference/mana-hardware.md §1.4).
    pub dev_port: u32,
    /// Administratively UP (`IFF_UP`). The kernel then owns the vPort and no queue can be created.
    pub up: bool,
    /// The interface this one is enslaved to (the synthetic netvsc interface on Azure).
    pub master: Option<String>,
    /// MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The largest MTU that the adapter takes, in the same bytes; `None` where the kernel does not
    /// tell.
    pub max_mtu: Option<u32>,
    /// Whether the link has a carrier. `None` where the kernel does not tell: Linux tells it of a
    /// netdev that is UP only, so a port that a driver has is usually without.
    pub carrier: Option<bool>,
}

/// Why the machine could not be read or a device not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {errno}{}", Hint(.fix))]
pub struct SystemError {
    /// The file or directory (or socket) that failed.
    pub path: PathBuf,
    /// What the kernel answered.
    pub errno: Errno,
    /// What the user can do about it, where that is known.
    pub fix: Option<String>,
}

struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |fix| write!(f, " ({fix})"))
    }
}

/// A machine with MANA devices: the running Linux, or a model.
pub trait System: Send + Sync {
    /// What this is.
    fn kind(&self) -> SystemKind;

    /// Whether C libraries that look for devices themselves find these: so it is of the running
    /// kernel seen through `/sys` and `/dev`, and of nothing else.
    fn is_this_machine(&self) -> bool {
        false
    }

    /// All ib devices of the machine that belong to a PCI function, of whatever vendor, sorted by
    /// PCI address and name. An empty list where the machine has none.
    ///
    /// # Errors
    ///
    /// Where the machine has an InfiniBand class that can't be read.
    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError>;

    /// The netdevs of the device's PCI function, sorted by `dev_port`.
    ///
    /// # Errors
    ///
    /// Where they can't be read. Interfaces that vanish meanwhile are left out.
    fn netdevs(&self, device: &IbDevice) -> Result<Vec<Netdev>, SystemError>;

    /// Statistics of a netdev by name, as `ethtool -S` shows them. Empty where it has none, or the
    /// machine does not tell.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    fn netdev_statistics(&self, netdev: &str) -> Result<Vec<(String, u64)>, SystemError> {
        let _ = netdev;
        Ok(Vec::new())
    }

    /// Opens the device's uverbs node.
    ///
    /// # Errors
    ///
    /// `ENOENT` without a node (the fix names the module), `EACCES` without the right, and so on.
    fn open(&self, device: &IbDevice) -> Result<Box<dyn Transport>, SystemError>;
}
