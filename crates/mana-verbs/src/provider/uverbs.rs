//! The kernel's own uverbs ABI, without any C library: each operation is one call of a
//! [`Transport`], with the attributes that libibverbs and libmana send
//! (reference/uverbs-boundary.md §2, reference/mana-hardware.md §4.1, §5).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use uverbs_abi::ids::{HASH_TOEPLITZ, QPT_RAW_PACKET, WQT_RQ, attr, method, object, write_cmd};
use uverbs_abi::{Attribute, DoorbellKind, Errno, IbDevice, Transport, Value, wire};
use zerocopy::IntoBytes;

use super::caller::Caller;
use super::sizes::receive_segments;
use super::{
    Buffer, Channel, CqRequest, CreatedCq, CreatedMr, CreatedRss, CreatedSendQueue, Handle,
    ObjectKind, Provider, RssRequest, SendQueueRequest, WorkQueueRequest, driver_id,
};
use crate::fd::{adopt, read_record, set_nonblocking};
use crate::{AsyncEvent, DeviceAttributes, PortAttributes, QueueIds, VerbsError, operation};

/// `rx_hash_fields_mask` as the C PMD sends it (source and destination IPv4 address). No kernel
/// reads it (reference/mana-hardware.md §4.6).
const HASH_FIELDS_IPV4: u64 = 3;

/// A context over a [`Transport`].
pub(crate) struct UverbsProvider {
    caller: Caller,
    async_fd: OwnedFd,
    comp_vectors: u32,
    /// User handles are numbers of ours, from 1.
    next_user_handle: AtomicU64,
}

/// A completion channel: a descriptor of the kernel.
#[derive(Debug)]
struct UverbsChannel(OwnedFd);

impl Channel for UverbsChannel {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn name(&self) -> u64 {
        // Descriptors are not negative.
        self.0.as_raw_fd() as u64
    }

    fn next_event(&self) -> Result<Option<u64>, Errno> {
        let event = read_record::<wire::CompEvent>(self.fd())?;
        Ok(event.map(|event| event.cq_handle))
    }
}

/// The handle that a call wrote into `attribute`.
fn created(attribute: &Attribute<'_>) -> Handle {
    match attribute.value {
        Value::NewHandle(handle) => handle,
        _ => unreachable!("the attribute was built as a new handle"),
    }
}

/// Sizes of rings are 32-bit fields of the driver data.
fn ring_bytes(operation: &'static str, ring: Buffer) -> Result<u32, VerbsError> {
    u32::try_from(ring.bytes).map_err(|_| {
        let problem = format!(
            "a ring of {} bytes; less than 4 GiB are possible",
            ring.bytes
        );
        VerbsError::argument(operation, problem)
    })
}

impl UverbsProvider {
    /// Finds the driver id, creates the context and its asynchronous event file.
    pub(crate) fn open(
        transport: Box<dyn Transport>,
        device: &IbDevice,
    ) -> Result<Self, VerbsError> {
        let driver_id = driver_id::find(&*transport, device)?;
        let caller = Caller {
            transport,
            device: device.name.clone(),
            driver_id,
        };
        let mut comp_vectors = 0u32;
        let mut attributes = [Attribute::new(
            attr::CONTEXT_NUM_COMP_VECTORS,
            Value::Out(comp_vectors.as_mut_bytes()),
        )];
        let method = (object::DEVICE, method::DEVICE_GET_CONTEXT);
        // SAFETY: the only address is that of `comp_vectors`, used during the call.
        unsafe { caller.invoke(operation::GET_CONTEXT, method, &mut attributes)? };

        let mut attributes = [Attribute::new(attr::ASYNC_FD, Value::NewFd(None))];
        let method = (object::ASYNC_EVENT, method::ASYNC_EVENT_ALLOC);
        // SAFETY: the call carries no address.
        unsafe { caller.invoke(operation::ALLOC_ASYNC_EVENT, method, &mut attributes)? };
        let [attribute] = attributes;
        let Value::NewFd(Some(async_fd)) = attribute.value else {
            let problem = "no file descriptor came back";
            return Err(caller.bad_answer(operation::ALLOC_ASYNC_EVENT, problem));
        };
        set_nonblocking(async_fd.as_fd()).map_err(|errno| {
            VerbsError::kernel(&caller.device, operation::ALLOC_ASYNC_EVENT, errno)
        })?;
        Ok(Self {
            caller,
            async_fd,
            comp_vectors,
            next_user_handle: AtomicU64::new(1),
        })
    }

    fn user_handle(&self) -> u64 {
        self.next_user_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// Asynchronous events of an object go to the context's file.
    fn event_fd(&self) -> Value<'static> {
        Value::Fd(self.async_fd.as_raw_fd())
    }
}

impl Provider for UverbsProvider {
    fn name(&self) -> &'static str {
        "uverbs"
    }

    fn note(&self) -> String {
        "the kernel's own interface".to_owned()
    }

    fn ring_limit(&self) -> Option<u32> {
        None
    }

    fn driver_id(&self) -> u32 {
        self.caller.driver_id
    }

    fn comp_vectors(&self) -> u32 {
        self.comp_vectors
    }

    fn async_fd(&self) -> BorrowedFd<'_> {
        self.async_fd.as_fd()
    }

    fn next_async_event(&self) -> Result<Option<AsyncEvent>, Errno> {
        let event = read_record::<wire::AsyncEvent>(self.async_fd())?;
        Ok(event.map(AsyncEvent::from_wire))
    }

    fn doorbell(&self, kind: DoorbellKind, queue_id: u32) -> Result<NonNull<u64>, VerbsError> {
        let cell = self.caller.transport.doorbell(kind, queue_id);
        cell.map_err(|errno| {
            VerbsError::kernel(&self.caller.device, operation::MAP_DOORBELL, errno)
        })
    }

    fn query_device(&self) -> Result<DeviceAttributes, VerbsError> {
        let mut answer = wire::ExQueryDeviceResp::default();
        // SAFETY: the request carries no address.
        unsafe {
            self.caller.write_command(
                operation::QUERY_DEVICE,
                write_cmd::EX_QUERY_DEVICE,
                wire::ExQueryDevice::default().as_bytes(),
                answer.as_mut_bytes(),
            )?;
        }
        if (answer.response_length as usize) < size_of::<wire::QueryDeviceResp>() {
            let problem = format!("an answer of {} bytes", answer.response_length);
            return Err(self.caller.bad_answer(operation::QUERY_DEVICE, problem));
        }
        Ok(DeviceAttributes::from_wire(&answer))
    }

    fn query_port(&self, port: u8) -> Result<PortAttributes, VerbsError> {
        let mut answer = wire::QueryPortResp::default();
        let mut attributes = [
            // A constant: 8 bytes, although the C type of a port is u8.
            Attribute::new(attr::PORT_NUM, Value::Const(u64::from(port))),
            Attribute::new(attr::PORT_RESP, Value::Out(answer.as_mut_bytes())),
        ];
        let method = (object::DEVICE, method::DEVICE_QUERY_PORT);
        // SAFETY: the only address is that of `answer`, used during the call.
        unsafe {
            self.caller
                .invoke(operation::QUERY_PORT, method, &mut attributes)?;
        }
        Ok(PortAttributes::from_wire(&answer))
    }

    fn create_channel(&self) -> Result<Box<dyn Channel>, VerbsError> {
        let mut answer = wire::CreateCompChannelResp { fd: u32::MAX };
        // SAFETY: the request carries no address: its response pointer is ignored.
        unsafe {
            self.caller.write_command(
                operation::CREATE_CHANNEL,
                write_cmd::CREATE_COMP_CHANNEL,
                wire::ResponseSlot::default().as_bytes(),
                answer.as_mut_bytes(),
            )?;
        }
        // SAFETY: the call has just made this descriptor for us, so nobody else owns it.
        let fd = unsafe { adopt(answer.fd) }.map_err(|errno| {
            let problem = format!("file descriptor {} came back: {errno}", answer.fd);
            self.caller.bad_answer(operation::CREATE_CHANNEL, problem)
        })?;
        set_nonblocking(fd.as_fd()).map_err(|errno| {
            VerbsError::kernel(&self.caller.device, operation::CREATE_CHANNEL, errno)
        })?;
        Ok(Box::new(UverbsChannel(fd)))
    }

    fn alloc_pd(&self) -> Result<Handle, VerbsError> {
        let mut answer = wire::AllocPdResp::default();
        // SAFETY: the request carries no address: its response pointer is ignored.
        unsafe {
            self.caller.write_command(
                operation::ALLOC_PD,
                write_cmd::ALLOC_PD,
                wire::ResponseSlot::default().as_bytes(),
                answer.as_mut_bytes(),
            )?;
        }
        Ok(answer.pd_handle)
    }

    unsafe fn register_memory(
        &self,
        pd: Handle,
        memory: Buffer,
        access: u32,
    ) -> Result<CreatedMr, VerbsError> {
        let request = wire::RegMr {
            response: 0,
            start: memory.address,
            length: memory.bytes,
            hca_va: memory.address,
            pd_handle: pd,
            access_flags: access,
        };
        let mut answer = wire::RegMrResp::default();
        // SAFETY: the request names `memory`, for which the caller promises what is asked for.
        unsafe {
            self.caller.write_command(
                operation::REGISTER_MEMORY,
                write_cmd::REG_MR,
                request.as_bytes(),
                answer.as_mut_bytes(),
            )?;
        }
        Ok(CreatedMr {
            handle: answer.mr_handle,
            lkey: answer.lkey,
        })
    }

    unsafe fn create_cq(&self, request: CqRequest) -> Result<CreatedCq, VerbsError> {
        let user_handle = self.user_handle();
        // Kernels that know only the first 8 bytes take 16 with a zero tail
        // (reference/mana-hardware.md §4.1), so there is one form for all.
        let driver_in = wire::CreateCq {
            buf_addr: request.ring.address,
            ..Default::default()
        };
        // The number in the answer is -1, or nothing on old kernels: the queue pair brings it. Nor
        // does the granted number of entries say anything: the device gets what was asked for
        // (reference/mana-hardware.md §4.3).
        let mut driver_out = wire::CreateCqResp::default();
        let mut granted = 0u32;
        let mut attributes = vec![
            Attribute::new(attr::CQ_HANDLE, Value::NewHandle(0)),
            Attribute::new(attr::CQ_RESP_CQE, Value::Out(granted.as_mut_bytes())),
            Attribute::new(attr::CQ_CQE, Value::In(request.entries.as_bytes())),
            Attribute::new(attr::CQ_USER_HANDLE, Value::In(user_handle.as_bytes())),
        ];
        if let Some(channel) = request.channel {
            let fd = Value::Fd(channel as RawFd);
            attributes.push(Attribute::new(attr::CQ_COMP_CHANNEL, fd));
        }
        attributes.extend([
            Attribute::new(attr::CQ_COMP_VECTOR, Value::In(request.vector.as_bytes())),
            // As libibverbs has it, for kernels from before this attribute; queue pairs and work queues
            // have had theirs from the beginning.
            Attribute::optional(attr::CQ_EVENT_FD, self.event_fd()),
            Attribute::new(attr::UHW_IN, Value::In(driver_in.as_bytes())),
            Attribute::new(attr::UHW_OUT, Value::Out(driver_out.as_mut_bytes())),
        ]);
        let method = (object::CQ, method::CQ_CREATE);
        // SAFETY: the driver data names the ring, for which the caller promises what is asked for;
        // the other addresses are those of local variables, used during the call.
        unsafe {
            self.caller
                .invoke(operation::CREATE_CQ, method, &mut attributes)?;
        }
        Ok(CreatedCq {
            handle: created(&attributes[0]),
            user_handle,
        })
    }

    unsafe fn create_send_queue(
        &self,
        request: SendQueueRequest,
    ) -> Result<CreatedSendQueue, VerbsError> {
        let driver_in = wire::CreateQp {
            sq_buf_addr: request.ring.address,
            sq_buf_size: ring_bytes(operation::CREATE_SEND_QUEUE, request.ring)?,
            port: u32::from(request.port),
        };
        let capabilities = wire::QpCap {
            max_send_wr: request.max_wr,
            max_send_sge: request.max_sge,
            ..Default::default()
        };
        let user_handle = self.user_handle();
        let mut driver_out = wire::CreateQpResp::default();
        let (mut granted, mut number) = (wire::QpCap::default(), 0u32);
        let mut attributes = [
            Attribute::new(attr::QP_PD, Value::Handle(request.pd)),
            Attribute::new(attr::QP_SEND_CQ, Value::Handle(request.cq)),
            Attribute::new(attr::QP_RECV_CQ, Value::Handle(request.cq)),
            Attribute::new(attr::QP_HANDLE, Value::NewHandle(0)),
            Attribute::new(attr::QP_TYPE, Value::Const(QPT_RAW_PACKET)),
            Attribute::new(attr::QP_USER_HANDLE, Value::In(user_handle.as_bytes())),
            Attribute::new(attr::QP_CAP, Value::In(capabilities.as_bytes())),
            Attribute::new(attr::QP_EVENT_FD, self.event_fd()),
            Attribute::new(attr::QP_RESP_CAP, Value::Out(granted.as_mut_bytes())),
            Attribute::new(attr::QP_RESP_QP_NUM, Value::Out(number.as_mut_bytes())),
            Attribute::new(attr::UHW_IN, Value::In(driver_in.as_bytes())),
            Attribute::new(attr::UHW_OUT, Value::Out(driver_out.as_mut_bytes())),
        ];
        let method = (object::QP, method::QP_CREATE);
        // SAFETY: the driver data names the ring, for which the caller promises what is asked for;
        // the other addresses are those of local variables, used during the call.
        unsafe {
            self.caller
                .invoke(operation::CREATE_SEND_QUEUE, method, &mut attributes)?;
        }
        Ok(CreatedSendQueue {
            handle: created(&attributes[3]),
            sq_id: driver_out.sqid,
            cq_id: driver_out.cqid,
            vport_offset: driver_out.tx_vp_offset,
        })
    }

    unsafe fn create_work_queue(&self, request: WorkQueueRequest) -> Result<Handle, VerbsError> {
        let driver_in = wire::CreateWq {
            wq_buf_addr: request.ring.address,
            wq_buf_size: ring_bytes(operation::CREATE_WORK_QUEUE, request.ring)?,
            reserved: 0,
        };
        let user_handle = self.user_handle();
        // The kernel does nothing with it; libmana would say the same for this ring.
        let (max_wr, bytes) = (request.max_wr, request.ring.bytes);
        let max_sge = receive_segments(max_wr, bytes).unwrap_or(1);
        let flags = 0u32;
        let (mut granted_wr, mut granted_sge, mut number) = (0u32, 0u32, 0u32);
        let mut attributes = [
            Attribute::new(attr::WQ_HANDLE, Value::NewHandle(0)),
            Attribute::new(attr::WQ_USER_HANDLE, Value::In(user_handle.as_bytes())),
            Attribute::new(attr::WQ_PD, Value::Handle(request.pd)),
            Attribute::new(attr::WQ_CQ, Value::Handle(request.cq)),
            Attribute::new(attr::WQ_TYPE, Value::Const(WQT_RQ)),
            Attribute::new(attr::WQ_MAX_WR, Value::In(request.max_wr.as_bytes())),
            Attribute::new(attr::WQ_MAX_SGE, Value::In(max_sge.as_bytes())),
            Attribute::new(attr::WQ_EVENT_FD, self.event_fd()),
            Attribute::new(attr::WQ_FLAGS, Value::In(flags.as_bytes())),
            Attribute::new(attr::WQ_RESP_MAX_WR, Value::Out(granted_wr.as_mut_bytes())),
            Attribute::new(
                attr::WQ_RESP_MAX_SGE,
                Value::Out(granted_sge.as_mut_bytes()),
            ),
            Attribute::new(attr::WQ_RESP_WQ_NUM, Value::Out(number.as_mut_bytes())),
            Attribute::new(attr::UHW_IN, Value::In(driver_in.as_bytes())),
        ];
        let method = (object::WQ, method::WQ_CREATE);
        // SAFETY: the driver data names the ring, for which the caller promises what is asked for;
        // the other addresses are those of local variables, used during the call.
        unsafe {
            self.caller
                .invoke(operation::CREATE_WORK_QUEUE, method, &mut attributes)?;
        }
        Ok(created(&attributes[0]))
    }

    fn create_indirection_table(&self, queues: &[Handle]) -> Result<Handle, VerbsError> {
        let header = wire::CreateRwqIndTbl {
            comp_mask: 0,
            log_ind_tbl_size: queues.len().ilog2(),
        };
        let mut request = header.as_bytes().to_vec();
        request.extend_from_slice(queues.as_bytes());
        request.resize(request.len().next_multiple_of(8), 0);
        let mut answer = wire::CreateRwqIndTblResp::default();
        // SAFETY: the request carries no address.
        unsafe {
            self.caller.write_command(
                operation::CREATE_INDIRECTION_TABLE,
                write_cmd::EX_CREATE_RWQ_IND_TBL,
                &request,
                answer.as_mut_bytes(),
            )?;
        }
        if (answer.response_length as usize) < size_of_val(&answer) {
            // Without a handle there is nothing that could be destroyed before the context is.
            let problem = format!("an answer of {} bytes", answer.response_length);
            let operation = operation::CREATE_INDIRECTION_TABLE;
            return Err(self.caller.bad_answer(operation, problem));
        }
        Ok(answer.ind_tbl_handle)
    }

    fn create_rss(&self, request: RssRequest<'_>) -> Result<CreatedRss, VerbsError> {
        let driver_in = wire::CreateQpRss {
            rx_hash_fields_mask: HASH_FIELDS_IPV4,
            rx_hash_function: HASH_TOEPLITZ,
            reserved: [0; 7],
            rx_hash_key_len: request.key.len() as u32,
            rx_hash_key: *request.key,
            port: u32::from(request.port),
        };
        let user_handle = self.user_handle();
        let mut driver_out = wire::CreateQpRssResp::default();
        let (mut granted, mut number) = (wire::QpCap::default(), 0u32);
        let capabilities = wire::QpCap::default();
        let mut attributes = [
            Attribute::new(attr::QP_PD, Value::Handle(request.pd)),
            Attribute::new(attr::QP_IND_TABLE, Value::Handle(request.table)),
            Attribute::new(attr::QP_HANDLE, Value::NewHandle(0)),
            Attribute::new(attr::QP_TYPE, Value::Const(QPT_RAW_PACKET)),
            Attribute::new(attr::QP_USER_HANDLE, Value::In(user_handle.as_bytes())),
            Attribute::new(attr::QP_CAP, Value::In(capabilities.as_bytes())),
            Attribute::new(attr::QP_EVENT_FD, self.event_fd()),
            Attribute::new(attr::QP_RESP_CAP, Value::Out(granted.as_mut_bytes())),
            Attribute::new(attr::QP_RESP_QP_NUM, Value::Out(number.as_mut_bytes())),
            Attribute::new(attr::UHW_IN, Value::In(driver_in.as_bytes())),
            Attribute::new(attr::UHW_OUT, Value::Out(driver_out.as_mut_bytes())),
        ];
        let method = (object::QP, method::QP_CREATE);
        // SAFETY: all addresses are those of local variables, used during the call.
        unsafe {
            self.caller
                .invoke(operation::CREATE_RSS, method, &mut attributes)?;
        }
        Ok(CreatedRss {
            handle: created(&attributes[2]),
            num_entries: driver_out.num_entries,
            ids: driver_out.entries.map(|entry| QueueIds {
                wq_id: entry.wqid,
                cq_id: entry.cqid,
            }),
        })
    }

    fn destroy(&self, kind: ObjectKind, handle: Handle) -> Result<(), VerbsError> {
        let (method, answer_bytes) = match kind {
            ObjectKind::ProtectionDomain => ((object::PD, method::PD_DESTROY), 0),
            ObjectKind::MemoryRegion => ((object::MR, method::MR_DESTROY), 0),
            ObjectKind::CompletionQueue => ((object::CQ, method::CQ_DESTROY), 8),
            ObjectKind::SendQueue | ObjectKind::RssQueuePair => {
                ((object::QP, method::QP_DESTROY), 4)
            }
            ObjectKind::WorkQueue => ((object::WQ, method::WQ_DESTROY), 4),
            ObjectKind::IndirectionTable => ((object::RWQ_IND_TBL, method::RWQ_IND_TBL_DESTROY), 0),
        };
        // How many events the kernel has delivered; nobody waits for acknowledgements here.
        let mut events = [0u8; 8];
        let mut attributes = Vec::with_capacity(2);
        if answer_bytes > 0 {
            let answer = Value::Out(&mut events[..answer_bytes]);
            attributes.push(Attribute::new(attr::DESTROY_RESP, answer));
        }
        attributes.push(Attribute::new(attr::DESTROY_HANDLE, Value::Handle(handle)));
        // SAFETY: the only address is that of `events`, used during the call.
        unsafe {
            self.caller
                .invoke(kind.destroy_operation(), method, &mut attributes)
        }
    }
}
