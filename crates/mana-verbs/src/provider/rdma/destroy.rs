//! The end of every object.

use super::RdmaProvider;
use super::extended::Extended;
use super::objects::{Domain, Object};
use crate::VerbsError;
use crate::provider::{Handle, ObjectKind};

impl RdmaProvider {
    /// Destroys an object. Nothing of ours is locked meanwhile: libibverbs waits until the events
    /// of a queue are acknowledged.
    pub(super) fn destroy_object(
        &self,
        kind: ObjectKind,
        handle: Handle,
    ) -> Result<(), VerbsError> {
        let operation = kind.destroy_operation();
        let object = self.objects.take(operation, handle)?;
        let ring = match &object {
            Object::CompletionQueue(_, ring) => Some(*ring),
            Object::WorkQueue(queue) => Some(queue.ring),
            Object::QueuePair(_, ring) => *ring,
            Object::Domain(_) | Object::Memory(_) | Object::Table(..) => None,
        };
        let errno = match object {
            Object::Domain(domain) => self.dealloc(domain),
            // SAFETY: made by this library, and taken out of the table, so destroyed once; what
            // stands on it is gone before, as the caller's ownership has it. Likewise below.
            Object::Memory(mr) => unsafe { (self.library.dereg_mr)(mr) },
            // SAFETY: as above.
            Object::CompletionQueue(cq, _) => unsafe { (self.library.destroy_cq)(cq) },
            // SAFETY: as above.
            Object::QueuePair(qp, _) => unsafe { (self.library.destroy_qp)(qp) },
            Object::WorkQueue(queue) => {
                let destroy = self.inline(operation, Extended::destroy_wq)?;
                // SAFETY: as above.
                unsafe { destroy(queue.wq) }
            }
            Object::Table(table, _) => {
                let destroy = self.inline(operation, Extended::destroy_rwq_ind_table)?;
                // SAFETY: as above.
                unsafe { destroy(table) }
            }
        };
        self.check(operation, errno)?;
        // An object that is gone gives its ring back. Should libmana keep one, it is not freed.
        match ring {
            Some(ring) if self.allocator.holds(ring) => {
                let problem = format!("libmana did not give back the ring at {ring:#x}");
                Err(self.bad_answer(operation, problem))
            }
            _ => Ok(()),
        }
    }

    fn dealloc(&self, domain: Domain) -> i32 {
        for (_, parent) in domain.parents {
            // SAFETY: made by this library for this domain, and given up here. It exists in
            // libmana only, so nothing can refuse.
            unsafe { (self.library.dealloc_pd)(parent) };
        }
        // SAFETY: as for the other objects.
        unsafe { (self.library.dealloc_pd)(domain.pd) }
    }
}
