//! The queue handles that an application owns.

use std::sync::Arc;

use gdma::wqe::MAX_TX_SGES;
use pmd_api::{BadPacket, Batch, RxBurst, TxBurst, TxOutcome};

use super::gate::Owner;
use super::interrupt::Sleep;
use super::prepare::prepare_all;
use super::{RxCore, TxCore};
use crate::started::{Home, Started};

/// A receive queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still write to. While the port recovers bursts receive
/// nothing; afterwards the same handle goes on.
#[derive(Debug)]
pub struct RxQueue {
    // Dropped first: the port has the interior when it is told, and when the home may be the last
    // thing to go.
    pub(super) owner: Owner<RxCore>,
    pub(super) index: u16,
    depth: u32,
    /// If the port has receive interrupts.
    pub(super) sleep: Option<Arc<Sleep>>,
    pub(super) home: Home,
}

impl RxQueue {
    pub(crate) fn new(
        owner: Owner<RxCore>,
        (index, depth): (u16, u32),
        sleep: Option<Arc<Sleep>>,
        home: Home,
    ) -> Self {
        Self {
            owner,
            index,
            depth,
            sleep,
            home,
        }
    }

    /// Whether this queue was started by the port that `home` belongs to.
    pub(crate) fn belongs_to(&self, home: &Arc<Started>) -> bool {
        self.home.is(home)
    }

    /// The control plane wants the queue, or has it.
    #[cold]
    pub(super) fn give_up(&mut self) {
        if self.owner.acknowledge() {
            self.home.tell();
        }
    }

    /// Lets the port have the queue for a while, if it waits for it
    /// ([`crate::PortEvent::WaitingForQueue`]), as every burst does; receives nothing. For owners that
    /// pause.
    pub fn give_way(&mut self) {
        if !self.owner.is_open() {
            self.give_up();
        }
    }

    /// Index of the queue within its port, in the order of the configuration.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Size of the ring in packets.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Packets for which buffers are posted to the device now. The ring is refilled when a quarter of
    /// it is missing, or 64 in deep rings; bursts of packets up to the rest find their buffers.
    #[must_use]
    pub fn posted(&self) -> u32 {
        self.owner.look(RxCore::posted).unwrap_or(0)
    }

    /// Buffers that are posted for each packet: 1, or more where packets may be larger than one
    /// ([`crate::Oversize::Scatter`]).
    #[must_use]
    pub fn segments(&self) -> u32 {
        self.owner.look(RxCore::segments).unwrap_or(1)
    }

    /// Packets that have arrived and wait for a burst. Looks at the completion of each.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.owner.look(RxCore::waiting).unwrap_or(0)
    }

    /// What the descriptor `offset` places behind the next one is at. Of 0 to the depth, exclusive.
    #[must_use]
    pub fn descriptor_status(&self, offset: u32) -> Option<RxDescriptor> {
        let status = |waiting: u32, posted: u32| match offset {
            _ if offset < waiting => RxDescriptor::Done,
            _ if offset < posted => RxDescriptor::Available,
            _ => RxDescriptor::Unavailable,
        };
        let (waiting, posted) = (self.waiting(), self.posted());
        (offset < self.depth).then(|| status(waiting, posted))
    }

    /// The variant of the burst that this queue runs, in words.
    #[must_use]
    pub fn burst_variant(&self) -> String {
        match self.segments() {
            1 => "scalar, one buffer a packet".to_owned(),
            segments => format!("scalar, scattered over up to {segments} buffers"),
        }
    }
}

impl RxBurst for RxQueue {
    // What an empty poll takes is so little that a call would show.
    #[inline(always)]
    fn rx_burst(&mut self, batch: &mut Batch) -> usize {
        if let Some(mut core) = self.owner.interior() {
            return core.burst(batch);
        }
        self.give_up();
        0
    }
}

/// What a receive descriptor is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RxDescriptor {
    /// Its packet has arrived and waits for a burst.
    Done,
    /// Its buffers are the device's.
    Available,
    /// It has no buffers: they are posted with one of the next bursts, if the pool has some.
    Unavailable,
}

/// What a transmit descriptor is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxDescriptor {
    /// Its packet is the device's.
    Full,
    /// It is free.
    Done,
}

/// A transmit queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still read. While the port recovers bursts send
/// nothing; afterwards the same handle goes on.
#[derive(Debug)]
pub struct TxQueue {
    // Dropped first, as above.
    owner: Owner<TxCore>,
    index: u16,
    depth: u32,
    home: Home,
}

impl TxQueue {
    pub(crate) fn new(owner: Owner<TxCore>, (index, depth): (u16, u32), home: Home) -> Self {
        Self {
            owner,
            index,
            depth,
            home,
        }
    }

    /// Whether this queue was started by the port that `home` belongs to.
    pub(crate) fn belongs_to(&self, home: &Arc<Started>) -> bool {
        self.home.is(home)
    }

    /// Index of the queue within its port, in the order of the configuration.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Size of the queue in packets.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    #[cold]
    fn give_up(&mut self) {
        if self.owner.acknowledge() {
            self.home.tell();
        }
    }

    /// As [`RxQueue::give_way`].
    pub fn give_way(&mut self) {
        if !self.owner.is_open() {
            self.give_up();
        }
    }

    /// Packets handed to the device whose completion was not seen yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.owner.look(TxCore::in_flight).unwrap_or(0)
    }

    /// What the descriptor `offset` places behind the oldest one in use is at. Of 0 to the depth,
    /// exclusive. Completions that were not looked for yet don't count: see
    /// [`TxBurst::reclaim`].
    #[must_use]
    pub fn descriptor_status(&self, offset: u32) -> Option<TxDescriptor> {
        let status = match offset < self.in_flight() {
            true => TxDescriptor::Full,
            false => TxDescriptor::Done,
        };
        (offset < self.depth).then_some(status)
    }

    /// The variant of the burst that this queue runs, in words.
    #[must_use]
    pub fn burst_variant(&self) -> String {
        "scalar, prebuilt work requests for simple packets".to_owned()
    }
}

impl TxQueue {
    /// A burst of whatever there is, of which no more than `limit` packets are tried.
    #[inline(never)]
    fn send(&mut self, batch: &mut Batch, limit: usize) -> TxOutcome {
        // Filled in where it is returned: it is large, and mostly empty.
        let mut outcome = TxOutcome::default();
        match self.owner.interior() {
            Some(mut core) => outcome.sent = core.burst(batch, limit, &mut outcome.rejected),
            None => self.give_up(),
        }
        outcome
    }
}

impl TxBurst for TxQueue {
    // As above, for bursts of one packet.
    #[inline(always)]
    fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome {
        let Some(mut core) = self.owner.interior() else {
            self.give_up();
            return TxOutcome::default();
        };
        let alike = match core.burst_of_one(batch) {
            true => Ok(1),
            false => core.burst_alike(batch),
        };
        match alike {
            Ok(sent) => TxOutcome {
                sent,
                rejected: None,
            },
            Err(limit) => self.send(batch, limit),
        }
    }

    fn tx_prepare(&mut self, batch: &mut Batch) -> Result<(), BadPacket> {
        match self.owner.enter(|core| core.prepare(batch)) {
            Some(prepared) => prepared,
            // The burst that sends them looks for their keys, which are not known now.
            None => {
                self.give_up();
                prepare_all(batch, None, MAX_TX_SGES)
            }
        }
    }

    fn reclaim(&mut self) -> usize {
        match self.owner.enter(TxCore::reclaim) {
            Some(home) => home,
            None => {
                self.give_up();
                0
            }
        }
    }
}
