//! Bursts: how packets come in and go out.

use crate::{Batch, ChecksumError, Mbuf, MbufError, PoolId};

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

    /// Makes the packets of `batch` ready for offloads: checks them as [`TxBurst::tx_burst`] does,
    /// and that they hold the headers that their offloads promise; brings such headers together in
    /// the first segment; writes into them what the device wants to find. Packets without offloads
    /// are only checked. A packet may be prepared more than once.
    ///
    /// Bursts never write into packets and never read them: a packet whose offloads do not fit it
    /// and that was not prepared is the device's to judge.
    ///
    /// # Errors
    /// The first packet that can't be sent as it is, and why. It and those behind it are as before,
    /// those in front of it are ready.
    fn tx_prepare(&mut self, batch: &mut Batch) -> Result<(), BadPacket>;

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

/// A packet of a batch that can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet {index}: {reason}")]
pub struct BadPacket {
    /// Its index in the batch. As many packets in front of it are ready.
    pub index: usize,
    /// Why.
    pub reason: Reject,
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
    /// The data of a segment is in a pool or external memory that the port was not told of.
    #[error(
        "data in pool or memory {0}, with which the port was not configured; add it to the port's pools"
    )]
    ForeignPool(PoolId),
    /// A segment has no bytes.
    #[error("segment {0} is empty")]
    EmptySegment(usize),
    /// Headers of a packet for TSO that are longer than the device takes.
    #[error("headers of {len} bytes before the payload, for TSO the device takes {max}")]
    TsoHeader {
        /// Bytes of all headers.
        len: usize,
        /// Most that can be sent.
        max: usize,
    },
    /// A packet for TSO that ends with or within its headers.
    #[error("headers of {header} bytes in a packet of {len}: TSO wants payload to cut")]
    TsoPayload {
        /// Bytes of all headers.
        header: usize,
        /// Bytes of the packet.
        len: usize,
    },
    /// A packet for TSO whose headers lie in several segments.
    #[error("headers of {header} bytes, the first segment has {first}; tx_prepare joins them")]
    SplitHeader {
        /// Bytes of all headers.
        header: usize,
        /// Bytes of the first segment.
        first: usize,
    },
    /// Headers in several segments that can't be joined in the first one.
    #[error("the headers can't be joined in the first segment: {0}")]
    PullUp(MbufError),
    /// The packet does not hold the headers that its offloads promise, or they can't be written.
    #[error(transparent)]
    Headers(#[from] ChecksumError),
    /// An offload that this queue does not have.
    #[error("{0} is not supported by this queue")]
    Unsupported(&'static str),
}

const _: () = {
    // Both traits are for `dyn`.
    const fn object_safe(_: Option<&dyn RxBurst>, _: Option<&dyn TxBurst>) {}
    object_safe(None, None);
};
