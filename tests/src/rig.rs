//! What a suite runs on: a system, a selector that chooses one port of it, and, where the device is
//! a model, the model itself.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mana_model::{DeviceConfig, DoorbellMode, Model, ModelConfig, ObjectCounts, PortView, Runner};
use mana_pmd::{Port, Selector, System};
use pmd_api::Pool;

/// Rounds without result after which a stepped device is given up: it does all it can in one.
const STEPS: u32 = 64;
/// Time without result after which any other device is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One pair of driver and device.
pub struct Rig {
    /// The machine.
    pub system: Arc<dyn System>,
    /// Chooses the port under test.
    pub selector: Selector,
    /// The device, where it is a model.
    model: Option<Model>,
    stepped: bool,
    /// The device's thread, joined when the rig goes.
    runner: Option<Runner>,
}

impl Rig {
    /// The first port of a model of one device.
    ///
    /// # Panics
    ///
    /// If the device can't be built.
    #[must_use]
    pub fn model(device: DeviceConfig, doorbells: DoorbellMode) -> Self {
        let config = ModelConfig {
            devices: vec![device],
            doorbells,
        };
        let model = Model::new(config).expect("the device can be built");
        Self {
            system: model.system(),
            selector: Selector::default(),
            stepped: doorbells == DoorbellMode::Stepped,
            runner: (doorbells == DoorbellMode::Polled).then(|| model.run()),
            model: Some(model),
        }
    }

    /// A port that is not a model's. Suites that must look into the device can't run on it.
    #[must_use]
    pub fn device(system: Arc<dyn System>, selector: Selector) -> Self {
        Self {
            system,
            selector,
            model: None,
            stepped: false,
            runner: None,
        }
    }

    /// Lets the device work: a stepped model does all it can, elsewhere this thread yields.
    pub fn advance(&self) {
        match &self.model {
            Some(model) if self.stepped => {
                model.step();
            }
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
            let patient = if self.stepped {
                steps < STEPS
            } else {
                start.elapsed() < PATIENCE
            };
            if !patient {
                return false;
            }
            self.advance();
        }
    }

    /// The model.
    ///
    /// # Panics
    ///
    /// If the device is none: such a suite says that it needs one.
    #[must_use]
    pub fn device_model(&self) -> &Model {
        self.model.as_ref().expect("this suite needs a model")
    }

    /// The port under test, from the device's side.
    ///
    /// # Panics
    ///
    /// As [`Rig::device_model`].
    #[must_use]
    pub fn wire(&self) -> PortView {
        self.device_model().port(0)
    }

    /// What the model's front holds; nothing elsewhere.
    #[must_use]
    pub fn objects(&self) -> ObjectCounts {
        self.model.as_ref().map(Model::objects).unwrap_or_default()
    }

    /// Opens the port under test.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn open(&self) -> Port {
        let mut ports = Port::open(&self.system, &self.selector).expect("the port can be opened");
        assert_eq!(
            ports.len(),
            1,
            "the selector must choose one port: {ports:?}"
        );
        ports.remove(0)
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
        let Some(model) = &self.model else { return };
        assert_eq!(model.objects(), ObjectCounts::default(), "objects leak");
        let findings: Vec<String> = model.findings().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "findings: {findings:#?}");
    }

    /// What a model counted and found, for the message of a test that fails.
    #[must_use]
    pub fn trouble(&self) -> String {
        match &self.model {
            Some(model) => format!("{:?} {:?}", model.port(0).counters(), model.findings()),
            None => String::new(),
        }
    }

    /// Whether the device runs in a thread of its own.
    #[must_use]
    pub fn is_threaded(&self) -> bool {
        self.runner.is_some()
    }
}
