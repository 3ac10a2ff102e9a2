//! 5tswap: packets leave with source and destination exchanged in every layer: MAC, IPv4 or IPv6
//! address, TCP or UDP port. Sums do not care for order, so every checksum stays as valid as it was.
//!
//! As in testpmd, what has no such layer leaves with the outer ones exchanged. Unlike there, only the
//! first fragment of an IPv4 packet has ports, the others have data in their place; and an IPv6 packet
//! may have extension headers before its ports.

use super::ForwardMode;
use crate::testpmd::headers::{Headers, IpVersion, TCP, UDP};
use crate::testpmd::lane::Lane;

/// The mode; it has no state.
pub struct FiveTupleSwap;

impl ForwardMode for FiveTupleSwap {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received == 0 {
            return 0;
        }
        for mbuf in lane.batch.iter_mut() {
            let length = mbuf.packet_len();
            if let Some(data) = mbuf.data_mut() {
                swap(data, length);
            }
        }
        lane.insert_tags();
        lane.transmit_all();
        received
    }
}

/// Exchanges what is in the first segment of a packet of `packet_len` bytes.
fn swap(data: &mut [u8], packet_len: usize) {
    let headers = Headers::parse(data, packet_len);
    exchange(data, 0, 6);
    let Some(headers) = headers else {
        return;
    };
    match headers.version {
        IpVersion::V4 => exchange(data, headers.ip + 12, 4),
        IpVersion::V6 => exchange(data, headers.ip + 8, 16),
    }
    if has_ports(&headers, data) {
        exchange(data, headers.l4, 2);
    }
}

fn has_ports(headers: &Headers, data: &[u8]) -> bool {
    let first = match headers.version {
        _ if !headers.fragment => true,
        IpVersion::V4 => data[headers.ip + 6] & 0x1f == 0 && data[headers.ip + 7] == 0,
        IpVersion::V6 => false,
    };
    first && matches!(headers.protocol, TCP | UDP) && headers.l4 + 4 <= headers.end
}

/// Exchanges two neighbouring fields of `length` bytes each, where both are there.
fn exchange(data: &mut [u8], at: usize, length: usize) {
    if let Some(fields) = data.get_mut(at..at + 2 * length) {
        fields.rotate_left(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::headers::tests::{DNS_CAP, TCP_OVER_IPV6, extended};
    use crate::testpmd::lane::tests::{frames, stream_with};
    use crate::testpmd::modes::incremental::tests::{bytes, internet_checksum};

    const MACS: &str = "02005e100002 02005e100001";
    const SWAPPED_MACS: &str = "02005e100001 02005e100002";

    fn swapped(frame: Vec<u8>) -> Vec<u8> {
        let (mut stream, wire) = stream_with(&[frame]);
        assert_eq!(FiveTupleSwap.forward(&mut stream.lane()), 1);
        frames(&wire).pop().unwrap()
    }

    /// The query of [`DNS_CAP`] in a frame, 192.168.170.8:32795 to 192.168.170.20:53.
    fn query(between: &str) -> Vec<u8> {
        [bytes(MACS), bytes(between), DNS_CAP.to_vec()].concat()
    }

    fn swapped_query(between: &str) -> Vec<u8> {
        let mut packet = DNS_CAP;
        packet[12..20].copy_from_slice(&[192, 168, 170, 20, 192, 168, 170, 8]);
        packet[20..24].copy_from_slice(&bytes("0035 801b"));
        [bytes(SWAPPED_MACS), bytes(between), packet.to_vec()].concat()
    }

    #[test]
    fn macs_addresses_and_ports_are_exchanged_and_the_checksums_still_hold() {
        let reply = swapped(query("0800"));
        assert_eq!(reply, swapped_query("0800"));
        assert_eq!(internet_checksum(&[&reply[14..34]]), 0);
        let pseudo = [&reply[26..34], &[0, 17], &reply[38..40], &reply[34..]];
        assert_eq!(internet_checksum(&pseudo), 0);
    }

    #[test]
    fn ipv6_and_tcp_likewise() {
        let reply = swapped([&bytes(MACS), &bytes("86dd")[..], &TCP_OVER_IPV6].concat());
        let mut packet = TCP_OVER_IPV6;
        packet[8..24].copy_from_slice(&TCP_OVER_IPV6[24..40]);
        packet[24..40].copy_from_slice(&TCP_OVER_IPV6[8..24]);
        packet[40..44].copy_from_slice(&bytes("01bb 8d59"));
        let expected = [&bytes(SWAPPED_MACS), &bytes("86dd")[..], &packet].concat();
        assert_eq!(reply, expected);
        let pseudo = [&reply[22..54], &[0, 6, 0, 20], &reply[54..]];
        assert_eq!(internet_checksum(&pseudo), 0);
    }

    #[test]
    fn ports_behind_extension_headers_are_found() {
        let options = &[0, 1, 4, 0, 0, 0, 0][..];
        let packet = extended(&TCP_OVER_IPV6, &[(60, options)]);
        let reply = swapped([&bytes(MACS), &bytes("86dd"), &packet[..]].concat());
        assert_eq!(reply[54..62], packet[40..48]);
        assert_eq!(reply[62..66], bytes("01bb 8d59"));
    }

    #[test]
    fn ports_of_tcp_are_exchanged_and_nothing_of_other_protocols() {
        let with_protocol = |mut frame: Vec<u8>, protocol| {
            frame[23] = protocol;
            frame
        };
        for protocol in [6, 17] {
            assert_eq!(
                swapped(with_protocol(query("0800"), protocol)),
                with_protocol(swapped_query("0800"), protocol)
            );
        }
        for protocol in [1, 47, 132] {
            let mut expected = with_protocol(swapped_query("0800"), protocol);
            expected[34..38].copy_from_slice(&bytes("801b 0035"));
            assert_eq!(swapped(with_protocol(query("0800"), protocol)), expected);
        }
    }

    #[test]
    fn tags_in_the_frame_stay_where_they_are() {
        let tags = "88a8 0064 8100 2065 0800";
        assert_eq!(swapped(query(tags)), swapped_query(tags));
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let fragment = |mut frame: Vec<u8>, offset: [u8; 2]| {
            frame[20..22].copy_from_slice(&offset);
            frame
        };
        let first = [0x20, 0];
        assert_eq!(
            swapped(fragment(query("0800"), first)),
            fragment(swapped_query("0800"), first)
        );
        for later in [[0x20, 1], [0x01, 0]] {
            let mut expected = fragment(swapped_query("0800"), later);
            expected[34..38].copy_from_slice(&bytes("801b 0035"));
            assert_eq!(swapped(fragment(query("0800"), later)), expected);
        }
    }

    #[test]
    fn what_is_no_ip_has_its_macs_exchanged() {
        for rest in ["0806 0001 0800 0604 0001", "0800 00", "86dd", ""] {
            let frame = bytes(&[MACS, rest].concat());
            let expected = bytes(&[SWAPPED_MACS, rest].concat());
            assert_eq!(swapped(frame), expected);
        }
        assert_eq!(swapped(vec![1, 2, 3]), [1, 2, 3]);
    }
}
