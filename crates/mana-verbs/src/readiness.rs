//! What a thread sleeps on besides the files of a device: events of this process, timers, and sets
//! of files. All are close-on-exec, and only [`PollSet::wait`] waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use uverbs_abi::Errno;

use crate::fd::{
    clear, event_counter, poll_set, raise, read_record, tick, timer, unwatch, wait_readable, watch,
};
use crate::{VerbsError, Waited, operation};

/// These files belong to no device.
fn error(errno: Errno) -> VerbsError {
    VerbsError::kernel("this process", operation::WAIT_FOR_EVENTS, errno)
}

/// An event of this process: rung from any thread, readable until it is cleared.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A silent one.
    ///
    /// # Errors
    ///
    /// `EMFILE` where the process has no file descriptor left.
    pub fn new() -> Result<Self, VerbsError> {
        event_counter().map(Self).map_err(error)
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // A counter that is full is readable; there is no other failure of an open one.
        let _ = raise(self.0.as_fd());
    }

    /// Makes it silent again; true if it was rung.
    pub fn clear(&self) -> bool {
        // Likewise.
        clear(self.0.as_fd()) == Ok(true)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A timer: readable each time its interval has passed, until it is cleared.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that does not run.
    ///
    /// # Errors
    ///
    /// As for [`EventFd::new`].
    pub fn new() -> Result<Self, VerbsError> {
        timer().map(Self).map_err(error)
    }

    /// Runs with this interval from now on; 0 stops it.
    pub fn set(&self, interval: Duration) {
        // Every duration is a time that it can run for.
        let _ = tick(self.0.as_fd(), interval);
    }

    /// Makes it silent until the next interval has passed; true if one had.
    pub fn clear(&self) -> bool {
        matches!(read_record::<u64>(self.0.as_fd()), Ok(Some(_)))
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A set of files that is readable while one of them is. Files leave it when they are closed.
#[derive(Debug)]
pub struct PollSet(OwnedFd);

impl PollSet {
    /// A set of these files.
    ///
    /// # Errors
    ///
    /// As for [`EventFd::new`], and `ENOSPC` beyond the user's limit on watched files.
    pub fn new(members: &[BorrowedFd<'_>]) -> Result<Self, VerbsError> {
        poll_set(members).map(Self).map_err(error)
    }

    /// Adds a file, if it is not in it.
    ///
    /// # Errors
    ///
    /// As for [`PollSet::new`].
    pub fn add(&self, member: BorrowedFd<'_>) -> Result<(), VerbsError> {
        match watch(self.0.as_fd(), member) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(error(errno)),
        }
    }

    /// Removes a file, if it is in it.
    pub fn remove(&self, member: BorrowedFd<'_>) {
        // An open file can only be absent.
        let _ = unwatch(self.0.as_fd(), member);
    }

    /// Sleeps until one of the files is readable, at most `timeout`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Waited, VerbsError> {
        wait_readable(self.0.as_fd(), timeout).map_err(error)
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

    const NOW: Option<Duration> = Some(Duration::ZERO);
    const SOON: Option<Duration> = Some(Duration::from_secs(20));

    fn is_readable(set: &PollSet) -> bool {
        set.wait(NOW).unwrap() == Waited::Event
    }

    #[test]
    fn an_event_rung_before_or_during_the_wait_ends_it_until_it_is_cleared() {
        let event = EventFd::new().unwrap();
        let set = PollSet::new(&[]).unwrap();
        set.add(event.as_fd()).unwrap();
        set.add(event.as_fd()).unwrap();
        assert!(!is_readable(&set));
        event.ring();
        event.ring();
        assert!(is_readable(&set) && is_readable(&set));
        assert!(event.clear());
        assert!(!event.clear());
        assert!(!is_readable(&set));
        std::thread::scope(|scope| {
            scope.spawn(|| event.ring());
            assert_eq!(set.wait(SOON).unwrap(), Waited::Event);
        });
        set.remove(event.as_fd());
        set.remove(event.as_fd());
        assert!(!is_readable(&set));
    }

    #[test]
    fn a_timer_ticks_until_it_is_stopped() {
        let timer = Timer::new().unwrap();
        let set = PollSet::new(&[timer.as_fd()]).unwrap();
        assert!(!is_readable(&set));
        timer.set(Duration::from_millis(1));
        for _ in 0..3 {
            assert_eq!(set.wait(SOON).unwrap(), Waited::Event);
            assert!(timer.clear());
        }
        timer.set(Duration::ZERO);
        timer.clear();
        assert_eq!(
            set.wait(Some(Duration::from_millis(5))).unwrap(),
            Waited::TimedOut
        );
    }

    #[test]
    fn a_closed_file_leaves_the_set() {
        let event = EventFd::new().unwrap();
        let set = PollSet::new(&[event.as_fd()]).unwrap();
        event.ring();
        drop(event);
        assert!(!is_readable(&set));
    }
}
