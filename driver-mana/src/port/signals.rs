//! The descriptor by which a port says that it wants to be driven.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use mana_verbs::{EventFd, PollSet, Timer, VerbsError};

/// What a port sleeps on: events of its device, queues given up, and time.
pub(super) struct Signals {
    set: PollSet,
    bell: Arc<EventFd>,
    timer: Timer,
    interval: Duration,
}

impl Signals {
    pub(super) fn new() -> Result<Self, VerbsError> {
        let (bell, timer) = (Arc::new(EventFd::new()?), Timer::new()?);
        Ok(Self {
            set: PollSet::new(&[bell.as_fd(), timer.as_fd()])?,
            bell,
            timer,
            interval: Duration::ZERO,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }

    /// Whoever rings it wants the port to be driven.
    pub(super) fn bell(&self) -> &Arc<EventFd> {
        &self.bell
    }

    /// The port is being driven.
    pub(super) fn clear(&self) {
        self.bell.clear();
        if !self.interval.is_zero() {
            self.timer.clear();
        }
    }

    pub(super) fn add(&self, member: BorrowedFd<'_>) -> Result<(), VerbsError> {
        self.set.add(member)
    }

    pub(super) fn remove(&self, member: BorrowedFd<'_>) {
        self.set.remove(member);
    }

    /// Wants to be driven this often; 0 is never.
    pub(super) fn tick(&mut self, interval: Duration) {
        if interval != self.interval {
            self.interval = interval;
            self.timer.set(interval);
        }
    }
}
