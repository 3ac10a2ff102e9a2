//! As the former DTS's "interrupt_pmd" (One-shot Rx Interrupt Tests, case 1), whose program is
//! l3fwd-power: a thread that sleeps until a packet comes. Today's DTS has no suite of interrupts.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mana_pmd::{Error, RxInterrupt};
use pmd_api::{Armed, InterruptError, Support, Wake};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rx_interrupt",
    proves: "a queue wakes its owner with a packet and with nothing else: none is slept over \
             wherever it comes between the last burst and the sleep, stale events end no sleep, \
             other queues' packets wake nobody, the time is kept, and stopping does not hang on \
             events that nobody read; kernels that send no event are refused",
    needs: Needs::Model,
    prepare: capture,
    run,
};

/// Long enough that it only passes where something is broken.
const LONG: Option<Duration> = Some(Duration::from_secs(20));
/// Short enough to wait for nothing.
const SHORT: Option<Duration> = Some(Duration::from_millis(5));

fn run(rig: &Rig) {
    disabled(rig);
    let port = rig.open();
    let support = port.capabilities().rx_interrupt;
    port.close().expect("a port that was only opened");
    if support == Support::NotByKernel {
        refused(rig);
        return;
    }
    assert_eq!(support, Support::Yes);
    one_queue(rig);
    coalesced(rig);
    many_queues(rig);
    no_buffers(rig);
    unread_events(rig);
}

fn plan(queues: usize) -> Plan {
    Plan {
        rx_interrupts: true,
        ..Plan::queues(queues, 1)
    }
}

fn disabled(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 1));
    let queue = &mut running.queues.rx[1];
    for error in [
        queue.interrupt_fd().map(|_| ()).unwrap_err(),
        queue.arm().map(|_| ()).unwrap_err(),
        queue.wait(SHORT).map(|_| ()).unwrap_err(),
    ] {
        assert!(
            matches!(error, InterruptError::NotEnabled { queue: 1 }),
            "{error}"
        );
    }
    running.finish();
}

/// Configuring says why, and the port runs without.
pub(super) fn refused(rig: &Rig) {
    let (rx_pool, mut port) = (plan(1).pool("received"), rig.open());
    let config = |rx_interrupts| mana_pmd::PortConfig {
        rx: vec![mana_pmd::RxQueueConfig {
            depth: 64,
            pool: rx_pool.clone(),
        }],
        tx: vec![mana_pmd::TxQueueConfig { depth: 64 }],
        rx_interrupts,
        ..mana_pmd::PortConfig::default()
    };
    let error = port.configure(config(true)).unwrap_err();
    assert!(matches!(error, Error::NoInterrupts), "{error}");
    assert!(error.to_string().contains("6.8"), "{error}");
    port.configure(config(false)).expect("polling works");
    port.close().expect("a port that was not started");
    rig.assert_clean(&[&rx_pool]);
}

/// What poll says of the queue's descriptor right now.
fn readable(queue: &impl RxInterrupt) -> bool {
    let fd = queue.interrupt_fd().expect("interrupts");
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let ready = poll(&mut fds, Some(&Timespec::default())).expect("poll");
    ready == 1
}

/// Whether the queue's descriptor becomes readable: events come through the kernel, some time after
/// the completions.
fn wakes(rig: &Rig, queue: &impl RxInterrupt) -> bool {
    rig.until(|| readable(queue))
}

fn deliver(running: &Running<'_>, flow: u32, seed: u32) {
    running
        .rig
        .device()
        .deliver(&frame(Kind::UdpV4, flow, seed, 80));
}

fn receive_one(running: &mut Running<'_>, seed: u32) {
    let received = running.receive(1);
    assert_eq!(seed_of(&received[0].mbuf.to_vec()), seed);
}

fn one_queue(rig: &Rig) {
    let mut running = Running::start(rig, &plan(1));
    // Nothing comes: the time is kept.
    let start = Instant::now();
    assert_eq!(running.queues.rx[0].wait(SHORT).unwrap(), Wake::Timeout);
    assert!(start.elapsed() >= SHORT.unwrap());
    // Armed once and asleep: the packet makes the descriptor readable, and it stays so.
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    rig.advance();
    assert!(!readable(&running.queues.rx[0]));
    deliver(&running, 1, 100);
    assert!(wakes(rig, &running.queues.rx[0]));
    receive_one(&mut running, 100);
    assert!(readable(&running.queues.rx[0]));
    // That event is stale now and ends no sleep.
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    assert!(!readable(&running.queues.rx[0]));
    assert_eq!(running.queues.rx[0].wait(SHORT).unwrap(), Wake::Timeout);

    // A packet that comes before the arm, one that comes after it but before the device saw it, and
    // one that comes last.
    for seed in 0..200 {
        if seed % 3 == 0 {
            deliver(&running, 1, seed);
            rig.advance();
            assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Ready);
        } else {
            assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
            if seed % 3 == 1 {
                rig.advance();
            }
            deliver(&running, 1, seed);
            assert!(wakes(rig, &running.queues.rx[0]), "packet {seed}");
        }
        assert_eq!(running.queues.rx[0].wait(LONG).unwrap(), Wake::Packets);
        receive_one(&mut running, seed);
    }
    // Polling in between, without asking: no event comes.
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    rig.advance();
    for seed in 0..10 {
        deliver(&running, 1, seed);
        receive_one(&mut running, seed);
    }
    // One was asked for, and it was the first packet's.
    assert!(wakes(rig, &running.queues.rx[0]));
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    rig.advance();
    assert!(!readable(&running.queues.rx[0]));
    running.finish();
}

/// Packets of a completion that did not all fit the burst are not slept over.
fn coalesced(rig: &Rig) {
    use pmd_api::{Batch, RxBurst};
    let mut running = Running::start(rig, &plan(1));
    for seed in 0..4 {
        deliver(&running, 1, seed);
    }
    rig.advance();
    let mut batch = Batch::with_capacity(1);
    for seed in 0..4 {
        assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Ready);
        assert_eq!(running.queues.rx[0].wait(LONG).unwrap(), Wake::Packets);
        assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 1);
        assert_eq!(seed_of(&batch.drain(..).next().unwrap().to_vec()), seed);
    }
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    drop(batch);
    running.finish();
}

/// Each queue has a descriptor of its own.
fn many_queues(rig: &Rig) {
    // More queues than completion vectors.
    let queues = 32;
    let mut running = Running::start(rig, &plan(queues));
    for queue in &mut running.queues.rx {
        assert_eq!(queue.arm().unwrap(), Armed::Sleep);
    }
    rig.advance();
    let mut woken = vec![false; queues];
    for flow in 0..300 {
        deliver(&running, flow, flow);
        let mut ready = Vec::new();
        rig.until(|| {
            let queues = (0..queues).filter(|&index| readable(&running.queues.rx[index]));
            ready = queues.collect();
            !ready.is_empty()
        });
        let received = running.receive(1);
        assert_eq!(ready, [received[0].queue], "flow {flow}");
        woken[ready[0]] = true;
        assert_eq!(running.queues.rx[ready[0]].arm().unwrap(), Armed::Sleep);
        rig.advance();
    }
    assert!(woken.iter().all(|woken| *woken), "a queue got nothing");
    running.finish();
}

/// Where no packet can arrive, sleeping is refused.
fn no_buffers(rig: &Rig) {
    let mut running = Running::start(rig, &plan(1));
    let mut held = Vec::new();
    let mut seed = 0;
    let refused = loop {
        while rig.device().counters().rx_no_buffer == 0 && seed < 4096 {
            deliver(&running, 1, seed);
            seed += 1;
            rig.advance();
            held.extend(running.poll());
        }
        match running.queues.rx[0].arm() {
            Ok(Armed::Ready) => held.extend(running.poll()),
            Ok(Armed::Sleep) => panic!("slept with {} posted", running.queues.rx[0].posted()),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, InterruptError::NoBuffers { queue: 0 }),
        "{refused}"
    );
    held.clear();
    assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
    rig.advance();
    deliver(&running, 1, 7);
    assert!(wakes(rig, &running.queues.rx[0]));
    receive_one(&mut running, 7);
    running.finish();
}

/// Events that nobody read, acknowledged or asked for keep no queue from being destroyed.
fn unread_events(rig: &Rig) {
    let mut running = Running::start(rig, &plan(4));
    for round in 0..5 {
        // The CQs are born armed.
        for flow in 0..32 {
            deliver(&running, flow, flow);
        }
        assert!(rig.until(|| running.queues.rx.iter().any(readable)));
        if round % 2 == 0 {
            drop(running.receive(32));
        }
        running.stop();
        running.start_again();
    }
    running.finish();
}
