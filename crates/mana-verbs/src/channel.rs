//! Completion channels: how a completion queue wakes a sleeping thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use uverbs_abi::{Errno, wire};

use crate::fd::read_record;
use crate::{Context, VerbsError, operation};

/// A completion channel. Clones name the same one; it is closed when the last clone and the last
/// completion queue that uses it are dropped.
#[derive(Debug, Clone)]
pub struct CompletionChannel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    context: Context,
}

impl CompletionChannel {
    pub(crate) fn new(context: Context, fd: OwnedFd) -> Self {
        Self {
            inner: Arc::new(Inner { fd, context }),
        }
    }

    /// Becomes readable when an armed completion queue of the channel has got an entry;
    /// non-blocking.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    /// The oldest event, if there is one: [`crate::CompletionQueue::user_handle`] of the queue that
    /// got an entry. Never waits. One event may come before a queue was armed for the first time.
    ///
    /// # Errors
    ///
    /// Where the channel can't be read.
    pub fn next_event(&self) -> Result<Option<u64>, VerbsError> {
        let error = |errno: Errno| {
            let operation = operation::READ_COMPLETION_EVENT;
            VerbsError::kernel(self.inner.context.device_name(), operation, errno)
        };
        let event = read_record::<wire::CompEvent>(self.fd()).map_err(error)?;
        Ok(event.map(|event| event.cq_handle))
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }
}
