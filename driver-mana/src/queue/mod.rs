//! The queues of a started port: bursts over the hardware's rings.
//!
//! The hot path is in two files, each read top to bottom: `tx.rs` and `rx/mod.rs`; what they
//! are not made for leaves by `mixed.rs` and `general.rs`. What a burst works on is a core ([`TxCore`], [`RxCore`]) behind a
//! gate: it belongs to the handle ([`TxQueue`], [`RxQueue`]) or to the port, which gets it when it
//! asks for it or when the handle is dropped. No lock, division, allocation, log call or map lookup
//! happens per packet.

mod buffers;
mod counters;
mod gate;
mod general;
mod handle;
mod histograms;
mod interrupt;
mod lkeys;
mod mixed;
mod prepare;
mod rings;
mod runs;
mod rx;
mod template;
mod tx;

use std::sync::Arc;

use dma_memory::Segment;
use gdma::RingError;
use mana_verbs::{CompletionChannel, Context, QueueIds, SendQueue, VerbsError};
use pmd_api::Pool;

pub(crate) use counters::{Counters, Details, TX_ERRORS};
pub(crate) use gate::{Control, closed_gate, gate};
pub use handle::{RxDescriptor, RxQueue, TxDescriptor, TxQueue};
pub use histograms::QueueHistograms;
pub(crate) use interrupt::Sleep;
pub(crate) use lkeys::Lkeys;
pub(crate) use rx::RxCore;
pub(crate) use tx::TxCore;

/// Why a queue can't be built over what the kernel created.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The ids or sizes of its rings are not what hardware rings can have.
    #[error("the device's rings can't be used: {0}")]
    Ring(#[from] RingError),
    /// Its doorbells could not be mapped.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
}

/// What a transmit queue is made of.
#[derive(Debug)]
pub(crate) struct TxSetup {
    /// Context whose doorbells the queue rings.
    pub(crate) context: Context,
    /// Index of the queue within its port.
    pub(crate) index: u16,
    /// The raw packet queue pair with its CQ.
    pub(crate) queue: SendQueue,
    /// Packets in flight at most, a power of two; the CQ has as many entries.
    pub(crate) depth: u32,
    /// Segments of a packet at most.
    pub(crate) max_segments: u32,
    /// Keys of the pools that may be sent from.
    pub(crate) lkeys: Lkeys,
    /// What the queue counts in, since the port was started.
    pub(crate) counters: Arc<Counters>,
}

/// What a receive queue is made of.
#[derive(Debug)]
pub(crate) struct RxSetup {
    /// Context whose doorbells the queue rings.
    pub(crate) context: Context,
    /// Number written into received packets.
    pub(crate) port_id: u16,
    /// Index of the queue within its port.
    pub(crate) index: u16,
    /// Ids of work queue and CQ.
    pub(crate) ids: QueueIds,
    /// Memory of the work queue.
    pub(crate) ring: Segment,
    /// Memory of the CQ.
    pub(crate) cq_ring: Segment,
    /// Packets that the ring has buffers for, a power of two; the CQ has as many entries.
    pub(crate) depth: u32,
    /// Where buffers come from.
    pub(crate) pool: Pool,
    /// Buffers of a packet.
    pub(crate) segments: u32,
    /// Whether stripped VLAN tags are put back.
    pub(crate) keep_vlan_tags: bool,
    /// The key under which the pool is registered.
    pub(crate) lkey: u32,
    /// The CQ's channel, if the port has receive interrupts.
    pub(crate) interrupts: Option<CompletionChannel>,
    /// What the queue counts in, since the port was started.
    pub(crate) counters: Arc<Counters>,
}
