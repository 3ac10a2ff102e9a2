//! What `mana model exec` does when it is signalled itself: it stays until the program has ended, to
//! tell what was found and to tidy up.

use std::fs;
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long a program that was asked to end, as this one was, may take before it is asked by this
/// one. Whoever signals a process group, as `timeout` does, reaches the program as well, and programs
/// take a second signal for impatience.
const PATIENCE: Duration = Duration::from_secs(3);

/// The signals, taken.
pub struct Signals {
    /// Those that are passed on, with whether they came.
    passed: [(Signal, Arc<AtomicBool>); 2],
}

impl Signals {
    /// Takes them. Those that are ignored stay so, here and in the program, as `nohup` wants it.
    pub fn take() -> io::Result<Self> {
        let ignored = ignored();
        let taken = |number: i32| -> io::Result<Arc<AtomicBool>> {
            let flag = Arc::new(AtomicBool::new(false));
            if ignored & 1 << (number - 1) == 0 {
                signal_hook::flag::register(number, Arc::clone(&flag))?;
            }
            Ok(flag)
        };
        // A terminal sends these to the program, too, and only the program knows what they mean.
        taken(SIGINT)?;
        taken(SIGQUIT)?;
        Ok(Self {
            passed: [
                (Signal::TERM, taken(SIGTERM)?),
                (Signal::HUP, taken(SIGHUP)?),
            ],
        })
    }

    /// Waits for the program's end.
    pub fn wait(&self, mut child: Child) -> io::Result<ExitStatus> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut asked: Option<(Signal, Instant)> = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for (signal, came) in &self.passed {
                if came.swap(false, Ordering::Relaxed) {
                    asked = asked.or(Some((*signal, Instant::now())));
                }
            }
            if let Some((signal, when)) = asked
                && when.elapsed() >= PATIENCE
            {
                asked = None;
                // It may have ended meanwhile.
                let _gone = pid.map(|pid| kill_process(pid, signal));
            }
            thread::sleep(LOOK);
        }
    }
}

/// The signals that this process ignores, signal 1 in the lowest bit (proc(5), SigIgn).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
