//! Protection domains: what the queues and memory regions of one port are made on.

use std::sync::Arc;

use dma_memory::{Region, Segment};

use crate::object::Object;
use crate::{
    Access, CompletionChannel, CompletionQueue, Context, MemoryRegion, RssQueuePair, SendQueue,
    SendQueueSpec, VerbsError, WorkQueue,
};

/// A protection domain. Clones name the same one; it is deallocated when the last clone and the
/// last object made on it are dropped.
#[derive(Debug, Clone)]
pub struct ProtectionDomain {
    object: Arc<Object>,
}

impl ProtectionDomain {
    pub(crate) fn new(object: Object) -> Self {
        Self {
            object: Arc::new(object),
        }
    }

    /// The context it belongs to.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.object.context()
    }

    pub(crate) fn handle(&self) -> crate::provider::Handle {
        self.object.handle()
    }

    /// Registers the whole of `region`, which the memory region keeps alive.
    ///
    /// # Errors
    ///
    /// The kernel's; `ENOMEM` where RLIMIT_MEMLOCK does not allow to pin it.
    pub fn register(
        &self,
        region: &Arc<Region>,
        access: Access,
    ) -> Result<MemoryRegion, VerbsError> {
        MemoryRegion::create(self, region, access)
    }

    /// Creates a completion queue of `entries` entries (64 bytes each) in `ring`, which must be
    /// zeroed and is kept until the queue is destroyed. Its number appears only with the queue
    /// pair that uses it. `vector` says which interrupt wakes `channel`.
    ///
    /// # Errors
    ///
    /// [`VerbsError::Argument`] for no entries, for a ring that has no room for them, or for a
    /// channel of another context; otherwise the kernel's.
    pub fn create_cq(
        &self,
        ring: Segment,
        entries: u32,
        vector: u32,
        channel: Option<&CompletionChannel>,
    ) -> Result<CompletionQueue, VerbsError> {
        CompletionQueue::create(self, ring, entries, vector, channel)
    }

    /// Creates a raw packet queue pair for sending. It owns `cq` from now on; after an error `cq`
    /// is destroyed.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENODEV` (6.12) or `EBUSY` (7.3) where the netdev or another protection domain
    /// owns the vPort, `EPERM` without CAP_NET_RAW. [`VerbsError::Answer`] where the ids that come
    /// back do not fit a doorbell; [`VerbsError::Argument`] for a `cq` of another context or a ring
    /// of 4 GiB or more.
    pub fn create_send_queue(
        &self,
        spec: SendQueueSpec,
        cq: CompletionQueue,
    ) -> Result<SendQueue, VerbsError> {
        SendQueue::create(self, spec, cq)
    }

    /// Creates a work queue for receiving, of `max_wr` work requests with one segment each. It owns
    /// `cq` from now on; after an error `cq` is destroyed. It has no number and receives nothing
    /// before [`ProtectionDomain::create_rss`].
    ///
    /// # Errors
    ///
    /// The kernel's; [`VerbsError::Argument`] for a `cq` of another context or a ring of 4 GiB or
    /// more.
    pub fn create_work_queue(
        &self,
        ring: Segment,
        max_wr: u32,
        cq: CompletionQueue,
    ) -> Result<WorkQueue, VerbsError> {
        WorkQueue::create(self, ring, max_wr, cq)
    }

    /// Creates the indirection table over `queues` and the RSS queue pair that makes `port` (counted
    /// from 1) receive into them by the Toeplitz hash under `key`. It owns the queues from now on; after
    /// an error they are destroyed. The port's send queues must exist before.
    ///
    /// # Errors
    ///
    /// [`VerbsError::Argument`] where the number of queues is no power of two up to 64 or one is of
    /// another protection domain; the kernel's (`EINVAL` without a send queue on 7.3);
    /// [`VerbsError::Answer`] where the ids that come back can't be true.
    pub fn create_rss(
        &self,
        port: u8,
        queues: Vec<WorkQueue>,
        key: &[u8; 40],
    ) -> Result<RssQueuePair, VerbsError> {
        RssQueuePair::create(self, port, queues, key)
    }
}
