//! Soak: ports that live through starts, stops, resets and removals under traffic, in an order that a
//! seed decides, and nothing of the process grows.
//!
//! A life is that of two ports on one device: opened, started, put through some turns, closed.
//! Each queue is served by a thread that knows nothing of it all. After each life every buffer is
//! home, no object of the kernel is left, the device found no rule broken, and descriptors are as many
//! as before; mappings, of which the C library keeps some for threads, must not grow with the lives.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mana_model::config::PortConfig;
use mana_model::{DeviceConfig, DoorbellMode, Fault, Kernel};
use mana_pmd::{PortEvent, Queues, RecoveryConfig, RxInterrupt, RxQueue, TxQueue};
use pmd_api::{Batch, InterruptError, Pool, RxBurst, Support, TxBurst};
use uverbs_abi::Errno;

use crate::events::{PATIENCE, is_failed, is_recovered, next_event};
use crate::packets::{Kind, frame};
use crate::suites::with_neighbour;
use crate::{Plan, Rig, Running};

/// What a soak did.
#[derive(Debug, Default)]
pub struct Report {
    /// Lives, from the opening of ports to their end.
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
    /// Likewise, and the device goes again with an operation of the recovery.
    RemovedAgain,
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
    pub const ALL: [Self; 9] = [
        Self::Calm,
        Self::Reset,
        Self::FailingReset,
        Self::RemovedAgain,
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

/// The seed that `MANA_SOAK_SEED` asks for, or else another each time.
///
/// # Panics
///
/// If it is no number.
#[must_use]
pub fn seed() -> u64 {
    match std::env::var("MANA_SOAK_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("a clock").as_nanos() as u64
        }
    }
}

/// Tells the seed of a soak that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("MANA_SOAK_SEED={}", self.0);
        }
    }
}

/// Runs lives until `time` is over, two at least, each on a model of its own in this process, with a
/// device that runs by itself.
///
/// # Panics
///
/// If something does not recover, or grows; then the seed is printed.
#[must_use]
pub fn run(seed: u64, time: Duration) -> Report {
    lives(seed, time, |random, report| {
        let mut device = DeviceConfig::new(Kernel::ALL[random.below(3) as usize]);
        device.ports.push(PortConfig::default());
        let rig = Rig::machine(with_neighbour(device), DoorbellMode::Polled);
        life(&rig, random, report);
    })
}

/// Likewise, on the two ports of a device that is there, and has another beside it
/// ([`Rig::bring_back`]).
///
/// # Panics
///
/// As [`run`].
#[must_use]
pub fn run_on(seed: u64, time: Duration, rig: &Rig) -> Report {
    lives(seed, time, |random, report| life(rig, random, report))
}

fn lives(seed: u64, time: Duration, mut life: impl FnMut(&mut Random, &mut Report)) -> Report {
    let start = Instant::now();
    let _told = Seed(seed);
    let mut random = Random(seed);
    let mut report = Report::default();
    let mut first = None;
    while report.lives < 2 || start.elapsed() < time {
        life(&mut random, &mut report);
        report.lives += 1;
        let (descriptors, mappings) = process();
        let &mut (known, mapped) = first.get_or_insert((descriptors, mappings));
        let life = report.lives;
        assert_eq!(
            descriptors,
            known,
            "descriptors after life {life}: {:?}",
            open_files()
        );
        // Stacks and arenas of threads come and go; a mapping a life would not.
        let most = mapped + 40 + life as usize / 4;
        assert!(
            mappings <= most,
            "{mapped} mappings became {mappings} in {life} lives"
        );
    }
    report
}

/// What is open in the process.
fn open_files() -> Vec<PathBuf> {
    let list = fs::read_dir("/proc/self/fd").expect("procfs").flatten();
    list.filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
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

    /// The workers that have their queues: those that the indirection table leaves out are given up
    /// already, and nobody waits for their owners.
    fn owners(&self) -> Vec<usize> {
        let config = self.running.port.config();
        let (rx, table) = config.map_or((0, None), |it| (it.rx.len(), it.rss_table.as_ref()));
        let used = |worker: &usize| {
            table.is_none_or(|table| *worker >= rx || table.contains(&(*worker as u16)))
        };
        (0..self.workers.len()).filter(used).collect()
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
        busy[0].running.rig.advance();
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
    for event in all(busy, is_recovered) {
        if let PortEvent::Recovered { lost } = event {
            report.lost += lost.tx + lost.rx;
        }
    }
}

/// Drives all ports until nothing of the process has anything to do with the device that went away.
fn let_go(rig: &Rig, busy: &mut [Busy<'_>]) {
    let start = Instant::now();
    while rig.objects().contexts > 0 {
        for busy in &mut *busy {
            // What is told until then does not matter.
            let _told = next_event(&mut busy.running.port);
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", rig.objects());
    }
}

fn life(rig: &Rig, random: &mut Random, report: &mut Report) {
    let ports = rig.open_all();
    let interrupts = ports[0].capabilities().rx_interrupt == Support::Yes && random.below(2) == 0;
    let plan = Plan {
        spare: 256,
        rx_interrupts: interrupts,
        ..Plan::queues(1 << random.below(2), 1 + random.below(2) as usize)
    };
    let start = |port| Busy {
        running: Running::start_port(rig, &plan, port),
        workers: Vec::new(),
    };
    let mut busy: Vec<Busy<'_>> = ports.into_iter().map(start).collect();
    busy.iter_mut().for_each(|busy| busy.work(interrupts));
    for _ in 0..3 + random.below(6) {
        let kind = random.below(Turn::ALL.len() as u64) as usize;
        turn(Turn::ALL[kind], rig, &mut busy, interrupts, random, report);
        report.turns[kind] += 1;
    }
    let mut pools = Vec::new();
    for mut busy in busy {
        busy.rest();
        report.received += busy.running.port.stats().rx_packets;
        let Running {
            mut port,
            queues,
            rx_pool,
            tx_pool,
            ..
        } = busy.running;
        port.stop(queues).expect("the port stops");
        port.close().expect("the port closes");
        pools.extend([rx_pool, tx_pool]);
    }
    rig.assert_clean(&pools.iter().collect::<Vec<_>>());
}

fn turn(
    turn: Turn,
    rig: &Rig,
    busy: &mut [Busy<'_>],
    interrupts: bool,
    random: &mut Random,
    report: &mut Report,
) {
    let pause = Duration::from_micros(random.below(3000));
    match turn {
        Turn::Calm => calm(busy),
        Turn::Reset => {
            rig.take_away();
            thread::sleep(pause);
            rig.bring_back();
            recovered(busy, report);
        }
        Turn::FailingReset => {
            rig.take_away();
            // What is left of the old device is no operation of the recovery.
            let_go(rig, busy);
            rig.bring_back();
            let (nth, errno) = (1 + random.below(70), Errno::ENOMEM);
            let start = rig.device().operations();
            rig.device().inject(Fault::FailOperation { nth, errno });
            let events = all(busy, |event| is_failed(event) || is_recovered(event));
            // The fault is for this recovery only.
            rig.spend_operations(start + nth);
            for (busy, event) in busy.iter_mut().zip(events) {
                if is_failed(&event) {
                    busy.running.port.recover();
                    recovered(std::slice::from_mut(busy), report);
                }
            }
        }
        Turn::RemovedAgain => {
            rig.take_away();
            rig.bring_back();
            let nth = 1 + random.below(70);
            let start = rig.device().operations();
            rig.device().inject(Fault::RemoveAt { device: 0, nth });
            let time = Instant::now();
            while !rig.is_away() && time.elapsed() < Duration::from_millis(100) {
                for busy in &mut *busy {
                    let event = next_event(&mut busy.running.port);
                    assert!(!event.as_ref().is_some_and(is_failed), "{event:?}");
                }
            }
            // Where it took fewer operations, an open meets it.
            rig.spend_operations(start + nth);
            if rig.is_away() {
                rig.bring_back();
            }
            calm(busy);
            // How often they recovered is nobody's question; they have.
            for busy in busy {
                while busy.running.port.next_event().expect("events").is_some() {}
            }
        }
        Turn::Removal => {
            for busy in &mut *busy {
                busy.running.port.set_recovery(RecoveryConfig {
                    deadline: Duration::from_millis(20),
                    ..RecoveryConfig::default()
                });
            }
            rig.take_away();
            all(busy, is_failed);
            rig.bring_back();
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
            let owners = busy[one].owners();
            let owner = owners[random.below(owners.len() as u64) as usize];
            let orders = Arc::clone(&busy[one].workers[owner].orders);
            orders.silent.store(true, Ordering::Relaxed);
            while !orders.obeys.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            rig.take_away();
            rig.bring_back();
            let waits = |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { .. });
            all(&mut busy[one..=one], waits);
            orders.silent.store(false, Ordering::Relaxed);
            recovered(busy, report);
        }
        Turn::Rss => {
            let one = random.below(2) as usize;
            change_rss(&mut busy[one], random);
            if random.below(2) == 0 {
                rig.take_away();
                rig.bring_back();
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
            busy.running.rig.advance();
            next_event(port);
            assert!(start.elapsed() < PATIENCE, "nothing moves: {port:?}");
        }
    }
}
