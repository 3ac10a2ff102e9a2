//! Events of the asynchronous event file.

use uverbs_abi::ids::{EVENT_DEVICE_FATAL, EVENT_PORT_ACTIVE, EVENT_PORT_ERR};
use uverbs_abi::wire;

/// Something that happened to the device (reference/mana-hardware.md §4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncEvent {
    /// The device is gone: driver unload, removal, reset. Every call answers `EIO` from now on;
    /// the doorbell page stays mapped and leads nowhere.
    DeviceFatal,
    /// The netdev of this port (from 1) came up.
    PortActive(u64),
    /// The netdev of this port (from 1) went down.
    PortError(u64),
    /// An event that Ethernet has no use for.
    Other {
        /// Number of the event.
        event_type: u32,
        /// User handle of the object it is about, or the port.
        element: u64,
    },
}

impl AsyncEvent {
    pub(crate) const fn from_wire(event: wire::AsyncEvent) -> Self {
        match event.event_type {
            EVENT_DEVICE_FATAL => Self::DeviceFatal,
            EVENT_PORT_ACTIVE => Self::PortActive(event.element),
            EVENT_PORT_ERR => Self::PortError(event.element),
            event_type => Self::Other {
                event_type,
                element: event.element,
            },
        }
    }
}
