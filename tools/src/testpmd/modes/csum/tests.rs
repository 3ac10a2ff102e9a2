//! Packets of published captures, spoilt and mended: in software, and by a device that knows
//! nothing but RFC 1071 and what it is asked for.

use super::*;
use crate::testpmd::headers::tests::{DNS_CAP, HTTP_CAP, TCP_OVER_IPV6, extended, frame};
use crate::testpmd::lane::Stream;
use crate::testpmd::lane::tests::{FakeRx, FakeTx, Wire, frames, pool, stream_with};
use std::sync::Arc;

const SOURCE: Mac = Mac([0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn mode(choice: &str) -> Csum {
    let mut by_device = ByDevice::default();
    by_device.take_choice(choice).unwrap();
    Csum::new(SOURCE, PEER, by_device)
}

/// The frame as it must leave: with the mode's addresses.
fn addressed(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&PEER.0);
    frame[6..12].copy_from_slice(&SOURCE.0);
    frame
}

/// What the mode makes of these frames, and what it asks the device for.
fn forwarded(choice: &str, arriving: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<TxOffload>) {
    let (mut stream, wire) = stream_with(arriving);
    assert_eq!(mode(choice).forward(&mut stream.lane()), arriving.len());
    assert_eq!(stream.counters().snapshot().tx_dropped, 0);
    (frames(&wire), wire.sent_offloads())
}

/// The ones' complement sum of 16-bit words, an odd last byte padded (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// A device: adds up what the header lengths name, trusting the fields to hold what software owes
/// (0, and the sum of the pseudo header). `end` is the end of the IP packet.
fn device(frame: &mut [u8], offload: &TxOffload, end: usize) {
    let ip = usize::from(offload.l2_len);
    let l4 = ip + usize::from(offload.l3_len);
    let mut write = |at: usize, from: usize, to: usize| {
        let checksum = !sum(&frame[from..to]);
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    };
    if offload.flags.contains(TxFlags::IPV4_CHECKSUM) {
        write(ip + 10, ip, l4);
    }
    if offload.flags.contains(TxFlags::TCP_CHECKSUM) {
        write(l4 + 16, l4, end);
    }
    if offload.flags.contains(TxFlags::UDP_CHECKSUM) {
        write(l4 + 6, l4, end);
    }
}

const OPTIONS: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);

/// Frames with right checksums, each with the end of its IP packet and its checksum fields.
fn published() -> Vec<(Vec<u8>, usize, Vec<usize>)> {
    let mut padded = frame(&[], &HTTP_CAP);
    padded.extend([0xEE; 9]);
    vec![
        (frame(&[], &DNS_CAP), 70, vec![24, 40]),
        (padded, 62, vec![24, 50]),
        (frame(&[0x8100], &DNS_CAP), 74, vec![28, 44]),
        (frame(&[0x8100, 0x8100], &HTTP_CAP), 70, vec![32, 58]),
        (frame(&[], &TCP_OVER_IPV6), 74, vec![70]),
        (
            frame(&[], &extended(&TCP_OVER_IPV6, &[OPTIONS])),
            82,
            vec![78],
        ),
    ]
}

fn spoilt(frame: &[u8], fields: &[usize]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for at in fields {
        frame[*at] ^= 0x5A;
        frame[at + 1] ^= 0xC3;
    }
    frame
}

#[test]
fn software_mends_every_published_packet() {
    for (right, _, fields) in published() {
        let (sent, offloads) = forwarded("sw", &[spoilt(&right, &fields), right.clone()]);
        assert_eq!(sent, [addressed(right.clone()), addressed(right)]);
        assert_eq!(offloads, [TxOffload::default(); 2]);
    }
}

#[test]
fn a_device_mends_every_published_packet_by_what_it_is_asked_for() {
    for (right, end, fields) in published() {
        for choice in ["hw", "ip=hw", "udp=hw,tcp=hw"] {
            let (mut sent, offloads) = forwarded(choice, &[spoilt(&right, &fields)]);
            device(&mut sent[0], &offloads[0], end);
            assert_eq!(sent[0], addressed(right.clone()), "{choice}");
        }
    }
}

#[test]
fn the_device_is_asked_by_protocol_with_the_lengths_of_the_headers() {
    let offload = |choice, frame: Vec<u8>| forwarded(choice, &[frame]).1[0];
    let (v4, v6) = (TxFlags::IPV4, TxFlags::IPV6);
    let (ip, udp, tcp) = (
        TxFlags::IPV4_CHECKSUM,
        TxFlags::UDP_CHECKSUM,
        TxFlags::TCP_CHECKSUM,
    );
    let expected = |flags, l2_len, l3_len, l4_len| TxOffload {
        flags,
        l2_len,
        l3_len,
        l4_len,
        ..TxOffload::default()
    };
    let (dns, http) = (frame(&[], &DNS_CAP), frame(&[0x8100], &HTTP_CAP));
    let six = frame(&[], &extended(&TCP_OVER_IPV6, &[OPTIONS]));
    assert_eq!(
        offload("hw", dns.clone()),
        expected(v4 | ip | udp, 14, 20, 8)
    );
    assert_eq!(
        offload("hw", http.clone()),
        expected(v4 | ip | tcp, 18, 20, 28)
    );
    assert_eq!(offload("hw", six.clone()), expected(v6 | tcp, 14, 48, 20));
    assert_eq!(offload("ip=hw", dns.clone()), expected(v4 | ip, 14, 20, 8));
    assert_eq!(offload("tcp=hw", http), expected(v4 | tcp, 18, 20, 28));
    assert_eq!(offload("tcp=hw", dns), TxOffload::default());
    assert_eq!(offload("ip=hw", six), TxOffload::default());
}

#[test]
fn what_the_device_is_not_known_to_reach_software_computes() {
    // A provider's tag; UDP that ends before its IP packet does; a transport header beyond byte
    // 1023, which no request can say.
    let mut short_udp = DNS_CAP;
    short_udp[25] = 0x23;
    short_udp[26..28].copy_from_slice(&[0, 1]);
    let far: (u8, &[u8]) = (60, &[124; 1000 - 1]);
    for (right, fields) in [
        (frame(&[0x88A8, 0x8100], &DNS_CAP), vec![32, 48]),
        (frame(&[], &extended(&TCP_OVER_IPV6, &[far])), vec![1070]),
    ] {
        let (sent, offloads) = forwarded("hw", &[spoilt(&right, &fields)]);
        assert_eq!(sent, [addressed(right)]);
        assert_eq!(offloads, [TxOffload::default()]);
    }
    let (sent, offloads) = forwarded("hw", &[frame(&[], &short_udp)]);
    assert_eq!(offloads, [TxOffload::default()]);
    let covered = [&sent[0][26..34], &[0, 17, 0, 0x23], &sent[0][34..69]].concat();
    assert_eq!(sum(&covered), 0xFFFF);
}

#[test]
fn an_absent_udp_checksum_stays_absent_over_ipv4_and_is_computed_over_ipv6() {
    let mut dns = frame(&[], &DNS_CAP);
    dns[40..42].fill(0);
    for choice in ["sw", "hw"] {
        let (sent, offloads) = forwarded(choice, &[dns.clone()]);
        assert_eq!(sent[0][40..42], [0, 0], "{choice}");
        assert!(!offloads[0].flags.contains(TxFlags::UDP_CHECKSUM));
    }
    // The packet with the published checksum 1390: `test` from ::1 to ::1.
    let mut six = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
    six.extend([[0; 15].as_slice(), &[1], &[0; 15], &[1]].concat());
    six.extend([0x30, 0x39, 0xD4, 0x31, 0, 12, 0, 0, b't', b'e', b's', b't']);
    let (sent, _) = forwarded("sw", &[frame(&[], &six)]);
    assert_eq!(sent[0][60..62], [0x13, 0x90]);
}

#[test]
fn a_udp_checksum_that_adds_up_to_zero_is_written_as_ffff() {
    // The last word of the payload is chosen so that everything adds up to ffff.
    let mut dns = frame(&[], &DNS_CAP);
    let at = dns.len() - 2;
    dns[at..].fill(0);
    dns[40..42].fill(0);
    let covered = [&dns[26..34], &[0, 17, 0, 36], &dns[34..]].concat();
    let rest = !sum(&covered);
    dns[at..].copy_from_slice(&rest.to_be_bytes());
    dns[40] = 1;
    let (sent, _) = forwarded("sw", &[dns]);
    assert_eq!(sent[0][40..42], [0xFF, 0xFF]);
}

#[test]
fn of_a_fragment_only_the_ipv4_header_is_mended() {
    for choice in ["sw", "hw"] {
        let mut fragment = frame(&[], &HTTP_CAP);
        fragment[20] = 0x20;
        let (mut sent, offloads) = forwarded(choice, &[spoilt(&fragment, &[24])]);
        device(&mut sent[0], &offloads[0], 62);
        assert_eq!(sum(&sent[0][14..34]), 0xFFFF, "{choice}");
        assert_eq!(sent[0][34..], fragment[34..], "{choice}");
    }
}

#[test]
fn what_is_no_whole_ip_packet_gets_addresses_and_nothing_else() {
    let mut arp = frame(&[], &DNS_CAP);
    arp[13] = 6;
    let truncated = frame(&[], &HTTP_CAP)[..61].to_vec();
    let runt = vec![7; 11];
    for choice in ["sw", "hw"] {
        let arriving = [arp.clone(), truncated.clone(), runt.clone()];
        let (sent, offloads) = forwarded(choice, &arriving);
        let expected = [
            addressed(arp.clone()),
            addressed(truncated.clone()),
            runt.clone(),
        ];
        assert_eq!(sent, expected);
        assert_eq!(offloads, [TxOffload::default(); 3]);
    }
}

/// A stream on which a packet of these segments arrives.
fn chained(segments: &[&[u8]]) -> (Stream<FakeRx, FakeTx>, Arc<Wire>) {
    let (stream, wire) = stream_with(&[]);
    let pool = pool(8);
    let mut packet = pool.alloc().unwrap();
    packet.extend_from_slice(segments[0]).unwrap();
    for segment in &segments[1..] {
        let mut next = pool.alloc().unwrap();
        next.extend_from_slice(segment).unwrap();
        packet.chain(next).unwrap();
    }
    wire.arrive(packet);
    (stream, wire)
}

#[test]
fn payload_is_added_up_over_segments_of_odd_lengths() {
    let right = frame(&[], &DNS_CAP);
    let wrong = spoilt(&right, &[24, 40]);
    for (first, second) in [(42, 1), (43, 4), (45, 24), (51, 6)] {
        let (head, rest) = wrong.split_at(first);
        let (middle, tail) = rest.split_at(second);
        let (mut stream, wire) = chained(&[head, middle, tail]);
        mode("sw").forward(&mut stream.lane());
        assert_eq!(frames(&wire), [addressed(right.clone())]);
        assert_eq!(wire.sent_segments()[0].len(), 3);
    }
    // The UDP header is cut: only what lies in the first segment can be told.
    let (mut stream, wire) = chained(&[&wrong[..40], &wrong[40..]]);
    mode("hw").forward(&mut stream.lane());
    assert_eq!(frames(&wire)[0][34..], wrong[34..]);
}

#[test]
fn packets_shared_with_a_clone_are_dropped_and_counted_and_no_buffer_is_lost() {
    let (mut stream, wire) = stream_with(&[frame(&[], &DNS_CAP), frame(&[], &HTTP_CAP)]);
    let pool = pool(8);
    let mut original = pool.alloc().unwrap();
    original.extend_from_slice(&frame(&[], &DNS_CAP)).unwrap();
    let clone = original.clone_shared(&pool).unwrap();
    wire.arrive(clone);
    assert_eq!(mode("hw").forward(&mut stream.lane()), 3);
    assert_eq!(original.to_vec(), frame(&[], &DNS_CAP));
    let stats = stream.counters().snapshot();
    assert_eq!((stats.tx_packets, stats.tx_dropped), (2, 1));
    drop(original);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn whatever_is_cut_off_or_spoilt_nothing_panics() {
    let six = extended(&TCP_OVER_IPV6, &[OPTIONS, OPTIONS]);
    for whole in [
        frame(&[0x8100], &HTTP_CAP),
        frame(&[], &DNS_CAP),
        frame(&[0x88A8, 0x8100], &six),
    ] {
        for choice in ["sw", "hw"] {
            for at in 12..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0xFF;
                let cut = whole[..at].to_vec();
                let (sent, _) = forwarded(choice, &[bytes.clone(), cut.clone()]);
                assert_eq!((sent[0].len(), sent[1].len()), (bytes.len(), cut.len()));
            }
        }
    }
}

/// A packet of HTTP_CAP's connection with so much payload.
fn long(payload: usize) -> Vec<u8> {
    let mut ip = HTTP_CAP.to_vec();
    ip.resize(48 + payload, 0x5A);
    ip[2..4].copy_from_slice(&(48 + payload as u16).to_be_bytes());
    frame(&[], &ip)
}

#[test]
fn tcp_packets_with_more_payload_are_for_the_device_to_cut() {
    let mut by_device = ByDevice::default();
    by_device.take_mss("500").unwrap();
    let (mut stream, wire) = stream_with(&[long(501), long(500), frame(&[], &DNS_CAP)]);
    let mut mode = Csum::new(SOURCE, PEER, by_device);
    assert_eq!(mode.forward(&mut stream.lane()), 3);
    let offloads = wire.sent_offloads();
    let cut = TxOffload {
        flags: TxFlags::TSO | TxFlags::IPV4,
        l2_len: 14,
        l3_len: 20,
        l4_len: 28,
        mss: 500,
        ..TxOffload::default()
    };
    assert_eq!(offloads, [cut, TxOffload::default(), TxOffload::default()]);
    // The others have their checksums from software.
    let left = frames(&wire);
    let pseudo = |packet: &[u8]| [&packet[26..34], &[0, 6], &528u16.to_be_bytes()].concat();
    assert_eq!(sum(&[&pseudo(&left[1]), &left[1][34..]].concat()), 0xFFFF);
    assert_eq!(left[2], addressed(frame(&[], &DNS_CAP)));
    // For the first it is the sum without the length (as DPDK's rte_ipv4_phdr_cksum for TSO).
    let seed = [&left[0][26..34], &[0, 6]].concat();
    assert_eq!(left[0][50..52], sum(&seed).to_be_bytes());
}
