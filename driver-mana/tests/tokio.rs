//! `tokio_rx`: tasks that wait for packets of the model, with its device in a thread of its own.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dma_memory::{HugePages, RegionOptions};
use mana_model::{After, DoorbellMode, Model, ModelConfig, Runner, parse_device};
use mana_pmd::tokio_rx::{AsyncRxQueue, next_event};
use mana_pmd::{
    Port, PortConfig, PortEvent, Queues, RecoveryConfig, RxQueueConfig, Selector, TxBurst,
    TxQueueConfig,
};
use pmd_api::{Batch, InterruptError, Pool, PoolConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Long enough that it only passes where something is broken.
const LONG: Duration = Duration::from_secs(60);

struct Machine {
    model: Model,
    device: Runner,
    pool: Pool,
    port: Port,
}

impl Machine {
    fn new(device: &str, interrupts: bool) -> (Self, Queues) {
        let model = Model::new(ModelConfig {
            devices: vec![parse_device(device).unwrap()],
            doorbells: DoorbellMode::Polled,
        })
        .unwrap();
        let memory = RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        };
        let pool = Pool::new(PoolConfig {
            buffers: 1024,
            cache: 0,
            memory: memory.clone(),
            ..PoolConfig::default()
        })
        .unwrap();
        let selector = Selector::default();
        let mut port = Port::open(&model.system(), &selector).unwrap().remove(0);
        let rx = RxQueueConfig {
            // The kernel without interrupts has rings of 256.
            depth: if interrupts { 512 } else { 256 },
            pool: pool.clone(),
        };
        port.configure(PortConfig {
            rx: vec![rx],
            tx: vec![TxQueueConfig { depth: 128 }],
            rx_interrupts: interrupts,
            memory,
            ..PortConfig::default()
        })
        .unwrap();
        let device = model.run();
        let queues = port.start().unwrap();
        let machine = Self {
            model,
            device,
            pool,
            port,
        };
        (machine, queues)
    }

    /// A frame that carries `number` arrives.
    fn deliver(&self, number: u32) {
        self.model.port(0).deliver(&frame(number));
    }

    fn finish(mut self, queues: Queues) {
        self.port.stop(queues).unwrap();
        self.port.close().unwrap();
        drop(self.device);
        assert_eq!(self.pool.in_use(), 0);
        assert_eq!(self.model.findings(), []);
    }
}

fn frame(number: u32) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame[20..24].copy_from_slice(&number.to_be_bytes());
    frame
}

fn numbers(batch: &mut Batch) -> Vec<u32> {
    let number = |bytes: Vec<u8>| u32::from_be_bytes(bytes[20..24].try_into().unwrap());
    batch.drain(..).map(|mbuf| number(mbuf.to_vec())).collect()
}

/// One thread for all tasks: one that does not give way stops them all.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn every_packet_comes_once_however_often_the_wait_for_it_is_cancelled() {
    let (machine, mut queues) = Machine::new("model0", true);
    let total = 500;
    let received = runtime().block_on(async {
        let mut rx = AsyncRxQueue::new(queues.rx.remove(0)).unwrap();
        let (mut batch, mut received) = (Batch::with_capacity(8), Vec::new());
        let start = Instant::now();
        for number in 0..total {
            if received.len() == number as usize {
                // Armed, and cancelled for sure.
                let none = timeout(Duration::ZERO, rx.rx(&mut batch)).await;
                assert!(none.is_err(), "{none:?}");
            }
            machine.deliver(number);
            if number % 3 == 0 {
                // They come alone, and together.
                continue;
            }
            while received.len() <= number as usize {
                assert!(start.elapsed() < LONG, "only {} came", received.len());
                let moment = Duration::from_micros(u64::from(number) % 40);
                match timeout(moment, rx.rx(&mut batch)).await {
                    Ok(count) => assert_eq!(count.unwrap(), batch.len()),
                    Err(_) => assert!(batch.is_empty(), "cancelled with packets in the batch"),
                }
                received.extend(numbers(&mut batch));
            }
        }
        // Nothing more is there, and no event of before ends a wait.
        let moment = Duration::from_millis(20);
        assert!(timeout(moment, rx.wait()).await.is_err());
        assert!(timeout(moment, rx.rx(&mut batch)).await.is_err());
        queues.rx.push(rx.into_inner());
        received
    });
    assert_eq!(received, (0..total).collect::<Vec<_>>());
    machine.finish(queues);
}

#[test]
fn a_task_whose_queue_is_not_empty_lets_others_run() {
    let (machine, mut queues) = Machine::new("model0", true);
    // Several of tokio's budgets of 128.
    let packets = 500;
    (0..packets).for_each(|number| machine.deliver(number));
    let start = Instant::now();
    while queues.rx[0].waiting() < packets {
        assert!(start.elapsed() < LONG, "{} arrived", queues.rx[0].waiting());
        thread::yield_now();
    }
    let rx = queues.rx.remove(0);
    let turns = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&turns);
    let (rx, turns) = runtime().block_on(async {
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let receiver = tokio::spawn(async move {
            let mut rx = AsyncRxQueue::new(rx).unwrap();
            let mut batch = Batch::with_capacity(1);
            let before = turns.load(Ordering::Relaxed);
            for _ in 0..packets {
                assert_eq!(rx.rx(&mut batch).await.unwrap(), 1);
                batch.clear();
            }
            (rx.into_inner(), turns.load(Ordering::Relaxed) - before)
        });
        let received = receiver.await.unwrap();
        other.abort();
        received
    });
    assert!(turns > 0, "500 packets in one turn");
    queues.rx.push(rx);
    machine.finish(queues);
}

#[test]
fn a_queue_without_interrupt_comes_back_with_the_reason() {
    let (machine, mut queues) = Machine::new("model0,kernel=5.15-azure", false);
    let refused = runtime().block_on(async { AsyncRxQueue::new(queues.rx.remove(0)).unwrap_err() });
    assert!(matches!(
        refused.error,
        InterruptError::NotEnabled { queue: 0 }
    ));
    assert!(refused.to_string().contains("no interrupt"), "{refused}");
    queues.rx.push(*refused.queue);
    machine.finish(queues);
}

#[test]
fn a_task_that_waits_goes_on_after_a_reset_of_the_device_with_all_its_queues() {
    let (mut machine, mut queues) = Machine::new("model0", true);
    // However busy the machine is: the task must not be waited for.
    machine.port.set_recovery(RecoveryConfig {
        grace: LONG,
        ..RecoveryConfig::default()
    });
    let (rx, mut tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let task = thread::spawn(move || {
        runtime().block_on(async {
            let mut rx = AsyncRxQueue::new(rx).unwrap();
            let (mut batch, mut received) = (Batch::with_capacity(8), 0);
            while !told.load(Ordering::Acquire) {
                received += rx.rx(&mut batch).await.unwrap();
                batch.clear();
                // A queue that is wanted is given up, and back again afterwards.
                tx.reclaim();
            }
            (rx.into_inner(), tx, received)
        })
    });
    let start = Instant::now();
    let mut events = Vec::new();
    for round in 0..2 {
        let after = Duration::from_millis(5);
        machine.model.reset(0, After::Time(after)).unwrap();
        runtime().block_on(async {
            while !matches!(events.last(), Some(PortEvent::Recovered { .. })) {
                // Its timer wakes the port while it recovers; this only ends what is broken.
                let event = timeout(LONG, next_event(&mut machine.port)).await;
                let event = event.unwrap_or_else(|_| panic!("round {round}: {events:?}"));
                events.push(event.unwrap());
            }
        });
        let waited = |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { .. });
        assert!(!events.iter().any(waited), "{events:?}");
        let before = machine.port.stats().rx_packets;
        machine.deliver(round);
        while machine.port.stats().rx_packets == before {
            assert!(start.elapsed() < LONG, "the task sleeps over packets");
            thread::sleep(Duration::from_millis(1));
        }
        events.clear();
    }
    stop.store(true, Ordering::Release);
    machine.deliver(2);
    let (rx, tx, received) = task.join().unwrap();
    assert!(received >= 2, "{received}");
    (queues.rx, queues.tx) = (vec![rx], vec![tx]);
    machine.finish(queues);
}
