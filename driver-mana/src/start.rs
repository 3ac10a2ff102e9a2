//! Starting a port: everything the kernel and the device need, in their order.

use std::sync::Arc;

use dma_memory::{Arena, Region, check_memlock};
use mana_verbs::{Access, Context, ProtectionDomain, SendQueueSpec, VerbsError, operation};
use uverbs_abi::{Errno, System, SystemKind};

use crate::config::PortConfig;
use crate::discover::Usable;
use crate::queue::{Counters, Lkeys, TxCore, TxSetup};
use crate::receive::{
    Basis, COMP_VECTOR, CQE_BYTES, Receive, Recipe, counters, ring_bytes, ring_region, take,
};
use crate::started::Running;
use crate::{Error, PortInfo};

/// Ring bytes of a packet to send: two units, so that packets of one to three segments fill the
/// ring no faster than the completion queue.
const SQ_BYTES: usize = 64;

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
            receive: Receive::none(self.name()),
            tx: Vec::new(),
            regions: Vec::new(),
            basis: None,
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
        let basis = Basis { pd, keys };
        let basis = running.basis.insert(basis).clone();
        let receive = Recipe {
            name: self.name(),
            context,
            info: self.info,
            config: self.config,
            id: self.id,
            counters: self.rx_counters,
        };
        let tx =
            self.config.tx.iter().map(|queue| {
                ring_bytes(queue.depth, SQ_BYTES) + ring_bytes(queue.depth, CQE_BYTES)
            });
        let bytes = tx.sum::<usize>() + receive.ring_bytes();
        let mut arena = Arena::new(ring_region(&self.name(), bytes, self.config, self.info)?);
        self.start_tx(context, &basis, &mut arena, &mut running)?;
        let prepared = receive.prepare(&basis, &mut arena)?;
        running.receive = receive.begin(&basis, prepared)?;
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

    fn start_tx(
        &self,
        context: &Context,
        basis: &Basis,
        arena: &mut Arena,
        running: &mut Running,
    ) -> Result<(), Error> {
        let Basis { pd, keys } = basis;
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
                lkeys: Lkeys::new(keys.clone()),
                counters: counters(self.tx_counters, index),
            };
            running.tx.push(TxCore::new(setup)?);
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
