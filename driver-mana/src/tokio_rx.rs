//! Waiting for packets in a task of tokio (feature `tokio`).
//!
//! Bursts stay what they are, calls that never wait; only the wait for the next packet is a future.
//! One task receives from one queue, and may send through others.
//!
//! ```no_run
//! use mana_pmd::tokio_rx::AsyncRxQueue;
//! use mana_pmd::{RxQueue, TxBurst, TxQueue};
//! use pmd_api::{Batch, InterruptError};
//!
//! /// Sends back what comes.
//! async fn echo(rx: RxQueue, mut tx: TxQueue) -> Result<(), InterruptError> {
//!     // The port was configured with `rx_interrupts`.
//!     let mut rx = AsyncRxQueue::new(rx).map_err(|refused| refused.error)?;
//!     let mut batch = Batch::with_capacity(32);
//!     loop {
//!         rx.rx(&mut batch).await?;
//!         drop(tx.tx_burst(&mut batch));
//!         batch.clear(); // what the ring does not take is dropped
//!         tx.reclaim();
//!     }
//! }
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use pmd_api::{Armed, Batch, InterruptError, RxBurst, Wake};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;

use crate::queue::{RxQueue, Sleep};
use crate::{Error, Port, PortEvent};

/// A receive queue that a task waits on.
///
/// It belongs to the runtime it was made in. Through a recovery of its port it waits: somebody must
/// drive the port ([`next_event`]).
#[derive(Debug)]
pub struct AsyncRxQueue {
    readiness: AsyncFd<Descriptor<Arc<Sleep>>>,
    queue: RxQueue,
}

/// A queue that can't be waited on, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The queue, as it was.
    pub queue: Box<RxQueue>,
    /// Why.
    pub error: InterruptError,
}

/// Something with one descriptor as long as it lives.
#[derive(Debug)]
struct Descriptor<T>(T);

impl AsRawFd for Descriptor<Arc<Sleep>> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsRawFd for Descriptor<&Port> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.event_fd().as_raw_fd()
    }
}

/// Lets the runtime look at a descriptor.
#[allow(
    deprecated,
    reason = "since tokio 1.54 the function that is not asks for an unsafe promise, which \
              `Descriptor` keeps: its descriptor is open, and the same, as long as it lives"
)]
fn watch<T>(descriptor: Descriptor<T>) -> io::Result<AsyncFd<Descriptor<T>>>
where
    Descriptor<T>: AsRawFd,
{
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Drives a port until there is an event, and returns it. Whoever has a task for a port's queues has
/// one that calls this, too, or the port can't recover.
///
/// Cancel-safe: an event that was not returned is the next call's.
///
/// # Errors
///
/// [`Error::Verbs`] where events can't be read, [`Error::Runtime`] where the runtime can't watch the
/// port.
///
/// # Panics
///
/// As [`AsyncRxQueue::new`].
pub async fn next_event(port: &mut Port) -> Result<PortEvent, Error> {
    loop {
        if let Some(event) = port.next_event()? {
            return Ok(event);
        }
        let readiness = watch(Descriptor(&*port)).map_err(Error::Runtime)?;
        drop(readiness.readable().await.map_err(Error::Runtime)?);
    }
}

impl AsyncRxQueue {
    /// Makes the queue one of the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`InterruptError::NotEnabled`] unless the port was configured with receive interrupts, and
    /// [`InterruptError::System`] where the runtime can't watch it. The queue comes back.
    ///
    /// # Panics
    ///
    /// Outside a runtime, or in one whose I/O driver is not enabled.
    pub fn new(queue: RxQueue) -> Result<Self, Refused> {
        let index = queue.index();
        let registered = match queue.sleeps_on().cloned() {
            None => Err(InterruptError::NotEnabled { queue: index }),
            Some(sleep) => watch(Descriptor(sleep)).map_err(|error| system(index, error)),
        };
        match registered {
            Ok(readiness) => Ok(Self { readiness, queue }),
            Err(error) => Err(Refused {
                queue: Box::new(queue),
                error,
            }),
        }
    }

    /// Receives at least one packet, waiting for it, and at most what the batch has room for, to
    /// which it appends. Returns how many; 0 for a batch without room, and where the port wants its
    /// queues or has given them back: call the task's other queues once then
    /// ([`Wake::Control`]).
    ///
    /// Cancel-safe: packets are in the batch only if the future was ready.
    ///
    /// # Errors
    ///
    /// As for [`AsyncRxQueue::wait`].
    pub async fn rx(&mut self, batch: &mut Batch) -> Result<usize, InterruptError> {
        loop {
            // A queue that always has something must not keep other tasks from running.
            consume_budget().await;
            let received = self.queue.rx_burst(batch);
            if received > 0 || batch.room() == 0 {
                return Ok(received);
            }
            match self.wait().await? {
                Wake::Packets => {}
                _ => return Ok(0),
            }
        }
    }

    /// Waits until a packet can be received, or until the port wants something
    /// ([`Wake::Control`]). Arms the queue, unless something is there already.
    ///
    /// Cancel-safe: nothing is received, and an interrupt that was asked for ends no later wait.
    ///
    /// # Errors
    ///
    /// * [`InterruptError::NoBuffers`]: free packets, then wait again;
    /// * [`InterruptError::QueueFailed`];
    /// * [`InterruptError::DeviceRemoved`] where its port has given up its recovery; a device that is
    ///   only away is waited for;
    /// * [`InterruptError::System`].
    pub async fn wait(&mut self) -> Result<Wake, InterruptError> {
        consume_budget().await;
        loop {
            match self.queue.try_arm() {
                Ok(Some(Armed::Sleep)) => {}
                Ok(Some(Armed::Ready)) => return Ok(Wake::Packets),
                Ok(None) => return Ok(Wake::Control),
                // The port asks for the queue once it is driven, which wakes us.
                Err(InterruptError::DeviceRemoved { .. }) if !self.queue.is_lost() => {}
                Err(error) => return Err(error),
            }
            let ready = self.readiness.readable().await;
            let mut ready = ready.map_err(|error| system(self.queue.index(), error))?;
            // Whatever made it readable is looked at next; what comes meanwhile makes it ready again.
            ready.clear_ready();
            if self.queue.has_something() {
                return Ok(Wake::Packets);
            }
        }
    }

    /// The queue, for everything else.
    pub fn get_mut(&mut self) -> &mut RxQueue {
        &mut self.queue
    }

    /// The queue, which no runtime knows any more.
    #[must_use]
    pub fn into_inner(self) -> RxQueue {
        self.queue
    }
}

fn system(queue: u16, error: io::Error) -> InterruptError {
    InterruptError::System {
        queue,
        cause: Box::new(error),
    }
}
