//! Sleeping on a receive queue (reference/mana-hardware.md §2.8, §4.9).
//!
//! Nothing of this touches the burst. The race between the last burst and the sleep is closed by
//! the device: the arming doorbell says how far we have read, and where more was written since, the
//! event comes at once. What we see ourselves before is told without sleeping at all. An owner that
//! sleeps is woken, too, when the control plane wants the queue or gives it back.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gdma::Polled;
use mana_verbs::{CompletionChannel, EventFd, PollSet, VerbsError, Waited};
use pmd_api::{Armed, InterruptError, RxInterrupt, Wake};
use uverbs_abi::Errno;

use super::rx::Pending;
use super::{RxCore, RxQueue};
use crate::started::Failure;

impl RxCore {
    fn channel(&self) -> Result<&CompletionChannel, InterruptError> {
        let queue = self.state.index;
        (self.interrupts.as_ref()).ok_or(InterruptError::NotEnabled { queue })
    }

    /// See [`RxInterrupt::arm`].
    fn arm(&mut self) -> Result<Armed, InterruptError> {
        let channel = self.channel()?;
        // Events of earlier arms, or of the CQ's birth, whose packets were received without asking:
        // left there they would end the next sleep.
        loop {
            match channel.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // What arrived before can still be received.
                Err(error) if self.has_something() && is_end(&error) => return Ok(Armed::Ready),
                Err(error) => return Err(self.unwaitable(error)),
            }
        }
        if matches!(self.state.pending, Pending::Failed) {
            return Err(InterruptError::QueueFailed {
                queue: self.state.index,
            });
        }
        if self.has_something() {
            return Ok(Armed::Ready);
        }
        // The threshold of bursts may have left the ring short, even empty.
        self.refill();
        if self.posted() == 0 {
            return Err(InterruptError::NoBuffers {
                queue: self.state.index,
            });
        }
        self.state.rings.cq.arm();
        if self.has_something() {
            return Ok(Armed::Ready);
        }
        Ok(Armed::Sleep)
    }

    /// Whether the next burst has something to look at.
    fn has_something(&self) -> bool {
        let cq = &self.state.rings.cq;
        matches!(self.state.pending, Pending::Rest(..)) || cq.look(cq.cursor()) != Polled::Empty
    }

    fn unwaitable(&self, error: VerbsError) -> InterruptError {
        let queue = self.state.index;
        if is_end(&error) {
            return InterruptError::DeviceRemoved { queue };
        }
        InterruptError::System {
            queue,
            cause: Box::new(error),
        }
    }
}

/// Whether the channel has ended, as the kernel's do when the device is gone: reading is `EIO` then,
/// or nothing where it is a pipe.
fn is_end(error: &VerbsError) -> bool {
    matches!(error.errno(), Some(Errno::EIO | Errno::EPROTO))
}

/// What the owner of a receive queue sleeps on: the same as long as the handle lives, whatever
/// becomes of the device.
#[derive(Debug)]
pub(crate) struct Sleep {
    /// Readable for the queue's channel and for `wake`.
    set: PollSet,
    /// Rung when the control plane wants the queue, and when it gives it back.
    wake: EventFd,
}

impl Sleep {
    /// For a queue that has interrupts, and is not there yet.
    pub(crate) fn new() -> Result<Arc<Self>, VerbsError> {
        let wake = EventFd::new()?;
        let set = PollSet::new(&[wake.as_fd()])?;
        Ok(Arc::new(Self { set, wake }))
    }

    /// The queue is this one from now on.
    pub(crate) fn watch(&self, core: &RxCore) -> Result<(), VerbsError> {
        let channel = core.interrupts.as_ref();
        channel.map_or(Ok(()), |channel| self.set.add(channel.fd()))
    }

    /// The queue is no more this one.
    pub(crate) fn unwatch(&self, core: &RxCore) {
        if let Some(channel) = &core.interrupts {
            self.set.remove(channel.fd());
        }
    }

    /// Wakes the owner, which is to look at the gate.
    pub(crate) fn wake(&self) {
        self.wake.ring();
    }
}

impl AsFd for Sleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

impl RxQueue {
    fn sleep(&self) -> Result<&Arc<Sleep>, InterruptError> {
        let queue = self.index;
        (self.sleep.as_ref()).ok_or(InterruptError::NotEnabled { queue })
    }

    /// What its owner sleeps on, where the port has receive interrupts.
    pub(crate) fn sleeps_on(&self) -> Option<&Arc<Sleep>> {
        self.sleep.as_ref()
    }

    /// Whether the next burst has something to look at.
    pub(crate) fn has_something(&self) -> bool {
        self.owner.look(RxCore::has_something) == Some(true)
    }

    /// Whether the queue will not be given back.
    pub(crate) fn is_lost(&self) -> bool {
        self.loss().is_some()
    }

    /// Why it will not be given back, if it won't.
    fn loss(&self) -> Option<InterruptError> {
        let queue = self.index;
        let failure = self.home.failure().filter(|_| !self.owner.is_open());
        failure.map(|failure| match failure {
            Failure::Device => InterruptError::DeviceRemoved { queue },
            Failure::Receive => InterruptError::QueueFailed { queue },
        })
    }

    /// See [`RxInterrupt::arm`]. `None` where the control plane has rung: the owner may have other
    /// queues that are wanted, too, so it must not sleep before it has called them all.
    pub(crate) fn try_arm(&mut self) -> Result<Option<Armed>, InterruptError> {
        // Cleared before looking at the gate: what comes later is rung for again.
        let rung = self.sleep()?.wake.clear();
        if !rung && let Some(armed) = self.owner.enter(RxCore::arm) {
            return armed.map(Some);
        }
        self.give_up();
        if let Some(lost) = self.loss() {
            return Err(lost);
        }
        // The queue wakes its owner when it is given back.
        Ok((!rung).then_some(Armed::Sleep))
    }
}

impl RxInterrupt for RxQueue {
    fn interrupt_fd(&self) -> Result<BorrowedFd<'_>, InterruptError> {
        Ok(self.sleep()?.set.as_fd())
    }

    fn arm(&mut self) -> Result<Armed, InterruptError> {
        Ok(self.try_arm()?.unwrap_or(Armed::Ready))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, InterruptError> {
        // A time that no clock reaches is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        loop {
            match self.try_arm()? {
                None => return Ok(Wake::Control),
                Some(Armed::Ready) => return Ok(Wake::Packets),
                Some(Armed::Sleep) => {}
            }
            let waited = self.sleep()?.set.wait(left());
            let waited = waited.map_err(|error| InterruptError::System {
                queue: self.index,
                cause: Box::new(error),
            })?;
            match waited {
                _ if self.has_something() => return Ok(Wake::Packets),
                Waited::TimedOut => return Ok(Wake::Timeout),
                Waited::Signal => return Ok(Wake::Signal),
                // An event without a packet: a late one of an earlier arm, or the gate.
                _ if left() == Some(Duration::ZERO) => return Ok(Wake::Timeout),
                Waited::Event | Waited::Closed => {}
            }
        }
    }
}
