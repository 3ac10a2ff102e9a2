//! The forwarding cores: one thread each, bound to its CPU, polling its streams until told to stop.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mana_pmd::{Adaptive, AdaptiveConfig, AdaptiveStats, Waker};
use rustix::thread::set_current_timer_slack;

use super::cores::{Lcore, pin};
use super::error::Error;
use super::setup::Assigned;

/// Counts the passes of a core over its streams that found nothing to do.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Pulse {
    idle_passes: AtomicU64,
}

impl Pulse {
    /// How many such passes there were.
    pub fn idle_passes(&self) -> u64 {
        self.idle_passes.load(Relaxed)
    }

    /// Counts passes; only the core itself does.
    pub fn pass(&self, passes: u64) {
        self.idle_passes.store(self.idle_passes() + passes, Relaxed);
    }
}

/// What a core does in passes without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Spin,
    /// Sleeps for a moment after many passes without work, because others need the CPU.
    Nap,
    /// Sleeps until a packet comes to one of its queues.
    Sleep,
}

/// What a thread of the crew ends with.
type Ended = (Vec<Assigned>, AdaptiveStats);

/// The running forwarding cores. Dropping it stops them.
pub struct Crew {
    threads: Vec<JoinHandle<Ended>>,
    wakers: Vec<Waker>,
    pulses: Vec<Arc<Pulse>>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// Starts a thread for each core; `record_cycles` counts what passes with work cost.
    ///
    /// # Errors
    ///
    /// A thread that can't be started or bound to its CPU, or has nothing to sleep on. Those that run
    /// are stopped.
    pub fn start(
        work: Vec<(Lcore, Vec<Assigned>)>,
        idle: Idle,
        record_cycles: bool,
    ) -> Result<Crew, Error> {
        let mut crew = Crew {
            threads: Vec::with_capacity(work.len()),
            wakers: Vec::new(),
            pulses: Vec::with_capacity(work.len()),
            stop: Arc::default(),
        };
        let run = if record_cycles {
            forward::<true>
        } else {
            forward::<false>
        };
        let (report, bound) = mpsc::channel();
        for (core, mut streams) in work {
            let pulse = Arc::new(Pulse::default());
            let (its_pulse, stop, report) = (pulse.clone(), crew.stop.clone(), report.clone());
            let mut rest = Rest::new(idle)?;
            crew.wakers.extend(rest.waker());
            let thread = thread::Builder::new()
                .name(format!("lcore-{}", core.id))
                .spawn(move || {
                    let pinned = pin(core);
                    let runs = pinned.is_ok();
                    // Nobody listens any more if another core failed: then `stop` is set as well.
                    let _ = report.send(pinned);
                    drop(report);
                    if idle == Idle::Nap {
                        // Naps as short as asked for; without it they are 50 µs longer.
                        let _ = set_current_timer_slack(NonZeroU64::new(1_000));
                    }
                    if runs {
                        run(&mut streams, &its_pulse, &stop, &mut rest);
                    }
                    (streams, rest.stats())
                })
                .map_err(Error::Thread)?;
            crew.threads.push(thread);
            crew.pulses.push(pulse);
        }
        drop(report);
        for pinned in bound {
            pinned?;
        }
        Ok(crew)
    }

    /// What the cores say of their idleness.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        &self.pulses
    }

    /// Stops the cores and returns their streams, and how they slept, all together.
    ///
    /// # Panics
    ///
    /// If a core panicked, with its panic.
    pub fn dismiss(mut self) -> Ended {
        self.tell_to_stop();
        let (mut streams, mut slept) = (Vec::new(), AdaptiveStats::default());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok((its, stats)) => {
                    streams.extend(its);
                    slept += stats;
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (streams, slept)
    }

    fn tell_to_stop(&self) {
        self.stop.store(true, Relaxed);
        self.wakers.iter().for_each(Waker::wake);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.tell_to_stop();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Passes without work before a polite core sleeps, and for how long. It does not yield instead: a
/// yield gives away a whole time slice, and a thread that polite again and again waits for all the
/// slices that it gave away once somebody else wants the CPU.
const SPINS: u32 = 256;
pub const NAP: Duration = Duration::from_micros(20);
/// Passes of a core between its visits to queues that had nothing to do.
const VISITS: u32 = 256;

/// Longest sleep of [`Idle::Sleep`]: a core that has nothing to do shows that it is there.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// What it does instead where the kernel sends no interrupts.
pub const WITHOUT_INTERRUPT: Duration = Duration::from_micros(100);

/// [`Idle`] at work.
enum Rest {
    Spin,
    Nap { idle: u32 },
    Sleep { adaptive: Box<Adaptive>, told: bool },
}

impl Rest {
    fn new(idle: Idle) -> Result<Rest, Error> {
        Ok(match idle {
            Idle::Spin => Rest::Spin,
            Idle::Nap => Rest::Nap { idle: 0 },
            Idle::Sleep => {
                let config = AdaptiveConfig {
                    max_sleep: Some(LONGEST_SLEEP),
                    nap: Some(WITHOUT_INTERRUPT),
                    ..AdaptiveConfig::default()
                };
                let adaptive = Adaptive::new(config).map_err(Error::Sleep)?;
                Rest::Sleep {
                    adaptive: Box::new(adaptive),
                    told: false,
                }
            }
        })
    }

    fn waker(&self) -> Option<Waker> {
        match self {
            Rest::Sleep { adaptive, .. } => Some(adaptive.waker()),
            _ => None,
        }
    }

    fn stats(&self) -> AdaptiveStats {
        match self {
            Rest::Sleep { adaptive, .. } => adaptive.stats(),
            _ => AdaptiveStats::default(),
        }
    }

    /// After a pass that moved so many packets.
    fn pass(&mut self, moved: usize, streams: &mut [Assigned]) {
        match self {
            Rest::Spin if moved == 0 => std::hint::spin_loop(),
            Rest::Spin => {}
            Rest::Nap { idle } if moved > 0 => *idle = 0,
            Rest::Nap { idle } => {
                *idle = idle.saturating_add(1);
                if *idle > SPINS {
                    thread::sleep(NAP);
                } else {
                    std::hint::spin_loop();
                }
            }
            Rest::Sleep { adaptive, told } => {
                let mut work = moved;
                if moved == 0 {
                    // What was sent comes home before the sleep, and a queue that is wanted is given up.
                    let reclaim = |assigned: &mut Assigned| assigned.stream.lane().reclaim();
                    work = streams.iter_mut().map(reclaim).sum();
                }
                let queues = streams.iter_mut().filter_map(|one| one.stream.rx_mut());
                if let Err(error) = adaptive.turn(work, queues) {
                    if !std::mem::replace(told, true) {
                        tracing::warn!("a forwarding core can't sleep: {error}");
                    }
                    thread::sleep(NAP);
                }
            }
        }
    }
}

/// What a forwarding core does: as in testpmd at least one pass, however soon it is told to stop. With
/// `CYCLES` it reads the cycle counter around each stream's turn, and counts the turns that moved
/// something, as testpmd does.
fn forward<const CYCLES: bool>(
    streams: &mut [Assigned],
    pulse: &Pulse,
    stop: &AtomicBool,
    rest: &mut Rest,
) {
    let mut pass = 0_u32;
    loop {
        let mut moved = 0;
        pass = pass.wrapping_add(1);
        for assigned in &mut *streams {
            let start = if CYCLES { gdma::cycles::now() } else { 0 };
            let packets = assigned.mode.forward(&mut assigned.stream.lane());
            if CYCLES && packets > 0 {
                let cycles = gdma::cycles::now() - start;
                assigned.stream.counters().busy(cycles);
            }
            if packets == 0 && pass.is_multiple_of(VISITS) {
                assigned.stream.lane().visit();
            }
            moved += packets;
        }
        if moved == 0 {
            pulse.pass(1);
        }
        rest.pass(moved, streams);
        if stop.load(Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_makes_one_pass_however_soon_it_is_told_to_stop() {
        let (pulse, stop) = (Pulse::default(), AtomicBool::new(true));
        forward::<false>(&mut [], &pulse, &stop, &mut Rest::Spin);
        assert_eq!(pulse.idle_passes(), 1);
    }
}
