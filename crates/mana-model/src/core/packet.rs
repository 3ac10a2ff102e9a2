//! Headers of a frame: what RSS and checksums need.

use std::ops::Range;

use gdma::cqe::RxFlags;
use gdma::hash_type;

use crate::checksum::{fold, pseudo_header, sum};
use crate::toeplitz::Toeplitz;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// Where a VLAN tag stands: behind the two MAC addresses.
pub(crate) const TAG: Range<usize> = 12..16;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// An IP packet inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpPacket {
    pub(crate) v6: bool,
    /// Offset of the IP header in the frame.
    pub(crate) ip: usize,
    /// Offset of what follows the IP header and its extensions.
    pub(crate) l4: usize,
    /// End of the IP packet; padding follows.
    pub(crate) end: usize,
    /// The protocol at `l4`.
    pub(crate) protocol: u8,
    /// Part of a fragmented packet.
    pub(crate) fragment: bool,
}

pub(crate) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

/// The VLAN tag right behind the addresses, if there is one: its control information.
pub(crate) fn vlan_tag(frame: &[u8]) -> Option<u16> {
    (word(frame, 12)? == ETHERTYPE_VLAN && frame.len() >= 18)
        .then(|| word(frame, 14))
        .flatten()
}

/// Where the IP header of a frame stands, behind any number of VLAN tags, and whether it is IPv6.
pub(crate) fn ip_header(frame: &[u8]) -> Option<(bool, usize)> {
    let mut at = 12;
    while word(frame, at)? == ETHERTYPE_VLAN {
        at += 4;
    }
    match word(frame, at)? {
        ETHERTYPE_IPV4 => Some((false, at + 2)),
        ETHERTYPE_IPV6 => Some((true, at + 2)),
        _ => None,
    }
}

impl IpPacket {
    /// The IP packet of a frame, behind any number of VLAN tags; `None` if it is none or malformed.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        match ip_header(frame)? {
            (false, ip) => Self::v4(frame, ip),
            (true, ip) => Self::v6(frame, ip),
        }
    }

    fn v4(frame: &[u8], ip: usize) -> Option<Self> {
        let first = *frame.get(ip)?;
        let (l4, end) = (
            ip + 4 * usize::from(first & 15),
            ip + usize::from(word(frame, ip + 2)?),
        );
        let sound = first >> 4 == 4 && l4 >= ip + 20 && l4 <= end && end <= frame.len();
        // More fragments, or an offset.
        let fragment = word(frame, ip + 6)? & 0x3FFF != 0;
        let protocol = *frame.get(ip + 9)?;
        sound.then_some(Self {
            v6: false,
            ip,
            l4,
            end,
            protocol,
            fragment,
        })
    }

    fn v6(frame: &[u8], ip: usize) -> Option<Self> {
        if *frame.get(ip)? >> 4 != 6 {
            return None;
        }
        let end = ip + 40 + usize::from(word(frame, ip + 4)?);
        if end > frame.len() {
            return None;
        }
        let (mut protocol, mut l4) = (*frame.get(ip + 6)?, ip + 40);
        let mut fragment = false;
        loop {
            let length = match protocol {
                // Hop-by-hop, routing, destination options.
                0 | 43 | 60 => 8 + 8 * usize::from(*frame.get(l4 + 1)?),
                44 => {
                    fragment = true;
                    8
                }
                _ => break,
            };
            protocol = *frame.get(l4)?;
            l4 += length;
            if l4 > end {
                return None;
            }
        }
        Some(Self {
            v6: true,
            ip,
            l4,
            end,
            protocol,
            fragment,
        })
    }

    /// Source and destination address.
    pub(crate) fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match self.v6 {
            false => &frame[self.ip + 12..self.ip + 20],
            true => &frame[self.ip + 8..self.ip + 40],
        }
    }

    /// Whether a whole TCP or UDP header is there.
    pub(crate) fn has_l4(&self) -> bool {
        let header = match self.protocol {
            TCP => 20,
            UDP => 8,
            _ => return false,
        };
        !self.fragment && self.end - self.l4 >= header
    }

    /// Offset of the L4 checksum field, for TCP and UDP.
    pub(crate) fn l4_checksum_at(&self) -> usize {
        self.l4 + if self.protocol == TCP { 16 } else { 6 }
    }

    /// The RSS hash and its type (reference/mana-hardware.md §3.7): ports count for TCP and UDP that
    /// is not fragmented. Of `types` alone: where that of the ports is not among them, the addresses
    /// count, where that is neither, nothing does.
    pub(crate) fn hash(&self, frame: &[u8], toeplitz: &Toeplitz, types: u16) -> (u32, u16) {
        let mut input = [0; 36];
        let addresses = self.addresses(frame);
        input[..addresses.len()].copy_from_slice(addresses);
        let with_ports = match (self.v6, self.protocol) {
            (false, TCP) => hash_type::TCP_IPV4,
            (false, _) => hash_type::UDP_IPV4,
            (true, TCP) => hash_type::TCP_IPV6,
            (true, _) => hash_type::UDP_IPV6,
        };
        let mut len = addresses.len();
        let l4 = self.has_l4() && with_ports & types != 0;
        if l4 {
            input[len..len + 4].copy_from_slice(&frame[self.l4..self.l4 + 4]);
            len += 4;
        }
        let covers = match (l4, self.v6) {
            (true, _) => with_ports,
            (false, false) => hash_type::IPV4,
            (false, true) => hash_type::IPV6,
        };
        if covers & types == 0 {
            return (0, 0);
        }
        (toeplitz.hash(&input[..len]), covers)
    }

    /// What the checksums are like. IPv6 has no header checksum; a UDP checksum of zero over IPv4 is
    /// none; fragments are not checked.
    pub(crate) fn checksum_flags(&self, frame: &[u8]) -> RxFlags {
        let mut flags = RxFlags::new();
        if !self.v6 {
            let good = fold(sum(&frame[self.ip..self.ip + header_len(frame, self.ip)])) == 0xFFFF;
            flags.set_ip_checksum_ok(good);
            flags.set_ip_checksum_bad(!good);
            if !good {
                return flags;
            }
        }
        if !self.has_l4() {
            return flags;
        }
        let field = word(frame, self.l4_checksum_at()).unwrap_or(0);
        if self.protocol == UDP && field == 0 {
            // Over IPv6 the checksum is not optional.
            flags.set_udp_checksum_bad(self.v6);
            return flags;
        }
        let length = (self.end - self.l4) as u32;
        let pseudo = pseudo_header(self.addresses(frame), self.protocol, length);
        let good = fold(pseudo + sum(&frame[self.l4..self.end])) == 0xFFFF;
        if self.protocol == TCP {
            flags.set_tcp_checksum_ok(good);
            flags.set_tcp_checksum_bad(!good);
        } else {
            flags.set_udp_checksum_ok(good);
            flags.set_udp_checksum_bad(!good);
        }
        flags
    }
}

/// Length of the IPv4 header at `ip`, which was parsed.
pub(crate) fn header_len(frame: &[u8], ip: usize) -> usize {
    4 * usize::from(frame[ip] & 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toeplitz::VERIFICATION_KEY;

    /// A frame that `ping` and others have sent a million times: ARP has no IP packet.
    #[test]
    fn what_is_no_ip_packet_is_none() {
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(IpPacket::parse(&arp), None);
        assert_eq!(IpPacket::parse(&[]), None);
        let mut short = [0; 33];
        short[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        assert_eq!(IpPacket::parse(&short), None);
    }

    /// The first vector of the RSS verification suite, in a UDP and a fragmented packet.
    #[test]
    fn hashes_cover_ports_only_where_there_are_some() {
        let mut frame = vec![0; 60];
        frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        frame[16..18].copy_from_slice(&46u16.to_be_bytes());
        frame[23] = UDP;
        frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
        frame[34..38].copy_from_slice(&[0x0A, 0xEA, 0x06, 0xE6]);
        let toeplitz = Toeplitz::new(&VERIFICATION_KEY);
        let hash_of = |frame: &[u8], types| {
            IpPacket::parse(frame)
                .unwrap()
                .hash(frame, &toeplitz, types)
        };
        let hash = |frame: &[u8]| hash_of(frame, 0x1FF);
        assert_eq!(hash(&frame), (0x51ccc178, hash_type::UDP_IPV4));
        // Types that the driver did not ask for.
        assert_eq!(
            hash_of(&frame, hash_type::IPV4),
            (0x323e8fc2, hash_type::IPV4)
        );
        assert_eq!(
            hash_of(&frame, hash_type::TCP_IPV4 | hash_type::IPV6),
            (0, 0)
        );
        frame[23] = TCP;
        assert_eq!(hash(&frame), (0x51ccc178, hash_type::TCP_IPV4));
        frame[20] = 0x20; // more fragments
        assert_eq!(hash(&frame), (0x323e8fc2, hash_type::IPV4));
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut frame = vec![0; 100];
        frame[12..15].copy_from_slice(&[0x86, 0xDD, 0x60]);
        frame[18..20].copy_from_slice(&46u16.to_be_bytes());
        frame[20] = 0; // hop-by-hop
        frame[54] = TCP;
        let packet = IpPacket::parse(&frame).unwrap();
        assert_eq!((packet.l4, packet.protocol, packet.end), (62, TCP, 100));
        frame[55] = 200;
        assert_eq!(IpPacket::parse(&frame), None);
    }
}
