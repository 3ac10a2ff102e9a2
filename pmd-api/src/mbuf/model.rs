//! Mbufs against vectors of bytes, operation by operation.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::Pool;
use crate::testing::pool;

const DATA_ROOM: usize = 200;
const BUFFERS: u32 = 24;

/// A segment as it should be. Those that share a buffer share the `Rc`.
#[derive(Clone)]
struct Segment {
    headroom: usize,
    data: Vec<u8>,
    buffer: Rc<()>,
}

impl Segment {
    fn tailroom(&self) -> usize {
        DATA_ROOM - self.headroom - self.data.len()
    }

    fn is_shared(&self) -> bool {
        Rc::strong_count(&self.buffer) > 1
    }
}

type Packet = Vec<Segment>;

#[derive(Debug, Clone)]
enum Operation {
    Alloc(Vec<u8>),
    Prepend(usize, Vec<u8>),
    Append(usize, Vec<u8>),
    Adj(usize, usize),
    Trim(usize, usize),
    Chain(usize, usize),
    Unchain(usize),
    SplitOff(usize, usize),
    Clone(usize),
    Copy(usize),
    Linearize(usize),
    PullUp(usize, usize),
    Write(usize, u8),
    Reset(usize),
    Drop(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let bytes = || prop::collection::vec(any::<u8>(), 0..90);
    let which = || any::<usize>();
    let count = || 0..120_usize;
    prop_oneof![
        3 => bytes().prop_map(Alloc),
        2 => (which(), bytes()).prop_map(|(i, bytes)| Prepend(i, bytes)),
        2 => (which(), bytes()).prop_map(|(i, bytes)| Append(i, bytes)),
        2 => (which(), count()).prop_map(|(i, n)| Adj(i, n)),
        2 => (which(), count()).prop_map(|(i, n)| Trim(i, n)),
        2 => (which(), which()).prop_map(|(i, j)| Chain(i, j)),
        1 => which().prop_map(Unchain),
        3 => (which(), 0..300_usize).prop_map(|(i, at)| SplitOff(i, at)),
        3 => which().prop_map(Clone),
        1 => which().prop_map(Copy),
        1 => which().prop_map(Linearize),
        2 => (which(), count()).prop_map(|(i, n)| PullUp(i, n)),
        2 => (which(), any::<u8>()).prop_map(|(i, byte)| Write(i, byte)),
        1 => which().prop_map(Reset),
        3 => which().prop_map(Drop),
    ]
}

fn check(mbuf: &Mbuf, packet: &Packet) {
    assert_eq!(mbuf.segments(), packet.len());
    assert_eq!(
        mbuf.packet_len(),
        packet
            .iter()
            .map(|segment| segment.data.len())
            .sum::<usize>()
    );
    assert_eq!(mbuf.headroom(), packet[0].headroom);
    assert_eq!(mbuf.tailroom(), packet[packet.len() - 1].tailroom());
    assert_eq!(mbuf.is_shared(), packet[0].is_shared());
    assert_eq!(mbuf.data(), &packet[0].data[..]);
    assert_eq!(mbuf.iter().count(), packet.len());
    for (segment, expected) in mbuf.iter().zip(packet) {
        assert_eq!(segment.data(), &expected.data[..]);
    }
}

/// What is out: one line for each segment, and one more for each buffer whose own mbuf is gone.
fn check_all(pool: &Pool, mbufs: &[Mbuf], packets: &[Packet]) {
    for (mbuf, packet) in mbufs.iter().zip(packets) {
        check(mbuf, packet);
    }
    let segments: u32 = packets.iter().map(|packet| packet.len() as u32).sum();
    assert!(pool.in_use() >= segments);
    if mbufs.is_empty() {
        assert_eq!(pool.available(), BUFFERS);
    }
}

fn apply(pool: &Pool, mbufs: &mut Vec<Mbuf>, packets: &mut Vec<Packet>, operation: Operation) {
    use Operation::*;
    let count = mbufs.len();
    if let Alloc(bytes) = operation {
        if let Some(mut mbuf) = pool.alloc() {
            let fits = bytes.len() <= DATA_ROOM - HEADROOM;
            assert_eq!(mbuf.extend_from_slice(&bytes).is_ok(), fits);
            let data = if fits { bytes } else { Vec::new() };
            mbufs.push(mbuf);
            packets.push(vec![Segment {
                headroom: HEADROOM,
                data,
                buffer: Rc::new(()),
            }]);
        } else {
            assert_eq!(pool.available(), 0);
        }
        return;
    }
    if count == 0 {
        return;
    }
    match operation {
        Alloc(_) => unreachable!(),
        Prepend(i, bytes) => {
            let first = &mut packets[i % count][0];
            let allowed = bytes.len() <= first.headroom && !first.is_shared();
            let done = mbufs[i % count]
                .prepend(bytes.len())
                .map(|to| to.copy_from_slice(&bytes));
            assert_eq!(done.is_ok(), allowed);
            if allowed {
                first.headroom -= bytes.len();
                first.data.splice(0..0, bytes);
            }
        }
        Append(i, bytes) => {
            let last = packets[i % count].last_mut().unwrap();
            let allowed = bytes.len() <= last.tailroom() && !last.is_shared();
            assert_eq!(mbufs[i % count].extend_from_slice(&bytes).is_ok(), allowed);
            if allowed {
                last.data.extend(bytes);
            }
        }
        Adj(i, n) => {
            let first = &mut packets[i % count][0];
            let allowed = n <= first.data.len();
            assert_eq!(mbufs[i % count].adj(n).is_ok(), allowed);
            if allowed {
                first.headroom += n;
                first.data.drain(..n);
            }
        }
        Trim(i, n) => {
            let last = packets[i % count].last_mut().unwrap();
            let allowed = n <= last.data.len();
            assert_eq!(mbufs[i % count].trim(n).is_ok(), allowed);
            if allowed {
                last.data.truncate(last.data.len() - n);
            }
        }
        Chain(i, j) => {
            let (i, j) = (i % count, j % count);
            if i != j {
                let (tail, segments) = (mbufs.swap_remove(j), packets.swap_remove(j));
                let i = if i == count - 1 { j } else { i };
                mbufs[i].chain(tail).unwrap();
                packets[i].extend(segments);
            }
        }
        Unchain(i) => {
            let rest = packets[i % count].split_off(1);
            match mbufs[i % count].unchain() {
                Some(tail) => {
                    mbufs.push(tail);
                    packets.push(rest);
                }
                None => assert!(rest.is_empty()),
            }
        }
        SplitOff(i, at) => {
            let packet = &mut packets[i % count];
            let (mut keep, mut index) = (at, 0);
            while index + 1 < packet.len() && keep > packet[index].data.len() {
                keep -= packet[index].data.len();
                index += 1;
            }
            let inside = index + 1 == packet.len() || keep < packet[index].data.len();
            let lacks = inside && pool.available() == 0;
            match mbufs[i % count].split_off(at, pool) {
                Ok(tail) => {
                    assert!(!lacks);
                    let mut rest = packet.split_off(index + 1);
                    if inside {
                        let segment = &mut packet[index];
                        let data = segment.data.split_off(keep);
                        let headroom = segment.headroom + keep;
                        let buffer = segment.buffer.clone();
                        rest.insert(
                            0,
                            Segment {
                                headroom,
                                data,
                                buffer,
                            },
                        );
                    }
                    assert_eq!((tail.port(), tail.app_word()), (u16::MAX, 0));
                    mbufs.push(tail);
                    packets.push(rest);
                }
                Err(MbufError::PoolExhausted) => assert!(lacks),
                Err(error) => {
                    let len = packet.iter().map(|segment| segment.data.len()).sum();
                    assert!(at > len);
                    assert_eq!(error, MbufError::TooShort { wanted: at, len });
                }
            }
        }
        Clone(i) => {
            if let Ok(clone) = mbufs[i % count].clone_shared(pool) {
                mbufs.push(clone);
                packets.push(packets[i % count].clone());
            } else {
                assert!((pool.available() as usize) < packets[i % count].len());
            }
        }
        Copy(i) => {
            if let Ok(copy) = mbufs[i % count].copy(pool) {
                assert_eq!(copy.to_vec(), mbufs[i % count].to_vec());
                assert!(!copy.is_shared());
            }
        }
        Linearize(i) => {
            let packet = &mut packets[i % count];
            let rest: Vec<u8> = packet[1..]
                .iter()
                .flat_map(|segment| segment.data.clone())
                .collect();
            let allowed =
                packet.len() == 1 || rest.len() <= packet[0].tailroom() && !packet[0].is_shared();
            assert_eq!(mbufs[i % count].linearize().is_ok(), allowed);
            if allowed {
                packet.truncate(1);
                packet[0].data.extend(rest);
            }
        }
        PullUp(i, n) => {
            let packet = &mut packets[i % count];
            let have = packet[0].data.len();
            let total: usize = packet.iter().map(|segment| segment.data.len()).sum();
            let allowed = n <= have
                || n <= total && n - have <= packet[0].tailroom() && !packet[0].is_shared();
            assert_eq!(mbufs[i % count].pull_up(n).is_ok(), allowed);
            let mut left = n.saturating_sub(have);
            if allowed && left > 0 {
                let mut first = packet.remove(0);
                loop {
                    let segment = &mut packet[0];
                    let now = left.min(segment.data.len());
                    first.data.extend(segment.data.drain(..now));
                    segment.headroom += now;
                    left -= now;
                    if !segment.data.is_empty() {
                        break;
                    }
                    packet.remove(0);
                    if packet.is_empty() {
                        break;
                    }
                }
                packet.insert(0, first);
            }
        }
        Write(i, byte) => {
            for (data, segment) in mbufs[i % count].iter_mut().zip(&mut packets[i % count]) {
                assert_eq!(data.is_none(), segment.is_shared());
                if let Some(data) = data {
                    data.fill(byte);
                    segment.data.fill(byte);
                }
            }
        }
        Reset(i) => {
            mbufs[i % count].reset();
            packets[i % count].truncate(1);
            packets[i % count][0].headroom = HEADROOM;
            packets[i % count][0].data.clear();
        }
        Drop(i) => {
            drop(mbufs.swap_remove(i % count));
            packets.swap_remove(i % count);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_mbuf_does_what_a_vector_of_bytes_would(
        operations in prop::collection::vec(operation(), 1..120),
        cache in 0..8_u32,
    ) {
        let pool = pool(BUFFERS, DATA_ROOM as u32, cache, 1);
        let (mut mbufs, mut packets) = (Vec::new(), Vec::new());
        for operation in operations {
            apply(&pool, &mut mbufs, &mut packets, operation);
            check_all(&pool, &mbufs, &packets);
        }
        drop(mbufs);
        prop_assert_eq!(pool.available(), BUFFERS);
    }
}
