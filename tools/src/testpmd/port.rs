//! A port of the run: open, started or closed, with what the prompt has set for it.

use std::sync::Arc;
use std::time::Instant;

use dma_memory::{HugePages, RegionOptions};
use mana_pmd::{
    Link, Oversize, Port, PortConfig, PortEvent, PortInfo, Queues, RSS_TABLE, RxQueue,
    RxQueueConfig, TxQueue, TxQueueConfig, Xstat,
};
use pmd_api::{Batch, Capabilities, PortStats, RxBurst, Support, TxBurst};

use super::app_args::AppArgs;
use super::checksums::ByDevice;
use super::display::{self, PortLine};
use super::error::Error;
use super::setup::{Pools, QueuePlan};
use super::stats::{RateMeter, Rates};
use super::watch::Watch;

/// The TX offload flag of DPDK for tags, `RTE_ETH_TX_OFFLOAD_VLAN_INSERT`.
const VLAN_INSERT: u64 = 1;

/// A part of a port's RSS.
pub enum Rss {
    /// The key.
    Key([u8; 40]),
    /// The redirection table.
    Table([u16; RSS_TABLE]),
}

/// Events that are kept for `show event`.
const EVENTS_KEPT: usize = 256;

/// A port and the queues of it that no stream uses.
pub struct TestPort {
    /// Its number.
    pub number: usize,
    /// None once it is closed.
    port: Option<Port>,
    info: PortInfo,
    /// RX queues by index.
    pub rx: Vec<Option<RxQueue>>,
    /// TX queues by index.
    pub tx: Vec<Option<TxQueue>>,
    /// Which checksums of csum mode the device computes.
    pub by_device: ByDevice,
    /// RSS key, if not the driver's own.
    rss_key: Option<[u8; 40]>,
    /// Redirection table, if not all queues in turn.
    pub rss_table: Option<[u16; RSS_TABLE]>,
    /// MTU from the next start on, if not that of the netdev or the command line.
    pub mtu: Option<u32>,
    /// Whether VLAN tags stay in received packets, from the next start on.
    pub keep_vlan_tags: bool,
    /// VLAN tag that the device puts into what leaves.
    pub tx_vlan: Option<u16>,
    /// Whether something was set that the next start brings into effect.
    pub changed: bool,
    /// What looks at its packets.
    pub watch: Arc<Watch>,
    /// What happened to it, as testpmd tells it.
    pub events: Vec<String>,
    cleared: PortStats,
    xcleared: Vec<Xstat>,
    last: PortStats,
    meter: RateMeter,
}

impl TestPort {
    /// An open port that is not started.
    pub fn new(number: usize, port: Port, by_device: ByDevice, pools: &Pools) -> TestPort {
        TestPort {
            number,
            info: port.info().clone(),
            port: Some(port),
            rx: Vec::new(),
            tx: Vec::new(),
            by_device,
            rss_key: None,
            rss_table: None,
            mtu: None,
            keep_vlan_tags: false,
            tx_vlan: None,
            changed: true,
            watch: Arc::new(Watch::new(number, pools.names())),
            events: Vec::new(),
            cleared: PortStats::default(),
            xcleared: Vec::new(),
            last: PortStats::default(),
            meter: RateMeter::default(),
        }
    }

    /// The driver's port, unless it was closed.
    pub fn open(&self) -> Option<&Port> {
        self.port.as_ref()
    }

    /// What is known of it, also after it was closed.
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// Whether it is started.
    pub fn is_started(&self) -> bool {
        self.port.as_ref().is_some_and(Port::is_started)
    }

    /// Configures it with what was set.
    ///
    /// # Errors
    ///
    /// Whatever the port refuses.
    pub fn configure(
        &mut self,
        args: &AppArgs,
        queues: QueuePlan,
        pools: &Pools,
        huge: HugePages,
    ) -> Result<(), mana_pmd::Error> {
        let Some(port) = &mut self.port else {
            return Ok(());
        };
        let numa_node = self.info.numa_node;
        let rx = RxQueueConfig {
            depth: args.rxd,
            pool: pools.of(numa_node).clone(),
        };
        port.configure(PortConfig {
            rx: vec![rx; queues.rx.into()],
            tx: vec![TxQueueConfig { depth: args.txd }; queues.tx.into()],
            tx_pools: pools.all(),
            rx_interrupts: args.rx_interrupts && port.capabilities().rx_interrupt == Support::Yes,
            rss_key: self.rss_key,
            rss_table: self.rss_table,
            mtu: self.mtu.or(args.mtu()),
            keep_vlan_tags: self.keep_vlan_tags,
            // dpdk-testpmd runs with mbufs that don't hold the MTU; here it says so in a warning.
            oversize: match args.scatter {
                true => Oversize::Scatter,
                false => Oversize::Drop,
            },
            memory: RegionOptions { huge, numa_node },
            ..PortConfig::default()
        })
    }

    /// Configures and starts it.
    ///
    /// # Errors
    ///
    /// Whatever the port refuses.
    pub fn start(
        &mut self,
        args: &AppArgs,
        queues: QueuePlan,
        pools: &Pools,
        huge: HugePages,
    ) -> Result<(), mana_pmd::Error> {
        self.configure(args, queues, pools, huge)?;
        let Some(port) = &mut self.port else {
            return Ok(());
        };
        port.set_histograms(args.histograms);
        let Queues { rx, tx } = port.start()?;
        self.rx = rx.into_iter().map(Some).collect();
        self.tx = tx.into_iter().map(Some).collect();
        self.changed = false;
        Ok(())
    }

    /// Sets its RSS: at once where it is stopped; where it runs as soon as all queues are given up.
    ///
    /// # Errors
    ///
    /// What the port refuses; nothing is set then.
    pub fn set_rss(
        &mut self,
        rss: &Rss,
        configure: impl Fn(&mut Self) -> Result<(), mana_pmd::Error>,
    ) -> Result<(), mana_pmd::Error> {
        let before = (self.rss_key, self.rss_table);
        match rss {
            Rss::Key(key) => self.rss_key = Some(*key),
            Rss::Table(table) => self.rss_table = Some(*table),
        }
        let set = match (&mut self.port, rss) {
            (Some(port), Rss::Key(key)) if port.is_started() => port.set_rss_key(key),
            (Some(port), Rss::Table(table)) if port.is_started() => port.set_rss_table(table),
            _ => configure(self),
        };
        if set.is_ok() {
            self.changed |= !self.is_started();
        } else {
            (self.rss_key, self.rss_table) = before;
        }
        set
    }

    /// Lets it have queues that no stream uses, if it waits for them.
    pub fn give_way(&mut self) {
        self.rx.iter_mut().flatten().for_each(RxQueue::give_way);
        self.tx.iter_mut().flatten().for_each(TxQueue::give_way);
    }

    /// Takes all queues back and stops it; nothing where it is not started.
    ///
    /// # Errors
    ///
    /// As [`Port::stop`].
    pub fn stop(&mut self) -> Result<(), mana_pmd::Error> {
        let rx = self.rx.drain(..).flatten().collect();
        let tx = self.tx.drain(..).flatten().collect();
        match &mut self.port {
            Some(port) if port.is_started() => port.stop(Queues { rx, tx }),
            _ => Ok(()),
        }
    }

    /// Closes it.
    ///
    /// # Errors
    ///
    /// As [`Port::close`].
    pub fn close(&mut self) -> Result<(), mana_pmd::Error> {
        self.last = self.stats();
        self.port.take().map_or(Ok(()), Port::close)
    }

    /// What it counted since it was opened, packets that found no buffer among it.
    pub fn stats(&self) -> PortStats {
        self.port.as_ref().map_or(self.last, |port| {
            port.refresh_missed();
            port.stats()
        })
    }

    /// Its extended statistics since [`TestPort::clear`].
    pub fn xstats(&self) -> Vec<Xstat> {
        let mut all = self.port.as_ref().map_or_else(Vec::new, |port| {
            port.refresh_missed();
            port.xstats()
        });
        for stat in &mut all {
            if stat.is_gauge() {
                continue;
            }
            let cleared = self.xcleared.iter().find(|old| old.name == stat.name);
            stat.value -= cleared.map_or(0, |old| old.value.min(stat.value));
        }
        all
    }

    /// Lets its queues count in histograms, or not.
    pub fn set_histograms(&mut self, on: bool) {
        if let Some(port) = &mut self.port {
            port.set_histograms(on);
        }
    }

    /// What it counted since [`TestPort::clear`].
    pub fn shown(&self) -> PortStats {
        self.stats() - self.cleared
    }

    /// Counts from 0 again, for who looks.
    pub fn clear(&mut self) {
        self.cleared = self.stats();
        self.xcleared = self.port.as_ref().map_or_else(Vec::new, Port::xstats);
    }

    /// Packets and bits a second since the last call.
    pub fn rates(&mut self) -> Rates {
        let stats = self.stats();
        self.meter.look(Instant::now(), &stats)
    }

    /// The oldest event that was not asked for yet, and what testpmd prints of it.
    ///
    /// # Errors
    ///
    /// As [`Port::next_event`].
    pub fn next_event(&mut self) -> Result<Option<(PortEvent, String)>, Error> {
        let Some(port) = &mut self.port else {
            return Ok(None);
        };
        // While they belong to no stream, nobody else gives them up to a port that recovers.
        for queue in self.rx.iter_mut().flatten() {
            queue.rx_burst(&mut Batch::with_capacity(0));
        }
        for queue in self.tx.iter_mut().flatten() {
            queue.reclaim();
        }
        let event = port.next_event().map_err(|error| Error::Port {
            port: self.number,
            error,
        })?;
        Ok(event.map(|event| {
            if self.events.len() == EVENTS_KEPT {
                self.events.remove(0);
            }
            self.events.push(event.to_string());
            let text = display::event(self.number, &event);
            (event, text)
        }))
    }

    /// Its link; down, once it is closed.
    pub fn link(&self) -> Link {
        self.port.as_ref().map_or(Link::Down, Port::link)
    }

    /// What it can do of something; nothing, once it is closed.
    pub fn capability(&self, which: fn(Capabilities) -> Support) -> Support {
        let port = self.port.as_ref();
        port.map_or(Support::NotByDevice, |port| which(port.capabilities()))
    }

    /// Sets the MTU.
    ///
    /// # Errors
    ///
    /// As [`Port::set_mtu`].
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), mana_pmd::Error> {
        if let Some(port) = &mut self.port {
            port.set_mtu(mtu)?;
            self.mtu = Some(mtu);
            self.changed = true;
        }
        Ok(())
    }

    /// Makes it anew, as after a reset of its device.
    pub fn recover(&mut self) {
        if let Some(port) = &mut self.port {
            port.recover();
        }
    }

    /// What the output tells of it.
    pub fn line(&self, args: &AppArgs) -> PortLine {
        let info = &self.info;
        PortLine {
            number: self.number,
            mac: info.mac,
            socket: info.numa_node.unwrap_or(0),
            provider: format!(
                "{} ({}), driver id {}",
                info.provider, info.provider_note, info.driver_id
            ),
            peer: args.peer(self.number),
            tx_offloads: self.by_device.offloads() | self.tx_vlan.map_or(0, |_| VLAN_INSERT),
        }
    }
}
