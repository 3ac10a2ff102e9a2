//! Starting a port: everything the kernel and the device need, in their order.

use std::sync::Arc;

use dma_memory::{Arena, MemoryError, Region, RegionOptions, Segment, check_memlock};
use gdma::oob::SHORT;
use gdma::wqe::{UNIT, units};
use mana_verbs::{Access, Context, ProtectionDomain, SendQueueSpec, VerbsError, operation};
use pmd_api::PoolId;
use uverbs_abi::{Errno, System, SystemKind};

use crate::config::{DEFAULT_RSS_KEY, PortConfig, RxQueueConfig};
use crate::discover::Usable;
use crate::queue::{Counters, Lkeys, RxCore, RxSetup, TxCore, TxSetup};
use crate::started::Running;
use crate::{Error, PortInfo};

/// Smallest ring that the hardware takes (reference/mana-hardware.md §2.1).
const MIN_RING: usize = 4096;
/// Ring bytes of a packet to send: two units, so that packets of one to three segments fill the
/// ring no faster than the completion queue.
const SQ_BYTES: usize = 64;
/// Bytes of a completion.
const CQE_BYTES: usize = 64;
/// Vector of queues whose completions nobody waits for.
const COMP_VECTOR: u32 = 0;

/// What a start works from.
pub(crate) struct Start<'a> {
    pub(crate) system: &'a dyn System,
    pub(crate) usable: &'a Usable,
    pub(crate) info: &'a PortInfo,
    pub(crate) config: &'a PortConfig,
    /// Port number written into received packets.
    pub(crate) id: u16,
    /// What the queues go on counting in; fresh counters where there are none.
    pub(crate) rx_counters: &'a [Arc<Counters>],
    pub(crate) tx_counters: &'a [Arc<Counters>],
}

impl Start<'_> {
    /// Makes protection domain, memory regions, send queues, receive queues and the RSS queue pair,
    /// posts the first receive buffers, and returns it all with every queue home.
    ///
    /// What was made before a failure is taken apart again.
    pub(crate) fn run(&self) -> Result<Running, Error> {
        let context = &self.usable.context;
        let pd = context.alloc_pd()?;
        let mut running = Running {
            name: self.name(),
            rx: Vec::new(),
            rss: None,
            tx: Vec::new(),
            regions: Vec::new(),
            pd: Some(pd.clone()),
        };
        let mut keys = Vec::new();
        for pool in self.config.pools() {
            let region = self.register(&pd, pool.region(), Access::LocalWrite)?;
            keys.push((pool.id(), region.lkey()));
            running.regions.push(region);
        }
        for memory in self.config.memory() {
            let region = self.register(&pd, memory.region(), Access::LocalRead)?;
            keys.push((memory.id(), region.lkey()));
            running.regions.push(region);
        }
        let mut arena = Arena::new(self.ring_region()?);
        self.start_tx(context, &pd, &mut arena, &keys, &mut running)?;
        self.start_rx(context, &pd, &mut arena, &keys, &mut running)?;
        Ok(running)
    }

    fn name(&self) -> String {
        format!("port {} of {}", self.info.port, self.info.pci)
    }

    /// Registers the memory of a pool, or of the application.
    fn register(
        &self,
        pd: &ProtectionDomain,
        region: &Arc<Region>,
        access: Access,
    ) -> Result<mana_verbs::MemoryRegion, Error> {
        pd.register(region, access).map_err(|error| {
            let out_of_memory = error.errno() == Some(Errno::ENOMEM);
            if out_of_memory && self.system.kind() == SystemKind::Linux {
                // The kernel says ENOMEM for an exceeded limit, too.
                if let Err(limit) = check_memlock(region.len()) {
                    return Error::Memory(limit);
                }
            }
            Error::Verbs(error)
        })
    }

    /// Zeroed memory for all rings.
    fn ring_region(&self) -> Result<Arc<Region>, Error> {
        let tx = self.config.tx.iter().map(|queue| (queue.depth, SQ_BYTES));
        let rx = (self.config.rx.iter()).map(|queue| (queue.depth, self.rq_bytes(queue)));
        let bytes = tx
            .chain(rx)
            .map(|(depth, entry)| ring_bytes(depth, entry) + ring_bytes(depth, CQE_BYTES));
        let (name, bytes) = (format!("rings of {}", self.name()), bytes.sum());
        let wanted = &self.config.memory;
        let near = RegionOptions {
            numa_node: wanted.numa_node.or(self.info.numa_node),
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

    /// Ring bytes of a packet to receive: its WQE, rounded up so that the ring is a power of two.
    fn rq_bytes(&self, queue: &RxQueueConfig) -> usize {
        let segments = self.config.rx_segments(&queue.pool);
        (units(SHORT, segments as usize) as usize * UNIT).next_power_of_two()
    }

    fn start_tx(
        &self,
        context: &Context,
        pd: &ProtectionDomain,
        arena: &mut Arena,
        keys: &[(PoolId, u32)],
        running: &mut Running,
    ) -> Result<(), Error> {
        let max_segments = self.info.max_tx_segments;
        for (index, queue) in (0..).zip(&self.config.tx) {
            let depth = queue.depth;
            let ring = take(arena, depth, SQ_BYTES)?;
            let cq_ring = take(arena, depth, CQE_BYTES)?;
            let cq = pd.create_cq(cq_ring, depth, COMP_VECTOR, None)?;
            let spec = SendQueueSpec {
                port: self.info.port,
                ring,
                max_wr: depth,
                max_sge: max_segments,
            };
            let queue = pd.create_send_queue(spec, cq);
            // Only the first send queue of a protection domain takes the vPort.
            let queue = if index == 0 {
                queue.map_err(|error| self.explain(error))?
            } else {
                queue?
            };
            let setup = TxSetup {
                context: context.clone(),
                index,
                queue,
                depth,
                max_segments,
                lkeys: Lkeys::new(keys.to_vec()),
                counters: counters(self.tx_counters, index),
            };
            running.tx.push(TxCore::new(setup)?);
        }
        Ok(())
    }

    fn start_rx(
        &self,
        context: &Context,
        pd: &ProtectionDomain,
        arena: &mut Arena,
        keys: &[(PoolId, u32)],
        running: &mut Running,
    ) -> Result<(), Error> {
        let mut work_queues = Vec::new();
        let mut rings = Vec::new();
        for (index, queue) in (0..).zip(&self.config.rx) {
            let ring = take(arena, queue.depth, self.rq_bytes(queue))?;
            let cq_ring = take(arena, queue.depth, CQE_BYTES)?;
            // A channel each, so that each queue has a descriptor and its events are its own.
            let (channel, vector) = if self.config.rx_interrupts {
                let vectors = context.comp_vectors().max(1);
                (Some(context.create_channel()?), index % vectors)
            } else {
                (None, COMP_VECTOR)
            };
            let cq = pd.create_cq(cq_ring.clone(), queue.depth, vector, channel.as_ref())?;
            work_queues.push(pd.create_work_queue(ring.clone(), queue.depth, cq)?);
            rings.push((ring, cq_ring, channel));
        }
        let key = self.config.rss_key.as_ref().unwrap_or(&DEFAULT_RSS_KEY);
        // From here on the queues are live; `running` knows what may be freed when.
        let rss = running
            .rss
            .insert(pd.create_rss(self.info.port, work_queues, key)?);
        for ((index, queue), (ring, cq_ring, interrupts)) in (0..).zip(&self.config.rx).zip(rings) {
            let registered = keys.iter().find(|(pool, _)| *pool == queue.pool.id());
            let &(_, lkey) = registered.expect("every pool of the configuration was registered");
            let setup = RxSetup {
                context: context.clone(),
                port_id: self.id,
                index,
                ids: rss.ids(index.into()),
                ring,
                cq_ring,
                depth: queue.depth,
                pool: queue.pool.clone(),
                segments: self.config.rx_segments(&queue.pool),
                keep_vlan_tags: self.config.keep_vlan_tags,
                lkey,
                interrupts,
                counters: counters(self.rx_counters, index),
            };
            running.rx.push(RxCore::new(setup)?);
        }
        Ok(())
    }

    /// Tells why the vPort could not be taken: `ENODEV` on 6.12 and `EBUSY` on 7.3 mean that
    /// somebody else has it, in most cases the netdev (reference/mana-hardware.md §4.5).
    fn explain(&self, error: VerbsError) -> Error {
        let Some(errno @ (Errno::ENODEV | Errno::EBUSY)) = error.errno() else {
            return Error::Verbs(error);
        };
        if error.operation() != Some(operation::CREATE_SEND_QUEUE) {
            return Error::Verbs(error);
        }
        let (pci, port) = (self.info.pci, self.info.port);
        // The netdev's state now, not when the port was opened.
        let netdevs = self
            .system
            .netdevs(self.usable.context.device())
            .unwrap_or_default();
        let netdev = netdevs
            .into_iter()
            .find(|netdev| netdev.dev_port == u32::from(port) - 1);
        match netdev {
            Some(netdev) if netdev.up => {
                let (netdev, master) = (netdev.name, netdev.master);
                Error::NetdevUp {
                    pci,
                    port,
                    netdev,
                    master,
                    errno,
                }
            }
            netdev => Error::VportInUse {
                pci,
                port,
                netdev: netdev.map(|n| n.name),
                errno,
            },
        }
    }
}

fn counters(known: &[Arc<Counters>], index: u16) -> Arc<Counters> {
    known.get(usize::from(index)).cloned().unwrap_or_default()
}

fn ring_bytes(depth: u32, entry: usize) -> usize {
    (depth as usize * entry).max(MIN_RING)
}

fn take(arena: &mut Arena, depth: u32, entry: usize) -> Result<Segment, MemoryError> {
    let len = ring_bytes(depth, entry);
    // `ring_region` counted the same rings.
    arena.take(len).ok_or(MemoryError::Length {
        name: "ring".to_owned(),
        len,
    })
}
