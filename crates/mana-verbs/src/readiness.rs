//! What a thread sleeps on: events of this process, timers, and sets of files of which one may become
//! readable. All are close-on-exec and never block unless told to.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use uverbs_abi::Errno;

use crate::fd::last_errno;
use crate::{VerbsError, operation};

/// Whom errors name: these files belong to no device.
const HERE: &str = "this process";

/// Takes over the descriptor that a system call returned.
fn created(fd: RawFd) -> Result<OwnedFd, VerbsError> {
    if fd < 0 {
        let operation = operation::CREATE_EVENT_FILE;
        return Err(VerbsError::kernel(HERE, operation, last_errno()));
    }
    // SAFETY: the callers pass what a system call just returned, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the 8 bytes that make a file readable; false where there were none.
fn take_count(fd: &OwnedFd) -> bool {
    let mut count = 0_u64;
    // SAFETY: `count` is valid for writes of 8 bytes, which is what is asked for.
    let got = unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    got == 8
}

/// An eventfd: rung from any thread, readable until it is cleared.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A silent one.
    ///
    /// # Errors
    ///
    /// `EMFILE` where the process has no file descriptor left.
    pub fn new() -> Result<Self, VerbsError> {
        // SAFETY: takes two integers and touches no memory.
        created(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(Self)
    }

    /// Makes it readable.
    pub fn ring(&self) {
        let one = 1_u64;
        // It can only fail where the counter is full, and then it is readable.
        // SAFETY: `one` is valid for reads of 8 bytes.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Makes it silent again; true if it was rung.
    pub fn clear(&self) -> bool {
        take_count(&self.0)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A timerfd: readable each time its interval has passed, until it is cleared.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that does not run.
    ///
    /// # Errors
    ///
    /// As for [`EventFd::new`].
    pub fn new() -> Result<Self, VerbsError> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes two integers and touches no memory.
        created(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }).map(Self)
    }

    /// Runs from now on with this interval, or not any more.
    pub fn set(&self, interval: Option<Duration>) {
        // A time of 0 would stop it.
        let interval = interval.map_or(Duration::ZERO, |some| some.max(Duration::from_nanos(1)));
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(interval.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: interval.subsec_nanos().into(),
        };
        let spec = libc::itimerspec {
            it_interval: time,
            it_value: time,
        };
        // It fails for wrong arguments only, and these are right.
        // SAFETY: `spec` is valid for reads; no old value is asked for.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
    }

    /// Makes it silent until the next interval has passed; true if one had.
    pub fn clear(&self) -> bool {
        take_count(&self.0)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An epoll file: readable while one of its files is. Files leave it when they are closed.
#[derive(Debug)]
pub struct PollSet(OwnedFd);

impl PollSet {
    /// One without files.
    ///
    /// # Errors
    ///
    /// As for [`EventFd::new`].
    pub fn new() -> Result<Self, VerbsError> {
        // SAFETY: takes an integer and touches no memory.
        created(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    /// Adds a file, if it is not in it.
    ///
    /// # Errors
    ///
    /// `ENOSPC` beyond the user's limit on watched files.
    pub fn add(&self, fd: BorrowedFd<'_>) -> Result<(), VerbsError> {
        match self.control(libc::EPOLL_CTL_ADD, fd) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(VerbsError::kernel(HERE, operation::WATCH_EVENT_FILE, errno)),
        }
    }

    /// Removes a file, if it is in it.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        // The only failure that an open file can have is that it is not there.
        let _absent = self.control(libc::EPOLL_CTL_DEL, fd);
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 0,
        };
        let (set, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` is a live local of the type that is asked for.
        match unsafe { libc::epoll_ctl(set, operation, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    /// Sleeps until one of the files is readable or the time is over; without a time, as long as it
    /// takes. Tells whether one is. A signal may end it early.
    pub fn wait(&self, time: Option<Duration>) -> bool {
        // Rounded up, so that a wait for less than a millisecond is none for nothing.
        let time = time.map_or(-1, |time| {
            i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` is a live local and the one that may be written.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, time) == 1 }
    }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(20));
    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn an_event_rung_before_or_during_the_wait_ends_it_until_it_is_cleared() {
        let (set, event) = (PollSet::new().unwrap(), EventFd::new().unwrap());
        set.add(event.as_fd()).unwrap();
        set.add(event.as_fd()).unwrap();
        assert!(!set.wait(NOW) && !event.clear());
        event.ring();
        event.ring();
        assert!(set.wait(NOW) && set.wait(None));
        assert!(event.clear() && !event.clear() && !set.wait(NOW));
        std::thread::scope(|scope| {
            scope.spawn(|| event.ring());
            assert!(set.wait(SOON));
        });
        set.remove(event.as_fd());
        set.remove(event.as_fd());
        assert!(!set.wait(NOW));
    }

    #[test]
    fn a_timer_ticks_until_it_is_stopped() {
        let (set, timer) = (PollSet::new().unwrap(), Timer::new().unwrap());
        set.add(timer.as_fd()).unwrap();
        assert!(!set.wait(NOW));
        timer.set(Some(Duration::from_millis(1)));
        for _ in 0..3 {
            assert!(set.wait(SOON) && timer.clear());
        }
        timer.set(None);
        timer.clear();
        assert!(!set.wait(Some(Duration::from_millis(5))));
    }

    #[test]
    fn a_closed_file_leaves_the_set() {
        let (set, event) = (PollSet::new().unwrap(), EventFd::new().unwrap());
        set.add(event.as_fd()).unwrap();
        event.ring();
        drop(event);
        assert!(!set.wait(NOW));
    }
}
