//! A started port with its pools and queues, and the few motions that all suites are made of.

use dma_memory::{HugePages, RegionOptions};
use mana_pmd::{Oversize, Port, PortConfig, Queues, RxQueueConfig, TxQueueConfig, buffers_needed};
use pmd_api::{Batch, ExternalMemory, Mbuf, Pool, PoolConfig, RxBurst, TxBurst};

use crate::rig::Rig;

/// Packets of a burst.
pub const BURST: usize = 32;

/// How a port shall run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Receive queues.
    pub rx: usize,
    /// Transmit queues.
    pub tx: usize,
    /// Depth of each queue.
    pub depth: u32,
    /// Largest packet that one buffer holds, in bytes.
    pub packet: u32,
    /// The MTU, if not the netdev's.
    pub mtu: Option<u32>,
    /// Whether stripped VLAN tags are put back.
    pub keep_vlan_tags: bool,
    /// What becomes of larger packets than one buffer holds.
    pub oversize: Oversize,
    /// Buffers of each of the two pools beyond the least that the driver asks for.
    pub spare: u32,
    /// Buffers that a thread's cache record of a pool aims to hold. 0, as by default: no caches, so
    /// that every buffer can be taken from any thread.
    pub cache: u32,
    /// Whether receive queues can wake their owners.
    pub rx_interrupts: bool,
    /// Memory besides that may be sent from.
    pub tx_memory: Vec<ExternalMemory>,
    /// Toeplitz key, where not the default one.
    pub rss_key: Option<[u8; 40]>,
    /// What pages pools and rings lie in. Ordinary ones by default: tests must not depend on what
    /// the machine has reserved.
    pub huge: HugePages,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rx: 1,
            tx: 1,
            depth: 64,
            packet: 2048,
            mtu: None,
            keep_vlan_tags: false,
            oversize: Oversize::Refuse,
            spare: 64,
            cache: 0,
            rx_interrupts: false,
            tx_memory: Vec::new(),
            rss_key: None,
            huge: HugePages::Never,
        }
    }
}

impl Plan {
    /// So many queues each way.
    #[must_use]
    pub fn queues(rx: usize, tx: usize) -> Self {
        Self {
            rx,
            tx,
            ..Self::default()
        }
    }

    /// A pool as this plan needs it.
    ///
    /// # Panics
    ///
    /// If there is no memory.
    #[must_use]
    pub fn pool(&self, name: &str) -> Pool {
        let (rx, tx) = (vec![self.depth; self.rx], vec![self.depth; self.tx]);
        let config = PoolConfig {
            name: name.to_owned(),
            buffers: buffers_needed(&rx, &tx, self.cache) as u32 + self.spare,
            data_room: self.packet + pmd_api::HEADROOM as u32,
            cache: self.cache,
            memory: self.memory(),
            ..PoolConfig::default()
        };
        Pool::new(config).expect("memory for a pool")
    }

    /// A port of this plan that receives into one pool and sends from the other.
    #[must_use]
    pub fn config(&self, rx_pool: &Pool, tx_pool: &Pool) -> PortConfig {
        let rx = RxQueueConfig {
            depth: self.depth,
            pool: rx_pool.clone(),
        };
        PortConfig {
            rx: vec![rx; self.rx],
            tx: vec![TxQueueConfig { depth: self.depth }; self.tx],
            tx_pools: vec![tx_pool.clone()],
            tx_memory: self.tx_memory.clone(),
            rx_interrupts: self.rx_interrupts,
            rss_key: self.rss_key,
            rss_table: None,
            mtu: self.mtu,
            keep_vlan_tags: self.keep_vlan_tags,
            oversize: self.oversize,
            memory: self.memory(),
        }
    }

    fn memory(&self) -> RegionOptions {
        RegionOptions {
            huge: self.huge,
            ..RegionOptions::default()
        }
    }
}

/// A started port. Receives into one pool and sends from another.
pub struct Running<'a> {
    /// What it runs on.
    pub rig: &'a Rig,
    /// The port.
    pub port: Port,
    /// Its queues.
    pub queues: Queues,
    /// Where packets are received into.
    pub rx_pool: Pool,
    /// Where packets are sent from.
    pub tx_pool: Pool,
}

/// A packet and the queue it came on.
pub struct Received {
    /// Index of the queue.
    pub queue: usize,
    /// The packet.
    pub mbuf: Mbuf,
}

impl<'a> Running<'a> {
    /// Opens, configures and starts the port.
    ///
    /// # Panics
    ///
    /// If one of that fails.
    #[must_use]
    pub fn start(rig: &'a Rig, plan: &Plan) -> Self {
        Self::start_port(rig, plan, rig.open())
    }

    /// Configures and starts a port of the rig that is open already.
    ///
    /// # Panics
    ///
    /// If one of that fails.
    #[must_use]
    pub fn start_port(rig: &'a Rig, plan: &Plan, mut port: Port) -> Self {
        let (rx_pool, tx_pool) = (plan.pool("received"), plan.pool("sent"));
        let config = plan.config(&rx_pool, &tx_pool);
        port.configure(config)
            .unwrap_or_else(|error| panic!("the port can't be configured: {error}"));
        let queues = port
            .start()
            .unwrap_or_else(|error| panic!("the port does not start: {error}"));
        Self {
            rig,
            port,
            queues,
            rx_pool,
            tx_pool,
        }
    }

    /// A packet of one segment with these bytes.
    ///
    /// # Panics
    ///
    /// If the pool is empty or its buffers are too small.
    #[must_use]
    pub fn packet(&self, bytes: &[u8]) -> Mbuf {
        let mut mbuf = self.tx_pool.alloc().expect("a free buffer");
        mbuf.extend_from_slice(bytes).expect("room in the buffer");
        mbuf
    }

    /// Sends packets in bursts on queue `queue`, in order.
    ///
    /// # Panics
    ///
    /// If one is rejected, or the queue takes no more though the device had time.
    pub fn send(&mut self, queue: usize, mbufs: Vec<Mbuf>) {
        let (rig, tx) = (self.rig, &mut self.queues.tx[queue]);
        let mut batch = Batch::with_capacity(BURST);
        let mut mbufs = mbufs.into_iter();
        loop {
            batch.fill_from(mbufs.by_ref());
            if batch.is_empty() {
                return;
            }
            let gone = rig.until(|| {
                let outcome = tx.tx_burst(&mut batch);
                if let Some((_, reason)) = outcome.rejected {
                    panic!("the queue rejected a packet: {reason}");
                }
                batch.is_empty()
            });
            assert!(
                gone,
                "queue {queue} does not take {} packets more",
                batch.len()
            );
        }
    }

    /// Builds packets of these bytes and sends them.
    ///
    /// # Panics
    ///
    /// As [`Running::send`].
    pub fn send_frames(&mut self, queue: usize, frames: &[Vec<u8>]) {
        for some in frames.chunks(BURST) {
            self.reclaim();
            let mbufs = some.iter().map(|frame| self.packet(frame)).collect();
            self.send(queue, mbufs);
            self.rig.advance();
        }
    }

    /// One burst from every queue, without letting the device work in between.
    pub fn poll(&mut self) -> Vec<Received> {
        let mut batch = Batch::with_capacity(BURST);
        let mut all = Vec::new();
        for (queue, rx) in self.queues.rx.iter_mut().enumerate() {
            rx.rx_burst(&mut batch);
            all.extend(batch.drain(..).map(|mbuf| Received { queue, mbuf }));
        }
        all
    }

    /// Receives until `count` packets are there.
    ///
    /// # Panics
    ///
    /// If fewer come, or more.
    pub fn receive(&mut self, count: usize) -> Vec<Received> {
        let rig = self.rig;
        let mut all = Vec::new();
        rig.until(|| {
            all.extend(self.poll());
            all.len() >= count
        });
        assert_eq!(all.len(), count, "packets received");
        all
    }

    /// Sends on queue `queue` what a loop or a partner brings back, burst by burst, and returns it
    /// in the order of its arrival with the queues it came on.
    ///
    /// # Panics
    ///
    /// If not as many packets come back.
    pub fn exchange(&mut self, queue: usize, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        let mut back = Vec::new();
        for some in frames.chunks(BURST) {
            self.send_frames(queue, some);
            let received = self.receive(some.len());
            back.extend(received.iter().map(|one| (one.queue, one.mbuf.to_vec())));
        }
        back
    }

    /// Brings the buffers of sent packets home.
    pub fn reclaim(&mut self) -> usize {
        self.queues.tx.iter_mut().map(TxBurst::reclaim).sum()
    }

    /// Waits until nothing is in flight on any transmit queue.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn settle(&mut self) {
        let rig = self.rig;
        let done = rig.until(|| {
            self.reclaim();
            self.queues.tx.iter().all(|queue| queue.in_flight() == 0)
        });
        assert!(
            done,
            "packets stay in flight: {:?} {}",
            self.queues,
            rig.trouble()
        );
    }

    /// Stops the port, queues included.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn stop(&mut self) {
        let queues = std::mem::take(&mut self.queues);
        self.port.stop(queues).expect("the port stops");
    }

    /// Starts the stopped port with the same configuration.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn start_again(&mut self) {
        self.queues = self.port.start().expect("the port starts again");
    }

    /// Stops and starts.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Stops and closes the port and asserts that nothing is left behind.
    ///
    /// # Panics
    ///
    /// If something is.
    pub fn finish(self) {
        let Self {
            rig,
            mut port,
            queues,
            rx_pool,
            tx_pool,
        } = self;
        port.stop(queues).expect("the port stops");
        port.close().expect("the port closes");
        rig.assert_clean(&[&rx_pool, &tx_pool]);
    }
}
