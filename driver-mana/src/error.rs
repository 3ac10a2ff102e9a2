//! Everything that can go wrong, each with what mends it.

use std::fmt;
use std::time::Duration;

use dma_memory::MemoryError;
use mana_verbs::VerbsError;
use uverbs_abi::{Errno, Mac, PciAddress, SystemError};

use crate::Candidate;
use crate::queue::QueueError;
use crate::rss_table::RSS_TABLE;

/// Why a port could not be opened, configured, started or stopped.
///
/// An error leaves the port as it was: not configured anew, not started, or (from
/// [`crate::Port::stop`]) as that function says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine's devices could not be read.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The kernel refused something.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
    /// There is no memory for the rings, or it can't be registered.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A queue can't be built over what the kernel created.
    #[error(transparent)]
    Queue(#[from] QueueError),

    /// A selector that is malformed or that no port can satisfy.
    #[error("`{text}` selects no port: {reason}")]
    Selector {
        /// The selector.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine has no MANA device.
    #[error(
        "no MANA device: `lspci -d 1414:` must list one (accelerated networking), \
         `sudo modprobe mana_ib` must succeed (Ubuntu: linux-modules-extra-azure) and \
         /sys/class/infiniband must not be empty"
    )]
    NoDevice,
    /// No port is what the selector asks for.
    #[error("no port is {wanted}; candidates:{}", List(.candidates))]
    NoSuchPort {
        /// What was asked for.
        wanted: String,
        /// Every port of the machine.
        candidates: Vec<Candidate>,
    },
    /// Several ports are what must be one.
    #[error(
        "several ports are {wanted}; add the PCI address or ibdev= to choose one of:{}",
        List(.candidates)
    )]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The ports it could be.
        candidates: Vec<Candidate>,
    },
    /// An ib device was selected on which no raw packet queue can be made.
    #[error(
        "ib device {ib_device} carries RDMA, no Ethernet; select by PCI address {pci} or by mac="
    )]
    NotEthernet {
        /// The selected ib device.
        ib_device: String,
        /// Its PCI function, which has another ib device for Ethernet.
        pci: PciAddress,
    },
    /// A selected port can't be used.
    #[error(
        "a selected port can't be used:{}",
        List(std::slice::from_ref(candidate))
    )]
    Unusable {
        /// The port and what it lacks.
        candidate: Box<Candidate>,
    },
    /// Nothing was selected, and no port of the machine can be used.
    #[error("no port can be used:{}", List(.candidates))]
    NoUsablePort {
        /// Every port of the machine with what it lacks.
        candidates: Vec<Candidate>,
    },

    /// The kernel owns the port, because its netdev is UP.
    #[error(
        "port {port} of {pci}: its netdev {netdev} is UP, so the kernel owns the vPort ({errno}): {}, \
         or choose another port with mac=",
        mend(.netdev, .master.as_deref())
    )]
    NetdevUp {
        /// PCI function.
        pci: PciAddress,
        /// Number of the port, from 1.
        port: u8,
        /// The interface that is UP.
        netdev: String,
        /// The synthetic interface it is enslaved to, which would take it up again.
        master: Option<String>,
        /// What the kernel answered (`ENODEV` on 6.12, `EBUSY` on 7.3).
        errno: Errno,
    },
    /// Another process, or something else in the kernel, owns the port.
    #[error(
        "port {port} of {pci}: the vPort is in use ({errno}) although {} is not UP: another process \
         has started it (see `sudo fuser -v /dev/infiniband/*`), or the kernel is reconfiguring the \
         interface (see `sudo dmesg | grep -i mana`)",
        .netdev.as_deref().unwrap_or("its netdev")
    )]
    VportInUse {
        /// PCI function.
        pci: PciAddress,
        /// Number of the port, from 1.
        port: u8,
        /// Its interface.
        netdev: Option<String>,
        /// What the kernel answered.
        errno: Errno,
    },

    /// A number of receive queues that the kernel can't make.
    #[error(
        "{given} receive queues: the number must be a power of two from 1 to {max}, because the \
         kernel's indirection table has one entry a queue and its size is a power of two"
    )]
    RxQueues {
        /// What was asked for.
        given: usize,
        /// The most that this port can have.
        max: u16,
    },
    /// A number of transmit queues that the device does not have.
    #[error("{given} transmit queues: the number must be from 1 to {max} (the device's max_qp)")]
    TxQueues {
        /// What was asked for.
        given: usize,
        /// The most that this port can have.
        max: u16,
    },
    /// More queues than completion queues.
    #[error(
        "{given} queues of both directions need a completion queue each, the device has {max}: \
         configure fewer queues"
    )]
    CompletionQueues {
        /// Receive and transmit queues asked for.
        given: usize,
        /// What the device has.
        max: u32,
    },
    /// A depth that the hardware does not have.
    #[error(
        "{queue}: depth {given}: it must be from {min} to {max} {}",
        if *.old_library {
            "with this libmana: rdma-core 49 or later makes deeper rings, and so does provider=uverbs"
        } else {
            "on this device"
        }
    )]
    Depth {
        /// The queue, `rx 0`.
        queue: String,
        /// What was asked for.
        given: u32,
        /// The least.
        min: u32,
        /// The most on this port.
        max: u32,
        /// Whether libmana, older than rdma-core 49, makes no deeper ones.
        old_library: bool,
    },
    /// A pool that could run dry although nothing leaks.
    #[error(
        "pool `{pool}` has {capacity} buffers and needs {needed}: {rx} of receive rings, {tx} of \
         transmit rings, 1.5 x {cache} in caches for each of {queues} queues, a burst of {burst}; \
         make it larger, or the depths or its cache smaller"
    )]
    PoolTooSmall {
        /// Name of the pool.
        pool: String,
        /// Its buffers.
        capacity: u32,
        /// The buffers it must have.
        needed: u64,
        /// Depths of the receive queues that name it, summed.
        rx: u64,
        /// Depths of the transmit queues that may hold its buffers, summed.
        tx: u64,
        /// Entries of a cache of it.
        cache: u32,
        /// Number of those queues.
        queues: usize,
        /// Buffers for one burst.
        burst: u32,
    },
    /// A pool whose buffers hold no packet.
    #[error(
        "pool `{pool}`: {room} bytes behind the headroom of a buffer can't hold the smallest packet \
         ({min} bytes); use buffers of at least {} bytes",
        .min + pmd_api::HEADROOM as u32
    )]
    BufferTooSmall {
        /// Name of the pool.
        pool: String,
        /// Bytes for a packet.
        room: u32,
        /// Bytes of the smallest packet.
        min: u32,
    },
    /// Receive buffers smaller than what the MTU allows.
    #[error(
        "pool `{pool}`: a buffer holds packets of {room} bytes behind its headroom, the MTU of {mtu} \
         allows {frame}: use buffers of at least {} bytes, {}",
        .frame + pmd_api::HEADROOM as u32,
        Instead(*.scatter, *.max_segments)
    )]
    BufferBelowMtu {
        /// Name of the pool.
        pool: String,
        /// Bytes for a packet in one buffer.
        room: u32,
        /// The MTU in bytes.
        mtu: u32,
        /// Bytes of the largest packet it allows.
        frame: u32,
        /// Whether packets may take several buffers.
        scatter: bool,
        /// Buffers of a packet at most.
        max_segments: u32,
    },
    /// A Toeplitz key of another length than the hardware's.
    #[error("an RSS key of {given} bytes: it must have 40")]
    RssKey {
        /// Bytes of the key.
        given: usize,
    },
    /// An indirection table of another length than the hardware's.
    #[error("an indirection table of {given} entries: it must have {RSS_TABLE}")]
    RssTableLength {
        /// Its entries.
        given: usize,
    },
    /// An indirection table that names a queue which the port does not have.
    #[error(
        "entry {entry} of the indirection table names receive queue {queue}, the port has {queues} \
         (counted from 0)"
    )]
    RssTableQueue {
        /// Number of the entry, from 0.
        entry: usize,
        /// The queue it names.
        queue: u16,
        /// Receive queues of the port.
        queues: usize,
    },
    /// An indirection table that this kernel can't be brought to make.
    #[error(
        "entry {entry} of the indirection table: not by this kernel: it takes a power of two of \
         receive queues, each once, in any order, and fills the table by repeating them"
    )]
    RssTable {
        /// Number of the first entry that does not fit, from 0.
        entry: usize,
    },
    /// An MTU that the adapter does not have.
    #[error("an MTU of {given}: it must be from {min} to {max} bytes on this port")]
    Mtu {
        /// What was asked for.
        given: u32,
        /// The least.
        min: u32,
        /// The adapter's limit.
        max: u32,
    },
    /// An MTU for which the buffers of the running port are too small.
    #[error(
        "an MTU of {given}: the running queues receive packets of {largest} bytes at most; stop the \
         port, set the MTU and start it again"
    )]
    MtuRunning {
        /// What was asked for.
        given: u32,
        /// Bytes of the largest packet that arrives.
        largest: u32,
    },
    /// More pools and external memories than the device has memory regions.
    #[error(
        "{given} pools and external memories need a memory region each, the device has {max}: use fewer pools"
    )]
    Pools {
        /// Different ones of the configuration.
        given: usize,
        /// What the device has.
        max: u32,
    },
    /// A pool larger than a memory region can be.
    #[error(
        "pool `{pool}` has {bytes} bytes, a memory region of this device at most {max}: \
         use fewer or smaller buffers"
    )]
    PoolTooLarge {
        /// Name of the pool.
        pool: String,
        /// Its bytes.
        bytes: u64,
        /// The device's limit in bytes.
        max: u64,
    },

    /// Receive interrupts, on a kernel that never sends one.
    #[error(
        "no receive interrupts on this kernel: its mana_ib creates completion queues without an \
         event queue, as before Linux 6.8, so waiting for a packet would never end; leave \
         rx_interrupts off and poll, or update the kernel"
    )]
    NoInterrupts,

    /// A runtime that can't watch a port's descriptor.
    #[cfg(feature = "tokio")]
    #[error("the runtime can't watch the port for events: {0}")]
    Runtime(#[source] std::io::Error),

    /// The device is gone.
    #[error(
        "the device of port {port} of {pci} was removed or reset: start the port again when it is back"
    )]
    DeviceRemoved {
        /// PCI function.
        pci: PciAddress,
        /// Number of the port, from 1.
        port: u8,
    },

    /// The device did not come back in time.
    #[error(
        "the device did not come back within {deadline:?}: {error}; Port::recover looks for it again"
    )]
    DeviceStaysAway {
        /// How long it was looked for.
        deadline: Duration,
        /// Why it was not found, or could not be opened, the last time.
        #[source]
        error: Box<Error>,
    },

    /// The port was not configured.
    #[error("the port is not configured: call Port::configure before Port::start")]
    NotConfigured,
    /// The port runs.
    #[error("the port is started: call Port::stop first")]
    Started,
    /// The port does not run.
    #[error("the port is not started")]
    NotStarted,
    /// Queues are still in somebody's hands.
    #[error(
        "queues are still in use: {}; drop them, or hand them to Port::stop",
        .queues.join(", ")
    )]
    QueuesOutstanding {
        /// Their names, `rx 0`.
        queues: Vec<String>,
    },
    /// Queues that belong to another port, or to an earlier start of it, were handed to stop.
    #[error(
        "not queues of this port: {}; they went home to their own port", .queues.join(", ")
    )]
    ForeignQueues {
        /// Their names, `rx 0`.
        queues: Vec<String>,
    },
}

/// The command that takes an interface down, its master first because it takes it up again.
pub(crate) fn mend(netdev: &str, master: Option<&str>) -> String {
    let down = |name| format!("sudo ip link set {name} down");
    match master {
        None => format!("`{}`", down(netdev)),
        Some(master) => format!("`{} && {}`", down(master), down(netdev)),
    }
}

/// Names a MAC address in [`Error::NoSuchPort`] and [`Error::Ambiguous`].
pub(crate) fn with_mac(mac: Mac) -> String {
    format!("one with MAC {mac}")
}

/// What else helps than larger buffers, where packets may take several or not.
struct Instead(bool, u32);

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(false, _) => f.write_str(
                "a lower MTU, or say by Oversize::Scatter that packets may take several buffers, by \
                 Oversize::Drop that larger ones may be lost",
            ),
            Self(true, max) => write!(f, "or a lower MTU: a packet takes {max} buffers at most"),
        }
    }
}

struct List<'a>(&'a [Candidate]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" none");
        }
        self.0
            .iter()
            .try_for_each(|candidate| write!(f, "\n  {candidate}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netdev_that_is_up_is_mended_with_its_master_first() {
        let pci = "7870:00:00.0".parse().unwrap();
        let error = |master: Option<&str>| {
            let (netdev, master) = ("enP30832s1".to_owned(), master.map(str::to_owned));
            Error::NetdevUp {
                pci,
                port: 1,
                netdev,
                master,
                errno: Errno::ENODEV,
            }
            .to_string()
        };
        let alone = error(None);
        assert!(
            alone.contains("`sudo ip link set enP30832s1 down`"),
            "{alone}"
        );
        assert!(alone.contains("port 1 of 7870:00:00.0") && alone.contains("ENODEV (19)"));
        let enslaved = error(Some("eth1"));
        let command = "`sudo ip link set eth1 down && sudo ip link set enP30832s1 down`";
        assert!(enslaved.contains(command), "{enslaved}");
    }
}
