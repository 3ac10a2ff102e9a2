//! A machine for tests that plays the kernel's part of the conversation: it records every call,
//! answers as reference/uverbs-boundary.md §2 says, and fails where a test wants it to. It knows
//! which objects stand on which, and refuses to destroy one that is in use.

use std::collections::HashMap;
use std::io::{PipeWriter, pipe};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use dma_memory::{HugePages, Region, RegionOptions, Segment};
use uverbs_abi::ids::{attr, method, object, write_cmd};
use uverbs_abi::{
    Attribute, Call, DoorbellKind, Errno, IbDevice, Netdev, System, SystemError, SystemKind,
    Transport, Value, wire,
};
use zerocopy::IntoBytes;

use crate::linux::ioctl::Command;
use crate::{Context, ProtectionDomain};

/// One recorded call.
pub(crate) struct Recorded {
    /// As the ioctl would carry it.
    pub(crate) bytes: Vec<u8>,
    /// Contents of its inputs by attribute id.
    pub(crate) inputs: HashMap<u16, Vec<u8>>,
}

/// What the machine does and has done.
pub(crate) struct Script {
    /// The driver id that the machine accepts.
    pub(crate) driver_id: u32,
    /// What EX QUERY_DEVICE answers.
    pub(crate) attributes: wire::ExQueryDeviceResp,
    /// What the raw queue pair's driver data answers.
    pub(crate) send_queue: wire::CreateQpResp,
    /// What the RSS queue pair's driver data answers, besides ids counted from 100 and 200.
    pub(crate) spoil_rss: fn(&mut wire::CreateQpRssResp),
    /// Errno for a call by name.
    pub(crate) fail: HashMap<&'static str, Errno>,
    /// Errno for the n-th call, from 0.
    pub(crate) fail_nth: Option<(usize, Errno)>,
    /// Names of all calls so far, with `close` at the end.
    pub(crate) log: Vec<String>,
    pub(crate) calls: HashMap<String, Recorded>,
    /// Regions that must be alive when the context is closed: counted in `alive_at_close`.
    pub(crate) watched: Vec<Weak<Region>>,
    pub(crate) alive_at_close: usize,
    /// Where events are written.
    pub(crate) async_events: Option<PipeWriter>,
    pub(crate) completion_events: Option<PipeWriter>,
    /// Live objects by (object, handle), with the handles they stand on.
    live: HashMap<(u16, u32), Vec<(u16, u32)>>,
    next_handle: u32,
}

/// A machine with one device, `mana_0`.
pub(crate) struct Machine {
    pub(crate) device: IbDevice,
    script: Arc<Mutex<Script>>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut attributes = wire::ExQueryDeviceResp {
            response_length: 304,
            ..Default::default()
        };
        attributes.base.phys_port_cnt = 2;
        attributes.base.max_qp_wr = 2048;
        let script = Script {
            driver_id: 20,
            attributes,
            send_queue: wire::CreateQpResp {
                sqid: 11,
                cqid: 12,
                tx_vp_offset: 13,
                reserved: 0,
            },
            spoil_rss: |_| {},
            fail: HashMap::new(),
            fail_nth: None,
            log: Vec::new(),
            calls: HashMap::new(),
            watched: Vec::new(),
            alive_at_close: 0,
            async_events: None,
            completion_events: None,
            live: HashMap::new(),
            next_handle: 1,
        };
        Self {
            device: IbDevice {
                name: "mana_0".to_owned(),
                node: "uverbs0".to_owned(),
                pci: "7870:00:00.0".parse().unwrap(),
                vendor_id: 0x1414,
                device_id: 0x00ba,
                driver_id: Some(20),
                numa_node: None,
            },
            script: Arc::new(Mutex::new(script)),
        }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn context(&self) -> Context {
        Context::open(self, &self.device).unwrap()
    }

    pub(crate) fn pd(&self) -> ProtectionDomain {
        self.context().alloc_pd().unwrap()
    }

    /// Takes the names of the calls so far.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.script().log)
    }

    /// Objects that were created and not destroyed.
    pub(crate) fn live(&self) -> usize {
        self.script().live.len()
    }
}

impl System for Machine {
    fn kind(&self) -> SystemKind {
        SystemKind::Model
    }

    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        Ok(vec![self.device.clone()])
    }

    fn netdevs(&self, _device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
        Ok(Vec::new())
    }

    fn open(&self, _device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
        Ok(Box::new(Node {
            script: Arc::clone(&self.script),
            cell: Box::new(AtomicU64::new(0)),
        }))
    }
}

struct Node {
    script: Arc<Mutex<Script>>,
    cell: Box<AtomicU64>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut script = self.script.lock().unwrap();
        script.log.push("close".to_owned());
        let alive = script
            .watched
            .iter()
            .filter(|region| region.strong_count() > 0);
        script.alive_at_close = alive.count();
        script.live.clear();
    }
}

// SAFETY: the cell is an aligned atomic that lives as long as the node, and nothing but `invoke`
// writes memory.
unsafe impl Transport for Node {
    unsafe fn invoke(&self, call: Call, attributes: &mut [Attribute<'_>]) -> Result<(), Errno> {
        self.script.lock().unwrap().play(call, attributes)
    }

    fn doorbell(&self, _kind: DoorbellKind, _queue_id: u32) -> Result<NonNull<u64>, Errno> {
        self.script.lock().unwrap().step("doorbell")?;
        Ok(NonNull::from_ref(&*self.cell).cast())
    }
}

impl Script {
    /// Enters a call in the log; the error that the test wants from it.
    fn step(&mut self, name: &str) -> Result<(), Errno> {
        let nth = self.log.len();
        self.log.push(name.to_owned());
        match (self.fail.get(name), self.fail_nth) {
            (Some(errno), _) => Err(*errno),
            (None, Some((n, errno))) if n == nth => Err(errno),
            _ => Ok(()),
        }
    }

    fn play(&mut self, call: Call, attributes: &mut [Attribute<'_>]) -> Result<(), Errno> {
        let inputs: HashMap<u16, Vec<u8>> = (attributes.iter())
            .filter_map(|attribute| match &attribute.value {
                Value::In(bytes) => Some((attribute.id, bytes.to_vec())),
                Value::Const(value) => Some((attribute.id, value.as_bytes().to_vec())),
                _ => None,
            })
            .collect();
        let command = inputs
            .get(&attr::WRITE_CMD)
            .map(|bytes| bytes[0..4].to_vec());
        let command = command.map(|bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
        let table = attributes
            .iter()
            .any(|attribute| attribute.id == attr::QP_IND_TABLE);
        let name = name(call, command, table);
        let recorded = Recorded {
            bytes: Command::lower(call, attributes)?.as_bytes().to_vec(),
            inputs: inputs.clone(),
        };
        self.calls.insert(name.to_owned(), recorded);
        self.step(name)?;
        if call.driver_id != self.driver_id {
            return Err(Errno::EINVAL);
        }
        if name == "probe" {
            return Err(Errno::ENOSPC);
        }
        if name.starts_with("destroy") {
            return self.destroy(call.object, handle(attributes, attr::DESTROY_HANDLE));
        }
        self.create(name, call.object, attributes, &inputs)
    }

    fn create(
        &mut self,
        name: &str,
        object: u16,
        attributes: &mut [Attribute<'_>],
        inputs: &HashMap<u16, Vec<u8>>,
    ) -> Result<(), Errno> {
        let below = |kinds: &[(u16, u16)]| -> Vec<(u16, u32)> {
            (kinds.iter())
                .map(|&(object, id)| (object, handle(attributes, id)))
                .collect()
        };
        match name {
            "get context" => out(attributes, attr::CONTEXT_NUM_COMP_VECTORS, &8u32),
            "alloc async event" => {
                let (reader, writer) = pipe().unwrap();
                self.async_events = Some(writer);
                for attribute in attributes {
                    attribute.value =
                        Value::NewFd(Some(OwnedFd::from(reader.try_clone().unwrap())));
                }
            }
            "query device" => {
                let answer = self.attributes;
                out(attributes, attr::CORE_OUT, &answer);
            }
            "query port" => {
                let answer = wire::QueryPortResp {
                    state: inputs[&attr::PORT_NUM][0],
                    ..Default::default()
                };
                out(attributes, attr::PORT_RESP, &answer);
            }
            "create channel" => {
                let (reader, writer) = pipe().unwrap();
                self.completion_events = Some(writer);
                let fd = reader.into_raw_fd() as u32;
                out(attributes, attr::CORE_OUT, &fd);
            }
            "alloc pd" => {
                let handle = self.add(object::PD, vec![]);
                out(attributes, attr::CORE_OUT, &handle);
            }
            "register memory" => {
                let pd = &inputs[&attr::CORE_IN][32..36];
                let pd = u32::from_ne_bytes(pd.try_into().unwrap());
                let answer = wire::RegMrResp {
                    mr_handle: self.add(object::MR, vec![(object::PD, pd)]),
                    lkey: 77,
                    rkey: 78,
                };
                out(attributes, attr::CORE_OUT, &answer);
            }
            "create table" => {
                let wqs = inputs[&attr::CORE_IN][8..].chunks_exact(4);
                let log = inputs[&attr::CORE_IN][4];
                let wqs = wqs.map(|wq| u32::from_ne_bytes(wq.try_into().unwrap()));
                let below = wqs.take(1 << log).map(|wq| (object::WQ, wq)).collect();
                let answer = wire::CreateRwqIndTblResp {
                    comp_mask: 0,
                    response_length: 16,
                    ind_tbl_handle: self.add(object::RWQ_IND_TBL, below),
                    ind_tbl_num: 0,
                };
                out(attributes, attr::CORE_OUT, &answer);
            }
            "create cq" => {
                let handle = self.add(object, vec![]);
                new_handle(attributes, handle);
                out(attributes, attr::UHW_OUT, &[u32::MAX, 0]);
            }
            "create send queue" => {
                let below = below(&[(object::PD, attr::QP_PD), (object::CQ, attr::QP_SEND_CQ)]);
                let handle = self.add(object, below);
                new_handle(attributes, handle);
                let answer = self.send_queue;
                out(attributes, attr::UHW_OUT, &answer);
            }
            "create work queue" => {
                let below = below(&[(object::PD, attr::WQ_PD), (object::CQ, attr::WQ_CQ)]);
                let handle = self.add(object, below);
                new_handle(attributes, handle);
            }
            "create rss" => {
                let below = below(&[
                    (object::PD, attr::QP_PD),
                    (object::RWQ_IND_TBL, attr::QP_IND_TABLE),
                ]);
                let mut answer = wire::CreateQpRssResp {
                    num_entries: self.live[&below[1]].len() as u64,
                    ..Default::default()
                };
                for (n, entry) in (0..answer.num_entries as u32).zip(&mut answer.entries) {
                    (entry.wqid, entry.cqid) = (100 + n, 200 + n);
                }
                (self.spoil_rss)(&mut answer);
                let handle = self.add(object, below);
                new_handle(attributes, handle);
                out(attributes, attr::UHW_OUT, &answer);
            }
            name => panic!("no answer is written for {name}"),
        }
        Ok(())
    }

    fn add(&mut self, object: u16, below: Vec<(u16, u32)>) -> u32 {
        for object in &below {
            assert!(self.live.contains_key(object), "{object:?} does not exist");
        }
        let handle = self.next_handle;
        self.next_handle += 1;
        self.live.insert((object, handle), below);
        handle
    }

    fn destroy(&mut self, object: u16, handle: u32) -> Result<(), Errno> {
        let object = (object, handle);
        if self.live.values().any(|below| below.contains(&object)) {
            return Err(Errno::EBUSY);
        }
        self.live.remove(&object).map(drop).ok_or(Errno::ENOENT)
    }
}

fn name(call: Call, command: Option<u32>, table: bool) -> &'static str {
    match (call.object, call.method, command) {
        (object::DEVICE, method::DEVICE_INVOKE_WRITE, Some(command)) => match command {
            write_cmd::QUERY_DEVICE => "probe",
            write_cmd::EX_QUERY_DEVICE => "query device",
            write_cmd::ALLOC_PD => "alloc pd",
            write_cmd::REG_MR => "register memory",
            write_cmd::CREATE_COMP_CHANNEL => "create channel",
            write_cmd::EX_CREATE_RWQ_IND_TBL => "create table",
            _ => panic!("write command {command:#x}"),
        },
        (object::DEVICE, method::DEVICE_GET_CONTEXT, _) => "get context",
        (object::DEVICE, method::DEVICE_QUERY_PORT, _) => "query port",
        (object::ASYNC_EVENT, method::ASYNC_EVENT_ALLOC, _) => "alloc async event",
        (object::CQ, method::CQ_CREATE, _) => "create cq",
        (object::CQ, method::CQ_DESTROY, _) => "destroy cq",
        (object::QP, method::QP_CREATE, _) if table => "create rss",
        (object::QP, method::QP_CREATE, _) => "create send queue",
        (object::QP, method::QP_DESTROY, _) => "destroy qp",
        (object::WQ, method::WQ_CREATE, _) => "create work queue",
        (object::WQ, method::WQ_DESTROY, _) => "destroy wq",
        (object::RWQ_IND_TBL, method::RWQ_IND_TBL_DESTROY, _) => "destroy table",
        (object::MR, method::MR_DESTROY, _) => "destroy mr",
        (object::PD, method::PD_DESTROY, _) => "destroy pd",
        _ => panic!("{call:?}"),
    }
}

fn handle(attributes: &[Attribute<'_>], id: u16) -> u32 {
    let found = attributes.iter().find(|attribute| attribute.id == id);
    match found.map(|attribute| &attribute.value) {
        Some(Value::Handle(handle)) => *handle,
        other => panic!("attribute {id}: {other:?}"),
    }
}

fn new_handle(attributes: &mut [Attribute<'_>], handle: u32) {
    for attribute in attributes {
        if let Value::NewHandle(value) = &mut attribute.value {
            *value = handle;
        }
    }
}

fn out<T: IntoBytes + zerocopy::Immutable>(attributes: &mut [Attribute<'_>], id: u16, answer: &T) {
    let found = attributes.iter_mut().find(|attribute| attribute.id == id);
    match found.map(|attribute| &mut attribute.value) {
        Some(Value::Out(bytes)) => bytes.copy_from_slice(answer.as_bytes()),
        other => panic!("attribute {id}: {other:?}"),
    }
}

/// A region of 64 KiB.
pub(crate) fn region() -> Arc<Region> {
    let options = RegionOptions {
        huge: HugePages::Never,
        ..Default::default()
    };
    Arc::new(Region::allocate("test", 64 << 10, &options).unwrap())
}

/// A segment of `len` bytes in a region of its own, which dies with the segment.
pub(crate) fn ring(len: usize) -> Segment {
    Segment::new(&region(), 0, len).unwrap()
}
