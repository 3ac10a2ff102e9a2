//! One open uverbs context.

use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use uverbs_abi::ids::VENDOR_MICROSOFT;
use uverbs_abi::{DoorbellKind, IbDevice, System, wire};

use crate::fd::read_record;
use crate::object::Object;
use crate::provider::{ObjectKind, Provider, UverbsProvider};
use crate::{
    AsyncEvent, CompletionChannel, DeviceAttributes, PortAttributes, ProtectionDomain, VerbsError,
    operation,
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
    /// The process that opened the context; a forked child only owns copies.
    pid: u32,
    provider: ManuallyDrop<Box<dyn Provider>>,
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
    /// Opens the device's node, finds the driver id that the kernel accepts (told by netlink or
    /// probed), creates the context and reads the device's attributes.
    ///
    /// # Errors
    ///
    /// [`VerbsError::System`] where the node can't be opened, [`VerbsError::Argument`] for a device
    /// of another vendor, [`VerbsError::DriverId`] where the kernel accepts no known id, and
    /// whatever the calls answer. Everything is closed again then.
    pub fn open(system: &dyn System, device: &IbDevice) -> Result<Self, VerbsError> {
        if device.vendor_id != VENDOR_MICROSOFT {
            // Its driver might answer to an id that MANA has elsewhere (19 is ERDMA upstream).
            let problem = format!(
                "{} is a device of PCI vendor {:#06x}, not of Microsoft ({VENDOR_MICROSOFT:#06x})",
                device.name, device.vendor_id
            );
            return Err(VerbsError::argument(operation::GET_CONTEXT, problem));
        }
        let provider = UverbsProvider::open(system.open(device)?, device)?;
        let attributes = provider.query_device()?;
        Ok(Self {
            inner: Arc::new(Inner {
                device: device.clone(),
                attributes,
                pid: std::process::id(),
                provider: ManuallyDrop::new(Box::new(provider)),
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

    /// Who carries out the operations: `uverbs`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.raw().name()
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

    /// Becomes readable when there is an event for [`Context::next_async_event`]; non-blocking.
    #[must_use]
    pub fn async_fd(&self) -> BorrowedFd<'_> {
        self.raw().async_fd()
    }

    /// The oldest asynchronous event, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// Where the event file can't be read.
    pub fn next_async_event(&self) -> Result<Option<AsyncEvent>, VerbsError> {
        let event = read_record::<wire::AsyncEvent>(self.async_fd()).map_err(|errno| {
            VerbsError::kernel(self.device_name(), operation::READ_ASYNC_EVENT, errno)
        })?;
        Ok(event.map(AsyncEvent::from_wire))
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
        let fd = self.raw().create_channel()?;
        Ok(CompletionChannel::new(self.clone(), fd))
    }

    /// Keeps `thing` until the context is closed, then drops it: for memory that the device may
    /// still reach after a destroy answered `EIO` ([`VerbsError::is_disassociated`]).
    ///
    /// A `thing` that holds a clone of this context, or an object of it, keeps both alive for ever.
    pub fn drop_after_close(&self, thing: impl Any + Send) {
        let mut things = (self.inner.after_close.lock()).unwrap_or_else(PoisonError::into_inner);
        things.push(Box::new(thing));
    }

    pub(crate) fn raw(&self) -> &dyn Provider {
        &**self.inner.provider
    }

    pub(crate) fn device_name(&self) -> &str {
        &self.inner.device.name
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
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
