//! RSS queue pairs: an indirection table over work queues, and the queue pair that makes a port
//! receive into them.

use std::collections::HashSet;

use dma_memory::Segment;

use crate::object::Object;
use crate::provider::{CreatedRss, Handle, ObjectKind, RssRequest};
use crate::work_queue::WorkQueueParts;
use crate::{ProtectionDomain, VerbsError, WorkQueue, operation};

/// Queue ids have 24 bits in doorbells and completions (reference/mana-hardware.md §2.4, §2.7).
pub(crate) const QUEUE_ID_LIMIT: u32 = 1 << 24;

/// Entries of the indirection table, each work queue once (reference/mana-hardware.md §4.6).
const MAX_QUEUES: usize = 64;

/// Numbers of one receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueIds {
    /// Number of the receive queue, 24 bits.
    pub wq_id: u32,
    /// Number of its completion queue, 24 bits.
    pub cq_id: u32,
}

/// An RSS queue pair with its indirection table, work queues and completion queues. Dropping it
/// destroys them all, in this order.
#[derive(Debug)]
pub struct RssQueuePair {
    object: Object,
    queues: Vec<Queue>,
    /// Outlives the queues.
    pd: ProtectionDomain,
}

#[derive(Debug)]
struct Queue {
    ids: QueueIds,
    parts: WorkQueueParts,
}

impl RssQueuePair {
    pub(crate) fn create(
        pd: &ProtectionDomain,
        port: u8,
        queues: Vec<WorkQueue>,
        key: &[u8; 40],
    ) -> Result<Self, VerbsError> {
        let context = pd.context();
        let count = queues.len();
        if !count.is_power_of_two() || count > MAX_QUEUES {
            let problem = format!(
                "{count} receive queues: the kernel's indirection table takes each queue once and \
                 has a power of two of entries up to {MAX_QUEUES}"
            );
            return Err(VerbsError::argument(operation::CREATE_RSS, problem));
        }
        if (queues.iter()).any(|queue| queue.protection_domain().handle() != pd.handle())
            || (queues.iter()).any(|queue| !queue.protection_domain().context().is_same(context))
        {
            let problem = "a work queue belongs to another protection domain";
            return Err(VerbsError::argument(operation::CREATE_RSS, problem));
        }

        let handles: Vec<Handle> = queues.iter().map(WorkQueue::handle).collect();
        let table = context.raw().create_indirection_table(&handles)?;
        let (objects, parts): (Vec<_>, Vec<_>) =
            queues.into_iter().map(WorkQueue::into_parts).unzip();
        let table_object =
            Object::new(context, ObjectKind::IndirectionTable, table, None).above(objects);
        let created = context.raw().create_rss(RssRequest {
            pd: pd.handle(),
            table,
            port,
            key,
        })?;
        let object = Object::new(context, ObjectKind::RssQueuePair, created.handle, None)
            .above([table_object]);
        let ids = check_ids(&created, count).map_err(|problem| VerbsError::Answer {
            device: context.device_name().to_owned(),
            operation: operation::CREATE_RSS,
            problem,
        })?;
        let queues = (ids.iter().zip(parts))
            .map(|(&ids, parts)| Queue { ids, parts })
            .collect();
        Ok(Self {
            object,
            queues,
            pd: pd.clone(),
        })
    }

    /// Number of receive queues, a power of two from 1 to 64.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one queue")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// Numbers of queue `index`, in the order of creation.
    ///
    /// # Panics
    ///
    /// If there is no such queue; likewise below.
    #[must_use]
    pub fn ids(&self, index: usize) -> QueueIds {
        self.queues[index].ids
    }

    /// Ring memory of work queue `index`.
    #[must_use]
    pub fn ring(&self, index: usize) -> &Segment {
        &self.queues[index].parts.ring
    }

    /// Ring memory of the completion queue of queue `index`.
    #[must_use]
    pub fn cq_ring(&self, index: usize) -> &Segment {
        &self.queues[index].parts.cq.ring
    }

    /// Number of entries of the completion queue of queue `index`.
    #[must_use]
    pub fn cq_entries(&self, index: usize) -> u32 {
        self.queues[index].parts.cq.entries
    }

    /// What [`crate::CompletionChannel::next_event`] calls the completion queue of queue `index`.
    #[must_use]
    pub fn cq_user_handle(&self, index: usize) -> u64 {
        self.queues[index].parts.cq.user_handle
    }

    /// The protection domain it was made on.
    #[must_use]
    pub fn protection_domain(&self) -> &ProtectionDomain {
        &self.pd
    }

    /// Destroys it with its queues now; dropping does the same but only logs errors. After `Ok` the
    /// device does not touch rings or packet buffers of these queues any more.
    ///
    /// # Errors
    ///
    /// The kernel's; the first if there are several. The rings are kept as the crate's
    /// documentation says; packet buffers that the device may still write are for the caller to
    /// keep.
    pub fn destroy(self) -> Result<(), VerbsError> {
        self.object.destroy()
    }
}

/// The ids of the first `count` queues, if they can be true: enough of them, each fitting a
/// doorbell, none twice.
fn check_ids(created: &CreatedRss, count: usize) -> Result<&[QueueIds], String> {
    let ids = &created.ids[..count];
    if created.num_entries < count as u64 || created.num_entries > MAX_QUEUES as u64 {
        return Err(format!(
            "ids of {} queues came back for {count} queues",
            created.num_entries
        ));
    }
    let (mut wqs, mut cqs) = (HashSet::new(), HashSet::new());
    for (index, &QueueIds { wq_id, cq_id }) in ids.iter().enumerate() {
        let fits = wq_id < QUEUE_ID_LIMIT && cq_id < QUEUE_ID_LIMIT;
        if !fits || !wqs.insert(wq_id) || !cqs.insert(cq_id) {
            return Err(format!(
                "queue {index} got receive queue {wq_id:#x} and completion queue {cq_id:#x}, which \
                 are taken or have more than 24 bits"
            ));
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use uverbs_abi::Errno;

    use super::*;
    use crate::scripted::{Machine, ring};

    const KEY: [u8; 40] = [0x6d; 40];

    fn work_queues(pd: &ProtectionDomain, count: usize) -> Vec<WorkQueue> {
        (0..count)
            .map(|_| {
                let cq = pd.create_cq(ring(4096), 64, 0, None).unwrap();
                pd.create_work_queue(ring(4096), 128, cq).unwrap()
            })
            .collect()
    }

    #[test]
    fn ids_come_in_the_order_of_the_queues_and_all_goes_in_reverse() {
        let machine = Machine::new();
        let pd = machine.pd();
        let queues = work_queues(&pd, 2);
        let rings: Vec<_> = queues.iter().map(|queue| queue.ring().base()).collect();
        machine.log();
        let rss = pd.create_rss(1, queues, &KEY).unwrap();
        assert_eq!(machine.log(), ["create table", "create rss"]);
        assert_eq!(rss.len(), 2);
        for (index, ring) in rings.into_iter().enumerate() {
            let ids = rss.ids(index);
            assert_eq!(
                (ids.wq_id, ids.cq_id),
                (100 + index as u32, 200 + index as u32)
            );
            assert_eq!(rss.ring(index).base(), ring);
        }
        rss.destroy().unwrap();
        let expected = [
            "destroy qp",
            "destroy table",
            "destroy wq",
            "destroy cq",
            "destroy wq",
            "destroy cq",
        ];
        assert_eq!(machine.log(), expected);
        assert_eq!(machine.live(), 1);
    }

    #[test]
    fn counts_that_no_table_can_have_are_refused_with_the_reason() {
        let machine = Machine::new();
        let pd = machine.pd();
        for count in [0, 3, 65, 128] {
            let error = pd.create_rss(1, work_queues(&pd, count), &KEY).unwrap_err();
            assert!(error.to_string().contains("power of two"), "{error}");
            assert_eq!(machine.live(), 1);
        }
        pd.create_rss(1, work_queues(&pd, 64), &KEY).unwrap();
    }

    #[test]
    fn queues_of_another_domain_are_refused() {
        let machine = Machine::new();
        let context = machine.context();
        let (one, two) = (context.alloc_pd().unwrap(), context.alloc_pd().unwrap());
        let error = one.create_rss(1, work_queues(&two, 1), &KEY).unwrap_err();
        assert!(matches!(error, VerbsError::Argument { .. }), "{error}");
        // Another context, in which the domain has the same handle.
        let other = Machine::new();
        let foreign = work_queues(&other.pd(), 1);
        let error = one.create_rss(1, foreign, &KEY).unwrap_err();
        assert!(matches!(error, VerbsError::Argument { .. }), "{error}");
    }

    #[test]
    fn a_failure_at_any_step_unwinds_to_the_domain() {
        for (step, operation) in [
            ("create cq", operation::CREATE_CQ),
            ("create work queue", operation::CREATE_WORK_QUEUE),
            ("create table", operation::CREATE_INDIRECTION_TABLE),
            ("create rss", operation::CREATE_RSS),
        ] {
            let machine = Machine::new();
            let pd = machine.pd();
            machine.script().fail.insert(step, Errno::EINVAL);
            let result = (|| {
                let cq = pd.create_cq(ring(4096), 64, 0, None)?;
                let queue = pd.create_work_queue(ring(4096), 128, cq)?;
                pd.create_rss(1, vec![queue], &KEY)
            })();
            assert_eq!(result.unwrap_err().operation(), Some(operation));
            assert_eq!(machine.live(), 1, "{step}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_true_destroys_everything_again() {
        let machine = Machine::new();
        let pd = machine.pd();
        machine.script().spoil_rss = |answer| answer.num_entries = 1;
        let error = pd.create_rss(1, work_queues(&pd, 2), &KEY).unwrap_err();
        assert!(matches!(error, VerbsError::Answer { .. }), "{error}");
        assert_eq!(machine.live(), 1);
    }

    fn created(num_entries: u64, ids: &[(u32, u32)]) -> CreatedRss {
        let mut created = CreatedRss {
            handle: 1,
            num_entries,
            ids: [QueueIds { wq_id: 0, cq_id: 0 }; 64],
        };
        for (slot, &(wq_id, cq_id)) in created.ids.iter_mut().zip(ids) {
            *slot = QueueIds { wq_id, cq_id };
        }
        created
    }

    #[test]
    fn ids_that_fit_and_differ_are_taken_in_order() {
        let answer = created(2, &[(7, 9), (0xFF_FFFF, 0)]);
        let ids = check_ids(&answer, 2).unwrap();
        assert_eq!(ids[0], QueueIds { wq_id: 7, cq_id: 9 });
        assert_eq!(ids[1].wq_id, 0xFF_FFFF);
        // More entries than queues: the hardware's table is larger.
        assert!(check_ids(&created(64, &[(1, 1)]), 1).is_ok());
    }

    #[test]
    fn ids_that_cannot_be_true_are_refused() {
        assert!(check_ids(&created(1, &[(1, 1), (2, 2)]), 2).is_err());
        assert!(check_ids(&created(u64::MAX, &[(1, 1)]), 1).is_err());
        assert!(check_ids(&created(1, &[(1 << 24, 1)]), 1).is_err());
        assert!(check_ids(&created(1, &[(1, u32::MAX)]), 1).is_err());
        assert!(check_ids(&created(2, &[(1, 1), (1, 2)]), 2).is_err());
        assert!(check_ids(&created(2, &[(1, 1), (2, 1)]), 2).is_err());
    }
}
