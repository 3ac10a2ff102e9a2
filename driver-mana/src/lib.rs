//! Poll-mode driver for the Microsoft Azure Network Adapter (MANA).
//!
//! [`Port::open`] finds ports on a machine (a [`System`]: the running Linux, or a device model) and
//! [`Port::start`] hands out their queues as owned values. A queue moves packets in bursts through
//! [`RxBurst`] and [`TxBurst`]; each may run in a thread of its own.
//!
//! A complete forwarder that sends back what it receives, here on the device model; on hardware
//! `system` is `Arc::new(mana_verbs::LinuxSystem::new())`:
//!
//! ```
//! use mana_pmd::{Port, PortConfig, RxQueueConfig, Selector, TxQueueConfig};
//! use mana_model::{DoorbellMode, Model, ModelConfig, parse_device};
//! use pmd_api::{Batch, Pool, PoolConfig, RxBurst, TxBurst};
//!
//! let model = Model::new(ModelConfig {
//!     devices: vec![parse_device("model0,mac=00:0d:3a:76:3b:d0,link=gen")?],
//!     doorbells: DoorbellMode::Polled,
//! })?;
//! let device = model.run();
//! let system = model.system();
//!
//! let pool = Pool::new(PoolConfig { buffers: 4096, ..PoolConfig::default() })?;
//! let selector: Selector = "mac=00:0d:3a:76:3b:d0".parse()?;
//! let mut port = Port::open(&system, &selector)?.remove(0);
//! port.configure(PortConfig {
//!     rx: vec![RxQueueConfig { depth: 256, pool: pool.clone() }],
//!     tx: vec![TxQueueConfig { depth: 256 }],
//!     ..PortConfig::default()
//! })?;
//! let mut queues = port.start()?;
//! let mut batch = Batch::with_capacity(32);
//! let mut forwarded = 0;
//! while forwarded < 1000 {
//!     queues.rx[0].rx_burst(&mut batch);
//!     let outcome = queues.tx[0].tx_burst(&mut batch);
//!     forwarded += outcome.sent;
//!     if batch.is_empty() {
//!         queues.tx[0].reclaim();
//!         std::thread::yield_now();
//!     }
//! }
//! drop(batch);
//! port.stop(queues)?;
//! assert_eq!(pool.in_use(), 0);
//! # drop(device);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the device may do
//!
//! Completions are checked against the driver's own state before anything is done with them.
//! Outside the guarantee is that a device could write to the payload of a packet after it was
//! completed: its memory stays registered while the port runs.
//!
//! # Processes
//!
//! After `fork` a child may only `exec`; handles that are dropped in it do nothing. Forgotten
//! handles (`std::mem::forget`) leak what they own, which is sound.

#![deny(unsafe_code)]

pub mod adaptive;
mod capabilities;
mod check;
mod config;
mod discover;
mod error;
mod event;
mod info;
mod limits;
mod missed;
mod mtu;
#[cfg(feature = "smoltcp")]
pub mod phy;
mod port;
mod queue;
mod receive;
mod rss_table;
mod selector;
mod start;
mod started;
mod stats;
#[cfg(feature = "tokio")]
pub mod tokio_rx;
mod xstats;

pub use adaptive::{Adaptive, AdaptiveConfig, AdaptiveStats, Turn, Waker};
pub use config::{DEFAULT_RSS_KEY, PortConfig, RxQueueConfig, TxQueueConfig, buffers_needed};
pub use discover::{Candidate, discover};
pub use error::Error;
pub use event::{LostFrames, PortEvent};
pub use info::PortInfo;
pub use limits::{MAX_DEPTH, MAX_RX_QUEUES, MIN_DEPTH};
pub use missed::Missed;
pub use mtu::{MIN_MTU, Oversize};
pub use port::{Link, Port, Queues, RecoveryConfig};
pub use queue::{QueueError, QueueHistograms, RxDescriptor, RxQueue, TxDescriptor, TxQueue};
pub use rss_table::RSS_TABLE;
pub use selector::Selector;
pub use xstats::Xstat;

// Named by this crate's signatures and documentation.
pub use mana_verbs::ProviderChoice;
pub use pmd_api::{RxBurst, RxInterrupt, TxBurst};
pub use uverbs_abi::System;
