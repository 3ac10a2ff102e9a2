//! Offloads that do not fit their packet: told before the packet is sent.

use pmd_api::{Batch, ChecksumError, Mbuf, MbufError, Reject, TxBurst, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running, rfc1071};

pub(super) const SUITE: Suite = Suite {
    name: "tx_prepare",
    proves: "tx_prepare names the first packet whose offloads do not fit it and the reason, changes \
             no byte of it, and makes all others ready, headers over several segments included",
    needs: Needs::Model,
    prepare: capture,
    run,
};

const TCP4: TxOffload = TxOffload {
    flags: TxFlags::IPV4.union(TxFlags::IPV4_CHECKSUM.union(TxFlags::TCP_CHECKSUM)),
    vlan_tci: 0,
    l2_len: 14,
    l3_len: 20,
    l4_len: 20,
    mss: 0,
};
const TSO4: TxOffload = TxOffload {
    flags: TxFlags::IPV4.union(TxFlags::TSO),
    mss: 500,
    ..TCP4
};
const TCP6: TxOffload = TxOffload {
    flags: TxFlags::IPV6.union(TxFlags::TCP_CHECKSUM),
    l3_len: 40,
    ..TCP4
};
const TSO6: TxOffload = TxOffload {
    flags: TxFlags::IPV6.union(TxFlags::TSO),
    l3_len: 40,
    ..TSO4
};

fn run(rig: &Rig) {
    let plan = Plan::default();
    let stranger = plan.pool("unknown to the port");
    let mut running = Running::start(rig, &plan);
    let whole = frame(Kind::TcpV4, 1, 1, 1000);
    let whole6 = frame(Kind::TcpV6, 1, 1, 1000);

    lengths(&mut running, &whole, &whole6);
    shared(&mut running, &whole);
    segments(&mut running, &whole, &stranger);
    split_headers(&mut running);
    // What a burst refuses without being told before.
    for (bad, reason) in [
        (
            split(&running, &whole, &[30]),
            Reject::SplitHeader {
                header: 54,
                first: 30,
            },
        ),
        (
            running.packet(&whole[..54]),
            Reject::TsoPayload {
                header: 54,
                len: 54,
            },
        ),
    ] {
        let mut batch = one(bad, TSO4);
        let outcome = running.queues.tx[0].tx_burst(&mut batch);
        let (_, why) = outcome.rejected.expect("a packet that can't be sent");
        assert_eq!((why, outcome.sent, batch.len()), (reason, 0, 0));
    }
    let stats = running.port.tx_queue_stats(0);
    assert_eq!((stats.rejected, stats.errors), (2, 0));
    assert_eq!(stranger.in_use(), 0);
    running.finish();
}

/// Lengths that the packet contradicts.
fn lengths(running: &mut Running<'_>, whole: &[u8], whole6: &[u8]) {
    let tso_header = |l3_len, len| {
        (
            TxOffload { l3_len, ..TSO4 },
            Reject::TsoHeader { len, max: 255 },
        )
    };
    let cases = [
        (
            TxOffload { l2_len: 18, ..TCP4 },
            ChecksumError::Version {
                asked: 4,
                found: whole[18] >> 4,
                at: 18,
            }
            .into(),
        ),
        (
            TxOffload { l2_len: 0, ..TSO4 },
            ChecksumError::Version {
                asked: 4,
                found: 0,
                at: 0,
            }
            .into(),
        ),
        (
            TxOffload { l3_len: 24, ..TCP4 },
            ChecksumError::HeaderLength {
                name: "l3_len",
                said: 24,
                found: 20,
            }
            .into(),
        ),
        (
            TxOffload { l3_len: 0, ..TCP4 },
            ChecksumError::L3Len(0).into(),
        ),
        (
            TxOffload { l3_len: 64, ..TSO4 },
            ChecksumError::L3Len(64).into(),
        ),
        (
            TxOffload { l4_len: 32, ..TSO4 },
            ChecksumError::HeaderLength {
                name: "l4_len",
                said: 32,
                found: 20,
            }
            .into(),
        ),
        (
            TxOffload {
                flags: TxFlags::IPV4 | TxFlags::UDP_CHECKSUM,
                ..TCP4
            },
            ChecksumError::Protocol {
                asked: 17,
                found: 6,
            }
            .into(),
        ),
        (
            TCP6,
            ChecksumError::Version {
                asked: 6,
                found: 4,
                at: 14,
            }
            .into(),
        ),
        (
            TSO6,
            ChecksumError::Version {
                asked: 6,
                found: 4,
                at: 14,
            }
            .into(),
        ),
        tso_header(222, 256),
        tso_header(900, 934),
    ];
    for (offload, reason) in cases {
        let packet = running.packet(whole);
        is_bad(running, packet, offload, reason);
    }
    let packet = running.packet(whole6);
    is_bad(
        running,
        packet,
        TxOffload { l3_len: 39, ..TCP6 },
        ChecksumError::L3Len(39).into(),
    );
    // Headers beyond the end of the packet.
    let short = |len: usize| running.packet(&whole[..len]);
    let ends = [
        (
            short(51),
            TCP4,
            ChecksumError::TooShort {
                needed: 52,
                len: 51,
            }
            .into(),
        ),
        (
            short(52),
            TCP4,
            ChecksumError::Truncated { ip: 986, len: 38 }.into(),
        ),
        (
            short(20),
            TxOffload {
                l2_len: 127,
                l3_len: 896,
                ..TCP4
            },
            ChecksumError::L3Len(896).into(),
        ),
        (
            short(54),
            TSO4,
            Reject::TsoPayload {
                header: 54,
                len: 54,
            },
        ),
        (
            short(10),
            TSO4,
            Reject::TsoPayload {
                header: 54,
                len: 10,
            },
        ),
    ];
    for (packet, offload, reason) in ends {
        is_bad(running, packet, offload, reason);
    }
}

/// Headers that others see, too, are not written; a payload may be shared.
fn shared(running: &mut Running<'_>, whole: &[u8]) {
    let mut original = running.packet(whole);
    for offload in [TCP4, TSO4] {
        let clone = original.clone_shared(&running.tx_pool).expect("a clone");
        is_bad(running, clone, offload, ChecksumError::Shared.into());
    }
    assert_eq!(original.data(), whole);
    // Nor can anything be moved behind them.
    let mut front = running.packet(&whole[..30]);
    let mut clone = front.clone_shared(&running.tx_pool).expect("a clone");
    clone.chain(running.packet(&whole[30..])).expect("a chain");
    is_bad(running, clone, TCP4, Reject::PullUp(MbufError::Shared));
    // Where there is no room for the headers.
    let mut full = running.packet(&[0; 2048]);
    full.adj(2048 - 30).expect("bytes");
    full.data_mut()
        .expect("unshared")
        .copy_from_slice(&whole[..30]);
    full.chain(running.packet(&whole[30..])).expect("a chain");
    let tailroom = MbufError::Tailroom {
        wanted: 24,
        tailroom: 0,
    };
    is_bad(running, full, TSO4, Reject::PullUp(tailroom));
}

/// What a burst would refuse.
fn segments(running: &mut Running<'_>, whole: &[u8], stranger: &pmd_api::Pool) {
    let most = running.port.info().max_tx_segments as usize;
    is_bad(
        running,
        running.packet(&[]),
        TxOffload::default(),
        Reject::Empty,
    );
    let cuts: Vec<usize> = (0..most).map(|piece| 100 + 10 * piece).collect();
    for (cuts, offload) in [
        (&cuts[..], TxOffload::default()),
        (&cuts[..], TCP4),
        // The headers take an element of their own.
        (&cuts[1..], TSO4),
    ] {
        let reason = Reject::TooManySegments {
            segments: most + 1,
            max: most,
        };
        is_bad(running, split(running, whole, cuts), offload, reason);
    }
    let mut holed = running.packet(&whole[..100]);
    holed.chain(running.packet(&[])).expect("a chain");
    holed.chain(running.packet(&whole[100..])).expect("a chain");
    is_bad(running, holed, TSO4, Reject::EmptySegment(1));
    let mut foreign = running.packet(&whole[..100]);
    let mut tail = stranger.alloc().expect("a buffer");
    tail.extend_from_slice(&whole[100..]).expect("room");
    foreign.chain(tail).expect("a chain");
    is_bad(running, foreign, TCP4, Reject::ForeignPool(stranger.id()));
}

/// Headers cut at any byte come together, and the checksums are right.
fn split_headers(running: &mut Running<'_>) {
    for kind in [Kind::TcpV4, Kind::TcpV6] {
        let right = frame(kind, 3, 3, 300);
        let mut spoilt = right.clone();
        let offload = if kind.v6() { TCP6 } else { TCP4 };
        let field = usize::from(offload.l2_len + offload.l3_len) + 16;
        spoilt[field..field + 2].fill(0xEE);
        for cut in 1..100 {
            let mut batch = one(split(running, &spoilt, &[cut, cut + 1, cut + 7]), offload);
            running.queues.tx[0]
                .tx_prepare(&mut batch)
                .expect("headers that can be joined");
            running.send(0, batch.into_iter().collect());
            running.settle();
            let left = running.rig.device().take_tx_frames();
            assert_eq!(rfc1071::verify(&left[0]), Ok(()), "{kind:?} cut at {cut}");
            assert!(left == [&right[..]], "{kind:?} cut at {cut}: bytes changed");
        }
    }
}

/// The bytes as a chain, cut at these places.
fn split(running: &Running<'_>, whole: &[u8], cuts: &[usize]) -> Mbuf {
    let mut start = 0;
    let mut packet: Option<Mbuf> = None;
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

/// A batch of one packet with this request.
fn one(mut packet: Mbuf, offload: TxOffload) -> Batch {
    packet
        .set_tx_offload(offload)
        .expect("a request that makes sense");
    let mut batch = Batch::with_capacity(1);
    batch.push(packet).expect("room");
    batch
}

/// The packet is the bad one of a burst, wherever it stands; it keeps its bytes, and those in front
/// of it leave with right checksums.
fn is_bad(running: &mut Running<'_>, packet: Mbuf, offload: TxOffload, reason: Reject) {
    let bytes = packet.to_vec();
    let right = frame(Kind::TcpV4, 5, 5, 200);
    let mut spoilt = right.clone();
    spoilt[50..52].fill(0xEE);
    let mut bad = one(packet, offload).pop();
    for index in 0..3 {
        let mut batch = Batch::with_capacity(4);
        for place in 0..4 {
            let packet = if place == index {
                bad.take().expect("the bad packet")
            } else {
                one(running.packet(&spoilt), TCP4).pop().expect("a packet")
            };
            batch.push(packet).expect("room");
        }
        let error = running.queues.tx[0]
            .tx_prepare(&mut batch)
            .expect_err("a bad packet");
        assert_eq!((error.index, error.reason), (index, reason), "{offload:?}");
        let back = batch.remove(index).expect("it is still there");
        assert!(back.to_vec() == bytes, "{reason}: bytes changed");
        bad = Some(back);
        batch.truncate(index);
        running.send(0, batch.into_iter().collect());
        running.settle();
        let left = running.rig.device().take_tx_frames();
        assert!(left.len() == index && left.iter().all(|frame| *frame == right));
    }
}
