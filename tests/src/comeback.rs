//! A machine whose device goes away and comes back, as a reset or servicing does: the same PCI address
//! and MACs under another ib name and uverbs number (reference/mana-hardware.md §6.8).
//!
//! Each return is a model of its own, so nothing of the old device can serve the new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mana_model::{
    DeviceConfig, DoorbellMode, Fault, Kernel, LinkConfig, Model, ModelConfig, ObjectCounts, Runner,
};
use mana_pmd::{Port, PortEvent, Selector};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uverbs_abi::{IbDevice, Mac, Netdev, System, SystemError, SystemKind, Transport};

use crate::Rig;

/// Time after which an event that does not come is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const PCI: &str = "7870:00:00.0";

/// The machine. A handle; clones are the same machine.
#[derive(Clone)]
pub struct Comeback {
    inner: Arc<Inner>,
}

struct Inner {
    kernel: Kernel,
    ports: usize,
    machines: Mutex<Machines>,
}

/// The models so far, and the threads of their devices.
#[derive(Default)]
struct Machines {
    all: Vec<Model>,
    runners: Vec<Runner>,
    away: bool,
}

impl Comeback {
    /// A machine with one device of so many looping ports, which runs.
    #[must_use]
    pub fn new(kernel: Kernel, ports: usize) -> Self {
        let inner = Inner {
            kernel,
            ports,
            machines: Mutex::default(),
        };
        let comeback = Self {
            inner: Arc::new(inner),
        };
        comeback.bring_back();
        comeback
    }

    /// The MAC of a port.
    #[must_use]
    pub fn mac(port: usize) -> Mac {
        Mac([0x00, 0x0d, 0x3a, 0x01, 0x02, port as u8])
    }

    /// The machine as a driver sees it.
    #[must_use]
    pub fn system(&self) -> Arc<dyn System> {
        Arc::new(self.clone())
    }

    /// The machine with the selector of one of its ports.
    #[must_use]
    pub fn rig(&self, port: usize) -> Rig {
        let selector = Selector {
            macs: vec![Self::mac(port)],
            ..Selector::default()
        };
        Rig::hardware(self.system(), selector)
    }

    /// The model that is there now, or was last.
    #[must_use]
    pub fn model(&self) -> Model {
        let machines = self.lock();
        machines.all.last().expect("there is always one").clone()
    }

    /// Index of the port in [`Comeback::model`].
    #[must_use]
    pub fn port_index(&self, port: usize) -> usize {
        (self.lock().all.len() - 1) % 3 + port
    }

    /// The device goes away.
    pub fn take_away(&self) {
        let mut machines = self.lock();
        machines.away = true;
        let model = machines.all.last().expect("there is always one");
        // Other devices stand before it.
        let device = (machines.all.len() - 1) % 3;
        model.inject(Fault::DeviceFatal { device });
    }

    /// The device comes back, under another name each time.
    ///
    /// # Panics
    ///
    /// If the model can't be built.
    pub fn bring_back(&self) {
        self.bring_back_with(|_| ());
    }

    /// Likewise, and something is done to the model before anybody sees it.
    ///
    /// # Panics
    ///
    /// If the model can't be built.
    pub fn bring_back_with(&self, prepare: impl FnOnce(&Model)) {
        let mut machines = self.lock();
        // Devices of other functions come first, so that names and numbers differ.
        let others = (machines.all.len() % 3) as u32;
        let mut devices: Vec<_> = (0..others)
            .map(|index| DeviceConfig {
                name: format!("other{index}"),
                pci: format!("7870:00:0{}.0", index + 1).parse().ok(),
                ..DeviceConfig::new(self.inner.kernel)
            })
            .collect();
        let mut device = DeviceConfig::new(self.inner.kernel);
        device.pci = PCI.parse().ok();
        device.ports = (0..self.inner.ports)
            .map(|port| mana_model::config::PortConfig {
                mac: Some(Self::mac(port)),
                link: LinkConfig::Loop,
                ..Default::default()
            })
            .collect();
        devices.push(device);
        let config = ModelConfig {
            devices,
            doorbells: DoorbellMode::Polled,
        };
        let model = Model::new(config).expect("the devices can be built");
        prepare(&model);
        machines.runners.push(model.run());
        machines.all.push(model);
        machines.away = false;
    }

    /// Lets operations pass until the model has seen so many: a failure ordered for one of them is then
    /// nobody's any more.
    pub fn spend_operations(&self, count: u64) {
        let (system, model) = (self.system(), self.model());
        while model.operations() < count {
            // Whether it works does not matter.
            let _ = Port::open(&system, &Selector::default());
        }
    }

    /// Asserts that no device has an object left, and that none found a rule broken.
    ///
    /// # Panics
    ///
    /// With what is left.
    pub fn assert_clean(&self) {
        for model in &self.lock().all {
            assert_eq!(model.objects(), ObjectCounts::default(), "objects leak");
            let findings = model.findings();
            assert!(findings.is_empty(), "{findings:#?}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        (self.inner.machines.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Comeback {
    fn kind(&self) -> SystemKind {
        SystemKind::Model
    }

    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        self.model().system().ib_devices()
    }

    fn netdevs(&self, device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
        self.model().system().netdevs(device)
    }

    fn open(&self, device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
        self.model().system().open(device)
    }
}

/// Sleeps on the port's descriptor, never longer than a moment, and drives the port.
///
/// # Panics
///
/// If events can't be read.
pub fn next_event(port: &mut Port) -> Option<PortEvent> {
    let event = port.next_event().expect("events can be read");
    if event.is_none() {
        let mut fds = [PollFd::from_borrowed_fd(port.event_fd(), PollFlags::IN)];
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        // A signal ends it early, which does not matter.
        let _ = poll(&mut fds, Some(&moment));
    }
    event
}

/// Drives the port until an event comes that `last` takes; returns all of them. `meanwhile` is called
/// all the time.
///
/// # Panics
///
/// If it does not come.
pub fn events_until(
    port: &mut Port,
    mut meanwhile: impl FnMut(),
    last: impl Fn(&PortEvent) -> bool,
) -> Vec<PortEvent> {
    let start = Instant::now();
    let mut events = Vec::new();
    loop {
        meanwhile();
        if let Some(event) = next_event(port) {
            let done = last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
        assert!(start.elapsed() < PATIENCE, "only {events:?} {port:?}");
    }
}
