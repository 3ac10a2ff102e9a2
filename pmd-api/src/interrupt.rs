//! Sleeping where there is nothing to receive.

use std::error::Error;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::RxBurst;

/// A receive queue that can wake its owner, where the port was configured for it.
///
/// Polling is unchanged and needs none of this. Before it sleeps, a thread asks for an interrupt:
/// with [`RxInterrupt::wait`], which does it all, or, where one thread sleeps on several queues or
/// on other descriptors as well, with [`RxInterrupt::arm`] on each and poll or epoll on
/// [`RxInterrupt::interrupt_fd`]. An interrupt comes once for each time it was asked for; bursts need
/// not be told of it.
pub trait RxInterrupt: RxBurst {
    /// Becomes readable when a packet arrives at the armed queue, and stays so until the queue is
    /// armed again. For poll, select and epoll only: what can be read from it belongs to the
    /// driver. Non-blocking and close-on-exec; valid as long as the queue.
    ///
    /// # Errors
    ///
    /// [`InterruptError::NotEnabled`].
    fn interrupt_fd(&self) -> Result<BorrowedFd<'_>, InterruptError>;

    /// Asks for one interrupt with the next packet. Sleep only on [`Armed::Sleep`]: a packet that
    /// came between the last burst and this call is told as [`Armed::Ready`] or makes the descriptor
    /// readable at once; none is slept over. A burst after [`Armed::Ready`] may still return no
    /// packet, as where the device has reported something else, or where the port wants its queues and
    /// each that this thread has is to be called once.
    ///
    /// # Errors
    ///
    /// Why sleeping makes no sense, see [`InterruptError`].
    fn arm(&mut self) -> Result<Armed, InterruptError>;

    /// Sleeps until a packet can be received, at most `timeout` (without one, as long as it takes),
    /// and says what ended it.
    ///
    /// # Errors
    ///
    /// As for [`RxInterrupt::arm`]; [`InterruptError::DeviceRemoved`] also ends a sleep. Where the
    /// port recovers, waiting again is right: once the port has asked for the queue, the wait is for
    /// its return, too.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, InterruptError>;
}

/// What [`RxInterrupt::arm`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Armed {
    /// Nothing is there: the descriptor becomes readable when something is.
    Sleep,
    /// Something is there: receive it in place of sleeping. The queue may or may not be armed.
    Ready,
}

/// What ended [`RxInterrupt::wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Wake {
    /// Something can be received.
    Packets,
    /// The time is over.
    Timeout,
    /// A signal handler of this process has run.
    Signal,
    /// The queue's port wants its queues, or has given them back: call each queue of this thread once
    /// (a burst, or [`crate::TxBurst::reclaim`]), then wait again.
    Control,
}

/// Why a queue can't be slept on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterruptError {
    /// The port was not configured for it.
    #[error(
        "receive queue {queue} has no interrupt: enable receive interrupts in the port's \
         configuration and start the port again"
    )]
    NotEnabled {
        /// Index of the queue.
        queue: u16,
    },
    /// Nothing can arrive, because no receive buffer is posted.
    #[error(
        "receive queue {queue} has no buffer posted and its pool is empty, so no packet can wake \
         it: free packets first, or make the pool larger"
    )]
    NoBuffers {
        /// Index of the queue.
        queue: u16,
    },
    /// The queue receives nothing any more until its port is started again.
    #[error("receive queue {queue} has failed: stop and start its port")]
    QueueFailed {
        /// Index of the queue.
        queue: u16,
    },
    /// The device is gone.
    #[error(
        "the device of receive queue {queue} was removed: its port tells whether it comes back"
    )]
    DeviceRemoved {
        /// Index of the queue.
        queue: u16,
    },
    /// The system refused something.
    #[error("receive queue {queue} can't be waited for: {cause}")]
    System {
        /// Index of the queue.
        queue: u16,
        /// What it said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
}

const _: () = {
    const fn object_safe(_: Option<&dyn RxInterrupt>) {}
    object_safe(None);
};
