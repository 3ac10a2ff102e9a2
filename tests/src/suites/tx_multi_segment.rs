//! As the former DTS's "scatter": packets of many segments leave whole.

use super::{Needs, Suite};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "tx_multi_segment",
    proves: "packets of 2 segments up to the device's limit arrive byte by byte, also where their \
             gather lists wrap around the ring's end",
    needs: Needs::Loop,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    let plan = Plan {
        packet: 9014,
        spare: 1024,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    let most = running.port.info().max_tx_segments as usize;
    assert!(most >= 2, "the device takes {most} segments");
    // Every count at many positions of the ring: the units of one packet and those of the ring
    // have no common divisor that would keep the wrap at one place.
    for round in 0..8_usize {
        for segments in 2..=most {
            let size = 60 + segments * (1 + round * 13);
            let whole = frame(Kind::TcpV4, segments as u32, round as u32, size.max(80));
            let packet = cut(&running, &whole, segments);
            assert_eq!(packet.segments(), segments);
            running.send(0, vec![packet]);
            let back = running.receive(1);
            assert!(
                back[0].mbuf.to_vec() == whole,
                "a packet of {segments} segments changed"
            );
            running.settle();
        }
    }
    running.finish();
}

/// `bytes` as a chain of `segments` pieces, the last one the longest.
fn cut(running: &Running<'_>, bytes: &[u8], segments: usize) -> pmd_api::Mbuf {
    let piece = bytes.len() / (segments + 1);
    let (short, rest) = bytes.split_at(piece * (segments - 1));
    let mut pieces = short.chunks(piece).chain([rest]);
    let first = pieces.next().expect("a first piece");
    let mut packet = running.packet(first);
    for piece in pieces {
        packet
            .chain(running.packet(piece))
            .expect("a chain of whole packets");
    }
    packet
}
