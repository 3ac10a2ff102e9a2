//! Requests that a Linux 6.12 kernel sent over a veth pair, from an interface with the MAC ..:01 and
//! the addresses 192.0.2.1 and 2001:db8::1, and what the kernel at the other end, with ..:02,
//! 192.0.2.2 and 2001:db8::2, replied to the same bytes.

use super::*;
use crate::testpmd::lane::tests::{frames, pool, stream_over, stream_with};
use crate::testpmd::modes::incremental::tests::{bytes, internet_checksum};

const PORT: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x02]);

const WHO_HAS: &str = "ffffffffffff 02005e100001 0806 0001 0800 06 04 0001
    02005e100001 c0000201 000000000000 c0000202";
const IS_AT: &str = "02005e100001 02005e100002 0806 0001 0800 06 04 0002
    02005e100002 c0000202 02005e100001 c0000201";

const SOLICITATION: &str = "3333ff000002 02005e100001 86dd 60000000 0020 3a ff
    20010db8000000000000000000000001 ff0200000000000000000001ff000002
    8700be1600000000 20010db8000000000000000000000002 0101 02005e100001";
const ADVERTISEMENT: &str = "02005e100001 02005e100002 86dd 60000000 0020 3a ff
    20010db8000000000000000000000002 20010db8000000000000000000000001
    88002c6160000000 20010db8000000000000000000000002 0201 02005e100002";
/// Before the kernel uses an address of its own; it has a nonce (RFC 7527).
const DAD: &str = "3333ff100001 02005e100001 86dd 60000000 0020 3a ff
    00000000000000000000000000000000 ff0200000000000000000001ff100001
    8700286f00000000 fe8000000000000000005efffe100001 0e01 3147050fb236";
/// To see whether a neighbour is still there.
const UNICAST_SOLICITATION: &str = "02005e100002 02005e100001 86dd 60000000 0020 3a ff
    fe8000000000000000005efffe100001 fe8000000000000000005efffe100002
    8800a2da60000000 fe8000000000000000005efffe100001 0201 02005e100001";

const ICMP: &str = "12340001 000102030405060708090a0b0c0d0e0f";
const ECHO: &str = "02005e100002 02005e100001 0800 4500002c f3194000 4001 c3b3 c0000201 c0000202
    0800 ad8a 12340001 000102030405060708090a0b0c0d0e0f";
const ECHO_WITH_OPTIONS: &str = "02005e100002 02005e100001 0800 47000034 f3254000 4001 b0d6
    c0000201 c0000202 070708c000020100 0800 ad8a 12340001 000102030405060708090a0b0c0d0e0f";
const ECHO_TO_MULTICAST: &str = "01005e000001 02005e100001 0800 4500002c df054000 0101 f8c8
    c0000201 e0000001 0800 ad8a 12340001 000102030405060708090a0b0c0d0e0f";
const ECHO_TO_BROADCAST: &str = "ffffffffffff 02005e100001 0800 4500002c d6394000 4001 df96
    c0000201 c00002ff 0800 ad8a 12340001 000102030405060708090a0b0c0d0e0f";
const ECHO6: &str = "02005e100002 02005e100001 86dd 600cfad8 0018 3a 40
    20010db8000000000000000000000001 20010db8000000000000000000000002
    8000 d9c2 12340001 000102030405060708090a0b0c0d0e0f";
const ECHO6_TO_MULTICAST: &str = "333300000001 02005e100001 86dd 600ad9c3 0018 3a 01
    fe8000000000000000005efffe100001 ff020000000000000000000000000001
    8000 daa1 12340001 000102030405060708090a0b0c0d0e0f";

fn answers(requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut stream, wire) = stream_with(requests);
    let received = IcmpEcho::new(PORT).forward(&mut stream.lane());
    assert_eq!(received, requests.len());
    let stats = stream.counters().snapshot();
    assert_eq!(stats.tx_dropped, 0);
    frames(&wire)
}

fn answer(request: &[u8]) -> Option<Vec<u8>> {
    answers(&[request.to_vec()]).pop()
}

/// The frame `text` with the bytes at `at` replaced.
fn with(text: &str, at: usize, new: &[u8]) -> Vec<u8> {
    let mut frame = bytes(text);
    frame[at..at + new.len()].copy_from_slice(new);
    frame
}

/// As [`with`], with the IPv4 header's checksum set right.
fn with_header(text: &str, at: usize, new: &[u8]) -> Vec<u8> {
    let mut frame = with(text, at, new);
    frame[24..26].fill(0);
    let sum = internet_checksum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// As [`with`], with the checksum of an ICMPv6 message set right.
fn with_icmpv6(text: &str, at: usize, new: &[u8]) -> Vec<u8> {
    let mut frame = with(text, at, new);
    frame[56..58].fill(0);
    let sum = icmpv6_checksum(&frame);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn icmpv6_checksum(frame: &[u8]) -> u16 {
    let length = [frame[18], frame[19], 0, 58];
    internet_checksum(&[&frame[22..54], &length, &frame[54..]])
}

#[test]
fn an_arp_request_gets_the_kernels_reply() {
    assert_eq!(answer(&bytes(WHO_HAS)), Some(bytes(IS_AT)));
    // Padding to Ethernet's minimum stays.
    let mut padded = bytes(WHO_HAS);
    padded.resize(60, 0);
    let mut reply = bytes(IS_AT);
    reply.resize(60, 0);
    assert_eq!(answer(&padded), Some(reply));
}

#[test]
fn arp_that_is_no_request_of_ethernet_for_ipv4_gets_no_reply() {
    for (at, new) in [
        (14, [0, 6]),
        (16, [0x86, 0xdd]),
        (18, [8, 4]),
        (18, [6, 16]),
        (20, [0, 2]),
        (20, [0, 3]),
    ] {
        assert_eq!(answer(&with(WHO_HAS, at, &new)), None, "{new:?} at {at}");
    }
}

#[test]
fn arp_probes_and_announcements_get_no_reply() {
    assert_eq!(answer(&with(WHO_HAS, 28, &[0, 0, 0, 0])), None);
    assert_eq!(answer(&with(WHO_HAS, 28, &[192, 0, 2, 2])), None);
}

#[test]
fn a_solicitation_gets_the_kernels_advertisement() {
    assert_eq!(answer(&bytes(SOLICITATION)), Some(bytes(ADVERTISEMENT)));
}

#[test]
fn the_advertisement_is_as_long_as_it_is_whatever_the_solicitation_had() {
    // A nonce more, and no option at all, which one to a unicast address may have.
    let mut longer = bytes(SOLICITATION);
    longer.extend(bytes("0e01 000000000000"));
    longer[19] += 8;
    let mut shorter = bytes(SOLICITATION);
    shorter.truncate(78);
    shorter[19] -= 8;
    for mut frame in [longer, shorter] {
        frame[56..58].fill(0);
        let sum = icmpv6_checksum(&frame);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(answer(&frame), Some(bytes(ADVERTISEMENT)));
    }
}

#[test]
fn a_solicitation_that_a_node_must_discard_gets_no_advertisement() {
    for (at, new) in [
        (21, &[254][..]),
        (55, &[1]),
        (62, &[0xff]),
        (79, &[0]),
        (79, &[2]),
        (22, &[0xff]),
    ] {
        let frame = with_icmpv6(SOLICITATION, at, new);
        assert_eq!(answer(&frame), None, "{new:?} at {at}");
    }
    assert_eq!(answer(&with(SOLICITATION, 85, &[2])), None, "checksum");
}

#[test]
fn nobodys_address_is_taken_away() {
    assert_eq!(icmpv6_checksum(&bytes(DAD)), 0);
    assert_eq!(answer(&bytes(DAD)), None);
}

#[test]
fn advertisements_are_not_answered() {
    assert_eq!(answer(&bytes(UNICAST_SOLICITATION)), None);
    assert_eq!(answer(&bytes(ADVERTISEMENT)), None);
}

#[test]
fn an_echo_request_gets_the_kernels_icmp_in_its_own_header() {
    let expected = format!(
        "02005e100001 02005e100002 0800 4500002c f3194000 4001 c3b3 c0000202 c0000201
         0000 b58a {ICMP}"
    );
    assert_eq!(answer(&bytes(ECHO)), Some(bytes(&expected)));
    let expected = format!(
        "02005e100001 02005e100002 0800 47000034 f3254000 4001 b0d6 c0000202 c0000201
         070708c000020100 0000 b58a {ICMP}"
    );
    assert_eq!(answer(&bytes(ECHO_WITH_OPTIONS)), Some(bytes(&expected)));
}

#[test]
fn an_echo_request_to_a_group_is_answered_from_the_neighbouring_address() {
    for request in [ECHO_TO_MULTICAST, ECHO_TO_BROADCAST] {
        let reply = answer(&bytes(request)).unwrap();
        assert_eq!(reply[..12], bytes(IS_AT)[..12]);
        assert_eq!(reply[26..34], [192, 0, 2, 2, 192, 0, 2, 1]);
        assert_eq!(internet_checksum(&[&reply[14..34]]), 0);
        assert_eq!(reply[34..], bytes(&format!("0000 b58a {ICMP}")));
    }
    // testpmd's rule has a second half: who ends in other bits is answered from 01.
    let reply = answer(&with_header(ECHO_TO_MULTICAST, 29, &[7])).unwrap();
    assert_eq!(reply[26..34], [192, 0, 2, 5, 192, 0, 2, 7]);
    assert_eq!(internet_checksum(&[&reply[14..34]]), 0);
}

#[test]
fn what_is_no_whole_echo_request_gets_no_reply() {
    for (at, new) in [
        (14, &[0x65][..]),
        (14, &[0x44]),
        (16, &[0, 19]),
        (16, &[0, 27]),
        (16, &[0, 45]),
        (20, &[0x20, 0]),
        (20, &[0x40, 1]),
        (23, &[17]),
        (26, &[224]),
        (26, &[0, 0, 0, 0]),
        (26, &[255; 4]),
        (34, &[13]),
        (35, &[1]),
    ] {
        let frame = with_header(ECHO, at, new);
        assert_eq!(answer(&frame), None, "{new:?} at {at}");
    }
    assert_eq!(answer(&with(ECHO, 22, &[63])), None, "header checksum");
    assert_eq!(answer(&with(ECHO, 6, &[3])), None, "from a group's MAC");
}

#[test]
fn a_damaged_echo_stays_damaged() {
    let reply = answer(&with(ECHO, 57, &[0xee])).unwrap();
    assert_ne!(internet_checksum(&[&reply[34..]]), 0);
}

#[test]
fn an_icmpv6_echo_request_gets_the_kernels_reply() {
    // The kernel has a flow label of its own.
    let expected = format!(
        "02005e100001 02005e100002 86dd 600cfad8 0018 3a 40
         20010db8000000000000000000000002 20010db8000000000000000000000001 8100 d8c2 {ICMP}"
    );
    assert_eq!(answer(&bytes(ECHO6)), Some(bytes(&expected)));
    // And a hop limit.
    let expected = format!(
        "02005e100001 02005e100002 86dd 600ad9c3 0018 3a 01
         fe8000000000000000005efffe100002 fe8000000000000000005efffe100001 8100 7d12 {ICMP}"
    );
    assert_eq!(answer(&bytes(ECHO6_TO_MULTICAST)), Some(bytes(&expected)));
}

#[test]
fn what_is_no_icmpv6_echo_request_gets_no_reply() {
    for (at, new) in [
        (14, &[0x40][..]),
        (18, &[0, 7]),
        (18, &[0, 25]),
        (20, &[44]),
        (22, &[0xff]),
        (22, &[0; 16]),
        (54, &[129]),
        (54, &[143]),
        (54, &[155]),
        (55, &[1]),
    ] {
        let frame = with(ECHO6, at, new);
        assert_eq!(answer(&frame), None, "{new:?} at {at}");
    }
}

#[test]
fn tags_in_the_frame_stay_where_they_are() {
    for (request, reply) in [(WHO_HAS, IS_AT), (SOLICITATION, ADVERTISEMENT)] {
        let tagged = |text| {
            let mut frame = bytes(text);
            frame.splice(12..12, bytes("88a8 0064 8100 2065"));
            frame
        };
        assert_eq!(answer(&tagged(request)), Some(tagged(reply)));
    }
}

#[test]
fn only_what_is_answered_leaves_and_in_order() {
    let requests = [DAD, WHO_HAS, IS_AT, SOLICITATION, DAD].map(bytes);
    assert_eq!(answers(&requests), [bytes(IS_AT), bytes(ADVERTISEMENT)]);
}

#[test]
fn a_request_cut_off_anywhere_gets_no_reply() {
    for request in [WHO_HAS, ECHO, ECHO_WITH_OPTIONS, ECHO6, SOLICITATION] {
        let request = bytes(request);
        let cuts: Vec<_> = (1..request.len()).map(|n| request[..n].to_vec()).collect();
        for cuts in cuts.chunks(32) {
            assert!(answers(cuts).is_empty());
        }
    }
}

#[test]
fn requests_in_several_segments_or_shared_buffers_are_dropped() {
    let pool = pool(8);
    let (mut stream, wire) = stream_over(&pool, &[]);
    let mut chain = pool.alloc().unwrap();
    chain.extend_from_slice(&bytes(ECHO)[..40]).unwrap();
    let mut tail = pool.alloc().unwrap();
    tail.extend_from_slice(&bytes(ECHO)[40..]).unwrap();
    chain.chain(tail).unwrap();
    let mut shared = pool.alloc().unwrap();
    shared.extend_from_slice(&bytes(ECHO)).unwrap();
    let clone = shared.clone_shared(&pool).unwrap();
    wire.arrive(chain);
    wire.arrive(shared);
    assert_eq!(IcmpEcho::new(PORT).forward(&mut stream.lane()), 2);
    assert!(frames(&wire).is_empty());
    assert_eq!(clone.to_vec(), bytes(ECHO));
    drop(clone);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_buffer_without_room_for_the_advertisement_is_dropped() {
    let pool = pool(8);
    let (mut stream, wire) = stream_over(&pool, &[]);
    let mut frame = bytes(SOLICITATION);
    frame.truncate(78);
    frame[19] -= 8;
    frame[56..58].fill(0);
    let sum = icmpv6_checksum(&frame);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    let mut mbuf = pool.alloc().unwrap();
    let before = mbuf.tailroom() - frame.len();
    mbuf.append(before).unwrap();
    mbuf.adj(before).unwrap();
    mbuf.extend_from_slice(&frame).unwrap();
    wire.arrive(mbuf);
    assert_eq!(IcmpEcho::new(PORT).forward(&mut stream.lane()), 1);
    assert!(frames(&wire).is_empty());
    assert_eq!(pool.in_use(), 0);
}
