//! Pools, queues and streams: from open ports and a command line to something that forwards.

use std::ops::Range;
use std::sync::Arc;

use dma_memory::{HugePages, RegionOptions};
use mana_pmd::{Port, RxQueue, TxQueue, buffers_needed};
use pmd_api::{Pool, PoolConfig, PoolId};

use super::app_args::{AppArgs, MAX_BURST};
use super::cores::Lcore;
use super::error::Error;
use super::lane::{Patience, Stream};
use super::modes::{ForwardMode, ModeName, Shape, SourcePorts};
use super::port::TestPort;
use super::stats::StreamCounters;
use super::streams::{self, StreamPlan};

/// The ring size testpmd plans for.
const DEPTH_PLANNED: u32 = 2048;

/// How many queues a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlan {
    /// RX queues a port.
    pub rx: u16,
    /// TX queues a port.
    pub tx: u16,
    /// Streams a port.
    pub streams: u16,
}

impl QueuePlan {
    /// One stream for each queue that the mode works on. A mode that receives and sends needs a TX
    /// queue for each RX queue: queues belong to one core each.
    pub fn new(mode: ModeName, rxq: u16, txq: u16) -> QueuePlan {
        let both = mode.sends_on() || mode == ModeName::FlowGen;
        let tx = if both { txq.max(rxq) } else { txq };
        QueuePlan {
            rx: rxq,
            tx,
            streams: 0,
        }
        .of(mode)
    }

    /// As [`QueuePlan::new`], where the mode may change while the queues stay.
    pub fn any_mode(mode: ModeName, rxq: u16, txq: u16) -> QueuePlan {
        QueuePlan::new(mode, rxq, txq.max(rxq))
    }

    /// The same queues with the streams of another mode.
    pub fn of(self, mode: ModeName) -> QueuePlan {
        let streams = if mode.generates() { self.tx } else { self.rx };
        QueuePlan { streams, ..self }
    }
}

/// The pools of a run: one for each NUMA node that has ports.
pub struct Pools {
    pools: Vec<(Option<u32>, Pool)>,
}

impl Pools {
    /// Creates them. `workers` is the number of cores that could forward.
    ///
    /// # Errors
    ///
    /// Memory that is not to be had.
    pub fn create(
        ports: &[Port],
        args: &AppArgs,
        queues: QueuePlan,
        workers: usize,
        huge: HugePages,
    ) -> Result<Pools, Error> {
        let mut nodes: Vec<Option<u32>> = ports.iter().map(|port| port.info().numa_node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut pools = Vec::with_capacity(nodes.len());
        for node in nodes {
            // Its own ports receive into it, and every port may send from it.
            let own = ports.iter().filter(|port| port.info().numa_node == node);
            let rx: Vec<u32> = own
                .map(Port::info)
                .flat_map(|i| {
                    let depths = depths(queues.rx, i.max_rx_queues, args.rxd, i.max_depth);
                    let mbufs = args.mbufs_of_a_packet(i.mtu);
                    depths.map(move |depth| depth.saturating_mul(mbufs))
                })
                .collect();
            let tx: Vec<u32> = ports
                .iter()
                .map(Port::info)
                .flat_map(|i| depths(queues.tx, i.max_tx_queues, args.txd, i.max_depth))
                .collect();
            let computed = default_mbufs(ports.len(), args.mbcache, workers)
                .max(needed_mbufs(&rx, &tx, args, workers));
            let name = format!("mb_pool_{}", node.unwrap_or(0));
            let mbufs = args.total_num_mbufs.unwrap_or(computed);
            let pool = Pool::new(PoolConfig {
                name: name.clone(),
                buffers: mbufs,
                data_room: args.mbuf_size,
                cache: args.mbcache,
                // The main core's own, and one to spare for the threads that tear down.
                cache_records: workers as u32 + 2,
                memory: RegionOptions {
                    huge,
                    numa_node: node,
                },
            })
            .map_err(|error| Error::Pool { name, mbufs, error })?;
            pools.push((node, pool));
        }
        Ok(Pools { pools })
    }

    /// What the start-up lines tell of them.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (node, pool) in &self.pools {
            let region = pool.region();
            text.push_str(&format!(
                "testpmd: create a new mbuf pool <{0}>: n={1}, size={2}, socket={3}\n\
                 testpmd: {0} lies in {4} MiB of {5}\n",
                pool.name(),
                pool.capacity(),
                pool.data_room(),
                node.unwrap_or(0),
                region.len().div_ceil(1 << 20),
                region.page_kind(),
            ));
            for step in region.steps_down() {
                text.push_str(&format!("testpmd: {} did without {step}\n", pool.name()));
            }
        }
        text
    }

    /// The pool of a node; the first where that has none (it has one wherever there is a port).
    pub fn of(&self, node: Option<u32>) -> &Pool {
        let own = self.pools.iter().find(|(of, _)| *of == node);
        &own.unwrap_or(&self.pools[0]).1
    }

    /// All of them.
    pub fn all(&self) -> Vec<Pool> {
        self.pools.iter().map(|(_, pool)| pool.clone()).collect()
    }

    /// Their names by their ids.
    pub fn names(&self) -> Vec<(PoolId, String)> {
        let named = |(_, pool): &(_, Pool)| (pool.id(), pool.name().to_owned());
        self.pools.iter().map(named).collect()
    }
}

/// testpmd's number of mbufs for a port: rings of 2048, a burst, and a cache for each forwarding
/// core. testpmd multiplies it by 32, the ports it could have, because devices may be plugged in
/// later; here it is the ports that there are, so that a run needs 10 MiB and not 340.
fn default_mbufs(ports: usize, cache: u32, workers: usize) -> u32 {
    (2 * DEPTH_PLANNED + MAX_BURST as u32 + workers as u32 * cache) * ports as u32
}

/// The depths of a port's queues, rounded as it does, as far as the port can have them: what it
/// can't have it refuses when it is configured, and until then that takes no memory.
fn depths(queues: u16, max_queues: u16, depth: u32, max_depth: u32) -> impl Iterator<Item = u32> {
    let depth = depth.next_power_of_two().min(max_depth);
    std::iter::repeat_n(depth, queues.min(max_queues).into())
}

/// What these queues can hold at most, by the driver's own rule for a pool, and a burst in the
/// hands of each core.
fn needed_mbufs(rx: &[u32], tx: &[u32], args: &AppArgs, workers: usize) -> u32 {
    let held = (workers + 1) * args.burst;
    let needed = buffers_needed(rx, tx, args.mbcache) + held as u64;
    u32::try_from(needed).unwrap_or(u32::MAX)
}

/// A stream with its mode, as a forwarding core runs it.
pub struct Assigned {
    /// Which queues it has.
    pub plan: StreamPlan,
    /// The queues.
    pub stream: Stream<RxQueue, TxQueue>,
    /// What happens between them.
    pub mode: Box<dyn ForwardMode>,
    /// Sends a burst of generated packets, for `--tx-first`.
    pub first: Option<Box<dyn ForwardMode>>,
}

/// All streams of a run and which core runs which.
pub struct Forwarding {
    /// The streams in testpmd's order.
    pub plans: Vec<StreamPlan>,
    /// Their counters, in the same order.
    pub counters: Vec<Arc<StreamCounters>>,
    /// The forwarding cores, each with its share of the streams.
    pub cores: Vec<(Lcore, Range<usize>)>,
}

impl Forwarding {
    /// Plans the streams of the ports with these numbers over `cores`.
    pub fn plan(ports: &[usize], args: &AppArgs, queues: QueuePlan, cores: &[Lcore]) -> Forwarding {
        let topology = args.mode.topology(args.topology);
        let mut plans = streams::plan(ports.len(), queues.streams, topology);
        for plan in &mut plans {
            plan.rx_port = ports[plan.rx_port];
            plan.tx_port = ports[plan.tx_port];
        }
        let shares = streams::deal(plans.len(), cores.len());
        Forwarding {
            counters: plans
                .iter()
                .map(|_| Arc::new(StreamCounters::new(args.record_bursts)))
                .collect(),
            cores: cores.iter().copied().zip(shares).collect(),
            plans,
        }
    }

    /// Takes the queues out of the ports and makes the streams of every core.
    pub fn assign(
        &self,
        ports: &mut [TestPort],
        args: &AppArgs,
        pools: &Pools,
        patience: Patience,
        tx_first: bool,
    ) -> Vec<Vec<Assigned>> {
        let shape = |core: Lcore| Shape {
            lengths: args.tx_lengths.clone(),
            ip: args.tx_ip,
            udp: args.tx_udp,
            source_ports: args.multi_flow.then_some(SourcePorts {
                core: core.id as u8,
                flows: args.tx_flows,
            }),
            burst: args.burst,
            flows: args.flows,
        };
        let mut make = |index: usize, shape: &Shape| {
            let plan = self.plans[index];
            let queue = usize::from(plan.queue);
            let receiver = &mut ports[plan.rx_port];
            let rx = receiver.rx.get_mut(queue).and_then(Option::take);
            let rx_watch = receiver.watch.clone();
            let sender = &mut ports[plan.tx_port];
            let tx = sender.tx.get_mut(queue).and_then(Option::take);
            let info = sender.info();
            let (source, peer) = (info.mac, args.peer(plan.tx_port));
            let pool = pools.of(info.numa_node);
            Assigned {
                plan,
                stream: Stream::new(rx, tx, args.burst, self.counters[index].clone(), patience)
                    .watched(plan.queue, rx_watch, sender.watch.clone())
                    .tagged(sender.tx_vlan),
                mode: args.mode.build(source, peer, shape, pool, sender.by_device),
                first: tx_first
                    .then(|| ModeName::TxOnly.build(source, peer, shape, pool, sender.by_device)),
            }
        };
        let mut shares = Vec::with_capacity(self.cores.len());
        for (core, share) in &self.cores {
            let shape = shape(*core);
            shares.push(share.clone().map(|index| make(index, &shape)).collect());
        }
        shares
    }
}

/// Gives the queues of finished streams back to their ports.
pub fn return_queues(ports: &mut [TestPort], streams: Vec<Assigned>) {
    for assigned in streams {
        let queue = usize::from(assigned.plan.queue);
        let (rx, tx) = assigned.stream.into_queues();
        if rx.is_some() {
            ports[assigned.plan.rx_port].rx[queue] = rx;
        }
        if tx.is_some() {
            ports[assigned.plan.tx_port].tx[queue] = tx;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pool_has_testpmds_share_for_each_port() {
        // From dpdk-testpmd's logs on MANA: "n=163456" with two forwarding cores, "n=179456" with
        // four, both with the default cache of 250, planned for 32 ports.
        assert_eq!(default_mbufs(32, 250, 2), 163_456);
        assert_eq!(default_mbufs(32, 250, 4), 179_456);
        assert_eq!(default_mbufs(1, 250, 2), 163_456 / 32);
    }

    #[test]
    fn large_rings_make_the_pool_larger_but_not_beyond_what_a_port_has() {
        let rx: Vec<u32> = depths(64, 64, 3000, 8192).collect();
        let tx: Vec<u32> = depths(200, 128, 60_000, 8192).collect();
        assert_eq!((rx.len(), rx[0], tx.len(), tx[0]), (64, 4096, 128, 8192));
        // The driver's rule with its burst of 64, and a burst of 32 for two cores and the main one.
        let needed = 64 * 4096 + 128 * 8192 + 192 * 375 + 64 + 3 * 32;
        assert_eq!(needed_mbufs(&rx, &tx, &AppArgs::default(), 2), needed);
    }

    #[test]
    fn every_queue_that_a_mode_works_on_has_a_stream() {
        let plan = |mode, rxq, txq| {
            let plan = QueuePlan::new(mode, rxq, txq);
            (plan.rx, plan.tx, plan.streams)
        };
        assert_eq!(plan(ModeName::RxOnly, 4, 1), (4, 1, 4));
        assert_eq!(plan(ModeName::TxOnly, 1, 8), (1, 8, 8));
        assert_eq!(plan(ModeName::Io, 4, 1), (4, 4, 4));
        assert_eq!(plan(ModeName::FlowGen, 4, 1), (4, 4, 4));
        assert_eq!(plan(ModeName::FlowGen, 1, 8), (1, 8, 8));
        assert_eq!(plan(ModeName::Mac, 2, 3), (2, 3, 2));
    }
}
