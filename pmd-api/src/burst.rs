//! Bursts: how packets come in and go out.

use crate::{Batch, Mbuf, OffloadError, PoolId};

/// A queue that packets arrive on.
pub trait RxBurst: Send {
    /// Appends packets that have arrived to `batch`, at most what it has room for. Returns how many.
    /// Never waits.
    fn rx_burst(&mut self, batch: &mut Batch) -> usize;
}

/// A queue that packets leave on.
pub trait TxBurst: Send {
    /// Sends packets from the front of `batch`, as many as there is room for. What is not sent
    /// stays, in order; a packet that can never be sent leaves the batch with the reason. So a loop
    /// that calls until the batch is empty gets through. Never waits.
    fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome;

    /// Sends the buffers of packets that have left home without sending anything. Returns how many
    /// packets that were.
    fn reclaim(&mut self) -> usize;
}

/// What became of a burst.
#[derive(Debug, Default)]
#[must_use]
pub struct TxOutcome {
    /// Packets taken off the front of the batch and handed to the device.
    pub sent: usize,
    /// The packet behind them, taken off too, and why it can never be sent through this queue.
    pub rejected: Option<(Mbuf, Reject)>,
}

/// Why a packet can never be sent through a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The packet has no bytes.
    #[error("the packet is empty")]
    Empty,
    /// More segments than the device takes.
    #[error("{segments} segments, the device takes {max}; linearize or copy the packet")]
    TooManySegments {
        /// Segments of the packet.
        segments: usize,
        /// Most that can be sent.
        max: usize,
    },
    /// More bytes than the port sends.
    #[error("{len} bytes, the port sends {max}")]
    TooLong {
        /// Bytes of the packet.
        len: usize,
        /// Most that can be sent.
        max: usize,
    },
    /// The data of a segment is in a pool that the port was not told of.
    #[error("data in pool {0}, with which the port was not configured; add it to the port's pools")]
    ForeignPool(PoolId),
    /// A segment has no bytes.
    #[error("segment {0} is empty")]
    EmptySegment(usize),
    /// Offloads that contradict each other.
    #[error(transparent)]
    BadOffload(#[from] OffloadError),
    /// An offload that this queue does not have.
    #[error("{0} is not supported by this queue")]
    Unsupported(&'static str),
}

const _: () = {
    // Both traits are for `dyn`.
    const fn object_safe(_: Option<&dyn RxBurst>, _: Option<&dyn TxBurst>) {}
    object_safe(None, None);
};
