//! What software must prepare before a device computes a checksum.

use super::sum::InternetSum;
use super::tx::{TxFlags, TxOffload};
use crate::Mbuf;

/// Why the checksum fields of a packet could not be prepared. The packet is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// Others refer to the buffer.
    #[error("the headers are shared with clones; copy the packet to prepare its checksums")]
    Shared,
    /// The headers named by the header lengths are not all in the first segment.
    #[error("headers of {needed} bytes, the first segment has {len}; check l2_len and l3_len")]
    TooShort {
        /// Bytes of the headers.
        needed: usize,
        /// Bytes of the first segment.
        len: usize,
    },
    /// `l3_len` is no possible length of an IP header of that version.
    #[error("l3_len of {0} bytes is no IP header of that version")]
    L3Len(usize),
    /// At `l2_len` there is no header of the IP version asked for.
    #[error("IP version {found} at byte {at}, the offload asks for {asked}; check l2_len")]
    Version {
        /// Version asked for.
        asked: u8,
        /// Version found.
        found: u8,
        /// `l2_len`.
        at: usize,
    },
    /// The header is longer or shorter than was said.
    #[error("{name} of {said} bytes, the header has {found}")]
    HeaderLength {
        /// `l3_len` or `l4_len`.
        name: &'static str,
        /// Bytes that were said.
        said: usize,
        /// Bytes that the header itself says.
        found: usize,
    },
    /// Another protocol than that of the checksum asked for.
    #[error("IP protocol {found}, the offload asks for {asked}")]
    Protocol {
        /// Protocol of the checksum.
        asked: u8,
        /// Protocol of the packet.
        found: u8,
    },
    /// The IP header says that the packet ends within its headers.
    #[error("the IP header says {0} bytes, which is less than its headers")]
    IpLength(usize),
    /// The IP header says that the packet goes on behind its end.
    #[error("the IP header says {ip} bytes, the packet has {len} behind l2_len")]
    Truncated {
        /// Bytes that the IP header says.
        ip: usize,
        /// Bytes that there are.
        len: usize,
    },
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Mbuf {
    /// Writes into the packet what the checksums of [`Mbuf::tx_offload`] need: 0 into the IPv4
    /// header checksum, the sum of the pseudo header into the TCP or UDP checksum (without the
    /// length, where TSO is asked for). Does nothing if no checksum is asked for. More than once does
    /// no harm.
    ///
    /// # Errors
    /// The first segment's data is shared, or does not hold the headers that the offload promises;
    /// [`Mbuf::pull_up`] brings headers together that lie in several segments.
    pub fn prepare_checksums(&mut self) -> Result<(), ChecksumError> {
        let offload = self.tx_offload();
        let any =
            TxFlags::IPV4_CHECKSUM | TxFlags::TCP_CHECKSUM | TxFlags::UDP_CHECKSUM | TxFlags::TSO;
        if !offload.flags.intersects(any) {
            return Ok(());
        }
        let packet_len = self.packet_len();
        let data = self.data_mut().ok_or(ChecksumError::Shared)?;
        prepare(data, packet_len, offload)
    }
}

/// The same for the bytes of the first segment of a packet.
fn prepare(data: &mut [u8], packet_len: usize, offload: TxOffload) -> Result<(), ChecksumError> {
    let TxOffload {
        flags,
        l2_len,
        l3_len,
        l4_len,
        ..
    } = offload;
    let (l2_len, l3_len) = (usize::from(l2_len), usize::from(l3_len));
    let tso = flags.contains(TxFlags::TSO);
    let v6 = flags.contains(TxFlags::IPV6);
    // A protocol, and where its header has the checksum.
    let transport = if flags.intersects(TxFlags::TCP_CHECKSUM | TxFlags::TSO) {
        Some((TCP, 16))
    } else if flags.contains(TxFlags::UDP_CHECKSUM) {
        Some((UDP, 6))
    } else {
        None
    };

    if v6 && l3_len < 40 || !v6 && (!(20..=60).contains(&l3_len) || !l3_len.is_multiple_of(4)) {
        return Err(ChecksumError::L3Len(l3_len));
    }
    let l4 = l2_len + l3_len;
    let needed = match transport {
        Some(_) if tso => l4 + usize::from(l4_len),
        Some((_, field)) => l4 + field + 2,
        None => l4,
    };
    let len = data.len();
    let Some(headers) = data.get_mut(..needed) else {
        return Err(ChecksumError::TooShort { needed, len });
    };
    let ip = &mut headers[l2_len..];
    let (asked, found) = (if v6 { 6 } else { 4 }, ip[0] >> 4);
    if found != asked {
        return Err(ChecksumError::Version {
            asked,
            found,
            at: l2_len,
        });
    }
    if !v6 && usize::from(ip[0] & 15) * 4 != l3_len {
        return Err(ChecksumError::HeaderLength {
            name: "l3_len",
            said: l3_len,
            found: usize::from(ip[0] & 15) * 4,
        });
    }
    // Behind extension headers of IPv6 the protocol stands in the last of them, wherever that is.
    let found = match v6 {
        true => (l3_len == 40).then_some(ip[6]),
        false => Some(ip[9]),
    };
    if let (Some((asked, _)), Some(found)) = (transport, found)
        && asked != found
    {
        return Err(ChecksumError::Protocol { asked, found });
    }
    if tso && usize::from(ip[l3_len + 12] >> 4) * 4 != usize::from(l4_len) {
        return Err(ChecksumError::HeaderLength {
            name: "l4_len",
            said: usize::from(l4_len),
            found: usize::from(ip[l3_len + 12] >> 4) * 4,
        });
    }
    // Of the IP packet, its header included. With TSO it says nothing: it may exceed 16 bits, and
    // is 0 in a packet that was prepared before.
    let ip_len = match v6 {
        true => 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
        false => usize::from(u16::from_be_bytes([ip[2], ip[3]])),
    };
    if !tso && ip_len > packet_len - l2_len {
        return Err(ChecksumError::Truncated {
            ip: ip_len,
            len: packet_len - l2_len,
        });
    }

    if let Some((protocol, field)) = transport {
        let l4_len = match ip_len.checked_sub(l3_len) {
            _ if tso => 0,
            Some(l4_len) => l4_len as u32,
            None => return Err(ChecksumError::IpLength(ip_len)),
        };
        let addresses = if v6 { &ip[8..40] } else { &ip[12..20] };
        let sum = InternetSum::pseudo_header(addresses, protocol, l4_len).fold();
        ip[l3_len + field..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    if flags.contains(TxFlags::IPV4_CHECKSUM) {
        ip[10..12].fill(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ones' complement sum of `bytes`, by RFC 1071's definition.
    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes
            .chunks(2)
            .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from));
        let mut sum = words.sum::<u64>();
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        sum as u16
    }

    const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

    fn ipv4(protocol: u8, addresses: [[u8; 4]; 2], l4: &[u8]) -> Vec<u8> {
        let len = (20 + l4.len()) as u16;
        let mut packet = ETHERNET.to_vec();
        packet.extend([0x45, 0]);
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0xAA, 0xBB]);
        packet.extend(addresses.concat());
        packet.extend(l4);
        packet
    }

    fn ipv6(next: u8, addresses: [[u8; 16]; 2], payload: &[u8]) -> Vec<u8> {
        let mut packet = ETHERNET.to_vec();
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(addresses.concat());
        packet.extend(payload);
        packet
    }

    fn offload(flags: TxFlags, l3_len: u16) -> TxOffload {
        TxOffload {
            flags,
            l2_len: 14,
            l3_len,
            ..TxOffload::default()
        }
    }

    /// Prepares the packet and completes it as a device does: returns the seed found in the
    /// checksum field, and the checksum of everything from the transport header on.
    fn complete(mut packet: Vec<u8>, offload: TxOffload, field: usize) -> (u16, u16) {
        let len = packet.len();
        prepare(&mut packet, len, offload).unwrap();
        let l4 = &packet[usize::from(offload.l2_len + offload.l3_len)..];
        (u16::from_be_bytes([l4[field], l4[field + 1]]), !sum(l4))
    }

    // Packets with their checksums as captured or published, zeroed here before use.
    const UDP_4: [u8; 12] = [0xBF, 0, 0, 0x35, 0, 0x0C, 0, 0, 0xAA, 0, 0, 0xFF];
    const TCP_4: [u8; 28] = [
        0xBF, 0, 0, 0x50, 1, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0x60, 0x35, 1, 0x23, 0, 0,
        2, 1, 3, 3, 0x0C, 1, 0xAA, 0, 0, 0xFF,
    ];
    const TCP_6: [u8; 20] = [
        0x8D, 0x59, 1, 0xBB, 0xED, 0xB8, 0x70, 0x8B, 0x91, 0x6C, 0x8D, 0x68, 0x50, 0x10, 4, 1, 0,
        0, 0, 0,
    ];
    const HOSTS_4: [[u8; 4]; 2] = [[192, 168, 1, 1], [192, 168, 1, 2]];
    const HOSTS_6: [[u8; 16]; 2] = [
        [
            0x20, 2, 0x18, 0x62, 0x5D, 0xEB, 0, 0, 0xAC, 0xC3, 0x59, 0xAD, 0x84, 0x6B, 0x97, 0x80,
        ],
        [
            0x26, 2, 0xFF, 0x52, 0, 0, 0, 0x6A, 0, 0, 0, 0, 0x1F, 0xD2, 0x94, 0x5A,
        ],
    ];

    #[test]
    fn completing_a_prepared_packet_gives_the_published_checksum() {
        let (v4, v6) = (TxFlags::IPV4, TxFlags::IPV6);
        let udp = offload(v4 | TxFlags::UDP_CHECKSUM, 20);
        assert_eq!(
            complete(ipv4(17, HOSTS_4, &UDP_4), udp, 6),
            (0x8371, 0x124D)
        );
        let tcp = offload(v4 | TxFlags::TCP_CHECKSUM, 20);
        assert_eq!(
            complete(ipv4(6, HOSTS_4, &TCP_4), tcp, 16),
            (0x8376, 0x01B6)
        );
        let tcp = offload(v6 | TxFlags::TCP_CHECKSUM, 40);
        assert_eq!(complete(ipv6(6, HOSTS_6, &TCP_6), tcp, 16).1, 0x0D0E);
        let mut loopback = [[0; 16]; 2];
        loopback[0][15] = 1;
        loopback[1][15] = 1;
        let test = [0x30, 0x39, 0xD4, 0x31, 0, 12, 0, 0, b't', b'e', b's', b't'];
        let udp = offload(v6 | TxFlags::UDP_CHECKSUM, 40);
        assert_eq!(
            complete(ipv6(17, loopback, &test), udp, 6),
            (0x001F, 0x1390)
        );
    }

    #[test]
    fn an_extension_header_counts_neither_as_address_nor_as_length() {
        // Destination options of 8 bytes before the TCP header.
        let mut payload = vec![6, 0, 1, 4, 0, 0, 0, 0];
        payload.extend(TCP_6);
        let tcp = offload(TxFlags::IPV6 | TxFlags::TCP_CHECKSUM, 48);
        assert_eq!(complete(ipv6(60, HOSTS_6, &payload), tcp, 16).1, 0x0D0E);
    }

    #[test]
    fn segmentation_leaves_the_length_out_of_the_sum() {
        let tso = TxOffload {
            l4_len: 24,
            mss: 1,
            ..offload(TxFlags::IPV4 | TxFlags::TSO, 20)
        };
        let (seed, _) = complete(ipv4(6, HOSTS_4, &TCP_4), tso, 16);
        assert_eq!(seed, 0x8376 - TCP_4.len() as u16);
    }

    #[test]
    fn only_the_header_checksum_asked_for_is_zeroed() {
        let packet = ipv4(17, HOSTS_4, &UDP_4);
        let mut prepared = packet.clone();
        prepare(
            &mut prepared,
            packet.len(),
            offload(TxFlags::IPV4 | TxFlags::IPV4_CHECKSUM, 20),
        )
        .unwrap();
        assert_eq!(prepared[24..26], [0, 0]);
        prepared[24..26].copy_from_slice(&packet[24..26]);
        assert_eq!(prepared, packet);
        prepare(
            &mut prepared,
            packet.len(),
            offload(TxFlags::IPV4 | TxFlags::UDP_CHECKSUM, 20),
        )
        .unwrap();
        assert_eq!(prepared[24..26], [0xAA, 0xBB]);
    }

    #[test]
    fn headers_that_are_not_there_are_refused_and_nothing_is_written() {
        let packet = ipv4(17, HOSTS_4, &UDP_4);
        let refused = |cut: usize, l2_len, l3_len, flags| {
            let mut bytes = packet[..cut].to_vec();
            let error = prepare(
                &mut bytes,
                packet.len(),
                TxOffload {
                    l2_len,
                    ..offload(flags, l3_len)
                },
            )
            .unwrap_err();
            assert_eq!(bytes, packet[..cut]);
            error
        };
        let udp = TxFlags::IPV4 | TxFlags::UDP_CHECKSUM;
        assert_eq!(
            refused(41, 14, 20, udp),
            ChecksumError::TooShort {
                needed: 42,
                len: 41
            }
        );
        assert_eq!(refused(46, 14, 16, udp), ChecksumError::L3Len(16));
        assert_eq!(refused(46, 14, 22, udp), ChecksumError::L3Len(22));
        assert_eq!(refused(46, 14, 64, udp), ChecksumError::L3Len(64));
        assert_eq!(
            refused(46, 0, 20, udp),
            ChecksumError::Version {
                asked: 4,
                found: 0,
                at: 0
            }
        );
        let udp6 = TxFlags::IPV6 | TxFlags::UDP_CHECKSUM;
        assert_eq!(refused(46, 14, 39, udp6), ChecksumError::L3Len(39));
        assert_eq!(
            refused(46, 14, 24, udp),
            ChecksumError::HeaderLength {
                name: "l3_len",
                said: 24,
                found: 20
            }
        );
        assert_eq!(
            refused(46, 14, 20, TxFlags::IPV4 | TxFlags::TCP_CHECKSUM),
            ChecksumError::TooShort {
                needed: 52,
                len: 46
            }
        );
        let spoilt = |at: usize, value: u8, flags| {
            let mut spoilt = packet.clone();
            spoilt[at] = value;
            prepare(&mut spoilt, packet.len(), offload(flags, 20)).unwrap_err()
        };
        assert_eq!(spoilt(17, 19, udp), ChecksumError::IpLength(19));
        assert_eq!(
            spoilt(17, 33, udp),
            ChecksumError::Truncated { ip: 33, len: 32 }
        );
        assert_eq!(
            spoilt(23, 6, udp),
            ChecksumError::Protocol {
                asked: 17,
                found: 6
            }
        );
    }

    #[test]
    fn a_tcp_header_of_another_length_is_refused_where_it_is_cut_behind() {
        let mut packet = ipv6(6, HOSTS_6, &TCP_6);
        let tso = |l4_len| TxOffload {
            l4_len,
            mss: 1,
            ..offload(TxFlags::IPV6 | TxFlags::TSO, 40)
        };
        let len = packet.len();
        assert_eq!(
            prepare(&mut packet, len, tso(24)),
            Err(ChecksumError::TooShort {
                needed: 78,
                len: 74
            })
        );
        packet.extend([0; 4]);
        assert_eq!(
            prepare(&mut packet, len + 4, tso(24)),
            Err(ChecksumError::HeaderLength {
                name: "l4_len",
                said: 24,
                found: 20
            })
        );
        assert_eq!(prepare(&mut packet, len + 4, tso(20)), Ok(()));
    }
}
