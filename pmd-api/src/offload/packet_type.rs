//! What a packet is, from a bounded look at its headers.

/// What stands behind the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum L3Type {
    /// Neither IP nor ARP, or a header that is cut off or contradicts itself.
    Unknown,
    /// ARP.
    Arp,
    /// IPv4 without options.
    Ipv4,
    /// IPv4 with options.
    Ipv4Options,
    /// IPv6, the next header right behind.
    Ipv6,
    /// IPv6 with extension headers.
    Ipv6Extensions,
}

/// What stands behind the IP header and its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum L4Type {
    /// Something else, or not to be seen.
    Unknown,
    /// A fragment of a packet; of a first one, too, the transport is not told.
    Fragment,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP or ICMPv6.
    Icmp,
}

/// What a packet is, told by its own headers: nothing is verified but that each header lies within
/// the bytes looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketType {
    /// VLAN tags in the packet (one that the device stripped is none), at most 2.
    pub vlan_tags: u8,
    /// Behind Ethernet header and tags.
    pub l3: L3Type,
    /// Behind the IP header.
    pub l4: L4Type,
    /// Bytes of Ethernet header and tags; 0 where they are cut off.
    pub l2_len: u16,
    /// Bytes of the IP header with its options or extension headers; 0 without one.
    pub l3_len: u16,
}

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88A8;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
/// Extension headers that are followed; more are no sane packet's.
const MAX_EXTENSIONS: usize = 8;

impl PacketType {
    const UNKNOWN: Self = Self {
        vlan_tags: 0,
        l3: L3Type::Unknown,
        l4: L4Type::Unknown,
        l2_len: 0,
        l3_len: 0,
    };

    /// Of a packet that begins with these bytes. Looks at the Ethernet header, two VLAN tags, the IP
    /// header and up to 8 extension headers, as far as `bytes` goes.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::UNKNOWN;
        let mut at = 12;
        let ether_type = loop {
            match u16_at(bytes, at) {
                Some(VLAN | QINQ) if found.vlan_tags < 2 => {
                    found.vlan_tags += 1;
                    at += 4;
                }
                Some(ether_type) => break ether_type,
                None => return Self::UNKNOWN,
            }
        };
        at += 2;
        found.l2_len = at as u16;
        let ip = &bytes[at..];
        match ether_type {
            ARP => found.l3 = L3Type::Arp,
            IPV4 => found.ipv4(ip),
            IPV6 => found.ipv6(ip),
            _ => {}
        }
        found
    }

    fn ipv4(&mut self, ip: &[u8]) {
        let Some(&first) = ip.first() else { return };
        let length = usize::from(first & 15) * 4;
        if first >> 4 != 4 || length < 20 || ip.len() < length {
            return;
        }
        self.l3 = match length {
            20 => L3Type::Ipv4,
            _ => L3Type::Ipv4Options,
        };
        self.l3_len = length as u16;
        // More fragments, or an offset (RFC 791).
        let fragment = u16_at(ip, 6).is_some_and(|word| word & 0x3FFF != 0);
        self.l4 = match fragment {
            true => L4Type::Fragment,
            false => transport(ip[9]),
        };
    }

    fn ipv6(&mut self, ip: &[u8]) {
        if ip.len() < 40 || ip[0] >> 4 != 6 {
            return;
        }
        self.l3 = L3Type::Ipv6;
        let (mut next, mut at) = (ip[6], 40);
        for _ in 0..MAX_EXTENSIONS {
            let length = match next {
                // Hop-by-hop, routing, destination options, mobility, HIP, shim6: RFC 6564.
                0 | 43 | 60 | 135 | 139 | 140 => 8,
                // Fragment: no length of its own (RFC 8200).
                44 => 0,
                // Authentication counts in 4 bytes (RFC 4302).
                51 => 4,
                _ => {
                    self.l3_len = at as u16;
                    self.l4 = transport(next);
                    return;
                }
            };
            // Each is at least 8 bytes long, the fragment header exactly that.
            let Some(&[following, units, high, low, ..]) = ip.get(at..at + 8) else {
                break;
            };
            self.l3 = L3Type::Ipv6Extensions;
            if length == 0 {
                // An atomic fragment is a whole packet (RFC 6946).
                let whole = u16::from_be_bytes([high, low]) & 0xFFF9 == 0;
                if !whole {
                    self.l3_len = (at + 8) as u16;
                    self.l4 = L4Type::Fragment;
                    return;
                }
                at += 8;
            } else if length == 4 {
                at += (usize::from(units) + 2) * 4;
            } else {
                at += (usize::from(units) + 1) * 8;
            }
            if at > ip.len() {
                break;
            }
            next = following;
        }
        // The chain is cut off, or too long: where the transport begins is not known.
        self.l3_len = 40;
    }
}

fn transport(protocol: u8) -> L4Type {
    match protocol {
        6 => L4Type::Tcp,
        17 => L4Type::Udp,
        132 => L4Type::Sctp,
        1 | 58 => L4Type::Icmp,
        _ => L4Type::Unknown,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ethernet(tags: &[u16], ether_type: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        for tag in tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 7]);
        }
        bytes.extend(ether_type.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn ipv4(words: u8, fragment: u16, protocol: u8) -> Vec<u8> {
        let mut header = vec![0; usize::from(words) * 4];
        header[0] = 0x40 | words;
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[9] = protocol;
        header.extend([0; 20]);
        header
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = vec![0; 40];
        header[0] = 0x60;
        header[6] = next;
        header.extend(rest);
        header
    }

    fn parse(bytes: &[u8]) -> (L3Type, L4Type, u16, u16) {
        let found = PacketType::parse(bytes);
        (found.l3, found.l4, found.l2_len, found.l3_len)
    }

    /// Numbers of IANA's registries: EtherTypes, protocol numbers, IPv6 extension headers.
    #[test]
    fn headers_are_named_by_their_registered_numbers() {
        use L3Type::*;
        use L4Type as L4;
        let packet = |header: &[u8]| parse(&ethernet(&[], IPV4, header));
        assert_eq!(packet(&ipv4(5, 0, 6)), (Ipv4, L4::Tcp, 14, 20));
        // Don't fragment is no fragment.
        assert_eq!(packet(&ipv4(5, 0x4000, 17)), (Ipv4, L4::Udp, 14, 20));
        assert_eq!(packet(&ipv4(6, 0, 132)), (Ipv4Options, L4::Sctp, 14, 24));
        assert_eq!(packet(&ipv4(5, 0x2000, 17)), (Ipv4, L4::Fragment, 14, 20));
        assert_eq!(packet(&ipv4(5, 0x0001, 17)), (Ipv4, L4::Fragment, 14, 20));
        assert_eq!(packet(&ipv4(5, 0, 1)), (Ipv4, L4::Icmp, 14, 20));
        assert_eq!(packet(&ipv4(5, 0, 47)), (Ipv4, L4::Unknown, 14, 20));
        let arp = parse(&ethernet(&[], ARP, &[0; 28]));
        assert_eq!(arp, (Arp, L4::Unknown, 14, 0));
        let packet = |header: &[u8]| parse(&ethernet(&[], IPV6, header));
        assert_eq!(packet(&ipv6(6, &[0; 20])), (Ipv6, L4::Tcp, 14, 40));
        assert_eq!(packet(&ipv6(58, &[0; 8])), (Ipv6, L4::Icmp, 14, 40));
        // Hop-by-hop of 8 bytes, destination options of 16, then UDP.
        let mut rest = vec![60, 0, 0, 0, 0, 0, 0, 0, 17, 1];
        rest.resize(8 + 16 + 8, 0);
        assert_eq!(packet(&ipv6(0, &rest)), (Ipv6Extensions, L4::Udp, 14, 64));
        let fragment = [6, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(
            packet(&ipv6(44, &fragment)),
            (Ipv6Extensions, L4::Fragment, 14, 48)
        );
        let atomic = [6, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            packet(&ipv6(44, &atomic)),
            (Ipv6Extensions, L4::Tcp, 14, 48)
        );
        // Cut off within the fragment header: whether it is a fragment is not to be seen.
        assert_eq!(packet(&ipv6(44, &atomic[..7])), (Ipv6, L4::Unknown, 14, 40));
    }

    #[test]
    fn tags_are_counted_up_to_two() {
        for (tags, l2_len) in [(&[][..], 14), (&[VLAN], 18), (&[QINQ, VLAN], 22)] {
            let found = PacketType::parse(&ethernet(tags, IPV4, &ipv4(5, 0, 17)));
            assert_eq!(
                (usize::from(found.vlan_tags), found.l2_len),
                (tags.len(), l2_len)
            );
            assert_eq!(found.l4, L4Type::Udp);
        }
        let three = PacketType::parse(&ethernet(&[VLAN; 3], IPV4, &ipv4(5, 0, 17)));
        assert_eq!((three.vlan_tags, three.l3), (2, L3Type::Unknown));
    }

    #[test]
    fn a_header_that_is_cut_off_or_contradicts_itself_is_unknown() {
        let whole = ethernet(&[], IPV4, &ipv4(5, 0, 6));
        for cut in 0..34 {
            assert_eq!(
                PacketType::parse(&whole[..cut]).l3,
                L3Type::Unknown,
                "{cut}"
            );
        }
        assert_eq!(PacketType::parse(&whole[..34]).l4, L4Type::Tcp);
        for first in [0x44, 0x65, 0x05, 0x4F] {
            let mut bad = whole.clone();
            bad[14] = first;
            assert_eq!(PacketType::parse(&bad).l3, L3Type::Unknown, "{first:#x}");
        }
        // A chain of extension headers that leads out of the packet.
        let endless = ethernet(&[], IPV6, &ipv6(0, &[0; 200]));
        let found = PacketType::parse(&endless);
        assert_eq!(
            (found.l3, found.l4),
            (L3Type::Ipv6Extensions, L4Type::Unknown)
        );
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_the_headers_lie_within_them(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            kind in prop::sample::select(vec![0u16, IPV4, IPV6, VLAN, QINQ, ARP]),
            next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 51, 60]),
        ) {
            if bytes.len() > 40 && kind != 0 {
                bytes[12..14].copy_from_slice(&kind.to_be_bytes());
                bytes[14] = if kind == IPV6 { 0x60 } else { 0x45 };
                bytes[20] = next;
            }
            let found = PacketType::parse(&bytes);
            prop_assert!(usize::from(found.l2_len) + usize::from(found.l3_len) <= bytes.len());
            // What follows the bytes that were looked at changes nothing.
            if found.l4 != L4Type::Unknown {
                let mut longer = bytes.clone();
                longer.extend([0xFF; 64]);
                prop_assert_eq!(PacketType::parse(&longer), found);
            }
        }
    }
}
