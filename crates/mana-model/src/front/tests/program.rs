//! A program that talks to a transport with hand-built attributes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use uverbs_abi::ids::{attr, method, object, write_cmd};
use uverbs_abi::{Attribute, Call, DoorbellKind, Errno, Transport, Value, wire};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::model::Model;

/// Zeroed, page-aligned memory that is only reached as 64-bit atomic words.
pub(super) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a small size");
        assert!(bytes > 0);
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Self { base, layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `base` came from the global allocator with this layout and is freed once, when no
        // `Ring` is left. A program keeps one beyond its transport, so no device reaches it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A piece of memory that the program and its test share.
#[derive(Clone)]
pub(super) struct Ring(Rc<Memory>);

impl Ring {
    pub(super) fn address(&self) -> u64 {
        self.0.base.as_ptr() as u64
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.0.layout.size() / 8);
        // SAFETY: inside the allocation, which `self` keeps alive and which is aligned to 4096; all
        // access, the device's too, is atomic.
        unsafe { AtomicU64::from_ptr(self.0.base.as_ptr().cast::<u64>().add(index)) }
    }

    pub(super) fn store(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes bytes, padded with zeros to whole words, from byte `at` (a multiple of 8).
    pub(super) fn store_bytes(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.store(at / 8 + index, u64::from_le_bytes(word));
        }
    }

    /// Reads `length` bytes from byte `at` (a multiple of 8).
    pub(super) fn load_bytes(&self, at: usize, length: usize) -> Vec<u8> {
        let words = (at / 8..(at + length).div_ceil(8)).map(|index| self.load(index));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    }
}

/// The number of a CQ where the kernel answers none.
pub(super) const UNANSWERED: u32 = 0xA5A5;

/// One open context and the memory it gave to the device.
pub(super) struct Program {
    // Dropped before the memory.
    pub(super) transport: Box<dyn Transport>,
    pub(super) driver_id: u32,
    memory: RefCell<Vec<Ring>>,
}

/// What a CQ is created with.
#[derive(Clone, Copy)]
pub(super) struct CqSpec {
    pub(super) entries: u32,
    pub(super) address: u64,
    pub(super) user_handle: u64,
    pub(super) channel: Option<RawFd>,
    pub(super) vector: u32,
    pub(super) event_fd: Option<RawFd>,
    pub(super) flags: u16,
}

/// What a raw QP is created with.
#[derive(Clone, Copy)]
pub(super) struct RawSpec {
    pub(super) pd: u32,
    pub(super) cq: u32,
    pub(super) address: u64,
    pub(super) bytes: u32,
    pub(super) port: u32,
    pub(super) max_wr: u32,
    pub(super) max_sge: u32,
}

/// What an RSS QP is created with.
#[derive(Clone, Copy)]
pub(super) struct RssSpec {
    pub(super) pd: u32,
    pub(super) table: u32,
    pub(super) port: u32,
    pub(super) function: u8,
    pub(super) key: [u8; 40],
    pub(super) key_length: u32,
    pub(super) cap: wire::QpCap,
}

impl Program {
    /// Opens the ib device `name` and does nothing else.
    pub(super) fn open(model: &Model, name: &str) -> Self {
        let system = model.system();
        let devices = system.ib_devices().unwrap();
        let device = devices.iter().find(|device| device.name == name).unwrap();
        Self {
            transport: system.open(device).unwrap(),
            driver_id: device.driver_id.unwrap_or(20),
            memory: RefCell::default(),
        }
    }

    /// Opens the machine's first Ethernet device and gets a context.
    pub(super) fn start(model: &Model) -> Self {
        let system = model.system();
        let devices = system.ib_devices().unwrap();
        let split = devices.iter().any(|device| device.name == "manae_0");
        let program = Self::open(model, if split { "manae_0" } else { "mana_0" });
        program.get_context().unwrap();
        program
    }

    pub(super) fn memory(&self, bytes: usize) -> Ring {
        let ring = Ring(Rc::new(Memory::new(bytes)));
        self.memory.borrow_mut().push(ring.clone());
        ring
    }

    pub(super) fn call(
        &self,
        object: u16,
        method: u16,
        attributes: &mut [Attribute<'_>],
    ) -> Result<(), Errno> {
        let call = Call {
            driver_id: self.driver_id,
            object,
            method,
        };
        // SAFETY: every address in a test's attributes points into `self.memory`, which is only
        // reached atomically and outlives the transport.
        unsafe { self.transport.invoke(call, attributes) }
    }

    pub(super) fn doorbell(&self, kind: DoorbellKind, queue: u32, value: u64) {
        self.register(kind, queue).store(value, Ordering::Release);
    }

    pub(super) fn register(&self, kind: DoorbellKind, queue: u32) -> &AtomicU64 {
        let register = self.transport.doorbell(kind, queue).unwrap();
        // SAFETY: the transport promises an aligned register that lives as long as itself, and
        // `self` borrows it for that long.
        unsafe { AtomicU64::from_ptr(register.as_ptr()) }
    }

    /// O2.
    pub(super) fn get_context(&self) -> Result<u32, Errno> {
        let mut vectors = [0; 4];
        let mut support = [0xFF; 8];
        self.call(
            object::DEVICE,
            method::DEVICE_GET_CONTEXT,
            &mut [
                Attribute::new(0, Value::Out(&mut vectors)),
                Attribute::new(1, Value::Out(&mut support)),
            ],
        )?;
        assert_eq!(support, [0; 8]);
        Ok(u32::from_ne_bytes(vectors))
    }

    /// O4.
    pub(super) fn async_file(&self) -> Result<OwnedFd, Errno> {
        let mut attributes = [Attribute::new(0, Value::NewFd(None))];
        self.call(
            object::ASYNC_EVENT,
            method::ASYNC_EVENT_ALLOC,
            &mut attributes,
        )?;
        match attributes {
            [
                Attribute {
                    value: Value::NewFd(Some(fd)),
                    ..
                },
            ] => Ok(fd),
            _ => panic!("no fd in {attributes:?}"),
        }
    }

    /// A write command with an answer of the type's size.
    pub(super) fn write<T: FromBytes + IntoBytes>(
        &self,
        command: u32,
        request: &[u8],
    ) -> Result<T, Errno> {
        let mut answer = T::new_zeroed();
        answer.as_mut_bytes().fill(0xFF);
        self.call(
            object::DEVICE,
            method::DEVICE_INVOKE_WRITE,
            &mut [
                Attribute::new(attr::CORE_IN, Value::In(request)),
                Attribute::new(attr::CORE_OUT, Value::Out(answer.as_mut_bytes())),
                Attribute::new(attr::WRITE_CMD, Value::Const(u64::from(command))),
            ],
        )?;
        Ok(answer)
    }

    /// P1.
    pub(super) fn query_device(&self) -> Result<wire::ExQueryDeviceResp, Errno> {
        self.write(write_cmd::EX_QUERY_DEVICE, &[0; 8])
    }

    pub(super) fn query_port(&self, port: u64) -> Result<wire::QueryPortResp, Errno> {
        let mut answer = wire::QueryPortResp::default();
        self.call(
            object::DEVICE,
            method::DEVICE_QUERY_PORT,
            &mut [
                Attribute::new(0, Value::Const(port)),
                Attribute::new(1, Value::Out(answer.as_mut_bytes())),
            ],
        )?;
        Ok(answer)
    }

    /// P3.
    pub(super) fn alloc_pd(&self) -> Result<u32, Errno> {
        let answer: wire::AllocPdResp = self.write(write_cmd::ALLOC_PD, &[0; 8])?;
        Ok(answer.pd_handle)
    }

    /// R5.
    pub(super) fn reg_mr(
        &self,
        pd: u32,
        start: u64,
        length: u64,
        access: u32,
    ) -> Result<wire::RegMrResp, Errno> {
        let request = wire::RegMr {
            response: 0,
            start,
            length,
            hca_va: start,
            pd_handle: pd,
            access_flags: access,
        };
        self.write(write_cmd::REG_MR, request.as_bytes())
    }

    /// R0.
    pub(super) fn channel(&self) -> Result<OwnedFd, Errno> {
        let answer: wire::CreateCompChannelResp =
            self.write(write_cmd::CREATE_COMP_CHANNEL, &[0; 8])?;
        // SAFETY: the answer of a successful call is a new file that is the caller's.
        Ok(unsafe { OwnedFd::from_raw_fd(answer.fd as RawFd) })
    }

    pub(super) fn cq_spec(&self, entries: u32) -> CqSpec {
        CqSpec {
            entries,
            address: self.memory((entries as usize * 64).max(64)).address(),
            user_handle: 0,
            channel: None,
            vector: 0,
            event_fd: None,
            flags: 0,
        }
    }

    /// T1: handle and `cqid`.
    pub(super) fn create_cq(&self, spec: CqSpec) -> Result<(u32, u32), Errno> {
        let mut granted = [0; 4];
        let mut answer = wire::CreateCqResp {
            cqid: UNANSWERED,
            reserved: 0,
        };
        let driver = wire::CreateCq {
            buf_addr: spec.address,
            flags: spec.flags,
            reserved0: 0,
            reserved1: 0,
        };
        let user_handle = spec.user_handle.to_ne_bytes();
        let (entries, vector) = (spec.entries.to_ne_bytes(), spec.vector.to_ne_bytes());
        let mut attributes = vec![
            Attribute::new(0, Value::NewHandle(u32::MAX)),
            Attribute::new(6, Value::Out(&mut granted)),
            Attribute::new(1, Value::In(&entries)),
            Attribute::new(2, Value::In(&user_handle)),
            Attribute::new(4, Value::In(&vector)),
            Attribute::new(attr::UHW_IN, Value::In(driver.as_bytes())),
            Attribute::new(attr::UHW_OUT, Value::Out(answer.as_mut_bytes())),
        ];
        if let Some(fd) = spec.channel {
            attributes.push(Attribute::new(3, Value::Fd(fd)));
        }
        if let Some(fd) = spec.event_fd {
            attributes.push(Attribute::optional(7, Value::Fd(fd)));
        }
        self.call(object::CQ, method::CQ_CREATE, &mut attributes)?;
        let handle = new_handle(&attributes);
        assert_eq!(granted, [0; 4], "mana_ib tells no number of entries");
        Ok((handle, answer.cqid))
    }

    /// A CQ of 64 entries.
    pub(super) fn cq(&self) -> u32 {
        self.create_cq(self.cq_spec(64)).unwrap().0
    }

    pub(super) fn raw_spec(&self, pd: u32, cq: u32) -> RawSpec {
        RawSpec {
            pd,
            cq,
            address: self.memory(4096).address(),
            bytes: 4096,
            port: 1,
            max_wr: 64,
            max_sge: 15,
        }
    }

    /// T2.
    pub(super) fn create_raw_qp(&self, spec: RawSpec) -> Result<(u32, wire::CreateQpResp), Errno> {
        let driver = wire::CreateQp {
            sq_buf_addr: spec.address,
            sq_buf_size: spec.bytes,
            port: spec.port,
        };
        let cap = wire::QpCap {
            max_send_wr: spec.max_wr,
            max_send_sge: spec.max_sge,
            ..wire::QpCap::default()
        };
        let cqs = [
            Attribute::new(4, Value::Handle(spec.cq)),
            Attribute::new(5, Value::Handle(spec.cq)),
        ];
        self.create_qp(spec.pd, cqs, &cap, driver.as_bytes())
    }

    /// A QP of raw packets with whatever else it needs.
    pub(super) fn create_qp<'a, T: FromBytes + IntoBytes + Immutable>(
        &self,
        pd: u32,
        others: impl IntoIterator<Item = Attribute<'a>>,
        cap: &wire::QpCap,
        driver: &[u8],
    ) -> Result<(u32, T), Errno> {
        let mut answer = T::new_zeroed();
        answer.as_mut_bytes().fill(0xFF);
        let mut granted = wire::QpCap::default();
        let mut number = [0xFF; 4];
        let handle;
        {
            let mut attributes = vec![
                Attribute::new(2, Value::Handle(pd)),
                Attribute::new(0, Value::NewHandle(u32::MAX)),
                Attribute::new(9, Value::Const(8)),
                Attribute::new(7, Value::In(&[0; 8])),
                Attribute::new(8, Value::In(cap.as_bytes())),
                Attribute::new(13, Value::Out(granted.as_mut_bytes())),
                Attribute::new(14, Value::Out(&mut number)),
                Attribute::new(attr::UHW_IN, Value::In(driver)),
                Attribute::new(attr::UHW_OUT, Value::Out(answer.as_mut_bytes())),
            ];
            // The lists differ in lifetime only.
            for other in others {
                if let Value::Handle(object) = other.value {
                    attributes.push(Attribute::new(other.id, Value::Handle(object)));
                }
            }
            self.call(object::QP, method::QP_CREATE, &mut attributes)?;
            handle = new_handle(&attributes);
        }
        assert_eq!(&granted, cap);
        Ok((handle, answer))
    }

    /// R2, a ring of one page.
    pub(super) fn wq(&self, pd: u32, cq: u32) -> u32 {
        let ring = self.memory(4096);
        self.create_wq(pd, cq, ring.address(), 4096).unwrap()
    }

    /// R2.
    pub(super) fn create_wq(
        &self,
        pd: u32,
        cq: u32,
        address: u64,
        bytes: u32,
    ) -> Result<u32, Errno> {
        let driver = wire::CreateWq {
            wq_buf_addr: address,
            wq_buf_size: bytes,
            reserved: 0,
        };
        let (mut max_wr, mut max_sge, mut number) = ([0; 4], [0; 4], [0; 4]);
        let mut attributes = [
            Attribute::new(0, Value::NewHandle(u32::MAX)),
            Attribute::new(3, Value::In(&[0; 8])),
            Attribute::new(1, Value::Handle(pd)),
            Attribute::new(2, Value::Handle(cq)),
            Attribute::new(4, Value::Const(0)),
            Attribute::new(6, Value::In(&[128, 0, 0, 0])),
            Attribute::new(7, Value::In(&[1, 0, 0, 0])),
            Attribute::new(8, Value::In(&[0; 4])),
            Attribute::new(9, Value::Out(&mut max_wr)),
            Attribute::new(10, Value::Out(&mut max_sge)),
            Attribute::new(11, Value::Out(&mut number)),
            Attribute::new(attr::UHW_IN, Value::In(driver.as_bytes())),
        ];
        self.call(object::WQ, method::WQ_CREATE, &mut attributes)?;
        let handle = new_handle(&attributes);
        assert_eq!((max_wr, max_sge), ([128, 0, 0, 0], [1, 0, 0, 0]));
        Ok(handle)
    }

    /// R3.
    pub(super) fn create_table(&self, log: u32, wqs: &[u32]) -> Result<u32, Errno> {
        let mut request = vec![0, log];
        request.extend_from_slice(wqs);
        if request.len() % 2 != 0 {
            request.push(0);
        }
        let request: Vec<u8> = request.into_iter().flat_map(u32::to_ne_bytes).collect();
        let answer: wire::CreateRwqIndTblResp =
            self.write(write_cmd::EX_CREATE_RWQ_IND_TBL, &request)?;
        assert!(answer.response_length >= 16);
        Ok(answer.ind_tbl_handle)
    }

    pub(super) fn rss_spec(&self, pd: u32, table: u32) -> RssSpec {
        RssSpec {
            pd,
            table,
            port: 1,
            function: 1,
            key: [0x5A; 40],
            key_length: 40,
            cap: wire::QpCap::default(),
        }
    }

    /// R4.
    pub(super) fn create_rss_qp(
        &self,
        spec: RssSpec,
    ) -> Result<(u32, wire::CreateQpRssResp), Errno> {
        let driver = wire::CreateQpRss {
            rx_hash_fields_mask: 3,
            rx_hash_function: spec.function,
            reserved: [0; 7],
            rx_hash_key_len: spec.key_length,
            rx_hash_key: spec.key,
            port: spec.port,
        };
        let table = [Attribute::new(6, Value::Handle(spec.table))];
        self.create_qp(spec.pd, table, &spec.cap, driver.as_bytes())
    }

    /// Any destroy, with the answer of its object.
    pub(super) fn destroy(&self, object: u16, handle: u32) -> Result<Vec<u8>, Errno> {
        let (method, answer) = match object {
            object::PD => (method::PD_DESTROY, 0),
            object::MR => (method::MR_DESTROY, 0),
            object::RWQ_IND_TBL => (method::RWQ_IND_TBL_DESTROY, 0),
            object::CQ => (method::CQ_DESTROY, 8),
            _ => (method::QP_DESTROY, 4),
        };
        let mut answer = vec![0xFF; answer];
        let mut attributes = vec![Attribute::new(0, Value::Handle(handle))];
        if !answer.is_empty() {
            attributes.push(Attribute::new(1, Value::Out(&mut answer)));
        }
        self.call(object, method, &mut attributes)?;
        Ok(answer)
    }

    /// A PD with a raw QP on port 1: handles of PD, CQ and QP.
    pub(super) fn sender(&self) -> (u32, u32, u32) {
        let pd = self.alloc_pd().unwrap();
        let cq = self.cq();
        let (qp, _) = self.create_raw_qp(self.raw_spec(pd, cq)).unwrap();
        (pd, cq, qp)
    }
}

fn new_handle(attributes: &[Attribute<'_>]) -> u32 {
    let found = attributes
        .iter()
        .find_map(|attribute| match attribute.value {
            Value::NewHandle(handle) => Some(handle),
            _ => None,
        });
    found.expect("the call creates an object")
}
