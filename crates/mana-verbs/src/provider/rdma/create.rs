//! Protection domains, memory regions, completion queues and send queues.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use super::RdmaProvider;
use super::extended::Extended;
use super::ffi;
use super::memory::{Fit, Offered};
use super::objects::{Domain, Object};
use crate::provider::sizes::send_segments;
use crate::provider::{
    Buffer, CqRequest, CreatedCq, CreatedMr, CreatedSendQueue, Handle, SendQueueRequest,
};
use crate::{VerbsError, operation};

impl RdmaProvider {
    pub(super) fn create_domain(&self) -> Result<Handle, VerbsError> {
        // SAFETY: the context is open.
        let pd = unsafe { (self.library.alloc_pd)(self.context.as_ptr()) };
        let pd = self.made(operation::ALLOC_PD, pd)?.as_ptr();
        let parents = Vec::new();
        Ok(self.objects.insert(Object::Domain(Domain { pd, parents })))
    }

    /// The library's protection domain.
    pub(super) fn domain(
        &self,
        operation: &'static str,
        pd: Handle,
    ) -> Result<*mut ffi::Pd, VerbsError> {
        self.objects.get(operation, pd, |object| match object {
            Object::Domain(domain) => Some(domain.pd),
            _ => None,
        })
    }

    /// The parent domain for queue pairs of `port`, made when it is needed for the first time. It
    /// exists in libmana only.
    pub(super) fn parent_domain(
        &self,
        operation: &'static str,
        pd: Handle,
        port: u8,
    ) -> Result<*mut ffi::Pd, VerbsError> {
        let alloc = self.inline(operation, Extended::alloc_parent_domain)?;
        self.objects.get(operation, pd, |object| match object {
            Object::Domain(domain) => Some(self.parent_of(operation, domain, port, alloc)),
            _ => None,
        })?
    }

    fn parent_of(
        &self,
        operation: &'static str,
        domain: &mut Domain,
        port: u8,
        alloc: ffi::AllocParentDomain,
    ) -> Result<*mut ffi::Pd, VerbsError> {
        if let Some(&(_, parent)) = domain.parents.iter().find(|(of, _)| *of == port) {
            return Ok(parent);
        }
        let mut attributes = ffi::ParentDomainInitAttr {
            pd: domain.pd,
            td: ptr::null_mut(),
            comp_mask: ffi::PARENT_DOMAIN_PD_CONTEXT,
            alloc: ptr::null(),
            free: ptr::null(),
            // libmana reads the number of the port from here.
            pd_context: ptr::without_provenance_mut(port.into()),
        };
        // SAFETY: the context is open and the domain is of this context.
        let parent = unsafe { alloc(self.context.as_ptr(), &mut attributes) };
        let parent = self.made(operation, parent)?.as_ptr();
        domain.parents.push((port, parent));
        Ok(parent)
    }

    /// # Safety
    ///
    /// As for [`crate::provider::Provider::register_memory`].
    pub(super) unsafe fn create_memory_region(
        &self,
        pd: Handle,
        memory: Buffer,
        access: u32,
    ) -> Result<CreatedMr, VerbsError> {
        const OPERATION: &str = operation::REGISTER_MEMORY;
        let pd = self.domain(OPERATION, pd)?;
        let length = usize::try_from(memory.bytes)
            .map_err(|_| VerbsError::argument(OPERATION, "more memory than addresses"))?;
        let start = ptr::with_exposed_provenance_mut(memory.address as usize);
        // SAFETY: the domain is alive while the caller's handle is; for the memory the caller
        // promises what is asked for. The bits are those of the header.
        let mr = unsafe { (self.library.reg_mr)(pd, start, length, access as c_int) };
        let mr = self.made(OPERATION, mr)?.as_ptr();
        // SAFETY: the region was made right here.
        let lkey = unsafe { (*mr).lkey };
        let handle = self.objects.insert(Object::Memory(mr));
        Ok(CreatedMr { handle, lkey })
    }

    /// # Safety
    ///
    /// As for [`crate::provider::Provider::create_cq`].
    pub(super) unsafe fn create_completion_queue(
        &self,
        request: CqRequest,
    ) -> Result<CreatedCq, VerbsError> {
        const OPERATION: &str = operation::CREATE_CQ;
        let number = |value: u32, what: &str| {
            let too_many = |_| VerbsError::argument(OPERATION, format!("{what} {value}"));
            c_int::try_from(value).map_err(too_many)
        };
        let entries = number(request.entries, "a number of entries of")?;
        let vector = number(request.vector, "a completion vector of")?;
        let channel = request.channel.map_or(ptr::null_mut(), |name| {
            ptr::with_exposed_provenance_mut(name as usize)
        });
        let offered = self.allocator.offer(request.ring, Fit::AtMost);
        // SAFETY: the context is open, the channel one of this context that the caller keeps, and
        // for the ring, which libmana finds on offer, the caller promises what is asked for.
        let cq = unsafe {
            let context = self.context.as_ptr();
            (self.library.create_cq)(context, entries, ptr::null_mut(), channel, vector)
        };
        let cq = self.made_over(OPERATION, request.ring, &offered, cq)?;
        if !offered.taken() {
            drop(offered);
            // SAFETY: made right here and used by nobody.
            unsafe { (self.library.destroy_cq)(cq.as_ptr()) };
            return Err(self.ring_not_taken(OPERATION));
        }
        drop(offered);
        let object = Object::CompletionQueue(cq.as_ptr(), request.ring.address);
        Ok(CreatedCq {
            handle: self.objects.insert(object),
            // The library gives it to the kernel.
            user_handle: cq.addr().get() as u64,
        })
    }

    /// The library's completion queue.
    pub(super) fn completion_queue(
        &self,
        operation: &'static str,
        cq: Handle,
    ) -> Result<*mut ffi::Cq, VerbsError> {
        self.objects.get(operation, cq, |object| match object {
            Object::CompletionQueue(cq, _) => Some(*cq),
            _ => None,
        })
    }

    /// # Safety
    ///
    /// As for [`crate::provider::Provider::create_send_queue`].
    pub(super) unsafe fn create_raw_queue_pair(
        &self,
        request: SendQueueRequest,
    ) -> Result<CreatedSendQueue, VerbsError> {
        const OPERATION: &str = operation::CREATE_SEND_QUEUE;
        let cq = self.completion_queue(OPERATION, request.cq)?;
        let parent = self.parent_domain(OPERATION, request.pd, request.port)?;
        let (max_wr, bytes) = (request.max_wr, request.ring.bytes);
        let max_send_sge = send_segments(max_wr, bytes)
            .ok_or_else(|| impossible_ring(OPERATION, max_wr, bytes))?;
        let mut attributes = ffi::QpInitAttr {
            qp_context: ptr::null_mut(),
            send_cq: cq,
            recv_cq: cq,
            srq: ptr::null_mut(),
            cap: ffi::QpCap {
                max_send_wr: max_wr,
                max_send_sge,
                ..Default::default()
            },
            qp_type: ffi::QPT_RAW_PACKET,
            sq_sig_all: 0,
        };
        let offered = self.allocator.offer(request.ring, Fit::Exact);
        // SAFETY: domain and completion queue are alive while the caller's handles are; for the
        // ring, which libmana finds on offer, the caller promises what is asked for.
        let qp = unsafe { (self.library.create_qp)(parent, &mut attributes) };
        let qp = self.made_over(OPERATION, request.ring, &offered, qp)?;
        let taken = offered.taken();
        drop(offered);
        let undo = |error| {
            // SAFETY: made right here and used by nobody.
            unsafe { (self.library.destroy_qp)(qp.as_ptr()) };
            error
        };
        if !taken {
            return Err(undo(self.ring_not_taken(OPERATION)));
        }
        // SAFETY: both are alive.
        let (told, cq_told) = unsafe { self.ask_queue_pair(qp, cq) }.map_err(undo)?;
        // `sq_count` is no size of the ring: it repeats `max_wr`.
        if told.sq_buf.addr() as u64 != request.ring.address || u64::from(told.sq_size) != bytes {
            let (at, size) = (told.sq_buf, told.sq_size);
            let problem = format!("libmana made a ring of {size} bytes at {at:p} instead of ours");
            return Err(undo(self.bad_answer(OPERATION, problem)));
        }
        let page = told.db_page.cast::<u64>();
        if page.is_null() || !page.is_aligned() {
            let problem = format!("libmana's doorbell page is at {page:p}");
            return Err(undo(self.bad_answer(OPERATION, problem)));
        }
        self.page.store(page, Ordering::Release);
        let object = Object::QueuePair(qp.as_ptr(), Some(request.ring.address));
        Ok(CreatedSendQueue {
            handle: self.objects.insert(object),
            sq_id: told.sq_id,
            cq_id: cq_told.cq_id,
            vport_offset: told.tx_vp_offset,
        })
    }

    /// What libmana knows of a raw queue pair and its completion queue.
    ///
    /// # Safety
    ///
    /// Both are alive.
    unsafe fn ask_queue_pair(
        &self,
        qp: NonNull<ffi::Qp>,
        cq: *mut ffi::Cq,
    ) -> Result<(ffi::ManaQp, ffi::ManaCq), VerbsError> {
        let mut told = MaybeUninit::<ffi::ManaQp>::zeroed();
        let mut cq_told = MaybeUninit::<ffi::ManaCq>::zeroed();
        let mut object = empty_object();
        object.qp = ffi::InOut {
            input: qp.as_ptr(),
            output: told.as_mut_ptr(),
        };
        object.cq = ffi::InOut {
            input: cq,
            output: cq_told.as_mut_ptr(),
        };
        // SAFETY: the objects are libmana's, because the context is, and there is room for the
        // answers.
        let errno = unsafe { (self.library.init_obj)(&mut object, ffi::OBJ_QP | ffi::OBJ_CQ) };
        self.check(operation::CREATE_SEND_QUEUE, errno)?;
        // SAFETY: all-zero is a value of these structures, and so is what was filled in.
        Ok(unsafe { (told.assume_init(), cq_told.assume_init()) })
    }

    /// What a call has made over a ring, or why it has not.
    pub(super) fn made_over<T>(
        &self,
        operation: &'static str,
        ring: Buffer,
        offered: &Offered<'_>,
        object: *mut T,
    ) -> Result<NonNull<T>, VerbsError> {
        // The error number first: everything else may change it.
        let made = self.made(operation, object);
        match (&made, offered.refused()) {
            (Err(_), Some(size)) => {
                let bytes = ring.bytes;
                let problem = format!("libmana asks for {size} bytes for a ring of {bytes}");
                Err(self.bad_answer(operation, problem))
            }
            _ => made,
        }
    }

    /// An object over memory that is not ours.
    pub(super) fn ring_not_taken(&self, operation: &'static str) -> VerbsError {
        let problem = format!(
            "libmana ({}) does not use our ring",
            self.library.versions()
        );
        self.bad_answer(operation, problem)
    }
}

/// A ring that libmana would not make of that many work requests.
pub(super) fn impossible_ring(operation: &'static str, max_wr: u32, bytes: u64) -> VerbsError {
    let problem = format!(
        "libmana makes no ring of {bytes} bytes for {max_wr} work requests, whatever their size"
    );
    VerbsError::argument(operation, problem)
}

/// A question to libmana that asks nothing yet.
pub(super) const fn empty_object() -> ffi::Obj {
    ffi::Obj {
        qp: ffi::InOut {
            input: ptr::null_mut(),
            output: ptr::null_mut(),
        },
        cq: ffi::InOut {
            input: ptr::null_mut(),
            output: ptr::null_mut(),
        },
        rwq: ffi::InOut {
            input: ptr::null_mut(),
            output: ptr::null_mut(),
        },
    }
}
