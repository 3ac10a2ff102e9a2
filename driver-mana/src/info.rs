//! What is known about an open port.

use uverbs_abi::{Mac, PciAddress};

use crate::discover::Usable;

/// Where a port is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// PCI function the port belongs to.
    pub pci: PciAddress,
    /// Vendor and device id of the PCI function.
    pub pci_ids: (u16, u16),
    /// Name of the ib device, `mana_0` or `manae_0`.
    pub ib_device: String,
    /// Number of the port within its PCI function, from 1.
    pub port: u8,
    /// The kernel's interface for the same port; it must be DOWN while the port runs.
    pub netdev: Option<String>,
    /// MAC address. The device drops packets with another source address.
    pub mac: Mac,
    /// NUMA node of the PCI function, where the machine has nodes.
    pub numa_node: Option<u32>,
    /// How the kernel is talked to: `rdma-core` or `uverbs`.
    pub provider: &'static str,
    /// The versions of the provider's libraries, or why it was taken.
    pub provider_note: String,
    /// The driver id under which the kernel knows MANA.
    pub driver_id: u32,
    /// Receive queues at most, a power of two.
    pub max_rx_queues: u16,
    /// Transmit queues at most.
    pub max_tx_queues: u16,
    /// Depth of a queue at most, a power of two.
    pub max_depth: u32,
    /// Segments of a sent packet at most.
    pub max_tx_segments: u32,
    /// Buffers of a received packet at most, see [`crate::Oversize::Scatter`].
    pub max_rx_segments: u32,
    /// MTU of the netdev when the port was opened, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The adapter's limit of the MTU, where the kernel tells it.
    pub max_mtu: Option<u32>,
}

impl PortInfo {
    pub(crate) fn of(usable: &Usable) -> Self {
        let (context, limits) = (&usable.context, &usable.limits);
        let device = context.device();
        Self {
            pci: device.pci,
            pci_ids: (device.vendor_id, device.device_id),
            ib_device: device.name.clone(),
            port: usable.port,
            netdev: Some(usable.netdev.name.clone()),
            mac: usable.netdev.mac,
            numa_node: device.numa_node,
            provider: context.provider(),
            provider_note: context.provider_note().to_owned(),
            driver_id: context.driver_id(),
            max_rx_queues: limits.rx_queues,
            max_tx_queues: limits.tx_queues,
            max_depth: limits.depth,
            max_tx_segments: limits.tx_segments,
            max_rx_segments: limits.rx_segments,
            mtu: usable.netdev.mtu,
            max_mtu: usable.netdev.max_mtu,
        }
    }
}
