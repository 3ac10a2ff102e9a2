//! The model in a thread of its own, and one thread a queue: what an application does.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::packets::{Kind, frame};
use conformance::{Needs, Plan, Rig, Running, suites, toeplitz};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};
use pmd_api::{Batch, RxBurst, TxBurst};

fn run(name: &str) {
    let suite = suites::find(name).expect("a suite of that name");
    // What recovers is the same on each; the suites run on all of them elsewhere.
    let kernels: &[Kernel] = match suite.needs {
        Needs::Neighbour => &[Kernel::V7_3],
        _ => &Kernel::ALL,
    };
    for &kernel in kernels {
        let machine = suite.machine(DeviceConfig::new(kernel));
        (suite.run)(&Rig::machine(machine, DoorbellMode::Polled));
    }
}

/// One test a suite, and one that all that need no more than a wire, or that are about threads, are
/// here.
macro_rules! suites {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)) })*
        #[test]
        fn every_suite_that_does_not_look_into_the_device_runs_here() {
            let here = [$(stringify!($name)),*];
            for suite in suites::ALL.iter().filter(|suite| suite.needs != Needs::Model) {
                if suite.name == "soak" {
                    // In a program of its own, because it counts what the whole process has.
                    continue;
                }
                assert!(here.contains(&suite.name), "{}", suite.name);
            }
        }
    };
}

suites! {
    smoke
    send_only
    loopback
    ring_laps
    tx_multi_segment
    restart
    full_ring
    port_stats
    rx_wakeup
    kernel_forwarding
    kernel_interrupts
    kernel_missed
    kernel_netdev_up
    kernel_unload
    kernel_reset_request
    recovery_traffic
    recovery_workers
    recovery_comes_by_itself
    recovery_tx_stuck
    recovery_silent_owner
    recovery_sleeper
    recovery_sleeper_learns
    recovery_dropped_handles
    recovery_forgotten_handle
    recovery_restart
    recovery_in_a_row
    recovery_errno
    recovery_removed_again
    recovery_stays_away
    recovery_both_ports
    recovery_vport_taken
}

/// Packets of each transmit thread.
const EACH: u32 = 20_000;
const QUEUES: usize = 2;
/// How long nothing may come; all of it takes minutes where five threads share a core with others.
const PATIENCE: Duration = Duration::from_secs(60);

/// A few packets are on their way at a time, so that no receive ring overflows.
const WINDOW: usize = 48;

/// Sees that packets still come.
struct Progress {
    received: usize,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            received: 0,
            since: Instant::now(),
        }
    }

    /// Looks at how many have come.
    fn look(&mut self, received: usize) {
        if received > self.received {
            (self.received, self.since) = (received, Instant::now());
        }
        let still = self.since.elapsed();
        assert!(still < PATIENCE, "only {received} packets came");
    }
}

#[test]
fn a_thread_for_each_queue_moves_every_packet_once_and_to_its_queue() {
    let rig = Rig::model(DeviceConfig::new(Kernel::V7_3), DoorbellMode::Polled);
    let plan = Plan {
        spare: 1024,
        ..Plan::queues(QUEUES, QUEUES)
    };
    let mut running = Running::start(&rig, &plan);
    let queues = std::mem::take(&mut running.queues);
    let total = EACH as usize * QUEUES;
    let sent = Arc::new(AtomicUsize::new(0));
    let received = Arc::new(AtomicUsize::new(0));

    let senders: Vec<_> = (0_u32..)
        .zip(queues.tx)
        .map(|(index, mut queue)| {
            let (sent, received) = (Arc::clone(&sent), Arc::clone(&received));
            let pool = running.tx_pool.clone();
            thread::spawn(move || {
                let mut batch = Batch::with_capacity(8);
                let mut next = 0;
                let mut progress = Progress::new();
                while next < EACH || !batch.is_empty() || queue.in_flight() > 0 {
                    let back = received.load(Ordering::Acquire);
                    progress.look(back);
                    let flying = sent.load(Ordering::Acquire).saturating_sub(back);
                    while next < EACH && batch.room() > 0 && flying < WINDOW / QUEUES {
                        let Some(mut mbuf) = pool.alloc() else { break };
                        let bytes = frame(Kind::UdpV4, next * 2 + index, next, 100);
                        mbuf.extend_from_slice(&bytes).expect("room");
                        batch.push(mbuf).expect("room");
                        next += 1;
                    }
                    // Counted before the device can bring them back.
                    let offered = batch.len();
                    sent.fetch_add(offered, Ordering::AcqRel);
                    let outcome = queue.tx_burst(&mut batch);
                    sent.fetch_sub(offered - outcome.sent, Ordering::AcqRel);
                    assert!(outcome.rejected.is_none());
                    queue.reclaim();
                    thread::yield_now();
                }
                queue
            })
        })
        .collect();
    let receivers: Vec<_> = queues
        .rx
        .into_iter()
        .enumerate()
        .map(|(index, mut queue)| {
            let received = Arc::clone(&received);
            thread::spawn(move || {
                let mut batch = Batch::with_capacity(32);
                let mut came = Vec::new();
                let mut progress = Progress::new();
                loop {
                    let all = received.load(Ordering::Acquire);
                    if all >= total {
                        break;
                    }
                    progress.look(all);
                    if queue.rx_burst(&mut batch) == 0 {
                        thread::yield_now();
                        continue;
                    }
                    for mbuf in batch.drain(..) {
                        let bytes = mbuf.to_vec();
                        let expected = toeplitz::queue(&toeplitz::VECTOR_KEY, &bytes, QUEUES);
                        assert_eq!(index, expected, "a packet on the wrong queue");
                        came.push(bytes);
                        received.fetch_add(1, Ordering::AcqRel);
                    }
                }
                (queue, came)
            })
        })
        .collect();

    for sender in senders {
        running.queues.tx.push(sender.join().expect("a sender"));
    }
    let mut came = Vec::new();
    for receiver in receivers {
        let (queue, packets) = receiver.join().expect("a receiver");
        running.queues.rx.push(queue);
        came.extend(packets);
    }
    let mut expected: Vec<_> = (0..EACH)
        .flat_map(|next| (0..QUEUES as u32).map(move |index| (next, index)))
        .map(|(next, index)| frame(Kind::UdpV4, next * 2 + index, next, 100))
        .collect();
    expected.sort();
    came.sort();
    assert!(came == expected, "packets changed on their way");
    running.finish();
}
