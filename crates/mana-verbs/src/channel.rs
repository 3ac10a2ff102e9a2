//! Completion channels: how a completion queue wakes a sleeping thread.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use uverbs_abi::Errno;

use crate::fd::wait_readable;
use crate::provider::Channel;
use crate::{Context, VerbsError, Waited, operation};

/// A completion channel. Clones name the same one; it is closed when the last clone and the last
/// completion queue that uses it are dropped.
#[derive(Debug, Clone)]
pub struct CompletionChannel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    channel: Box<dyn Channel>,
    /// Outlives the channel.
    context: Context,
}

impl CompletionChannel {
    pub(crate) fn new(context: Context, channel: Box<dyn Channel>) -> Self {
        Self {
            inner: Arc::new(Inner { channel, context }),
        }
    }

    /// Becomes readable when an armed completion queue of the channel has got an entry;
    /// non-blocking.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inner.channel.fd()
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
        self.inner.channel.next_event().map_err(error)
    }

    /// Sleeps until there is an event for [`CompletionChannel::next_event`], at most `timeout`.
    ///
    /// # Errors
    ///
    /// Where the channel can't be waited for.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Waited, VerbsError> {
        wait_readable(self.fd(), timeout).map_err(|errno| {
            let operation = operation::READ_COMPLETION_EVENT;
            VerbsError::kernel(self.inner.context.device_name(), operation, errno)
        })
    }

    /// What the provider calls it.
    pub(crate) fn name(&self) -> u64 {
        self.inner.channel.name()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::scripted::{Machine, ring};

    #[test]
    fn an_event_names_the_queue_by_its_user_handle() {
        let machine = Machine::new();
        let pd = machine.pd();
        let channel = pd.context().create_channel().unwrap();
        let _first = pd.create_cq(ring(4096), 64, 0, None).unwrap();
        let cq = pd.create_cq(ring(4096), 64, 3, Some(&channel)).unwrap();
        assert_eq!(channel.next_event().unwrap(), None);
        let mut script = machine.script();
        let sent = script.calls["create cq"].inputs[&2].clone();
        let file = script.completion_events.as_mut().unwrap();
        file.write_all(&sent).unwrap();
        drop(script);
        assert_eq!(channel.wait(None).unwrap(), Waited::Event);
        assert_eq!(channel.next_event().unwrap(), Some(cq.user_handle()));
        let waited = channel.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(waited, Waited::TimedOut);
        assert_eq!(cq.user_handle(), 2);
    }

    #[test]
    fn a_channel_of_another_context_is_refused() {
        let machine = Machine::new();
        let channel = machine.context().create_channel().unwrap();
        let error = machine.pd().create_cq(ring(4096), 64, 0, Some(&channel));
        assert!(matches!(error, Err(VerbsError::Argument { .. })));
    }

    #[test]
    fn the_channel_lives_as_long_as_its_queue() {
        let machine = Machine::new();
        let pd = machine.pd();
        let channel = pd.context().create_channel().unwrap();
        let inner = Arc::downgrade(&channel.inner);
        let cq = pd.create_cq(ring(4096), 64, 0, Some(&channel)).unwrap();
        let queue = pd.create_work_queue(ring(4096), 64, cq).unwrap();
        let rss = pd.create_rss(1, vec![queue], &[0; 40]).unwrap();
        drop(channel);
        assert!(inner.upgrade().is_some());
        rss.destroy().unwrap();
        assert!(inner.upgrade().is_none());
    }
}
