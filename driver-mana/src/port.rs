//! A port from open to close.

mod adapter;
mod link;
mod mtu;
mod recovery;
mod rss;
mod signals;
mod watchdog;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mana_verbs::{AsyncEvent, EventListener};
use pmd_api::{Capabilities, PortStats, QueueStats};
use uverbs_abi::System;

use crate::capabilities::capabilities;
use crate::discover::{Usable, choose};
use crate::limits::Limits;
use crate::missed::Reader;
use crate::queue::{Counters, QueueHistograms, RxQueue, TxQueue};
use crate::started::Started;
use crate::stats::{Totals, port_stats};
use crate::{Error, Missed, PortConfig, PortEvent, PortInfo, Selector, Xstat, xstats};
use adapter::{Adapter, Hold};
use recovery::Recovery;
use rss::RssChange;
use signals::Signals;
use watchdog::Watchdog;

pub use link::Link;
pub use recovery::RecoveryConfig;

/// The queues of a started port, handed out by [`Port::start`] and taken back by [`Port::stop`].
///
/// Each is an owned value that can go to another thread.
#[derive(Debug, Default)]
#[must_use = "dropped queues go back to the port, which then receives into full rings"]
pub struct Queues {
    /// Receive queues in the order of the configuration.
    pub rx: Vec<RxQueue>,
    /// Transmit queues in the order of the configuration.
    pub tx: Vec<TxQueue>,
}

/// An open port of a MANA device.
///
/// Open, then any number of times: configure (again), start, stop. An error changes nothing unless
/// the function says otherwise. Dropping a port, started or not, is always sound: what queues still
/// need stays until the last of them is dropped.
///
/// # When the device goes away
///
/// The kernel takes a device away for a reset, for servicing, or for good. A port that is driven
/// ([`Port::next_event`], [`Port::drive`]) finds the same port again, by PCI address and MAC, and
/// makes everything anew; the queue handles stay where they are and go on. Meanwhile bursts move
/// nothing. For that each owner must call its queue once, or drop it.
pub struct Port {
    system: Arc<dyn System>,
    adapter: Arc<Adapter>,
    /// `None` while it is away.
    device: Option<Device>,
    limits: Limits,
    info: PortInfo,
    id: u16,
    signals: Signals,
    /// Events that nobody asked for yet.
    told: VecDeque<PortEvent>,
    recovery: Option<Recovery>,
    recovery_config: RecoveryConfig,
    watchdog: Watchdog,
    /// What the receiving side is to become, as soon as all its queues are given up.
    rss_change: Option<RssChange>,
    config: Option<PortConfig>,
    /// The MTU of a configuration without one, if not the netdev's.
    mtu: Option<u32>,
    started: Option<Arc<Started>>,
    rx: Totals,
    tx: Totals,
    missed: Mutex<Reader>,
}

/// The device under a port.
struct Device {
    events: EventListener,
    usable: Usable,
    hold: Hold,
}

impl Port {
    /// Opens the ports that `selector` chooses, in the order of its MACs, otherwise by PCI address
    /// and port number. Ports of one ib device share one uverbs context.
    ///
    /// The default selector opens every port that can be used; ports whose netdev is UP are then
    /// left alone and named in a warning. A port that is selected is opened even if its netdev is
    /// UP; it can't be started before the netdev is DOWN.
    ///
    /// # Errors
    ///
    /// * [`Error::NoDevice`] or [`Error::NoUsablePort`] where there is nothing to open;
    /// * [`Error::NoSuchPort`] and [`Error::Ambiguous`], with candidates, where a part of the
    ///   selector names no port or several;
    /// * [`Error::Selector`] and [`Error::NotEthernet`] for selectors that can't be satisfied;
    /// * [`Error::Unusable`] and [`Error::Verbs`] where a selected port can't be used, e.g. because
    ///   its uverbs node is missing, or because its provider can't be had.
    pub fn open(system: &Arc<dyn System>, selector: &Selector) -> Result<Vec<Self>, Error> {
        let chosen = choose(system.as_ref(), selector)?;
        let mut adapters: Vec<Arc<Adapter>> = Vec::new();
        (0..)
            .zip(chosen)
            .map(|(id, usable)| {
                let shared = |adapter: &Arc<Adapter>| {
                    Some((Arc::clone(adapter), adapter.hold(&usable.context)?))
                };
                let known = adapters.iter().find_map(shared);
                let (adapter, hold) = known.unwrap_or_else(|| {
                    let (adapter, hold) = Adapter::new(&usable.context, selector.provider);
                    adapters.push(Arc::clone(&adapter));
                    (adapter, hold)
                });
                Self::new(system, adapter, usable, hold, id)
            })
            .collect()
    }

    fn new(
        system: &Arc<dyn System>,
        adapter: Arc<Adapter>,
        usable: Usable,
        hold: Hold,
        id: u16,
    ) -> Result<Self, Error> {
        let events = usable.context.listen()?;
        let signals = Signals::new()?;
        signals.add(events.fd())?;
        let info = PortInfo::of(&usable);
        tracing::info!(
            "opened port {} of {} ({}, netdev {}, mac {}) through {} ({}) with driver id {}",
            info.port,
            info.pci,
            info.ib_device,
            usable.netdev.name,
            info.mac,
            info.provider,
            info.provider_note,
            info.driver_id,
        );
        Ok(Self {
            system: Arc::clone(system),
            adapter,
            limits: usable.limits,
            device: Some(Device {
                events,
                usable,
                hold,
            }),
            info,
            id,
            signals,
            told: VecDeque::new(),
            recovery: None,
            recovery_config: RecoveryConfig::default(),
            watchdog: Watchdog::default(),
            rss_change: None,
            config: None,
            mtu: None,
            started: None,
            rx: Totals::default(),
            tx: Totals::default(),
            missed: Mutex::default(),
        })
    }

    /// Where the port is and what it can do.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// What the port can do, and for the rest whether device, kernel or driver is missing.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        capabilities(&self.limits)
    }

    /// What it runs with, or the next start would: as it was configured, with depths rounded up and
    /// the MTU filled in. `None` before the first [`Port::configure`].
    #[must_use]
    pub fn config(&self) -> Option<&PortConfig> {
        self.config.as_ref()
    }

    /// Sets the number that received packets carry as [`pmd_api::Mbuf::port`], from the next start
    /// on. It begins as the position of the port in what [`Port::open`] returned.
    pub fn set_id(&mut self, id: u16) {
        self.id = id;
    }

    /// Sets what the next start runs with. Everything is checked here, nothing is asked of the
    /// kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Started`]; otherwise what is wrong with the configuration. The earlier
    /// configuration stays then.
    pub fn configure(&mut self, config: PortConfig) -> Result<(), Error> {
        if self.started.is_some() {
            return Err(Error::Started);
        }
        if let Some(mtu) = config.mtu {
            crate::mtu::check(mtu, self.info.max_mtu)?;
        }
        self.config = Some(self.checked(config)?);
        Ok(())
    }

    /// Starts the port: all queues are made, receive buffers are posted, and packets flow.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Started`], [`Error::NetdevUp`] or [`Error::VportInUse`]
    /// where somebody else owns the vPort, [`Error::DeviceRemoved`] where the device is gone,
    /// [`Error::Memory`] without memory for the rings, and everything the kernel can refuse. All that was made until then is taken apart again, and the
    /// next start can succeed.
    pub fn start(&mut self) -> Result<Queues, Error> {
        if self.started.is_some() {
            return Err(Error::Started);
        }
        if self.config.is_none() {
            return Err(Error::NotConfigured);
        }
        if self.device.is_none() && self.attach().is_err() {
            return Err(self.removed());
        }
        let (config, running) = self.make()?;
        let mut rx: Vec<Arc<Counters>> = config.rx.iter().map(|_| Arc::default()).collect();
        for core in &running.receive.rx {
            rx[usize::from(core.index())] = Arc::clone(core.counters());
        }
        let tx = running
            .tx
            .iter()
            .map(|core| Arc::clone(core.counters()))
            .collect();
        let (started, queues) = Started::begin(running, &config, self.signals.bell())?;
        self.rx.begin(rx);
        self.tx.begin(tx);
        self.watchdog.reset();
        self.started = Some(started);
        self.end_recovery();
        self.set_timer();
        self.remind();
        Ok(queues)
    }

    /// Stops the port and takes its queues back. Queues that were dropped before count as returned,
    /// so the default value serves where all were. Packets that were not sent yet are lost; their
    /// buffers and those posted for receiving go back to their pools.
    ///
    /// # Errors
    ///
    /// * [`Error::NotStarted`]: `queues` go home to where they belong.
    /// * [`Error::QueuesOutstanding`]: the given queues count as returned, the port stays started;
    ///   call again when the others are dropped, or with them.
    /// * [`Error::ForeignQueues`]: queues of another port went home to that port, those of this port
    ///   count as returned, the port stays started.
    /// * [`Error::Verbs`]: the port is stopped, but the kernel refused to destroy something. Memory
    ///   that the device may still use is kept for the life of the process and named in the log.
    pub fn stop(&mut self, queues: Queues) -> Result<(), Error> {
        let started = self.started.as_ref().ok_or(Error::NotStarted)?;
        let foreign = foreign(&queues, started);
        drop(queues);
        if !foreign.is_empty() {
            return Err(Error::ForeignQueues { queues: foreign });
        }
        let running = started
            .end()
            .map_err(|queues| Error::QueuesOutstanding { queues })?;
        self.started = None;
        self.adopt_rss();
        self.set_timer();
        let stopped = running.map_or(Ok(()), |mut running| {
            if let Some(recovery) = &mut self.recovery {
                recovery.add(running.lose());
            }
            running.tear_down().map_err(Error::Verbs)
        });
        self.rx.end();
        self.tx.end();
        stopped
    }

    /// Closes the port, stopping it first if it is started and all its queues were dropped.
    ///
    /// # Errors
    ///
    /// As [`Port::stop`] without queues. The port is gone in any case; outstanding queues keep what
    /// they need until the last of them is dropped, which then stops the device.
    pub fn close(mut self) -> Result<(), Error> {
        if self.started.is_some() {
            self.stop(Queues::default())
        } else {
            Ok(())
        }
    }

    /// Drives the port and returns the oldest event that was not asked for yet. Never waits. Asked
    /// until there is none, it needs to be asked again when [`Port::event_fd`] is readable.
    ///
    /// # Errors
    ///
    /// [`Error::Verbs`] where events can't be read.
    pub fn next_event(&mut self) -> Result<Option<PortEvent>, Error> {
        let driven = self.drive();
        match self.told.pop_front() {
            Some(event) => {
                self.remind();
                Ok(Some(event))
            }
            None => driven.map(|()| None),
        }
    }

    /// Reads what the device has to say, goes on with a recovery under way, and looks after the
    /// transmit queues. Never waits; one step may make all queues anew. What happens is told by
    /// [`Port::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Verbs`] where events can't be read; everything else was done.
    pub fn drive(&mut self) -> Result<(), Error> {
        self.signals.clear();
        let now = Instant::now();
        let read = self.read_events(now);
        self.drive_recovery(now);
        self.drive_rss(now);
        if let (Some(timeout), None) = (self.recovery_config.tx_timeout, &self.recovery) {
            let stuck = self.watchdog.look(self.tx.running(), timeout, now);
            self.told.extend(stuck);
        }
        self.set_timer();
        self.remind();
        read
    }

    /// Readable, for poll and epoll, while [`Port::next_event`] or [`Port::drive`] should be called,
    /// which may then have nothing to tell. Close-on-exec; valid as long as the port.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.signals.fd()
    }

    fn read_events(&mut self, now: Instant) -> Result<(), Error> {
        while let Some(device) = &self.device {
            match device.events.next_event() {
                Ok(None) => break,
                Ok(Some(AsyncEvent::DeviceFatal)) => self.lose_device(now),
                Ok(Some(event)) => self.told.extend(PortEvent::of(event, self.info.port)),
                // The file has ended, whoever took the last event.
                Err(error) if error.is_disassociated() => self.lose_device(now),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Events that are told already are a reason to ask.
    fn remind(&self) {
        if !self.told.is_empty() {
            self.signals.bell().ring();
        }
    }

    fn name(&self) -> String {
        format!("port {} of {}", self.info.port, self.info.pci)
    }

    fn removed(&self) -> Error {
        let (pci, port) = (self.info.pci, self.info.port);
        Error::DeviceRemoved { pci, port }
    }

    /// Whether the port is started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// What all queues counted since the port was opened; starts and stops don't reset it. It may be
    /// read while bursts run.
    ///
    /// `rx_missed` is what [`Port::refresh_missed`] found last; see [`Port::missed`] for what it
    /// covers and how old it is.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        port_stats(&self.rx, &self.tx, self.reader().packets())
    }

    /// All statistics by name, also by queue: first DPDK's, then this driver's. Names and order stay
    /// the same as long as the number of queues does. It may be read while bursts run.
    ///
    /// Beyond packets, bytes and errors: bursts (`empty_bursts` brought nothing, `full_bursts` filled
    /// the batch, `ring_full_events` left packets behind), doorbells, completions (fewer
    /// than packets where several came in one), `ring_empty_events` (the device had no buffer left, so it may
    /// have dropped packets), `refill_deficit` (buffers that the pool could not give) with the most
    /// that were ever missing, and failed packets by the type of their completion.
    #[must_use]
    pub fn xstats(&self) -> Vec<Xstat> {
        xstats::list(&self.stats(), &self.rx, &self.tx)
    }

    /// Lets all queues count in histograms ([`QueueHistograms`]) from now on, or stops that; off at
    /// first. On, a burst costs some 10 ns more, one in sixteen that receives also a look at each
    /// packet that waits, and one clock reading for each completion that is timed; off, it costs a
    /// load and a branch. Once they were on, [`Port::xstats`] has, for each queue at its end, the number of values
    /// (`rx_q0_burst_packets_count`), two percentiles (`_p50`, `_p99`: at most twice the exact
    /// one) and the largest (`_max`) of `burst_packets`, `ring_packets` and, of transmit queues, `completion_ns`.
    pub fn set_histograms(&mut self, on: bool) {
        self.rx.set_histograms(on);
        self.tx.set_histograms(on);
    }

    /// Whether [`Port::set_histograms`] was ever called for.
    #[must_use]
    pub fn has_histograms(&self) -> bool {
        self.rx.has_histograms()
    }

    /// What the receive queues of this index counted by magnitude while that was asked for.
    #[must_use]
    pub fn rx_histograms(&self, index: u16) -> QueueHistograms {
        self.rx.histograms(index.into())
    }

    /// What the transmit queues of this index counted by magnitude while that was asked for.
    #[must_use]
    pub fn tx_histograms(&self, index: u16) -> QueueHistograms {
        self.tx.histograms(index.into())
    }

    /// Asks the kernel how many packets the device dropped because no buffer was posted. A few
    /// system calls, so once a second at most.
    ///
    /// mana_ib has no such counter: the Ethernet driver of the same PCI function has, for all ports
    /// of the function together, and tells it only through a netdev that is UP. Where there is none,
    /// as in a VM whose only port this driver has, nothing changes.
    pub fn refresh_missed(&self) {
        // While the device is away its last number stays.
        if let Some(device) = &self.device {
            let device = device.usable.context.device();
            self.reader().refresh(self.system.as_ref(), device);
        }
    }

    /// A panic elsewhere leaves a reading as it was.
    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`Port::refresh_missed`] found last, and how old it is; `None` if the kernel never told.
    #[must_use]
    pub fn missed(&self) -> Option<Missed> {
        self.reader().missed()
    }

    /// What the receive queues of this index counted since the port was opened; zeros if there never
    /// was one.
    #[must_use]
    pub fn rx_queue_stats(&self, index: u16) -> QueueStats {
        self.rx.queue(index.into())
    }

    /// What the transmit queues of this index counted since the port was opened; zeros if there
    /// never was one.
    #[must_use]
    pub fn tx_queue_stats(&self, index: u16) -> QueueStats {
        self.tx.queue(index.into())
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("info", &self.info)
            .field("id", &self.id)
            .field("config", &self.config)
            .field("started", &self.started)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

/// Names of the queues that belong to something else than `home`.
fn foreign(queues: &Queues, home: &Arc<Started>) -> Vec<String> {
    let rx = queues.rx.iter().filter(|queue| !queue.belongs_to(home));
    let tx = queues.tx.iter().filter(|queue| !queue.belongs_to(home));
    let rx = rx.map(|queue| format!("rx {}", queue.index()));
    rx.chain(tx.map(|queue| format!("tx {}", queue.index())))
        .collect()
}
