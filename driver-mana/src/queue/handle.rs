//! The queue handles that an application owns.

use std::sync::Arc;

use pmd_api::{Batch, RxBurst, TxBurst, TxOutcome};

use super::{RxCore, TxCore};
use crate::started::Started;

/// A receive queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still write to.
#[derive(Debug)]
pub struct RxQueue {
    core: Option<Box<RxCore>>,
    home: Arc<Started>,
}

impl RxQueue {
    pub(crate) fn new(core: Box<RxCore>, home: Arc<Started>) -> Self {
        Self {
            core: Some(core),
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
        self.core.as_ref().map_or(0, |core| core.index())
    }

    /// Size of the ring in buffers.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.core.as_ref().map_or(0, |core| core.depth())
    }

    /// Buffers that are posted to the device now. The ring is refilled when a quarter of it is missing,
    /// or 32 buffers in deep rings; bursts of packets up to the rest find a buffer each.
    #[must_use]
    pub fn posted(&self) -> u32 {
        self.core.as_ref().map_or(0, |core| core.posted())
    }
}

impl RxBurst for RxQueue {
    #[inline]
    fn rx_burst(&mut self, batch: &mut Batch) -> usize {
        self.core.as_mut().map_or(0, |core| core.burst(batch))
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            self.home.return_rx(core.index(), core);
        }
    }
}

/// A transmit queue of a started port. Owned by one thread at a time.
///
/// Dropping the handle gives the queue back to its port, which stops it with the port. The handle
/// keeps everything alive that the device may still read.
#[derive(Debug)]
pub struct TxQueue {
    core: Option<Box<TxCore>>,
    home: Arc<Started>,
}

impl TxQueue {
    pub(crate) fn new(core: Box<TxCore>, home: Arc<Started>) -> Self {
        Self {
            core: Some(core),
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
        self.core.as_ref().map_or(0, |core| core.index())
    }

    /// Size of the queue in packets.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.core.as_ref().map_or(0, |core| core.depth())
    }

    /// Packets handed to the device whose completion was not seen yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.core.as_ref().map_or(0, |core| core.in_flight())
    }
}

impl TxBurst for TxQueue {
    #[inline]
    fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome {
        match &mut self.core {
            Some(core) => core.burst(batch),
            None => TxOutcome {
                sent: 0,
                rejected: None,
            },
        }
    }

    fn reclaim(&mut self) -> usize {
        self.core.as_mut().map_or(0, |core| core.reclaim())
    }
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            self.home.return_tx(core.index(), core);
        }
    }
}
