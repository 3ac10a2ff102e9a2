//! Sleeping on a receive queue (reference/mana-hardware.md §2.8, §4.9).
//!
//! Nothing of this touches the burst. The race between the last burst and the sleep is closed by
//! the device: the arming doorbell says how far we have read, and where more was written since, the
//! event comes at once. What we see ourselves before is told without sleeping at all.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use gdma::Polled;
use mana_verbs::{CompletionChannel, VerbsError, Waited};
use pmd_api::{Armed, InterruptError, RxInterrupt, Wake};
use uverbs_abi::Errno;

use super::{RxCore, RxQueue};

impl RxCore {
    fn channel(&self) -> Result<&CompletionChannel, InterruptError> {
        let queue = self.index;
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
        if self.failed {
            return Err(InterruptError::QueueFailed { queue: self.index });
        }
        if self.has_something() {
            return Ok(Armed::Ready);
        }
        // The threshold of bursts may have left the ring short, even empty.
        self.refill();
        if self.posted() == 0 {
            return Err(InterruptError::NoBuffers { queue: self.index });
        }
        self.rings.cq.arm();
        if self.has_something() {
            return Ok(Armed::Ready);
        }
        Ok(Armed::Sleep)
    }

    /// See [`RxInterrupt::wait`].
    fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, InterruptError> {
        // A time that no clock reaches is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        loop {
            if self.arm()? == Armed::Ready {
                return Ok(Wake::Packets);
            }
            let waited = self.channel()?.wait(left());
            match waited.map_err(|error| self.unwaitable(error))? {
                _ if self.has_something() => return Ok(Wake::Packets),
                Waited::TimedOut => return Ok(Wake::Timeout),
                Waited::Signal => return Ok(Wake::Signal),
                Waited::Closed => return Err(InterruptError::DeviceRemoved { queue: self.index }),
                // An event without a packet: a late one of an earlier arm, say.
                Waited::Event if left() == Some(Duration::ZERO) => return Ok(Wake::Timeout),
                Waited::Event => {}
            }
        }
    }

    /// Whether the next burst has something to look at.
    fn has_something(&self) -> bool {
        let cq = &self.rings.cq;
        self.partial.is_some() || cq.look(cq.cursor()) != Polled::Empty
    }

    fn unwaitable(&self, error: VerbsError) -> InterruptError {
        let queue = self.index;
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

/// A handle is without its core only while it is dropped.
const EMPTY: InterruptError = InterruptError::NotEnabled { queue: 0 };

impl RxInterrupt for RxQueue {
    fn interrupt_fd(&self) -> Result<BorrowedFd<'_>, InterruptError> {
        let core = self.core().ok_or(EMPTY)?;
        Ok(core.channel()?.fd())
    }

    fn arm(&mut self) -> Result<Armed, InterruptError> {
        self.core_mut().ok_or(EMPTY)?.arm()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, InterruptError> {
        self.core_mut().ok_or(EMPTY)?.wait(timeout)
    }
}
