//! A port from open to close.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use mana_verbs::EventListener;
use pmd_api::{Capabilities, PortStats, QueueStats};
use uverbs_abi::System;

use crate::capabilities::capabilities;
use crate::discover::{Usable, choose};
use crate::queue::{RxQueue, TxQueue};
use crate::start::Start;
use crate::started::Started;
use crate::stats::{Totals, port_stats};
use crate::{Error, PortConfig, PortEvent, PortInfo, Selector};

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
pub struct Port {
    system: Arc<dyn System>,
    usable: Usable,
    info: PortInfo,
    id: u16,
    events: EventListener,
    config: Option<PortConfig>,
    started: Option<Arc<Started>>,
    rx: Totals,
    tx: Totals,
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
        (0..)
            .zip(chosen)
            .map(|(id, usable)| Self::new(system, usable, id))
            .collect()
    }

    fn new(system: &Arc<dyn System>, usable: Usable, id: u16) -> Result<Self, Error> {
        let events = usable.context.listen()?;
        let (context, limits) = (&usable.context, &usable.limits);
        let device = context.device();
        let info = PortInfo {
            pci: device.pci,
            ib_device: device.name.clone(),
            port: usable.port,
            netdev: Some(usable.netdev.name.clone()),
            mac: usable.netdev.mac,
            numa_node: device.numa_node,
            provider: context.provider(),
            provider_note: context.provider_note().to_owned(),
            driver_id: context.driver_id(),
            max_rx_queues: limits.rx_queues,
            max_tx_queues: limits.tx_queues,
            max_depth: limits.depth,
            max_tx_segments: limits.tx_segments,
            mtu: usable.netdev.mtu,
        };
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
            usable,
            info,
            id,
            events,
            config: None,
            started: None,
            rx: Totals::default(),
            tx: Totals::default(),
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
        capabilities(&self.usable.limits)
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
        let name = format!("port {} of {}", self.info.port, self.info.pci);
        self.config = Some(config.checked(&name, &self.usable.limits, self.info.mtu)?);
        Ok(())
    }

    /// Starts the port: all queues are made, receive buffers are posted, and packets flow.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Started`], [`Error::NetdevUp`] or [`Error::VportInUse`]
    /// where somebody else owns the vPort, [`Error::Memory`] without memory for the rings, and
    /// everything the kernel can refuse. All that was made until then is taken apart again, and the
    /// next start can succeed.
    pub fn start(&mut self) -> Result<Queues, Error> {
        if self.started.is_some() {
            return Err(Error::Started);
        }
        let config = self.config.as_ref().ok_or(Error::NotConfigured)?;
        let (system, usable, info) = (self.system.as_ref(), &self.usable, &self.info);
        let running = Start {
            system,
            usable,
            info,
            config,
            id: self.id,
        }
        .run()
        .map_err(|error| match error {
            Error::Verbs(error) if error.is_disassociated() => self.removed(),
            error => error,
        })?;
        let rx = running
            .rx
            .iter()
            .map(|core| Arc::clone(core.counters()))
            .collect();
        let tx = running
            .tx
            .iter()
            .map(|core| Arc::clone(core.counters()))
            .collect();
        self.rx.begin(rx);
        self.tx.begin(tx);
        let (started, queues) = Started::begin(running);
        self.started = Some(started);
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
        self.rx.end();
        self.tx.end();
        running.map_or(Ok(()), |running| running.tear_down().map_err(Error::Verbs))
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

    /// The oldest event of the port that was not asked for yet, from its opening on. Never waits.
    ///
    /// From the moment one of the ports of a device has told [`PortEvent::DeviceRemoved`], the
    /// transmit queues of all of them take no packet more. [`Port::stop`] and [`Port::close`] work
    /// as ever then; the buffers that the device had come home when the last port of the device is
    /// closed and its last queue dropped, which is when the kernel is known to have let go of them.
    ///
    /// # Errors
    ///
    /// [`Error::Verbs`] where events can't be read.
    pub fn next_event(&mut self) -> Result<Option<PortEvent>, Error> {
        while let Some(event) = self.events.next_event()? {
            if let Some(event) = PortEvent::of(event, self.info.port) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Readable, for poll and epoll, while [`Port::next_event`] should be asked, which may then have
    /// nothing for this port. Close-on-exec; valid as long as the port.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
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
    /// `rx_missed` is always 0: mana_ib offers no counter of packets lost for want of a posted
    /// buffer, see [`Capabilities::device_statistics`].
    #[must_use]
    pub fn stats(&self) -> PortStats {
        port_stats(&self.rx, &self.tx)
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
