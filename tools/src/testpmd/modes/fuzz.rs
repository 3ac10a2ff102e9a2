//! Whatever arrives, in whatever pieces: no mode panics, and every buffer comes home.

use proptest::prelude::*;

use super::incremental::tests::bytes;
use super::*;
use crate::testpmd::lane::tests::{pool, stream_over};

const PORT: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x02]);

/// Frames in which every parser gets far: ARP, ICMP, ICMPv6 echo, a neighbour solicitation, UDP and
/// TCP, over both IP versions.
fn seeds() -> Vec<Vec<u8>> {
    [
        "ffffffffffff 02005e100001 0806 0001 0800 06 04 0001
         02005e100001 c0000201 000000000000 c0000202",
        "02005e100002 02005e100001 0800 4500002c f3194000 4001 c3b3 c0000201 c0000202
         0800 ad8a 12340001 000102030405060708090a0b0c0d0e0f",
        "02005e100002 02005e100001 86dd 600cfad8 0018 3a 40
         20010db8000000000000000000000001 20010db8000000000000000000000002
         8000 d9c2 12340001 000102030405060708090a0b0c0d0e0f",
        "3333ff000002 02005e100001 86dd 60000000 0020 3a ff
         20010db8000000000000000000000001 ff0200000000000000000001ff000002
         8700be1600000000 20010db8000000000000000000000002 0101 02005e100001",
        "02005e100002 02005e100001 88a8 0064 8100 2065 0800 46000021 d5724000 4011 e159
         c0000201 c0000202 01010101 a762 0009 0009 841e 78",
        "02005e100002 02005e100001 86dd 60000000 0014 06 40
         20010db8000000000000000000000001 20010db8000000000000000000000002
         8843 0009 00000001 00000002 5010 0100 0000 0000",
    ]
    .map(bytes)
    .to_vec()
}

/// A seed with some bytes replaced and its end cut off; or anything.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let length = prop_oneof![
        3 => Just(None),
        1 => any::<prop::sample::Index>().prop_map(Some),
    ];
    let changed = (prop::sample::select(seeds()), changes, length).prop_map(
        |(mut frame, changes, length)| {
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if let Some(length) = length {
                frame.truncate(length.index(frame.len()));
            }
            frame
        },
    );
    prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// A packet: its frame, where it is cut into segments, and whether its buffers are shared.
fn packet() -> impl Strategy<Value = (Vec<u8>, Option<prop::sample::Index>, bool)> {
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (frame(), cut, prop::bool::weighted(0.2))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mode_panics_or_leaks(
        packets in prop::collection::vec(packet(), 1..8),
        room in prop_oneof![4 => Just(usize::MAX), 1 => 0..4usize],
        by_device in any::<bool>(),
        mss in 0..60_u16,
    ) {
        let mut device = ByDevice::default();
        device.take_choice(if by_device { "hw" } else { "sw" }).unwrap();
        device.take_mss(&mss.to_string()).unwrap();
        for mode in ModeName::ALL {
            let pool = pool(128);
            let (mut stream, wire) = stream_over(&pool, &[]);
            wire.accept(room);
            let mut clones = Vec::new();
            for (frame, cut, shared) in &packets {
                let (first, rest) = frame.split_at(cut.map_or(frame.len(), |at| at.index(frame.len() + 1)));
                let mut mbuf = pool.alloc().unwrap();
                mbuf.extend_from_slice(first).unwrap();
                if cut.is_some() {
                    let mut tail = pool.alloc().unwrap();
                    tail.extend_from_slice(rest).unwrap();
                    mbuf.chain(tail).unwrap();
                }
                if *shared {
                    clones.push((frame, mbuf.clone_shared(&pool).unwrap()));
                }
                wire.arrive(mbuf);
            }
            let shape = Shape::of_tests();
            let mut forward = mode.build(PORT, PORT, &shape, &pool, device);
            forward.forward(&mut stream.lane());
            prop_assert!(stream.lane().batch.is_empty());
            for (frame, clone) in clones {
                prop_assert_eq!(&clone.to_vec(), frame, "{} wrote into a shared buffer", mode);
            }
            drop((forward, stream, wire));
            prop_assert_eq!(pool.in_use(), 0, "{} keeps buffers", mode);
        }
    }
}
