//! What a running port owns, and how it is taken apart.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mana_verbs::{EventFd, MemoryRegion, ProtectionDomain, RssQueuePair, VerbsError};

use crate::queue::{Control, RxCore, RxQueue, Sleep, TxCore, TxQueue, gate};
use crate::{LostFrames, Queues};

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

    /// Counts what is on its way as lost, because the device is gone or about to be left.
    pub(crate) fn lose(&mut self) -> LostFrames {
        LostFrames {
            tx: self.tx.iter_mut().map(TxCore::lose).sum(),
            rx: self.rx.iter_mut().map(RxCore::lose).sum(),
        }
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
    /// Wakes whoever drives the port.
    bell: Arc<EventFd>,
    /// The control plane wants the queues, and wants to be told of each that it gets.
    waiting: AtomicBool,
    /// Recovery has failed: the gates stay closed.
    failed: AtomicBool,
}

/// The control plane's side of a started port.
#[derive(Debug)]
struct Plane {
    rx: Vec<RxSide>,
    tx: Vec<Control<TxCore>>,
    /// Without its queues, which are behind the gates. `None` once it was stopped, or while the
    /// port recovers.
    running: Option<Running>,
}

#[derive(Debug)]
struct RxSide {
    gate: Control<RxCore>,
    sleep: Option<Arc<Sleep>>,
}

/// A queue handle's hold on its home, let go of after the gate.
#[derive(Debug)]
pub(crate) struct Home(Arc<Started>);

impl Home {
    pub(crate) fn is(&self, other: &Arc<Started>) -> bool {
        Arc::ptr_eq(&self.0, other)
    }

    /// The queue was given up.
    #[cold]
    pub(crate) fn tell(&self) {
        if self.0.waiting.load(Ordering::Acquire) {
            self.0.bell.ring();
        }
    }

    /// Whether the queue will not be given back.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Started {
    /// Hands out all queues of `running`. `bell` is rung for each queue that is given up while the
    /// control plane wants them.
    ///
    /// # Errors
    ///
    /// Where there is no descriptor left to sleep on; everything is taken apart then.
    pub(crate) fn begin(
        mut running: Running,
        bell: &Arc<EventFd>,
    ) -> Result<(Arc<Self>, Queues), VerbsError> {
        let sleeps = running.rx.iter().map(Sleep::on);
        let sleeps = sleeps.collect::<Result<Vec<_>, _>>()?;
        let (rx, tx) = (mem::take(&mut running.rx), mem::take(&mut running.tx));
        let rx_sizes: Vec<_> = rx.iter().map(|core| (core.index(), core.depth())).collect();
        let tx_sizes: Vec<_> = tx.iter().map(|core| (core.index(), core.depth())).collect();
        let (rx_owners, rx_gates): (Vec<_>, Vec<_>) = rx.into_iter().map(gate).unzip();
        let (tx_owners, tx): (Vec<_>, Vec<_>) = tx.into_iter().map(gate).unzip();
        let sides = rx_gates.into_iter().zip(&sleeps);
        let rx = sides.map(|(gate, sleep)| RxSide {
            gate,
            sleep: sleep.clone(),
        });
        let home = Arc::new(Self {
            plane: Mutex::new(Plane {
                rx: rx.collect(),
                tx,
                running: Some(running),
            }),
            bell: Arc::clone(bell),
            waiting: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let hold = || Home(Arc::clone(&home));
        let rx = rx_owners.into_iter().zip(rx_sizes).zip(sleeps);
        let tx = tx_owners.into_iter().zip(tx_sizes);
        let queues = Queues {
            rx: rx
                .map(|((owner, size), sleep)| RxQueue::new(owner, size, sleep, hold()))
                .collect(),
            tx: tx
                .map(|(owner, size)| TxQueue::new(owner, size, hold()))
                .collect(),
        };
        Ok((home, queues))
    }

    /// Asks for all queues, and wakes owners that sleep on theirs.
    pub(crate) fn want(&self) {
        self.waiting.store(true, Ordering::Release);
        self.failed.store(false, Ordering::Release);
        let mut plane = self.lock();
        plane.tx.iter_mut().for_each(Control::want);
        for side in &mut plane.rx {
            side.gate.want();
            side.wake();
        }
    }

    /// What runs, with all queues, if they are home or given up; otherwise tells which are not.
    pub(crate) fn end(&self) -> Result<Option<Running>, Vec<String>> {
        self.lock().collect()
    }

    /// Gives the queues of `running` to the owners of those that were given up.
    ///
    /// # Errors
    ///
    /// Where a queue can't be slept on; everything is taken apart then.
    pub(crate) fn reopen(&self, mut running: Running) -> Result<(), VerbsError> {
        let mut plane = self.lock();
        for (side, core) in plane.rx.iter().zip(&running.rx) {
            if let Some(sleep) = &side.sleep {
                sleep.watch(core)?;
            }
        }
        self.waiting.store(false, Ordering::Release);
        let (rx, tx) = (mem::take(&mut running.rx), mem::take(&mut running.tx));
        // Before the gates: dropped handles leave the cores where this finds them.
        plane.running = Some(running);
        let mut left = false;
        for (gate, core) in plane.tx.iter_mut().zip(tx) {
            left |= gate.open(core).map_err(mem::forget).is_err();
        }
        for (side, core) in plane.rx.iter_mut().zip(rx) {
            left |= side.gate.open(core).map_err(mem::forget).is_err();
            side.wake();
        }
        // The gates were all found held, and only opening leads out of that.
        debug_assert!(!left, "a gate was not held");
        Ok(())
    }

    /// The queues will not be given back; owners that sleep on theirs learn it.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.lock().rx.iter().for_each(RxSide::wake);
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
            tracing::error!(
                "queues without a handle are missing: {}",
                missing.join(", ")
            );
        }
    }
}

impl RxSide {
    fn wake(&self) {
        if let Some(sleep) = &self.sleep {
            sleep.wake();
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
            running.tx = self.tx.iter_mut().filter_map(Control::take).collect();
            for side in &mut self.rx {
                let Some(core) = side.gate.take() else {
                    continue;
                };
                if let Some(sleep) = &side.sleep {
                    sleep.unwatch(&core);
                }
                running.rx.push(core);
            }
        }
        Ok(running)
    }

    /// Names of the queues that are not home.
    fn missing(&self) -> Vec<String> {
        let rx = self.rx.iter().map(|side| side.gate.is_held());
        let rx = rx.enumerate().map(|(index, held)| ("rx", index, held));
        let tx = self.tx.iter().map(Control::is_held);
        let tx = tx.enumerate().map(|(index, held)| ("tx", index, held));
        rx.chain(tx)
            .filter(|(.., held)| !held)
            .map(|(kind, index, _)| format!("{kind} {index}"))
            .collect()
    }
}
