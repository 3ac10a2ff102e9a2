//! A context with the requests that libibverbs and libmana make of it (reference/uverbs-boundary.md
//! §2), ready to be changed by a situation.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use uverbs_abi::ids::{HASH_TOEPLITZ, QPT_RAW_PACKET, attr, method, object, write_cmd};
use uverbs_abi::{DoorbellKind, Errno, IbDevice, System, Transport, wire};
use zerocopy::{FromBytes, IntoBytes};

use super::memory::{Memory, PAGE};
use super::request::{Answer, Argument, Refused, Request};
use super::{Limits, RulebookError, driver_id};

/// Bytes of a CQE.
const CQE: usize = 64;

/// An open context and the memory that it gave to the device.
pub(super) struct Program {
    // Dropped before the memory.
    transport: Box<dyn Transport>,
    driver_id: u32,
    /// Zeros where the context was not asked.
    pub(super) limits: Limits,
    /// `vendor_part_id`.
    pub(super) part: u32,
    ports: u8,
    memory: RefCell<Vec<Memory>>,
    /// Files whose numbers requests name.
    files: RefCell<Vec<OwnedFd>>,
}

impl Program {
    /// Opens the device and asks for nothing.
    pub(super) fn open(system: &dyn System, device: &IbDevice) -> Result<Self, RulebookError> {
        Ok(Self {
            transport: system.open(device)?,
            driver_id: driver_id(device),
            limits: Limits::default(),
            part: 0,
            ports: 0,
            memory: RefCell::default(),
            files: RefCell::default(),
        })
    }

    /// Opens the device, gets a context, and learns what the device allows.
    pub(super) fn start(system: &dyn System, device: &IbDevice) -> Result<Self, RulebookError> {
        let mut program = Self::open(system, device)?;
        let refused = |what| move |errno| RulebookError::Refused { what, errno };
        let context = program.invoke(&program.get_context());
        let context = context.map_err(refused("GET_CONTEXT"))?;
        let device = program.invoke(&program.query_device());
        let device = device.map_err(refused("EX QUERY_DEVICE"))?;
        let answer = wire::ExQueryDeviceResp::read_from_prefix(device.bytes(attr::CORE_OUT));
        let base = answer.map(|(answer, _)| answer.base).unwrap_or_default();
        let vectors = context.number(attr::CONTEXT_NUM_COMP_VECTORS, 0);
        program.limits = Limits {
            comp_vectors: vectors.unwrap_or_default(),
            max_cqe: base.max_cqe,
            max_qp_wr: base.max_qp_wr,
        };
        program.part = base.vendor_part_id;
        program.ports = base.phys_port_cnt;
        Ok(program)
    }

    pub(super) fn ports(&self) -> u8 {
        self.ports
    }

    fn invoke(&self, request: &Request) -> Result<Answer, Errno> {
        request.run(|call, attributes| {
            // SAFETY: addresses of memory that requests name lie in `self.memory`, which nobody
            // reaches and which is unmapped after the transport was dropped, or are such that
            // nothing can be mapped there.
            unsafe { self.transport.invoke(call, attributes) }
        })
    }

    /// The operation that a situation is about.
    pub(super) fn run(&self, request: Request) -> Result<Answer, Refused> {
        let answer = self.invoke(&request)?;
        match answer.beyond {
            0 => Ok(answer),
            beyond => Err(Refused::Beyond(beyond)),
        }
    }

    /// Something that it needs.
    pub(super) fn given(&self, what: &'static str, request: Request) -> Result<Answer, Refused> {
        self.invoke(&request)
            .map_err(|errno| Refused::Before(what, errno))
    }

    /// Whether the doorbell page can be had.
    pub(super) fn map_doorbells(&self) -> Result<String, Refused> {
        self.transport.doorbell(DoorbellKind::Send, 0)?;
        Ok(String::new())
    }

    /// Pages with so many bytes.
    pub(super) fn memory(&self, bytes: usize) -> Result<u64, Refused> {
        self.memory_of(bytes, |_| Ok(()))
    }

    /// Pages to which something is done before they are used.
    pub(super) fn memory_of(
        &self,
        bytes: usize,
        prepare: impl FnOnce(&Memory) -> Result<(), Errno>,
    ) -> Result<u64, Refused> {
        let memory = Memory::map(bytes).and_then(|memory| prepare(&memory).map(|()| memory));
        let memory = memory.map_err(|errno| Refused::Before("memory", errno))?;
        let address = memory.address();
        self.memory.borrow_mut().push(memory);
        Ok(address)
    }

    /// Keeps a file open as long as the context, and names it.
    pub(super) fn keep(&self, file: OwnedFd) -> Argument {
        let number = Argument::Fd(file.as_raw_fd());
        self.files.borrow_mut().push(file);
        number
    }

    /// Any call.
    pub(super) fn request(&self, object: u16, method: u16) -> Request {
        Request::new(self.driver_id, object, method)
    }

    /// O2.
    pub(super) fn get_context(&self) -> Request {
        self.request(object::DEVICE, method::DEVICE_GET_CONTEXT)
            .with(attr::CONTEXT_NUM_COMP_VECTORS, Argument::Out(4))
            .with(attr::CONTEXT_CORE_SUPPORT, Argument::Out(8))
    }

    /// O4.
    pub(super) fn async_file(&self) -> Request {
        self.request(object::ASYNC_EVENT, method::ASYNC_EVENT_ALLOC)
            .with(attr::ASYNC_FD, Argument::NewFd)
    }

    /// A write command with room for so many bytes.
    pub(super) fn write(&self, command: u32, request: &[u8], room: usize) -> Request {
        self.request(object::DEVICE, method::DEVICE_INVOKE_WRITE)
            .with(attr::CORE_IN, Argument::In(request.to_vec()))
            .with(attr::CORE_OUT, Argument::Out(room))
            .with(attr::WRITE_CMD, Argument::Const(u64::from(command)))
    }

    /// P1.
    pub(super) fn query_device(&self) -> Request {
        let whole = size_of::<wire::ExQueryDeviceResp>();
        self.write(write_cmd::EX_QUERY_DEVICE, &[0; 8], whole)
    }

    pub(super) fn query_port(&self, port: u64) -> Request {
        self.request(object::DEVICE, method::DEVICE_QUERY_PORT)
            .with(attr::PORT_NUM, Argument::Const(port))
            .with(
                attr::PORT_RESP,
                Argument::Out(size_of::<wire::QueryPortResp>()),
            )
    }

    /// P3.
    pub(super) fn alloc_pd(&self) -> Request {
        self.write(write_cmd::ALLOC_PD, &[0; 8], 4)
    }

    pub(super) fn pd(&self) -> Result<u32, Refused> {
        let answer = self.given("ALLOC_PD", self.alloc_pd())?;
        Ok(answer.number(attr::CORE_OUT, 0).unwrap_or_default())
    }

    /// R5.
    pub(super) fn reg_mr(&self, request: wire::RegMr) -> Request {
        let room = size_of::<wire::RegMrResp>();
        self.write(write_cmd::REG_MR, request.as_bytes(), room)
    }

    /// Of a page of a PD.
    pub(super) fn mr(&self, pd: u32) -> Result<wire::RegMr, Refused> {
        let start = self.memory(PAGE)?;
        Ok(wire::RegMr {
            response: 0,
            start,
            length: PAGE as u64,
            hca_va: start,
            pd_handle: pd,
            access_flags: 1,
        })
    }

    /// R0.
    pub(super) fn create_comp_channel(&self) -> Request {
        self.write(write_cmd::CREATE_COMP_CHANNEL, &[0; 8], 4)
    }

    pub(super) fn channel(&self) -> Result<OwnedFd, Refused> {
        let answer = self.given("CREATE_COMP_CHANNEL", self.create_comp_channel())?;
        let fd = answer.number(attr::CORE_OUT, 0).unwrap_or_default();
        // SAFETY: the answer of a successful call is a new file that is the caller's.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    pub(super) fn async_events(&self) -> Result<OwnedFd, Refused> {
        let answer = self.given("ASYNC_EVENT ALLOC", self.async_file())?;
        answer
            .fd
            .ok_or(Refused::Before("ASYNC_EVENT ALLOC", Errno::EBADF))
    }

    /// T1, with a ring of the size that libmana gives it.
    pub(super) fn create_cq(&self, entries: u32) -> Result<Request, Refused> {
        let bytes = (entries as usize).min(1 << 16) * CQE;
        let ring = self.memory(bytes)?;
        Ok(self.create_cq_at(entries, ring))
    }

    /// T1, with its ring at an address.
    pub(super) fn create_cq_at(&self, entries: u32, ring: u64) -> Request {
        let driver = wire::CreateCq {
            buf_addr: ring,
            ..wire::CreateCq::default()
        };
        self.request(object::CQ, method::CQ_CREATE)
            .with(attr::CQ_HANDLE, Argument::NewHandle)
            .with(attr::CQ_RESP_CQE, Argument::Out(4))
            .with(attr::CQ_CQE, number(entries))
            .with(attr::CQ_USER_HANDLE, Argument::In(vec![0; 8]))
            .with(attr::CQ_COMP_VECTOR, number(0))
            .with(attr::UHW_IN, Argument::In(driver.as_bytes().to_vec()))
            .with(attr::UHW_OUT, Argument::Out(8))
    }

    /// Of 64 entries.
    pub(super) fn cq(&self) -> Result<u32, Refused> {
        Ok(self.given("CQ CREATE", self.create_cq(64)?)?.handle)
    }

    /// R2, of one page.
    pub(super) fn create_wq(&self, pd: u32, cq: u32) -> Result<Request, Refused> {
        let ring = self.memory(PAGE)?;
        Ok(self.create_wq_at(pd, cq, ring, PAGE as u32))
    }

    /// R2, with its ring at an address.
    pub(super) fn create_wq_at(&self, pd: u32, cq: u32, ring: u64, bytes: u32) -> Request {
        let driver = wire::CreateWq {
            wq_buf_addr: ring,
            wq_buf_size: bytes,
            reserved: 0,
        };
        self.request(object::WQ, method::WQ_CREATE)
            .with(attr::WQ_HANDLE, Argument::NewHandle)
            .with(attr::WQ_USER_HANDLE, Argument::In(vec![0; 8]))
            .with(attr::WQ_PD, Argument::Handle(pd))
            .with(attr::WQ_CQ, Argument::Handle(cq))
            .with(attr::WQ_TYPE, Argument::Const(0))
            .with(attr::WQ_MAX_WR, number(128))
            .with(attr::WQ_MAX_SGE, number(1))
            .with(attr::WQ_FLAGS, number(0))
            .with(attr::WQ_RESP_MAX_WR, Argument::Out(4))
            .with(attr::WQ_RESP_MAX_SGE, Argument::Out(4))
            .with(attr::WQ_RESP_WQ_NUM, Argument::Out(4))
            .with(attr::UHW_IN, Argument::In(driver.as_bytes().to_vec()))
    }

    pub(super) fn wq(&self, pd: u32) -> Result<u32, Refused> {
        let request = self.create_wq(pd, self.cq()?)?;
        Ok(self.given("WQ CREATE", request)?.handle)
    }

    /// R3.
    pub(super) fn create_table(&self, log: u32, wqs: &[u32]) -> Request {
        let mut words = vec![0, log];
        words.extend_from_slice(wqs);
        if words.len() % 2 != 0 {
            words.push(0);
        }
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let room = size_of::<wire::CreateRwqIndTblResp>();
        self.write(write_cmd::EX_CREATE_RWQ_IND_TBL, &bytes, room)
    }

    /// A table with these work queues.
    pub(super) fn table(&self, wqs: &[u32]) -> Result<u32, Refused> {
        let request = self.create_table(wqs.len().ilog2(), wqs);
        let answer = self.given("EX CREATE_RWQ_IND_TBL", request)?;
        Ok(answer.number(attr::CORE_OUT, 8).unwrap_or_default())
    }

    /// T2: a ring of one page.
    pub(super) fn raw(&self) -> Result<wire::CreateQp, Refused> {
        Ok(wire::CreateQp {
            sq_buf_addr: self.memory(PAGE)?,
            sq_buf_size: PAGE as u32,
            port: 1,
        })
    }

    /// T2.
    pub(super) fn create_raw_qp(&self, pd: u32, cq: u32, driver: wire::CreateQp) -> Request {
        let cap = wire::QpCap {
            max_send_wr: 64,
            max_send_sge: 15,
            ..wire::QpCap::default()
        };
        self.create_qp(pd, cap, driver.as_bytes(), 16)
            .with(attr::QP_SEND_CQ, Argument::Handle(cq))
            .with(attr::QP_RECV_CQ, Argument::Handle(cq))
    }

    fn create_qp(&self, pd: u32, cap: wire::QpCap, driver: &[u8], room: usize) -> Request {
        self.request(object::QP, method::QP_CREATE)
            .with(attr::QP_PD, Argument::Handle(pd))
            .with(attr::QP_HANDLE, Argument::NewHandle)
            .with(attr::QP_TYPE, Argument::Const(QPT_RAW_PACKET))
            .with(attr::QP_USER_HANDLE, Argument::In(vec![0; 8]))
            .with(attr::QP_CAP, Argument::In(cap.as_bytes().to_vec()))
            .with(attr::QP_RESP_CAP, Argument::Out(size_of::<wire::QpCap>()))
            .with(attr::QP_RESP_QP_NUM, Argument::Out(4))
            .with(attr::UHW_IN, Argument::In(driver.to_vec()))
            .with(attr::UHW_OUT, Argument::Out(room))
    }

    /// A raw QP on port 1, with a CQ of its own: handles of the CQ and of the QP.
    pub(super) fn sender(&self, pd: u32) -> Result<(u32, u32), Refused> {
        let cq = self.cq()?;
        let request = self.create_raw_qp(pd, cq, self.raw()?);
        Ok((cq, self.given("QP CREATE", request)?.handle))
    }

    /// What an RSS QP is made with on port 1.
    pub(super) fn rss() -> wire::CreateQpRss {
        wire::CreateQpRss {
            rx_hash_fields_mask: 3,
            rx_hash_function: HASH_TOEPLITZ,
            reserved: [0; 7],
            rx_hash_key_len: 40,
            rx_hash_key: [0x5A; 40],
            port: 1,
        }
    }

    /// R4.
    pub(super) fn create_rss_qp(&self, pd: u32, table: u32, driver: wire::CreateQpRss) -> Request {
        let room = size_of::<wire::CreateQpRssResp>();
        self.create_qp(pd, wire::QpCap::default(), driver.as_bytes(), room)
            .with(attr::QP_IND_TABLE, Argument::Handle(table))
    }

    /// Any destroy.
    pub(super) fn destroy(&self, object: u16, handle: u32) -> Request {
        let (method, room) = match object {
            object::PD | object::RWQ_IND_TBL => (0, 0),
            object::MR => (1, 0),
            object::CQ => (1, size_of::<wire::DestroyCqResp>()),
            _ => (1, 4),
        };
        let request = self
            .request(object, method)
            .with(attr::DESTROY_HANDLE, Argument::Handle(handle));
        match room {
            0 => request,
            room => request.with(attr::DESTROY_RESP, Argument::Out(room)),
        }
    }
}

/// Four bytes in.
pub(super) fn number(value: u32) -> Argument {
    Argument::In(value.to_ne_bytes().to_vec())
}
