//! Completion channels of libibverbs.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use uverbs_abi::Errno;

use super::ffi::CompChannel;
use super::library::Library;
use crate::fd::last_errno;
use crate::provider::Channel;

/// A completion channel. Events are acknowledged as they are read, because libibverbs waits for
/// that when a queue is destroyed.
#[derive(Debug)]
pub(super) struct RdmaChannel {
    library: &'static Library,
    channel: NonNull<CompChannel>,
    pid: u32,
}

// SAFETY: the channel belongs to no thread. libibverbs reads events with one system call each and
// counts acknowledgements under the queue's lock.
unsafe impl Send for RdmaChannel {}
// SAFETY: likewise.
unsafe impl Sync for RdmaChannel {}

impl RdmaChannel {
    /// Takes over a channel of libibverbs.
    ///
    /// # Safety
    ///
    /// It was made by `library`, nobody else destroys it, and its context outlives this value.
    pub(super) unsafe fn new(library: &'static Library, channel: NonNull<CompChannel>) -> Self {
        Self {
            library,
            channel,
            pid: std::process::id(),
        }
    }
}

impl Channel for RdmaChannel {
    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is there, and with it its descriptor, as long as this value.
        unsafe { BorrowedFd::borrow_raw((*self.channel.as_ptr()).fd) }
    }

    fn name(&self) -> u64 {
        self.channel.as_ptr().expose_provenance() as u64
    }

    fn next_event(&self) -> Result<Option<u64>, Errno> {
        let (mut cq, mut cq_context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the channel is there, and both pointers are valid for writes.
        let result =
            unsafe { (self.library.get_cq_event)(self.channel.as_ptr(), &mut cq, &mut cq_context) };
        if result != 0 {
            return match last_errno() {
                Errno::EAGAIN | Errno::EINTR => Ok(None),
                errno => Err(errno),
            };
        }
        // SAFETY: the queue of an event that was read is not freed before it is acknowledged.
        unsafe { (self.library.ack_cq_events)(cq, 1) };
        Ok(Some(cq.addr() as u64))
    }
}

impl Drop for RdmaChannel {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        // SAFETY: the channel is there until it is destroyed below, which happens once; queues that
        // use it keep this value alive.
        let fd = unsafe { (*self.channel.as_ptr()).fd };
        // SAFETY: as above.
        let errno = unsafe { (self.library.destroy_comp_channel)(self.channel.as_ptr()) };
        if errno != 0 {
            // libibverbs counts queues whose destroy failed as its users for ever, and on a device
            // that is gone every destroy fails: without this, each reset would cost a descriptor.
            tracing::debug!(errno = %Errno(errno), "a completion channel is closed by its descriptor");
            // SAFETY: libibverbs has not closed it and will not, as it refused to; nobody but this
            // value reads from it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}
