//! What a running port owns, and how it is taken apart.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mana_verbs::{EventFd, MemoryRegion, VerbsError};

use crate::queue::{Control, RxCore, RxQueue, Sleep, TxCore, TxQueue, closed_gate, gate};
use crate::receive::{Basis, Receive};
use crate::{LostFrames, PortConfig, Queues};

/// Everything the device reaches while a port runs. Queues in somebody's hands are missing from it.
///
/// It is taken apart in the reverse order of its making: the RSS queue pair, so that nothing is
/// received any more and receive buffers can go home; then the send queues, which hold the vPort;
/// then memory regions and protection domain (reference/mana-hardware.md §4.2).
#[derive(Debug)]
pub(crate) struct Running {
    /// Name of the port for the log.
    pub(crate) name: String,
    pub(crate) receive: Receive,
    pub(crate) tx: Vec<TxCore>,
    /// One for each pool; they keep the pools' memory alive.
    pub(crate) regions: Vec<MemoryRegion>,
    /// The protection domain, and the keys of the pools.
    pub(crate) basis: Option<Basis>,
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
            rx: self.receive.lose(),
        }
    }

    fn finish(&mut self) -> Result<(), VerbsError> {
        let mut result = unless_gone(self.receive.destroy());
        for core in self.tx.drain(..) {
            result = result.and(unless_gone(core.destroy()));
        }
        for region in self.regions.drain(..) {
            result = result.and(unless_gone(region.destroy()));
        }
        self.basis = None;
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
    /// A [`Failure`], or 0: gates that are closed stay closed.
    failed: AtomicU8,
}

/// Why queues will not be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The port did not recover.
    Device = 1,
    /// The receiving side could not be made anew.
    Receive = 2,
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

    /// Why the queue will not be given back, if it won't.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let failed = self.0.failed.load(Ordering::Acquire);
        let all = [Failure::Device, Failure::Receive];
        all.into_iter().find(|failure| *failure as u8 == failed)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Started {
    /// Hands out all queues of `config`, which runs as `running`. `bell` is rung for each queue that is given up while the
    /// control plane wants them.
    ///
    /// # Errors
    ///
    /// Where there is no descriptor left to sleep on; everything is taken apart then.
    pub(crate) fn begin(
        mut running: Running,
        config: &PortConfig,
        bell: &Arc<EventFd>,
    ) -> Result<(Arc<Self>, Queues), VerbsError> {
        let sleeps = config.rx.iter().map(|_| match config.rx_interrupts {
            true => Sleep::new().map(Some),
            false => Ok(None),
        });
        let sleeps = sleeps.collect::<Result<Vec<_>, _>>()?;
        for core in &running.receive.rx {
            if let Some(sleep) = &sleeps[usize::from(core.index())] {
                sleep.watch(core)?;
            }
        }
        let (rx, tx) = (running.receive.without_queues(), mem::take(&mut running.tx));
        let tx_sizes: Vec<_> = tx.iter().map(|core| (core.index(), core.depth())).collect();
        let mut rx = rx.into_iter().peekable();
        let (mut rx_owners, mut sides) = (Vec::new(), Vec::new());
        for ((index, queue), sleep) in (0..).zip(&config.rx).zip(sleeps) {
            // The indirection table may leave a queue out.
            let core = rx.next_if(|core| core.index() == index);
            let (owner, gate) = core.map_or_else(closed_gate, gate);
            rx_owners.push((owner, (index, queue.depth), sleep.clone()));
            sides.push(RxSide { gate, sleep });
        }
        let (tx_owners, tx): (Vec<_>, Vec<_>) = tx.into_iter().map(gate).unzip();
        let home = Arc::new(Self {
            plane: Mutex::new(Plane {
                rx: sides,
                tx,
                running: Some(running),
            }),
            bell: Arc::clone(bell),
            waiting: AtomicBool::new(false),
            failed: AtomicU8::new(0),
        });
        let hold = || Home(Arc::clone(&home));
        let rx = rx_owners.into_iter();
        let tx = tx_owners.into_iter().zip(tx_sizes);
        let queues = Queues {
            rx: rx
                .map(|(owner, size, sleep)| RxQueue::new(owner, size, sleep, hold()))
                .collect(),
            tx: tx
                .map(|(owner, size)| TxQueue::new(owner, size, hold()))
                .collect(),
        };
        Ok((home, queues))
    }

    /// Asks for all queues, and wakes owners that sleep on theirs.
    pub(crate) fn want(&self) {
        self.wait_for_queues();
        // Before any owner is woken: a thread that sleeps on receive queues looks at all of its
        // queues then, and sleeps again.
        self.lock().tx.iter_mut().for_each(Control::want);
        self.want_rx();
    }

    /// Asks for the receive queues, likewise.
    pub(crate) fn want_rx(&self) {
        self.wait_for_queues();
        for side in &mut self.lock().rx {
            side.gate.want();
            side.wake();
        }
    }

    /// Before the queues are asked for, so that giving one up is told.
    fn wait_for_queues(&self) {
        self.waiting.store(true, Ordering::Release);
        self.failed.store(0, Ordering::Release);
    }

    /// What receive queues are made on, if the port runs and did not lose its device.
    pub(crate) fn basis(&self) -> Option<Basis> {
        self.lock().running.as_ref()?.basis.clone()
    }

    /// What receives, with its queues, if they are home or given up; otherwise tells which are not.
    /// The port then runs on without it. `None` where it does not run at all.
    pub(crate) fn take_receive(&self) -> Result<Option<Receive>, Vec<String>> {
        self.lock().collect_receive()
    }

    /// The port receives with this from now on. The queues go to the owners of those that were given
    /// up; those that `receive` does not have stay closed.
    ///
    /// # Errors
    ///
    /// Where a queue can't be slept on; `receive` is taken apart then.
    pub(crate) fn put_receive(&self, receive: Receive) -> Result<(), VerbsError> {
        let mut plane = self.lock();
        let cores = plane.put_receive(receive)?;
        self.waiting.store(false, Ordering::Release);
        plane.open_rx(cores);
        Ok(())
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
        plane.watch(&running.receive)?;
        self.waiting.store(false, Ordering::Release);
        let (rx, tx) = (running.receive.without_queues(), mem::take(&mut running.tx));
        // Before the gates: dropped handles leave the cores where this finds them.
        plane.running = Some(running);
        let mut left = false;
        for (gate, core) in plane.tx.iter_mut().zip(tx) {
            left |= gate.open(core).map_err(mem::forget).is_err();
        }
        // The gates were all found held, and only opening leads out of that.
        debug_assert!(!left, "a gate was not held");
        plane.open_rx(rx);
        Ok(())
    }

    /// Queues will not be given back; owners that sleep on theirs learn it.
    pub(crate) fn fail(&self, failure: Failure) {
        self.failed.store(failure as u8, Ordering::Release);
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
            running.receive.rx = self.take_rx();
        }
        Ok(running)
    }

    /// Likewise, what receives.
    fn collect_receive(&mut self) -> Result<Option<Receive>, Vec<String>> {
        let missing = self.missing_rx();
        if !missing.is_empty() {
            return Err(missing);
        }
        let cores = self.take_rx();
        let Some(running) = &mut self.running else {
            return Ok(None);
        };
        let none = Receive::none(running.name.clone());
        let mut receive = mem::replace(&mut running.receive, none);
        receive.rx = cores;
        Ok(Some(receive))
    }

    /// Takes the cores of all receive queues, which are home.
    fn take_rx(&mut self) -> Vec<RxCore> {
        let mut cores = Vec::new();
        for side in &mut self.rx {
            let Some(core) = side.gate.take() else {
                continue;
            };
            if let Some(sleep) = &side.sleep {
                sleep.unwatch(&core);
            }
            cores.push(core);
        }
        cores
    }

    /// Keeps what receives, and hands out its queues to be opened.
    fn put_receive(&mut self, mut receive: Receive) -> Result<Vec<RxCore>, VerbsError> {
        self.watch(&receive)?;
        let cores = receive.without_queues();
        if let Some(running) = &mut self.running {
            running.receive = receive;
        }
        Ok(cores)
    }

    /// Lets owners that sleep be woken by these queues.
    fn watch(&self, receive: &Receive) -> Result<(), VerbsError> {
        for core in &receive.rx {
            if let Some(sleep) = &self.rx[usize::from(core.index())].sleep {
                sleep.watch(core)?;
            }
        }
        Ok(())
    }

    /// Opens the gates of these queues, all of which are held, and wakes their owners.
    fn open_rx(&mut self, cores: Vec<RxCore>) {
        let mut left = false;
        for core in cores {
            let side = &mut self.rx[usize::from(core.index())];
            left |= side.gate.open(core).map_err(mem::forget).is_err();
            side.wake();
        }
        debug_assert!(!left, "a gate was not held");
    }

    /// Names of the queues that are not home.
    fn missing(&self) -> Vec<String> {
        let tx = self.tx.iter().map(Control::is_held);
        let mut missing = self.missing_rx();
        missing.extend(not_held("tx", tx));
        missing
    }

    fn missing_rx(&self) -> Vec<String> {
        not_held("rx", self.rx.iter().map(|side| side.gate.is_held())).collect()
    }
}

fn not_held(kind: &str, held: impl Iterator<Item = bool>) -> impl Iterator<Item = String> {
    let missing = held.enumerate().filter(|(_, held)| !held);
    missing.map(move |(index, _)| format!("{kind} {index}"))
}
