//! The signals that end a run: taken, so that everything is killed and removed first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// Those that came.
pub struct Signals([(i32, Arc<AtomicBool>); 4]);

impl Signals {
    /// Takes them.
    pub fn take() -> Result<Self, String> {
        let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].map(|signal| (signal, Arc::default()));
        for (signal, flag) in &signals {
            signal_hook::flag::register(*signal, Arc::clone(flag))
                .map_err(|error| format!("signal {signal} cannot be taken: {error}"))?;
        }
        Ok(Self(signals))
    }

    /// The number of one that came.
    pub fn came(&self) -> Option<i32> {
        let mut signals = self.0.iter();
        signals.find_map(|(signal, flag)| flag.load(Ordering::Relaxed).then_some(*signal))
    }
}
