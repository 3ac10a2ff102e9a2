//! The forwarding cores: one thread each, bound to its CPU, polling its streams until told to stop.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

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

/// The running forwarding cores. Dropping it stops them.
pub struct Crew {
    threads: Vec<JoinHandle<Vec<Assigned>>>,
    pulses: Vec<Arc<Pulse>>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// Starts a thread for each core; `polite` makes them sleep for a moment after many passes without work,
    /// `record_cycles` counts what passes with work cost.
    ///
    /// # Errors
    ///
    /// A thread that can't be started or bound to its CPU. Those that run are stopped.
    pub fn start(
        work: Vec<(Lcore, Vec<Assigned>)>,
        polite: bool,
        record_cycles: bool,
    ) -> Result<Crew, Error> {
        let mut crew = Crew {
            threads: Vec::with_capacity(work.len()),
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
            let thread = thread::Builder::new()
                .name(format!("lcore-{}", core.id))
                .spawn(move || {
                    let pinned = pin(core);
                    let runs = pinned.is_ok();
                    // Nobody listens any more if another core failed: then `stop` is set as well.
                    let _ = report.send(pinned);
                    drop(report);
                    if polite {
                        // Naps as short as asked for; without it they are 50 µs longer.
                        let _ = set_current_timer_slack(NonZeroU64::new(1_000));
                    }
                    if runs {
                        run(&mut streams, &its_pulse, &stop, polite);
                    }
                    streams
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

    /// Stops the cores and returns their streams.
    ///
    /// # Panics
    ///
    /// If a core panicked, with its panic.
    pub fn dismiss(mut self) -> Vec<Assigned> {
        self.stop.store(true, Relaxed);
        let mut streams = Vec::new();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(its) => streams.extend(its),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        streams
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
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

/// What a forwarding core does. With `CYCLES` it reads the cycle counter around each stream's turn, and
/// counts the turns that moved something, as testpmd does.
fn forward<const CYCLES: bool>(
    streams: &mut [Assigned],
    pulse: &Pulse,
    stop: &AtomicBool,
    polite: bool,
) {
    let mut idle = 0_u32;
    while !stop.load(Relaxed) {
        let mut moved = 0;
        for assigned in &mut *streams {
            let start = if CYCLES { gdma::cycles::now() } else { 0 };
            let packets = assigned.mode.forward(&mut assigned.stream.lane());
            if CYCLES && packets > 0 {
                let cycles = gdma::cycles::now() - start;
                assigned.stream.counters().busy(cycles);
            }
            moved += packets;
        }
        if moved == 0 {
            pulse.pass(1);
            idle = idle.saturating_add(1);
            if polite && idle > SPINS {
                thread::sleep(NAP);
            } else {
                std::hint::spin_loop();
            }
        } else {
            idle = 0;
        }
    }
}
