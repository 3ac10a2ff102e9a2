//! Machines, pools and configurations that the tests of a port share.

use std::sync::Arc;

use dma_memory::{HugePages, RegionOptions};
use mana_model::Model;
use mana_model::config::{DeviceConfig, DoorbellMode, Kernel, ModelConfig, PortConfig};
use mana_pmd::{Port, RxQueueConfig, Selector, TxQueueConfig};
use pmd_api::{Pool, PoolConfig};
use uverbs_abi::{IbDevice, Netdev, System, SystemError, SystemKind, Transport};

/// A stepped machine of these devices, which it names.
pub fn machine(mut devices: Vec<DeviceConfig>) -> Model {
    for (index, device) in devices.iter_mut().enumerate() {
        device.name = format!("model{index}");
    }
    Model::new(ModelConfig {
        devices,
        doorbells: DoorbellMode::Stepped,
    })
    .unwrap()
}

/// A device with this many looping ports.
pub fn device(kernel: Kernel, ports: usize) -> DeviceConfig {
    DeviceConfig {
        ports: vec![PortConfig::default(); ports],
        ..DeviceConfig::new(kernel)
    }
}

/// A device with one port whose netdev is UP.
pub fn device_up(kernel: Kernel) -> DeviceConfig {
    let up = PortConfig {
        netdev_up: true,
        ..PortConfig::default()
    };
    DeviceConfig {
        ports: vec![up],
        ..DeviceConfig::new(kernel)
    }
}

pub fn base_pages() -> RegionOptions {
    RegionOptions {
        huge: HugePages::Never,
        numa_node: None,
    }
}

/// A pool without caches, in base pages.
pub fn pool(buffers: u32) -> Pool {
    let config = PoolConfig {
        buffers,
        cache: 0,
        memory: base_pages(),
        ..PoolConfig::default()
    };
    Pool::new(config).unwrap()
}

/// Queues of 64 descriptors.
pub fn config(rx: usize, tx: usize, pool: &Pool) -> mana_pmd::PortConfig {
    mana_pmd::PortConfig {
        rx: vec![
            RxQueueConfig {
                depth: 64,
                pool: pool.clone()
            };
            rx
        ],
        tx: vec![TxQueueConfig { depth: 64 }; tx],
        memory: base_pages(),
        ..mana_pmd::PortConfig::default()
    }
}

/// All ports that the text selects.
pub fn open(system: &Arc<dyn System>, selector: &str) -> Result<Vec<Port>, mana_pmd::Error> {
    Port::open(system, &selector.parse::<Selector>()?)
}

/// The only port of the machine.
pub fn open_one(model: &Model) -> Port {
    let mut ports = Port::open(&model.system(), &Selector::default()).unwrap();
    assert_eq!(ports.len(), 1);
    ports.remove(0)
}

#[track_caller]
pub fn assert_no_findings(model: &Model) {
    let findings = model.findings();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What opening a device answers in [`Altered`].
pub type Refusal = fn(&IbDevice) -> Option<SystemError>;

/// The system of a model, with some answers of its own.
pub struct Altered {
    pub inner: Arc<dyn System>,
    pub devices: fn(&mut Vec<IbDevice>),
    pub netdevs: fn(&IbDevice, &mut Vec<Netdev>),
    pub refusal: Refusal,
}

impl Altered {
    pub fn new(model: &Model) -> Self {
        Self {
            inner: model.system(),
            devices: |_| (),
            netdevs: |_, _| (),
            refusal: |_| None,
        }
    }

    pub fn share(self) -> Arc<dyn System> {
        Arc::new(self)
    }
}

impl System for Altered {
    fn kind(&self) -> SystemKind {
        self.inner.kind()
    }

    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        let mut devices = self.inner.ib_devices()?;
        (self.devices)(&mut devices);
        Ok(devices)
    }

    fn netdevs(&self, device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
        let mut netdevs = self.inner.netdevs(device)?;
        (self.netdevs)(device, &mut netdevs);
        Ok(netdevs)
    }

    fn open(&self, device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
        match (self.refusal)(device) {
            Some(error) => Err(error),
            None => self.inner.open(device),
        }
    }
}
