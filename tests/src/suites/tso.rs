//! As LISA's offload tests: TCP packets that are too long for the wire leave in pieces.

use pmd_api::{Batch, Mbuf, TxBurst, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running, tcp};

pub(super) const SUITE: Suite = Suite {
    name: "tso",
    proves: "a TCP packet over IPv4 or IPv6 with any number of options, in one segment or up to the \
             device's limit, its headers apart or cut anywhere, with a tag or without, leaves as \
             frames of the MSS that a receiver puts together to the same bytes",
    needs: Needs::Model,
    prepare: capture,
    run,
};

/// Bytes that one buffer holds.
const ROOM: usize = 9014;
const TCI: u16 = 0xB123;

fn run(rig: &Rig) {
    let plan = Plan {
        packet: ROOM as u32,
        spare: 256,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    for kind in [Kind::TcpV4, Kind::TcpV6] {
        for options in [0, 12, 40] {
            let whole = packet(kind, options, options, 4000);
            for mss in [1448, 536] {
                for place in placings(header(&whole), whole.len()) {
                    leaves_whole(&mut running, &whole, mss, &place, options == 12);
                }
            }
        }
        edges(&mut running, kind);
        longest(&mut running, kind);
        shared_payload(&mut running, kind);
        among_others(&mut running, kind);
    }
    running.finish();
}

/// A TCP packet with so many bytes of TCP options, and of IP options or extension headers, and
/// flags that must not be in every piece.
fn packet(kind: Kind, tcp_options: usize, ip_options: usize, payload: usize) -> Vec<u8> {
    let ip = if kind.v6() { 40 } else { 20 };
    let small = frame(kind, 7, 99, 90);
    let mut whole = small[..14 + ip].to_vec();
    if kind.v6() && ip_options > 0 {
        // Destination options, padded (RFC 8200 §4.6).
        let len = ip_options.next_multiple_of(8).max(8);
        whole[20] = 60;
        whole.extend([6, (len / 8 - 1) as u8, 1, (len - 4) as u8]);
        whole.resize(14 + ip + len, 0);
    } else {
        whole[14] = 0x40 | ((ip + ip_options) / 4) as u8;
        whole.resize(14 + ip + ip_options, 1); // no operation
        if kind.v6() {
            whole[14] = 0x60;
        }
    }
    let tcp = whole.len();
    whole.extend(&small[14 + ip..14 + ip + 20]);
    whole[tcp + 12] = (((20 + tcp_options) / 4) << 4) as u8;
    whole[tcp + 13] = 0x99; // CWR, ACK, PSH, FIN
    whole.resize(tcp + 20 + tcp_options, 1);
    let mut state = payload as u32 | 1;
    for _ in 0..payload {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        whole.push(state as u8);
    }
    let length = whole.len() - 14;
    if kind.v6() {
        whole[18..20].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    } else {
        whole[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    }
    whole
}

/// Bytes of the headers of a packet of [`packet`], and where that of TCP begins.
fn header(whole: &[u8]) -> (usize, usize) {
    let v6 = whole[12] == 0x86;
    let tcp = match (v6, whole[20]) {
        (false, _) => 14 + usize::from(whole[14] & 15) * 4,
        (true, 60) => 54 + 8 * (1 + usize::from(whole[55])),
        (true, _) => 54,
    };
    (tcp + usize::from(whole[tcp + 12] >> 4) * 4, tcp)
}

/// Places to cut the packet at: one segment; headers apart; a cut within the headers, within the
/// payload, two within the headers; and many.
fn placings((header, tcp): (usize, usize), len: usize) -> Vec<Vec<usize>> {
    vec![
        vec![],
        vec![header],
        vec![tcp + 3],
        vec![header + 100],
        vec![14, tcp],
        (1..25).map(|piece| piece * (len / 25)).collect(),
    ]
}

/// The packet as a chain, cut at these places.
fn chain(running: &Running<'_>, whole: &[u8], cuts: &[usize]) -> Mbuf {
    let mut packet: Option<Mbuf> = None;
    let mut start = 0;
    for end in cuts.iter().chain([&whole.len()]) {
        let piece = running.packet(&whole[start..*end]);
        start = *end;
        match &mut packet {
            Some(packet) => packet.chain(piece).expect("a chain"),
            None => packet = Some(piece),
        }
    }
    packet.expect("a piece")
}

/// What is asked for.
fn offload(whole: &[u8], mss: usize, tag: bool) -> TxOffload {
    let (header, tcp) = header(whole);
    let version = match whole[12] {
        0x86 => TxFlags::IPV6,
        _ => TxFlags::IPV4,
    };
    let vlan = if tag { TxFlags::VLAN } else { TxFlags::empty() };
    TxOffload {
        flags: TxFlags::TSO | version | vlan,
        vlan_tci: TCI,
        l2_len: 14,
        l3_len: (tcp - 14) as u16,
        l4_len: (header - tcp) as u16,
        mss: mss as u16,
    }
}

/// Prepares and sends one packet; returns the frames that left, without their tags.
fn sent(running: &mut Running<'_>, mut mbuf: Mbuf, offload: TxOffload) -> Vec<Vec<u8>> {
    mbuf.set_tx_offload(offload).expect("a request");
    let mut batch = Batch::with_capacity(1);
    batch.push(mbuf).expect("room");
    // Twice: the second time changes nothing.
    for _ in 0..2 {
        let prepared = running.queues.tx[0].tx_prepare(&mut batch);
        prepared.expect("a packet that can be cut");
    }
    running.send(0, batch.into_iter().collect());
    running.settle();
    let mut frames = running.rig.device().take_tx_frames();
    if offload.flags.contains(TxFlags::VLAN) {
        let [a, b] = TCI.to_be_bytes();
        for frame in &mut frames {
            let tag: Vec<u8> = frame.drain(12..16).collect();
            assert_eq!(tag, [0x81, 0x00, a, b]);
        }
    }
    frames
}

fn leaves_whole(running: &mut Running<'_>, whole: &[u8], mss: usize, cuts: &[usize], tag: bool) {
    let mbuf = chain(running, whole, cuts);
    let frames = sent(running, mbuf, offload(whole, mss, tag));
    let payload = &whole[header(whole).0..];
    assert_eq!(frames.len(), payload.len().div_ceil(mss));
    assert!(
        tcp::reassemble(whole, &frames, mss) == payload,
        "cut at {cuts:?} by {mss}: bytes changed"
    );
}

/// One byte, a frame, one more, many small ones, one of the largest.
fn edges(running: &mut Running<'_>, kind: Kind) {
    let largest = 9014 - header(&packet(kind, 0, 0, 1)).0;
    for (payload, mss) in [
        (1, 1),
        (1, 1448),
        (1447, 1448),
        (1448, 1448),
        (1449, 1448),
        (2896, 1448),
        (300, 1),
        (largest, largest),
        (largest, 16383),
    ] {
        let whole = packet(kind, 0, 0, payload);
        leaves_whole(running, &whole, mss, &[], payload % 2 == 0);
    }
    // The headers as long as their length can say.
    let full = if kind.v6() { 255 - 54 - 60 } else { 40 };
    let whole = packet(kind, 40, full / 8 * 8, 2000);
    leaves_whole(running, &whole, 1000, &[], true);
}

/// As many bytes as an IP packet has, in as many elements as the device takes: headers cut off by
/// the driver are one.
fn longest(running: &mut Running<'_>, kind: Kind) {
    let most = running.port.info().max_tx_segments as usize;
    let whole = packet(kind, 12, 0, 65_400);
    let apart = header(&whole).0;
    let step = (whole.len() - apart).div_ceil(most - 1);
    let by_itself: Vec<usize> = (0..most - 1).map(|piece| apart + piece * step).collect();
    for tag in [false, true] {
        leaves_whole(running, &whole, 1448, &by_itself, tag);
        leaves_whole(running, &whole, 1448, &by_itself[1..], tag);
    }
}

/// Headers of its own before a payload that others send, too.
fn shared_payload(running: &mut Running<'_>, kind: Kind) {
    let whole = packet(kind, 0, 0, 5000);
    let apart = header(&whole).0;
    let mut payload = running.packet(&whole[apart..]);
    for _ in 0..3 {
        // Once the headers end where the payload begins, and once they reach into it.
        for cut in [apart, apart - 5] {
            let mut front = running.packet(&whole[..cut]);
            if cut < apart {
                front
                    .chain(running.packet(&whole[cut..apart]))
                    .expect("a chain");
            }
            let clone = payload.clone_shared(&running.tx_pool).expect("a clone");
            front.chain(clone).expect("a chain");
            let frames = sent(running, front, offload(&whole, 1000, false));
            assert!(tcp::reassemble(&whole, &frames, 1000) == whole[apart..]);
        }
    }
    assert_eq!(payload.data(), &whole[apart..]);
}

/// A burst of packets of every kind keeps its order.
fn among_others(running: &mut Running<'_>, kind: Kind) {
    let whole = packet(kind, 0, 0, 3000);
    let plain = frame(Kind::UdpV4, 1, 1, 100);
    let mut batch = Batch::with_capacity(5);
    for index in 0..5 {
        let mut mbuf = running.packet(if index % 2 == 1 { &whole } else { &plain });
        if index % 2 == 1 {
            mbuf.set_tx_offload(offload(&whole, 1448, false))
                .expect("a request");
        }
        batch.push(mbuf).expect("room");
    }
    running.queues.tx[0]
        .tx_prepare(&mut batch)
        .expect("all can be sent");
    running.send(0, batch.into_iter().collect());
    running.settle();
    let frames = running.rig.device().take_tx_frames();
    assert_eq!(frames.len(), 3 + 2 * 3);
    for at in [0, 4, 8] {
        assert!(frames[at] == plain);
    }
    for at in [1, 5] {
        let bytes = tcp::reassemble(&whole, &frames[at..at + 3], 1448);
        assert!(bytes == whole[header(&whole).0..]);
    }
}
