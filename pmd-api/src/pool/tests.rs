use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use dma_memory::HugePages;
use proptest::prelude::*;

use super::*;
use crate::testing::{batch, pool};

fn config() -> PoolConfig {
    PoolConfig {
        buffers: 64,
        cache: 8,
        memory: RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        },
        ..PoolConfig::default()
    }
}

/// Whether the memory of a pool is still mapped, when the test holds nothing of it.
fn watch(pool: &Pool) -> Weak<Region> {
    Arc::downgrade(pool.region())
}

fn is_freed(region: &Weak<Region>) -> bool {
    region.upgrade().is_none()
}

#[test]
fn every_buffer_has_its_own_place_an_odd_number_of_lines_apart() {
    // More than one slab of metadata lines.
    for data_room in [129, 2048, 2176, 4096] {
        let pool = pool(2100, data_room, 32, 1);
        let mut batch = Batch::with_capacity(2100);
        pool.alloc_bulk(&mut batch, 2100).unwrap();
        let mut starts: Vec<u64> = batch
            .iter()
            .map(|mbuf| mbuf.data_address() - HEADROOM as u64)
            .collect();
        starts.sort_unstable();
        let base = pool.region().base().addr().get() as u64;
        assert_eq!(starts[0], base);
        assert!(starts[2099] + u64::from(data_room) <= base + pool.region().len() as u64);
        let strides: HashSet<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for stride in strides {
            // Twice as far where a header takes the place of a line.
            let lines = stride / 64;
            assert!(stride >= data_room.into() && stride % 64 == 0);
            assert!(lines % 2 == 1 || lines / 2 % 2 == 1);
        }
    }
}

#[test]
fn the_address_computed_for_a_line_is_the_one_it_holds() {
    let pool = pool(3000, 2176, 0, 0);
    let address = pool.body().data_address();
    while let Some(mbuf) = pool.alloc() {
        let expected = mbuf.data_address();
        assert_eq!(address.of(mbuf.into_handle()), expected);
    }
}

#[test]
fn available_counts_ring_and_records() {
    let pool = pool(100, 192, 16, 2);
    let mut kept = batch(&pool, 40);
    assert_eq!(
        (pool.available(), pool.in_use(), pool.capacity()),
        (60, 40, 100)
    );
    kept.truncate(10);
    assert_eq!(pool.available(), 90);
    let other = pool.clone();
    thread::spawn(move || {
        let batch = batch(&other, 20);
        assert_eq!(other.available(), 70);
        drop(batch);
        assert_eq!(other.available(), 90);
    })
    .join()
    .unwrap();
    assert_eq!(pool.available(), 90);
    drop(kept);
    assert_eq!((pool.available(), pool.in_use()), (100, 0));
}

#[test]
fn a_bulk_allocation_takes_all_or_nothing() {
    let pool = pool(50, 192, 16, 1);
    let mut batch = Batch::with_capacity(64);
    assert_eq!(
        pool.alloc_bulk(&mut batch, 51),
        Err(PoolExhausted { wanted: 51 })
    );
    assert_eq!((batch.len(), pool.available()), (0, 50));
    // Part of it in the record, part of it in the ring; less and more than the cache at a time.
    pool.alloc_bulk(&mut batch, 5).unwrap();
    pool.alloc_bulk(&mut batch, 30).unwrap();
    assert_eq!(
        pool.alloc_bulk(&mut batch, 16),
        Err(PoolExhausted { wanted: 16 })
    );
    pool.alloc_bulk(&mut batch, 15).unwrap();
    assert_eq!((batch.len(), pool.available()), (50, 0));
    assert!(pool.alloc().is_none());
    pool.alloc_bulk(&mut batch, 0).unwrap();
    let distinct: HashSet<u64> = batch.iter().map(|mbuf| mbuf.data_address()).collect();
    assert_eq!(distinct.len(), 50);
}

#[test]
#[should_panic(expected = "2 buffers for a batch with room for 1")]
fn a_batch_without_room_for_the_buffers_is_a_mistake_of_the_caller() {
    let pool = pool(2, 192, 0, 0);
    let _ = pool.alloc_bulk(&mut Batch::with_capacity(1), 2);
}

#[test]
fn a_thread_that_ends_sends_its_records_home_and_another_can_have_them() {
    let pool = pool(64, 192, 16, 1);
    for _ in 0..3 {
        let theirs = pool.clone();
        thread::spawn(move || {
            drop(batch(&theirs, 8));
            // Something rests in the record: with the record, others can't have it.
            assert!(theirs.depot().records().len() > 0);
            assert_eq!(theirs.depot().records().claim(), None);
        })
        .join()
        .unwrap();
        assert_eq!(pool.depot().records().len(), 0);
        assert_eq!(pool.available(), 64);
    }
    assert_eq!(pool.depot().records().claim(), Some(0));
}

#[test]
fn more_threads_than_records_use_the_ring() {
    let pool = pool(64, 192, 8, 1);
    let mine = batch(&pool, 4);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                let batch = batch(&pool, 16);
                assert_eq!(batch.len(), 16);
                drop(pool.alloc());
            }
        });
    });
    drop(mine);
    assert_eq!(pool.available(), 64);
}

#[test]
fn a_single_allocation_or_drop_claims_no_record() {
    let pool = pool(64, 192, 8, 1);
    drop(pool.alloc());
    assert_eq!(pool.depot().records().claim(), Some(0));
}

#[test]
fn a_record_is_flushed_at_one_and_a_half_times_its_size() {
    let pool = pool(100, 192, 8, 1);
    let mut batch = batch(&pool, 40);
    let resting = pool.depot().records().len();
    let mut most = 0;
    while let Some(mbuf) = batch.pop() {
        drop(mbuf);
        most = most.max(pool.depot().records().len());
        assert_eq!(pool.available() as usize, 100 - batch.len());
    }
    assert!(resting <= 8);
    assert_eq!(most, 12);
}

#[test]
fn buffers_outlive_their_pool_and_free_it_in_the_end() {
    let pool = pool(64, 192, 8, 2);
    let region = watch(&pool);
    let mut batch = batch(&pool, 3);
    let clone = batch.as_mut_slice()[0].clone_shared(&pool).unwrap();
    drop(pool);
    assert_eq!(batch.as_slice()[1].data(), [1; 60]);
    batch.as_mut_slice()[2].append(4).unwrap();
    // The record of this thread still holds some of the others.
    thread::spawn(move || drop(batch)).join().unwrap();
    assert!(!is_freed(&region));
    assert_eq!(clone.data(), [0; 60]);
    drop(clone);
    assert!(is_freed(&region));
}

#[test]
fn a_pool_is_freed_though_buffers_rest_in_the_record_of_a_thread_that_lives() {
    let pool = pool(64, 192, 8, 2);
    let region = watch(&pool);
    let (pool, ready) = (RefCell::new(Some(pool)), mpsc::channel());
    thread::scope(|scope| {
        let theirs = pool.borrow().clone().unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        let announce = ready.0.clone();
        scope.spawn(move || {
            drop(batch(&theirs, 4));
            assert!(theirs.depot().records().len() > 0);
            drop(theirs);
            announce.send(()).unwrap();
            stopped.recv().unwrap();
        });
        ready.1.recv().unwrap();
        drop(batch(pool.borrow().as_ref().unwrap(), 4));
        pool.take();
        assert!(is_freed(&region));
        stop.send(()).unwrap();
    });
}

#[test]
fn a_thread_forgets_pools_that_are_gone() {
    let live = pool(64, 192, 8, 1);
    for _ in 0..100 {
        let pool = pool(64, 192, 8, 1);
        let region = watch(&pool);
        drop(batch(&pool, 4));
        drop(pool);
        assert!(is_freed(&region));
        drop(batch(&live, 4));
    }
    assert!(super::thread::claims() <= 2);
    assert_eq!(live.available(), 64);
}

#[test]
fn a_leaked_buffer_keeps_the_memory_and_a_kept_region_keeps_it_mapped() {
    let leaky = pool(4, 192, 0, 0);
    let region = watch(&leaky);
    std::mem::forget(leaky.alloc());
    assert_eq!(leaky.in_use(), 1);
    drop(leaky);
    assert!(!is_freed(&region));

    let held = pool(4, 192, 0, 0);
    let region = Arc::clone(held.region());
    drop(held);
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn an_mbuf_dropped_by_the_last_destructors_of_a_thread_goes_to_the_ring() {
    thread_local! {
        static LATE: RefCell<Option<Mbuf>> = const { RefCell::new(None) };
        static EARLY: RefCell<Option<Mbuf>> = const { RefCell::new(None) };
    }
    let pool = pool(16, 192, 4, 1);
    let theirs = pool.clone();
    thread::spawn(move || {
        // Registered before and after the records of the thread: one is dropped on each side.
        EARLY.set(None);
        EARLY.set(theirs.alloc());
        drop(batch(&theirs, 2));
        LATE.set(theirs.alloc());
    })
    .join()
    .unwrap();
    assert_eq!(pool.available(), 16);
    assert_eq!(pool.depot().records().len(), 0);
}

#[test]
fn pools_that_cannot_be_are_refused_with_the_reason() {
    let error = |change: fn(&mut PoolConfig)| {
        let mut config = config();
        change(&mut config);
        Pool::new(config).unwrap_err().to_string()
    };
    assert_eq!(
        error(|c| c.buffers = 0),
        "pool `pool`: 0 buffers; give 1 to 16777216"
    );
    assert!(error(|c| c.buffers = u32::MAX).contains("give 1 to 16777216"));
    assert!(error(|c| c.data_room = 128).contains("give 129 to 65535 (headroom of 128 included)"));
    assert!(error(|c| c.data_room = 65536).contains("buffers of 65536 bytes"));
    assert_eq!(
        error(|c| c.cache = 44),
        "pool `pool`: a cache of 44 holds up to 66 buffers, the pool has 64; \
         give a cache of at most 43, or more buffers"
    );
    assert!(error(|c| c.cache = u32::MAX).contains("give a cache of at most 43"));
    assert!(error(|c| c.cache_records = 65).contains("at most 64"));
    assert!(error(|c| c.memory.numa_node = Some(9999)).contains("9999"));
    let mut largest = config();
    (largest.cache, largest.cache_records) = (43, 64);
    let pool = Pool::new(largest).unwrap();
    assert_eq!(
        (pool.cache(), pool.data_room(), pool.name()),
        (43, 2176, "pool")
    );
}

#[test]
fn ids_are_not_used_again() {
    let ids: HashSet<PoolId> = (0..20).map(|_| pool(1, 192, 0, 0).id()).collect();
    assert_eq!(ids.len(), 20);
    assert!(!ids.contains(&PoolId(super::thread::NO_POOL)));
}

/// Allocating threads and dropping threads, clones between them, pools that end meanwhile.
#[test]
fn threads_that_allocate_clone_pass_on_and_drop_lose_nothing() {
    let end = Instant::now() + Duration::from_millis(1500);
    let forever = pool(512, 192, 32, 2);
    let mut round = 0_u64;
    while Instant::now() < end {
        round += 1;
        let passing = pool(256, 192, (round % 3 * 8) as u32, (round % 3) as u32);
        let region = watch(&passing);
        let (sender, receiver) = mpsc::sync_channel::<Mbuf>(64);
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..2 {
                let (sender, passing, forever) = (sender.clone(), passing.clone(), &forever);
                threads.push(scope.spawn(move || {
                    for turn in 0..30 {
                        let mut batch = Batch::with_capacity(16);
                        let pool = if turn % 2 == 0 { &passing } else { forever };
                        if pool.alloc_bulk(&mut batch, 1 + turn % 16).is_err() {
                            continue;
                        }
                        for mut mbuf in batch {
                            mbuf.extend_from_slice(&[turn as u8; 8]).unwrap();
                            if turn % 3 == 0
                                && let Ok(clone) = mbuf.clone_shared(forever)
                            {
                                sender.send(clone).unwrap();
                            }
                            sender.send(mbuf).unwrap();
                        }
                    }
                }));
            }
            for _ in 0..2 {
                let receiver = Arc::clone(&receiver);
                threads.push(scope.spawn(move || {
                    let mut kept = Batch::with_capacity(8);
                    while let Ok(mbuf) = receiver.lock().unwrap().recv() {
                        let byte = mbuf.data()[0];
                        assert!(mbuf.data().iter().all(|other| *other == byte));
                        if let Err(mbuf) = kept.push(mbuf) {
                            drop(mbuf);
                            kept.clear();
                        }
                    }
                }));
            }
            drop((sender, passing));
            // The end of a scope waits for the closures only; what rests in a thread's records
            // goes home later, when its thread-locals are dropped.
            for thread in threads {
                thread.join().unwrap();
            }
        });
        assert!(is_freed(&region), "round {round}");
        assert_eq!(forever.available(), 512, "round {round}");
    }
    assert!(round > 1);
}

#[derive(Debug, Clone)]
enum Operation {
    Alloc(usize),
    Bulk(usize, usize),
    Drop(usize),
    DropBatch(usize),
    Leak(usize),
    DropElsewhere(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        3 => (0..2_usize).prop_map(Alloc),
        3 => (0..2_usize, 0..40_usize).prop_map(|(pool, count)| Bulk(pool, count)),
        4 => any::<usize>().prop_map(Drop),
        2 => (0..40_usize).prop_map(DropBatch),
        1 => any::<usize>().prop_map(Leak),
        1 => (0..4_usize).prop_map(DropElsewhere),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_every_operation(
        operations in prop::collection::vec(operation(), 1..100),
        caches in [0..20_u32, 0..20],
        records in 0..2_u32,
    ) {
        let pools = caches.map(|cache| pool(40, 192, cache, records));
        let mut out: Vec<(usize, Mbuf)> = Vec::new();
        let mut in_use = [0_usize; 2];
        for operation in operations {
            match operation {
                Operation::Alloc(which) => match pools[which].alloc() {
                    Some(mbuf) => {
                        prop_assert_eq!(mbuf.buffer_pool(), pools[which].id());
                        out.push((which, mbuf));
                        in_use[which] += 1;
                    }
                    None => prop_assert_eq!(in_use[which], 40),
                },
                Operation::Bulk(which, count) => {
                    let mut batch = Batch::with_capacity(40);
                    let done = pools[which].alloc_bulk(&mut batch, count);
                    prop_assert_eq!(done.is_ok(), in_use[which] + count <= 40);
                    prop_assert_eq!(batch.len(), if done.is_ok() { count } else { 0 });
                    in_use[which] += batch.len();
                    out.extend(batch.into_iter().map(|mbuf| (which, mbuf)));
                }
                Operation::Drop(index) if !out.is_empty() => {
                    let index = index % out.len();
                    let (which, mbuf) = out.swap_remove(index);
                    drop(mbuf);
                    in_use[which] -= 1;
                }
                Operation::DropBatch(count) => {
                    let mut batch = Batch::with_capacity(40);
                    for (which, mbuf) in out.drain(out.len() - count.min(out.len())..) {
                        batch.push(mbuf).unwrap();
                        in_use[which] -= 1;
                    }
                }
                Operation::Leak(index) if !out.is_empty() => {
                    let index = index % out.len();
                    std::mem::forget(out.swap_remove(index));
                }
                Operation::DropElsewhere(count) => {
                    let gone: Vec<_> = out.drain(out.len() - count.min(out.len())..).collect();
                    gone.iter().for_each(|(which, _)| in_use[*which] -= 1);
                    thread::spawn(move || drop(gone)).join().unwrap();
                }
                Operation::Drop(_) | Operation::Leak(_) => {}
            }
            for (pool, in_use) in pools.iter().zip(in_use) {
                prop_assert_eq!(pool.in_use() as usize, in_use);
            }
        }
    }
}
