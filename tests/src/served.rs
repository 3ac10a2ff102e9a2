//! A device behind the running kernel: steered by what its administrator can do, and, where it is a
//! model that `mana model serve` serves, by that.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use mana_model::control::{Client, ClientError};
use mana_model::rulebook::Surroundings;
use mana_model::{After, Fault, Finding, FindingKind, LinkConfig, ObjectCounts, PortCounters};
use uverbs_abi::{Errno, PciAddress};

use crate::device::{Device, told};
use crate::steering::Steering;

/// What the kernel is given to have a device's netdevs again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// One PCI function of this machine.
pub struct Served {
    steering: Steering,
    model: Option<Client>,
    /// The function's configuration space.
    config: File,
    /// What the kernel's own drivers have of the device.
    kernels: Cell<ObjectCounts>,
    /// What the device had counted before.
    counted: PortCounters,
    /// Whether the driver was taken from it.
    away: Cell<bool>,
    /// Whether the model stands still.
    held: Cell<bool>,
    /// Whether the kernel destroys queues by itself at any time.
    resetting: Cell<bool>,
    /// What the model found and forgot.
    found: RefCell<Vec<Finding>>,
}

impl Served {
    /// The function at this address; `model` is what serves it, if one does. Nobody uses it yet.
    ///
    /// # Errors
    ///
    /// Where the model does not answer, or there is no such function.
    pub fn new(pci: PciAddress, model: Option<Client>) -> Result<Self, ClientError> {
        let steering = Steering::new(pci);
        let served = Self {
            config: steering.config()?,
            steering,
            kernels: Cell::default(),
            counted: match &model {
                Some(model) => model.port(0).counters()?,
                None => PortCounters::default(),
            },
            model,
            away: Cell::new(false),
            held: Cell::new(false),
            resetting: Cell::new(false),
            found: RefCell::default(),
        };
        // Whoever came before may have ended in the middle of something.
        served.hold(false);
        served.kernels.set(served.in_device());
        Ok(served)
    }

    /// Puts a link behind the first port.
    ///
    /// # Errors
    ///
    /// Where the model refuses it or does not answer.
    pub fn set_wire(&self, link: &LinkConfig) -> Result<(), ClientError> {
        self.model().port(0).set_wire(link)
    }

    fn model(&self) -> &Client {
        let model = self.model.as_ref();
        model.expect("this suite needs the model that serves the device")
    }

    /// Waits for all doorbells so far: a read from the function is answered behind the stores before it.
    fn flush(&self) {
        let mut id = [0; 4];
        let read = self.config.read_at(&mut id, 0);
        assert_eq!(read.ok(), Some(id.len()), "the function is gone");
    }

    /// Takes what the model has found; of a kernel that takes the device away, without doorbells that
    /// ring into it: it destroys the queues first, and their owners' mappings after that.
    fn gather(&self, taking_away: bool) {
        let Some(model) = &self.model else { return };
        let mut found = told(model.take_findings());
        found.retain(|finding| !taking_away || finding.kind != FindingKind::DoorbellQueue);
        self.found.borrow_mut().extend(found);
    }

    /// What there is in the device.
    fn in_device(&self) -> ObjectCounts {
        let objects = self.model.as_ref().map(|model| told(model.objects()));
        objects.unwrap_or_default()
    }

    /// What there is in the device that is not of the kernel's own drivers.
    fn others(&self) -> ObjectCounts {
        let (now, kernels) = (self.in_device(), self.kernels.get());
        ObjectCounts {
            pds: now.pds.saturating_sub(kernels.pds),
            mrs: now.mrs.saturating_sub(kernels.mrs),
            wqs: now.wqs.saturating_sub(kernels.wqs),
            ..ObjectCounts::default()
        }
    }

    /// Waits until all ports have their netdevs.
    fn wait_for_netdev(&self) {
        let start = Instant::now();
        while let Err(errno) = self.steering.netdev(0) {
            assert!(start.elapsed() < PATIENCE, "no netdev: {errno}");
            thread::sleep(LOOK);
        }
    }
}

fn done(what: &str, result: Result<(), Errno>) {
    result.unwrap_or_else(|errno| panic!("{what}: {errno}; is this root?"));
}

impl Device for Served {
    fn step(&self) {
        self.flush();
        if self.held.get() {
            told(self.model().step());
        }
    }

    fn hold(&self, held: bool) {
        if let Some(model) = &self.model {
            told(model.send(if held { "hold" } else { "go" }));
            self.held.set(held);
        }
    }

    fn inject(&self, fault: Fault) {
        match fault {
            Fault::DeviceFatal { .. } => self.remove(0),
            Fault::FailOperation { .. } | Fault::RemoveAt { .. } => {
                panic!("the operations of a real kernel can't be counted")
            }
            fault => told(self.model().inject(fault)),
        }
    }

    fn remove(&self, _device: usize) {
        self.gather(false);
        done("the driver can't be unbound", self.steering.remove());
        self.away.set(true);
        self.flush();
        self.gather(true);
    }

    fn restore(&self, _device: usize) {
        done("the driver can't be bound", self.steering.restore());
        self.away.set(false);
        self.wait_for_netdev();
        self.kernels.set(self.in_device());
    }

    fn reset(&self, device: usize, after: After) {
        self.remove(device);
        if let After::Time(time) = after {
            thread::sleep(time);
        }
        self.restore(device);
    }

    fn request_reset(&self, device: usize) {
        self.gather(false);
        self.resetting.set(true);
        told(self.model().request_reset(device));
    }

    fn set_netdev_up(&self, port: usize, up: bool) {
        let others = self.others();
        let set = self.steering.set_netdev_up(port, up);
        done("the netdev can't be set", set);
        // What came or went is the netdev's.
        let now = self.in_device();
        self.kernels.set(ObjectCounts {
            pds: now.pds.saturating_sub(others.pds),
            mrs: now.mrs.saturating_sub(others.mrs),
            wqs: now.wqs.saturating_sub(others.wqs),
            ..ObjectCounts::default()
        });
    }

    fn set_link_up(&self, up: bool) {
        told(self.model().port(0).set_link_up(up));
    }

    fn operations(&self) -> u64 {
        panic!("the operations of a real kernel can't be counted")
    }

    fn objects(&self) -> ObjectCounts {
        ObjectCounts {
            contexts: contexts(),
            ..self.others()
        }
    }

    fn findings(&self) -> Vec<String> {
        self.gather(self.resetting.get());
        let found = self.found.borrow();
        found.iter().map(ToString::to_string).collect()
    }

    fn counters(&self) -> PortCounters {
        let (now, before) = (told(self.model().port(0).counters()), &self.counted);
        PortCounters {
            tx_frames: now.tx_frames - before.tx_frames,
            tx_bytes: now.tx_bytes - before.tx_bytes,
            link_dropped: now.link_dropped - before.link_dropped,
            tx_errors: now.tx_errors - before.tx_errors,
            rx_frames: now.rx_frames - before.rx_frames,
            rx_bytes: now.rx_bytes - before.rx_bytes,
            rx_no_buffer: now.rx_no_buffer - before.rx_no_buffer,
            rx_truncated: now.rx_truncated - before.rx_truncated,
            rx_disabled: now.rx_disabled - before.rx_disabled,
        }
    }

    fn deliver(&self, frame: &[u8]) {
        // A wire knows nothing of stores on their way, and would lose what finds no buffer yet.
        self.flush();
        told(self.model().port(0).deliver(frame));
    }

    fn deliver_all(&self, frames: &[Vec<u8>]) {
        self.flush();
        told(self.model().port(0).deliver_all(frames.to_vec()));
    }

    fn take_tx_frames(&self) -> Vec<Vec<u8>> {
        told(self.model().port(0).take_tx_frames())
    }

    fn drained(&self) -> bool {
        told(self.model().drained())
    }
}

/// Contexts that this process has.
fn contexts() -> usize {
    let files = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names
        .filter(|name| name.starts_with("/dev/infiniband/"))
        .count()
}

/// A device that was left away is there for whoever comes next.
impl Drop for Served {
    fn drop(&mut self) {
        if let Some(model) = self.model.as_ref().filter(|_| self.held.get()) {
            // Who comes next tells it again.
            let _gone = model.send("go");
        }
        if self.away.get() {
            // Who comes next tells of it.
            let _bound = self.steering.restore();
        }
    }
}
