//! Packets that can never be sent come back with the reason.

use pmd_api::{Batch, Mbuf, Reject, TxBurst, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rejects",
    proves: "an empty packet, one of too many segments, with an empty segment, of a pool the port \
             does not know, or for TSO with headers that are too long or cut comes back with its \
             reason, and all others are sent in order",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let plan = Plan::default();
    let stranger = plan.pool("unknown to the port");
    let mut running = Running::start(rig, &plan);
    let most = running.port.info().max_tx_segments as usize;

    check(
        &mut running,
        |r| r.packet(&[]),
        |why| matches!(why, Reject::Empty),
    );
    check(
        &mut running,
        |r| chain(r, most + 1),
        |why| {
            matches!(why, Reject::TooManySegments { segments, max }
                if (*segments, *max) == (most + 1, most))
        },
    );
    check(
        &mut running,
        |r| {
            let mut packet = r.packet(&[1; 60]);
            packet.chain(r.packet(&[])).expect("a chain");
            packet.chain(r.packet(&[2; 60])).expect("a chain");
            packet
        },
        |why| matches!(why, Reject::EmptySegment(1)),
    );
    check(
        &mut running,
        |_| {
            let mut packet = stranger.alloc().expect("a buffer");
            packet.extend_from_slice(&[3; 60]).expect("room");
            packet
        },
        |why| matches!(why, Reject::ForeignPool(pool) if *pool == stranger.id()),
    );
    check(
        &mut running,
        |r| {
            let mut packet = r.packet(&[1; 60]);
            let mut tail = stranger.alloc().expect("a buffer");
            tail.extend_from_slice(&[3; 60]).expect("room");
            packet.chain(tail).expect("a chain");
            packet
        },
        |why| matches!(why, Reject::ForeignPool(pool) if *pool == stranger.id()),
    );
    let tso = |packet: &mut Mbuf, l3_len| {
        let offload = TxOffload {
            flags: TxFlags::TSO | TxFlags::IPV4,
            l2_len: 14,
            l3_len,
            l4_len: 20,
            mss: 500,
            ..TxOffload::default()
        };
        packet
            .set_tx_offload(offload)
            .expect("a request that makes sense");
    };
    check(
        &mut running,
        |r| {
            let mut packet = r.packet(&frame(Kind::TcpV4, 1, 1, 1000));
            tso(&mut packet, 222);
            packet
        },
        |why| matches!(why, Reject::TsoHeader { len: 256, max: 255 }),
    );
    check(
        &mut running,
        |r| {
            let mut packet = chain(r, most);
            tso(&mut packet, 20);
            packet
        },
        |why| {
            let split = Reject::SplitHeader {
                header: 54,
                first: 10,
            };
            *why == split
        },
    );
    contradictions(&running);
    assert_eq!(stranger.in_use(), 0);
    let stats = running.port.tx_queue_stats(0);
    assert_eq!((stats.rejected, stats.errors), (7 * 3, 0));
    running.finish();
}

/// Requests that contradict themselves are refused before they reach a queue.
fn contradictions(running: &Running<'_>) {
    let mut packet = running.packet(&frame(Kind::UdpV4, 1, 1, 100));
    for flags in [
        // Without header length and MSS.
        TxFlags::IPV4 | TxFlags::TSO,
        TxFlags::TCP_CHECKSUM,
        TxFlags::IPV4 | TxFlags::IPV6 | TxFlags::UDP_CHECKSUM,
        TxFlags::IPV6 | TxFlags::IPV4_CHECKSUM,
        TxFlags::IPV4 | TxFlags::TCP_CHECKSUM | TxFlags::UDP_CHECKSUM,
    ] {
        let offload = TxOffload {
            flags,
            l2_len: 14,
            l3_len: 20,
            ..TxOffload::default()
        };
        assert!(packet.set_tx_offload(offload).is_err(), "{flags:?}");
    }
}

/// A packet of so many segments of 10 bytes.
fn chain(running: &Running<'_>, segments: usize) -> Mbuf {
    let mut packet = running.packet(&[9; 10]);
    for _ in 1..segments {
        packet.chain(running.packet(&[9; 10])).expect("a chain");
    }
    packet
}

/// The bad packet first, in the middle and last of a burst: it alone comes back.
fn check(
    running: &mut Running<'_>,
    bad: impl Fn(&Running<'_>) -> Mbuf,
    reason: impl Fn(&Reject) -> bool,
) {
    for place in [0, 2, 4] {
        let mut batch = Batch::with_capacity(5);
        let mut seeds = 0..;
        for index in 0..5 {
            let packet = if index == place {
                bad(running)
            } else {
                let seed = seeds.next().expect("a number");
                running.packet(&frame(Kind::UdpV4, 1, seed, 100))
            };
            batch.push(packet).expect("room");
        }
        let (segments, len) = {
            let packet = &batch.as_slice()[place];
            (packet.segments(), packet.packet_len())
        };
        let outcome = running.queues.tx[0].tx_burst(&mut batch);
        let (back, why) = outcome.rejected.expect("the bad packet comes back");
        assert!(reason(&why), "at {place}: {why}");
        assert_eq!((back.segments(), back.packet_len()), (segments, len));
        assert_eq!((outcome.sent, batch.len()), (place, 4 - place));
        drop(back);
        while !batch.is_empty() {
            let outcome = running.queues.tx[0].tx_burst(&mut batch);
            assert!(outcome.rejected.is_none() && outcome.sent > 0);
        }
        running.settle();
        let left = running.rig.device().take_tx_frames();
        let seeds: Vec<u32> = left.iter().map(|frame| seed_of(frame)).collect();
        assert_eq!(seeds, [0, 1, 2, 3]);
    }
}
