//! What a suite runs on: a system, a selector that chooses one port of it, and, where the device is
//! a model, the means to steer and read it.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mana_model::{DeviceConfig, DoorbellMode, Model, ModelConfig, ObjectCounts, Runner};
use mana_pmd::{Port, PortInfo, Selector, System};
use pmd_api::Pool;
use uverbs_abi::IbDevice;

use crate::device::Device;

/// Rounds without result after which a device that is stepped is given up: it does all it can in
/// one.
const STEPS: u32 = 64;
/// Time without result after which any other device is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time in which a device that works by itself may be thought to have done it.
const REST: Duration = Duration::from_millis(500);

/// When a device works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// In [`Rig::advance`] only.
    Stepped,
    /// At each doorbell, at once, and in [`Rig::advance`].
    Prompt,
    /// As before, but each doorbell takes a while to get there: in [`Rig::advance`] all have. What the
    /// kernel makes of it, wakes and events, comes later.
    Remote,
    /// By itself.
    Free,
}

/// One pair of driver and device.
pub struct Rig {
    /// The machine.
    pub system: Arc<dyn System>,
    /// Chooses the port under test.
    pub selector: Selector,
    /// The device, where it is a model or can be steered.
    device: Option<Box<dyn Device>>,
    /// Whether it is a model, which can be looked into.
    model: bool,
    pace: Pace,
    /// Whether the machine's second device has the names that the first began with.
    swapped: Cell<bool>,
    /// The device's thread, joined when the rig goes.
    _runner: Option<Runner>,
}

impl Rig {
    /// The first port of a model of one device, in this process.
    ///
    /// # Panics
    ///
    /// If the device can't be built.
    #[must_use]
    pub fn model(device: DeviceConfig, doorbells: DoorbellMode) -> Self {
        Self::machine(vec![device], doorbells)
    }

    /// The first port of a model of these devices, in this process.
    ///
    /// # Panics
    ///
    /// If they can't be built.
    #[must_use]
    pub fn machine(devices: Vec<DeviceConfig>, doorbells: DoorbellMode) -> Self {
        let model = Model::new(ModelConfig { devices, doorbells });
        let model = model.expect("the devices can be built");
        let polled = doorbells == DoorbellMode::Polled;
        Self {
            system: model.system(),
            selector: Selector {
                macs: vec![model.port(0).mac()],
                ..Selector::default()
            },
            pace: if polled { Pace::Free } else { Pace::Stepped },
            swapped: Cell::default(),
            _runner: polled.then(|| model.run()),
            device: Some(Box::new(model)),
            model: true,
        }
    }

    /// The first port of a model that stands where `system` looks for devices, and sees each
    /// doorbell as it is stored.
    #[must_use]
    pub fn preloaded(
        system: Arc<dyn System>,
        selector: Selector,
        device: impl Device + 'static,
    ) -> Self {
        Self {
            system,
            selector,
            device: Some(Box::new(device)),
            model: true,
            pace: Pace::Prompt,
            swapped: Cell::default(),
            _runner: None,
        }
    }

    /// A port of which nothing but the port is known. Suites that must look into the device can't
    /// run on it.
    #[must_use]
    pub fn hardware(system: Arc<dyn System>, selector: Selector) -> Self {
        Self {
            system,
            selector,
            device: None,
            model: false,
            pace: Pace::Free,
            swapped: Cell::default(),
            _runner: None,
        }
    }

    /// A port of the running kernel on a device that can be steered, and looked into where it is a
    /// `model` in another process.
    #[must_use]
    pub fn served(
        system: Arc<dyn System>,
        selector: Selector,
        device: impl Device + 'static,
        model: bool,
    ) -> Self {
        Self {
            device: Some(Box::new(device)),
            model,
            pace: if model { Pace::Remote } else { Pace::Free },
            ..Self::hardware(system, selector)
        }
    }

    /// Lets the device work: a model does all it can, elsewhere this thread yields.
    pub fn advance(&self) {
        match &self.device {
            Some(device) if self.pace != Pace::Free => device.step(),
            _ => thread::yield_now(),
        }
    }

    /// Advances until `done` says so; false if it does not in due time.
    pub fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        let mut steps = 0;
        loop {
            if done() {
                return true;
            }
            steps += 1;
            let patient = match self.pace {
                Pace::Stepped | Pace::Prompt => steps < STEPS,
                Pace::Remote | Pace::Free => start.elapsed() < PATIENCE,
            };
            if !patient {
                return false;
            }
            self.advance();
        }
    }

    /// The device that is steered.
    ///
    /// # Panics
    ///
    /// If it can't be: such a suite says that it needs that.
    #[must_use]
    pub fn device(&self) -> &dyn Device {
        self.device.as_deref().expect("this suite needs a model")
    }

    /// Whether the device is a model, which can be looked into.
    #[must_use]
    pub fn is_model(&self) -> bool {
        self.model
    }

    /// Whether the device stands still between two calls of [`Rig::advance`].
    #[must_use]
    pub fn is_stepped(&self) -> bool {
        self.pace == Pace::Stepped
    }

    /// What the kernel's side of a model holds; nothing elsewhere.
    #[must_use]
    pub fn objects(&self) -> ObjectCounts {
        let device = self.device.as_ref().filter(|_| self.model);
        device.map(|device| device.objects()).unwrap_or_default()
    }

    /// Lets the device do all that it can, or time pass in which it could; `meanwhile` is called all
    /// the time.
    pub fn rest(&self, mut meanwhile: impl FnMut()) {
        let start = Instant::now();
        let mut steps = 0;
        let more = |steps| match self.pace {
            Pace::Stepped | Pace::Prompt | Pace::Remote => steps < STEPS,
            Pace::Free => start.elapsed() < REST,
        };
        while more(steps) {
            meanwhile();
            self.advance();
            steps += 1;
        }
        meanwhile();
    }

    /// Whether its netdevs are there for the kernel, which then tells their statistics and limits: not
    /// in front of a preloaded model.
    #[must_use]
    pub fn has_netdevs(&self) -> bool {
        self.pace != Pace::Prompt
    }

    /// Opens the port under test.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn open(&self) -> Port {
        let mut ports = Port::open(&self.system, &self.selector)
            .unwrap_or_else(|error| panic!("the port can't be opened: {error}"));
        assert_eq!(
            ports.len(),
            1,
            "the selector must choose one port: {ports:?}"
        );
        ports.remove(0)
    }

    /// Opens all ports of the device under test, in the order of their numbers.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn open_all(&self) -> Vec<Port> {
        let selector = Selector {
            pci: Some(self.info().pci),
            provider: self.selector.provider,
            ..Selector::default()
        };
        Port::open(&self.system, &selector)
            .unwrap_or_else(|error| panic!("the ports can't be opened: {error}"))
    }

    /// The device under test goes away, as by a reset or by servicing.
    ///
    /// # Panics
    ///
    /// If it is away, or no model.
    pub fn take_away(&self) {
        self.device().remove(0);
    }

    /// The device under test comes back, under another ib name and uverbs number each time where the
    /// machine [changes names](Rig::changes_names): a second device, which it must have, comes back at
    /// the same time, and the two change them.
    ///
    /// # Panics
    ///
    /// If it is there, or no model.
    pub fn bring_back(&self) {
        let device = self.device();
        if !self.changes_names() {
            return device.restore(0);
        }
        device.remove(1);
        // Whoever is first gets the lowest number.
        let first = usize::from(!self.swapped.get());
        device.restore(first);
        device.restore(1 - first);
        self.swapped.set(first == 1);
    }

    /// Whether a device that comes back has another ib name and uverbs number: a real kernel gives it
    /// those that are free, which are the same.
    #[must_use]
    pub fn changes_names(&self) -> bool {
        matches!(self.pace, Pace::Stepped | Pace::Prompt) || self._runner.is_some()
    }

    /// Whether the device under test is away.
    ///
    /// # Panics
    ///
    /// If devices can't be listed.
    #[must_use]
    pub fn is_away(&self) -> bool {
        // A preloaded machine shows with its next command what became of it by itself.
        if self.pace == Pace::Prompt {
            self.advance();
        }
        let has_it = |device: &IbDevice| {
            let netdevs = self.system.netdevs(device).unwrap_or_default();
            netdevs
                .iter()
                .any(|netdev| self.selector.macs.contains(&netdev.mac))
        };
        !(self.system.ib_devices().expect("devices"))
            .iter()
            .any(has_it)
    }

    /// Lets control operations pass until the model has seen so many: a failure ordered for one of
    /// them is then nobody's any more.
    ///
    /// # Panics
    ///
    /// If the device is no model.
    pub fn spend_operations(&self, count: u64) {
        while self.device().operations() < count {
            // Whether it works does not matter.
            let _ = Port::open(&self.system, &self.selector);
        }
    }

    /// What is known of the port under test.
    ///
    /// # Panics
    ///
    /// As [`Rig::open`].
    #[must_use]
    pub fn info(&self) -> PortInfo {
        self.open().info().clone()
    }

    /// Largest frame that suites send, in bytes without FCS: jumbo frames, but on hardware what the
    /// wire is configured for.
    ///
    /// # Panics
    ///
    /// As [`Rig::open`].
    #[must_use]
    pub fn largest_frame(&self) -> usize {
        match self.is_model() {
            true => 9014,
            false => self.info().mtu as usize + 14,
        }
    }

    /// Asserts that a finished suite left nothing behind: all buffers home, no object of the kernel
    /// open, and no rule of the hardware broken.
    ///
    /// # Panics
    ///
    /// With what is left.
    pub fn assert_clean(&self, pools: &[&Pool]) {
        for pool in pools {
            assert_eq!(pool.in_use(), 0, "buffers of {} are missing", pool.name());
        }
        let Some(device) = self.device.as_ref().filter(|_| self.model) else {
            return;
        };
        assert_eq!(device.objects(), ObjectCounts::default(), "objects leak");
        let findings = device.findings();
        assert!(findings.is_empty(), "findings: {findings:#?}");
    }

    /// What a model counted and found, for the message of a test that fails.
    #[must_use]
    pub fn trouble(&self) -> String {
        match &self.device {
            Some(device) if self.model => {
                format!("{:?} {:?}", device.counters(), device.findings())
            }
            _ => String::new(),
        }
    }
}
