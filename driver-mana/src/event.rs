//! What happens to a port besides packets.

use mana_verbs::AsyncEvent;

/// Something that happened to a port, told by [`crate::Port::next_event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortEvent {
    /// The device is gone: removed, reset, or its kernel driver unloaded (the kernel's
    /// DEVICE_FATAL, reference/mana-hardware.md §4.9). Nothing arrives or leaves any more, and
    /// nothing the port was made of comes back: stop and close it. It can be opened again when the
    /// kernel shows its device again.
    DeviceRemoved,
    /// The kernel's interface of the port came up, which it can only while the port is not started.
    /// Kernels before 7.3 don't tell.
    NetdevUp,
    /// The kernel's interface of the port went down.
    NetdevDown,
}

impl PortEvent {
    /// What an event of the device means for its port of that number.
    pub(crate) fn of(event: AsyncEvent, port: u8) -> Option<Self> {
        let port = u64::from(port);
        match event {
            AsyncEvent::DeviceFatal => Some(Self::DeviceRemoved),
            AsyncEvent::PortActive(of) if of == port => Some(Self::NetdevUp),
            AsyncEvent::PortError(of) if of == port => Some(Self::NetdevDown),
            AsyncEvent::PortActive(_) | AsyncEvent::PortError(_) => None,
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
    fn an_event_of_the_device_is_one_of_every_port_and_one_of_a_port_only_of_that_port() {
        assert_eq!(
            PortEvent::of(AsyncEvent::DeviceFatal, 3),
            Some(PortEvent::DeviceRemoved)
        );
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
