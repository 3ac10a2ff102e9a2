//! What a running port owns, and how it is taken apart.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mana_verbs::{MemoryRegion, ProtectionDomain, RssQueuePair, VerbsError};

use crate::Queues;
use crate::queue::{RxCore, RxQueue, TxCore, TxQueue};

/// Everything the device reaches while a port runs. Queues in somebody's hands are missing from it.
///
/// It is taken apart in the reverse order of its making: the RSS queue pair, so that nothing is
/// received any more and receive buffers can go home; then the send queues, which hold the vPort;
/// then memory regions and protection domain (reference/mana-hardware.md §4.2).
#[derive(Debug)]
pub(crate) struct Running {
    /// Name of the port for the log.
    pub(crate) name: String,
    pub(crate) rx: Vec<Option<Box<RxCore>>>,
    pub(crate) rss: Option<RssQueuePair>,
    pub(crate) tx: Vec<Option<Box<TxCore>>>,
    /// One for each pool; they keep the pools' memory alive.
    pub(crate) regions: Vec<MemoryRegion>,
    pub(crate) pd: Option<ProtectionDomain>,
}

impl Running {
    /// Takes everything apart, whatever fails on the way, and tells the first failure. What could
    /// not be destroyed stays for the life of the process, with all memory that it may use.
    pub(crate) fn tear_down(mut self) -> Result<(), VerbsError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), VerbsError> {
        let rss = self.rss.take().map_or(Ok(()), RssQueuePair::destroy);
        for core in self.rx.drain(..).flatten() {
            core.release(&rss);
        }
        let mut result = unless_gone(rss);
        for core in self.tx.drain(..).flatten() {
            result = result.and(unless_gone(core.destroy()));
        }
        for region in self.regions.drain(..) {
            result = result.and(unless_gone(region.destroy()));
        }
        self.pd = None;
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{}: not taken apart completely: {error}", self.name);
        }
    }
}

/// Of a device that is gone, the kernel has destroyed everything itself.
fn unless_gone(destroyed: Result<(), VerbsError>) -> Result<(), VerbsError> {
    destroyed.or_else(|error| match error.is_disassociated() {
        true => Ok(()),
        false => Err(error),
    })
}

/// A started port: the home of its queues.
///
/// Every queue handle keeps it alive. When the last handle and the [`crate::Port`] are gone, it
/// takes everything apart.
#[derive(Debug)]
pub(crate) struct Started {
    /// `None` once it was stopped.
    running: Mutex<Option<Running>>,
}

impl Started {
    /// Hands out all queues of `running`.
    pub(crate) fn begin(mut running: Running) -> (Arc<Self>, Queues) {
        let rx: Vec<_> = running.rx.iter_mut().filter_map(Option::take).collect();
        let tx: Vec<_> = running.tx.iter_mut().filter_map(Option::take).collect();
        let home = Arc::new(Self {
            running: Mutex::new(Some(running)),
        });
        let queues = Queues {
            rx: rx
                .into_iter()
                .map(|core| RxQueue::new(core, Arc::clone(&home)))
                .collect(),
            tx: tx
                .into_iter()
                .map(|core| TxQueue::new(core, Arc::clone(&home)))
                .collect(),
        };
        (home, queues)
    }

    /// Ends the port's run, if all queues are home; otherwise tells which are not.
    pub(crate) fn end(&self) -> Result<Option<Running>, Vec<String>> {
        let mut running = self.lock();
        let missing = running.as_ref().map(missing).unwrap_or_default();
        if missing.is_empty() {
            Ok(running.take())
        } else {
            Err(missing)
        }
    }

    /// Takes a receive queue back.
    pub(crate) fn return_rx(&self, index: u16, core: Box<RxCore>) {
        let slot = self.lock();
        put(slot, index, core, |running| &mut running.rx);
    }

    /// Takes a transmit queue back.
    pub(crate) fn return_tx(&self, index: u16, core: Box<TxCore>) {
        let slot = self.lock();
        put(slot, index, core, |running| &mut running.tx);
    }

    /// A panic elsewhere leaves what is behind the lock whole: cores are only moved in and out.
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put<Core>(
    mut running: MutexGuard<'_, Option<Running>>,
    index: u16,
    core: Box<Core>,
    slots: fn(&mut Running) -> &mut Vec<Option<Box<Core>>>,
) {
    match running
        .as_mut()
        .and_then(|running| slots(running).get_mut(usize::from(index)))
    {
        Some(slot) => *slot = Some(core),
        // A port ends only when all its queues are home, so this core is no part of it. The device
        // may use its memory: it must not be freed.
        None => mem::forget(core),
    }
}

/// Names of the queues that are not home.
fn missing(running: &Running) -> Vec<String> {
    fn names<Core>(kind: &str, slots: &[Option<Core>]) -> impl Iterator<Item = String> {
        let missing = slots.iter().enumerate().filter(|(_, slot)| slot.is_none());
        missing.map(move |(index, _)| format!("{kind} {index}"))
    }
    names("rx", &running.rx)
        .chain(names("tx", &running.tx))
        .collect()
}
