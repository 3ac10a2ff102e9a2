//! Joins ring memory, doorbells and the ids that the kernel gave into the rings of a queue.
//!
//! With `gate.rs` the only file of this crate with unsafe code: `gdma`'s constructors ask for
//! promises that only the owner of all three can give.
#![allow(unsafe_code)]

use dma_memory::Segment;
use gdma::{CompletionRing, Doorbell, ReceiveRing, RingError, RingMemory, ScatterRing, SendRing};
use mana_verbs::{Context, QueueIds, SendQueue};
use uverbs_abi::DoorbellKind;

use super::QueueError;

/// The rings of a transmit queue, with everything that keeps them valid.
///
/// Fields are dropped in order: the rings before the queue pair and its memory, and these before the
/// context whose doorbell page they ring.
#[derive(Debug)]
pub(super) struct TxRings {
    pub(super) sq: SendRing,
    pub(super) cq: CompletionRing,
    queue: SendQueue,
    context: Context,
}

impl TxRings {
    /// The rings of `queue` with a CQ of `entries` entries.
    pub(super) fn new(
        context: Context,
        queue: SendQueue,
        entries: u32,
    ) -> Result<Self, QueueError> {
        let (sq_id, cq_id) = (queue.sq_id(), queue.cq_id());
        let sq_bell = doorbell(&context, DoorbellKind::Send, sq_id)?;
        let cq_bell = doorbell(&context, DoorbellKind::Completion, cq_id)?;
        let sq_memory = memory(queue.ring())?;
        let cq_memory = memory(queue.cq_ring())?;
        // SAFETY: ids, memory and doorbell are those of one queue pair, which the kernel created over
        // exactly this memory. WQEs are only written by `TxCore`, from `Mbuf`s that it owns, or
        // takes from a batch that it has borrowed before anything else can happen to them, until their
        // completion: an `Mbuf`'s data lies in its pool's region, or in
        // one of external memory, at an
        // address no reference reaches while the core owns it exclusively or that is shared
        // read-only, and the port keeps the region registered under the key that `Lkeys` gives
        // until its queues are destroyed.
        let sq = unsafe { SendRing::new(sq_memory, sq_id, sq_bell) }?;
        // SAFETY: `create_cq` takes zeroed memory, and the rest is as above.
        let cq = unsafe { CompletionRing::new(cq_memory, entries, cq_id, sq_id, true, cq_bell) }?;
        Ok(Self {
            sq,
            cq,
            queue,
            context,
        })
    }

    /// The queue pair and its context, for its destruction; the rings are gone.
    pub(super) fn into_parts(self) -> (SendQueue, Context) {
        (self.queue, self.context)
    }
}

/// The completion ring of a receive queue, with everything that keeps it and the queue's other ring
/// valid but the RSS queue pair, which the port owns and destroys before it releases the queue's
/// buffers.
#[derive(Debug)]
pub(super) struct RxRings {
    pub(super) cq: CompletionRing,
    segments: [Segment; 2],
    context: Context,
    ids: QueueIds,
}

/// Buffers of a receive queue, as its WQEs name them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    /// Key under which the pool is registered.
    pub(super) key: u32,
    /// Bytes for a packet in each buffer.
    pub(super) size: u32,
    /// Buffers of a packet.
    pub(super) segments: u32,
}

impl RxRings {
    /// The completion ring of the receive queue `ids`.
    pub(super) fn new(
        context: Context,
        ids: QueueIds,
        ring: Segment,
        cq_ring: Segment,
        entries: u32,
    ) -> Result<Self, QueueError> {
        let cq_bell = doorbell(&context, DoorbellKind::Completion, ids.cq_id)?;
        let cq_memory = memory(&cq_ring)?;
        // SAFETY: ids, memory and doorbell are those of one work queue, which the kernel created over
        // exactly this memory, and `create_cq` takes zeroed memory.
        let cq = unsafe {
            CompletionRing::new(cq_memory, entries, ids.cq_id, ids.wq_id, false, cq_bell)
        }?;
        Ok(Self {
            cq,
            segments: [ring, cq_ring],
            context,
            ids,
        })
    }

    /// The ring of receive buffers, one a packet. Whoever owns it drops it before these rings.
    pub(super) fn single(&self, posting: Posting) -> Result<ReceiveRing, QueueError> {
        let (memory, bell, id) = self.receive_parts()?;
        let Posting { key, size, .. } = posting;
        // SAFETY: id, memory and doorbell are those of one work queue, which the kernel created over
        // exactly this memory. Addresses are only set by `RxCore`, to the data of unshared `Mbuf`s
        // that it owns from before the commit until their completion or until the port destroyed
        // the queue; `size` bytes lie behind each in a pool that is registered under `key`.
        Ok(unsafe { ReceiveRing::new(memory, id, bell, key, size) }?)
    }

    /// The ring of receive buffers, several a packet. Whoever owns it drops it before these rings.
    pub(super) fn scatter(&self, posting: Posting) -> Result<ScatterRing, QueueError> {
        let (memory, bell, id) = self.receive_parts()?;
        let (key, size, segments) = (posting.key, posting.size, posting.segments);
        // SAFETY: as above.
        Ok(unsafe { ScatterRing::new(memory, id, bell, key, size, segments) }?)
    }

    fn receive_parts(&self) -> Result<(RingMemory, Doorbell, u32), QueueError> {
        let id = self.ids.wq_id;
        let bell = doorbell(&self.context, DoorbellKind::Receive, id)?;
        Ok((memory(&self.segments[0])?, bell, id))
    }

    /// The context of both.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }
}

#[cfg(not(mana_loom))]
fn memory(segment: &Segment) -> Result<RingMemory, RingError> {
    // SAFETY: a segment is page-aligned memory of its length in a region that nothing but rings
    // reaches (regions hand out no references), and both kinds of rings above keep it alive: the
    // send queue owns its segments, receive rings hold clones.
    unsafe { RingMemory::new(segment.base().cast(), segment.len()) }
}

#[cfg(not(mana_loom))]
fn doorbell(context: &Context, kind: DoorbellKind, id: u32) -> Result<Doorbell, QueueError> {
    let cell = context.doorbell(kind, id)?;
    // SAFETY: a transport's cells are aligned and valid for atomic stores while the context lives,
    // and the rings above hold a clone of it.
    Ok(unsafe { Doorbell::new(cell) })
}

/// loom's atomics can't overlay mapped memory: under it only the gate is checked, and no queue runs.
#[cfg(mana_loom)]
fn memory(segment: &Segment) -> Result<RingMemory, RingError> {
    let words = (0..segment.len() / 8).map(|_| loom::sync::atomic::AtomicU64::new(0));
    Ok(RingMemory::from_words(words.collect()))
}

#[cfg(mana_loom)]
fn doorbell(_: &Context, _: DoorbellKind, _: u32) -> Result<Doorbell, QueueError> {
    let cell = loom::sync::atomic::AtomicU64::new(0);
    Ok(Doorbell::from_cell(std::sync::Arc::new(cell)))
}
