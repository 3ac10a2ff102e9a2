//! What requests create, by handle.

use std::collections::BTreeMap;
use std::sync::Arc;

use mana_model::hardware::QueueIds;

use super::Failure;
use super::device_memory::DeviceMemory;
use super::regions::Held;

/// The first handle of an object.
const FIRST_HANDLE: u64 = 0x1000;
/// Handle of the first vPort; the others follow. They stay through resets.
pub(super) const FIRST_VPORT: u64 = 0x77;

/// A device of the function that the driver registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registration {
    pub(super) domain: u32,
    pub(super) key: u32,
    pub(super) page: u32,
}

/// An object with a handle.
#[derive(Debug)]
pub(super) enum Object {
    Domain(u32),
    MemoryRegion {
        key: u32,
        held: Held,
        device: Option<u64>,
    },
    DeviceMemory(Arc<DeviceMemory>),
    WorkQueue(WorkQueue),
    Adapter,
    RnicCq {
        adapter: u64,
        id: u32,
        held: Held,
    },
    RnicQp(RnicQp),
}

/// A send or receive queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkQueue {
    pub(super) sends: bool,
    pub(super) port: usize,
    /// Domain that its port was configured for.
    pub(super) domain: u32,
    pub(super) ids: QueueIds,
    pub(super) held: Held,
}

/// A queue pair of the RNIC.
#[derive(Debug)]
pub(super) struct RnicQp {
    pub(super) adapter: u64,
    pub(super) domain: u64,
    pub(super) cqs: [u64; 2],
    pub(super) ids: Vec<u32>,
    pub(super) held: Held,
}

/// Entries of an indirection table (reference/mana-hardware.md §3.8).
pub(super) const TABLE: usize = 64;

/// How a vPort receives, as the last requests left it.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) enabled: bool,
    pub(super) rss: bool,
    /// Handles of receive queues.
    pub(super) default: u64,
    pub(super) table: [u64; TABLE],
    pub(super) key: [u8; 40],
    /// Most packets of a completion.
    pub(super) coalescing: u8,
    /// Mask of types; all where the driver does not say.
    pub(super) hash_types: u16,
}

impl Default for Reception {
    fn default() -> Self {
        Self {
            enabled: false,
            rss: false,
            default: 0,
            table: [0; TABLE],
            key: [0; 40],
            coalescing: 1,
            hash_types: u16::MAX,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Objects {
    objects: BTreeMap<u64, Object>,
    next: u64,
    /// What event queues hold, by their ids.
    pub(super) event_queues: BTreeMap<u32, Held>,
    /// By device type.
    pub(super) registered: BTreeMap<u32, Registration>,
    /// By vPort.
    pub(super) receptions: Vec<Reception>,
    /// Speeds that vPorts are held to, in Mbit/s.
    pub(super) clamps: Vec<Option<u32>>,
}

impl Objects {
    pub(super) fn new(ports: usize) -> Self {
        Self {
            objects: BTreeMap::new(),
            next: FIRST_HANDLE,
            event_queues: BTreeMap::new(),
            registered: BTreeMap::new(),
            receptions: vec![Reception::default(); ports],
            clamps: vec![None; ports],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.registered.is_empty() && self.event_queues.is_empty()
    }

    /// Enters an object; returns its handle.
    pub(super) fn insert(&mut self, object: Object) -> u64 {
        let handle = self.next;
        self.next += 1;
        self.objects.insert(handle, object);
        handle
    }

    pub(super) fn get(&self, handle: u64) -> Option<&Object> {
        self.objects.get(&handle)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Object)> {
        self.objects
            .iter()
            .map(|(handle, object)| (*handle, object))
    }

    pub(super) fn remove(&mut self, handle: u64) {
        self.objects.remove(&handle);
    }

    /// The domain of a handle.
    pub(super) fn domain(&self, handle: u64) -> Result<u32, Failure> {
        match self.get(handle) {
            Some(Object::Domain(domain)) => Ok(*domain),
            _ => Err(Failure::missing(format!(
                "no protection domain {handle:#x}"
            ))),
        }
    }

    /// The work queue of a handle.
    pub(super) fn work_queue(&self, handle: u64) -> Result<WorkQueue, Failure> {
        match self.get(handle) {
            Some(Object::WorkQueue(queue)) => Ok(*queue),
            _ => Err(Failure::missing(format!("no work queue {handle:#x}"))),
        }
    }

    /// Whether there is such an adapter.
    pub(super) fn adapter(&self, handle: u64) -> Result<(), Failure> {
        match self.get(handle) {
            Some(Object::Adapter) => Ok(()),
            _ => Err(Failure::missing(format!("no adapter {handle:#x}"))),
        }
    }

    /// The port of a vPort's handle.
    pub(super) fn port(&self, handle: u64) -> Result<usize, Failure> {
        let index = handle.checked_sub(FIRST_VPORT);
        let port = index.and_then(|index| usize::try_from(index).ok());
        port.filter(|port| *port < self.receptions.len())
            .ok_or_else(|| Failure::missing(format!("no vPort {handle:#x}")))
    }
}
