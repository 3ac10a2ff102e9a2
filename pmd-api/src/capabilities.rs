//! What a port can do.

/// Whether something can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Support {
    /// It works.
    Yes,
    /// The device does not do it.
    NotByDevice,
    /// The device may do it, but this kernel gives no way to ask for it.
    NotByKernel,
    /// Device and kernel would; this driver does not yet.
    NotYet,
}

impl Support {
    /// Whether it works.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl std::fmt::Display for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::NotByDevice => "no: not by this device",
            Self::NotByKernel => "no: not by this kernel",
            Self::NotYet => "no: not yet by this driver",
        })
    }
}

macro_rules! capabilities {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// What a port can do, item by item.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Capabilities {
            $($(#[$doc])* pub $field: Support,)*
        }

        impl Capabilities {
            /// The same answer to everything, to start from.
            pub fn all(support: Support) -> Self {
                Self { $($field: support,)* }
            }

            /// Names and answers, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, Support)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }
    };
}

capabilities! {
    /// Transmit: IPv4 header checksum.
    tx_ipv4_checksum,
    /// Transmit: TCP checksum.
    tx_tcp_checksum,
    /// Transmit: UDP checksum.
    tx_udp_checksum,
    /// Transmit: VLAN tag insertion.
    tx_vlan_insert,
    /// Transmit: TCP segmentation.
    tx_tso,
    /// Transmit: packets of several segments.
    tx_multi_segment,
    /// Receive: IPv4 header checksum verified.
    rx_ipv4_checksum,
    /// Receive: TCP and UDP checksums verified.
    rx_l4_checksum,
    /// Receive: VLAN tag stripped.
    rx_vlan_strip,
    /// Receive: RSS over several queues.
    rx_rss,
    /// Receive: RSS hash and its type in the packet's metadata.
    rx_hash,
    /// Receive: packets larger than one buffer.
    rx_scatter,
    /// Receive: packet type, told when asked for.
    rx_packet_type,
    /// Receive: up to 8 packets in one completion.
    rx_completion_of_8,
    /// Changing the redirection table while the port runs, as far as device and kernel allow: its
    /// driver says how far.
    reta_update,
    /// Choosing which fields are hashed.
    rss_hash_fields,
    /// Changing the RSS key while the port runs.
    rss_key_update,
    /// Receiving packets for other addresses.
    promiscuous,
    /// Receiving all multicast packets.
    all_multicast,
    /// Changing the MAC address.
    mac_set,
    /// Changing the MTU.
    mtu_set,
    /// Waiting for packets in place of polling.
    rx_interrupt,
    /// Being told that the link has changed.
    link_status,
    /// Counters kept by the device or the kernel.
    device_statistics,
    /// Going on after the device was reset.
    reset_recovery,
    /// Starting and stopping single queues.
    queue_start_stop,
    /// Use by several processes.
    multi_process,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_is_named_with_its_answer() {
        let mut capabilities = Capabilities::all(Support::NotYet);
        capabilities.promiscuous = Support::NotByKernel;
        let named: Vec<_> = capabilities.iter().collect();
        assert_eq!(named[0], ("tx_ipv4_checksum", Support::NotYet));
        assert!(named.contains(&("promiscuous", Support::NotByKernel)));
        assert!(!capabilities.promiscuous.is_yes());
        assert_eq!(format!("{:>8}", Support::Yes), "     yes");
    }
}
