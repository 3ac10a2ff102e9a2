//! `Adaptive`: a thread that polls while packets come and sleeps while none do.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::events::{events_until, is_failed, is_recovered};
use conformance::packets::{Kind, frame, mixture, seed_of};
use conformance::{Plan, Rig, Running, suites};
use mana_model::config::GenConfig;
use mana_model::{DeviceConfig, DoorbellMode, Kernel, LinkConfig, Model, ModelConfig};
use mana_pmd::{
    Adaptive, AdaptiveConfig, AdaptiveStats, RecoveryConfig, RxBurst, Selector, Turn, TxBurst,
};
use pmd_api::{Batch, InterruptError};
use rustix::time::{ClockId, clock_gettime};

/// Long enough that it only passes where something is broken.
const LONG: Duration = Duration::from_secs(60);

/// Sleeps at the first empty burst.
const AT_ONCE: AdaptiveConfig = AdaptiveConfig {
    idle_turns: 0,
    idle_time: Duration::ZERO,
    max_sleep: Some(LONG),
    nap: None,
};

fn brief() -> AdaptiveConfig {
    AdaptiveConfig {
        max_sleep: Some(Duration::from_millis(2)),
        ..AT_ONCE
    }
}

fn plan(rx: usize) -> Plan {
    Plan {
        rx_interrupts: true,
        ..Plan::queues(rx, 1)
    }
}

fn stepped(kernel: Kernel) -> Rig {
    Rig::model(DeviceConfig::new(kernel), DoorbellMode::Stepped)
}

/// On a machine whose device can go and come back.
fn with_neighbour(kernel: Kernel) -> Rig {
    let machine = suites::with_neighbour(DeviceConfig::new(kernel));
    Rig::machine(machine, DoorbellMode::Polled)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[test]
fn an_idle_thread_takes_next_to_no_cpu_time() {
    let rig = Rig::model(DeviceConfig::new(Kernel::V7_3), DoorbellMode::Polled);
    let mut running = Running::start(&rig, &plan(2));
    let mut adaptive = Adaptive::new(AdaptiveConfig {
        max_sleep: Some(Duration::from_millis(50)),
        ..AdaptiveConfig::default()
    })
    .unwrap();
    let (start, before, mut turns) = (Instant::now(), cpu(), 0);
    let mut batch = Batch::with_capacity(32);
    while start.elapsed() < Duration::from_millis(500) {
        let received = (running.queues.rx.iter_mut())
            .map(|queue| queue.rx_burst(&mut batch))
            .sum();
        let turn = adaptive.turn(received, &mut running.queues.rx).unwrap();
        assert!(matches!(turn, Turn::Poll | Turn::Timeout), "{turn:?}");
        turns += 1;
    }
    let (used, idle) = (cpu() - before, start.elapsed());
    // Polling, these would be millions, and all of the time that the machine gives this thread.
    assert!(turns < 1_000_000, "{turns} turns");
    assert!(used < idle / 10, "{used:?} of {idle:?}");
    let stats = adaptive.stats();
    assert!((1..=10).contains(&stats.sleeps), "{stats:?}");
    // The CQs are born armed, and nothing came: the first sleep finds nothing either.
    assert_eq!((stats.spurious, stats.naps), (0, 0), "{stats:?}");
    running.finish();
}

#[test]
fn a_busy_thread_arms_nothing_and_sleeps_never() {
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.ports[0].link = LinkConfig::Gen(GenConfig::default());
    let rig = Rig::model(device, DoorbellMode::Stepped);
    let mut running = Running::start(&rig, &plan(1));
    let mut adaptive = Adaptive::new(AT_ONCE).unwrap();
    let mut batch = Batch::with_capacity(16);
    let mut received = 0;
    while received < 20_000 {
        let count = running.queues.rx[0].rx_burst(&mut batch);
        if count == 0 {
            rig.advance();
            continue;
        }
        received += count;
        batch.clear();
        let turn = adaptive.turn(count, &mut running.queues.rx).unwrap();
        assert_eq!(turn, Turn::Poll);
    }
    assert_eq!(adaptive.stats(), AdaptiveStats::default());
    running.finish();
}

#[test]
fn packets_before_during_and_after_the_arming_end_the_sleep_and_stale_events_do_not() {
    let rig = stepped(Kernel::V7_3);
    let mut running = Running::start(&rig, &plan(2));
    let mut adaptive = Adaptive::new(brief()).unwrap();
    let mut turn = |running: &mut Running<'_>| {
        let turn = adaptive.turn(0, &mut running.queues.rx).unwrap();
        (turn, adaptive.stats())
    };
    let deliver = |seed| {
        let frame = frame(Kind::UdpV4, seed, seed, 80);
        rig.device().deliver(&frame);
        rig.advance();
    };
    assert_eq!(turn(&mut running).0, Turn::Timeout);
    let mut sleeps = 1;
    for seed in 0..50 {
        let before_the_arming = seed % 2 == 0;
        if !before_the_arming {
            // What the device sees first is the arming of the sleep before.
            rig.advance();
        }
        deliver(seed);
        let (why, stats) = turn(&mut running);
        assert_eq!(why, Turn::Packets);
        assert_eq!((stats.sleeps, stats.spurious), (sleeps, 0), "not slept");
        let received = running.receive(1);
        assert_eq!(seed_of(&received[0].mbuf.to_vec()), seed);
        // The event of that packet is stale now. With a packet on one queue the other stays armed.
        let (why, stats) = turn(&mut running);
        sleeps += 1;
        assert_eq!(why, Turn::Timeout);
        assert_eq!((stats.sleeps, stats.spurious), (sleeps, 0));
    }
    running.finish();
}

#[test]
fn queues_that_are_not_passed_wake_nobody_and_wake_again_when_they_are() {
    let rig = stepped(Kernel::V6_12);
    let mut running = Running::start(&rig, &plan(2));
    let mut adaptive = Adaptive::new(brief()).unwrap();
    assert_eq!(
        adaptive.turn(0, &mut running.queues.rx).unwrap(),
        Turn::Timeout
    );
    rig.advance();
    // One packet for each queue: that of the other one makes its descriptor readable.
    for flow in 0..16 {
        rig.device().deliver(&frame(Kind::UdpV4, flow, flow, 80));
    }
    rig.advance();
    for index in [0, 1, 0] {
        while running.queues.rx[index].rx_burst(&mut Batch::with_capacity(32)) > 0 {}
        let one = &mut running.queues.rx[index..=index];
        let first = adaptive.stats();
        assert_eq!(adaptive.turn(0, one).unwrap(), Turn::Timeout);
        assert_eq!(adaptive.stats().sleeps, first.sleeps + 1);
        assert_eq!(adaptive.stats().spurious, 0);
    }
    // None at all is a sleep, too.
    assert_eq!(adaptive.turn(0, []).unwrap(), Turn::Timeout);
    rig.device().deliver(&frame(Kind::UdpV4, 1, 1, 80));
    rig.advance();
    assert_eq!(
        adaptive.turn(0, &mut running.queues.rx).unwrap(),
        Turn::Packets
    );
    running.finish();
}

#[test]
fn an_empty_pool_is_slept_over_in_short_steps_until_buffers_are_back() {
    let rig = stepped(Kernel::V7_3);
    let mut running = Running::start(&rig, &plan(1));
    let mut held = Vec::new();
    while running.queues.rx[0].posted() > 0 || running.rx_pool.available() > 0 {
        rig.device().deliver(&frame(Kind::UdpV4, 1, 1, 80));
        rig.advance();
        held.extend(running.poll());
    }
    let mut adaptive = Adaptive::new(AT_ONCE).unwrap();
    for naps in 1..=3 {
        let turn = adaptive.turn(0, &mut running.queues.rx).unwrap();
        assert_eq!((turn, adaptive.stats().naps), (Turn::Poll, naps));
    }
    held.clear();
    adaptive = Adaptive::new(brief()).unwrap();
    let turn = adaptive.turn(0, &mut running.queues.rx).unwrap();
    assert_eq!((turn, adaptive.stats().naps), (Turn::Timeout, 0));
    running.finish();
}

#[test]
fn a_queue_without_interrupt_is_refused_or_napped_over_with_the_reason_told() {
    // This kernel has none, so the port is configured without.
    let rig = stepped(Kernel::V5_15Azure);
    let mut running = Running::start(&rig, &Plan::queues(2, 1));
    let mut adaptive = Adaptive::new(AT_ONCE).unwrap();
    let error = adaptive.turn(0, &mut running.queues.rx).unwrap_err();
    assert!(
        matches!(error, InterruptError::NotEnabled { queue: 0 }),
        "{error}"
    );
    let mut adaptive = Adaptive::new(AdaptiveConfig {
        nap: Some(Duration::from_millis(3)),
        ..AT_ONCE
    })
    .unwrap();
    let start = Instant::now();
    assert_eq!(
        adaptive.turn(0, &mut running.queues.rx).unwrap(),
        Turn::Poll
    );
    assert!(start.elapsed() >= Duration::from_millis(3));
    assert_eq!(adaptive.stats().naps, 1);
    let reason = adaptive.napping().unwrap().to_string();
    assert!(reason.contains("no interrupt"), "{reason}");
    let frame = frame(Kind::UdpV4, 1, 1, 80);
    rig.device().deliver(&frame);
    rig.advance();
    assert_eq!(
        adaptive.turn(0, &mut running.queues.rx).unwrap(),
        Turn::Packets
    );
    assert_eq!(running.receive(1).len(), 1);
    // A waker ends a nap, too.
    adaptive.waker().wake();
    assert_eq!(
        adaptive.turn(0, &mut running.queues.rx).unwrap(),
        Turn::Woken
    );
    running.finish();
}

#[test]
fn what_comes_in_pieces_to_several_queues_of_two_ports_arrives_whole_and_a_waker_ends_it() {
    let devices = [
        "model0,mac=00:0d:3a:00:00:01",
        "model1,mac=00:0d:3a:00:00:02",
    ];
    let model = Model::new(ModelConfig {
        devices: devices
            .map(|text| mana_model::parse_device(text).unwrap())
            .into(),
        doorbells: DoorbellMode::Polled,
    })
    .unwrap();
    let device = model.run();
    let rigs = devices.map(|text| {
        let (_, mac) = text.split_once(',').unwrap();
        Rig::hardware(model.system(), mac.parse::<Selector>().unwrap())
    });
    let mut running: Vec<Running<'_>> = rigs
        .iter()
        .map(|rig| Running::start(rig, &plan(2)))
        .collect();
    let mut queues: Vec<_> = (running.iter_mut())
        .flat_map(|one| one.queues.rx.drain(..))
        .collect();
    let came = Arc::new(AtomicUsize::new(0));
    let mut adaptive = Adaptive::new(AT_ONCE).unwrap();
    let (waker, counted) = (adaptive.waker(), Arc::clone(&came));
    let sleeper = thread::spawn(move || {
        let (mut batch, mut seeds) = (Batch::with_capacity(8), Vec::new());
        loop {
            let mut received = 0;
            for queue in &mut queues {
                received += queue.rx_burst(&mut batch);
                seeds.extend(batch.drain(..).map(|mbuf| seed_of(&mbuf.to_vec())));
            }
            counted.fetch_add(received, Ordering::Release);
            match adaptive.turn(received, &mut queues).unwrap() {
                Turn::Woken => return (queues, seeds, adaptive.stats()),
                Turn::Timeout => panic!("a packet was slept over: {seeds:?}"),
                Turn::Poll | Turn::Packets => {}
            }
        }
    });
    let total = 600;
    for seed in 0..total {
        let frame = frame(Kind::UdpV4, seed, seed, 80);
        model.port(seed as usize % 2).deliver(&frame);
        // Alone, in pairs, in handfuls: whether the thread sleeps already is left to chance.
        if seed % 7 < 3 {
            let start = Instant::now();
            while came.load(Ordering::Acquire) <= seed as usize {
                assert!(start.elapsed() < LONG, "packet {seed} does not come");
                thread::yield_now();
            }
        }
    }
    let start = Instant::now();
    while came.load(Ordering::Acquire) < total as usize {
        assert!(start.elapsed() < LONG, "only {came:?} came");
        thread::sleep(Duration::from_millis(1));
    }
    waker.wake();
    let (queues, mut seeds, stats) = sleeper.join().unwrap();
    seeds.sort_unstable();
    assert_eq!(seeds, (0..total).collect::<Vec<_>>());
    assert!(stats.sleeps > 0, "{stats:?}");
    drop(queues);
    drop(device);
    running.into_iter().for_each(Running::finish);
    assert_eq!(model.findings(), []);
}

/// A thread with queues of both kinds, which sleeps as soon as it is idle.
fn loop_of_an_application(
    mut running: mana_pmd::Queues,
    stop: &AtomicBool,
    received: &AtomicUsize,
    mut adaptive: Adaptive,
) -> (mana_pmd::Queues, Result<(), InterruptError>) {
    let mut batch = Batch::with_capacity(32);
    while !stop.load(Ordering::Acquire) {
        let mut work = 0;
        for queue in &mut running.rx {
            work += queue.rx_burst(&mut batch);
            batch.clear();
        }
        received.fetch_add(work, Ordering::Release);
        for queue in &mut running.tx {
            work += queue.reclaim();
        }
        match adaptive.turn(work, &mut running.rx) {
            Ok(Turn::Timeout) => panic!("nobody woke the thread"),
            Ok(_) => {}
            Err(error) => return (running, Err(error)),
        }
    }
    (running, Ok(()))
}

#[test]
fn a_thread_that_sleeps_gives_all_its_queues_up_in_a_reset_and_is_woken_afterwards() {
    let rig = with_neighbour(Kernel::V7_3);
    let plan = Plan { tx: 2, ..plan(2) };
    let mut running = Running::start(&rig, &plan);
    // One transmit queue is this thread's own, to send with.
    let mine = running.queues.tx.pop().unwrap();
    let queues = std::mem::take(&mut running.queues);
    running.queues.tx.push(mine);
    let adaptive = Adaptive::new(AT_ONCE).unwrap();
    let waker = adaptive.waker();
    let (stop, received) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (queues, ended) = thread::scope(|scope| {
        let thread = scope.spawn(|| loop_of_an_application(queues, &stop, &received, adaptive));
        for reset in [true, false, true] {
            thread::sleep(Duration::from_millis(10));
            if reset {
                rig.take_away();
                rig.bring_back();
            } else {
                running.port.recover();
            }
            let mine = &mut running.queues.tx[0];
            let poll = || {
                mine.reclaim();
            };
            events_until(&rig, &mut running.port, poll, is_recovered);
            let before = received.load(Ordering::Acquire);
            running.send_frames(0, &mixture(5, 100));
            let start = Instant::now();
            while received.load(Ordering::Acquire) < before + 5 {
                assert!(start.elapsed() < LONG, "the thread sleeps over packets");
                running.reclaim();
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
        waker.wake();
        thread.join().unwrap()
    });
    ended.unwrap();
    running.queues.rx = queues.rx;
    running.queues.tx.extend(queues.tx);
    running.settle();
    running.finish();
}

#[test]
fn a_device_that_does_not_come_back_ends_the_sleep_with_the_reason() {
    let rig = with_neighbour(Kernel::V6_12);
    let mut running = Running::start(&rig, &plan(1));
    running.port.set_recovery(RecoveryConfig {
        deadline: Duration::from_millis(80),
        ..RecoveryConfig::default()
    });
    let queues = std::mem::take(&mut running.queues);
    let (stop, received) = (AtomicBool::new(false), AtomicUsize::new(0));
    let adaptive = Adaptive::new(AT_ONCE).unwrap();
    let (queues, ended) = thread::scope(|scope| {
        let thread = scope.spawn(|| loop_of_an_application(queues, &stop, &received, adaptive));
        rig.take_away();
        events_until(&rig, &mut running.port, || (), is_failed);
        thread.join().unwrap()
    });
    let error = ended.unwrap_err();
    assert!(
        matches!(error, InterruptError::DeviceRemoved { queue: 0 }),
        "{error}"
    );
    let Running {
        mut port,
        rx_pool,
        tx_pool,
        ..
    } = running;
    port.stop(queues).unwrap();
    port.close().unwrap();
    rig.assert_clean(&[&rx_pool, &tx_pool]);
}
