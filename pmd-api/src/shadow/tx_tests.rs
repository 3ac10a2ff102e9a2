use super::*;
use crate::Pool;
use crate::testing::{batch, pool};

/// First byte of each packet.
fn numbers(batch: &Batch) -> Vec<u8> {
    batch.iter().map(|mbuf| mbuf.data()[0]).collect()
}

/// Pushes as a driver does: simple packets in a row, others one by one. Tells `accept` which it
/// was.
fn push_while(
    ring: &mut TxShadowRing,
    batch: &mut Batch,
    limit: usize,
    mut accept: impl FnMut(&Mbuf, bool) -> bool,
) -> usize {
    let mut push = ring.push(batch, limit);
    let mut declined = false;
    let mut taken = 0;
    while push.peek().is_some() {
        let first = push.batch.as_slice()[0].line().origin.get().to_own();
        let ahead = push
            .peek()
            .is_some_and(|mbuf| mbuf.line().is_simple_of(first));
        let simple = push.simple(std::iter::repeat(()), |mbuf, ()| {
            declined = !accept(mbuf, true);
            !declined
        });
        assert_eq!(ahead, simple != 0 || declined);
        taken += simple;
        if declined || !push.next(|mbuf| accept(mbuf, false)) {
            break;
        }
        taken += 1;
    }
    assert_eq!(push.finish(), taken);
    taken
}

fn push_all(ring: &mut TxShadowRing, batch: &mut Batch) -> Vec<bool> {
    let mut verdicts = Vec::new();
    let count = push_while(ring, batch, usize::MAX, |_, simple| {
        verdicts.push(simple);
        true
    });
    assert_eq!(count, verdicts.len());
    verdicts
}

/// What the runs say, oldest first.
fn runs(ring: &TxShadowRing) -> Vec<(u32, u32)> {
    let mask = ring.runs.len() as u32 - 1;
    let older = (0..ring.last_run.wrapping_sub(ring.first_run))
        .map(|i| ring.runs[(ring.first_run.wrapping_add(i) & mask) as usize]);
    let newest = Run {
        end: ring.tail,
        alike: ring.newest,
    };
    let mut start = ring.head;
    older
        .chain([newest])
        .map(|run| {
            let count = run.end.wrapping_sub(std::mem::replace(&mut start, run.end));
            (run.alike.pool(), count)
        })
        .filter(|&(_, count)| count != 0)
        .collect()
}

#[test]
fn the_accepted_prefix_moves_in_and_the_rest_slides_to_the_front() {
    let pool = pool(64, 192, 0, 0);
    let mut ring = TxShadowRing::new(8);
    let mut batch = batch(&pool, 20);
    // Declined.
    assert_eq!(
        push_while(&mut ring, &mut batch, 99, |mbuf, _| mbuf.data()[0] != 3),
        3
    );
    assert_eq!(numbers(&batch), (3..20).collect::<Vec<_>>());
    // Limited.
    assert_eq!(push_while(&mut ring, &mut batch, 2, |_, _| true), 2);
    assert_eq!(
        push_while(&mut ring, &mut batch, 0, |_, _| unreachable!()),
        0
    );
    // Full, and across the end of the slots.
    ring.release(4);
    assert_eq!((ring.len(), ring.room()), (1, 7));
    assert_eq!(push_all(&mut ring, &mut batch), [true; 7]);
    assert_eq!(numbers(&batch), (12..20).collect::<Vec<_>>());
    assert_eq!(
        push_while(&mut ring, &mut batch, 99, |_, _| unreachable!()),
        0
    );
    assert_eq!(pool.in_use(), 16);
    ring.release(u32::MAX);
    assert!(ring.is_empty());
    assert_eq!(pool.in_use(), 8);
    assert_eq!(
        push_while(
            &mut ring,
            &mut Batch::with_capacity(1),
            9,
            |_, _| unreachable!()
        ),
        0
    );
}

#[test]
fn simple_packets_of_one_pool_are_one_run_and_others_are_told_apart() {
    let (a, b) = (pool(64, 192, 0, 0), pool(64, 192, 0, 0));
    let (in_a, in_b) = (a.id().0, b.id().0);
    let mut ring = TxShadowRing::new(64);
    assert_eq!(push_all(&mut ring, &mut batch(&a, 3)), [true; 3]);
    assert_eq!(push_all(&mut ring, &mut batch(&a, 2)), [true; 2]);
    assert_eq!(push_all(&mut ring, &mut batch(&b, 2)), [true; 2]);
    assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2)]);

    // Two pools in one burst; a chain; a clone; what was cloned.
    let mut mixed = batch(&a, 4);
    mixed.as_mut_slice()[1] = b.alloc().unwrap();
    let tail = a.alloc().unwrap();
    mixed.as_mut_slice()[2].chain(tail).unwrap();
    let clone = mixed.as_mut_slice()[3].clone_shared(&b).unwrap();
    assert_eq!(push_all(&mut ring, &mut mixed), [true, false, false, false]);
    assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2), (in_a, 4)]);

    // A clone in front: those behind it in the same pool are simple, the run is not.
    let mut behind = batch(&a, 2);
    drop(clone);
    let mut first = batch(&a, 1);
    let clone = first.as_mut_slice()[0].clone_shared(&b).unwrap();
    let mut front = Batch::with_capacity(3);
    front.push(clone).unwrap();
    front.append(&mut behind);
    assert_eq!(push_all(&mut ring, &mut front), [false, true, true]);
    assert_eq!(runs(&ring), [(in_a, 5), (in_b, 2), (in_a, 7)]);

    drop(first);
    drop(behind);
    ring.release(4);
    assert_eq!(runs(&ring)[0], (in_a, 1));
    ring.release(2);
    assert_eq!(runs(&ring), [(in_b, 1), (in_a, 7)]);
    drop(ring);
    assert_eq!((a.available(), b.available()), (64, 64));
}

/// Pushes all as plain ones, as far as they are; of each packet the lengths of its plain segments.
fn push_plain(ring: &mut TxShadowRing, batch: &mut Batch) -> Vec<Vec<u32>> {
    let mut lengths = Vec::new();
    let mut push = ring.push(batch, usize::MAX);
    let count = push.plain(|mbuf, segments| {
        let mut starts = mbuf.iter().map(|segment| segment.data_address());
        let mut one = |segment: PlainSegment| {
            assert_eq!(Some(segment.address), starts.next());
            segment.len
        };
        lengths.push(segments.by_ref().map(&mut one).collect::<Vec<_>>());
        assert_eq!(segments.is_done(), starts.next().is_none());
        segments.is_done()
    });
    assert_eq!(push.finish(), count);
    lengths
}

#[test]
fn chains_are_plain_up_to_a_segment_that_is_shared_or_empty_or_of_another_pool() {
    let (a, b) = (pool(64, 192, 0, 0), pool(64, 192, 0, 0));
    let mut ring = TxShadowRing::new(16);
    let chain = |others: [Mbuf; 2]| {
        let mut mbuf = batch(&a, 1).pop().unwrap();
        for other in others {
            mbuf.chain(other).unwrap();
        }
        let mut batch = Batch::with_capacity(1);
        batch.push(mbuf).unwrap();
        batch
    };
    let one = |pool: &Pool, len: usize| {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.extend_from_slice(&[7; 64][..len]).unwrap();
        mbuf
    };
    let mut good = chain([one(&a, 3), one(&a, 4)]);
    assert_eq!(push_plain(&mut ring, &mut good), [[60, 3, 4]]);
    let mut empty = chain([one(&a, 3), one(&a, 0)]);
    assert_eq!(push_plain(&mut ring, &mut empty), [[60, 3]]);
    let mut foreign = chain([one(&b, 3), one(&a, 4)]);
    assert_eq!(push_plain(&mut ring, &mut foreign), [[60]]);
    let mut cloned = one(&a, 5);
    let clone = cloned.clone_shared(&a).unwrap();
    let mut shared = chain([one(&a, 3), cloned]);
    assert_eq!(push_plain(&mut ring, &mut shared), [[60, 3]]);
    let mut of_clone = chain([clone, one(&a, 4)]);
    assert_eq!(push_plain(&mut ring, &mut of_clone), [[60]]);
    // Only the good one is in, and of the others all is still there.
    assert_eq!((ring.len(), runs(&ring)), (1, vec![(a.id().0, 1)]));
    drop((empty, foreign, shared, of_clone));
    assert_eq!((a.in_use(), b.in_use()), (3, 0));
    ring.release(1);
    assert_eq!(a.in_use(), 0);
}

/// All lines of the pool, of 512, are at home and keep the invariant of free memory.
fn whole(pool: &Pool) {
    let mut lines = [std::mem::MaybeUninit::uninit(); 512];
    assert_eq!(pool.fill(&mut lines, 512), 512);
    for handle in lines {
        // SAFETY: `fill` has initialised all 512; they are lines of this pool and this thread's.
        let line = unsafe { handle.assume_init().line() };
        assert!(line.is_simple() && line.next.get().is_none());
        // SAFETY: as above: a whole mbuf, which goes home.
        drop(unsafe { Mbuf::from_handle(handle.assume_init()) });
    }
}

#[test]
fn chains_go_home_whole_however_they_were_accepted() {
    let (a, b) = (pool(512, 192, 8, 1), pool(64, 192, 0, 0));
    let mut ring = TxShadowRing::new(64);
    // Of 1 to 9 segments, the third of each fourth chain from elsewhere.
    let mut packets = Batch::with_capacity(40);
    for number in 0..40 {
        let mut mbuf = batch(&a, 1).pop().unwrap();
        for at in 0..number % 9 {
            let pool = if number % 4 == 0 && at == 1 { &b } else { &a };
            mbuf.chain(batch(pool, 1).pop().unwrap()).unwrap();
        }
        packets.push(mbuf).unwrap();
    }
    let out = (a.in_use(), b.in_use());
    let mut push = ring.push(&mut packets, usize::MAX);
    let taken = push.plain(|_, segments| segments.by_ref().count() != 99);
    assert_eq!((taken, push.finish()), (40, 40));
    assert_eq!((a.in_use(), b.in_use()), out);
    ring.release(40);
    assert_eq!((a.in_use(), b.in_use()), (0, 0));
    whole(&a);

    // Without one from elsewhere they go home together.
    for turn in 0..100 {
        let mut packets = batch(&a, 30);
        for mbuf in packets.iter_mut().skip(1) {
            mbuf.chain(batch(&a, 1).pop().unwrap()).unwrap();
            mbuf.chain(batch(&a, 1).pop().unwrap()).unwrap();
        }
        if turn % 2 == 0 {
            assert_eq!(push_plain(&mut ring, &mut packets).len(), 30);
        } else {
            // One by one, as where the loop for plain ones can't take them.
            let mut push = ring.push(&mut packets, usize::MAX);
            while push.next(|_| true) {}
            assert_eq!(push.finish(), 30);
        }
        assert!(ring.newest.is(Kind::Plain));
        ring.release(30);
        assert_eq!(a.in_use(), 0);
    }
    whole(&a);
}

#[test]
fn a_packet_that_is_still_cloned_when_it_was_sent_goes_home_with_the_clone() {
    let pool = pool(4, 192, 2, 1);
    let mut ring = TxShadowRing::new(4);
    let mut sent = batch(&pool, 1);
    let clone = sent.as_mut_slice()[0].clone_shared(&pool).unwrap();
    assert_eq!(push_all(&mut ring, &mut sent), [false]);
    ring.release(1);
    assert_eq!((pool.available(), clone.data().len()), (2, 60));
    drop(clone);
    assert_eq!(pool.available(), 4);
}

#[test]
fn released_simple_packets_are_whole_when_they_are_allocated_again() {
    let pool = pool(8, 192, 0, 0);
    let mut ring = TxShadowRing::new(8);
    let mut sent = batch(&pool, 8);
    for mbuf in &mut sent {
        mbuf.adj(30).unwrap();
        mbuf.set_port(9);
    }
    push_all(&mut ring, &mut sent);
    ring.release(8);
    for mbuf in batch(&pool, 8) {
        assert_eq!(
            (mbuf.data_len(), mbuf.headroom(), mbuf.port()),
            (60, 128, u16::MAX)
        );
    }
}

#[test]
fn the_order_of_packets_survives_the_wrap_of_the_cursors() {
    let pools = [pool(64, 192, 8, 1), pool(64, 192, 8, 1)];
    let mut ring = TxShadowRing::with_cursor(16, u32::MAX - 40);
    let in_flight = |pool: &Pool| pool.in_use();
    for turn in 0..40 {
        let pool = &pools[turn / 3 % 2];
        let before = in_flight(pool);
        let mut batch = batch(pool, 5);
        push_all(&mut ring, &mut batch);
        assert_eq!(in_flight(pool), before + 5);
        // Keeps up to ten in flight.
        ring.release(ring.len().saturating_sub(10));
        assert_eq!(pools.iter().map(in_flight).sum::<u32>(), ring.len());
    }
    assert!(ring.tail < 1000);
}

#[test]
fn packets_in_flight_can_be_freed_on_a_thread_that_never_saw_their_pool() {
    let pool = pool(64, 192, 8, 2);
    let mut ring = TxShadowRing::new(64);
    push_all(&mut ring, &mut batch(&pool, 40));
    let region = std::sync::Arc::downgrade(pool.region());
    drop(pool);
    std::thread::spawn(move || {
        ring.release(39);
        drop(ring);
    })
    .join()
    .unwrap();
    assert!(region.upgrade().is_none());
}

#[test]
fn a_declining_caller_that_panics_loses_nothing() {
    let pool = pool(8, 192, 0, 0);
    let mut ring = TxShadowRing::new(8);
    let mut batch = batch(&pool, 4);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        push_while(&mut ring, &mut batch, 4, |mbuf, _| {
            assert!(mbuf.data()[0] < 2);
            true
        })
    }));
    assert!(caught.is_err());
    assert_eq!((ring.len(), batch.len()), (0, 4));
}

/// Only a packet that is alone, simple and like the newest, and only where there is room.
#[test]
fn one_packet_goes_in_by_itself_or_nothing_changes() {
    let (a, b) = (pool(16, 192, 0, 0), pool(16, 192, 0, 0));
    let in_a = a.id().0;
    let mut ring = TxShadowRing::with_cursor(8, u32::MAX - 6);
    let refused = |ring: &mut TxShadowRing, batch: &mut Batch, asked: bool| {
        let (before, len) = (ring.len(), batch.len());
        let mut was_asked = false;
        assert!(!ring.push_one(batch, |_| {
            was_asked = true;
            false
        }));
        assert_eq!((ring.len(), batch.len()), (before, len));
        assert_eq!(was_asked, asked);
    };
    push_all(&mut ring, &mut batch(&a, 3));

    // Nothing is allowed yet.
    refused(&mut ring, &mut batch(&a, 1), false);
    ring.allow(99);
    assert_eq!((ring.room(), ring.allowed()), (5, 5));
    refused(&mut ring, &mut Batch::with_capacity(1), false);
    refused(&mut ring, &mut batch(&a, 2), false);
    refused(&mut ring, &mut batch(&b, 1), false);
    let mut chain = batch(&a, 1);
    chain.as_mut_slice()[0].chain(a.alloc().unwrap()).unwrap();
    refused(&mut ring, &mut chain, false);
    let mut shared = batch(&a, 1);
    let clone = shared.as_mut_slice()[0].clone_shared(&a).unwrap();
    refused(&mut ring, &mut shared, false);
    let mut clones = Batch::with_capacity(1);
    clones.push(clone).unwrap();
    refused(&mut ring, &mut clones, false);
    drop(clones);

    refused(&mut ring, &mut batch(&a, 1), true);
    for len in 4..=8 {
        let mut one = batch(&a, 1);
        let address = one.as_slice()[0].data_address();
        assert!(ring.push_one(&mut one, |mbuf| mbuf.data_address() == address));
        assert!(one.is_empty());
        assert_eq!(runs(&ring), [(in_a, len)]);
        assert_eq!((ring.allowed(), ring.room()), (8 - len, 8 - len));
    }
    refused(&mut ring, &mut batch(&a, 1), false);
    drop((chain, shared));
    assert_eq!(a.in_use(), 8);

    // Room alone does not allow more.
    ring.release(8);
    refused(&mut ring, &mut batch(&a, 1), false);
    ring.allow(3);
    // Behind others they are not alike.
    push_all(&mut ring, &mut batch(&b, 1));
    refused(&mut ring, &mut batch(&a, 1), false);
    push_all(&mut ring, &mut batch(&a, 1));
    assert_eq!((ring.allowed(), ring.room()), (1, 6));
    // Nor are single ones behind chains, although their buffers are.
    let mut chain = batch(&a, 1);
    chain.as_mut_slice()[0]
        .chain(batch(&a, 1).pop().unwrap())
        .unwrap();
    assert_eq!(push_plain(&mut ring, &mut chain), [[60, 60]]);
    assert_eq!(ring.allowed(), 0);
    ring.allow(5);
    refused(&mut ring, &mut batch(&a, 1), false);
    let mut more = batch(&a, 3);
    push_all(&mut ring, &mut more);
    // More came in than were allowed.
    ring.allow(1);
    push_all(&mut ring, &mut batch(&a, 2));
    assert_eq!((ring.len(), ring.allowed()), (8, 0));
    assert_eq!(ring.taken().wrapping_sub(ring.released()), 8);
    drop(ring);
    assert_eq!((a.available(), b.available()), (16, 16));
}

/// Pushes as a driver does that takes whole bursts of simple packets at once: bytes of those accepted.
fn push_alike(ring: &mut TxShadowRing, batch: &mut Batch) -> (usize, u64) {
    let places = 0..batch.len();
    ring.push_alike(batch, places, |mbuf, _| mbuf.packet_len() as u64)
}

#[test]
fn whole_bursts_of_one_pool_come_in_at_once_or_not_at_all() {
    let (a, b) = (pool(32, 192, 0, 0), pool(32, 192, 0, 0));
    let (in_a, in_b) = (a.id().0, b.id().0);
    let mut ring = TxShadowRing::with_cursor(16, u32::MAX - 7);
    ring.allow(4);
    assert_eq!(push_alike(&mut ring, &mut batch(&a, 3)), (3, 180));
    assert_eq!((ring.len(), ring.allowed()), (3, 1));
    // Another pool is another run; more than allowed leave nothing of that.
    assert_eq!(push_alike(&mut ring, &mut batch(&b, 2)), (2, 120));
    assert_eq!(
        (runs(&ring), ring.allowed()),
        (vec![(in_a, 3), (in_b, 2)], 0)
    );

    let refused = |ring: &mut TxShadowRing, batch: &mut Batch| {
        let (before, len) = ((runs(ring), ring.taken()), batch.len());
        assert_eq!(push_alike(ring, batch), (0, 0));
        assert_eq!(((runs(ring), ring.taken()), batch.len()), (before, len));
    };
    refused(&mut ring, &mut Batch::with_capacity(1));
    // Two pools, in either order; an empty packet; a chain; what is cloned, and its clone.
    let mut both = Batch::with_capacity(2);
    both.append(&mut batch(&a, 1));
    both.append(&mut batch(&b, 1));
    refused(&mut ring, &mut both);
    both.as_mut_slice().reverse();
    refused(&mut ring, &mut both);
    let mut empty = batch(&a, 2);
    empty.as_mut_slice()[1] = a.alloc().unwrap();
    refused(&mut ring, &mut empty);
    let mut chain = batch(&a, 2);
    let behind = batch(&a, 1).pop().unwrap();
    chain.as_mut_slice()[1].chain(behind).unwrap();
    refused(&mut ring, &mut chain);
    let mut shared = batch(&a, 1);
    let clone = shared.as_mut_slice()[0].clone_shared(&a).unwrap();
    refused(&mut ring, &mut shared);
    let mut clones = Batch::with_capacity(1);
    clones.push(clone).unwrap();
    refused(&mut ring, &mut clones);
    // More than there are places; across the end of the slots; more than there is room for.
    let mut three = batch(&a, 3);
    assert_eq!(ring.push_alike(&mut three, 0..2, |_, _| 1), (0, 0));
    refused(&mut ring, &mut batch(&a, 4));
    assert_eq!(push_alike(&mut ring, &mut three), (3, 180));
    assert_eq!(push_alike(&mut ring, &mut batch(&a, 7)), (7, 420));
    refused(&mut ring, &mut batch(&a, 2));
    assert_eq!(ring.room(), 1);

    // Behind chains the other way decides.
    ring.release(14);
    push_all(&mut ring, &mut chain);
    refused(&mut ring, &mut batch(&a, 1));
    push_all(&mut ring, &mut batch(&a, 1));
    assert_eq!(push_alike(&mut ring, &mut batch(&a, 1)), (1, 60));
    drop((ring, both, empty, shared, clones));
    assert_eq!((a.available(), b.available()), (32, 32));
}
