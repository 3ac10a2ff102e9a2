//! Owners in threads of their own, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mana_pmd::{PortEvent, Queues, RecoveryConfig};
use pmd_api::{Batch, RxBurst, TxBurst};

use super::suite;
use crate::events::{PATIENCE, events_until, is_recovered, next_event};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_workers",
    "workers that send and receive without a pause and know of nothing go on through removals and \
     returns of the device",
    run,
);

fn run(rig: &Rig) {
    let mut load = Load::start(rig);
    for _ in 0..8 {
        load.moves();
        rig.take_away();
        thread::sleep(Duration::from_millis(2));
        rig.bring_back();
        let events = load.events_until(is_recovered);
        assert!(!events.iter().any(crate::events::is_failed), "{events:?}");
    }
    load.finish();
}

/// A port whose queues are served by a thread each.
pub(super) struct Load<'a> {
    running: Running<'a>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Queues>>,
}

impl<'a> Load<'a> {
    pub(super) fn start(rig: &'a Rig) -> Self {
        let plan = Plan {
            spare: 512,
            ..Plan::queues(1, 1)
        };
        let mut running = Running::start(rig, &plan);
        // On a busy machine the device may be slow.
        running.port.set_recovery(RecoveryConfig {
            tx_timeout: None,
            ..RecoveryConfig::default()
        });
        let queues = std::mem::take(&mut running.queues);
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for mut queue in queues.tx {
            let (stop, pool) = (Arc::clone(&stop), running.tx_pool.clone());
            workers.push(thread::spawn(move || {
                let mut batch = Batch::with_capacity(8);
                while !stop.load(Ordering::Relaxed) {
                    while batch.room() > 0 {
                        let Some(mut mbuf) = pool.alloc() else { break };
                        let bytes = frame(Kind::UdpV4, 1, 1, 80);
                        mbuf.extend_from_slice(&bytes).expect("room");
                        batch.push(mbuf).expect("room");
                    }
                    assert!(queue.tx_burst(&mut batch).rejected.is_none());
                    queue.reclaim();
                    thread::yield_now();
                }
                Queues {
                    tx: vec![queue],
                    ..Queues::default()
                }
            }));
        }
        for mut queue in queues.rx {
            let stop = Arc::clone(&stop);
            workers.push(thread::spawn(move || {
                let mut batch = Batch::with_capacity(32);
                while !stop.load(Ordering::Relaxed) {
                    queue.rx_burst(&mut batch);
                    batch.clear();
                    thread::yield_now();
                }
                Queues {
                    rx: vec![queue],
                    ..Queues::default()
                }
            }));
        }
        Self {
            running,
            stop,
            workers,
        }
    }

    /// Waits until a hundred packets more have come.
    pub(super) fn moves(&mut self) {
        let before = self.running.port.stats();
        let start = Instant::now();
        while self.running.port.stats().rx_packets < before.rx_packets + 100 {
            self.running.rig.advance();
            assert_eq!(next_event(&mut self.running.port), None);
            assert!(start.elapsed() < PATIENCE, "nothing moves");
        }
    }

    pub(super) fn events_until(&mut self, last: impl Fn(&PortEvent) -> bool) -> Vec<PortEvent> {
        events_until(self.running.rig, &mut self.running.port, || (), last)
    }

    pub(super) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            let Queues { rx, tx } = worker.join().expect("a worker");
            self.running.queues.rx.extend(rx);
            self.running.queues.tx.extend(tx);
        }
        self.running.finish();
    }
}
