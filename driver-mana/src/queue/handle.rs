//! The queue handles that an application owns.

use std::sync::Arc;

use pmd_api::{Batch, RxBurst, TxBurst, TxOutcome};

use super::gate::Owner;
use super::{RxCore, TxCore};
use crate::started::Started;

/// A receive queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still write to.
#[derive(Debug)]
pub struct RxQueue {
    // Dropped first: the port has the interior when the home may be the last thing to go.
    owner: Owner<RxCore>,
    index: u16,
    depth: u32,
    home: Arc<Started>,
}

impl RxQueue {
    pub(crate) fn new(owner: Owner<RxCore>, index: u16, depth: u32, home: Arc<Started>) -> Self {
        Self {
            owner,
            index,
            depth,
            home,
        }
    }

    /// Whether this queue was started by the port that `home` belongs to.
    pub(crate) fn belongs_to(&self, home: &Arc<Started>) -> bool {
        Arc::ptr_eq(&self.home, home)
    }

    pub(super) fn core(&self) -> Option<&RxCore> {
        self.core.as_deref()
    }

    pub(super) fn core_mut(&mut self) -> Option<&mut RxCore> {
        self.core.as_deref_mut()
    }

    /// Index of the queue within its port, in the order of the configuration.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Size of the ring in buffers.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Buffers that are posted to the device now. The ring is refilled when a quarter of it is missing,
    /// or 32 buffers in deep rings; bursts of packets up to the rest find a buffer each.
    #[must_use]
    pub fn posted(&self) -> u32 {
        self.owner.look(RxCore::posted).unwrap_or(0)
    }
}

impl RxBurst for RxQueue {
    #[inline]
    fn rx_burst(&mut self, batch: &mut Batch) -> usize {
        match self.owner.enter(|core| core.burst(batch)) {
            Some(received) => received,
            None => {
                self.owner.acknowledge();
                0
            }
        }
    }
}

/// A transmit queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still read.
#[derive(Debug)]
pub struct TxQueue {
    // Dropped first, as above.
    owner: Owner<TxCore>,
    index: u16,
    depth: u32,
    home: Arc<Started>,
}

impl TxQueue {
    pub(crate) fn new(owner: Owner<TxCore>, index: u16, depth: u32, home: Arc<Started>) -> Self {
        Self {
            owner,
            index,
            depth,
            home,
        }
    }

    /// Whether this queue was started by the port that `home` belongs to.
    pub(crate) fn belongs_to(&self, home: &Arc<Started>) -> bool {
        Arc::ptr_eq(&self.home, home)
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

    /// Packets handed to the device whose completion was not seen yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.owner.look(TxCore::in_flight).unwrap_or(0)
    }
}

impl TxBurst for TxQueue {
    #[inline]
    fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome {
        match self.owner.enter(|core| core.burst(batch)) {
            Some(outcome) => outcome,
            None => {
                self.owner.acknowledge();
                TxOutcome {
                    sent: 0,
                    rejected: None,
                }
            }
        }
    }

    fn reclaim(&mut self) -> usize {
        match self.owner.enter(TxCore::reclaim) {
            Some(home) => home,
            None => {
                self.owner.acknowledge();
                0
            }
        }
    }
}
