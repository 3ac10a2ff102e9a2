//! Asynchronous events for several listeners: a context has one event file, and whoever reads an
//! event takes it from everybody else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use uverbs_abi::Errno;

use crate::fd::{clear, event_counter, poll_set, raise};
use crate::{AsyncEvent, Context, VerbsError, operation};

/// Events that a listener which never asks keeps; the oldest go first.
const KEPT: usize = 256;

/// Who listens to a context, and what everybody must know.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: Mutex<Vec<Weak<Inbox>>>,
    /// DEVICE_FATAL was read.
    removed: AtomicBool,
}

/// What a listener has not taken yet.
#[derive(Debug)]
struct Inbox {
    events: Mutex<VecDeque<AsyncEvent>>,
    /// Counts up while there are events here.
    counter: OwnedFd,
}

impl Inbox {
    /// A panic elsewhere leaves the queue whole.
    fn events(&self) -> MutexGuard<'_, VecDeque<AsyncEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: AsyncEvent) -> Result<(), Errno> {
        let mut events = self.events();
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(event);
        raise(self.counter.as_fd())
    }
}

impl Listeners {
    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Moves what is in the event file to every listener.
    fn spread(&self, context: &Context) -> Result<(), Errno> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|inbox| inbox.strong_count() > 0);
        while let Some(event) = context.raw().next_async_event()? {
            if event == AsyncEvent::DeviceFatal {
                self.removed.store(true, Ordering::Release);
            }
            for inbox in list.iter().filter_map(Weak::upgrade) {
                inbox.put(event)?;
            }
        }
        Ok(())
    }
}

/// One who listens to the asynchronous events of a context, from its making on. Every listener gets
/// every event, in order.
#[derive(Debug)]
pub struct EventListener {
    inbox: Arc<Inbox>,
    /// Readable where the context's event file or the inbox is.
    poll: OwnedFd,
    context: Context,
}

impl EventListener {
    pub(crate) fn new(context: &Context) -> Result<Self, VerbsError> {
        let error =
            |errno| VerbsError::kernel(context.device_name(), operation::ALLOC_ASYNC_EVENT, errno);
        let counter = event_counter().map_err(error)?;
        let poll = poll_set(&[context.raw().async_fd(), counter.as_fd()]).map_err(error)?;
        let inbox = Arc::new(Inbox {
            events: Mutex::default(),
            counter,
        });
        let mut list = (context.listeners().list.lock()).unwrap_or_else(PoisonError::into_inner);
        list.push(Arc::downgrade(&inbox));
        drop(list);
        Ok(Self {
            inbox,
            poll,
            context: context.clone(),
        })
    }

    /// Readable, for poll and epoll, while [`EventListener::next_event`] may have something.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }

    /// The oldest event that this listener has not taken yet. Never waits.
    ///
    /// # Errors
    ///
    /// Where the event file can't be read.
    pub fn next_event(&self) -> Result<Option<AsyncEvent>, VerbsError> {
        if self.context.in_child() {
            return Ok(None);
        }
        let error = |errno| {
            let device = self.context.device_name();
            VerbsError::kernel(device, operation::READ_ASYNC_EVENT, errno)
        };
        let spread = self.context.listeners().spread(&self.context);
        let mut events = self.inbox.events();
        let event = events.pop_front();
        if events.is_empty() {
            clear(self.inbox.counter.as_fd()).map_err(error)?;
        }
        match (event, spread) {
            (Some(event), _) => Ok(Some(event)),
            // The file of a device that is gone may end.
            (None, Err(_)) if self.context.is_removed() => Ok(None),
            (None, spread) => spread.map(|()| None).map_err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use uverbs_abi::ids::{EVENT_DEVICE_FATAL, EVENT_PORT_ERR};
    use uverbs_abi::wire;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::fd::{Waited, wait_readable};
    use crate::scripted::Machine;

    fn readable(listener: &EventListener) -> bool {
        wait_readable(listener.fd(), Some(Duration::ZERO)) == Ok(Waited::Event)
    }

    fn happen(machine: &Machine, event_type: u32, element: u64) {
        let mut script = machine.script();
        let file = script.async_events.as_mut().unwrap();
        let event = wire::AsyncEvent {
            element,
            event_type,
            reserved: 0,
        };
        file.write_all(event.as_bytes()).unwrap();
    }

    #[test]
    fn every_listener_gets_every_event_and_its_descriptor_says_so_until_then() {
        let machine = Machine::new();
        let context = machine.context();
        let [first, second] = [(); 2].map(|()| context.listen().unwrap());
        assert_eq!(first.next_event().unwrap(), None);
        happen(&machine, EVENT_PORT_ERR, 2);
        happen(&machine, EVENT_DEVICE_FATAL, 0);
        assert!(!context.is_removed(), "nobody has read it");
        let expected = [AsyncEvent::PortError(2), AsyncEvent::DeviceFatal];
        for listener in [&first, &second] {
            for event in expected {
                assert!(readable(listener));
                assert_eq!(listener.next_event().unwrap(), Some(event));
            }
            assert!(!readable(listener));
            assert_eq!(listener.next_event().unwrap(), None);
        }
        assert!(context.is_removed());
    }

    #[test]
    fn a_listener_that_never_asks_keeps_the_latest_events_and_one_that_is_gone_none() {
        let machine = Machine::new();
        let context = machine.context();
        let (silent, asking) = (context.listen().unwrap(), context.listen().unwrap());
        drop(context.listen().unwrap());
        for port in 0..KEPT as u64 + 3 {
            happen(&machine, EVENT_PORT_ERR, port);
            assert_eq!(
                asking.next_event().unwrap(),
                Some(AsyncEvent::PortError(port))
            );
        }
        assert_eq!(silent.next_event().unwrap(), Some(AsyncEvent::PortError(3)));
        let rest = std::iter::from_fn(|| silent.next_event().unwrap()).count();
        assert_eq!(rest, KEPT - 1);
    }
}
