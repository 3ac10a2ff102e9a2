//! Waiting for what happens to a port, as its application's control thread does.

use std::time::{Duration, Instant};

use mana_pmd::{Port, PortEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Rig;

/// Time after which an event that does not come is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sleeps on the port's descriptor, never longer than a moment, and drives the port.
///
/// # Panics
///
/// If events can't be read.
pub fn next_event(port: &mut Port) -> Option<PortEvent> {
    let event = port.next_event().expect("events can be read");
    if event.is_none() {
        let mut fds = [PollFd::from_borrowed_fd(port.event_fd(), PollFlags::IN)];
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        // A signal ends it early, which does not matter.
        let _ = poll(&mut fds, Some(&moment));
    }
    event
}

/// Drives the port and lets the device work until an event comes that `last` takes; returns all of
/// them. `meanwhile` is called all the time.
///
/// # Panics
///
/// If it does not come.
pub fn events_until(
    rig: &Rig,
    port: &mut Port,
    mut meanwhile: impl FnMut(),
    last: impl Fn(&PortEvent) -> bool,
) -> Vec<PortEvent> {
    let start = Instant::now();
    let mut events = Vec::new();
    loop {
        meanwhile();
        rig.advance();
        if let Some(event) = next_event(port) {
            let done = last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
        assert!(start.elapsed() < PATIENCE, "only {events:?} {port:?}");
    }
}

/// Whether the port is as it was.
#[must_use]
pub fn is_recovered(event: &PortEvent) -> bool {
    matches!(event, PortEvent::Recovered { .. })
}

/// Whether the port has given up.
#[must_use]
pub fn is_failed(event: &PortEvent) -> bool {
    matches!(event, PortEvent::RecoveryFailed { .. })
}
