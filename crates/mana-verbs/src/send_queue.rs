//! Send queues: raw packet queue pairs.

use dma_memory::Segment;

use crate::cq::{CqParts, buffer};
use crate::object::{Memory, Object};
use crate::provider::{CreatedSendQueue, ObjectKind, SendQueueRequest};
use crate::rss::QUEUE_ID_LIMIT;
use crate::{CompletionQueue, ProtectionDomain, VerbsError, operation};

/// The vPort offset has 12 bits in the long OOB (reference/mana-hardware.md §3.2).
const VPORT_OFFSET_LIMIT: u32 = 1 << 12;

/// What a send queue is made of.
#[derive(Debug, Clone)]
pub struct SendQueueSpec {
    /// Port, from 1.
    pub port: u8,
    /// Ring memory, less than 4 GiB; all of it is used and kept until the queue is destroyed.
    pub ring: Segment,
    /// Work requests; the kernel compares it with `max_qp_wr` and does nothing else with it.
    pub max_wr: u32,
    /// Segments of a work request, at most 30.
    pub max_sge: u32,
}

/// A raw packet queue pair with its completion queue. Dropping it destroys both.
#[derive(Debug)]
pub struct SendQueue {
    object: Object,
    ring: Segment,
    cq: CqParts,
    created: CreatedSendQueue,
    /// Outlives the queue.
    pd: ProtectionDomain,
}

impl SendQueue {
    pub(crate) fn create(
        pd: &ProtectionDomain,
        spec: SendQueueSpec,
        cq: CompletionQueue,
    ) -> Result<Self, VerbsError> {
        let context = pd.context();
        if !cq.context().is_same(context) {
            let problem = "the completion queue belongs to another context";
            return Err(VerbsError::argument(operation::CREATE_SEND_QUEUE, problem));
        }
        let request = SendQueueRequest {
            pd: pd.handle(),
            cq: cq.handle(),
            ring: buffer(&spec.ring),
            port: spec.port,
            max_wr: spec.max_wr,
            max_sge: spec.max_sge,
        };
        // SAFETY: the segment is mapped as long as it lives and dma-memory hands out no reference
        // to it. The object made below holds it and gives it up only after the destroy succeeded
        // or the context is closed; if none is made, the kernel has not created anything.
        let created = unsafe { context.raw().create_send_queue(request)? };
        let (cq_object, cq) = cq.into_parts();
        let memory = Some(Memory::Ring(spec.ring.clone()));
        let queue = Self {
            object: Object::new(context, ObjectKind::SendQueue, created.handle, memory)
                .above([cq_object]),
            ring: spec.ring,
            cq,
            created,
            pd: pd.clone(),
        };
        let CreatedSendQueue {
            sq_id,
            cq_id,
            vport_offset,
            ..
        } = created;
        if sq_id >= QUEUE_ID_LIMIT || cq_id >= QUEUE_ID_LIMIT || vport_offset >= VPORT_OFFSET_LIMIT
        {
            return Err(VerbsError::Answer {
                device: context.device_name().to_owned(),
                operation: operation::CREATE_SEND_QUEUE,
                problem: format!(
                    "send queue {sq_id:#x}, completion queue {cq_id:#x}, vPort offset \
                     {vport_offset:#x}: they have at most 24, 24 and 12 bits"
                ),
            });
        }
        Ok(queue)
    }

    /// Number of the send queue, 24 bits.
    #[must_use]
    pub fn sq_id(&self) -> u32 {
        self.created.sq_id
    }

    /// Number of its completion queue, 24 bits.
    #[must_use]
    pub fn cq_id(&self) -> u32 {
        self.created.cq_id
    }

    /// The vPort offset that every OOB must carry, 12 bits.
    #[must_use]
    pub fn vport_offset(&self) -> u32 {
        self.created.vport_offset
    }

    /// Ring memory of the send queue.
    #[must_use]
    pub fn ring(&self) -> &Segment {
        &self.ring
    }

    /// Ring memory of the completion queue.
    #[must_use]
    pub fn cq_ring(&self) -> &Segment {
        &self.cq.ring
    }

    /// Number of entries of the completion queue.
    #[must_use]
    pub fn cq_entries(&self) -> u32 {
        self.cq.entries
    }

    /// What [`crate::CompletionChannel::next_event`] calls its completion queue.
    #[must_use]
    pub fn cq_user_handle(&self) -> u64 {
        self.cq.user_handle
    }

    /// The protection domain it was made on.
    #[must_use]
    pub fn protection_domain(&self) -> &ProtectionDomain {
        &self.pd
    }

    /// Destroys it and its completion queue now; dropping does the same but only logs errors.
    /// After `Ok` the device does not touch rings or packets of this queue any more.
    ///
    /// # Errors
    ///
    /// The kernel's; the first if there are several. The rings are kept as the crate's
    /// documentation says; what the device may still read of packets is for the caller to keep.
    pub fn destroy(self) -> Result<(), VerbsError> {
        self.object.destroy()
    }
}

#[cfg(test)]
mod tests {
    use uverbs_abi::Errno;
    use uverbs_abi::wire::CreateQpResp;

    use super::*;
    use crate::scripted::{Machine, ring};

    fn create(pd: &ProtectionDomain) -> Result<SendQueue, VerbsError> {
        let cq = pd.create_cq(ring(4096), 64, 0, None)?;
        let spec = SendQueueSpec {
            port: 1,
            ring: ring(8192),
            max_wr: 128,
            max_sge: 30,
        };
        pd.create_send_queue(spec, cq)
    }

    #[test]
    fn the_ids_come_from_the_device_and_the_rings_stay() {
        let machine = Machine::new();
        let queue = create(&machine.pd()).unwrap();
        let ids = (queue.sq_id(), queue.cq_id(), queue.vport_offset());
        assert_eq!(ids, (11, 12, 13));
        assert_eq!((queue.ring().len(), queue.cq_ring().len()), (8192, 4096));
        machine.log();
        queue.destroy().unwrap();
        let expected = ["destroy qp", "destroy cq", "destroy pd", "close"];
        assert_eq!(machine.log(), expected);
    }

    #[test]
    fn a_refused_queue_takes_its_completion_queue_with_it() {
        let machine = Machine::new();
        let pd = machine.pd();
        machine
            .script()
            .fail
            .insert("create send queue", Errno::ENODEV);
        machine.log();
        let error = create(&pd).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
        assert_eq!(error.operation(), Some(operation::CREATE_SEND_QUEUE));
        assert_eq!(
            machine.log(),
            ["create cq", "create send queue", "destroy cq"]
        );
    }

    #[test]
    fn ids_that_no_doorbell_or_oob_can_carry_are_refused_and_all_is_destroyed() {
        for (sqid, cqid, tx_vp_offset) in [(1 << 24, 0, 0), (0, u32::MAX, 0), (0, 0, 1 << 12)] {
            let machine = Machine::new();
            let pd = machine.pd();
            machine.script().send_queue = CreateQpResp {
                sqid,
                cqid,
                tx_vp_offset,
                reserved: 0,
            };
            let error = create(&pd).unwrap_err();
            assert!(matches!(error, VerbsError::Answer { .. }), "{error}");
            assert_eq!(machine.live(), 1, "the protection domain");
        }
    }

    #[test]
    fn a_completion_queue_of_another_context_is_refused() {
        let machine = Machine::new();
        let cq = machine.pd().create_cq(ring(4096), 64, 0, None).unwrap();
        let spec = SendQueueSpec {
            port: 1,
            ring: ring(4096),
            max_wr: 64,
            max_sge: 1,
        };
        let error = machine.pd().create_send_queue(spec, cq).unwrap_err();
        assert!(matches!(error, VerbsError::Argument { .. }), "{error}");
    }
}
