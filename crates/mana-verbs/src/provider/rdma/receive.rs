//! Work queues, indirection tables and RSS queue pairs.

use std::mem::MaybeUninit;
use std::ptr;

use super::RdmaProvider;
use super::create::{empty_object, impossible_ring};
use super::extended::Extended;
use super::ffi;
use super::memory::Fit;
use super::objects::{Object, WorkQueue};
use crate::provider::sizes::receive_segments;
use crate::provider::{CreatedRss, Handle, RssRequest, WorkQueueRequest};
use crate::{QueueIds, VerbsError, operation};

/// Entries that the answer has room for.
const MAX_QUEUES: usize = 64;

impl RdmaProvider {
    /// # Safety
    ///
    /// As for [`crate::provider::Provider::create_work_queue`].
    pub(super) unsafe fn create_receive_queue(
        &self,
        request: WorkQueueRequest,
    ) -> Result<Handle, VerbsError> {
        const OPERATION: &str = operation::CREATE_WORK_QUEUE;
        let cq = self.completion_queue(OPERATION, request.cq)?;
        let pd = self.domain(OPERATION, request.pd)?;
        let create = self.inline(OPERATION, Extended::create_wq)?;
        let (max_wr, bytes) = (request.max_wr, request.ring.bytes);
        let max_sge = receive_segments(max_wr, bytes)
            .ok_or_else(|| impossible_ring(OPERATION, max_wr, bytes))?;
        let mut attributes = ffi::WqInitAttr {
            wq_context: ptr::null_mut(),
            wq_type: ffi::WQT_RQ,
            max_wr,
            max_sge,
            pd,
            cq,
            comp_mask: 0,
            create_flags: 0,
        };
        let offered = self.allocator.offer(request.ring, Fit::Exact);
        // SAFETY: domain and completion queue are alive while the caller's handles are; for the
        // ring, which libmana finds on offer, the caller promises what is asked for.
        let wq = unsafe { create(self.context.as_ptr(), &mut attributes) };
        let wq = self
            .made_over(OPERATION, request.ring, &offered, wq)?
            .as_ptr();
        let taken = offered.taken();
        drop(offered);
        // SAFETY: made right here. The header's inline function does this, and the library waits on
        // it when the queue is destroyed.
        unsafe {
            (*wq).wq_context = ptr::null_mut();
            (*wq).events_completed = 0;
            libc::pthread_mutex_init(&raw mut (*wq).mutex, ptr::null());
            libc::pthread_cond_init(&raw mut (*wq).cond, ptr::null());
        }
        if !taken {
            let destroy = self.inline(OPERATION, Extended::destroy_wq)?;
            // SAFETY: made right here and used by nobody.
            unsafe { destroy(wq) };
            return Err(self.ring_not_taken(OPERATION));
        }
        let ring = request.ring.address;
        Ok(self
            .objects
            .insert(Object::WorkQueue(WorkQueue { wq, cq, ring })))
    }

    pub(super) fn create_table(&self, queues: &[Handle]) -> Result<Handle, VerbsError> {
        const OPERATION: &str = operation::CREATE_INDIRECTION_TABLE;
        if !queues.len().is_power_of_two() {
            let problem = format!("{} queues are no power of two", queues.len());
            return Err(VerbsError::argument(OPERATION, problem));
        }
        let work_queue = |&queue| {
            self.objects.get(OPERATION, queue, |object| match object {
                Object::WorkQueue(queue) => Some(*queue),
                _ => None,
            })
        };
        let queues: Vec<WorkQueue> = queues.iter().map(work_queue).collect::<Result<_, _>>()?;
        let create = self.inline(OPERATION, Extended::create_rwq_ind_table)?;
        let mut entries: Vec<*mut ffi::Wq> = queues.iter().map(|queue| queue.wq).collect();
        let mut attributes = ffi::RwqIndTableInitAttr {
            log_ind_tbl_size: entries.len().trailing_zeros(),
            ind_tbl: entries.as_mut_ptr(),
            comp_mask: 0,
        };
        // SAFETY: the work queues are alive while the caller's handles are, and there are as many
        // as the logarithm says.
        let table = unsafe { create(self.context.as_ptr(), &mut attributes) };
        let table = self.made(OPERATION, table)?.as_ptr();
        Ok(self.objects.insert(Object::Table(table, queues)))
    }

    pub(super) fn create_rss_queue_pair(
        &self,
        request: &RssRequest<'_>,
    ) -> Result<CreatedRss, VerbsError> {
        const OPERATION: &str = operation::CREATE_RSS;
        let (table, queues) =
            self.objects
                .get(OPERATION, request.table, |object| match object {
                    Object::Table(table, queues) => Some((*table, queues.clone())),
                    _ => None,
                })?;
        let parent = self.parent_domain(OPERATION, request.pd, request.port)?;
        let create = self.inline(OPERATION, Extended::create_qp_ex)?;
        let mut key = *request.key;
        let mut attributes = ffi::QpInitAttrEx {
            qp_context: ptr::null_mut(),
            send_cq: ptr::null_mut(),
            recv_cq: ptr::null_mut(),
            srq: ptr::null_mut(),
            cap: ffi::QpCap::default(),
            qp_type: ffi::QPT_RAW_PACKET,
            sq_sig_all: 0,
            comp_mask: ffi::QP_INIT_PD | ffi::QP_INIT_RX_HASH | ffi::QP_INIT_IND_TABLE,
            pd: parent,
            xrcd: ptr::null_mut(),
            create_flags: 0,
            max_tso_header: 0,
            rwq_ind_tbl: table,
            rx_hash_conf: ffi::RxHashConf {
                rx_hash_function: ffi::RX_HASH_TOEPLITZ,
                rx_hash_key_len: key.len() as u8,
                rx_hash_key: key.as_mut_ptr(),
                rx_hash_fields_mask: ffi::RX_HASH_IPV4,
            },
            source_qpn: 0,
            send_ops_flags: 0,
        };
        // SAFETY: domain and table are alive while the caller's handles are; the key is read during
        // the call only.
        let qp = unsafe { create(self.context.as_ptr(), &mut attributes) };
        let qp = self.made(OPERATION, qp)?.as_ptr();
        let mut ids = [QueueIds { wq_id: 0, cq_id: 0 }; MAX_QUEUES];
        for (ids, queue) in ids.iter_mut().zip(&queues) {
            // SAFETY: the table's queues are alive as long as the table.
            match unsafe { self.ask_work_queue(queue) } {
                Ok(told) => *ids = told,
                Err(error) => {
                    // SAFETY: made right here and used by nobody.
                    unsafe { (self.library.destroy_qp)(qp) };
                    return Err(error);
                }
            }
        }
        Ok(CreatedRss {
            handle: self.objects.insert(Object::QueuePair(qp, None)),
            // libmana does not pass the device's number on.
            num_entries: queues.len() as u64,
            ids,
        })
    }

    /// The numbers that a work queue and its completion queue got with the queue pair.
    ///
    /// # Safety
    ///
    /// Both are alive.
    unsafe fn ask_work_queue(&self, queue: &WorkQueue) -> Result<QueueIds, VerbsError> {
        let mut told = MaybeUninit::<ffi::ManaRwq>::zeroed();
        let mut cq_told = MaybeUninit::<ffi::ManaCq>::zeroed();
        let mut object = empty_object();
        object.rwq = ffi::InOut {
            input: queue.wq,
            output: told.as_mut_ptr(),
        };
        object.cq = ffi::InOut {
            input: queue.cq,
            output: cq_told.as_mut_ptr(),
        };
        // SAFETY: the objects are libmana's, because the context is, and there is room for the
        // answers.
        let errno = unsafe { (self.library.init_obj)(&mut object, ffi::OBJ_RWQ | ffi::OBJ_CQ) };
        self.check(operation::CREATE_RSS, errno)?;
        // SAFETY: all-zero is a value of these structures, and so is what was filled in.
        let (told, cq_told) = unsafe { (told.assume_init(), cq_told.assume_init()) };
        if told.buf.addr() as u64 != queue.ring {
            let problem = format!("libmana has a ring at {:p} instead of ours", told.buf);
            return Err(self.bad_answer(operation::CREATE_RSS, problem));
        }
        Ok(QueueIds {
            wq_id: told.wq_id,
            cq_id: cq_told.cq_id,
        })
    }
}
