//! What a MANA port can do through the kernel's interface.

use pmd_api::{Capabilities, Support};

use crate::limits::Limits;

/// Of every port the same but for interrupts. What mana_ib does not offer:
/// reference/mana-hardware.md §4.2, §4.6; what this driver does not do yet stands in docs/features.md.
pub(crate) fn capabilities(limits: &Limits) -> Capabilities {
    let mut can = Capabilities::all(Support::NotYet);
    can.tx_ipv4_checksum = Support::Yes;
    can.tx_tcp_checksum = Support::Yes;
    can.tx_udp_checksum = Support::Yes;
    can.tx_vlan_insert = Support::Yes;
    can.tx_tso = Support::Yes;
    can.tx_multi_segment = Support::Yes;
    can.rx_ipv4_checksum = Support::Yes;
    can.rx_l4_checksum = Support::Yes;
    can.rx_vlan_strip = Support::Yes;
    can.rx_rss = Support::Yes;
    can.rx_hash = Support::Yes;
    can.rx_scatter = Support::Yes;
    can.rx_packet_type = Support::Yes;
    // mana_ib asks for 4 (§3.6); completions of 8 would be taken.
    can.rx_completion_of_8 = Support::NotByKernel;
    // Receive queues are made together, by the RSS queue pair (§4.6).
    can.queue_start_stop = Support::NotByKernel;
    // By making the receive queues anew, with a gap: `Port::set_rss_table`.
    can.rss_key_update = Support::Yes;
    can.reta_update = Support::Yes;
    can.mtu_set = Support::Yes;
    can.rx_interrupt = match limits.silent {
        true => Support::NotByKernel,
        false => Support::Yes,
    };
    // The kernel tells of the netdev, which is DOWN while a port runs.
    can.link_status = Support::NotByKernel;
    can.reset_recovery = Support::Yes;
    // Through a netdev of the function that is UP: see `Port::refresh_missed`.
    can.device_statistics = Support::Yes;
    can.rss_hash_fields = Support::NotByKernel;
    can.promiscuous = Support::NotByKernel;
    can.all_multicast = Support::NotByKernel;
    can.mac_set = Support::NotByDevice;
    can
}
