//! How long a packet waits for the thread that receives it: `wakeup [PACKETS]`.
//!
//! One thread is the device of a model: it waits for a moment, writes the time into a frame and lets it
//! arrive. Another thread receives in one of three ways: polling, adaptive as by default, or asleep
//! in `RxInterrupt::wait` whenever nothing is there. The time is that from just before the device
//! takes the frame up (so with the model's own work) until `rx_burst` has returned it. Then nothing
//! comes for a second, and what the receiving thread's CPU time was is told.
//!
//! Where there are two CPUs the threads have one each.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::packets::{Kind, frame};
use conformance::{Plan, Rig, Running};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};
use mana_pmd::{Adaptive, AdaptiveConfig, RxBurst, RxInterrupt, RxQueue, Turn};
use pmd_api::Batch;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Pauses between packets, from and to: always longer than adaptive polling goes on, always shorter.
const PAUSES: [(&str, Duration, Duration); 2] = [
    ("200-600 µs", micros(200), micros(600)),
    ("10-30 µs", micros(10), micros(30)),
];
/// Time without a packet.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes of a frame; the last eight are the time.
const FRAME: usize = 80;

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[derive(Clone, Copy)]
enum Way {
    Polling,
    Adaptive,
    Sleeping,
}

fn main() -> Result<(), String> {
    let packets = match std::env::args().nth(1) {
        None => 5000,
        Some(number) => (number.parse().ok().filter(|&n| n > 0))
            .ok_or("usage: wakeup [PACKETS], a number above 0")?,
    };
    let cpus = cpus();
    println!(
        "way       pause        p50 µs   p99 µs   max µs   CPU of the receiver, busy and idle"
    );
    for (name, way) in [
        ("polling", Way::Polling),
        ("adaptive", Way::Adaptive),
        ("sleeping", Way::Sleeping),
    ] {
        for (pause, shortest, longest) in PAUSES {
            let measured = measure(&cpus, way, packets, (shortest, longest));
            let mut waits = measured.waits;
            waits.sort_unstable();
            let at = |share: f64| {
                let index = (share * (waits.len() - 1) as f64).round() as usize;
                waits[index] as f64 / 1000.0
            };
            println!(
                "{name:9} {pause:12} {:6.1}   {:6.1}   {:6.1}   {:5.1} %  {:5.1} %",
                at(0.5),
                at(0.99),
                at(1.0),
                100.0 * measured.busy,
                100.0 * measured.idle,
            );
        }
    }
    Ok(())
}

struct Measured {
    /// In nanoseconds.
    waits: Vec<u64>,
    /// CPU time by time.
    busy: f64,
    idle: f64,
}

fn measure(
    cpus: &[usize],
    way: Way,
    packets: usize,
    (shortest, longest): (Duration, Duration),
) -> Measured {
    let rig = Rig::model(DeviceConfig::new(Kernel::V7_3), DoorbellMode::Stepped);
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::default()
    };
    let mut running = Running::start(&rig, &plan);
    let mut queue = running.queues.rx.remove(0);
    let epoch = Instant::now();
    let (stop, cpu, came) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut measured = Measured {
        waits: Vec::new(),
        busy: 0.0,
        idle: 0.0,
    };
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            pin(cpus, 1);
            let waits = receive(&mut queue, way, epoch, &stop, &cpu, &came);
            (queue, waits)
        });
        pin(cpus, 0);
        let mut random = 0x9E37_79B9_u64;
        let (start, mut seen) = (Instant::now(), cpu.load(Ordering::Acquire));
        for sent in 0..packets as u64 {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let spread = (longest - shortest).as_nanos() as u64;
            let pause = shortest + Duration::from_nanos((random >> 33) % spread);
            let ready = Instant::now();
            while ready.elapsed() < pause || came.load(Ordering::Acquire) < sent {
                // What was armed meanwhile is known to the device.
                rig.advance();
                std::hint::spin_loop();
            }
            let mut bytes = frame(Kind::UdpV4, 1, sent as u32, FRAME);
            let time = (epoch.elapsed().as_nanos() as u64).to_ne_bytes();
            bytes[FRAME - time.len()..].copy_from_slice(&time);
            rig.device().deliver(&bytes);
            rig.advance();
        }
        while came.load(Ordering::Acquire) < packets as u64 {
            rig.advance();
        }
        let mut share = |since: Instant| {
            let before = std::mem::replace(&mut seen, cpu.load(Ordering::Acquire));
            (seen - before) as f64 / since.elapsed().as_nanos() as f64
        };
        measured.busy = share(start);
        let start = Instant::now();
        while start.elapsed() < IDLE {
            rig.advance();
            thread::sleep(Duration::from_millis(1));
        }
        // The receiver tells its time with the next packet.
        stop.store(true, Ordering::Release);
        rig.device().deliver(&frame(Kind::UdpV4, 1, 0, FRAME));
        rig.advance();
        let (queue, waits) = receiver.join().expect("the receiver");
        measured.idle = share(start);
        measured.waits = waits;
        running.queues.rx.push(queue);
    });
    running.finish();
    measured
}

/// Receives until `stop` is set and one packet more has come, which counts no more.
fn receive(
    queue: &mut RxQueue,
    way: Way,
    epoch: Instant,
    stop: &AtomicBool,
    cpu: &AtomicU64,
    came: &AtomicU64,
) -> Vec<u64> {
    let mut adaptive = Adaptive::new(AdaptiveConfig::default()).expect("file descriptors");
    let (mut batch, mut waits) = (Batch::with_capacity(32), Vec::new());
    loop {
        let received = queue.rx_burst(&mut batch);
        let now = epoch.elapsed().as_nanos() as u64;
        if received > 0 {
            cpu.store(cpu_time(), Ordering::Release);
            if stop.load(Ordering::Acquire) {
                return waits;
            }
            for mbuf in batch.drain(..) {
                let bytes = mbuf.to_vec();
                let time = bytes.last_chunk().expect("a whole frame");
                waits.push(now - u64::from_ne_bytes(*time));
            }
            came.fetch_add(received as u64, Ordering::Release);
        }
        match way {
            Way::Polling => {}
            Way::Adaptive => {
                let turn = adaptive.turn(received, [&mut *queue]).expect("interrupts");
                assert_ne!(turn, Turn::Timeout, "it sleeps as long as it takes");
            }
            Way::Sleeping => {
                let _ = queue.wait(None).expect("interrupts");
            }
        }
    }
}

/// CPU time of this thread in nanoseconds.
fn cpu_time() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The CPUs that this program may use, before it binds a thread to one of them.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect()
}

/// Binds this thread to the CPU of that index, if there are two.
fn pin(cpus: &[usize], index: usize) {
    if let [_, _, ..] = cpus {
        let mut set = CpuSet::new();
        set.set(cpus[index]);
        // Where it is refused the figures are those of threads that move.
        let _ = sched_setaffinity(None, &set);
    }
}
