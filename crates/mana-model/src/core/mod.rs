//! The device: objects, doorbells, and the data path between rings and links.
//!
//! Operations are typed and know nothing of who asks: the uverbs front calls them today. Memory is
//! reached through [`space::DmaSpace`] only.

mod bus;
mod cooling;
mod counters;
mod cq;
mod eq;
mod faults;
mod lso;
mod mr;
mod packet;
mod queue;
mod rx;
mod space;
mod tx;
mod vport;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gdma::doorbell::{CompletionValue, ReceiveValue, SendValue};
use uverbs_abi::DoorbellKind;

pub use self::bus::{BusMemory, BusPages};
pub use self::cooling::{Cooling, ParseCoolingError};
pub use self::counters::{Destinations, Traffic};
use self::cq::CompletionQueue;
pub use self::eq::EventQueue;
use self::mr::MrTable;
use self::queue::WorkQueue;
use self::rx::{Pending, ReceiveQueue, Receiver};
use self::space::ProcessMemory;
pub(crate) use self::space::{DmaSpace, WholeBus};
use self::tx::Sender;
pub(crate) use self::vport::ALL_HASHES;
pub use self::vport::{PortCounters, Steering};
use self::vport::{Resolved, VPort};
use crate::config::DeviceConfig;
use crate::faults::Fault;
use crate::findings::{Finding, FindingKind, Findings, Watch};
use crate::links::Links;

/// A protection domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PdId(pub(crate) u32);

/// A memory region; its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MrId(pub(crate) u32);

/// Memory for a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RegionId(u32);

/// The numbers of a hardware queue and its CQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueIds {
    /// Of the work queue.
    pub wq_id: u32,
    /// Of its completion queue.
    pub cq_id: u32,
}

/// One PCI function.
pub(crate) struct Device {
    ports: Vec<VPort>,
    pds: Vec<PdId>,
    mrs: MrTable,
    regions: BTreeMap<RegionId, DmaSpace>,
    send_queues: Vec<WorkQueue>,
    receive_queues: Vec<Option<ReceiveQueue>>,
    next: NextIds,
    findings: Findings,
    events: Vec<u32>,
    scratch: Vec<u8>,
    cooling: Cooling,
    /// The send queue whose turn is next where a step ended before all had theirs.
    first_sender: usize,
}

/// Bytes that are sent in a step, give or take a packet: whoever waits for the end of a step waits for
/// milliseconds, whatever drivers hand over.
const STEP_BYTES: usize = 32 << 20;

/// Queue ids have 24 bits.
const ID_MASK: u32 = 0xFF_FFFF;

struct NextIds {
    pd: u32,
    region: u32,
    queue: u32,
    cq: u32,
    /// Where ids begin again.
    first: u32,
    /// Behind the last id of a CQ.
    cq_end: u32,
    /// Ids of CQs that others than this device's queues have.
    taken: BTreeSet<u32>,
}

impl NextIds {
    fn new(config: &DeviceConfig) -> Self {
        Self {
            pd: 1,
            region: 1,
            queue: config.first_queue_id,
            cq: config.first_cq_id,
            first: 0,
            cq_end: ID_MASK + 1,
            taken: BTreeSet::new(),
        }
    }
}

impl Device {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        let ports = config.ports.iter().zip(config.vport_offset..);
        Self {
            ports: ports
                .map(|(port, offset)| VPort::new(offset, config.coalescing, port))
                .collect(),
            pds: Vec::new(),
            mrs: MrTable::default(),
            regions: BTreeMap::new(),
            send_queues: Vec::new(),
            receive_queues: Vec::new(),
            next: NextIds::new(config),
            findings: Findings::new(&config.name),
            events: Vec::new(),
            scratch: Vec::new(),
            cooling: Cooling::None,
            first_sender: 0,
        }
    }

    pub(crate) fn create_pd(&mut self) -> PdId {
        let pd = PdId(self.next.pd);
        self.next.pd += 1;
        self.pds.push(pd);
        pd
    }

    pub(crate) fn destroy_pd(&mut self, pd: PdId) {
        self.pds.retain(|other| *other != pd);
    }

    /// Registers the memory at `address`; returns the region and its key.
    ///
    /// # Safety
    ///
    /// That of [`ProcessMemory::new`], until [`Device::destroy_mr`].
    pub(crate) unsafe fn create_mr(
        &mut self,
        pd: PdId,
        address: u64,
        length: u64,
        named: u64,
        access: u32,
    ) -> (MrId, u32) {
        // SAFETY: the caller's promise, passed on.
        let memory = unsafe { ProcessMemory::new(address, length) };
        let key = self.mrs.add(pd, named, access, DmaSpace::Process(memory));
        (MrId(key), key)
    }

    /// Registers memory by whatever it is; returns its key.
    pub(crate) fn add_mr(&mut self, pd: PdId, address: u64, access: u32, space: DmaSpace) -> MrId {
        MrId(self.mrs.add(pd, address, access, space))
    }

    /// Whether a memory region or a queue is in the domain.
    pub(crate) fn uses_pd(&self, pd: PdId) -> bool {
        self.mrs.uses(pd) || self.queues().any(|queue| queue.pd == pd)
    }

    pub(crate) fn has_pd(&self, pd: PdId) -> bool {
        self.pds.contains(&pd)
    }

    pub(crate) fn vport_owner(&self, port: usize) -> Option<(PdId, u32)> {
        self.ports[port].owner
    }

    pub(crate) fn destroy_mr(&mut self, mr: MrId) {
        self.mrs.remove(mr.0);
    }

    /// Takes the memory at `address` for a ring.
    ///
    /// # Safety
    ///
    /// That of [`ProcessMemory::new`], until the region or the queue made of it is destroyed.
    pub(crate) unsafe fn create_dma_region(&mut self, address: u64, length: u64) -> RegionId {
        // SAFETY: the caller's promise, passed on.
        let memory = unsafe { ProcessMemory::new(address, length) };
        self.add_region(DmaSpace::Process(memory))
    }

    /// Takes a stretch of memory for a ring.
    pub(crate) fn add_region(&mut self, space: DmaSpace) -> RegionId {
        let region = RegionId(self.next.region);
        self.next.region += 1;
        self.regions.insert(region, space);
        region
    }

    pub(crate) fn destroy_dma_region(&mut self, region: RegionId) {
        self.regions.remove(&region);
    }

    /// Gives the vPort's queues a domain and a doorbell page; returns the offset for OOBs.
    pub(crate) fn configure_vport_tx(&mut self, port: usize, pd: PdId, context: u32) -> u32 {
        self.ports[port].owner = Some((pd, context));
        self.ports[port].offset
    }

    pub(crate) fn release_vport_tx(&mut self, port: usize) {
        self.ports[port].owner = None;
    }

    /// Turns reception on, or off.
    pub(crate) fn configure_vport_rx(&mut self, port: usize, steering: Option<Steering>) {
        let slot = |id: u32| {
            let mut queues = self.receive_queues.iter();
            queues.position(|queue| queue.as_ref().is_some_and(|queue| queue.work.id == id))
        };
        let resolved = steering.map(|steering| Resolved::new(&steering, slot));
        self.ports[port].steering = resolved;
    }

    /// Makes a send queue of two regions, which it then owns. `None` if their sizes are none for
    /// rings; they are left alone then.
    pub(crate) fn create_send_queue(
        &mut self,
        port: usize,
        context: u32,
        pd: PdId,
        ring: RegionId,
        cq_ring: RegionId,
    ) -> Option<QueueIds> {
        let (ids, queue) = self.create_queue(port, context, pd, ring, cq_ring, true)?;
        self.send_queues.push(queue);
        Some(ids)
    }

    /// Makes a receive queue; see [`Device::create_send_queue`].
    pub(crate) fn create_receive_queue(
        &mut self,
        port: usize,
        context: u32,
        pd: PdId,
        ring: RegionId,
        cq_ring: RegionId,
    ) -> Option<QueueIds> {
        let (ids, work) = self.create_queue(port, context, pd, ring, cq_ring, false)?;
        let queue = Some(ReceiveQueue {
            work,
            pending: Pending::default(),
            dry_since: None,
        });
        match self.receive_queues.iter().position(Option::is_none) {
            Some(slot) => self.receive_queues[slot] = queue,
            None => self.receive_queues.push(queue),
        }
        Some(ids)
    }

    fn create_queue(
        &mut self,
        port: usize,
        context: u32,
        pd: PdId,
        ring: RegionId,
        cq_ring: RegionId,
        is_sq: bool,
    ) -> Option<(QueueIds, WorkQueue)> {
        if ring == cq_ring || !self.regions.get(&ring).is_some_and(WorkQueue::fits) {
            return None;
        }
        let cq_space = self.regions.remove(&cq_ring)?;
        let ids = QueueIds {
            wq_id: self.next_queue_id(),
            cq_id: self.next_cq_id(),
        };
        let mut cq = match CompletionQueue::new(ids.cq_id, ids.wq_id, is_sq, cq_space) {
            Ok(cq) => cq,
            Err(space) => {
                self.regions.insert(cq_ring, space);
                return None;
            }
        };
        cq.cooling = self.cooling;
        let ring = self.regions.remove(&ring)?;
        Some((ids, WorkQueue::new(ids.wq_id, port, context, pd, ring, cq)))
    }

    /// A queue id that no other has. Those of queues that are gone come again only after all others.
    pub(crate) fn next_queue_id(&mut self) -> u32 {
        loop {
            let id = self.next.queue;
            self.next.queue = if id < ID_MASK {
                id + 1
            } else {
                self.next.first
            };
            if self.queues().all(|queue| queue.id != id) {
                return id;
            }
        }
    }

    /// Likewise for CQs.
    fn next_cq_id(&mut self) -> u32 {
        loop {
            let id = self.next.cq;
            self.next.cq = match id + 1 {
                next if next < self.next.cq_end => next,
                _ => self.next.first,
            };
            if !self.next.taken.contains(&id) && self.queues().all(|queue| queue.cq.id != id) {
                return id;
            }
        }
    }

    /// All queues.
    fn queues(&self) -> impl Iterator<Item = &WorkQueue> {
        let receive_queues = self.receive_queues.iter().flatten();
        self.send_queues
            .iter()
            .chain(receive_queues.map(|queue| &queue.work))
    }

    /// Keeps ids of CQs inside `ids`, of which there are more than CQs, and those of work queues from
    /// beginning again before them.
    pub(crate) fn limit_ids(&mut self, ids: &Range<u32>) {
        (self.next.first, self.next.cq_end) = (ids.start, ids.end);
    }

    /// Takes an id for a CQ that is not this device's.
    pub(crate) fn take_cq_id(&mut self) -> u32 {
        let id = self.next_cq_id();
        self.next.taken.insert(id);
        id
    }

    /// The CQ is gone.
    pub(crate) fn free_cq_id(&mut self, id: u32) {
        self.next.taken.remove(&id);
    }

    pub(crate) fn destroy_send_queue(&mut self, id: u32) {
        self.send_queues.retain(|queue| queue.id != id);
    }

    pub(crate) fn destroy_receive_queue(&mut self, id: u32) {
        for (slot, queue) in self.receive_queues.iter_mut().enumerate() {
            if queue.as_ref().is_some_and(|queue| queue.work.id == id) {
                *queue = None;
                for steering in self
                    .ports
                    .iter_mut()
                    .filter_map(|port| port.steering.as_mut())
                {
                    steering.forget(slot);
                }
            }
        }
    }

    /// Posts the completion by which everything that was received before is known to be done; false
    /// without such a receive queue.
    pub(crate) fn fence(&mut self, id: u32) -> bool {
        let mut queues = self.receive_queues.iter_mut().flatten();
        let Some(queue) = queues.find(|queue| queue.work.id == id) else {
            return false;
        };
        // Packets wait for company within a step only.
        if rx::fence(queue, &mut self.findings) {
            self.events.push(queue.work.cq.id);
        }
        true
    }

    /// Everything that was created is gone. Counters, findings and ordered failures stay.
    pub(crate) fn reset(&mut self, config: &DeviceConfig) {
        for port in &mut self.ports {
            port.reset();
        }
        self.pds.clear();
        self.mrs = MrTable::default();
        self.regions.clear();
        self.send_queues.clear();
        self.receive_queues.clear();
        self.events.clear();
        self.next = NextIds::new(config);
    }

    /// How much exists: domains, memory regions, regions for rings, queues.
    pub(crate) fn live(&self) -> [usize; 4] {
        let queues = self.queues().count();
        [self.pds.len(), self.mrs.len(), self.regions.len(), queues]
    }

    /// Takes a doorbell that rang in the cell of `queue` on the page of `context`.
    pub(crate) fn doorbell(&mut self, context: u32, kind: DoorbellKind, queue: u32, value: u64) {
        let findings = &mut self.findings;
        let receive_queues = self
            .receive_queues
            .iter_mut()
            .flatten()
            .map(|queue| &mut queue.work);
        let found = match kind {
            DoorbellKind::Send => {
                let value = SendValue::from_bits(value);
                let queue = self
                    .send_queues
                    .iter_mut()
                    .find(|other| other.id == value.id());
                queue.filter(|queue| queue.context == context).map(|queue| {
                    if value.reserved() != 0 {
                        reserved(findings, queue.id, value.into_bits());
                    }
                    queue.doorbell(value.tail(), findings);
                    value.id()
                })
            }
            DoorbellKind::Receive => {
                let value = ReceiveValue::from_bits(value);
                let mut queues = receive_queues;
                let queue = queues.find(|other| other.id == value.id());
                queue.filter(|queue| queue.context == context).map(|queue| {
                    if value.wqe_cnt() != 0 {
                        reserved(findings, queue.id, value.into_bits());
                    }
                    queue.doorbell(value.tail(), findings);
                    value.id()
                })
            }
            DoorbellKind::Completion => {
                let value = CompletionValue::from_bits(value);
                let mut queues = self.send_queues.iter_mut().chain(receive_queues);
                let queue = queues.find(|other| other.cq.id == value.id());
                queue.filter(|queue| queue.context == context).map(|queue| {
                    if queue.cq.doorbell(value, findings) {
                        self.events.push(queue.cq.id);
                    }
                    value.id()
                })
            }
        };
        if found != Some(queue) {
            self.findings.add(
                FindingKind::DoorbellQueue,
                Some(queue),
                format_args!("{kind:?} doorbell {value:#018x}"),
            );
        }
    }

    /// Moves completions there from now on.
    pub(crate) fn set_cooling(&mut self, cooling: Cooling) {
        self.cooling = cooling;
        let receive_queues = self.receive_queues.iter_mut().flatten();
        let receive_queues = receive_queues.map(|queue| &mut queue.work);
        for queue in self.send_queues.iter_mut().chain(receive_queues) {
            queue.cq.cooling = cooling;
        }
    }

    /// The CQs that fired since the last call.
    pub(crate) fn take_cq_events(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.events)
    }

    /// Sends and receives once around; returns the number of packets that moved.
    pub(crate) fn step(&mut self, links: &mut Links, first_port: usize) -> usize {
        let mut moved = 0;
        let mut budget = STEP_BYTES;
        let queues = self.send_queues.len();
        let first = std::mem::take(&mut self.first_sender);
        for index in (0..queues).map(|index| (first + index) % queues) {
            let queue = &mut self.send_queues[index];
            if queue.pending() == 0 || queue.disabled {
                continue;
            }
            if budget == 0 {
                self.first_sender = index;
                break;
            }
            let port = queue.port;
            let mut sender = Sender {
                port: &mut self.ports[port],
                link: first_port + port,
                mrs: &mut self.mrs,
                findings: &mut self.findings,
                events: &mut self.events,
                scratch: &mut self.scratch,
                budget: &mut budget,
            };
            moved += sender.run(queue, links);
        }
        for (index, port) in self.ports.iter_mut().enumerate() {
            let mut receiver = Receiver {
                port,
                index,
                link: first_port + index,
                queues: &mut self.receive_queues,
                mrs: &mut self.mrs,
                findings: &mut self.findings,
                events: &mut self.events,
                scratch: &mut self.scratch,
            };
            moved += receiver.run(links);
        }
        moved
    }

    /// Orders a failure of the data path; `port` is the device's own index.
    pub(crate) fn inject(&mut self, port: usize, fault: &Fault) {
        self.ports[port].faults.order(fault);
    }

    /// Notes a broken rule that shows before the device's own parts.
    pub(crate) fn found(
        &mut self,
        kind: FindingKind,
        queue: Option<u32>,
        evidence: std::fmt::Arguments<'_>,
    ) {
        self.findings.add(kind, queue, evidence);
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        self.findings.list()
    }

    pub(crate) fn watch_findings(&mut self, watch: Watch) {
        self.findings.watch(watch);
    }

    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        self.findings.take()
    }

    pub(crate) fn traffic(&self, port: usize) -> Traffic {
        self.ports[port].traffic
    }

    pub(crate) fn counters(&self, port: usize) -> PortCounters {
        self.ports[port].counters
    }

    /// Whether nothing is on its way inside the device.
    pub(crate) fn idle(&self) -> bool {
        self.ports.iter().all(|port| !port.held)
            && self
                .send_queues
                .iter()
                .all(|queue| queue.pending() == 0 || queue.disabled)
    }
}

fn reserved(findings: &mut Findings, queue: u32, value: u64) {
    let kind = FindingKind::DoorbellReserved;
    findings.add(kind, Some(queue), format_args!("doorbell {value:#018x}"));
}

#[cfg(test)]
mod tests;
