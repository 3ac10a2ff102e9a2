//! File descriptors that the kernel or a model hands out: event files and channels.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use uverbs_abi::Errno;
use zerocopy::{FromBytes, IntoBytes};

/// The error number of the system call that just failed.
pub(crate) fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Takes over a descriptor whose number came out of an answer, close-on-exec from now on.
///
/// # Errors
///
/// `EBADF` where the number names no open descriptor.
///
/// # Safety
///
/// If the descriptor is open, then nobody else owns it.
pub(crate) unsafe fn adopt(number: u32) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    close_on_exec(fd)?;
    // SAFETY: `close_on_exec` has shown that the descriptor is open; that it has no other owner is the
    // caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes the descriptor at the next `exec`; `EBADF` where it names none.
fn close_on_exec(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: F_SETFD takes an integer and touches no memory; a closed descriptor is an error.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Closes the descriptor at the next `exec`.
#[cfg(feature = "rdma-core")]
pub(crate) fn set_cloexec(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    close_on_exec(fd.as_raw_fd())
}

/// Makes reads return `EAGAIN` instead of waiting.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: F_GETFL touches no memory; the descriptor is open as long as it is borrowed.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(last_errno());
    }
    // SAFETY: F_SETFL takes an integer and touches no memory.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// Reads one record of an event file; `None` where none is there.
///
/// # Errors
///
/// `read`'s error number, `EPROTO` for a piece of a record or the end of the file.
pub(crate) fn read_record<T: FromBytes + IntoBytes>(
    fd: BorrowedFd<'_>,
) -> Result<Option<T>, Errno> {
    let mut record = T::new_zeroed();
    let bytes = record.as_mut_bytes();
    loop {
        // SAFETY: `bytes` is exclusively borrowed and valid for writes of its length; any byte
        // pattern is a value of T (FromBytes).
        let got = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        if got >= 0 {
            let whole = usize::try_from(got) == Ok(bytes.len());
            return if whole {
                Ok(Some(record))
            } else {
                Err(Errno::EPROTO)
            };
        }
        match last_errno() {
            Errno::EINTR => {}
            Errno::EAGAIN => return Ok(None),
            errno => return Err(errno),
        }
    }
}

/// How waiting for events of a descriptor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There is something to read.
    Event,
    /// The time is over.
    TimedOut,
    /// A signal handler of this process has run.
    Signal,
    /// Nothing comes any more: the device is gone.
    Closed,
}

/// Sleeps until there is something to read, at most `timeout`.
pub(crate) fn wait_readable(
    fd: BorrowedFd<'_>,
    timeout: Option<Duration>,
) -> Result<Waited, Errno> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one pollfd, which is a live local; the time is a live local or null, the mask null.
    match unsafe { libc::ppoll(&mut poll, 1, timeout, ptr::null()) } {
        0 => Ok(Waited::TimedOut),
        1 if poll.revents & libc::POLLIN != 0 => Ok(Waited::Event),
        1 => Ok(Waited::Closed),
        _ => match last_errno() {
            Errno::EINTR => Ok(Waited::Signal),
            errno => Err(errno),
        },
    }
}

/// A descriptor that is readable while something was counted, non-blocking and close-on-exec.
pub(crate) fn event_counter() -> Result<OwnedFd, Errno> {
    // SAFETY: eventfd touches no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // SAFETY: a descriptor that was just opened has no other owner.
    unsafe { opened(fd) }
}

/// Counts one up.
pub(crate) fn raise(counter: BorrowedFd<'_>) -> Result<(), Errno> {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the bytes are a live local of that length.
    match unsafe { libc::write(counter.as_raw_fd(), one.as_ptr().cast(), one.len()) } {
        8 => Ok(()),
        // As high as it goes, so readable already.
        _ => match last_errno() {
            Errno::EAGAIN => Ok(()),
            errno => Err(errno),
        },
    }
}

/// Sets it to zero; true if it was not.
pub(crate) fn clear(counter: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(read_record::<u64>(counter)?.is_some())
}

/// A descriptor, close-on-exec, that is readable while one of `members` is.
pub(crate) fn poll_set(members: &[BorrowedFd<'_>]) -> Result<OwnedFd, Errno> {
    // SAFETY: epoll_create1 touches no memory.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    // SAFETY: a descriptor that was just opened has no other owner.
    let set = unsafe { opened(fd) }?;
    for member in members {
        watch(set.as_fd(), *member)?;
    }
    Ok(set)
}

/// Adds a member to a set.
pub(crate) fn watch(set: BorrowedFd<'_>, member: BorrowedFd<'_>) -> Result<(), Errno> {
    let events = libc::EPOLLIN as u32;
    control(set, libc::EPOLL_CTL_ADD, member, events)
}

/// Removes a member from a set.
pub(crate) fn unwatch(set: BorrowedFd<'_>, member: BorrowedFd<'_>) -> Result<(), Errno> {
    control(set, libc::EPOLL_CTL_DEL, member, 0)
}

fn control(
    set: BorrowedFd<'_>,
    operation: i32,
    member: BorrowedFd<'_>,
    events: u32,
) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: 0 };
    let (set, member) = (set.as_raw_fd(), member.as_raw_fd());
    // SAFETY: both descriptors are open as long as they are borrowed; the event is a live local.
    match unsafe { libc::epoll_ctl(set, operation, member, &mut event) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// A timer that does not run, non-blocking and close-on-exec.
pub(crate) fn timer() -> Result<OwnedFd, Errno> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: timerfd_create touches no memory.
    let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
    // SAFETY: a descriptor that was just opened has no other owner.
    unsafe { opened(fd) }
}

/// Lets a timer be readable each time `interval` has passed; never where it is 0.
pub(crate) fn tick(timer: BorrowedFd<'_>, interval: Duration) -> Result<(), Errno> {
    let time = libc::timespec {
        tv_sec: interval.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: interval.subsec_nanos().into(),
    };
    let spec = libc::itimerspec {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: `spec` is a live local; the earlier time is not asked for.
    match unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &spec, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Takes over what a system call returned.
///
/// # Safety
///
/// Unless it is negative, `fd` was opened by the last system call.
unsafe fn opened(fd: RawFd) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: open, and nobody else has it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let (reader, mut writer) = pipe().unwrap();
        set_nonblocking(reader.as_fd()).unwrap();
        assert_eq!(read_record::<u64>(reader.as_fd()), Ok(None));
        writer.write_all(&7u64.to_ne_bytes()).unwrap();
        assert_eq!(read_record::<u64>(reader.as_fd()), Ok(Some(7)));
        writer.write_all(&[1, 2, 3]).unwrap();
        assert_eq!(read_record::<u64>(reader.as_fd()), Err(Errno::EPROTO));
        drop(writer);
        assert_eq!(read_record::<u64>(reader.as_fd()), Err(Errno::EPROTO));
    }

    #[test]
    fn waiting_ends_with_an_event_with_the_time_or_with_the_other_end() {
        let (reader, mut writer) = pipe().unwrap();
        let wait = |timeout| wait_readable(reader.as_fd(), timeout);
        let brief = Some(Duration::from_micros(300));
        assert_eq!(wait(brief), Ok(Waited::TimedOut));
        writer.write_all(&[1]).unwrap();
        assert_eq!(wait(None), Ok(Waited::Event));
        drop(writer);
        assert_eq!(wait(Some(Duration::MAX)), Ok(Waited::Event), "read first");
        assert_eq!(read_record::<u8>(reader.as_fd()), Ok(Some(1)));
        assert_eq!(wait(None), Ok(Waited::Closed));
    }

    #[test]
    fn a_counter_and_a_set_with_it_are_readable_until_it_is_cleared() {
        let (counter, other) = (event_counter().unwrap(), event_counter().unwrap());
        let set = poll_set(&[other.as_fd(), counter.as_fd()]).unwrap();
        let wait = || wait_readable(set.as_fd(), Some(Duration::ZERO));
        assert_eq!(wait(), Ok(Waited::TimedOut));
        for _ in 0..2 {
            raise(counter.as_fd()).unwrap();
        }
        assert_eq!(wait(), Ok(Waited::Event));
        for _ in 0..2 {
            clear(counter.as_fd()).unwrap();
            assert_eq!(wait(), Ok(Waited::TimedOut));
        }
    }

    #[test]
    fn an_adopted_descriptor_is_close_on_exec() {
        let (reader, _writer) = pipe().unwrap();
        // SAFETY: `into_raw_fd` gives the ownership up.
        let fd = unsafe { adopt(reader.into_raw_fd() as u32) }.unwrap();
        // SAFETY: F_GETFD touches no memory.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_not_adopted() {
        for number in [u32::MAX, i32::MAX as u32] {
            // SAFETY: no descriptor has such a number.
            assert_eq!(unsafe { adopt(number) }.unwrap_err(), Errno::EBADF);
        }
    }
}
