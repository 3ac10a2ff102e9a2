//! This driver as a stack.

use dma_memory::{HugePages, RegionOptions};
use mana_pmd::{
    Port, PortConfig, ProviderChoice, Queues, RxQueueConfig, Selector, TxQueueConfig,
    buffers_needed,
};
use mana_verbs::VerbsError;
use pmd_api::{Batch, HEADROOM, Pool, PoolConfig, RxBurst, TxBurst, TxFlags, TxOffload, TxWord};

use super::device::Device;
use super::frame::frame;
use super::measure::Bursts;
use super::{Role, libraries, resident};
use crate::bench::error::Error;
use crate::bench::plan::{Offload, Plan, Ready};

/// Buffers of the pool, where the queues do not need more.
const BUFFERS: u32 = 8191;
/// Buffers of the thread's cache: DPDK's testpmd has as many.
const CACHE: u32 = 250;
/// Bytes of a buffer behind the headroom, where packets are not larger.
const ROOM: u32 = 2048;
/// The MTU that buffers of that size are made for.
const MTU: u32 = 1500;

/// The driver on its device. One pool, as in C.
pub struct Driver {
    queues: Queues,
    queue: usize,
    batch: Batch,
    burst: usize,
    frame: Vec<u8>,
    segments: usize,
    word: TxWord,
    pool: Pool,
    port: Port,
    device: Device,
}

impl Driver {
    /// Opens and starts the port.
    pub fn start(
        plan: &Plan,
        device: Device,
        huge: HugePages,
        role: Role,
    ) -> Result<(Self, Ready), Error> {
        let provider = match role {
            Role::RdmaCore => ProviderChoice::RdmaCore,
            Role::Uverbs | Role::Floor => ProviderChoice::Uverbs,
        };
        let system = device.system();
        let ports = mana_pmd::discover(&system).map_err(Error::failed)?;
        let netdev = ports.first().and_then(|port| port.netdev.as_ref());
        let selector = Selector {
            macs: netdev.map(|netdev| netdev.mac).into_iter().collect(),
            provider,
            ..Selector::default()
        };
        let mut port = Port::open(&system, &selector).map_err(cause)?.remove(0);
        let memory = RegionOptions {
            huge,
            ..RegionOptions::default()
        };
        let depths = vec![plan.ring; plan.queues as usize];
        let segments = plan.burst * plan.segments;
        let needed = buffers_needed(&depths, &depths, CACHE) as u32 + segments;
        let pool = Pool::new(PoolConfig {
            name: "bench".to_owned(),
            buffers: needed.max(BUFFERS),
            data_room: ROOM.max(plan.size) + HEADROOM as u32,
            cache: CACHE,
            memory: memory.clone(),
            ..PoolConfig::default()
        })
        .map_err(Error::failed)?;
        let before = resident();
        let rx = |&depth: &u32| RxQueueConfig {
            depth,
            pool: pool.clone(),
        };
        port.configure(PortConfig {
            rx: depths.iter().map(rx).collect(),
            tx: (depths.iter())
                .map(|&depth| TxQueueConfig { depth })
                .collect(),
            mtu: Some(MTU.max(plan.size.saturating_sub(14))),
            memory,
            ..PortConfig::default()
        })
        .map_err(Error::failed)?;
        let queues = port.start().map_err(Error::failed)?;
        let info = port.info();
        let ready = Ready {
            provider: format!("{} ({})", info.provider, info.provider_note),
            memory_kib: resident() - before,
            libraries: libraries(),
        };
        device.step();
        let driver = Self {
            queues,
            queue: 0,
            batch: Batch::with_capacity(plan.burst as usize),
            burst: plan.burst as usize,
            frame: frame(plan.size as usize),
            segments: plan.segments as usize,
            word: word(plan.offload)?,
            pool,
            port,
            device,
        };
        Ok((driver, ready))
    }
}

/// Libraries that this machine does not have are no failure of the driver.
fn cause(error: mana_pmd::Error) -> Error {
    match error {
        mana_pmd::Error::Verbs(VerbsError::RdmaCore(missing)) => {
            Error::Unsupported(missing.to_string())
        }
        other => Error::failed(other),
    }
}

/// What packets to send ask for.
fn word(offload: Offload) -> Result<TxWord, Error> {
    let offload = match offload {
        Offload::Off => TxOffload::default(),
        Offload::Checksum => TxOffload {
            flags: TxFlags::IPV4 | TxFlags::IPV4_CHECKSUM | TxFlags::UDP_CHECKSUM,
            l2_len: 14,
            l3_len: 20,
            ..TxOffload::default()
        },
        Offload::Vlan => TxOffload {
            flags: TxFlags::VLAN,
            vlan_tci: 5,
            ..TxOffload::default()
        },
    };
    offload.word().map_err(Error::failed)
}

impl Bursts for Driver {
    fn fill(&mut self) {
        let (pool, batch) = (&self.pool, &mut self.batch);
        pool.alloc_bulk(batch, self.burst)
            .expect("sent buffers come home");
        for first in batch.iter_mut() {
            let mut rest = &self.frame[..];
            for left in (1..=self.segments).rev() {
                let (bytes, behind) = rest.split_at(rest.len() / left);
                rest = behind;
                if left == self.segments {
                    first.extend_from_slice(bytes).expect("room for a segment");
                } else {
                    let mut segment = pool.alloc().expect("sent buffers come home");
                    (segment.extend_from_slice(bytes)).expect("room for a segment");
                    assert!(first.chain(segment).is_ok(), "a chain of few segments");
                }
            }
            first.set_tx_word(self.word);
        }
    }

    fn ready(&self) -> usize {
        self.batch.len()
    }

    #[inline(always)]
    fn tx(&mut self) -> usize {
        self.queues.tx[self.queue].tx_burst(&mut self.batch).sent
    }

    #[inline(always)]
    fn rx(&mut self) -> usize {
        self.queues.rx[self.queue].rx_burst(&mut self.batch)
    }

    #[inline(always)]
    fn forward(&mut self) -> usize {
        let received = self.queues.rx[self.queue].rx_burst(&mut self.batch);
        let _sent = self.queues.tx[self.queue].tx_burst(&mut self.batch);
        received
    }

    fn free(&mut self) {
        self.batch.clear();
    }

    fn step(&mut self) {
        self.device.step();
    }

    fn turn(&mut self) {
        self.queue = (self.queue + 1) % self.queues.tx.len();
    }

    fn finish(mut self) {
        let findings = self.device.findings();
        assert!(findings.is_empty(), "findings: {findings:?}");
        self.batch.clear();
        self.port.stop(self.queues).expect("the port stops");
        self.port.close().expect("the port closes");
        assert_eq!(self.pool.in_use(), 0, "every buffer came home");
    }
}
