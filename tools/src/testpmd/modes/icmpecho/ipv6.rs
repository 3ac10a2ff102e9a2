//! ICMPv6: echo requests (RFC 4443) and neighbour solicitations (RFC 4861).

use std::net::Ipv6Addr;

use smoltcp::wire::{
    EthernetAddress, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Packet, NdiscNeighborFlags,
    NdiscOption, NdiscOptionType,
};

use crate::testpmd::modes::incremental::{follow, follow_address};

/// Bytes of the header.
const HEADER: usize = 40;
/// Bytes of a solicitation or advertisement before its options.
const NEIGHBOUR: usize = 24;
/// Bytes of a link-layer address option for Ethernet.
const LINK_LAYER_OPTION: usize = 8;
/// Bytes of an advertisement with its IPv6 header.
pub const ADVERTISEMENT: usize = HEADER + NEIGHBOUR + LINK_LAYER_OPTION;

/// Makes an echo request its reply. As with IPv4 the checksum follows the change unverified. A
/// request to a group is answered from the link-local address that belongs to `mac`.
pub fn echo(packet: &mut [u8], mac: [u8; 6]) -> Option<()> {
    let mut ip = Ipv6Packet::new_checked(packet).ok()?;
    let (asker, asked) = (ip.src_addr(), ip.dst_addr());
    if ip.version() != 6
        || ip.next_header() != IpProtocol::Icmpv6
        || asker.is_multicast()
        || asker.is_unspecified()
    {
        return None;
    }
    let from = if asked.is_multicast() {
        link_local(mac)
    } else {
        asked
    };
    let mut icmp = Icmpv6Packet::new_checked(ip.payload_mut()).ok()?;
    if icmp.msg_type() != Icmpv6Message::EchoRequest || icmp.msg_code() != 0 {
        return None;
    }
    icmp.set_msg_type(Icmpv6Message::EchoReply);
    // Type and code are one word, and the pseudo-header has both addresses.
    let checksum = follow(icmp.checksum(), 0x8000, 0x8100);
    icmp.set_checksum(follow_address(checksum, &asked.octets(), &from.octets()));
    ip.set_src_addr(from);
    ip.set_dst_addr(asker);
    Some(())
}

/// Whether this is a solicitation to be answered: one that a node must accept (RFC 4861, section
/// 7.1.1), from somebody who has an address.
///
/// Without one (`::`) it is a node that asks whether an address it wants is taken (RFC 4862, section
/// 5.4). An advertisement to all nodes would be due from the owner of that address; here nobody
/// owns any, and the answer would take every address from its node.
pub fn solicits(packet: &[u8]) -> bool {
    let Ok(ip) = Ipv6Packet::new_checked(packet) else {
        return false;
    };
    if ip.version() != 6 || ip.next_header() != IpProtocol::Icmpv6 || ip.hop_limit() != 255 {
        return false;
    }
    let (asker, asked) = (ip.src_addr(), ip.dst_addr());
    let Ok(icmp) = Icmpv6Packet::new_checked(ip.payload()) else {
        return false;
    };
    icmp.msg_type() == Icmpv6Message::NeighborSolicit
        && icmp.msg_code() == 0
        && !icmp.target_addr().is_multicast()
        && !asker.is_multicast()
        && !asker.is_unspecified()
        && ip.payload().get(NEIGHBOUR..).is_some_and(are_options)
        && icmp.verify_checksum(&asker, &asked)
}

/// Whether these are whole options, none without length.
fn are_options(mut options: &[u8]) -> bool {
    while let [_, units, ..] = *options {
        let length = usize::from(units) * 8;
        match options.get(length..) {
            Some(rest) if length > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

/// Makes what [`solicits`] the advertisement that `mac` has the target, whichever it is. `packet`
/// is [`ADVERTISEMENT`] bytes long, whatever the solicitation was.
pub fn advertise(packet: &mut [u8], mac: [u8; 6]) -> Option<()> {
    let mut ip = Ipv6Packet::new_unchecked(packet);
    ip.set_payload_len((NEIGHBOUR + LINK_LAYER_OPTION) as u16);
    ip.check_len().ok()?;
    let asker = ip.src_addr();
    let mut icmp = Icmpv6Packet::new_checked(ip.payload_mut()).ok()?;
    let target = icmp.target_addr();
    icmp.set_msg_type(Icmpv6Message::NeighborAdvert);
    icmp.clear_reserved();
    icmp.set_neighbor_flags(NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE);
    let mut option = NdiscOption::new_unchecked(icmp.payload_mut());
    option.set_option_type(NdiscOptionType::TargetLinkLayerAddr);
    option.set_data_len(1);
    option.set_link_layer_addr(EthernetAddress(mac).into());
    icmp.fill_checksum(&target, &asker);
    ip.set_src_addr(target);
    ip.set_dst_addr(asker);
    Some(())
}

/// The link-local address made of a MAC (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let interface = u128::from(u64::from_be_bytes(interface));
    Ipv6Addr::from_bits(0xfe80 << 112 | interface)
}
