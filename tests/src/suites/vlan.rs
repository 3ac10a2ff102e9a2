//! As DTS "vlan": tags inserted on the way out and stripped on the way in.

use mana_pmd::Oversize;
use pmd_api::{L4Type, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "vlan",
    proves: "a tag with its priority, drop-eligible bit and id is inserted behind the addresses, \
             also of a packet of as many segments as the device takes, and a received tag is \
             stripped and its id told",
    needs: Needs::Model,
    prepare: capture,
    run,
};

/// Each bit of the tag control information alone, and mixtures.
fn tags() -> impl Iterator<Item = u16> {
    (0..16)
        .map(|bit| 1 << bit)
        .chain([0x0001, 0xA123, 0x5FFE, 0xFFFF])
}

/// The frame with a tag behind its addresses.
fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let [high, low] = tci.to_be_bytes();
    [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat()
}

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    let plain = frame(Kind::UdpV4, 9, 1, 200);
    for tci in tags() {
        let mut mbuf = running.packet(&plain);
        mbuf.set_tx_offload(TxOffload {
            flags: TxFlags::VLAN,
            vlan_tci: tci,
            ..TxOffload::default()
        })
        .expect("a tag");
        // An untagged packet in the same burst stays untagged.
        let other = running.packet(&plain);
        running.send(0, vec![mbuf, other]);
        running.settle();
        let left = running.rig.device().take_tx_frames();
        assert!(
            left == [tagged(&plain, tci), plain.clone()],
            "tag {tci:#06x}: {left:02x?}"
        );
    }
    long_chain(&mut running);
    for tci in tags() {
        running.rig.device().deliver(&tagged(&plain, tci));
        running.rig.device().deliver(&plain);
        let received = running.receive(2);
        assert_eq!(received[0].mbuf.vlan(), Some(tci & 0xFFF), "tag {tci:#06x}");
        assert_eq!(received[1].mbuf.vlan(), None);
        for one in received {
            assert!(one.mbuf.to_vec() == plain, "tag {tci:#06x}: bytes changed");
        }
    }
    running.finish();
    kept(rig);
}

/// Tags stay in the packet, whether it is one buffer or several; priority and drop-eligible bit, which
/// the device does not deliver, are 0.
fn kept(rig: &Rig) {
    for packet in [2048, 100] {
        let plan = Plan {
            packet,
            keep_vlan_tags: true,
            mtu: Some(1400),
            oversize: Oversize::Scatter,
            spare: 64 + 64 * 15,
            ..Plan::default()
        };
        let mut running = Running::start(rig, &plan);
        let plain = frame(Kind::UdpV4, 9, 1, 1000);
        for tci in tags() {
            running.rig.device().deliver(&tagged(&plain, tci));
            running.rig.device().deliver(&plain);
            let received = running.receive(2);
            let [first, second] = &received[..] else {
                panic!("two packets")
            };
            assert!(
                first.mbuf.to_vec() == tagged(&plain, tci & 0xFFF),
                "{tci:#06x}"
            );
            assert_eq!((first.mbuf.vlan(), first.mbuf.packet_len()), (None, 1004));
            assert!(second.mbuf.to_vec() == plain);
            // UDP over IPv4, behind the tag.
            let found = first.mbuf.packet_type();
            assert_eq!((found.vlan_tags, found.l4), (1, L4Type::Udp));
        }
        running.finish();
    }
}

/// The long OOB and the longest gather list in one WQE, the largest that there is.
fn long_chain(running: &mut Running<'_>) {
    let most = running.port.info().max_tx_segments as usize;
    let plain = frame(Kind::UdpV4, 9, 1, 60 * most);
    for _ in 0..3 {
        let mut pieces = plain.chunks(60).map(|piece| running.packet(piece));
        let mut mbuf = pieces.next().expect("a first piece");
        for piece in pieces {
            mbuf.chain(piece).expect("a chain");
        }
        assert_eq!(mbuf.segments(), most);
        mbuf.set_tx_offload(TxOffload {
            flags: TxFlags::VLAN,
            vlan_tci: 0xB123,
            ..TxOffload::default()
        })
        .expect("a tag");
        running.send(0, vec![mbuf]);
        running.settle();
        let left = running.rig.device().take_tx_frames();
        assert!(left == [tagged(&plain, 0xB123)], "bytes changed");
    }
}
