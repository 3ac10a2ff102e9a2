//! Soak: ports that live through starts, stops, resets and removals under traffic, in an order that a
//! seed decides, and nothing of the process grows.
//!
//! A life is a machine with two ports on one device: opened, started, put through some turns, closed.
//! Each queue is served by a thread that knows nothing of it all. After each life every buffer is
//! home, no object of the kernel is left, the device found no rule broken, and descriptors are as many
//! as before; mappings, of which the C library keeps some for threads, must not grow with the lives.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mana_model::{Fault, Kernel};
use mana_pmd::{Port, PortEvent, Queues, RecoveryConfig, RxInterrupt, RxQueue, Selector, TxQueue};
use pmd_api::{Batch, InterruptError, Pool, RxBurst, Support, TxBurst};
use uverbs_abi::Errno;

use crate::comeback::next_event;
use crate::packets::{Kind, frame};
use crate::{Comeback, Plan, Running};

/// Time after which something that does not happen is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a soak did.
#[derive(Debug, Default)]
pub struct Report {
    /// Machines opened and closed.
    pub lives: u64,
    /// Turns, by kind: see [`Turn`].
    pub turns: [u64; Turn::ALL.len()],
    /// Frames received.
    pub received: u64,
    /// Frames counted as lost by recoveries and changes of RSS.
    pub lost: u64,
}

/// What may happen to running ports.
#[derive(Debug, Clone, Copy)]
pub enum Turn {
    /// Nothing: frames move.
    Calm,
    /// The device goes and comes back.
    Reset,
    /// Likewise, and an operation of the recovery fails.
    FailingReset,
    /// The device stays away for longer than anybody waits.
    Removal,
    /// The application stops and starts a port.
    Restart,
    /// The application asks for new queues.
    Recover,
    /// A reset that an owner sleeps through.
    Silent,
    /// Another indirection table, half the time with a reset on top of it.
    Rss,
}

impl Turn {
    /// All kinds, in the order of [`Report::turns`].
    pub const ALL: [Self; 8] = [
        Self::Calm,
        Self::Reset,
        Self::FailingReset,
        Self::Removal,
        Self::Restart,
        Self::Recover,
        Self::Silent,
        Self::Rss,
    ];
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31) % end
    }
}

/// Runs lives until `time` is over, two at least.
///
/// # Panics
///
/// If something does not recover, or grows. The seed is in what the caller prints.
#[must_use]
pub fn run(seed: u64, time: Duration) -> Report {
    let start = Instant::now();
    let mut random = Random(seed);
    let mut report = Report::default();
    let mut first = None;
    while report.lives < 2 || start.elapsed() < time {
        life(&mut random, &mut report);
        report.lives += 1;
        let (descriptors, mappings) = process();
        let &mut (known, mapped) = first.get_or_insert((descriptors, mappings));
        let life = report.lives;
        assert_eq!(descriptors, known, "descriptors after life {life}");
        // Stacks and arenas of threads come and go; a mapping a life would not.
        let most = mapped + 40 + life as usize / 4;
        assert!(
            mappings <= most,
            "{mapped} mappings became {mappings} in {life} lives"
        );
    }
    report
}

/// Open descriptors and mappings.
fn process() -> (usize, usize) {
    let descriptors = fs::read_dir("/proc/self/fd").expect("procfs").count();
    let maps = fs::read_to_string("/proc/self/maps").expect("procfs");
    (descriptors, maps.lines().count())
}

/// A port with a thread for each queue.
struct Busy<'a> {
    running: Running<'a>,
    workers: Vec<Worker>,
}

/// The owner of a queue.
struct Worker {
    orders: Arc<Orders>,
    thread: JoinHandle<Queues>,
}

#[derive(Default)]
struct Orders {
    stop: AtomicBool,
    silent: AtomicBool,
    /// The worker's answer to `silent`.
    obeys: AtomicBool,
}

impl Worker {
    fn start(work: impl FnOnce(&Orders) -> Queues + Send + 'static) -> Self {
        let orders = Arc::new(Orders::default());
        let thread = thread::spawn({
            let orders = Arc::clone(&orders);
            move || work(&orders)
        });
        Self { orders, thread }
    }
}

impl Orders {
    /// False at the end; sleeps through silence.
    fn go_on(&self) -> bool {
        while self.silent.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
            self.obeys.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        self.obeys.store(false, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

fn receive(mut queue: RxQueue, sleeps: bool, orders: &Orders) -> Queues {
    let mut batch = Batch::with_capacity(32);
    while orders.go_on() {
        if sleeps {
            match queue.wait(Some(Duration::from_millis(2))) {
                Ok(_) => {}
                Err(InterruptError::DeviceRemoved { .. } | InterruptError::NoBuffers { .. }) => {
                    thread::sleep(Duration::from_micros(200));
                }
                Err(error) => panic!("{error}"),
            }
        }
        if queue.rx_burst(&mut batch) == 0 {
            thread::yield_now();
        }
        batch.clear();
    }
    Queues {
        rx: vec![queue],
        ..Queues::default()
    }
}

fn send(mut queue: TxQueue, pool: &Pool, orders: &Orders) -> Queues {
    let mut batch = Batch::with_capacity(8);
    let bytes = frame(Kind::UdpV4, u32::from(queue.index()), 1, 80);
    while orders.go_on() {
        while batch.room() > 0
            && let Some(mut mbuf) = pool.alloc()
        {
            mbuf.extend_from_slice(&bytes).expect("room");
            batch.push(mbuf).expect("room");
        }
        let outcome = queue.tx_burst(&mut batch);
        assert!(outcome.rejected.is_none(), "{outcome:?}");
        queue.reclaim();
        thread::sleep(Duration::from_micros(100));
    }
    Queues {
        tx: vec![queue],
        ..Queues::default()
    }
}

impl Busy<'_> {
    fn work(&mut self, sleeps: bool) {
        let queues = std::mem::take(&mut self.running.queues);
        for queue in queues.rx {
            let worker = Worker::start(move |orders| receive(queue, sleeps, orders));
            self.workers.push(worker);
        }
        for queue in queues.tx {
            let pool = self.running.tx_pool.clone();
            let worker = Worker::start(move |orders| send(queue, &pool, orders));
            self.workers.push(worker);
        }
    }

    fn rest(&mut self) {
        for worker in &self.workers {
            worker.orders.stop.store(true, Ordering::Relaxed);
        }
        for worker in self.workers.drain(..) {
            let Queues { rx, tx } = worker.thread.join().expect("a worker");
            self.running.queues.rx.extend(rx);
            self.running.queues.tx.extend(tx);
        }
    }
}

/// Drives all ports until each has told an event that `wanted` takes; returns these.
fn all(busy: &mut [Busy<'_>], wanted: impl Fn(&PortEvent) -> bool) -> Vec<PortEvent> {
    let start = Instant::now();
    let mut last: Vec<Option<PortEvent>> = busy.iter().map(|_| None).collect();
    while last.iter().any(Option::is_none) {
        for (busy, last) in busy.iter_mut().zip(&mut last) {
            let event = next_event(&mut busy.running.port);
            if let Some(event) = event.filter(&wanted) {
                *last = Some(event);
            }
        }
        assert!(start.elapsed() < PATIENCE, "only {last:?} of two ports");
    }
    last.into_iter().flatten().collect()
}

fn recovered(busy: &mut [Busy<'_>], report: &mut Report) {
    for event in all(busy, |event| matches!(event, PortEvent::Recovered { .. })) {
        if let PortEvent::Recovered { lost } = event {
            report.lost += lost.tx + lost.rx;
        }
    }
}

fn failed(event: &PortEvent) -> bool {
    matches!(event, PortEvent::RecoveryFailed { .. })
}

fn life(random: &mut Random, report: &mut Report) {
    let kernel = Kernel::ALL[random.below(3) as usize];
    let machine = Comeback::new(kernel, 2);
    let rigs = [machine.rig(0), machine.rig(1)];
    let ports = Port::open(&machine.system(), &Selector::default()).expect("both ports");
    let interrupts = ports[0].capabilities().rx_interrupt == Support::Yes && random.below(2) == 0;
    let plan = Plan {
        spare: 256,
        rx_interrupts: interrupts,
        ..Plan::queues(1 << random.below(2), 1 + random.below(2) as usize)
    };
    let mut busy: Vec<Busy<'_>> = rigs
        .iter()
        .zip(ports)
        .map(|(rig, port)| Busy {
            running: Running::start_port(rig, &plan, port),
            workers: Vec::new(),
        })
        .collect();
    busy.iter_mut().for_each(|busy| busy.work(interrupts));
    for _ in 0..3 + random.below(6) {
        let kind = random.below(Turn::ALL.len() as u64) as usize;
        turn(
            Turn::ALL[kind],
            &machine,
            &mut busy,
            interrupts,
            random,
            report,
        );
        report.turns[kind] += 1;
    }
    for mut busy in busy {
        busy.rest();
        report.received += busy.running.port.stats().rx_packets;
        busy.running.finish();
    }
    machine.assert_clean();
}

fn turn(
    turn: Turn,
    machine: &Comeback,
    busy: &mut [Busy<'_>],
    interrupts: bool,
    random: &mut Random,
    report: &mut Report,
) {
    let pause = Duration::from_micros(random.below(3000));
    match turn {
        Turn::Calm => calm(busy),
        Turn::Reset => {
            machine.take_away();
            thread::sleep(pause);
            machine.bring_back();
            recovered(busy, report);
        }
        Turn::FailingReset => {
            machine.take_away();
            let (nth, errno) = (1 + random.below(70), Errno::ENOMEM);
            machine.bring_back_with(|model| model.inject(Fault::FailOperation { nth, errno }));
            let over =
                |event: &PortEvent| failed(event) || matches!(event, PortEvent::Recovered { .. });
            let events = all(busy, over);
            // The fault is for this recovery only.
            machine.spend_operations(nth);
            for (busy, event) in busy.iter_mut().zip(events) {
                if failed(&event) {
                    busy.running.port.recover();
                    recovered(std::slice::from_mut(busy), report);
                }
            }
        }
        Turn::Removal => {
            for busy in &mut *busy {
                busy.running.port.set_recovery(RecoveryConfig {
                    deadline: Duration::from_millis(20),
                    ..RecoveryConfig::default()
                });
            }
            machine.take_away();
            all(busy, failed);
            machine.bring_back();
            for busy in &mut *busy {
                busy.running.port.set_recovery(RecoveryConfig::default());
                busy.running.port.recover();
            }
            recovered(busy, report);
        }
        Turn::Restart => {
            let one = &mut busy[random.below(2) as usize];
            one.rest();
            one.running.restart();
            one.work(interrupts);
        }
        Turn::Recover => {
            let one = random.below(2) as usize;
            let one = &mut busy[one..=one];
            one[0].running.port.recover();
            recovered(one, report);
        }
        Turn::Silent => {
            let one = random.below(2) as usize;
            let workers = busy[one].workers.len() as u64;
            let orders = Arc::clone(&busy[one].workers[random.below(workers) as usize].orders);
            orders.silent.store(true, Ordering::Relaxed);
            while !orders.obeys.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            machine.take_away();
            machine.bring_back();
            let waits = |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { .. });
            all(&mut busy[one..=one], waits);
            orders.silent.store(false, Ordering::Relaxed);
            recovered(busy, report);
        }
        Turn::Rss => {
            let one = random.below(2) as usize;
            change_rss(&mut busy[one], random);
            if random.below(2) == 0 {
                machine.take_away();
                machine.bring_back();
                recovered(busy, report);
                return;
            }
            let changed = |event: &PortEvent| matches!(event, PortEvent::RssChanged { .. });
            for event in all(&mut busy[one..=one], changed) {
                if let PortEvent::RssChanged { lost, .. } = event {
                    report.lost += lost;
                }
            }
        }
    }
}

/// A port gets another indirection table, over all its queues or one.
fn change_rss(busy: &mut Busy<'_>, random: &mut Random) {
    let port = &mut busy.running.port;
    let queues = port.config().map_or(0, |config| config.rx.len());
    let first = random.below(queues as u64) as usize;
    let used = if random.below(2) == 0 { queues } else { 1 };
    let table: Vec<u16> = (0..64)
        .map(|entry| ((first + entry % used) % queues) as u16)
        .collect();
    port.set_rss_table(&table).expect("the kernel can");
}

/// Frames move on every port.
fn calm(busy: &mut [Busy<'_>]) {
    let start = Instant::now();
    for busy in busy {
        let port = &mut busy.running.port;
        let before = port.stats().rx_packets;
        while port.stats().rx_packets < before + 50 {
            next_event(port);
            assert!(start.elapsed() < PATIENCE, "nothing moves: {port:?}");
        }
    }
}
