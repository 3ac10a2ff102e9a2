//! ARP requests (RFC 826).

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpHardware, ArpOperation, ArpPacket, EthernetProtocol};

/// Makes a request the reply that `mac` has the address, whichever it is.
///
/// A probe (from 0.0.0.0) and an announcement (for the sender's own address) get no reply: their
/// senders would take it for a conflict and give up their address (RFC 5227, section 2).
pub fn answer(packet: &mut [u8], mac: [u8; 6]) -> Option<()> {
    let mut arp = ArpPacket::new_checked(packet).ok()?;
    let is_request = arp.hardware_type() == ArpHardware::Ethernet
        && arp.protocol_type() == EthernetProtocol::Ipv4
        && arp.hardware_len() == 6
        && arp.protocol_len() == 4
        && arp.operation() == ArpOperation::Request;
    if !is_request {
        return None;
    }
    let asker: [u8; 6] = *arp.source_hardware_addr().first_chunk()?;
    let asker_ip: [u8; 4] = *arp.source_protocol_addr().first_chunk()?;
    let asked_ip: [u8; 4] = *arp.target_protocol_addr().first_chunk()?;
    if Ipv4Addr::from(asker_ip).is_unspecified() || asker_ip == asked_ip {
        return None;
    }
    arp.set_operation(ArpOperation::Reply);
    arp.set_source_hardware_addr(&mac);
    arp.set_source_protocol_addr(&asked_ip);
    arp.set_target_hardware_addr(&asker);
    arp.set_target_protocol_addr(&asker_ip);
    Some(())
}
