//! The device without a kernel in front of it, for a front that speaks its own language: typed
//! operations, doorbell pages and MSI-X vectors of one PCI function whose memory is reached through a
//! bus.
//!
//! [`Hardware`] knows no messages and no registers. Whoever has it turns messages into calls of it
//! and raises the vectors of [`Hardware::take_interrupts`]. All that a guest can hand over is checked
//! here: ids, pages, addresses; what is wrong is a [`Refusal`] or a finding, never a panic.

mod memory;
mod queues;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use gdma::eqe::event;
use uverbs_abi::Mac;

use crate::config::{self, DeviceConfig, DoorbellMode, LinkConfig, ModelConfig};
use crate::core::Device;
pub use crate::core::{
    BusMemory, BusPages, Destinations, EventQueue, PortCounters, QueueIds, Steering, Traffic,
};
use crate::error::ModelError;
use crate::faults::Fault;
use crate::findings::Finding;
use crate::links::{self, Links};
use queues::{DoorbellRegister, Events};

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
    /// The doorbell pages of the data path's queues.
    pages: BTreeMap<(DoorbellRegister, u32), u32>,
    /// Likewise of those that were destroyed, as long as their ids are nobody's.
    retired: BTreeMap<(DoorbellRegister, u32), u32>,
    interrupts: Vec<u16>,
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
            pages: BTreeMap::new(),
            retired: BTreeMap::new(),
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
        self.pages.clear();
        self.retired.clear();
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

    fn port(&self, port: usize) -> Result<(), Refusal> {
        (port < self.config.ports.len())
            .then_some(())
            .ok_or(Refusal::Port)
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
