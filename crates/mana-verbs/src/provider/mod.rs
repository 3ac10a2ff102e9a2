//! The raw operations of the control path, whoever carries them out.

#[cfg(all(test, target_endian = "little"))]
mod boundary;
mod caller;
mod choice;
mod driver_id;
#[cfg(feature = "rdma-core")]
mod rdma;
mod sizes;
mod uverbs;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use uverbs_abi::{DoorbellKind, Errno};

pub(crate) use choice::{Opened, open};
pub use choice::{ParseProviderError, ProviderChoice};

use crate::{AsyncEvent, DeviceAttributes, PortAttributes, QueueIds, VerbsError, operation};

/// The number by which a provider knows an object it created.
pub(crate) type Handle = u32;

/// Kinds of objects that can be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    ProtectionDomain,
    MemoryRegion,
    CompletionQueue,
    SendQueue,
    WorkQueue,
    IndirectionTable,
    RssQueuePair,
}

impl ObjectKind {
    /// What destroying it is called in errors.
    pub(crate) const fn destroy_operation(self) -> &'static str {
        match self {
            Self::ProtectionDomain => operation::DEALLOC_PD,
            Self::MemoryRegion => operation::DEREGISTER_MEMORY,
            Self::CompletionQueue => operation::DESTROY_CQ,
            Self::SendQueue => operation::DESTROY_SEND_QUEUE,
            Self::WorkQueue => operation::DESTROY_WORK_QUEUE,
            Self::IndirectionTable => operation::DESTROY_INDIRECTION_TABLE,
            Self::RssQueuePair => operation::DESTROY_RSS,
        }
    }
}

/// Memory of this process, named by address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffer {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

/// A memory region as the provider made it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreatedMr {
    pub(crate) handle: Handle,
    pub(crate) lkey: u32,
}

pub(crate) struct CqRequest {
    pub(crate) ring: Buffer,
    pub(crate) entries: u32,
    pub(crate) vector: u32,
    /// [`Channel::name`] of a channel of the same provider.
    pub(crate) channel: Option<u64>,
}

/// A completion queue as the provider made it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreatedCq {
    pub(crate) handle: Handle,
    /// What the channel's events call it.
    pub(crate) user_handle: u64,
}

pub(crate) struct SendQueueRequest {
    pub(crate) pd: Handle,
    pub(crate) cq: Handle,
    pub(crate) ring: Buffer,
    pub(crate) port: u8,
    pub(crate) max_wr: u32,
    pub(crate) max_sge: u32,
}

/// A raw packet queue pair as the device made it; nothing but the handle is checked yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreatedSendQueue {
    pub(crate) handle: Handle,
    pub(crate) sq_id: u32,
    pub(crate) cq_id: u32,
    pub(crate) vport_offset: u32,
}

pub(crate) struct WorkQueueRequest {
    pub(crate) pd: Handle,
    pub(crate) cq: Handle,
    pub(crate) ring: Buffer,
    pub(crate) max_wr: u32,
}

pub(crate) struct RssRequest<'a> {
    pub(crate) pd: Handle,
    pub(crate) table: Handle,
    pub(crate) port: u8,
    pub(crate) key: &'a [u8; 40],
}

/// An RSS queue pair as the device made it; nothing but the handle is checked yet.
#[derive(Debug)]
pub(crate) struct CreatedRss {
    pub(crate) handle: Handle,
    /// How many ids the device says it filled in.
    pub(crate) num_entries: u64,
    pub(crate) ids: [QueueIds; 64],
}

/// A completion channel. Dropping it closes the channel.
pub(crate) trait Channel: Send + Sync + fmt::Debug {
    /// Readable when there is an event; non-blocking.
    fn fd(&self) -> BorrowedFd<'_>;
    /// What [`CqRequest::channel`] calls it.
    fn name(&self) -> u64;
    /// The oldest event, if there is one: [`CreatedCq::user_handle`] of its queue. Never waits.
    fn next_event(&self) -> Result<Option<u64>, Errno>;
}

/// One open context of one device. Dropping it closes the context.
///
/// After an error of a creating operation nothing was created.
pub(crate) trait Provider: Send + Sync {
    /// `uverbs`, say; for the log.
    fn name(&self) -> &'static str;
    /// What else is worth knowing of it, such as the versions of its libraries.
    fn note(&self) -> String;
    /// Work requests and completions of a ring at most, where the provider makes fewer than the
    /// device has.
    fn ring_limit(&self) -> Option<u32>;
    fn driver_id(&self) -> u32;
    fn comp_vectors(&self) -> u32;

    fn query_device(&self) -> Result<DeviceAttributes, VerbsError>;
    fn query_port(&self, port: u8) -> Result<PortAttributes, VerbsError>;

    /// The register stays valid as long as the provider lives.
    fn doorbell(&self, kind: DoorbellKind, queue_id: u32) -> Result<NonNull<u64>, VerbsError>;

    /// The asynchronous event file, non-blocking.
    fn async_fd(&self) -> BorrowedFd<'_>;
    /// The oldest event of that file, if there is one. Never waits.
    fn next_async_event(&self) -> Result<Option<AsyncEvent>, Errno>;
    fn create_channel(&self) -> Result<Box<dyn Channel>, VerbsError>;
    fn alloc_pd(&self) -> Result<Handle, VerbsError>;

    /// # Safety
    ///
    /// `memory` is mapped, not reached through Rust references, and stays so until the region is
    /// destroyed successfully or the context is closed.
    unsafe fn register_memory(
        &self,
        pd: Handle,
        memory: Buffer,
        access: u32,
    ) -> Result<CreatedMr, VerbsError>;

    /// # Safety
    ///
    /// As for [`Provider::register_memory`], for the ring, of which `64 * entries` bytes are used.
    unsafe fn create_cq(&self, request: CqRequest) -> Result<CreatedCq, VerbsError>;

    /// # Safety
    ///
    /// As for [`Provider::register_memory`], for the ring.
    unsafe fn create_send_queue(
        &self,
        request: SendQueueRequest,
    ) -> Result<CreatedSendQueue, VerbsError>;

    /// # Safety
    ///
    /// As for [`Provider::register_memory`], for the ring.
    unsafe fn create_work_queue(&self, request: WorkQueueRequest) -> Result<Handle, VerbsError>;

    fn create_indirection_table(&self, queues: &[Handle]) -> Result<Handle, VerbsError>;
    fn create_rss(&self, request: RssRequest<'_>) -> Result<CreatedRss, VerbsError>;

    fn destroy(&self, kind: ObjectKind, handle: Handle) -> Result<(), VerbsError>;
}
