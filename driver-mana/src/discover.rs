//! Finds MANA ports and chooses among them.

use std::fmt;
use std::sync::Arc;

use mana_verbs::{Context, ProviderChoice, VerbsError};
use uverbs_abi::ids::{DEVICE_MANA_PF, DEVICE_MANA_VF, VENDOR_MICROSOFT};
use uverbs_abi::{IbDevice, Netdev, PciAddress, System};

use crate::error::{mend, with_mac};
use crate::limits::Limits;
use crate::{Error, Selector};

/// A port of the machine, whether it can be used or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its ib device.
    pub ib_device: String,
    /// Its PCI function.
    pub pci: PciAddress,
    /// Number of the port, from 1; 0 where the ports of the device could not be found out.
    pub port: u8,
    /// The kernel's interface for the same port.
    pub netdev: Option<Netdev>,
    /// What keeps it from being used, each with what mends it. Empty if nothing does.
    pub lacks: Vec<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pci, self.ib_device)?;
        if self.port != 0 {
            write!(f, " port {}", self.port)?;
        }
        if let Some(netdev) = &self.netdev {
            write!(f, ", netdev {}, mac {}", netdev.name, netdev.mac)?;
        }
        match self.lacks.as_slice() {
            [] => f.write_str(": ready"),
            lacks => write!(f, ": {}", lacks.join("; ")),
        }
    }
}

/// Every port of every MANA device of the machine, by PCI address and port. ib devices that carry
/// RDMA only are left out (reference/mana-hardware.md §1.3).
///
/// # Errors
///
/// [`Error::NoDevice`] without a MANA device, [`Error::System`] where devices can't be listed. A
/// device that can't be opened is no error but a candidate that lacks something.
pub fn discover(system: &Arc<dyn System>) -> Result<Vec<Candidate>, Error> {
    let devices = mana_devices(system.as_ref())?;
    let found = scan(system.as_ref(), &devices, ProviderChoice::Auto);
    Ok(found.into_iter().map(Found::into_candidate).collect())
}

/// A port and what is needed to open it.
pub(crate) struct Found {
    pub(crate) candidate: Candidate,
    /// What opening needs besides, or why there is none.
    usable: Result<Usable, Option<VerbsError>>,
}

/// A port that can be opened; its netdev may be UP.
#[derive(Clone)]
pub(crate) struct Usable {
    /// The context that all ports of the ib device share.
    pub(crate) context: Context,
    pub(crate) limits: Limits,
    pub(crate) netdev: Netdev,
    pub(crate) port: u8,
}

impl Found {
    fn is_up(&self) -> bool {
        self.candidate
            .netdev
            .as_ref()
            .is_some_and(|netdev| netdev.up)
    }

    /// The candidate, with everything it lacks in words.
    fn into_candidate(self) -> Candidate {
        let mut candidate = self.candidate;
        if let Some(netdev) = candidate.netdev.as_ref().filter(|netdev| netdev.up) {
            let mend = mend(&netdev.name, netdev.master.as_deref());
            candidate
                .lacks
                .push(format!("its netdev {} is UP: {mend}", netdev.name));
        }
        candidate
    }

    fn matches(&self, selector: &Selector) -> bool {
        let Candidate {
            ib_device,
            pci,
            netdev,
            ..
        } = &self.candidate;
        selector.pci.is_none_or(|wanted| wanted == *pci)
            && selector
                .ib_device
                .as_ref()
                .is_none_or(|wanted| wanted == ib_device)
            && selector
                .netdev
                .as_ref()
                .is_none_or(|wanted| netdev.as_ref().is_some_and(|netdev| netdev.name == *wanted))
    }
}

/// The ports that the selector chooses: in the order of its MACs, otherwise by PCI address and
/// number.
pub(crate) fn choose(system: &dyn System, selector: &Selector) -> Result<Vec<Usable>, Error> {
    selector.check()?;
    let devices = mana_devices(system)?;
    let wanted = |device: &&IbDevice| {
        selector.pci.is_none_or(|pci| pci == device.pci)
            && selector
                .ib_device
                .as_ref()
                .is_none_or(|name| *name == device.name)
    };
    let looked_at: Vec<_> = devices.iter().filter(wanted).cloned().collect();
    let mut found = scan(system, &looked_at, selector.provider);
    if selector.is_everything() {
        return everything(found);
    }
    if let ([device], [], Some(_)) = (&looked_at[..], &found[..], &selector.ib_device) {
        let (ib_device, pci) = (device.name.clone(), device.pci);
        return Err(Error::NotEthernet { ib_device, pci });
    }
    found.retain(|found| found.matches(selector));
    if selector.macs.is_empty() {
        if found.is_empty() {
            return Err(no_such_port(system, &devices, selector.to_string()));
        }
        if selector.netdev.is_some() && found.len() > 1 {
            return Err(ambiguous(found, selector.to_string()));
        }
        return found.into_iter().map(use_it).collect();
    }
    let mut ports = Vec::with_capacity(selector.macs.len());
    for &mac in &selector.macs {
        let has_mac = |found: &mut Found| {
            found
                .candidate
                .netdev
                .as_ref()
                .is_some_and(|netdev| netdev.mac == mac)
        };
        let mut with: Vec<Found> = found.extract_if(.., has_mac).collect();
        match (with.pop(), with.is_empty()) {
            (None, _) => return Err(no_such_port(system, &devices, with_mac(mac))),
            (Some(one), true) => ports.push(use_it(one)?),
            (Some(last), false) => {
                with.push(last);
                return Err(ambiguous(with, with_mac(mac)));
            }
        }
    }
    Ok(ports)
}

/// Every port that can be used; the others are left alone and named.
fn everything(found: Vec<Found>) -> Result<Vec<Usable>, Error> {
    let (mut ports, mut others) = (Vec::new(), Vec::new());
    for found in found {
        match (found.is_up(), &found.usable) {
            (false, Ok(usable)) => ports.push(usable.clone()),
            _ => others.push(found.into_candidate()),
        }
    }
    if ports.is_empty() {
        return Err(Error::NoUsablePort { candidates: others });
    }
    for other in others {
        tracing::warn!("left alone: {other}");
    }
    Ok(ports)
}

/// A port that was chosen, UP or not: whether the kernel still owns it shows at start.
fn use_it(found: Found) -> Result<Usable, Error> {
    match found.usable {
        Ok(usable) => Ok(usable),
        Err(Some(error)) => Err(Error::Verbs(error)),
        Err(None) => Err(Error::Unusable {
            candidate: Box::new(found.candidate),
        }),
    }
}

fn no_such_port(system: &dyn System, devices: &[IbDevice], wanted: String) -> Error {
    let candidates = scan(system, devices, ProviderChoice::Auto)
        .into_iter()
        .map(Found::into_candidate)
        .collect();
    Error::NoSuchPort { wanted, candidates }
}

fn ambiguous(found: Vec<Found>, wanted: String) -> Error {
    let candidates = found.into_iter().map(Found::into_candidate).collect();
    Error::Ambiguous { wanted, candidates }
}

pub(crate) fn mana_devices(system: &dyn System) -> Result<Vec<IbDevice>, Error> {
    let mut devices = system.ib_devices()?;
    devices.retain(|device| {
        device.vendor_id == VENDOR_MICROSOFT
            && matches!(device.device_id, DEVICE_MANA_VF | DEVICE_MANA_PF)
    });
    if devices.is_empty() {
        return Err(Error::NoDevice);
    }
    devices.sort_by(|a, b| (a.pci, &a.name).cmp(&(b.pci, &b.name)));
    Ok(devices)
}

/// The ports of the devices, in their order. One context is opened for each ib device that carries
/// Ethernet.
fn scan(system: &dyn System, devices: &[IbDevice], provider: ProviderChoice) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for device in devices {
        let netdevs = match system.netdevs(device) {
            Ok(netdevs) => netdevs,
            Err(error) => {
                found.push(lacking(device, 0, None, error.to_string(), None));
                continue;
            }
        };
        match Context::open_through(system, device, provider) {
            Ok(context) if !context.attributes().carries_ethernet() => {}
            Ok(context) => {
                // Another ib device of the function that could not be opened was the RNIC's.
                found.retain(|other| other.candidate.pci != device.pci || other.usable.is_ok());
                ports(&context, netdevs, &mut found);
            }
            // Of the ib devices of one function that can't be opened one is enough to tell.
            Err(_) if found.iter().any(|other| other.candidate.pci == device.pci) => {}
            Err(error) => unopened(device, netdevs, error, &mut found),
        }
    }
    found
}

/// The ports of an open ib device.
fn ports(context: &Context, mut netdevs: Vec<Netdev>, found: &mut Vec<Found>) {
    let device = context.device();
    let attributes = context.attributes();
    if attributes.phys_port_cnt == 0 {
        found.push(lacking(
            device,
            0,
            None,
            "the device reports no port".to_owned(),
            None,
        ));
    }
    let limits = Limits::of(attributes, context.ring_limit(), context.comp_vectors());
    for port in 1..=attributes.phys_port_cnt {
        let at = netdevs
            .iter()
            .position(|netdev| netdev.dev_port == u32::from(port) - 1);
        let Some(netdev) = at.map(|at| netdevs.swap_remove(at)) else {
            let lack = "no netdev, so its MAC address is not known: is it in another network \
                        namespace (`ip netns list`)?";
            found.push(lacking(device, port, None, lack.to_owned(), None));
            continue;
        };
        match &limits {
            Ok(limits) => found.push(Found {
                candidate: candidate(device, port, Some(netdev.clone())),
                usable: Ok(Usable {
                    context: context.clone(),
                    limits: *limits,
                    netdev,
                    port,
                }),
            }),
            Err(lack) => found.push(lacking(device, port, Some(netdev), lack.clone(), None)),
        }
    }
}

/// The ports of an ib device that can't be opened, as far as its netdevs tell them.
fn unopened(device: &IbDevice, netdevs: Vec<Netdev>, error: VerbsError, found: &mut Vec<Found>) {
    let lack = error.to_string();
    let first = found.len();
    for netdev in netdevs {
        let port = u8::try_from(netdev.dev_port)
            .unwrap_or(u8::MAX)
            .wrapping_add(1);
        found.push(lacking(device, port, Some(netdev), lack.clone(), None));
    }
    match found.get_mut(first) {
        Some(port) => port.usable = Err(Some(error)),
        None => found.push(lacking(device, 0, None, lack, Some(error))),
    }
}

fn candidate(device: &IbDevice, port: u8, netdev: Option<Netdev>) -> Candidate {
    let (ib_device, pci) = (device.name.clone(), device.pci);
    Candidate {
        ib_device,
        pci,
        port,
        netdev,
        lacks: Vec::new(),
    }
}

fn lacking(
    device: &IbDevice,
    port: u8,
    netdev: Option<Netdev>,
    lack: String,
    error: Option<VerbsError>,
) -> Found {
    let mut candidate = candidate(device, port, netdev);
    candidate.lacks.push(lack);
    Found {
        candidate,
        usable: Err(error),
    }
}
