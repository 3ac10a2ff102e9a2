use super::*;
use crate::HashType;
use crate::testing::pool;

fn refill(ring: &mut RxShadowRing, count: u32, mut post: impl FnMut(u32, u64)) -> u32 {
    ring.refill(count, |first, addresses| {
        assert!(addresses.skip(addresses.len() + 1).is_empty());
        let pairs = addresses.groups::<2>();
        let whole = 2 * pairs.len();
        let rest = addresses.skip(whole).groups::<1>();
        assert_eq!(whole + rest.len(), addresses.len());
        let all = pairs.flatten().chain(rest.flatten());
        (first..).zip(all).for_each(|(number, at)| post(number, at));
    })
}

fn set_received(view: &Posted<'_>, index: u32, len: u32, hash: u32, rx_word: u32) -> bool {
    let neighbours = view.neighbours(index, 2);
    assert!(!neighbours.set_received(neighbours.len(), 1, 0, 0));
    neighbours.set_received(0, len, hash, rx_word)
}

#[test]
fn what_was_noted_is_what_is_received() {
    let pool = pool(32, 192, 4, 1);
    let mut ring = RxShadowRing::new(8, pool.clone(), 5);
    let mut posted = Vec::new();
    assert_eq!(
        refill(&mut ring, 8, |i, address| posted.push((i, address))),
        8
    );
    assert_eq!(
        posted.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
        (0..8).collect::<Vec<_>>()
    );
    let view = ring.posted();
    assert_eq!(view.len(), 8);
    // TCP over IPv4, checksums right, VLAN 7.
    assert!(set_received(
        &view,
        0,
        60,
        0xABCD_EF01,
        1 << 17 | 1 << 25 | 1 << 27 | 0x1007
    ));
    assert!(set_received(&view, 1, 64, 0, 0));
    assert!(!set_received(&view, 2, 65, 0, 0) && !set_received(&view, 2, 0, 0, 0));
    assert!(!set_received(&view, 8, 60, 0, 0));

    let mut batch = Batch::with_capacity(4);
    assert_eq!(ring.receive(2, &mut batch), 2);
    let [first, second] = batch.as_slice() else {
        panic!()
    };
    assert_eq!(first.data_address(), posted[0].1);
    assert_eq!(second.data_address(), posted[1].1);
    assert_eq!(
        (first.data_len(), first.packet_len(), first.headroom()),
        (60, 60, 128)
    );
    assert_eq!(
        (first.port(), first.segments(), first.tx_word().bits()),
        (5, 1, 0)
    );
    assert_eq!(first.hash(), Some((0xABCD_EF01, HashType::TcpIpv4)));
    assert_eq!(first.vlan(), Some(7));
    assert_eq!(
        (second.data_len(), second.hash(), second.vlan()),
        (64, None, None)
    );
    assert!(first.is_simple() && second.is_simple());
    assert_eq!((ring.len(), ring.room(), pool.in_use()), (6, 2, 8));
}

#[test]
fn packets_are_received_one_by_one_as_they_are_noted_and_received() {
    let arrival = |number: u32| Arrival {
        len: 1 + number % 64,
        hash: number,
        rx_word: 1 << 17 | number,
    };
    // (posted, room, arrivals, first bad one and its length, received), in a ring of 16 that wraps
    // behind 3.
    let cases = [
        (16, 16, 9, None, 3),
        (2, 16, 9, None, 2),
        (16, 1, 9, None, 1),
        (16, 0, 9, None, 0),
        (0, 9, 9, None, 0),
        (16, 16, 2, None, 2),
        (16, 16, 9, Some((1, 0)), 1),
        (16, 16, 9, Some((2, 65)), 2),
        (16, 16, 9, Some((0, u32::MAX)), 0),
        (16, 16, 9, Some((3, 0)), 3),
    ];
    for (posted, room, arrivals, bad, received) in cases {
        let case = (posted, room, arrivals, bad);
        let pool = pool(64, 192, 0, 0);
        let mut ring = RxShadowRing::with_cursor(16, pool.clone(), 5, u32::MAX - 2);
        let mut addresses = Vec::new();
        refill(&mut ring, posted, |_, address| addresses.push(address));
        let mut batch = Batch::with_capacity(room);
        let told = std::cell::Cell::new(0);
        let arrivals = (0..arrivals).map(|number| {
            told.set(told.get() + 1);
            match bad {
                Some((at, len)) if at == number => Some(Arrival { len, ..arrival(0) }),
                _ => Some(arrival(number)),
            }
        });
        let (count, bytes) = ring.receive_each(arrivals, &mut batch);
        assert_eq!((count, batch.len()), (received, received), "{case:?}");
        assert_eq!(bytes, (1..=received as u64).sum(), "{case:?}");
        assert_eq!(ring.len() as usize, posted as usize - received);
        // None is looked at that could not be received.
        assert!(
            told.get() <= received + usize::from(bad.is_some()),
            "{case:?}"
        );
        for (number, (mbuf, address)) in (0..).zip(batch.iter().zip(&addresses)) {
            let noted = arrival(number);
            assert_eq!(mbuf.data_address(), *address);
            assert_eq!((mbuf.packet_len(), mbuf.port()), (noted.len as usize, 5));
            assert_eq!(mbuf.hash(), Some((number, HashType::TcpIpv4)));
        }
        drop((batch, ring));
        assert_eq!(pool.available(), 64);
    }
    let (_pool, mut ring) = (
        pool(4, 192, 0, 0),
        RxShadowRing::new(4, pool(4, 192, 0, 0), 0),
    );
    refill(&mut ring, 4, |_, _| {});
    let nothing_third = [Some(arrival(0)), Some(arrival(1)), None, Some(arrival(3))];
    let mut batch = Batch::with_capacity(4);
    assert_eq!(
        ring.receive_each(nothing_third.into_iter(), &mut batch),
        (2, 3)
    );
}

#[test]
fn receiving_stops_at_the_end_of_the_ring_and_of_the_batch() {
    let pool = pool(32, 192, 0, 0);
    let mut ring = RxShadowRing::new(4, pool.clone(), 0);
    refill(&mut ring, 4, |_, _| {});
    let mut batch = Batch::with_capacity(3);
    assert_eq!(ring.receive(u32::MAX, &mut batch), 3);
    assert_eq!(ring.receive(1, &mut batch), 0);
    assert_eq!((ring.len(), batch.len()), (1, 3));
    assert_eq!(ring.receive(9, &mut Batch::with_capacity(9)), 1);
    assert!(ring.is_empty() && ring.posted().is_empty());
    drop((batch, ring));
    assert_eq!(pool.available(), 32);
}

#[test]
fn a_refill_takes_what_an_exhausted_pool_has_left() {
    let pool = pool(10, 192, 4, 1);
    let mut ring = RxShadowRing::new(16, pool.clone(), 0);
    let kept = pool.alloc();
    let mut posted = 0;
    assert_eq!(refill(&mut ring, 16, |_, _| posted += 1), 9);
    assert_eq!(refill(&mut ring, 16, |_, _| posted += 1), 0);
    drop(kept);
    assert_eq!(refill(&mut ring, 16, |_, _| posted += 1), 1);
    assert_eq!((posted, ring.len(), pool.available()), (10, 10, 0));
    assert_eq!(ring.discard(3), 3);
    assert_eq!((ring.len(), pool.available()), (7, 3));
    assert_eq!(ring.discard(99), 7);
    assert_eq!((ring.discard(1), pool.available()), (0, 10));
}

#[test]
fn a_full_ring_is_not_refilled() {
    let pool = pool(10, 192, 0, 0);
    let mut ring = RxShadowRing::new(3, pool.clone(), 0);
    assert_eq!(ring.capacity(), 4);
    assert_eq!(refill(&mut ring, 9, |_, _| {}), 4);
    assert_eq!(
        (ring.room(), refill(&mut ring, 1, |_, _| unreachable!())),
        (0, 0)
    );
}

#[test]
fn buffers_come_out_in_the_order_they_were_posted_across_the_wrap_of_the_cursors() {
    let pool = pool(64, 192, 8, 1);
    let mut ring = RxShadowRing::with_cursor(16, pool.clone(), 0, u32::MAX - 20);
    let mut posted = std::collections::VecDeque::new();
    for turn in 0..30 {
        refill(&mut ring, 11, |_, address| posted.push_back(address));
        let count = 1 + turn % 7;
        let view = ring.posted();
        for i in 0..count {
            assert!(set_received(&view, i, i + 1, i, 0));
        }
        let mut batch = Batch::with_capacity(16);
        assert_eq!(ring.receive(count, &mut batch), count);
        for (i, mbuf) in batch.iter().enumerate() {
            assert_eq!(Some(mbuf.data_address()), posted.pop_front());
            assert_eq!(mbuf.data_len(), i + 1);
        }
    }
    assert!(ring.tail < 1000);
    drop(ring);
    assert_eq!(pool.available(), 64);
}

#[test]
fn a_buffer_received_without_a_note_is_a_valid_packet() {
    let pool = pool(2, 300, 0, 0);
    let mut large = pool.alloc().unwrap();
    large.append(100).unwrap();
    // A line that was a clone's knows lengths of another pool.
    let other = crate::testing::pool(1, 192, 0, 0);
    drop(large.clone_shared(&other).unwrap());
    drop(large);
    for pool in [pool, other] {
        let mut ring = RxShadowRing::new(2, pool.clone(), 0);
        refill(&mut ring, 2, |_, _| {});
        let mut batch = Batch::with_capacity(2);
        ring.receive(2, &mut batch);
        for mbuf in &batch {
            assert!(mbuf.headroom() + mbuf.data_len() <= pool.data_room() as usize);
            assert_eq!(mbuf.packet_len(), mbuf.data().len());
        }
    }
}
