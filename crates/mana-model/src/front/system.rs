//! The machine as a `System`: what Linux tells through sysfs and netlink.

use std::path::Path;
use std::sync::Arc;

use uverbs_abi::ids::VENDOR_MICROSOFT;
use uverbs_abi::{Errno, IbDevice, Netdev, System, SystemError, SystemKind, Transport};

use super::machine::KernelPort;
use super::transport::ModelTransport;
use crate::model::Shared;

/// A handle to the machine for drivers.
pub(crate) struct ModelSystem {
    pub(crate) shared: Arc<Shared>,
}

impl System for ModelSystem {
    fn kind(&self) -> SystemKind {
        SystemKind::Model
    }

    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        let machine = self.shared.lock();
        let mut devices: Vec<_> = machine
            .functions
            .iter()
            .flat_map(|function| {
                function.ib_devices.iter().map(|ib| IbDevice {
                    name: ib.name.clone(),
                    node: ib.node.clone(),
                    pci: function.pci,
                    vendor_id: VENDOR_MICROSOFT,
                    device_id: function.device_id,
                    driver_id: function.netlink.then_some(function.driver_id),
                    numa_node: function.numa_node,
                })
            })
            .collect();
        devices.sort_by(|a, b| (a.pci, &a.name).cmp(&(b.pci, &b.name)));
        Ok(devices)
    }

    fn netdevs(&self, device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
        let machine = self.shared.lock();
        let found = machine
            .functions
            .iter()
            .filter(|function| function.pci == device.pci && function.is_present());
        Ok(found
            .flat_map(|function| function.ports.iter().map(KernelPort::shown))
            .collect())
    }

    /// As mana.ko does: the counters of the PCI function, filled in only while the netdev is UP
    /// (reference/mana-hardware.md §6.9).
    fn netdev_statistics(&self, netdev: &str) -> Result<Vec<(String, u64)>, SystemError> {
        let machine = self.shared.lock();
        let named = |port: &KernelPort| port.netdev.name == netdev;
        let present = machine
            .functions
            .iter()
            .filter(|function| function.is_present());
        for function in present {
            if let Some(port) = function.ports.iter().find(|port| named(port)) {
                return Ok(function.statistics(port.netdev.up));
            }
        }
        Err(SystemError {
            path: Path::new("/sys/class/net").join(netdev),
            errno: Errno::ENODEV,
            fix: None,
        })
    }

    fn open(&self, device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
        let mut machine = self.shared.lock();
        let found = machine
            .functions
            .iter()
            .enumerate()
            .find_map(|(index, function)| {
                let ib = function
                    .ib_devices
                    .iter()
                    .find(|ib| ib.name == device.name && ib.node == device.node)?;
                Some((index, ib.kind))
            });
        let Some((function, kind)) = found else {
            return Err(SystemError {
                path: Path::new("/dev/infiniband").join(&device.node),
                errno: Errno::ENOENT,
                fix: Some(format!(
                    "the model has no ib device {} with this node any more",
                    device.name
                )),
            });
        };
        let context = machine.open(function, kind);
        drop(machine);
        Ok(Box::new(ModelTransport::new(
            Arc::clone(&self.shared),
            function,
            context,
        )))
    }
}
