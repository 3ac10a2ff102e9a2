//! Model checks of the ring, and of how a pool ends while threads put, exit and claim:
//! `RUSTFLAGS="--cfg mana_loom" cargo test -p pmd-api --release --lib loom`.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};

use loom::thread;

use super::depot::{Claim, Depot};
use super::record::RecordTable;
use super::ring::{BulkRing, Home};

/// All executions with at most this many preemptions; more take minutes and were run once.
const PREEMPTIONS: usize = 5;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// A body that counts its drops.
struct Body(std::sync::Arc<AtomicUsize>);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

type TestDepot = Depot<u32, Body>;

/// A pointer that may be sent: the rules of the pool say when it may be used.
struct Shared<T>(NonNull<T>);
// SAFETY: what it names is made to be used by several threads.
unsafe impl<T> Send for Shared<T> {}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    fn get(self) -> NonNull<T> {
        self.0
    }
}

fn new_depot(
    items: &[u32],
    records: u32,
    size: u32,
) -> (Shared<TestDepot>, std::sync::Arc<AtomicUsize>) {
    let freed = std::sync::Arc::new(AtomicUsize::new(0));
    let records = RecordTable::new(records, size);
    (
        Shared(Depot::new(
            items,
            records,
            Body(std::sync::Arc::clone(&freed)),
        )),
        freed,
    )
}

fn take(depot: Shared<TestDepot>, count: usize) -> Vec<u32> {
    let mut slots = vec![MaybeUninit::uninit(); count];
    // SAFETY: the tests take only while the pool has a handle.
    let got = unsafe { depot.get().as_ref() }.take(&mut slots, 0);
    // SAFETY: `take` initialises as many as it says.
    slots[..got]
        .iter()
        .map(|slot| unsafe { slot.assume_init() })
        .collect()
}

fn put(depot: Shared<TestDepot>, items: &[u32]) {
    // SAFETY: the tests put what they took, once.
    unsafe { Depot::put(depot.get(), items) }
}

fn retire(depot: Shared<TestDepot>) {
    // SAFETY: each test retires once, after all takers are done.
    unsafe { Depot::retire(depot.get()) }
}

fn new_claim(depot: Shared<TestDepot>) -> Option<Claim<u32, Body>> {
    // SAFETY: the tests claim while a handle or an item of theirs keeps the depot.
    unsafe { Claim::new(depot.get()) }
}

/// Puts items into a claim's record.
fn put_in(claim: &Claim<u32, Body>, depot: Shared<TestDepot>, items: &[u32]) {
    // SAFETY: the claim is used by one thread; it puts what it took, once.
    unsafe { claim.record().as_ref().put(items, || depot.get()) }
}

/// A claim that changes threads before its first use there.
struct Moved(Claim<u32, Body>);
// SAFETY: one thread at a time uses it; the handover is a spawn.
unsafe impl Send for Moved {}

impl Moved {
    fn into_inner(self) -> Claim<u32, Body> {
        self.0
    }
}

#[test]
fn two_threads_take_and_add_and_no_item_is_lost_or_doubled() {
    check(|| {
        // The cursors start where the 32-bit wrap comes in the middle.
        let mut ring = BulkRing::with_cursor(2, u32::MAX);
        let shared = Shared(NonNull::from(&mut ring));
        // One at a time, so that each writes a slot that the other has read.
        let turn = move || {
            let ring = shared.get();
            for _ in 0..2 {
                let mut slot = [MaybeUninit::uninit()];
                // SAFETY: the ring outlives the threads, which are joined. One item is left for
                // each of them.
                assert_eq!(unsafe { ring.as_ref() }.dequeue(&mut slot, 1), 1);
                // SAFETY: `dequeue` has initialised it.
                let item = unsafe { slot[0].assume_init() };
                // SAFETY: taken above.
                assert_eq!(unsafe { BulkRing::enqueue(ring, &[item]) }, Home::Continue);
            }
        };
        // SAFETY: new items, as many as the ring was made for.
        let added = unsafe { BulkRing::enqueue(shared.get(), &[1, 2]) };
        assert_eq!(added, Home::Continue);
        let other = thread::spawn(turn);
        turn();
        other.join().unwrap();
        // SAFETY: no thread is left.
        let ring = unsafe { shared.get().as_ref() };
        assert_eq!(ring.len(), 2);
        let mut slots = [MaybeUninit::uninit(); 2];
        assert_eq!(ring.dequeue(&mut slots, 2), 2);
        // SAFETY: both are initialised.
        let mut items = slots.map(|slot| unsafe { slot.assume_init() });
        items.sort_unstable();
        assert_eq!(items, [1, 2]);
    });
}

#[test]
fn the_last_of_three_to_come_home_frees_the_pool_once() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2], 0, 0);
        let items = take(depot, 2);
        let (one, two) = (items[0], items[1]);
        let first = thread::spawn(move || put(depot, &[one]));
        let second = thread::spawn(move || put(depot, &[two]));
        retire(depot);
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn what_rests_in_a_record_counts_as_home_and_is_not_counted_twice() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2, 3], 1, 2);
        let items = take(depot, 3);
        let owner = thread::spawn(move || {
            let claim = new_claim(depot).unwrap();
            put_in(&claim, depot, &items[..1]);
            put_in(&claim, depot, &items[1..]);
            // Dropped in the end, with what came in after the count.
            Moved(claim)
        });
        retire(depot);
        drop(owner.join().unwrap().into_inner());
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn a_record_that_is_flushed_while_the_pool_ends_frees_it_once() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2, 3], 1, 1);
        let items = take(depot, 3);
        let owner = thread::spawn(move || {
            let claim = new_claim(depot).unwrap();
            // Limit 1: the second and the third flush.
            for item in items {
                put_in(&claim, depot, &[item]);
            }
            drop(claim);
        });
        retire(depot);
        owner.join().unwrap();
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn a_thread_that_ends_while_the_pool_ends_frees_it_once() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2], 1, 2);
        let items = take(depot, 2);
        let full = new_claim(depot).unwrap();
        put_in(&full, depot, &items[..1]);
        let other = items[1];
        let owner = {
            let full = Moved(full);
            thread::spawn(move || drop(full.into_inner()))
        };
        let dropper = thread::spawn(move || put(depot, &[other]));
        retire(depot);
        owner.join().unwrap();
        dropper.join().unwrap();
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn a_record_claimed_without_a_handle_while_the_pool_ends_frees_it_once() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2], 1, 2);
        let items = take(depot, 2);
        let owner = thread::spawn(move || {
            // The items in hand keep the depot.
            let claim = new_claim(depot).unwrap();
            put_in(&claim, depot, &items);
            drop(claim);
        });
        retire(depot);
        owner.join().unwrap();
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn a_record_goes_from_thread_to_thread_with_what_it_holds_sent_home() {
    check(|| {
        let (depot, freed) = new_depot(&[1, 2], 1, 2);
        let turn = move || {
            let Some(claim) = new_claim(depot) else {
                return;
            };
            let mut slots = [MaybeUninit::uninit(); 1];
            // SAFETY: this thread's record; the pool has a handle until the join below.
            let got = unsafe {
                let depot = depot.get();
                claim.record().as_ref().take(&mut slots, 1, depot.as_ref())
            };
            if got == 1 {
                // SAFETY: initialised by `take`.
                put_in(&claim, depot, &[unsafe { slots[0].assume_init() }]);
            }
        };
        let other = thread::spawn(turn);
        turn();
        other.join().unwrap();
        // SAFETY: not retired yet.
        assert_eq!(unsafe { depot.get().as_ref() }.available(), 2);
        let mut home = take(depot, 2);
        home.sort_unstable();
        assert_eq!(home, [1, 2]);
        put(depot, &home);
        retire(depot);
        assert_eq!(freed.load(StdOrdering::Relaxed), 1);
    });
}
