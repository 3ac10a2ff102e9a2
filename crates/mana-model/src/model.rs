//! The model as its users hold it: a machine that steps or runs, its ports, and what it found.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use uverbs_abi::{Errno, Mac, System};

use crate::config::{self, DoorbellMode, LinkConfig, ModelConfig};
use crate::core::{Cooling, Device, PortCounters};
use crate::error::ModelError;
use crate::faults::Fault;
use crate::findings::{Finding, FindingKind, Watch};
use crate::front::machine::Machine;
use crate::front::system::ModelSystem;
use crate::links::{Links, Watcher};

/// A machine with MANA devices. Clones are handles to the same machine.
#[derive(Clone)]
pub struct Model {
    pub(crate) shared: Arc<Shared>,
}

/// The machine, its lock, and who waits for it.
pub(crate) struct Shared {
    machine: Mutex<Machine>,
    /// Threads that want the lock for something else than a step. The polling thread makes room
    /// for them: a mutex alone would let it take the lock again and again.
    waiting: AtomicUsize,
    doorbells: DoorbellMode,
    /// Looks at the taps, without the machine's lock.
    watcher: Option<Watcher>,
}

impl Shared {
    /// The machine, ahead of the polling thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Machine> {
        // Relaxed: the counter only makes the other thread wait longer.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        machine.bring_back();
        if let Some(news) = self.watcher.as_ref().and_then(Watcher::news) {
            machine.follow(news);
        }
        machine
    }
}

/// When a device that was reset comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// In the so-manieth [`Model::step`] from now, before anything else in it; 0 is at once. While
    /// the model runs by itself, each turn of its thread is a step.
    Steps(u32),
    /// So much time from now, whether the model is stepped or not.
    Time(Duration),
}

/// How many verbs objects exist in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectCounts {
    /// Open uverbs contexts.
    pub contexts: usize,
    /// Protection domains.
    pub pds: usize,
    /// Memory regions.
    pub mrs: usize,
    /// Completion queues.
    pub cqs: usize,
    /// Queue pairs, of both kinds.
    pub qps: usize,
    /// Receive work queues.
    pub wqs: usize,
    /// Indirection tables.
    pub tables: usize,
}

impl Model {
    /// Builds the machine. Nothing moves until [`Model::step`] or [`Model::run`].
    ///
    /// # Errors
    ///
    /// Names the device and what is wrong with it: MACs, pairs, ranges, captures that can't be
    /// read or written, taps that can't be had.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        let pairs = config::check(&config)?;
        let links = Links::new(&config.devices, &pairs)?;
        let watcher = links.watch();
        let devices = config.devices.iter().map(Device::new).collect();
        Ok(Self {
            shared: Arc::new(Shared {
                machine: Mutex::new(Machine::new(&config.devices, devices, links)),
                waiting: AtomicUsize::new(0),
                watcher,
                doorbells: config.doorbells,
            }),
        })
    }

    /// The machine as a driver sees it.
    #[must_use]
    pub fn system(&self) -> Arc<dyn System> {
        Arc::new(ModelSystem {
            shared: Arc::clone(&self.shared),
        })
    }

    /// Handles what is pending, doorbells first, until nothing moves any more; returns the packets
    /// moved. An endless generator moves one ring's worth, a tap 1024 frames. Deterministic but for
    /// taps and rates, on the caller's thread.
    pub fn step(&self) -> usize {
        let all = self.shared.doorbells != DoorbellMode::Polled;
        let mut machine = self.shared.lock();
        machine.turn();
        machine.settle(all)
    }

    /// Starts the device's thread, which polls doorbells and links until the [`Runner`] is dropped.
    #[must_use = "the device stops when the runner is dropped"]
    pub fn run(&self) -> Runner {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&stop));
            move || poll(&shared, &stop)
        });
        Runner {
            stop,
            thread: Some(thread),
        }
    }

    /// What the driver did wrong so far, in the order of its finding.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let machine = self.shared.lock();
        let devices = machine.functions.iter().map(|function| &function.device);
        devices
            .flat_map(|device| device.findings().to_vec())
            .collect()
    }

    /// Like [`Model::findings`], and forgets them.
    #[must_use]
    pub fn take_findings(&self) -> Vec<Finding> {
        let mut machine = self.shared.lock();
        let functions = machine.functions.iter_mut();
        functions
            .flat_map(|function| function.device.take_findings())
            .collect()
    }

    /// Tells `watch` each finding as it is made, on the thread that made it: the first of each rule and
    /// queue, later ones only count. For a log, or for a panic where a driver under test breaks a
    /// rule. The model is locked meanwhile: `watch` must not call it. A later call replaces `watch`.
    pub fn watch_findings(&self, watch: impl Fn(&Finding) + Send + Sync + 'static) {
        let watch: Watch = Arc::new(watch);
        let mut machine = self.shared.lock();
        for function in &mut machine.functions {
            function.device.watch_findings(Arc::clone(&watch));
        }
    }

    /// Kinds of findings that this machine can't have, because a polled doorbell may be overwritten
    /// before it is seen. Empty for a stepped machine.
    #[must_use]
    pub fn undecided(&self) -> &'static [FindingKind] {
        match self.shared.doorbells {
            DoorbellMode::Stepped | DoorbellMode::Trapped => &[],
            DoorbellMode::Polled => FindingKind::UNDECIDED_WHEN_POLLED,
        }
    }

    /// Orders a failure.
    ///
    /// # Panics
    ///
    /// If the machine has no such port or device.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().inject(fault);
    }

    /// Moves completions out of this core's caches after they were written, as if a device had
    /// written them: for measurements.
    pub fn set_cooling(&self, cooling: Cooling) {
        for function in &mut self.shared.lock().functions {
            function.device.set_cooling(cooling);
        }
    }

    /// Takes a device away, as the kernel does when its PCI function is removed
    /// (reference/mana-hardware.md §4.9, §6.8): DEVICE_FATAL into every asynchronous event file,
    /// completion channels end, objects are destroyed, its ib devices and netdevs are no more.
    /// Contexts that are open answer `EIO` for ever. What the model counted and found stays.
    ///
    /// # Errors
    ///
    /// `ENODEV` where it is away already.
    ///
    /// # Panics
    ///
    /// If the machine has no such device.
    pub fn remove(&self, device: usize) -> Result<(), Errno> {
        self.shared.lock().remove(device)
    }

    /// Brings a device back: same PCI address, MACs and state of the netdevs, but new ib devices with
    /// nodes that nobody had before. Names have the lowest free number, as the kernel gives them, so
    /// they change where another device took the old one.
    ///
    /// # Errors
    ///
    /// `EEXIST` where it is not away.
    ///
    /// # Panics
    ///
    /// If the machine has no such device.
    pub fn restore(&self, device: usize) -> Result<(), Errno> {
        self.shared.lock().restore(device)
    }

    /// [`Model::remove`], and by itself [`Model::restore`]: what a driver sees of a reset of the
    /// device or of its servicing (reference/mana-hardware.md §6.8).
    ///
    /// # Errors
    ///
    /// `ENODEV` where the device is away already.
    ///
    /// # Panics
    ///
    /// If the machine has no such device.
    pub fn reset(&self, device: usize, after: After) -> Result<(), Errno> {
        self.shared.lock().reset(device, after)
    }

    /// How long until the next device comes back that was reset for a time.
    #[must_use]
    pub fn next_return(&self) -> Option<Duration> {
        self.shared.lock().next_return()
    }

    /// Control operations (method calls and doorbell mappings, also failed ones) so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }

    /// Number of ports of all devices.
    #[must_use]
    pub fn ports(&self) -> usize {
        let machine = self.shared.lock();
        let functions = machine.functions.iter();
        functions.map(|function| function.ports.len()).sum()
    }

    /// Number of devices.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.shared.lock().functions.len()
    }

    /// One port, counted from 0 over all devices.
    ///
    /// # Panics
    ///
    /// If there is no such port.
    #[must_use]
    pub fn port(&self, index: usize) -> PortView {
        let found = self.shared.lock().locate(index);
        let (function, port) = found.unwrap_or_else(|| panic!("the model has no port {index}"));
        PortView {
            shared: Arc::clone(&self.shared),
            index,
            function,
            port,
        }
    }

    /// Whether every capture and every generator with a count is delivered or dropped, and nothing
    /// is on its way inside the device.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.shared.lock().drained()
    }

    /// What exists in the machine, to show that nothing leaks.
    #[must_use]
    pub fn objects(&self) -> ObjectCounts {
        self.shared.lock().objects()
    }
}

/// Frames that a tap may bring between two turns of the send queues.
const TURN_FRAMES: usize = 64;

/// The device's thread.
///
/// The model runs on the cores that the driver's workers use, so an idle device gives its core
/// away soon: a short spin, then naps that still keep latency near the timer's slack. It does not
/// yield: each yield gives away a whole time slice, so beside two busy threads a hundred of them are
/// more than half a second (seen on Linux 6.18), while a thread that slept is woken at once.
fn poll(shared: &Shared, stop: &AtomicBool) {
    const SPINS: u32 = 1024;
    const NAP: Duration = Duration::from_micros(50);
    let mut idle = 0_u32;
    let mut ears = shared.lock().links.ears();
    let mut heard = false;
    while !stop.load(Ordering::Relaxed) {
        if shared.waiting.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
            continue;
        }
        let eager = std::mem::take(&mut heard);
        let moved = {
            let machine = shared.machine.lock();
            let mut machine = machine.unwrap_or_else(PoisonError::into_inner);
            machine.turn();
            machine.links.listen(TURN_FRAMES, eager);
            machine.step(false)
        };
        idle = if moved > 0 { 0 } else { idle.saturating_add(1) };
        match idle {
            0 => {}
            1..SPINS => std::hint::spin_loop(),
            _ => match &mut ears {
                // A frame that was heard and did not move waits for a buffer: it must not keep the
                // thread from sleeping.
                Some(ears) if !eager => heard = ears.wait(NAP),
                _ => thread::sleep(NAP),
            },
        }
    }
}

/// The device's thread; dropping it stops and joins.
pub struct Runner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the model's thread panicked; its message is above");
        }
    }
}

/// One port, seen from outside the driver: its netdev, its counters and the wire.
#[derive(Clone)]
pub struct PortView {
    shared: Arc<Shared>,
    index: usize,
    function: usize,
    port: usize,
}

impl PortView {
    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.shared.lock().functions[self.function].ports[self.port]
            .netdev
            .mac
    }

    /// Name of its netdev, which is that of its tap if its link is one.
    #[must_use]
    pub fn netdev(&self) -> String {
        let machine = self.shared.lock();
        machine.functions[self.function].ports[self.port]
            .netdev
            .name
            .clone()
    }

    /// Index of its device.
    #[must_use]
    pub fn device(&self) -> usize {
        self.function
    }

    /// Whether its netdev is UP.
    #[must_use]
    pub fn is_netdev_up(&self) -> bool {
        self.shared.lock().functions[self.function].ports[self.port]
            .netdev
            .up
    }

    /// Whether its link has a carrier.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.shared.lock().functions[self.function].ports[self.port].link_up
    }

    /// Takes the link's carrier, or gives it back; both ends of a pair have one. Without it every
    /// frame is lost, and counted as `link_dropped` of the port that sends or would receive it; only
    /// sources as fast as the port wait. Kernels that tell of it (7.3) do so while the netdev is UP.
    pub fn set_link_up(&self, up: bool) {
        self.shared.lock().set_link(self.index, up);
    }

    /// Puts another link behind the port, with nothing on it: a loop or a sink.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for other links.
    pub fn set_wire(&self, link: &LinkConfig) -> Result<(), Errno> {
        let wired = self.shared.lock().links.set_wire(self.index, link);
        wired.then_some(()).ok_or(Errno::EOPNOTSUPP)
    }

    /// What the device counted.
    #[must_use]
    pub fn counters(&self) -> PortCounters {
        let machine = self.shared.lock();
        PortCounters {
            link_dropped: machine.links.dropped(self.index),
            ..machine.functions[self.function].device.counters(self.port)
        }
    }

    /// Sets the netdev UP or DOWN, as `ip link set` does.
    ///
    /// # Errors
    ///
    /// `EBUSY` for UP while a driver has a send queue on the port.
    pub fn set_netdev_up(&self, up: bool) -> Result<(), Errno> {
        self.shared.lock().functions[self.function].set_netdev_up(self.port, up)
    }

    /// Takes what the port sent, oldest first, where its link is a sink that captures; empty
    /// elsewhere.
    #[must_use]
    pub fn take_tx_frames(&self) -> Vec<Vec<u8>> {
        self.shared.lock().links.take_frames(self.index)
    }

    /// Lets a frame arrive at the port with the next step, whatever its link is.
    pub fn deliver(&self, frame: &[u8]) {
        self.shared.lock().links.deliver(self.index, frame);
    }
}
