//! The device without a kernel in front of it, for a front that speaks its own language: typed
//! operations, doorbell pages and MSI-X vectors of one PCI function whose memory is reached through a
//! bus.
//!
//! [`Hardware`] knows no messages and no registers. Whoever has it turns messages into calls of it
//! and raises the vectors of [`Hardware::take_interrupts`]. All that a guest can hand over is checked
//! here: ids, pages, addresses; what is wrong is a [`Refusal`] or a finding, never a panic.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use gdma::doorbell::{CompletionValue, EventValue};
use gdma::eqe::event;
use uverbs_abi::{DoorbellKind, Mac};

use crate::config::{self, DeviceConfig, DoorbellMode, LinkConfig, ModelConfig};
pub use crate::core::{
    BusMemory, BusPages, Destinations, EventQueue, PortCounters, QueueIds, Steering, Traffic,
};
use crate::core::{Device, DmaSpace, MrId, PdId, RegionId, WholeBus};
use crate::error::ModelError;
use crate::faults::Fault;
use crate::findings::{Finding, FindingKind};
use crate::links::{self, Links};

/// Most queues of each kind, send and receive.
pub const MAX_QUEUES: u32 = 1024;
/// Most event queues.
pub const MAX_EVENT_QUEUES: u32 = 256;
/// Ids of completion queues are below it. There are more of them than queues, and 0 is nobody's: it is
/// left to the front.
pub const MAX_CQ_IDS: u32 = 8192;
/// Most protection domains.
pub const MAX_DOMAINS: u32 = 4096;
/// Most memory regions.
pub const MAX_MEMORY_REGIONS: u32 = 16384;

/// Ids of queues, but for those of work queues where the configuration has them elsewhere.
const IDS: Range<u32> = 1..MAX_CQ_IDS;

/// Frames that a tap may bring in a step.
const TURN_FRAMES: usize = 64;

/// Registers of a doorbell page (reference/mana-hardware.md §2.7) besides those of
/// [`DoorbellKind`].
mod register {
    pub(super) const RQ_CLIENT: u32 = 0x408;
    pub(super) const CQ_MODERATION: u32 = 0x820;
    pub(super) const EQ: u32 = 0xFF8;
}

/// Why the device does not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such port.
    #[error("no such port")]
    Port,
    /// No such domain.
    #[error("no such protection domain")]
    Domain,
    /// Something is still in the domain.
    #[error("the protection domain is in use")]
    DomainInUse,
    /// No such event queue.
    #[error("no such event queue")]
    EventQueue,
    /// Completion queues still tell the event queue of their news.
    #[error("the event queue is in use")]
    EventQueueInUse,
    /// No such work queue.
    #[error("no such work queue")]
    WorkQueue,
    /// The memory can't be a ring of this kind.
    #[error("the memory can't be a ring: size or alignment")]
    Ring,
    /// The port has no domain and no doorbell page for its queues yet.
    #[error("the port is not configured for sending")]
    NotConfigured,
    /// There are as many as there can be.
    #[error("there are as many as there can be")]
    Limit,
}

/// An event queue and the page on which it is rung.
struct Events {
    queue: EventQueue,
    page: u32,
}

/// Who is waiting for frames of taps; see [`Hardware::ears`].
pub struct Ears(links::Ears);

impl Ears {
    /// Waits for a frame, at most so long; whether one is there.
    pub fn wait(&mut self, most: Duration) -> bool {
        self.0.wait(most)
    }
}

/// How much exists in the device, to show that nothing leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Protection domains.
    pub domains: usize,
    /// Memory regions.
    pub memory_regions: usize,
    /// Send and receive queues.
    pub work_queues: usize,
    /// Event queues.
    pub event_queues: usize,
    /// Ids that were taken for queues outside the data path.
    pub foreign: usize,
}

/// One PCI function's device.
pub struct Hardware {
    config: DeviceConfig,
    memory: Arc<dyn BusMemory>,
    device: Device,
    links: Links,
    events: BTreeMap<u32, Events>,
    /// The event queues of completion queues.
    parents: BTreeMap<u32, u32>,
    /// Queues that others than the data path have, with their doorbell pages.
    foreign: BTreeMap<(DoorbellRegister, u32), u32>,
    interrupts: Vec<u16>,
}

/// What a foreign queue is rung by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DoorbellRegister {
    Work,
    Completion,
}

impl Hardware {
    /// The device that `config` describes, whose memory is `memory`. Of `config` counts what is no
    /// kernel's: ports, links, ids, offsets.
    ///
    /// # Errors
    ///
    /// As [`crate::Model::new`].
    pub fn new(config: DeviceConfig, memory: Arc<dyn BusMemory>) -> Result<Self, ModelError> {
        let machine = ModelConfig {
            devices: vec![config],
            doorbells: DoorbellMode::Trapped,
        };
        let pairs = config::check(&machine)?;
        let links = Links::new(&machine.devices, &pairs)?;
        let [mut config]: [DeviceConfig; 1] = machine.devices.try_into().unwrap_or_default();
        if !IDS.contains(&config.first_cq_id) {
            config.first_cq_id = IDS.start;
        }
        config.first_queue_id = config.first_queue_id.max(IDS.start);
        let mut hardware = Self {
            device: Device::new(&config),
            config,
            memory,
            links,
            events: BTreeMap::new(),
            parents: BTreeMap::new(),
            foreign: BTreeMap::new(),
            interrupts: Vec::new(),
        };
        hardware.device.limit_ids(&IDS);
        Ok(hardware)
    }

    /// Everything that was created is gone, at once: nothing touches the memory after it. Counters,
    /// findings and ordered failures stay, and so do frames on the links.
    pub fn reset(&mut self) {
        self.device.reset(&self.config);
        self.events.clear();
        self.parents.clear();
        self.foreign.clear();
        self.interrupts.clear();
        self.device.limit_ids(&IDS);
    }

    /// The memory behind the bus.
    #[must_use]
    pub fn memory(&self) -> &Arc<dyn BusMemory> {
        &self.memory
    }

    /// What the device is made of.
    #[must_use]
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// MAC address of a port; `None` without such a port.
    #[must_use]
    pub fn mac(&self, port: usize) -> Option<Mac> {
        let port_config = self.config.ports.get(port)?;
        Some(
            port_config
                .mac
                .unwrap_or_else(|| config::default_mac(0, port)),
        )
    }

    /// Makes a protection domain; returns its number.
    ///
    /// # Errors
    ///
    /// [`Refusal::Limit`].
    pub fn create_domain(&mut self) -> Result<u32, Refusal> {
        below(self.live().domains, MAX_DOMAINS)?;
        Ok(self.device.create_pd().0)
    }

    /// Destroys a domain. A port that was configured for it is so no more.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::DomainInUse`].
    pub fn destroy_domain(&mut self, domain: u32) -> Result<(), Refusal> {
        let pd = self.domain(domain)?;
        if self.device.uses_pd(pd) {
            return Err(Refusal::DomainInUse);
        }
        for port in 0..self.config.ports.len() {
            if self
                .device
                .vport_owner(port)
                .is_some_and(|(owner, _)| owner == pd)
            {
                self.device.release_vport_tx(port);
            }
        }
        self.device.destroy_pd(pd);
        Ok(())
    }

    fn domain(&self, domain: u32) -> Result<PdId, Refusal> {
        let pd = PdId(domain);
        self.device.has_pd(pd).then_some(pd).ok_or(Refusal::Domain)
    }

    /// Registers pages, which segments name from `address` on, with access bits as in
    /// reference/mana-hardware.md §6.5; returns the key.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::Limit`].
    pub fn register(
        &mut self,
        domain: u32,
        address: u64,
        access: u32,
        pages: BusPages,
    ) -> Result<u32, Refusal> {
        self.add_memory(domain, address, access, DmaSpace::Pages(pages))
    }

    /// Registers all of the bus, which segments name by its addresses; returns the key.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::Limit`].
    pub fn register_all(&mut self, domain: u32) -> Result<u32, Refusal> {
        let bus = DmaSpace::Bus(WholeBus(Arc::clone(&self.memory)));
        self.add_memory(domain, 0, u32::MAX, bus)
    }

    fn add_memory(
        &mut self,
        domain: u32,
        address: u64,
        access: u32,
        space: DmaSpace,
    ) -> Result<u32, Refusal> {
        below(self.live().memory_regions, MAX_MEMORY_REGIONS)?;
        let pd = self.domain(domain)?;
        Ok(self.device.add_mr(pd, address, access, space).0)
    }

    /// Forgets registered memory; nothing happens without such a key.
    pub fn deregister(&mut self, key: u32) {
        self.device.destroy_mr(MrId(key));
    }

    /// Gives the queues of a port a domain and a doorbell page; returns the port's offset for OOBs.
    /// Queues that the port has keep what they have, and send nothing any more where it is another.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`], [`Refusal::Domain`].
    pub fn configure_sending(
        &mut self,
        port: usize,
        domain: u32,
        page: u32,
    ) -> Result<u32, Refusal> {
        self.port(port)?;
        let pd = self.domain(domain)?;
        Ok(self.device.configure_vport_tx(port, pd, page))
    }

    /// The domain that a port is configured for.
    #[must_use]
    pub fn sending_domain(&self, port: usize) -> Option<u32> {
        self.port(port).ok()?;
        Some(self.device.vport_owner(port)?.0.0)
    }

    fn port(&self, port: usize) -> Result<(), Refusal> {
        (port < self.config.ports.len())
            .then_some(())
            .ok_or(Refusal::Port)
    }

    /// Turns reception of a port on or off, or steers it elsewhere. Ids of queues that are none lead
    /// nowhere.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn steer(&mut self, port: usize, steering: Option<Steering>) -> Result<(), Refusal> {
        self.port(port)?;
        self.device.configure_vport_rx(port, steering);
        Ok(())
    }

    /// The doorbell page is nobody's any more: ports that were configured for it are so no more.
    pub fn release_page(&mut self, page: u32) {
        for port in 0..self.config.ports.len() {
            if self
                .device
                .vport_owner(port)
                .is_some_and(|(_, owner)| owner == page)
            {
                self.device.release_vport_tx(port);
            }
        }
    }

    /// Makes an event queue that is rung on `page`; returns its id.
    ///
    /// # Errors
    ///
    /// [`Refusal::Ring`], [`Refusal::Limit`].
    pub fn create_event_queue(
        &mut self,
        ring: BusPages,
        page: u32,
        vector: u16,
    ) -> Result<u32, Refusal> {
        below(self.events.len(), MAX_EVENT_QUEUES)?;
        let free = IDS.clone().find(|id| !self.events.contains_key(id));
        let id = free.ok_or(Refusal::Limit)?;
        let queue = EventQueue::new(ring, vector).ok_or(Refusal::Ring)?;
        self.events.insert(id, Events { queue, page });
        Ok(id)
    }

    /// That there is such an event queue.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`].
    pub fn has_event_queue(&self, id: u32) -> Result<(), Refusal> {
        let found = self.events.contains_key(&id);
        found.then_some(()).ok_or(Refusal::EventQueue)
    }

    /// Destroys an event queue.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`], [`Refusal::EventQueueInUse`].
    pub fn destroy_event_queue(&mut self, id: u32) -> Result<(), Refusal> {
        self.has_event_queue(id)?;
        if self.parents.values().any(|parent| *parent == id) {
            return Err(Refusal::EventQueueInUse);
        }
        self.events.remove(&id);
        Ok(())
    }

    /// Writes an event.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`].
    pub fn push_event(&mut self, id: u32, event: u8, details: [u32; 3]) -> Result<(), Refusal> {
        let events = self.events.get_mut(&id).ok_or(Refusal::EventQueue)?;
        if events.queue.push(event, details) {
            self.interrupts.push(events.queue.vector());
        }
        Ok(())
    }

    /// Makes a send queue of a port, with the domain and the page that the port is configured for; its
    /// completion queue tells `event_queue` of its news.
    ///
    /// # Errors
    ///
    /// Each [`Refusal`] of ports, event queues and rings; nothing is created then.
    pub fn create_send_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        ring: BusPages,
        cq_ring: BusPages,
    ) -> Result<QueueIds, Refusal> {
        self.create_queue(
            port,
            event_queue,
            [ring, cq_ring],
            Device::create_send_queue,
        )
    }

    /// Makes a receive queue; see [`Hardware::create_send_queue`].
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn create_receive_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        ring: BusPages,
        cq_ring: BusPages,
    ) -> Result<QueueIds, Refusal> {
        self.create_queue(
            port,
            event_queue,
            [ring, cq_ring],
            Device::create_receive_queue,
        )
    }

    fn create_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        rings: [BusPages; 2],
        create: impl FnOnce(&mut Device, usize, u32, PdId, RegionId, RegionId) -> Option<QueueIds>,
    ) -> Result<QueueIds, Refusal> {
        self.port(port)?;
        below(self.live().work_queues, 2 * MAX_QUEUES)?;
        self.has_event_queue(event_queue)?;
        let owner = self.device.vport_owner(port);
        let (pd, page) = owner.ok_or(Refusal::NotConfigured)?;
        if !rings.iter().all(BusPages::is_page_aligned) {
            return Err(Refusal::Ring);
        }
        let [ring, cq_ring] = rings.map(|ring| self.device.add_region(DmaSpace::Pages(ring)));
        let Some(ids) = create(&mut self.device, port, page, pd, ring, cq_ring) else {
            self.device.destroy_dma_region(ring);
            self.device.destroy_dma_region(cq_ring);
            return Err(Refusal::Ring);
        };
        self.parents.insert(ids.cq_id, event_queue);
        Ok(ids)
    }

    /// Destroys a send queue with its completion queue: nothing touches their memory after it.
    pub fn destroy_send_queue(&mut self, ids: QueueIds) {
        self.device.destroy_send_queue(ids.wq_id);
        self.parents.remove(&ids.cq_id);
    }

    /// Destroys a receive queue likewise. What was steered to it leads nowhere.
    pub fn destroy_receive_queue(&mut self, ids: QueueIds) {
        self.device.destroy_receive_queue(ids.wq_id);
        self.parents.remove(&ids.cq_id);
    }

    /// Posts the completion that says that a receive queue holds everything that arrived before.
    ///
    /// # Errors
    ///
    /// [`Refusal::WorkQueue`].
    pub fn fence(&mut self, receive_queue: u32) -> Result<(), Refusal> {
        let fenced = self.device.fence(receive_queue);
        self.deliver_events();
        fenced.then_some(()).ok_or(Refusal::WorkQueue)
    }

    /// Takes the id of a work queue outside the data path, which is rung on `page` and to which nothing
    /// ever happens: the RNIC's.
    ///
    /// # Errors
    ///
    /// [`Refusal::Limit`].
    pub fn take_queue_id(&mut self, page: u32) -> Result<u32, Refusal> {
        below(self.foreign.len(), 4 * MAX_QUEUES)?;
        let taken =
            |hardware: &Self, id| hardware.foreign.contains_key(&(DoorbellRegister::Work, id));
        let mut id = self.device.next_queue_id();
        while taken(self, id) {
            id = self.device.next_queue_id();
        }
        self.foreign.insert((DoorbellRegister::Work, id), page);
        Ok(id)
    }

    /// Gives it back.
    pub fn free_queue_id(&mut self, id: u32) {
        self.foreign.remove(&(DoorbellRegister::Work, id));
    }

    /// Takes the id of a completion queue outside the data path, likewise.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`], [`Refusal::Limit`].
    pub fn take_cq_id(&mut self, page: u32, event_queue: u32) -> Result<u32, Refusal> {
        below(self.foreign.len(), 4 * MAX_QUEUES)?;
        self.has_event_queue(event_queue)?;
        let id = self.device.take_cq_id();
        self.foreign
            .insert((DoorbellRegister::Completion, id), page);
        self.parents.insert(id, event_queue);
        Ok(id)
    }

    /// Gives it back.
    pub fn free_cq_id(&mut self, id: u32) {
        if self
            .foreign
            .remove(&(DoorbellRegister::Completion, id))
            .is_some()
        {
            self.device.free_cq_id(id);
            self.parents.remove(&id);
        }
    }

    /// Takes a store to a doorbell page. Nothing moves before [`Hardware::step`], but an interrupt may
    /// be due. Queues are rung on their own page only; what is wrong is a finding.
    pub fn doorbell(&mut self, page: u32, offset: u32, value: u64) {
        let kind = match offset {
            register::EQ => return self.event_doorbell(page, value),
            register::RQ_CLIENT | 0x400 => DoorbellKind::Receive,
            register::CQ_MODERATION | 0x800 => DoorbellKind::Completion,
            0x000 => DoorbellKind::Send,
            _ => {
                return self.device.found(
                    FindingKind::DoorbellRegister,
                    None,
                    format_args!("{value:#018x} stored at offset {offset:#05x} of page {page}"),
                );
            }
        };
        let id = CompletionValue::from_bits(value).id();
        let register = match kind {
            DoorbellKind::Completion => DoorbellRegister::Completion,
            DoorbellKind::Send | DoorbellKind::Receive => DoorbellRegister::Work,
        };
        if self.foreign.get(&(register, id)) == Some(&page) {
            return;
        }
        if matches!(offset, register::RQ_CLIENT | register::CQ_MODERATION) {
            return self.device.found(
                FindingKind::DoorbellRegister,
                Some(id),
                format_args!("{value:#018x} stored at offset {offset:#05x} of page {page}"),
            );
        }
        self.device.doorbell(page, kind, id, value);
        self.deliver_events();
    }

    fn event_doorbell(&mut self, page: u32, value: u64) {
        let value = EventValue::from_bits(value);
        let id = u32::from(value.id());
        match self
            .events
            .get_mut(&id)
            .filter(|events| events.page == page)
        {
            Some(events) => {
                if events.queue.doorbell(value) {
                    self.interrupts.push(events.queue.vector());
                }
            }
            None => self.device.found(
                FindingKind::DoorbellQueue,
                Some(id),
                format_args!(
                    "event queue doorbell {:#018x} on page {page}",
                    value.into_bits()
                ),
            ),
        }
    }

    /// Sends and receives once around; returns the number of packets that moved.
    pub fn step(&mut self) -> usize {
        self.links.tick();
        self.links.listen(TURN_FRAMES, true);
        let moved = self.device.step(&mut self.links, 0);
        self.deliver_events();
        moved
    }

    /// Tells event queues of the completion queues that fired.
    fn deliver_events(&mut self) {
        for cq in self.device.take_cq_events() {
            if let Some(parent) = self.parents.get(&cq).copied() {
                // An event queue lives as long as it is a parent.
                let _gone = self.push_event(parent, event::COMPLETION, [cq, 0, 0]);
            }
        }
    }

    /// The MSI-X vectors that fired since the last call.
    pub fn take_interrupts(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.interrupts)
    }

    /// What an idle thread may wait on for frames, without anybody's lock; `None` without taps.
    #[must_use]
    pub fn ears(&self) -> Option<Ears> {
        self.links.ears().map(Ears)
    }

    /// Whether a link has a clock to look at, so that [`Hardware::step`] is to be called now and then even if
    /// nothing moves.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.links.is_timed()
    }

    /// Gives a port's link a carrier or takes it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn set_link_up(&mut self, port: usize, up: bool) -> Result<(), Refusal> {
        self.port(port)?;
        self.links.set_up(port, up);
        Ok(())
    }

    /// Whether a port's link has a carrier; false without such a port.
    #[must_use]
    pub fn is_link_up(&self, port: usize) -> bool {
        self.port(port).is_ok() && self.links.is_up(port)
    }

    /// Puts another link behind a port, with nothing on it; false where that can't be one while the
    /// device is there.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn set_wire(&mut self, port: usize, link: &LinkConfig) -> Result<bool, Refusal> {
        self.port(port)?;
        Ok(self.links.set_wire(port, link))
    }

    /// Orders a failure of the data path: of those of a port, one of this device's.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn inject(&mut self, port: usize, fault: &Fault) -> Result<(), Refusal> {
        self.port(port)?;
        self.device.inject(port, fault);
        Ok(())
    }

    /// What a port counted; zeros without such a port.
    #[must_use]
    pub fn counters(&self, port: usize) -> PortCounters {
        if self.port(port).is_err() {
            return PortCounters::default();
        }
        PortCounters {
            link_dropped: self.links.dropped(port),
            ..self.device.counters(port)
        }
    }

    /// What a port counted by kinds; zeros without such a port.
    #[must_use]
    pub fn traffic(&self, port: usize) -> Traffic {
        self.port(port)
            .map(|()| self.device.traffic(port))
            .unwrap_or_default()
    }

    /// Takes what the port sent, oldest first, where its link is a sink that captures; empty
    /// elsewhere.
    #[must_use]
    pub fn take_tx_frames(&mut self, port: usize) -> Vec<Vec<u8>> {
        match self.port(port) {
            Ok(()) => self.links.take_frames(port),
            Err(_) => Vec::new(),
        }
    }

    /// Lets a frame arrive at the port with the next step, whatever its link is.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn deliver(&mut self, port: usize, frame: &[u8]) -> Result<(), Refusal> {
        self.port(port)?;
        self.links.deliver(port, frame);
        Ok(())
    }

    /// What the driver did wrong so far, in the order of its finding.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.device.findings()
    }

    /// Like [`Hardware::findings`], and forgets them.
    #[must_use]
    pub fn take_findings(&mut self) -> Vec<Finding> {
        self.device.take_findings()
    }

    /// Tells `watch` each finding as it is made, as [`crate::Model::watch_findings`].
    pub fn watch_findings(&mut self, watch: impl Fn(&Finding) + Send + Sync + 'static) {
        self.device.watch_findings(Arc::new(watch));
    }

    /// How much exists.
    #[must_use]
    pub fn live(&self) -> Live {
        let [domains, memory_regions, _, work_queues] = self.device.live();
        Live {
            domains,
            memory_regions,
            work_queues,
            event_queues: self.events.len(),
            foreign: self.foreign.len(),
        }
    }
}

fn below(count: usize, most: u32) -> Result<(), Refusal> {
    (count < most as usize).then_some(()).ok_or(Refusal::Limit)
}
