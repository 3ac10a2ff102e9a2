//! Where the headers of a frame lie: what forward modes that change more than MAC addresses need.
//!
//! A walk over what is in a packet's first segment, bounded by it: two VLAN tags, IPv4 with options,
//! IPv6 with extension headers, TCP and UDP. Every offset it returns was checked against the bytes
//! there are, and every end against the packet.

/// Ethernet types.
pub const IPV4: u16 = 0x0800;
/// As [`IPV4`].
pub const IPV6: u16 = 0x86DD;
/// A customer's VLAN tag (IEEE 802.1Q) and a provider's in front of it (802.1ad).
const CUSTOMER_TAG: u16 = 0x8100;
const PROVIDER_TAG: u16 = 0x88A8;
const MAX_TAGS: usize = 2;
/// IPv6 extension headers before the walk gives up; no stack sends half as many.
const MAX_EXTENSIONS: usize = 8;

/// Protocol numbers (IANA).
pub const TCP: u8 = 6;
/// As [`TCP`].
pub const UDP: u8 = 17;

/// What follows the Ethernet header and its VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tagged {
    /// Its Ethernet type.
    pub kind: u16,
    /// Where it starts, in bytes from the start of the frame.
    pub start: usize,
    /// Whether one of the tags is other than an 802.1Q one.
    pub provider_tag: bool,
}

/// Walks over the VLAN tags of a frame, of which a third one is what follows. `None` if the frame
/// ends before.
#[inline]
pub fn behind_tags(data: &[u8]) -> Option<Tagged> {
    let mut tagged = Tagged {
        kind: word(data, 12)?,
        start: 14,
        provider_tag: false,
    };
    for _ in 0..MAX_TAGS {
        if !matches!(tagged.kind, CUSTOMER_TAG | PROVIDER_TAG) {
            break;
        }
        tagged.provider_tag |= tagged.kind == PROVIDER_TAG;
        tagged.kind = word(data, tagged.start + 2)?;
        tagged.start += 4;
    }
    Some(tagged)
}

/// Version of an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// 4.
    V4,
    /// 6.
    V6,
}

/// The headers of an IP packet. All offsets are bytes from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Version of the IP header.
    pub version: IpVersion,
    /// Start of the IP header.
    pub ip: usize,
    /// Start of what follows the IP header with its options or extension headers.
    pub l4: usize,
    /// End of the IP packet; what follows is padding.
    pub end: usize,
    /// Protocol of what starts at `l4`.
    pub protocol: u8,
    /// Whether this is a fragment of an IP packet.
    pub fragment: bool,
    /// Whether a tag other than an 802.1Q one stands before the IP header.
    pub provider_tag: bool,
    /// The TCP or UDP header, if the packet has a whole one whose checksum can be told: not in a
    /// fragment, and not behind a routing header with hops to go (the checksum then covers an
    /// address that is not the header's destination, RFC 8200 §8.1).
    pub transport: Option<Transport>,
}

/// A TCP or UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// TCP, otherwise UDP.
    pub tcp: bool,
    /// Length of the header in bytes.
    pub header: usize,
    /// End of the bytes that its checksum covers.
    pub end: usize,
    /// Where the checksum stands.
    pub checksum: usize,
}

impl Headers {
    /// Finds the headers of a packet of `packet_len` bytes whose first segment is `data`. `None` if
    /// it is not IP, or the IP header contradicts itself or the length of the packet.
    #[inline]
    pub fn parse(data: &[u8], packet_len: usize) -> Option<Headers> {
        let tagged = behind_tags(data)?;
        let headers = match tagged.kind {
            IPV4 => Self::v4(data, tagged.start)?,
            IPV6 => Self::v6(data, tagged.start)?,
            _ => return None,
        };
        if headers.end > packet_len {
            return None;
        }
        Some(Headers {
            provider_tag: tagged.provider_tag,
            ..headers
        })
    }

    fn v4(data: &[u8], ip: usize) -> Option<Headers> {
        let header: &[u8; 20] = data.get(ip..)?.first_chunk()?;
        let l4 = ip + 4 * usize::from(header[0] & 15);
        let end = ip + usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || l4 < ip + 20 || l4 > end || l4 > data.len() {
            return None;
        }
        // More fragments, or an offset.
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
        let protocol = header[9];
        Some(Headers {
            version: IpVersion::V4,
            ip,
            l4,
            end,
            protocol,
            fragment,
            provider_tag: false,
            transport: if fragment {
                None
            } else {
                Transport::at(data, l4, end, protocol)
            },
        })
    }

    fn v6(data: &[u8], ip: usize) -> Option<Headers> {
        let header: &[u8; 40] = data.get(ip..)?.first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let end = ip + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (mut protocol, mut l4) = (header[6], ip + 40);
        let (mut fragment, mut on_the_way) = (false, false);
        for _ in 0..MAX_EXTENSIONS {
            // Hop-by-hop and destination options, routing, fragment (RFC 8200 §4).
            if !matches!(protocol, 0 | 43 | 44 | 60) {
                break;
            }
            let extension: &[u8; 8] = data.get(l4..)?.first_chunk()?;
            let mut length = 8;
            match protocol {
                // An offset, or more fragments; one that is alone is a whole packet (RFC 6946).
                44 => fragment |= u16::from_be_bytes([extension[2], extension[3]]) & 0xFFF9 != 0,
                _ => length += 8 * usize::from(extension[1]),
            }
            on_the_way |= protocol == 43 && extension[3] != 0;
            protocol = extension[0];
            l4 += length;
            if l4 > end || l4 > data.len() {
                return None;
            }
        }
        Some(Headers {
            version: IpVersion::V6,
            ip,
            l4,
            end,
            protocol,
            fragment,
            provider_tag: false,
            transport: if fragment || on_the_way {
                None
            } else {
                Transport::at(data, l4, end, protocol)
            },
        })
    }

    /// Source and destination address, from the bytes that were parsed.
    #[inline]
    pub fn addresses<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        match self.version {
            IpVersion::V4 => &data[self.ip + 12..self.ip + 20],
            IpVersion::V6 => &data[self.ip + 8..self.ip + 40],
        }
    }
}

impl Transport {
    fn at(data: &[u8], l4: usize, end: usize, protocol: u8) -> Option<Transport> {
        match protocol {
            TCP => {
                let header: &[u8; 20] = data.get(l4..)?.first_chunk()?;
                let length = 4 * usize::from(header[12] >> 4);
                (length >= 20 && l4 + length <= end).then_some(Transport {
                    tcp: true,
                    header: length,
                    end,
                    checksum: l4 + 16,
                })
            }
            UDP => {
                let header: &[u8; 8] = data.get(l4..)?.first_chunk()?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                (length >= 8 && l4 + length <= end).then_some(Transport {
                    tcp: false,
                    header: 8,
                    end: l4 + length,
                    checksum: l4 + 6,
                })
            }
            _ => None,
        }
    }
}

#[inline]
fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub mod tests {
    //! Packets of published captures, and what is cut from them.

    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    /// First packet of Wireshark's sample capture dns.cap from its IP header on: a query for
    /// google.com. IPv4 header checksum 6547, UDP checksum 85ed.
    pub const DNS_CAP: [u8; 56] = [
        0x45, 0x00, 0x00, 0x38, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x65, 0x47, 0xc0, 0xa8, 0xaa,
        0x08, 0xc0, 0xa8, 0xaa, 0x14, // IPv4
        0x80, 0x1b, 0x00, 0x35, 0x00, 0x24, 0x85, 0xed, // UDP
        0x10, 0x32, 0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x67, 0x6f,
        0x6f, 0x67, 0x6c, 0x65, 0x03, 0x63, 0x6f, 0x6d, 0x00, 0x00, 0x10, 0x00, 0x01,
    ];

    /// First packet of Wireshark's sample capture http.cap from its IP header on: a SYN with
    /// options. IPv4 header checksum 91eb, TCP checksum c30c.
    pub const HTTP_CAP: [u8; 48] = [
        0x45, 0x00, 0x00, 0x30, 0x0f, 0x41, 0x40, 0x00, 0x80, 0x06, 0x91, 0xeb, 0x91, 0xfe, 0xa0,
        0xed, 0x41, 0xd0, 0xe4, 0xdf, // IPv4
        0x0d, 0x2c, 0x00, 0x50, 0x38, 0xaf, 0xfe, 0x13, 0x00, 0x00, 0x00, 0x00, 0x70, 0x02, 0x22,
        0x38, 0xc3, 0x0c, 0x00, 0x00, // TCP
        0x02, 0x04, 0x05, 0xb4, 0x01, 0x01, 0x04, 0x02, // options
    ];

    /// A published acknowledgement over IPv6 (pmd-api's tests have it, too). TCP checksum 0d0e.
    pub const TCP_OVER_IPV6: [u8; 60] = [
        0x60, 0, 0, 0, 0, 20, 6, 64, // IPv6
        0x20, 0x02, 0x18, 0x62, 0x5D, 0xEB, 0, 0, 0xAC, 0xC3, 0x59, 0xAD, 0x84, 0x6B, 0x97, 0x80,
        0x26, 0x02, 0xFF, 0x52, 0, 0, 0, 0x6A, 0, 0, 0, 0, 0x1F, 0xD2, 0x94,
        0x5A, // addresses
        0x8D, 0x59, 0x01, 0xBB, 0xED, 0xB8, 0x70, 0x8B, 0x91, 0x6C, 0x8D, 0x68, 0x50, 0x10, 4, 1,
        0x0D, 0x0E, 0, 0,
    ];

    /// An Ethernet frame with these tags around an IP packet.
    pub fn frame(tags: &[u16], ip: &[u8]) -> Vec<u8> {
        let mut frame = MACS.to_vec();
        for (number, tag) in tags.iter().enumerate() {
            frame.extend(tag.to_be_bytes());
            frame.extend([0x20, number as u8 + 1]);
        }
        let kind = if ip[0] >> 4 == 4 { IPV4 } else { IPV6 };
        frame.extend(kind.to_be_bytes());
        frame.extend(ip);
        frame
    }

    /// The IPv6 packet with extension headers before what it carries. The chain is made of
    /// (protocol, the rest of the header behind its first byte).
    pub fn extended(ip: &[u8], chain: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = ip[..40].to_vec();
        let last = packet[6];
        for (index, (protocol, rest)) in chain.iter().enumerate() {
            if index == 0 {
                packet[6] = *protocol;
            }
            packet.push(chain.get(index + 1).map_or(last, |next| next.0));
            packet.extend(*rest);
        }
        packet.extend(&ip[40..]);
        let length = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn parse(frame: &[u8]) -> Option<Headers> {
        Headers::parse(frame, frame.len())
    }

    #[test]
    fn captured_packets_are_taken_apart_behind_no_one_and_two_tags() {
        for (tags, ip) in [(&[][..], 14), (&[0x8100], 18), (&[0x88A8, 0x8100], 22)] {
            let mut padded = frame(tags, &HTTP_CAP);
            padded.extend([0; 6]);
            let expected = Headers {
                version: IpVersion::V4,
                ip,
                l4: ip + 20,
                end: ip + 48,
                protocol: 6,
                fragment: false,
                provider_tag: tags.len() == 2,
                transport: Some(Transport {
                    tcp: true,
                    header: 28,
                    end: ip + 48,
                    checksum: ip + 36,
                }),
            };
            assert_eq!(parse(&padded), Some(expected));
            let udp = parse(&frame(tags, &DNS_CAP)).unwrap();
            let transport = udp.transport.unwrap();
            assert_eq!((transport.tcp, transport.header), (false, 8));
            assert_eq!((transport.checksum, transport.end), (ip + 26, ip + 56));
        }
        assert_eq!(parse(&frame(&[0x8100; 3], &DNS_CAP)), None);
    }

    #[test]
    fn extension_headers_are_walked_and_too_many_are_not() {
        let options: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
        let hops: (u8, &[u8]) = (0, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let arrived: (u8, &[u8]) = (43, &[0, 4, 0, 0, 0, 0, 0]);
        let on_the_way: (u8, &[u8]) = (43, &[0, 4, 1, 0, 0, 0, 0]);
        let alone: (u8, &[u8]) = (44, &[0, 0, 0, 0, 0, 0, 9]);
        let first: (u8, &[u8]) = (44, &[0, 0, 1, 0, 0, 0, 9]);
        let walk = |chain: &[(u8, &[u8])]| {
            let packet = parse(&frame(&[], &extended(&TCP_OVER_IPV6, chain))).unwrap();
            let offset = packet.transport.map(|transport| transport.checksum - 16);
            (packet.protocol, packet.l4, packet.fragment, offset)
        };
        assert_eq!(walk(&[]), (6, 54, false, Some(54)));
        assert_eq!(walk(&[hops, arrived, options]), (6, 86, false, Some(86)));
        assert_eq!(walk(&[on_the_way]), (6, 62, false, None));
        assert_eq!(walk(&[alone]), (6, 62, false, Some(62)));
        assert_eq!(walk(&[first]), (6, 62, true, None));
        assert_eq!(walk(&[options; 8]), (6, 118, false, Some(118)));
        assert_eq!(walk(&[options; 9]), (60, 118, false, None));
    }

    #[test]
    fn headers_that_contradict_themselves_or_the_packet_are_none() {
        let spoilt = |at: usize, value: u8| {
            let mut frame = frame(&[], &HTTP_CAP);
            frame[14 + at] = value;
            parse(&frame)
        };
        assert_eq!(spoilt(0, 0x44), None, "header of 16 bytes");
        assert_eq!(spoilt(0, 0x55), None, "version 5");
        assert_eq!(spoilt(3, 49), None, "longer than the frame");
        assert_eq!(spoilt(3, 19), None, "shorter than its header");
        let transport = |at, value| spoilt(at, value).unwrap().transport;
        assert_eq!(transport(32, 0x40), None, "TCP header of 16 bytes");
        assert_eq!(transport(32, 0x80), None, "TCP header behind the end");
        assert_eq!(transport(6, 0x20), None, "more fragments");
        assert_eq!(transport(7, 0x01), None, "a later fragment");
        let mut dns = frame(&[], &DNS_CAP);
        dns[39] = 37;
        assert_eq!(parse(&dns).unwrap().transport, None, "UDP behind the end");
        dns[39] = 7;
        assert_eq!(parse(&dns).unwrap().transport, None, "UDP of 7 bytes");
        let mut arp = frame(&[], &DNS_CAP);
        arp[13] = 6;
        assert_eq!(parse(&arp), None);
    }

    #[test]
    fn whatever_is_cut_off_or_spoilt_nothing_beyond_the_bytes_is_touched() {
        let options: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
        let long = extended(&TCP_OVER_IPV6, &[options, options]);
        for whole in [
            frame(&[0x8100], &HTTP_CAP),
            frame(&[], &DNS_CAP),
            frame(&[0x88A8, 0x8100], &long),
        ] {
            for cut in 0..=whole.len() {
                for at in 0..cut {
                    for value in [0, 1, 0x7F, 0xFF] {
                        let mut bytes = whole[..cut].to_vec();
                        bytes[at] = value;
                        // A chain: the packet goes on behind this segment.
                        for packet_len in [cut, whole.len() + 200] {
                            let Some(headers) = Headers::parse(&bytes, packet_len) else {
                                continue;
                            };
                            assert!(headers.l4 <= cut && headers.l4 <= headers.end);
                            assert!(headers.end <= packet_len);
                            headers.addresses(&bytes);
                            if let Some(transport) = headers.transport {
                                assert!(transport.checksum + 2 <= cut);
                                assert!(transport.end <= headers.end);
                            }
                        }
                    }
                }
            }
        }
    }
}
