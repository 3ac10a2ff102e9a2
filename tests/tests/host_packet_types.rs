//! What the parser of packet types says, held against what tcpdump reads in the same frames.

#![forbid(unsafe_code)]

use conformance::host::Host;
use conformance::packets::{self, Kind};
use pmd_api::{L3Type, L4Type, PacketType};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Identification of a fragment that is the whole packet: tcpdump tells no more of it.
const ATOMIC: u8 = 10;

/// An Ethernet frame behind tags, each a type and a TCI.
fn ethernet(tags: &[(u16, u16)], ether_type: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (kind, tci) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(rest);
    frame
}

/// An IPv4 header with options and a payload.
fn ipv4(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let total = (usize::from(words) * 4 + payload.len()) as u16;
    let mut packet = vec![0x40 | words, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for last in [1, 2] {
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// A header of so many times 8 bytes, filled with a PadN option, before `rest`.
fn extension(next: u8, eights: u8, rest: &[u8]) -> Vec<u8> {
    let padding = eights * 8 - 4;
    let mut header = vec![next, eights - 1, 1, padding];
    header.resize(usize::from(eights) * 8, 0);
    [&header, rest].concat()
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let ports = [0x30, 0x39, 0x30, 0x3a];
    [&ports[..], &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn tcp() -> Vec<u8> {
    let mut header = vec![0x30, 0x39, 0x30, 0x3a, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2];
    header.extend([0x10, 0, 0, 0, 0, 0]);
    header
}

/// An SCTP COOKIE ACK.
fn sctp() -> Vec<u8> {
    vec![0x30, 0x39, 0x30, 0x3a, 0, 0, 0, 1, 0, 0, 0, 0, 11, 0, 0, 4]
}

fn echo(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 1, 0, 1]
}

/// Frames, in the order in which they are captured.
fn frames() -> Vec<Vec<u8>> {
    let router_alert = [0x94, 4, 0, 0];
    let nops = [1; 40];
    let (customer, service) = ((0x8100, 0x6005), (0x88A8, 100));
    let fragment = |offset: u16, more: u16, next| {
        let word = ((offset << 3) | more).to_be_bytes();
        let whole = offset == 0 && more == 0;
        [
            next,
            0,
            word[0],
            word[1],
            0,
            0,
            0,
            if whole { ATOMIC } else { 9 },
        ]
    };
    let routing = [UDP, 2, 4, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8];
    let routing = [&routing[..], &[0; 11], &[9]].concat();
    // Authentication of 24 bytes: 4 words more than 2.
    let authentication = [&[UDP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1][..], &[5; 12]].concat();
    let mut frames: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| packets::frame(*kind, 1, 1, 90))
        .collect();
    frames.extend([
        ethernet(&[], IPV4, &ipv4(&[], 0, SCTP, &sctp())),
        ethernet(&[], IPV4, &ipv4(&router_alert, 0, UDP, &udp(&[7; 9]))),
        ethernet(&[], IPV4, &ipv4(&nops, 0, TCP, &tcp())),
        ethernet(&[], IPV4, &ipv4(&[], 0x2000, UDP, &udp(&[7; 8]))),
        ethernet(&[], IPV4, &ipv4(&[], 0x4000, TCP, &tcp())),
        ethernet(&[], IPV4, &ipv4(&[], 0, 50, &[0, 0, 0, 1, 0, 0, 0, 1])),
        ethernet(&[customer], IPV4, &ipv4(&[], 0, UDP, &udp(&[7; 9]))),
        ethernet(&[service, customer], IPV4, &ipv4(&[], 0, TCP, &tcp())),
        ethernet(&[customer, customer], IPV6, &ipv6(58, &echo(128))),
        ethernet(&[customer], IPV6, &ipv6(SCTP, &sctp())),
        ethernet(&[], IPV6, &ipv6(0, &extension(UDP, 1, &udp(&[7; 9])))),
        ethernet(
            &[],
            IPV6,
            &ipv6(0, &extension(60, 2, &extension(TCP, 3, &tcp()))),
        ),
        ethernet(
            &[],
            IPV6,
            &ipv6(43, &[&routing[..], &udp(&[7; 9])].concat()),
        ),
        ethernet(
            &[],
            IPV6,
            &ipv6(44, &[&fragment(0, 1, UDP)[..], &udp(&[7; 8])].concat()),
        ),
        ethernet(
            &[],
            IPV6,
            &ipv6(44, &[&fragment(64, 0, UDP)[..], &[7; 16]].concat()),
        ),
        ethernet(
            &[],
            IPV6,
            &ipv6(44, &[&fragment(0, 0, TCP)[..], &tcp()].concat()),
        ),
        ethernet(
            &[],
            IPV6,
            &ipv6(51, &[&authentication[..], &udp(&[7; 9])].concat()),
        ),
        ethernet(&[], IPV6, &ipv6(59, &[])),
        ethernet(
            &[],
            0x88CC,
            &[2, 7, 4, 2, 0, 0, 0, 0, 2, 4, 2, 7, 1, 6, 2, 0, 120, 0, 0],
        ),
    ]);
    frames
}

/// A capture in the classic format.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_3C4D, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [1, 0, length, length] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend(frame);
    }
    file
}

/// The type that tcpdump's text of a frame names.
fn told(text: &str) -> (u8, L3Type, L4Type) {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let tags = text.matches("vlan ").count() as u8;
    let l3 = if has(&["ethertype ARP"]) {
        L3Type::Arp
    } else if has(&["ethertype IPv4"]) && has(&["options ("]) {
        L3Type::Ipv4Options
    } else if has(&["ethertype IPv4"]) {
        L3Type::Ipv4
    } else if has(&["HBH", "DSTOPT", "RT6", "srcrt", "frag (", "AH("]) {
        L3Type::Ipv6Extensions
    } else if has(&["ethertype IPv6"]) {
        L3Type::Ipv6
    } else {
        L3Type::Unknown
    };
    let whole = text.contains(&format!("frag ({ATOMIC:#010x}:0|"));
    let later = has(&["frag ("]) || text.contains("offset ") && !text.contains("offset 0,");
    let l4 = if !whole && (later || has(&["flags [+]"])) {
        L4Type::Fragment
    } else if has(&["Flags ["]) {
        L4Type::Tcp
    } else if has(&["sctp"]) {
        L4Type::Sctp
    } else if has(&["ICMP echo", "ICMP6, echo"]) {
        L4Type::Icmp
    } else if has(&["UDP,", "udp"]) {
        L4Type::Udp
    } else {
        L4Type::Unknown
    };
    (tags, l3, l4)
}

#[test]
fn tcpdump_sees_in_every_frame_what_the_parser_says() {
    let Some(host) = Host::or_skip("tcpdump_sees_in_every_frame_what_the_parser_says") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames.pcap");
    let frames = frames();
    std::fs::write(&path, pcap(&frames)).expect("the capture");
    let line = format!("tcpdump -Z root -nn -e -v -t -r {}", path.display());
    let text = host.run(&line).success();
    // What belongs to a frame begins at the margin; the rest of it is indented.
    let mut said: Vec<String> = Vec::new();
    for line in text.lines() {
        match said.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(line),
            _ => said.push(line.to_owned()),
        }
    }
    assert_eq!(said.len(), frames.len(), "{text}");
    for (frame, said) in frames.iter().zip(&said) {
        let parsed = PacketType::parse(frame);
        let parsed = (parsed.vlan_tags, parsed.l3, parsed.l4);
        assert_eq!(parsed, told(said), "{said}\n{frame:02x?}");
    }
}
