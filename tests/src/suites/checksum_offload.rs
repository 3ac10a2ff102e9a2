//! As DTS "checksum offload": judged by RFC 1071 over the frames that left.

use pmd_api::{Checksum, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, ip_header};
use crate::{Plan, Rig, Running, rfc1071};

pub(super) const SUITE: Suite = Suite {
    name: "checksum_offload",
    proves: "IPv4 header, TCP and UDP checksums that were asked for are right in the frame that \
             leaves, over IPv4 and IPv6, short and long, in one segment or two, with a tag or \
             without, and received ones are judged right or wrong",
    needs: Needs::Model,
    prepare: capture,
    run,
};

const SIZES: [usize; 6] = [80, 81, 127, 1513, 1514, 8999];

fn run(rig: &Rig) {
    let plan = Plan {
        packet: 9014,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    for kind in Kind::TRANSPORT {
        for size in SIZES {
            sent(&mut running, kind, size);
            received(&mut running, kind, size);
        }
    }
    nothing_asked(&mut running);
    running.finish();
}

/// A frame with spoilt checksums leaves with right ones: alone, in two segments, with a tag.
fn sent(running: &mut Running<'_>, kind: Kind, size: usize) {
    let right = frame(kind, 3, size as u32, size);
    let mut spoilt = right.clone();
    let l4 = 14 + ip_header(kind);
    let field = l4 + if kind.protocol() == 6 { 16 } else { 6 };
    spoilt[field..field + 2].copy_from_slice(&[0xDE, 0xAD]);
    if !kind.v6() {
        spoilt[24..26].copy_from_slice(&[0xBE, 0xEF]);
    }
    assert!(rfc1071::verify(&spoilt).is_err());

    for (segments, tag) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut mbuf = running.packet(&spoilt[..size - 5 * (segments - 1)]);
        if segments == 2 {
            let tail = running.packet(&spoilt[size - 5..]);
            mbuf.chain(tail).expect("a chain");
        }
        mbuf.set_tx_offload(request(kind, tag))
            .expect("a request that makes sense");
        mbuf.prepare_checksums().expect("headers in one segment");
        running.send(0, vec![mbuf]);
        running.settle();
        let mut left = running.rig.device().take_tx_frames();
        assert_eq!(left.len(), 1);
        if tag {
            let tag: Vec<u8> = left[0].drain(12..16).collect();
            assert_eq!(tag, [0x81, 0x00, 0x01, 0x23]);
        }
        let what = format!("{kind:?}, {size} bytes, {segments} segments, tag {tag}");
        assert_eq!(rfc1071::verify(&left[0]), Ok(()), "{what}");
        assert!(left[0] == right, "{what}: more changed");
    }
}

/// Every checksum of that kind.
fn request(kind: Kind, tag: bool) -> TxOffload {
    let version = if kind.v6() {
        TxFlags::IPV6
    } else {
        TxFlags::IPV4 | TxFlags::IPV4_CHECKSUM
    };
    let transport = if kind.protocol() == 6 {
        TxFlags::TCP_CHECKSUM
    } else {
        TxFlags::UDP_CHECKSUM
    };
    let vlan = if tag { TxFlags::VLAN } else { TxFlags::empty() };
    TxOffload {
        flags: version | transport | vlan,
        vlan_tci: 0x123,
        l2_len: 14,
        l3_len: ip_header(kind) as u16,
        ..TxOffload::default()
    }
}

/// The device's verdict stands in the packet.
fn received(running: &mut Running<'_>, kind: Kind, size: usize) {
    let right = frame(kind, 3, size as u32, size);
    let mut wrong = right.clone();
    wrong[size - 1] ^= 0x55;
    for (bytes, verdict) in [(&right, Checksum::Good), (&wrong, Checksum::Bad)] {
        assert_eq!(rfc1071::verify(bytes).is_ok(), verdict == Checksum::Good);
        running.rig.device().deliver(bytes);
        let received = running.receive(1);
        assert_eq!(received[0].mbuf.l4_checksum(), verdict, "{kind:?}");
        let header = if kind.v6() {
            Checksum::Unknown
        } else {
            Checksum::Good
        };
        assert_eq!(received[0].mbuf.ip_checksum(), header, "{kind:?}");
    }
}

/// Without a request not a byte is touched.
fn nothing_asked(running: &mut Running<'_>) {
    let mut odd = frame(Kind::TcpV4, 1, 2, 100);
    odd[24..26].copy_from_slice(&[0xBE, 0xEF]);
    odd[50..52].copy_from_slice(&[0xDE, 0xAD]);
    running.send_frames(0, std::slice::from_ref(&odd));
    running.settle();
    assert!(running.rig.device().take_tx_frames() == [odd]);
}
