//! Completion queues.

use dma_memory::Segment;

use crate::object::{Memory, Object};
use crate::provider::{Buffer, CqRequest, Handle, ObjectKind};
use crate::{CompletionChannel, Context, ProtectionDomain, VerbsError, operation};

/// Bytes of one entry (reference/mana-hardware.md §2.4).
const ENTRY_BYTES: usize = 64;

/// Where a ring lies, for the kernel.
pub(crate) fn buffer(ring: &Segment) -> Buffer {
    Buffer {
        address: ring.base().as_ptr().expose_provenance() as u64,
        bytes: ring.len() as u64,
    }
}

/// A completion queue that no queue uses yet. The queue made with it takes it over.
#[derive(Debug)]
pub struct CompletionQueue {
    object: Object,
    parts: CqParts,
}

/// What stays known of a completion queue when another object has taken it over.
#[derive(Debug)]
pub(crate) struct CqParts {
    pub(crate) ring: Segment,
    pub(crate) entries: u32,
    pub(crate) user_handle: u64,
    /// Outlives the queue.
    pub(crate) channel: Option<CompletionChannel>,
}

impl CompletionQueue {
    pub(crate) fn create(
        pd: &ProtectionDomain,
        ring: Segment,
        entries: u32,
        vector: u32,
        channel: Option<&CompletionChannel>,
    ) -> Result<Self, VerbsError> {
        let context = pd.context();
        let needed = (entries as usize).checked_mul(ENTRY_BYTES);
        if entries == 0 || needed.is_none_or(|needed| needed > ring.len()) {
            let problem = format!(
                "{entries} entries in a ring of {} bytes; 1 to {} fit",
                ring.len(),
                ring.len() / ENTRY_BYTES
            );
            return Err(VerbsError::argument(operation::CREATE_CQ, problem));
        }
        if channel.is_some_and(|channel| !channel.context().is_same(context)) {
            let problem = "the completion channel belongs to another context";
            return Err(VerbsError::argument(operation::CREATE_CQ, problem));
        }
        let request = CqRequest {
            ring: buffer(&ring),
            entries,
            vector,
            channel: channel.map(CompletionChannel::name),
        };
        // SAFETY: the segment is mapped as long as it lives, has room for all entries and
        // dma-memory hands out no reference to it. The object made below holds it and gives it up
        // only after the destroy succeeded or the context is closed; if none is made, the kernel
        // has not created anything.
        let created = unsafe { context.raw().create_cq(request)? };
        let memory = Some(Memory::Ring(ring.clone()));
        Ok(Self {
            object: Object::new(context, ObjectKind::CompletionQueue, created.handle, memory),
            parts: CqParts {
                ring,
                entries,
                user_handle: created.user_handle,
                channel: channel.cloned(),
            },
        })
    }

    /// Its memory.
    #[must_use]
    pub fn ring(&self) -> &Segment {
        &self.parts.ring
    }

    /// Its number of entries.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.parts.entries
    }

    /// What [`CompletionChannel::next_event`] calls it.
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.parts.user_handle
    }

    /// The channel it was created with.
    #[must_use]
    pub fn channel(&self) -> Option<&CompletionChannel> {
        self.parts.channel.as_ref()
    }

    /// Destroys it now; dropping does the same but only logs an error.
    ///
    /// # Errors
    ///
    /// The kernel's. The ring is kept as the crate's documentation says.
    pub fn destroy(self) -> Result<(), VerbsError> {
        self.object.destroy()
    }

    pub(crate) fn handle(&self) -> Handle {
        self.object.handle()
    }

    pub(crate) fn context(&self) -> &Context {
        self.object.context()
    }

    pub(crate) fn into_parts(self) -> (Object, CqParts) {
        (self.object, self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Machine, ring};

    #[test]
    fn entries_that_the_ring_has_no_room_for_are_refused_before_the_kernel_is_asked() {
        let machine = Machine::new();
        let pd = machine.pd();
        machine.log();
        for entries in [0, 65, 1 << 26, u32::MAX] {
            let error = pd.create_cq(ring(4096), entries, 0, None).unwrap_err();
            assert!(
                matches!(error, VerbsError::Argument { .. }),
                "{entries}: {error}"
            );
        }
        assert_eq!(machine.log(), [""; 0]);
        let cq = pd.create_cq(ring(4096), 64, 0, None).unwrap();
        assert_eq!(cq.entries(), 64);
        cq.destroy().unwrap();
        assert_eq!(machine.log(), ["create cq", "destroy cq"]);
    }
}
