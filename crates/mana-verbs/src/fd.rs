//! File descriptors that the kernel or a model hands out: event files and channels.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::{AsFd, IntoRawFd};

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
