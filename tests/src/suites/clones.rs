//! One payload in many packets: clones leave like any other packet.

use pmd_api::Mbuf;

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "clones",
    proves: "clones of a packet, and headers chained before a shared payload, are sent with the \
             right bytes, and the payload is not reused before the last of them is complete",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    multicast(&mut running);
    headers_of_their_own(&mut running);
    running.finish();
}

/// The same bytes three times; the original goes last, in a burst of its own.
fn multicast(running: &mut Running<'_>) {
    let bytes = frame(Kind::UdpV4, 1, 1, 700);
    let mut original = running.packet(&bytes);
    let clones: Vec<Mbuf> = (0..3)
        .map(|_| original.clone_shared(&running.tx_pool).expect("a clone"))
        .collect();
    running.send(0, clones);
    running.settle();
    assert_eq!(
        running.rig.device().take_tx_frames(),
        vec![bytes.clone(); 3]
    );
    // The payload is still held: the clones' own buffers are home, this one is not.
    assert_eq!(running.tx_pool.in_use(), 1);
    assert_eq!(original.data(), bytes);
    let last = original.clone_shared(&running.tx_pool).expect("a clone");
    drop(original);
    running.send(0, vec![last]);
    running.settle();
    assert_eq!(running.rig.device().take_tx_frames(), [bytes]);
    assert_eq!(running.tx_pool.in_use(), 0);
}

/// What a server of multicast does: one payload, a header a receiver.
fn headers_of_their_own(running: &mut Running<'_>) {
    let whole = frame(Kind::UdpV4, 1, 1, 700);
    let (header, payload) = whole.split_at(42);
    let mut shared = running.packet(payload);
    let mut expected = Vec::new();
    let mut packets = Vec::new();
    for receiver in 0..8 {
        let mut header = header.to_vec();
        header[5] = receiver;
        let mut packet = running.packet(&header);
        let tail = shared.clone_shared(&running.tx_pool).expect("a clone");
        packet.chain(tail).expect("a chain");
        packets.push(packet);
        expected.push([&header, payload].concat());
    }
    drop(shared);
    running.send(0, packets);
    running.settle();
    assert_eq!(running.rig.device().take_tx_frames(), expected);
    assert_eq!(running.tx_pool.in_use(), 0);
}
