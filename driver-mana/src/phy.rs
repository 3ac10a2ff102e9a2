//! A receive and a transmit queue as a network interface of smoltcp (feature `smoltcp`).
//!
//! [`Phy`] is a [`smoltcp::phy::Device`]: smoltcp reads received packets where the device wrote them
//! and writes what it sends into buffers of a pool.
//!
//! ```
//! use mana_model::{DoorbellMode, Model, ModelConfig, parse_device};
//! use mana_pmd::phy::Phy;
//! use mana_pmd::{Port, PortConfig, Queues, RxQueueConfig, Selector, TxQueueConfig};
//! use pmd_api::{Pool, PoolConfig};
//! use smoltcp::iface::{Config, Interface, SocketSet};
//! use smoltcp::time::Instant;
//! use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
//!
//! let model = Model::new(ModelConfig {
//!     devices: vec![parse_device("model0")?],
//!     doorbells: DoorbellMode::Polled,
//! })?;
//! let device = model.run();
//!
//! let pool = Pool::new(PoolConfig { buffers: 2048, ..PoolConfig::default() })?;
//! let mut port = Port::open(&model.system(), &Selector::default())?.remove(0);
//! port.configure(PortConfig {
//!     rx: vec![RxQueueConfig { depth: 256, pool: pool.clone() }],
//!     tx: vec![TxQueueConfig { depth: 256 }],
//!     ..PortConfig::default()
//! })?;
//! let mut queues = port.start()?;
//! let mut phy = Phy::of_port(&port, queues.rx.remove(0), queues.tx.remove(0), pool.clone());
//!
//! let mac = EthernetAddress(port.info().mac.0);
//! let mut interface = Interface::new(Config::new(mac.into()), &mut phy, Instant::now());
//! interface.update_ip_addrs(|list| {
//!     list.push(IpCidr::new(IpAddress::v4(192, 0, 2, 2), 24)).expect("the first address");
//! });
//! let mut sockets = SocketSet::new(Vec::new());
//! for _ in 0..1000 {
//!     interface.poll(Instant::now(), &mut phy, &mut sockets);
//!     phy.flush();
//! }
//!
//! let (rx, tx) = phy.into_queues();
//! port.stop(Queues { rx: vec![rx], tx: vec![tx] })?;
//! assert_eq!(pool.in_use(), 0);
//! # drop(device);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Batches
//! One poll of the interface takes at most one burst of [`BURST`] packets off the device, so that
//! sockets get to answer under any load; poll again for the next. What smoltcp sends is collected,
//! and goes out when [`BURST`] packets have come together, when the device is asked for packets, and
//! with [`Phy::flush`]: call that after every poll.
//!
//! # Backpressure
//! Where the transmit ring takes no more packets or the pool has no buffer, smoltcp is given no
//! token: it keeps what it wants to send, and received packets that might need an answer wait.
//!
//! # What smoltcp does not see
//! Packets of which the device says that their IPv4, TCP or UDP checksum is wrong; smoltcp verifies
//! all others itself, and computes what it sends. Packets off which the device stripped a VLAN tag:
//! smoltcp knows no tags, and the interface is that of the untagged network. Both are
//! counted in [`PhyCounters`].

use pmd_api::{Batch, Checksum, HEADROOM, Mbuf, Pool, RxBurst, TxBurst};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::{Port, RxQueue, TxQueue};

/// Packets taken from the device, and handed to it, at a time.
pub const BURST: usize = 32;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A receive and a transmit queue as a network interface of smoltcp.
#[derive(Debug)]
pub struct Phy<R = RxQueue, T = TxQueue> {
    rx: R,
    /// Received and not yet seen by smoltcp, the oldest last.
    incoming: Batch,
    /// A burst was taken since smoltcp was last told that there is nothing.
    burst_taken: bool,
    /// Where packets of several segments are put together.
    whole: Vec<u8>,
    sender: Sender<T>,
    /// Bytes of a frame at most.
    frame: usize,
    max_burst: Option<usize>,
}

/// What became of packets since the [`Phy`] was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PhyCounters {
    /// Received packets that smoltcp saw.
    pub received: u64,
    /// Packets handed to the device.
    pub sent: u64,
    /// Received packets dropped because the device found a checksum wrong.
    pub bad_checksum: u64,
    /// Received packets dropped because they had a VLAN tag.
    pub tagged: u64,
    /// Packets that smoltcp made and the queue can never send; the log says why of the first.
    pub rejected: u64,
    /// Times that nothing could be sent because the ring was full.
    pub ring_full: u64,
    /// Times that nothing could be sent because the pool was empty.
    pub pool_empty: u64,
}

impl Phy {
    /// The queues of a started port, with the MTU its netdev had when it was opened. What is sent
    /// comes from `pool`, which the port must have been configured with.
    pub fn of_port(port: &Port, rx: RxQueue, tx: TxQueue, pool: Pool) -> Self {
        let (mtu, depth) = (port.info().mtu, rx.depth());
        Self::new(rx, tx, pool, mtu as usize, Some(depth as usize))
    }
}

impl<R: RxBurst, T: TxBurst> Phy<R, T> {
    /// Any two queues. Packets are sent from `pool`. `mtu` is in bytes, without the Ethernet header;
    /// where a buffer of the pool is too small for it, smoltcp is told what a buffer holds.
    /// `max_burst` is the number of packets that `rx` can hold, from which smoltcp limits the TCP
    /// windows that it offers.
    pub fn new(rx: R, tx: T, pool: Pool, mtu: usize, max_burst: Option<usize>) -> Self {
        let room = (pool.data_room() as usize).saturating_sub(HEADROOM);
        Self {
            rx,
            incoming: Batch::with_capacity(BURST),
            burst_taken: false,
            whole: Vec::new(),
            sender: Sender {
                tx,
                pool,
                outgoing: Batch::with_capacity(BURST),
                spare: None,
                counters: PhyCounters::default(),
            },
            frame: room.min(mtu + ETHERNET),
            max_burst,
        }
    }

    /// Hands what smoltcp has sent to the device. Returns how many packets wait because the ring is
    /// full; they go out later, in order.
    pub fn flush(&mut self) -> usize {
        self.sender.flush()
    }

    /// What became of packets so far.
    pub fn counters(&self) -> PhyCounters {
        self.sender.counters
    }

    /// Gives the queues back, for [`Port::stop`]. Packets that wait are sent if the ring takes them,
    /// and dropped otherwise; received ones that smoltcp has not seen are dropped.
    pub fn into_queues(mut self) -> (R, T) {
        self.sender.flush();
        (self.rx, self.sender.tx)
    }

    /// Takes one burst off the device.
    fn take_burst(&mut self) {
        self.rx.rx_burst(&mut self.incoming);
        let counters = &mut self.sender.counters;
        self.incoming.retain_mut(|packet| {
            let bad =
                packet.ip_checksum() == Checksum::Bad || packet.l4_checksum() == Checksum::Bad;
            let tagged = packet.vlan().is_some();
            counters.bad_checksum += u64::from(bad);
            counters.tagged += u64::from(tagged && !bad);
            !bad && !tagged
        });
        self.incoming.as_mut_slice().reverse();
    }
}

impl<R: RxBurst, T: TxBurst> Device for Phy<R, T> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, T>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_, T>)> {
        if self.incoming.is_empty() {
            if std::mem::take(&mut self.burst_taken) {
                return None;
            }
            self.sender.flush();
            self.take_burst();
        }
        // First the token to answer with: a packet for which there is none stays.
        if self.incoming.is_empty() || !self.sender.is_ready() {
            return None;
        }
        let packet = self.incoming.pop()?;
        self.burst_taken = true;
        self.sender.counters.received += 1;
        let whole = &mut self.whole;
        Some((RxToken { packet, whole }, TxToken(&mut self.sender)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, T>> {
        self.sender.is_ready().then_some(TxToken(&mut self.sender))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame;
        capabilities.max_burst_size = self.max_burst;
        capabilities
    }
}

/// A received packet.
#[derive(Debug)]
pub struct RxToken<'a> {
    packet: Mbuf,
    whole: &'a mut Vec<u8>,
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        if self.packet.segments() == 1 {
            return f(self.packet.data());
        }
        self.whole.clear();
        for segment in &self.packet {
            self.whole.extend_from_slice(segment.data());
        }
        f(self.whole)
    }
}

/// Leave to send one packet.
#[derive(Debug)]
pub struct TxToken<'a, T>(&'a mut Sender<T>);

impl<T: TxBurst> phy::TxToken for TxToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.send(len, f)
    }
}

/// The way out.
#[derive(Debug)]
struct Sender<T> {
    tx: T,
    pool: Pool,
    outgoing: Batch,
    /// The buffer for the next packet, empty. There while a token is out.
    spare: Option<Mbuf>,
    counters: PhyCounters,
}

impl<T: TxBurst> Sender<T> {
    /// Whether one more packet can be sent; makes room for it where that can be done.
    fn is_ready(&mut self) -> bool {
        if self.outgoing.room() == 0 && self.flush() == BURST {
            self.counters.ring_full += 1;
            return false;
        }
        if self.spare.is_none() {
            self.spare = self.pool.alloc();
        }
        if self.spare.is_none() {
            // Buffers of packets that have left are still the queue's.
            self.flush();
            self.tx.reclaim();
            self.spare = self.pool.alloc();
        }
        self.counters.pool_empty += u64::from(self.spare.is_none());
        self.spare.is_some()
    }

    fn send<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        // Taken out, so that a `fill` that panics leaves no half-filled spare.
        if let Some(mut packet) = self.spare.take()
            && let Ok(bytes) = packet.append(len)
        {
            let result = fill(bytes);
            if self.outgoing.push(packet).is_err() {
                self.counters.rejected += 1;
            }
            if self.outgoing.room() == 0 {
                self.flush();
            }
            return result;
        }
        // Longer than the frames that smoltcp was told of.
        self.counters.rejected += 1;
        fill(&mut vec![0; len])
    }

    fn flush(&mut self) -> usize {
        if self.outgoing.is_empty() {
            self.tx.reclaim();
            return 0;
        }
        loop {
            let outcome = self.tx.tx_burst(&mut self.outgoing);
            self.counters.sent += outcome.sent as u64;
            let Some((packet, reason)) = outcome.rejected else {
                return self.outgoing.len();
            };
            self.counters.rejected += 1;
            // Once aloud: what is wrong with one packet, such as its pool, is so with most.
            if self.counters.rejected == 1 {
                tracing::warn!("{packet:?} of smoltcp can't be sent: {reason}");
            }
        }
    }
}
