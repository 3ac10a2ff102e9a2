//! Work queues for receiving, before an RSS queue pair brings them to life.

use dma_memory::Segment;

use crate::cq::{CqParts, buffer};
use crate::object::{Memory, Object};
use crate::provider::{ObjectKind, WorkQueueRequest};
use crate::{CompletionQueue, ProtectionDomain, VerbsError, operation};

/// A work queue with its completion queue. It has no number yet and receives nothing
/// (reference/mana-hardware.md §4.2). Dropping it destroys both.
#[derive(Debug)]
pub struct WorkQueue {
    object: Object,
    ring: Segment,
    cq: CqParts,
    /// Outlives the queue.
    pd: ProtectionDomain,
}

/// What stays known of a work queue when the RSS queue pair has taken it over.
#[derive(Debug)]
pub(crate) struct WorkQueueParts {
    pub(crate) ring: Segment,
    pub(crate) cq: CqParts,
}

impl WorkQueue {
    pub(crate) fn create(
        pd: &ProtectionDomain,
        ring: Segment,
        max_wr: u32,
        cq: CompletionQueue,
    ) -> Result<Self, VerbsError> {
        let context = pd.context();
        if !cq.context().is_same(context) {
            let problem = "the completion queue belongs to another context";
            return Err(VerbsError::argument(operation::CREATE_WORK_QUEUE, problem));
        }
        let request = WorkQueueRequest {
            pd: pd.handle(),
            cq: cq.handle(),
            ring: buffer(&ring),
            max_wr,
        };
        // SAFETY: the segment is mapped as long as it lives and dma-memory hands out no reference
        // to it. The object made below holds it and gives it up only after the destroy succeeded
        // or the context is closed; if none is made, the kernel has not created anything.
        let handle = unsafe { context.raw().create_work_queue(request)? };
        let (cq_object, cq) = cq.into_parts();
        let memory = Some(Memory::Ring(ring.clone()));
        Ok(Self {
            object: Object::new(context, ObjectKind::WorkQueue, handle, memory).above([cq_object]),
            ring,
            cq,
            pd: pd.clone(),
        })
    }

    /// Ring memory of the work queue.
    #[must_use]
    pub fn ring(&self) -> &Segment {
        &self.ring
    }

    /// Ring memory of its completion queue.
    #[must_use]
    pub fn cq_ring(&self) -> &Segment {
        &self.cq.ring
    }

    /// The protection domain it was made on.
    #[must_use]
    pub fn protection_domain(&self) -> &ProtectionDomain {
        &self.pd
    }

    /// Destroys it and its completion queue now; dropping does the same but only logs errors.
    ///
    /// # Errors
    ///
    /// The kernel's; the first if there are several.
    pub fn destroy(self) -> Result<(), VerbsError> {
        self.object.destroy()
    }

    pub(crate) fn handle(&self) -> crate::provider::Handle {
        self.object.handle()
    }

    pub(crate) fn into_parts(self) -> (Object, WorkQueueParts) {
        let Self {
            object, ring, cq, ..
        } = self;
        (object, WorkQueueParts { ring, cq })
    }
}
