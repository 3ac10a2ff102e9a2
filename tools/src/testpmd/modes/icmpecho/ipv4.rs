//! ICMP echo requests (RFC 792).

use std::net::Ipv4Addr;

use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};

use crate::testpmd::modes::incremental::{follow, follow_address};

/// Makes an echo request its reply. `asks_group` tells that the frame went to a group.
///
/// The ICMP checksum is not verified but follows the change: if the request was damaged, so is the
/// reply, and the sender finds out. Options stay as they are. Fragments get no reply: nothing
/// is put together here.
pub fn echo(packet: &mut [u8], asks_group: bool) -> Option<()> {
    let mut ip = Ipv4Packet::new_checked(packet).ok()?;
    let is_whole = ip.version() == 4
        && ip.next_header() == IpProtocol::Icmp
        && !ip.more_frags()
        && ip.frag_offset() == 0
        && ip.verify_checksum();
    let (asker, asked) = (ip.src_addr(), ip.dst_addr());
    if !is_whole || asker.is_multicast() || asker.is_broadcast() || asker.is_unspecified() {
        return None;
    }
    let mut icmp = Icmpv4Packet::new_checked(ip.payload_mut()).ok()?;
    if icmp.msg_type() != Icmpv4Message::EchoRequest || icmp.msg_code() != 0 {
        return None;
    }
    icmp.set_msg_type(Icmpv4Message::EchoReply);
    icmp.set_checksum(follow(icmp.checksum(), 0x0800, 0x0000));

    let from = if asks_group || asked.is_multicast() || asked.is_broadcast() {
        neighbour(asker)
    } else {
        asked
    };
    ip.set_src_addr(from);
    ip.set_dst_addr(asker);
    ip.set_checksum(follow_address(
        ip.checksum(),
        &asked.octets(),
        &from.octets(),
    ));
    Some(())
}

/// The address from which a request to a group is answered, by testpmd's rule: the asker's with the
/// last two bits 01, or 10 where it has those itself.
fn neighbour(asker: Ipv4Addr) -> Ipv4Addr {
    let asker = asker.to_bits();
    let last = if asker & 3 == 1 { 2 } else { 1 };
    Ipv4Addr::from_bits(asker & !3 | last)
}
