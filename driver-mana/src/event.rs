//! What happens to a port besides packets.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use mana_verbs::AsyncEvent;

/// Something that happened to a port, told by [`crate::Port::next_event`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortEvent {
    /// The device is gone: removed, reset, or its kernel driver unloaded (the kernel's
    /// DEVICE_FATAL, reference/mana-hardware.md §4.9). Nothing arrives or leaves; the port looks for
    /// the device from now on, and its queues need not be given back.
    DeviceRemoved,
    /// The port can't go on before the owners of these queues (`rx 0`) call them once, or drop them.
    /// Nothing else waits for them.
    WaitingForQueue {
        /// Their names.
        queues: Vec<String>,
    },
    /// The device is back: the port is being made anew.
    Recovering,
    /// The port runs as before, or could be started if it was not.
    Recovered {
        /// What was on its way and is lost.
        lost: LostFrames,
    },
    /// A running port receives by the RSS key and indirection table that were set
    /// ([`crate::Port::set_rss_table`], [`crate::Port::set_rss_key`]).
    RssChanged {
        /// How long nothing was received: from the end of the old queues until the new ones had their
        /// buffers.
        gap: Duration,
        /// Received before, but not taken by a burst, and lost. They are counted as errors of their
        /// queues.
        lost: u64,
    },
    /// It does not.
    RssChangeFailed {
        /// Why.
        reason: String,
        /// Whether the port receives as before the change, after a gap. Otherwise it only sends, until
        /// the change is tried again or [`crate::Port::recover`] makes all queues anew.
        receives: bool,
        /// As above.
        lost: u64,
    },
    /// The port could not be made anew, and nothing is tried any more until
    /// [`crate::Port::recover`]. Its queues move nothing; stopping and closing work.
    RecoveryFailed {
        /// Why, and what mends it.
        reason: String,
    },
    /// The oldest packet of a transmit queue does not complete although its owner looks for
    /// completions. Told once, until the queue makes progress. [`crate::Port::recover`] makes the
    /// queues anew.
    TxStuck {
        /// Index of the queue.
        queue: u16,
        /// Packets in flight.
        in_flight: u64,
        /// How long nothing has completed.
        age: Duration,
    },
    /// The kernel's interface of the port came up, which it can only while the port is not started.
    /// Kernels before 7.3 don't tell.
    NetdevUp,
    /// The kernel's interface of the port went down.
    NetdevDown,
}

/// Frames that were on their way when a device went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostFrames {
    /// Handed to the device, without a completion. They are counted as errors of their queues.
    pub tx: u64,
    /// Received, but not taken by a burst. They are counted as errors of their queues.
    pub rx: u64,
}

impl AddAssign for LostFrames {
    fn add_assign(&mut self, other: Self) {
        self.tx += other.tx;
        self.rx += other.rx;
    }
}

impl fmt::Display for PortEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceRemoved => f.write_str("the device was removed or reset"),
            Self::WaitingForQueue { queues } => write!(
                f,
                "the port waits for the owners of {}: poll them, or drop them",
                queues.join(", ")
            ),
            Self::Recovering => f.write_str("the device is back: recovering"),
            Self::Recovered { lost } => write!(
                f,
                "recovered; {} frames to send and {} received ones are lost",
                lost.tx, lost.rx
            ),
            Self::RssChanged { gap, lost } => write!(
                f,
                "RSS was set anew: nothing was received for {gap:?}, {lost} received frames are lost"
            ),
            Self::RssChangeFailed {
                reason,
                receives,
                lost,
            } => write!(
                f,
                "RSS was not set anew: {reason}; {}, {lost} received frames are lost",
                match receives {
                    true => "the port receives as before",
                    false => "the port receives nothing",
                }
            ),
            Self::RecoveryFailed { reason } => write!(f, "recovery failed: {reason}"),
            Self::TxStuck {
                queue,
                in_flight,
                age,
            } => write!(
                f,
                "transmit queue {queue} is stuck: none of {in_flight} packets completed for {age:?}"
            ),
            Self::NetdevUp => f.write_str("the netdev came up"),
            Self::NetdevDown => f.write_str("the netdev went down"),
        }
    }
}

impl PortEvent {
    /// What an event of the device means for its port of that number; the device's end is not among
    /// them.
    pub(crate) fn of(event: AsyncEvent, port: u8) -> Option<Self> {
        let port = u64::from(port);
        match event {
            AsyncEvent::PortActive(of) if of == port => Some(Self::NetdevUp),
            AsyncEvent::PortError(of) if of == port => Some(Self::NetdevDown),
            AsyncEvent::DeviceFatal | AsyncEvent::PortActive(_) | AsyncEvent::PortError(_) => None,
            AsyncEvent::Other {
                event_type,
                element,
            } => {
                tracing::debug!(event_type, element, "an event that ports have no use for");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_port_is_one_of_that_port_only() {
        let up = AsyncEvent::PortActive(2);
        assert_eq!(PortEvent::of(up, 2), Some(PortEvent::NetdevUp));
        assert_eq!(PortEvent::of(up, 1), None);
        let down = AsyncEvent::PortError(1);
        assert_eq!(PortEvent::of(down, 1), Some(PortEvent::NetdevDown));
        let other = AsyncEvent::Other {
            event_type: 1,
            element: 1,
        };
        assert_eq!(PortEvent::of(other, 1), None);
    }
}
