//! The receiving side of a port: work queues, the RSS queue pair that brings them to life, and the
//! queues' cores over them (reference/mana-hardware.md §4.6).
//!
//! It is made in two steps. What the first makes, the device knows nothing of, and it can be made
//! beside queues that receive; the second takes the port's steering.

use std::sync::Arc;

use dma_memory::{Arena, MemoryError, Region, RegionOptions, Segment};
use gdma::oob::SHORT;
use gdma::wqe::{UNIT, units};
use mana_verbs::{
    CompletionChannel, Context, ProtectionDomain, RssQueuePair, VerbsError, WorkQueue,
};
use pmd_api::PoolId;

use crate::config::{DEFAULT_RSS_KEY, PortConfig, RxQueueConfig};
use crate::queue::{Counters, RxCore, RxSetup};
use crate::{Error, PortInfo};

/// Smallest ring that the hardware takes (reference/mana-hardware.md §2.1).
const MIN_RING: usize = 4096;
/// Bytes of a completion.
pub(crate) const CQE_BYTES: usize = 64;
/// Vector of queues whose completions nobody waits for.
pub(crate) const COMP_VECTOR: u32 = 0;

/// What receives. It is taken apart when it is dropped.
#[derive(Debug)]
pub(crate) struct Receive {
    /// Name of the port for the log.
    name: String,
    /// In the order of the queues' indices. Queues in somebody's hands are missing, and so are those
    /// that the indirection table leaves out.
    pub(crate) rx: Vec<RxCore>,
    rss: Option<RssQueuePair>,
}

impl Receive {
    /// Nothing.
    pub(crate) fn none(name: String) -> Self {
        Self {
            name,
            rx: Vec::new(),
            rss: None,
        }
    }

    /// The same without its queues, whose cores are elsewhere from now on.
    pub(crate) fn without_queues(&mut self) -> Vec<RxCore> {
        std::mem::take(&mut self.rx)
    }

    /// Counts what arrived and was not received as lost.
    pub(crate) fn lose(&mut self) -> u64 {
        self.rx.iter_mut().map(RxCore::lose).sum()
    }

    /// Ends reception, counts what arrived before as lost, and brings the buffers home. What could not
    /// be destroyed stays for the life of the process, with all memory that it may use.
    pub(crate) fn end(&mut self) -> (u64, Result<(), VerbsError>) {
        let destroyed = self.rss.take().map_or(Ok(()), RssQueuePair::destroy);
        let lost = self.lose();
        for core in self.rx.drain(..) {
            core.release(&destroyed);
        }
        (lost, destroyed)
    }

    /// Destroys everything, without counting.
    pub(crate) fn destroy(&mut self) -> Result<(), VerbsError> {
        let destroyed = self.rss.take().map_or(Ok(()), RssQueuePair::destroy);
        for core in self.rx.drain(..) {
            core.release(&destroyed);
        }
        destroyed
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        if let Err(error) = self.destroy() {
            tracing::error!("{}: not taken apart completely: {error}", self.name);
        }
    }
}

/// What queues are made on: the protection domain of a running port, and the keys of its pools.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) pd: ProtectionDomain,
    pub(crate) keys: Vec<(PoolId, u32)>,
}

/// Work queues that are no hardware queues yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// In the order of the indirection table.
    queues: Vec<WorkQueue>,
    rings: Vec<Rings>,
}

/// Where a queue's rings lie.
#[derive(Debug)]
struct Rings {
    ring: Segment,
    cq_ring: Segment,
    channel: Option<CompletionChannel>,
}

/// How the receiving side of a port is made.
pub(crate) struct Recipe<'a> {
    pub(crate) name: String,
    pub(crate) context: &'a Context,
    pub(crate) info: &'a PortInfo,
    /// Checked.
    pub(crate) config: &'a PortConfig,
    /// Port number written into received packets.
    pub(crate) id: u16,
    /// What the queues go on counting in, by index; fresh counters where there are none.
    pub(crate) counters: &'a [Arc<Counters>],
}

impl Recipe<'_> {
    /// Receive queues that the indirection table names, in its order.
    fn order(&self) -> Vec<u16> {
        self.config.rss_order()
    }

    fn queue(&self, index: u16) -> &RxQueueConfig {
        &self.config.rx[usize::from(index)]
    }

    /// Bytes of all rings.
    pub(crate) fn ring_bytes(&self) -> usize {
        let queues = self.order().into_iter().map(|index| self.queue(index));
        let bytes = queues.map(|queue| {
            ring_bytes(queue.depth, self.rq_bytes(queue)) + ring_bytes(queue.depth, CQE_BYTES)
        });
        bytes.sum()
    }

    /// Ring bytes of a packet to receive: its WQE, rounded up so that the ring is a power of two.
    fn rq_bytes(&self, queue: &RxQueueConfig) -> usize {
        let segments = self.config.rx_segments(&queue.pool);
        (units(SHORT, segments as usize) as usize * UNIT).next_power_of_two()
    }

    /// The first step, with rings out of memory of its own.
    pub(crate) fn prepare_apart(&self, basis: &Basis) -> Result<Prepared, Error> {
        let region = ring_region(&self.name, self.ring_bytes(), self.config, self.info)?;
        self.prepare(basis, &mut Arena::new(region))
    }

    /// The first step.
    pub(crate) fn prepare(&self, basis: &Basis, arena: &mut Arena) -> Result<Prepared, Error> {
        let mut prepared = Prepared {
            queues: Vec::new(),
            rings: Vec::new(),
        };
        for index in self.order() {
            let queue = self.queue(index);
            let ring = take(arena, queue.depth, self.rq_bytes(queue))?;
            let cq_ring = take(arena, queue.depth, CQE_BYTES)?;
            // A channel each, so that each queue has a descriptor and its events are its own.
            let (channel, vector) = if self.config.rx_interrupts {
                let vectors = self.context.comp_vectors().max(1);
                let channel = self.context.create_channel()?;
                (Some(channel), u32::from(index) % vectors)
            } else {
                (None, COMP_VECTOR)
            };
            let pd = &basis.pd;
            let cq = pd.create_cq(cq_ring.clone(), queue.depth, vector, channel.as_ref())?;
            let work_queue = pd.create_work_queue(ring.clone(), queue.depth, cq)?;
            prepared.queues.push(work_queue);
            prepared.rings.push(Rings {
                ring,
                cq_ring,
                channel,
            });
        }
        Ok(prepared)
    }

    /// The second step: the port receives into the queues, and their first buffers are posted. What
    /// was made before a failure is taken apart again.
    pub(crate) fn begin(&self, basis: &Basis, prepared: Prepared) -> Result<Receive, Error> {
        let Prepared { queues, rings } = prepared;
        let key = self.config.rss_key.as_ref().unwrap_or(&DEFAULT_RSS_KEY);
        let mut receive = Receive::none(self.name.clone());
        // From here on the queues are live; `receive` knows what may be freed when.
        let created = basis.pd.create_rss(self.info.port, queues, key)?;
        let rss = receive.rss.insert(created);
        let mut made: Vec<_> = (0..).zip(self.order()).zip(rings).collect();
        made.sort_by_key(|((_, index), _)| *index);
        for ((entry, index), rings) in made {
            let queue = self.queue(index);
            let registered = (basis.keys.iter()).find(|(pool, _)| *pool == queue.pool.id());
            let &(_, lkey) = registered.expect("every pool of the configuration was registered");
            let setup = RxSetup {
                context: self.context.clone(),
                port_id: self.id,
                index,
                ids: rss.ids(entry),
                ring: rings.ring,
                cq_ring: rings.cq_ring,
                depth: queue.depth,
                pool: queue.pool.clone(),
                segments: self.config.rx_segments(&queue.pool),
                keep_vlan_tags: self.config.keep_vlan_tags,
                lkey,
                interrupts: rings.channel,
                counters: counters(self.counters, index),
            };
            receive.rx.push(RxCore::new(setup)?);
        }
        Ok(receive)
    }
}

/// Zeroed memory for `bytes` of rings, on the device's NUMA node where that can be had.
pub(crate) fn ring_region(
    port: &str,
    bytes: usize,
    config: &PortConfig,
    info: &PortInfo,
) -> Result<Arc<Region>, MemoryError> {
    let (name, wanted) = (format!("rings of {port}"), &config.memory);
    let near = RegionOptions {
        numa_node: wanted.numa_node.or(info.numa_node),
        ..wanted.clone()
    };
    let region = match Region::allocate(&name, bytes, &near) {
        Err(error) if near.numa_node != wanted.numa_node => {
            let region = Region::allocate(&name, bytes, wanted)?;
            tracing::warn!("{name}: not on the device's NUMA node: {error}");
            region
        }
        region => region?,
    };
    Ok(Arc::new(region))
}

pub(crate) fn counters(known: &[Arc<Counters>], index: u16) -> Arc<Counters> {
    known.get(usize::from(index)).cloned().unwrap_or_default()
}

pub(crate) fn ring_bytes(depth: u32, entry: usize) -> usize {
    (depth as usize * entry).max(MIN_RING)
}

/// A ring out of memory that was measured for it.
pub(crate) fn take(arena: &mut Arena, depth: u32, entry: usize) -> Result<Segment, MemoryError> {
    let len = ring_bytes(depth, entry);
    arena.take(len).ok_or(MemoryError::Length {
        name: "ring".to_owned(),
        len,
    })
}
