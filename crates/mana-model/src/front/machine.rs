//! The machine behind the boundary: PCI functions with their kernel state, the operation counter
//! and the failures that wait for it.

use std::collections::BTreeMap;

use uverbs_abi::ids::{DEVICE_MANA_PF, DEVICE_MANA_VF};
use uverbs_abi::{Errno, Mac, Netdev, PciAddress};

use super::context::Context;
use super::presence::Return;
use super::rules::{IbKind, Rules};
use crate::config::{DeviceConfig, Limits, PortConfig, default_mac, default_pci};
use crate::core::{Device, PdId};
use crate::faults::Fault;
use crate::links::{Links, Look};
use crate::model::ObjectCounts;

/// Frames that a tap may bring in one [`Machine::settle`]: those of its queue in the kernel, and no
/// more while others follow.
const STEP_FRAMES: usize = 1024;

/// Everything that one lock guards.
pub(crate) struct Machine {
    pub(crate) functions: Vec<Function>,
    /// What is behind the ports, which it counts over all functions.
    pub(crate) links: Links,
    /// Number of the next context; never used twice.
    next_context: u32,
    /// Control operations so far.
    pub(crate) operations: u64,
    /// Operations that shall fail: their numbers and with what.
    failures: Vec<(u64, Errno)>,
    /// Operations with which a device goes away: their numbers and the devices.
    removals: Vec<(u64, usize)>,
    /// Number of the next uverbs node; never used twice.
    pub(crate) next_node: u32,
    /// Devices that are away for a while.
    pub(crate) returns: Vec<Return>,
}

/// One PCI function as the kernel knows it.
pub(crate) struct Function {
    pub(crate) pci: PciAddress,
    pub(crate) driver_id: u32,
    pub(crate) netlink: bool,
    /// PCI device id.
    pub(crate) device_id: u16,
    pub(crate) numa_node: Option<u32>,
    pub(crate) rules: &'static Rules,
    pub(crate) limits: Limits,
    /// The names of its ib devices with their kinds and nodes; none while it is away.
    pub(crate) ib_devices: Vec<IbName>,
    pub(crate) ports: Vec<KernelPort>,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) device: Device,
}

/// An ib device's name, `manae_0`, and its node, `uverbs1`.
pub(crate) struct IbName {
    pub(crate) kind: &'static IbKind,
    pub(crate) name: String,
    pub(crate) node: String,
}

/// A port as the kernel's Ethernet driver sees it.
pub(crate) struct KernelPort {
    /// Its netdev; the carrier is known here only where it is a tap's.
    pub(crate) netdev: Netdev,
    /// Whether its link has a carrier.
    pub(crate) link_up: bool,
    /// Context and PD handle that own the vPort for sending.
    pub(crate) vport_owner: Option<(u32, u32)>,
    /// The domain that the device has for the port's queues, until it is destroyed.
    pub(crate) configured: Option<PdId>,
}

impl KernelPort {
    /// The netdev as it is shown. Linux tells the carrier of a netdev that is UP only.
    pub(crate) fn shown(&self) -> Netdev {
        let mut netdev = self.netdev.clone();
        let tap = netdev.carrier.or(netdev.up.then_some(true));
        netdev.carrier = tap.map(|carrier| carrier && self.link_up);
        netdev
    }

    /// Whether the kernel calls the port active: UP and with a carrier.
    pub(crate) fn is_active(&self) -> bool {
        self.netdev.up && self.link_up
    }
}

impl Machine {
    /// The machine's kernel state around `devices`, which stand in the order of `configs`.
    pub(crate) fn new(configs: &[DeviceConfig], devices: Vec<Device>, links: Links) -> Self {
        let mut functions = Vec::new();
        for (index, (config, device)) in configs.iter().zip(devices).enumerate() {
            let rules = config.kernel.rules();
            let pci = config.pci.unwrap_or_else(|| default_pci(index));
            functions.push(Function {
                pci,
                driver_id: config.driver_id,
                netlink: config.netlink,
                device_id: match config.physical {
                    true => DEVICE_MANA_PF,
                    false => DEVICE_MANA_VF,
                },
                numa_node: config.numa_node,
                rules,
                limits: config.limits.clone(),
                ib_devices: Vec::new(),
                ports: kernel_ports(index, pci, config),
                contexts: BTreeMap::new(),
                device,
            });
        }
        let mut machine = Self {
            functions,
            links,
            next_context: 0,
            operations: 0,
            failures: Vec::new(),
            removals: Vec::new(),
            next_node: 0,
            returns: Vec::new(),
        };
        for function in 0..machine.functions.len() {
            machine.register(function);
        }
        machine
    }

    /// Opens a context on an ib device; returns its number.
    pub(crate) fn open(&mut self, function: usize, kind: &'static IbKind) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        let function = &mut self.functions[function];
        let context = Context::new(id, kind, function.rules);
        function.contexts.insert(id, context);
        id
    }

    /// Closes a context: every object that is left is destroyed.
    pub(crate) fn close(&mut self, function: usize, context: u32) {
        let function = &mut self.functions[function];
        if let Some(mut context) = function.contexts.remove(&context) {
            context.destroy_all(&mut function.device, &mut function.ports);
        }
    }

    /// Handles what is pending, doorbells first, until nothing moves any more; returns the packets
    /// moved. `all` also looks at the cells of destroyed queues.
    pub(crate) fn settle(&mut self, all: bool) -> usize {
        self.links.listen(STEP_FRAMES, true);
        let mut moved = 0;
        loop {
            let now = self.step(all);
            if now == 0 {
                return moved;
            }
            moved += now;
        }
    }

    /// Counts a control operation, and fails it, or takes a device away, where a fault waits for it.
    pub(crate) fn count_operation(&mut self) -> Result<(), Errno> {
        self.operations += 1;
        let now = self.operations;
        if let Some(position) = self.removals.iter().position(|(at, _)| *at == now) {
            let (_, device) = self.removals.swap_remove(position);
            // One that is away can't go.
            let _away = self.remove(device);
        }
        match self.failures.iter().position(|(at, _)| *at == now) {
            Some(position) => Err(self.failures.swap_remove(position).1),
            None => Ok(()),
        }
    }

    /// Doorbells, packets, events, once; returns what moved. `all` also looks at the cells of
    /// destroyed queues.
    pub(crate) fn step(&mut self, all: bool) -> usize {
        self.links.tick();
        let mut moved = 0;
        let mut first_port = 0;
        for function in &mut self.functions {
            function.take_doorbells(all);
            moved += function.device.step(&mut self.links, first_port);
            function.deliver_events();
            first_port += function.ports.len();
        }
        moved
    }

    /// Lets the netdevs be as their taps are. That a tap is UP does not make the netdev UP: the vPort
    /// is the driver's.
    pub(crate) fn follow(&mut self, looks: Vec<(usize, Look)>) {
        for (port, look) in looks {
            if let Some((function, port)) = self.locate(port) {
                let netdev = &mut self.functions[function].ports[port].netdev;
                (netdev.name, netdev.mtu) = (look.name, look.mtu);
                netdev.carrier = Some(look.carrier);
            }
        }
    }

    /// Whether nothing more comes from the links and nothing is inside a device.
    pub(crate) fn drained(&mut self) -> bool {
        self.links.drained() && self.functions.iter().all(|function| function.device.idle())
    }

    /// Orders a failure. Panics without such a port or device.
    pub(crate) fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::FailOperation { nth, errno } => {
                self.failures.push((self.operations + nth, errno));
            }
            Fault::RemoveAt { device, nth } => {
                assert!(
                    device < self.functions.len(),
                    "the model has no device {device}"
                );
                self.removals.push((self.operations + nth, device));
            }
            Fault::DeviceFatal { device } => {
                // One that is away can't go.
                let _away = self.remove(device);
            }
            Fault::TxError { port, .. }
            | Fault::RxTruncated { port, .. }
            | Fault::GarbageCqe { port, .. }
            | Fault::LostCqe { port, .. } => {
                let found = self.locate(port);
                let (function, port) =
                    found.unwrap_or_else(|| panic!("the model has no port {port}"));
                self.functions[function].device.inject(port, &fault);
            }
        }
    }

    /// Function and port of a port that is counted over all functions.
    pub(crate) fn locate(&self, mut port: usize) -> Option<(usize, usize)> {
        for (index, function) in self.functions.iter().enumerate() {
            if port < function.ports.len() {
                return Some((index, port));
            }
            port -= function.ports.len();
        }
        None
    }

    pub(crate) fn objects(&self) -> ObjectCounts {
        let mut counts = ObjectCounts::default();
        for function in &self.functions {
            for context in function.contexts.values() {
                context.count(&mut counts);
            }
        }
        counts
    }
}

impl Function {
    /// Hands what was rung since the last call to the device; nowhere where its context is gone. `all` also
    /// looks at cells of destroyed queues.
    #[inline]
    fn take_doorbells(&mut self, all: bool) {
        let device = &mut self.device;
        for (&id, context) in self.contexts.iter().filter(|(_, it)| !it.gone) {
            context.cells.take(all, |kind, queue, value| {
                device.doorbell(id, kind, queue, value);
            });
        }
    }

    /// Writes completion events of the CQs that fired into their channels.
    #[inline]
    fn deliver_events(&mut self) {
        for cq_id in self.device.take_cq_events() {
            for context in self.contexts.values_mut() {
                context.completion_event(cq_id);
            }
        }
    }

    /// `ip link set up` or `down`. `EBUSY` while a PD owns the vPort (§4.5).
    pub(crate) fn set_netdev_up(&mut self, port: usize, up: bool) -> Result<(), Errno> {
        let state = &self.ports[port];
        if state.netdev.up == up {
            return Ok(());
        }
        if up && state.vport_owner.is_some() {
            return Err(Errno::EBUSY);
        }
        self.change_port(port, |state| state.netdev.up = up);
        Ok(())
    }

    /// Changes a port. The kernel tells of it if it is another than active afterwards, or active: a
    /// carrier that goes on a netdev that is DOWN is nobody's news (§4.9).
    pub(crate) fn change_port(&mut self, port: usize, change: impl FnOnce(&mut KernelPort)) {
        let state = &mut self.ports[port];
        let before = state.is_active();
        change(state);
        let active = state.is_active();
        if self.rules.port_events && active != before {
            for context in self.contexts.values().filter(|context| !context.gone) {
                context.port_event(port, active);
            }
        }
    }
}

/// The netdevs of a function, named as systemd does: `enP`, PCI domain, `s`, slot, and `d` with
/// the port where it is not the first. Slots count from 1 here, through all functions.
fn kernel_ports(index: usize, pci: PciAddress, config: &DeviceConfig) -> Vec<KernelPort> {
    let with_number = |(port, settings): (usize, &PortConfig)| {
        let suffix = match port {
            0 => String::new(),
            _ => format!("d{port}"),
        };
        KernelPort {
            netdev: Netdev {
                name: format!("enP{}s{}{suffix}", pci.domain, index + 1),
                mac: mac(index, port, settings.mac),
                dev_port: port as u32,
                up: settings.netdev_up,
                master: None,
                carrier: None,
                mtu: (settings.adapter_mtu - 14).min(1500),
                max_mtu: Some(settings.adapter_mtu - 14),
            },
            link_up: true,
            vport_owner: None,
            configured: None,
        }
    };
    config.ports.iter().enumerate().map(with_number).collect()
}

fn mac(device: usize, port: usize, given: Option<Mac>) -> Mac {
    given.unwrap_or_else(|| default_mac(device, port))
}
