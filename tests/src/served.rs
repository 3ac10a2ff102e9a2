//! A device behind the running kernel: steered by what its administrator can do, and, where it is a
//! model that `mana model serve` serves, by that.

use std::thread;
use std::time::{Duration, Instant};

use mana_model::control::{Client, ClientError};
use mana_model::rulebook::Surroundings;
use mana_model::{After, Fault, LinkConfig, ObjectCounts, PortCounters};
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
    /// What the kernel's own drivers have of the device.
    before: ObjectCounts,
}

impl Served {
    /// The function at this address; `model` is what serves it, if one does. Nobody uses it yet.
    ///
    /// # Errors
    ///
    /// Where the model does not answer.
    pub fn new(pci: PciAddress, model: Option<Client>) -> Result<Self, ClientError> {
        let before = model.as_ref().map(Client::objects).transpose()?;
        Ok(Self {
            steering: Steering::new(pci),
            model,
            before: before.unwrap_or_default(),
        })
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
    fn step(&self) {}

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
        done("the driver can't be unbound", self.steering.remove());
    }

    fn restore(&self, _device: usize) {
        done("the driver can't be bound", self.steering.restore());
        self.wait_for_netdev();
    }

    fn reset(&self, device: usize, _after: After) {
        self.remove(device);
        self.restore(device);
    }

    fn request_reset(&self, device: usize) {
        told(self.model().request_reset(device));
    }

    fn set_netdev_up(&self, port: usize, up: bool) {
        let set = self.steering.set_netdev_up(port, up);
        done("the netdev can't be set", set);
    }

    fn set_link_up(&self, up: bool) {
        told(self.model().port(0).set_link_up(up));
    }

    fn operations(&self) -> u64 {
        panic!("the operations of a real kernel can't be counted")
    }

    fn objects(&self) -> ObjectCounts {
        let Some(model) = &self.model else {
            return ObjectCounts::default();
        };
        let (now, before) = (told(model.objects()), &self.before);
        ObjectCounts {
            contexts: now.contexts.saturating_sub(before.contexts),
            pds: now.pds.saturating_sub(before.pds),
            mrs: now.mrs.saturating_sub(before.mrs),
            cqs: now.cqs.saturating_sub(before.cqs),
            wqs: now.wqs.saturating_sub(before.wqs),
            tables: now.tables.saturating_sub(before.tables),
            qps: now.qps.saturating_sub(before.qps),
        }
    }

    fn findings(&self) -> Vec<String> {
        let findings = self.model.as_ref().map(|model| told(model.findings()));
        let findings = findings.unwrap_or_default();
        findings.iter().map(ToString::to_string).collect()
    }

    fn counters(&self) -> PortCounters {
        told(self.model().port(0).counters())
    }

    fn deliver(&self, frame: &[u8]) {
        told(self.model().port(0).deliver(frame));
    }

    fn take_tx_frames(&self) -> Vec<Vec<u8>> {
        told(self.model().port(0).take_tx_frames())
    }

    fn drained(&self) -> bool {
        told(self.model().drained())
    }
}
