//! rdma-core: libibverbs and libmana, opened at run time. The same operations as over the kernel's
//! ABI, made by the libraries that other programs of the machine use
//! (reference/uverbs-boundary.md §2, reference/mana-hardware.md §4.3).
//!
//! libmana brings its numbers through `manadv`, which believes every context to be libmana's. So a
//! context is proved to be before the first of those calls: its operations lie in libmana.

mod channel;
mod create;
mod destroy;
mod extended;
#[cfg(test)]
mod fake;
mod ffi;
#[cfg(test)]
mod layout;
mod library;
mod memory;
mod objects;
mod open;
mod receive;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use uverbs_abi::ids::MANA_DRIVER_IDS;
use uverbs_abi::{DoorbellKind, Errno, IbDevice, wire};

use super::{
    Channel, CqRequest, CreatedCq, CreatedMr, CreatedRss, CreatedSendQueue, Handle, ObjectKind,
    Provider, RssRequest, SendQueueRequest, WorkQueueRequest,
};
use crate::fd::{last_errno, set_cloexec, set_nonblocking};
use crate::{AsyncEvent, DeviceAttributes, PortAttributes, RdmaCoreError, VerbsError, operation};
use channel::RdmaChannel;
use extended::Extended;
use library::Library;
use memory::RingAllocator;
use objects::Objects;
use open::{open_device, prove, too_old};

/// The driver id that rdma-core gives to MANA (reference/uverbs-boundary.md §3).
const DRIVER_ID: u32 = MANA_DRIVER_IDS[0];
/// The first release whose libmana makes rings of more than [`OLD_RING_LIMIT`] entries
/// (reference/mana-hardware.md §4.10).
const LARGE_RINGS_SINCE: (u32, u32) = (49, 0);
/// Work requests and completions at most before.
const OLD_RING_LIMIT: u32 = 256;

/// A context of libibverbs.
pub(crate) struct RdmaProvider {
    library: &'static Library,
    context: NonNull<ffi::Context>,
    extended: Extended,
    /// libmana has its address.
    allocator: Box<RingAllocator>,
    objects: Objects,
    /// libmana's doorbell page, null before the first queue pair tells it.
    page: AtomicPtr<u64>,
    device: String,
    driver_id: u32,
}

// SAFETY: contexts and objects of libibverbs belong to no thread.
unsafe impl Send for RdmaProvider {}
// SAFETY: libibverbs and libmana may be called by several threads on one context; what libmana
// keeps one of a context, the ring on offer, is used under the allocator's lock.
unsafe impl Sync for RdmaProvider {}

/// The error number of a call that has just returned a null pointer.
fn null_errno() -> Errno {
    match last_errno() {
        // Not every path of the libraries sets it.
        Errno(0) => Errno::EPROTO,
        errno => errno,
    }
}

impl RdmaProvider {
    /// Whether libibverbs would find libmana for the device, as far as its number tells.
    pub(super) fn check_driver_id(device: &IbDevice) -> Result<(), RdmaCoreError> {
        match device.driver_id {
            Some(kernel) if kernel != DRIVER_ID => Err(RdmaCoreError::DriverId {
                device: device.name.clone(),
                kernel,
                library: DRIVER_ID,
            }),
            _ => Ok(()),
        }
    }

    /// Opens the device of that name, and proves that libmana drives it.
    pub(super) fn open(device: &IbDevice) -> Result<Self, VerbsError> {
        Self::open_with(Library::get()?, device)
    }

    fn open_with(library: &'static Library, device: &IbDevice) -> Result<Self, VerbsError> {
        let context = open_device(library, device)?;
        let close = |error: VerbsError| {
            // SAFETY: opened right here, and nobody else has it.
            unsafe { (library.close_device)(context.as_ptr()) };
            error
        };
        // SAFETY: the context is open, and is closed only when this provider is dropped.
        let extended = unsafe { Extended::of(context.as_ptr()) };
        let extended = extended.map_err(|_| close(too_old(library, "verbs_context").into()))?;
        prove(library, extended, device).map_err(|error| close(error.into()))?;
        let provider = Self {
            library,
            context,
            extended,
            allocator: Box::default(),
            objects: Objects::default(),
            page: AtomicPtr::new(ptr::null_mut()),
            device: device.name.clone(),
            driver_id: device.driver_id.unwrap_or(DRIVER_ID),
        };
        let mut callbacks = provider.allocator.callbacks();
        // SAFETY: the context is libmana's, as just proved. The functions are called with the
        // address of the allocator, which stays until the context is closed.
        let errno = unsafe {
            let attribute = ffi::CTX_ATTR_BUF_ALLOCATORS;
            (library.set_context_attr)(context.as_ptr(), attribute, &mut callbacks)
        };
        provider.check(operation::GET_CONTEXT, errno)?;
        set_nonblocking(provider.async_fd())
            .map_err(|errno| provider.kernel(operation::ALLOC_ASYNC_EVENT, errno))?;
        Ok(provider)
    }

    fn kernel(&self, operation: &'static str, errno: Errno) -> VerbsError {
        VerbsError::kernel(&self.device, operation, errno)
    }

    /// What a call that returns an error number says.
    fn check(&self, operation: &'static str, errno: i32) -> Result<(), VerbsError> {
        match errno {
            0 => Ok(()),
            // Some paths return it negative.
            errno => Err(self.kernel(operation, Errno(errno.abs()))),
        }
    }

    /// What a call that returns a pointer has made.
    fn made<T>(&self, operation: &'static str, object: *mut T) -> Result<NonNull<T>, VerbsError> {
        NonNull::new(object).ok_or_else(|| self.kernel(operation, null_errno()))
    }

    /// An operation of the context that the headers call inline.
    fn inline<F>(
        &self,
        operation: &'static str,
        function: impl FnOnce(Extended) -> Result<F, Errno>,
    ) -> Result<F, VerbsError> {
        function(self.extended).map_err(|errno| self.kernel(operation, errno))
    }

    fn bad_answer(&self, operation: &'static str, problem: impl Into<String>) -> VerbsError {
        VerbsError::Answer {
            device: self.device.clone(),
            operation,
            problem: problem.into(),
        }
    }
}

impl Drop for RdmaProvider {
    fn drop(&mut self) {
        // SAFETY: opened by `open` and closed once. The allocator goes after this.
        let errno = unsafe { (self.library.close_device)(self.context.as_ptr()) };
        if errno != 0 {
            let device = &self.device;
            tracing::error!(device, errno, "libibverbs can't close the context");
        }
    }
}

impl Provider for RdmaProvider {
    fn name(&self) -> &'static str {
        "rdma-core"
    }

    fn note(&self) -> String {
        self.library.versions()
    }

    fn ring_limit(&self) -> Option<u32> {
        let release = self.library.release();
        release
            .is_some_and(|release| release < LARGE_RINGS_SINCE)
            .then_some(OLD_RING_LIMIT)
    }

    fn driver_id(&self) -> u32 {
        self.driver_id
    }

    fn comp_vectors(&self) -> u32 {
        // SAFETY: the context is open.
        let vectors = unsafe { (*self.context.as_ptr()).num_comp_vectors };
        u32::try_from(vectors).unwrap_or(0)
    }

    fn query_device(&self) -> Result<DeviceAttributes, VerbsError> {
        let query = self.inline(operation::QUERY_DEVICE, Extended::query_device_ex)?;
        let mut answer = MaybeUninit::<ffi::DeviceAttrEx>::zeroed();
        // SAFETY: the context is open, no input is a valid input, and there is room for the answer.
        let errno = unsafe {
            let room = size_of::<ffi::DeviceAttrEx>();
            query(
                self.context.as_ptr(),
                ptr::null(),
                answer.as_mut_ptr(),
                room,
            )
        };
        self.check(operation::QUERY_DEVICE, errno)?;
        // SAFETY: all-zero is a value of this structure of numbers, and so is what was filled in.
        let answer = unsafe { answer.assume_init() };
        let base = &answer.orig_attr;
        // Unsigned on the kernel's side.
        let unsigned = |value: i32| value.cast_unsigned();
        Ok(DeviceAttributes {
            fw_ver: 0,
            vendor_id: base.vendor_id,
            vendor_part_id: base.vendor_part_id,
            phys_port_cnt: base.phys_port_cnt,
            max_qp: unsigned(base.max_qp),
            max_qp_wr: unsigned(base.max_qp_wr),
            max_sge: unsigned(base.max_sge),
            max_cq: unsigned(base.max_cq),
            max_cqe: unsigned(base.max_cqe),
            max_mr: unsigned(base.max_mr),
            max_pd: unsigned(base.max_pd),
            max_mr_size: base.max_mr_size,
            page_size_cap: base.page_size_cap,
            raw_packet_caps: answer.raw_packet_caps,
        })
    }

    fn query_port(&self, port: u8) -> Result<PortAttributes, VerbsError> {
        let query = self.inline(operation::QUERY_PORT, Extended::query_port)?;
        let mut answer = MaybeUninit::<ffi::PortAttr>::zeroed();
        // SAFETY: the context is open and there is room for the answer.
        let errno = unsafe {
            let room = size_of::<ffi::PortAttr>();
            query(self.context.as_ptr(), port, answer.as_mut_ptr(), room)
        };
        self.check(operation::QUERY_PORT, errno)?;
        // SAFETY: all-zero is a value of this structure of numbers, and so is what was filled in.
        let answer = unsafe { answer.assume_init() };
        // Enumerations of the C header; the kernel's fields are bytes.
        let byte = |value: i32| value as u8;
        Ok(PortAttributes {
            state: byte(answer.state),
            max_mtu: byte(answer.max_mtu),
            active_mtu: byte(answer.active_mtu),
            active_width: answer.active_width,
            active_speed: answer.active_speed,
            phys_state: answer.phys_state,
            link_layer: answer.link_layer,
        })
    }

    fn doorbell(&self, kind: DoorbellKind, _queue_id: u32) -> Result<NonNull<u64>, VerbsError> {
        let page = NonNull::new(self.page.load(Ordering::Acquire)).ok_or_else(|| {
            let problem = "libmana tells its doorbell page with the first queue pair";
            VerbsError::argument(operation::MAP_DOORBELL, problem)
        })?;
        // SAFETY: libmana maps 4096 bytes, in which all registers lie, until the context is closed.
        Ok(unsafe { page.byte_add(kind.offset()) })
    }

    fn async_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open, and with it this descriptor, as long as the provider.
        unsafe { BorrowedFd::borrow_raw((*self.context.as_ptr()).async_fd) }
    }

    fn next_async_event(&self) -> Result<Option<AsyncEvent>, Errno> {
        let mut event = ffi::AsyncEvent::default();
        // SAFETY: the context is open and `event` valid for writes.
        if unsafe { (self.library.get_async_event)(self.context.as_ptr(), &mut event) } != 0 {
            return match last_errno() {
                Errno::EAGAIN | Errno::EINTR => Ok(None),
                errno => Err(errno),
            };
        }
        // The number of a port takes the first half of the field.
        let [a, b, c, d, ..] = event.element.to_ne_bytes();
        let port = u64::from(u32::from_ne_bytes([a, b, c, d]));
        let told = AsyncEvent::from_wire(wire::AsyncEvent {
            element: port,
            event_type: event.event_type.cast_unsigned(),
            reserved: 0,
        });
        let told = match told {
            AsyncEvent::Other { event_type, .. } => AsyncEvent::Other {
                event_type,
                element: event.element,
            },
            told => told,
        };
        // SAFETY: an event that was just read. Objects are not freed before their events are
        // acknowledged, and libibverbs waits for it when one is destroyed.
        unsafe { (self.library.ack_async_event)(&mut event) };
        Ok(Some(told))
    }

    fn create_channel(&self) -> Result<Box<dyn Channel>, VerbsError> {
        // SAFETY: the context is open.
        let channel = unsafe { (self.library.create_comp_channel)(self.context.as_ptr()) };
        let channel = self.made(operation::CREATE_CHANNEL, channel)?;
        // SAFETY: made right here for nobody else; whoever holds a channel holds the context.
        let channel = unsafe { RdmaChannel::new(self.library, channel) };
        set_cloexec(channel.fd().as_fd())
            .and_then(|()| set_nonblocking(channel.fd()))
            .map_err(|errno| self.kernel(operation::CREATE_CHANNEL, errno))?;
        Ok(Box::new(channel))
    }

    fn alloc_pd(&self) -> Result<Handle, VerbsError> {
        self.create_domain()
    }

    unsafe fn register_memory(
        &self,
        pd: Handle,
        memory: super::Buffer,
        access: u32,
    ) -> Result<CreatedMr, VerbsError> {
        // SAFETY: what is asked for is what the caller promises; likewise below.
        unsafe { self.create_memory_region(pd, memory, access) }
    }

    unsafe fn create_cq(&self, request: CqRequest) -> Result<CreatedCq, VerbsError> {
        // SAFETY: as above.
        unsafe { self.create_completion_queue(request) }
    }

    unsafe fn create_send_queue(
        &self,
        request: SendQueueRequest,
    ) -> Result<CreatedSendQueue, VerbsError> {
        // SAFETY: as above.
        unsafe { self.create_raw_queue_pair(request) }
    }

    unsafe fn create_work_queue(&self, request: WorkQueueRequest) -> Result<Handle, VerbsError> {
        // SAFETY: as above.
        unsafe { self.create_receive_queue(request) }
    }

    fn create_indirection_table(&self, queues: &[Handle]) -> Result<Handle, VerbsError> {
        self.create_table(queues)
    }

    fn create_rss(&self, request: RssRequest<'_>) -> Result<CreatedRss, VerbsError> {
        self.create_rss_queue_pair(&request)
    }

    fn destroy(&self, kind: ObjectKind, handle: Handle) -> Result<(), VerbsError> {
        self.destroy_object(kind, handle)
    }
}
