//! What a running port owns, and how it is taken apart.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mana_verbs::{MemoryRegion, ProtectionDomain, RssQueuePair, VerbsError};

use crate::Queues;
use crate::queue::{Control, RxCore, RxQueue, TxCore, TxQueue, gate};

/// Everything the device reaches while a port runs. Queues in somebody's hands are missing from it.
///
/// It is taken apart in the reverse order of its making: the RSS queue pair, so that nothing is
/// received any more and receive buffers can go home; then the send queues, which hold the vPort;
/// then memory regions and protection domain (reference/mana-hardware.md §4.2).
#[derive(Debug)]
pub(crate) struct Running {
    /// Name of the port for the log.
    pub(crate) name: String,
    pub(crate) rx: Vec<RxCore>,
    pub(crate) rss: Option<RssQueuePair>,
    pub(crate) tx: Vec<TxCore>,
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
        for core in self.rx.drain(..) {
            core.release(&rss);
        }
        let mut result = unless_gone(rss);
        for core in self.tx.drain(..) {
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
    plane: Mutex<Plane>,
}

/// The control plane's side of a started port.
#[derive(Debug)]
struct Plane {
    rx: Vec<Control<RxCore>>,
    tx: Vec<Control<TxCore>>,
    /// Without its queues, which are behind the gates. `None` once it was stopped.
    running: Option<Running>,
}

impl Started {
    /// Hands out all queues of `running`.
    pub(crate) fn begin(mut running: Running) -> (Arc<Self>, Queues) {
        let rx = mem::take(&mut running.rx);
        let tx = mem::take(&mut running.tx);
        let rx_sizes: Vec<_> = rx.iter().map(|core| (core.index(), core.depth())).collect();
        let tx_sizes: Vec<_> = tx.iter().map(|core| (core.index(), core.depth())).collect();
        let (rx_owners, rx): (Vec<_>, _) = rx.into_iter().map(gate).unzip();
        let (tx_owners, tx): (Vec<_>, _) = tx.into_iter().map(gate).unzip();
        let home = Arc::new(Self {
            plane: Mutex::new(Plane {
                rx,
                tx,
                running: Some(running),
            }),
        });
        let rx = rx_owners.into_iter().zip(rx_sizes);
        let tx = tx_owners.into_iter().zip(tx_sizes);
        let queues = Queues {
            rx: rx
                .map(|(owner, (index, depth))| RxQueue::new(owner, index, depth, Arc::clone(&home)))
                .collect(),
            tx: tx
                .map(|(owner, (index, depth))| TxQueue::new(owner, index, depth, Arc::clone(&home)))
                .collect(),
        };
        (home, queues)
    }

    /// Ends the port's run, if all queues are home; otherwise tells which are not.
    pub(crate) fn end(&self) -> Result<Option<Running>, Vec<String>> {
        self.lock().collect()
    }

    /// A panic elsewhere leaves what is behind the lock whole: cores are only moved in and out.
    fn lock(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let plane = self.plane.get_mut().unwrap_or_else(PoisonError::into_inner);
        // No handle is left, so all queues are home; what runs takes itself apart.
        if let Err(missing) = plane.collect() {
            tracing::error!("queues without a handle are not home: {}", missing.join(", "));
        }
    }
}

impl Plane {
    /// What runs, with all its queues, if they are home; otherwise the names of those that are not.
    fn collect(&mut self) -> Result<Option<Running>, Vec<String>> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut running = self.running.take();
        if let Some(running) = &mut running {
            running.rx = self.rx.iter_mut().filter_map(Control::take).collect();
            running.tx = self.tx.iter_mut().filter_map(Control::take).collect();
        }
        Ok(running)
    }

    /// Names of the queues that are not home.
    fn missing(&self) -> Vec<String> {
        fn names<Core>(kind: &str, gates: &[Control<Core>]) -> impl Iterator<Item = String> {
            let missing = gates.iter().enumerate().filter(|(_, gate)| !gate.is_held());
            missing.map(move |(index, _)| format!("{kind} {index}"))
        }
        names("rx", &self.rx).chain(names("tx", &self.tx)).collect()
    }
}
