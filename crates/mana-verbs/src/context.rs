//! One open uverbs context.

use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use uverbs_abi::ids::VENDOR_MICROSOFT;
use uverbs_abi::{DoorbellKind, IbDevice, System};

use crate::listener::Listeners;
use crate::object::Object;
use crate::provider::{self, ObjectKind, Opened, Provider};
use crate::{
    CompletionChannel, DeviceAttributes, EventListener, PortAttributes, ProtectionDomain,
    ProviderChoice, VerbsError, operation,
};

/// One uverbs context of a device: the root of all objects made from it. Clones name the same
/// context; it is closed when the last of them and the last object are dropped.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    device: IbDevice,
    attributes: DeviceAttributes,
    provider_note: String,
    /// The process that opened the context; a forked child only owns copies.
    pid: u32,
    provider: ManuallyDrop<Box<dyn Provider>>,
    listeners: Listeners,
    /// What may be dropped only after the provider has closed the context.
    after_close: ManuallyDrop<Mutex<Vec<Box<dyn Any + Send>>>>,
}

impl Inner {
    fn in_child(&self) -> bool {
        std::process::id() != self.pid
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.in_child() {
            return;
        }
        // SAFETY: `drop` runs once and nothing reads the field afterwards.
        unsafe { ManuallyDrop::drop(&mut self.provider) };
        // SAFETY: likewise. The context is closed by now, so that the kernel has destroyed
        // whatever could still reach this memory.
        unsafe { ManuallyDrop::drop(&mut self.after_close) };
    }
}

impl Context {
    /// Opens the device through the provider that [`ProviderChoice::Auto`] takes.
    ///
    /// # Errors
    ///
    /// As for [`Context::open_through`].
    pub fn open(system: &dyn System, device: &IbDevice) -> Result<Self, VerbsError> {
        Self::open_through(system, device, ProviderChoice::Auto)
    }

    /// Opens the device's node, finds the driver id that the kernel accepts (told by netlink or
    /// probed), creates the context and reads the device's attributes. Through rdma-core the
    /// libraries do all this.
    ///
    /// # Errors
    ///
    /// [`VerbsError::RdmaCore`] where rdma-core is asked for and can't be used,
    /// [`VerbsError::System`] where the node can't be opened, [`VerbsError::Argument`] for a device
    /// of another vendor, [`VerbsError::DriverId`] where the kernel accepts no known id, and
    /// whatever the calls answer. Everything is closed again then.
    pub fn open_through(
        system: &dyn System,
        device: &IbDevice,
        choice: ProviderChoice,
    ) -> Result<Self, VerbsError> {
        if device.vendor_id != VENDOR_MICROSOFT {
            // Its driver might answer to an id that MANA has elsewhere (19 is ERDMA upstream).
            let problem = format!(
                "{} is a device of PCI vendor {:#06x}, not of Microsoft ({VENDOR_MICROSOFT:#06x})",
                device.name, device.vendor_id
            );
            return Err(VerbsError::argument(operation::GET_CONTEXT, problem));
        }
        let Opened {
            provider,
            attributes,
            note,
        } = provider::open(system, device, choice)?;
        Ok(Self {
            inner: Arc::new(Inner {
                device: device.clone(),
                attributes,
                provider_note: note,
                pid: std::process::id(),
                provider: ManuallyDrop::new(provider),
                listeners: Listeners::default(),
                after_close: ManuallyDrop::new(Mutex::default()),
            }),
        })
    }

    /// The device this context was opened on.
    #[must_use]
    pub fn device(&self) -> &IbDevice {
        &self.inner.device
    }

    /// The driver id that the kernel accepts.
    #[must_use]
    pub fn driver_id(&self) -> u32 {
        self.raw().driver_id()
    }

    /// Who carries out the operations: `rdma-core` or `uverbs`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.raw().name()
    }

    /// The versions of the provider's libraries, or why there are none, for people.
    #[must_use]
    pub fn provider_note(&self) -> &str {
        &self.inner.provider_note
    }

    /// Work requests and completions of a ring at most, where the provider makes fewer than the
    /// device has: libmana before rdma-core 49 makes 256.
    #[must_use]
    pub fn ring_limit(&self) -> Option<u32> {
        self.raw().ring_limit()
    }

    /// The device's attributes, as read when the context was opened.
    #[must_use]
    pub fn attributes(&self) -> &DeviceAttributes {
        &self.inner.attributes
    }

    /// Asks for the attributes of `port` (from 1).
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that the device does not have.
    pub fn port_attributes(&self, port: u8) -> Result<PortAttributes, VerbsError> {
        self.raw().query_port(port)
    }

    /// Number of completion vectors: `vector` of a completion queue is less than this.
    #[must_use]
    pub fn comp_vectors(&self) -> u32 {
        self.raw().comp_vectors()
    }

    /// A listener to the asynchronous events of the device from now on, those not read by anybody
    /// yet included.
    ///
    /// # Errors
    ///
    /// `EMFILE` where the process has no file descriptor left.
    pub fn listen(&self) -> Result<EventListener, VerbsError> {
        EventListener::new(self)
    }

    /// Whether a listener has read that the device is gone ([`crate::AsyncEvent::DeviceFatal`]).
    #[inline]
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.inner.listeners.is_removed()
    }

    /// The doorbell register of queue `queue_id`: 8-byte aligned and valid for 64-bit atomic
    /// stores as long as a clone of this context lives, also after the device is gone.
    ///
    /// # Errors
    ///
    /// Where the page can't be mapped.
    pub fn doorbell(&self, kind: DoorbellKind, queue_id: u32) -> Result<NonNull<u64>, VerbsError> {
        self.raw().doorbell(kind, queue_id)
    }

    /// Allocates a protection domain. All queues of a port must use the same one, and it must not
    /// be used for another port (reference/mana-hardware.md §4.5).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn alloc_pd(&self) -> Result<ProtectionDomain, VerbsError> {
        let handle = self.raw().alloc_pd()?;
        let object = Object::new(self, ObjectKind::ProtectionDomain, handle, None);
        Ok(ProtectionDomain::new(object))
    }

    /// Creates a completion channel.
    ///
    /// # Errors
    ///
    /// The kernel's; `EMFILE` where the process has no file descriptor left.
    pub fn create_channel(&self) -> Result<CompletionChannel, VerbsError> {
        let channel = self.raw().create_channel()?;
        Ok(CompletionChannel::new(self.clone(), channel))
    }

    /// Keeps `thing` until the context is closed, then drops it: for memory that the device may
    /// still reach after a destroy answered `EIO` ([`VerbsError::is_disassociated`]).
    ///
    /// A `thing` that holds a clone of this context, or an object of it, keeps both alive for ever.
    pub fn drop_after_close(&self, thing: impl Any + Send) {
        let mut things = (self.inner.after_close.lock()).unwrap_or_else(PoisonError::into_inner);
        things.push(Box::new(thing));
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.inner.listeners
    }

    pub(crate) fn raw(&self) -> &dyn Provider {
        &**self.inner.provider
    }

    pub(crate) fn device_name(&self) -> &str {
        &self.inner.device.name
    }

    /// Whether the other is a clone of this one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether this is a forked child, in which handles do nothing.
    pub(crate) fn in_child(&self) -> bool {
        self.inner.in_child()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("device", &self.inner.device)
            .field("driver_id", &self.driver_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use uverbs_abi::ids::{EVENT_DEVICE_FATAL, EVENT_PORT_ACTIVE, EVENT_PORT_ERR};
    use uverbs_abi::{Errno, wire};
    use zerocopy::IntoBytes;

    use super::*;
    use crate::AsyncEvent;
    use crate::scripted::Machine;

    #[test]
    fn opening_probes_the_id_and_creates_the_context_in_the_order_of_libibverbs() {
        let machine = Machine::new();
        let context = machine.context();
        assert_eq!(context.driver_id(), 20);
        assert_eq!(context.comp_vectors(), 8);
        assert_eq!(context.attributes().phys_port_cnt, 2);
        let expected = ["probe", "get context", "alloc async event", "query device"];
        assert_eq!(machine.log(), expected);
        drop(context.clone());
        assert_eq!(machine.log(), [""; 0]);
        drop(context);
        assert_eq!(machine.log(), ["close"]);
    }

    #[test]
    fn the_driver_id_is_found_with_and_without_netlink_and_when_netlink_is_wrong() {
        for (accepted, told, probes) in [
            (20, None, 1),
            (19, None, 2),
            (19, Some(19), 1),
            (20, Some(19), 2),
            (19, Some(20), 2),
            (23, Some(23), 1),
        ] {
            let mut machine = Machine::new();
            machine.script().driver_id = accepted;
            machine.device.driver_id = told;
            let context = machine.context();
            assert_eq!(context.driver_id(), accepted);
            let log = machine.log();
            assert_eq!(log.iter().filter(|call| *call == "probe").count(), probes);
            // The id goes into every call from now on.
            context.alloc_pd().unwrap();
        }
    }

    #[test]
    fn an_unknown_driver_id_is_an_error_that_names_what_was_tried() {
        let mut machine = Machine::new();
        machine.script().driver_id = 21;
        machine.device.driver_id = Some(7);
        let error = Context::open(&machine, &machine.device).unwrap_err();
        assert!(error.to_string().contains("[7, 20, 19]"), "{error}");
        assert_eq!(machine.log(), ["probe", "probe", "probe", "close"]);
    }

    #[test]
    fn a_device_of_another_vendor_is_not_opened() {
        let mut machine = Machine::new();
        machine.device.vendor_id = 0x15b3;
        let error = Context::open(&machine, &machine.device).unwrap_err();
        assert!(matches!(error, VerbsError::Argument { .. }));
        assert_eq!(machine.log(), [""; 0]);
    }

    #[test]
    fn a_failure_at_any_step_of_opening_keeps_its_errno_and_closes() {
        let operations = [
            operation::FIND_DRIVER_ID,
            operation::GET_CONTEXT,
            operation::ALLOC_ASYNC_EVENT,
            operation::QUERY_DEVICE,
        ];
        for (nth, operation) in operations.into_iter().enumerate() {
            let machine = Machine::new();
            machine.script().fail_nth = Some((nth, Errno::ENOMEM));
            let error = Context::open(&machine, &machine.device).unwrap_err();
            assert_eq!(error.operation(), Some(operation));
            assert_eq!(error.errno(), Some(Errno::ENOMEM));
            assert_eq!(machine.log().last().unwrap(), "close");
        }
    }

    #[test]
    fn attributes_are_passed_on_however_absurd() {
        let machine = Machine::new();
        machine.script().attributes = zerocopy::FromBytes::read_from_bytes(&[0xFF; 304]).unwrap();
        let context = machine.context();
        assert_eq!(context.attributes().max_qp_wr, u32::MAX);
        assert_eq!(context.attributes().phys_port_cnt, u8::MAX);
        assert!(!context.attributes().carries_ethernet());

        machine.script().attributes.response_length = 175;
        let error = Context::open(&machine, &machine.device).unwrap_err();
        assert!(matches!(error, VerbsError::Answer { .. }), "{error}");
    }

    #[test]
    fn a_port_number_travels_as_a_constant_of_8_bytes() {
        let machine = Machine::new();
        let attributes = machine.context().port_attributes(255).unwrap();
        assert_eq!(attributes.state, 255);
        let script = machine.script();
        assert_eq!(
            script.calls["query port"].inputs[&0],
            [255, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn events_are_read_one_by_one_without_waiting() {
        let machine = Machine::new();
        let context = machine.context();
        let listener = context.listen().unwrap();
        assert_eq!(listener.next_event().unwrap(), None);
        for (element, event_type) in [
            (2, EVENT_PORT_ERR),
            (1, EVENT_PORT_ACTIVE),
            (0, EVENT_DEVICE_FATAL),
            (5, 77),
        ] {
            let event = wire::AsyncEvent {
                element,
                event_type,
                reserved: 0,
            };
            let mut script = machine.script();
            let file = script.async_events.as_mut().unwrap();
            file.write_all(event.as_bytes()).unwrap();
        }
        let next = || listener.next_event().unwrap();
        assert_eq!(next(), Some(AsyncEvent::PortError(2)));
        assert_eq!(next(), Some(AsyncEvent::PortActive(1)));
        assert_eq!(next(), Some(AsyncEvent::DeviceFatal));
        let other = AsyncEvent::Other {
            event_type: 77,
            element: 5,
        };
        assert_eq!(next(), Some(other));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_doorbell_cell_is_that_of_the_transport_and_its_errors_name_the_operation() {
        let machine = Machine::new();
        let context = machine.context();
        let cell = context.doorbell(DoorbellKind::Send, 11).unwrap();
        assert!(cell.is_aligned());
        machine.script().fail.insert("doorbell", Errno::EINVAL);
        let error = context.doorbell(DoorbellKind::Send, 11).unwrap_err();
        assert_eq!(error.operation(), Some(operation::MAP_DOORBELL));
    }
}
