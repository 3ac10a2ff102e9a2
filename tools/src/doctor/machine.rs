//! What of a machine several checks look at: MANA functions, interfaces, ib devices and the ports
//! they make.

use std::collections::HashMap;

use uverbs_abi::ids::{DEVICE_MANA_PF, DEVICE_MANA_VF, VENDOR_MICROSOFT};
use uverbs_abi::{Mac, PciAddress};

use super::tree::{Seen, Tree};

/// `IFF_UP`.
const IFF_UP: u32 = 1;

/// A machine, read once.
pub struct Machine {
    pub tree: Tree,
    /// Whether it is this one, so that it can be tried out, not only read.
    pub live: bool,
    /// Every PCI function of MANA.
    pub functions: Seen<Vec<Function>>,
    /// Every interface, those of MANA and others.
    pub interfaces: Seen<Vec<Interface>>,
    /// Every ib device, of MANA and others.
    pub ib_devices: Seen<Vec<IbDevice>>,
    /// The one port that is asked about.
    pub wanted: Option<Wanted>,
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub pci: PciAddress,
    pub device_id: u16,
    pub class: Option<u32>,
    /// The kernel driver that has it.
    pub driver: Option<String>,
    /// `None` where the platform has no nodes.
    pub numa_node: Option<u32>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mac: Option<Mac>,
    /// `None` where it can't be read.
    pub up: Option<bool>,
    /// The interface it is enslaved to.
    pub master: Option<String>,
    pub mtu: Option<u32>,
    pub dev_port: Option<u32>,
    /// The kernel driver of its device.
    pub driver: Option<String>,
    /// Name of its device: a PCI address, a VMBus UUID.
    pub device: Option<String>,
}

/// An ib device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IbDevice {
    pub name: String,
    pub pci: Option<PciAddress>,
    /// Its uverbs node, `uverbs0`.
    pub node: Option<String>,
}

/// Which port is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Mac(Mac),
    Pci(PciAddress),
    Netdev(String),
}

/// A port of MANA with the interfaces that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The kernel's interface of the VF.
    pub netdev: Interface,
    pub pci: PciAddress,
    /// The synthetic interface with the same MAC.
    pub synthetic: Option<Interface>,
}

impl Port {
    /// The argument of testpmd that chooses this port.
    pub fn selector(&self) -> String {
        match self.netdev.mac {
            Some(mac) => format!("{},mac={mac}", self.pci),
            None => self.pci.to_string(),
        }
    }

    /// The interfaces to be taken down, in that order.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.synthetic.iter().chain([&self.netdev])
    }
}

impl Wanted {
    /// A MAC, a PCI address, or the name of an interface.
    pub fn parse(text: &str) -> Self {
        if let Ok(mac) = text.parse() {
            return Self::Mac(mac);
        }
        match text.parse() {
            Ok(pci) => Self::Pci(pci),
            Err(_) => Self::Netdev(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Pci(pci) => write!(f, "{pci}"),
            Self::Netdev(name) => f.write_str(name),
        }
    }
}

impl Machine {
    pub fn read(tree: Tree, live: bool, wanted: Option<Wanted>) -> Self {
        Self {
            functions: functions(&tree),
            interfaces: interfaces(&tree),
            ib_devices: ib_devices(&tree),
            tree,
            live,
            wanted,
        }
    }

    /// Whether a device model stands before the kernel in this program.
    pub fn preloaded(&self) -> bool {
        let preload = std::env::var("LD_PRELOAD").unwrap_or_default();
        self.live && preload.contains("mana_model_preload")
    }

    /// The MANA functions that could be read.
    pub fn functions(&self) -> &[Function] {
        slice(&self.functions)
    }

    /// The interfaces that could be read.
    pub fn interfaces(&self) -> &[Interface] {
        slice(&self.interfaces)
    }

    /// The ib devices of MANA functions.
    pub fn mana_ib(&self) -> impl Iterator<Item = &IbDevice> {
        let of_mana = |device: &&IbDevice| {
            self.functions()
                .iter()
                .any(|function| Some(function.pci) == device.pci)
        };
        slice(&self.ib_devices).iter().filter(of_mana)
    }

    /// The ib devices that carry Ethernet: of two of one function, `manae_N`
    /// (reference/mana-hardware.md §1.3).
    pub fn ethernet_ib(&self) -> impl Iterator<Item = &IbDevice> {
        self.mana_ib().filter(|device| {
            let split = self.mana_ib().any(|other| {
                other.pci == device.pci && other.name.starts_with("manae_") && other != *device
            });
            device.name.starts_with("manae_") || !split
        })
    }

    /// Every port: an interface of a MANA function.
    pub fn all_ports(&self) -> Vec<Port> {
        let interfaces = self.interfaces();
        let port = |netdev: &Interface| {
            let pci = netdev.device.as_deref()?.parse().ok()?;
            (self.functions().iter()).find(|function| function.pci == pci)?;
            let synthetic = interfaces.iter().find(|other| {
                other.driver.as_deref() == Some("hv_netvsc")
                    && (netdev.master.as_ref() == Some(&other.name)
                        || (netdev.mac.is_some() && other.mac == netdev.mac))
            });
            let netdev = netdev.clone();
            // Whatever it is enslaved to takes it up again, a written tree need not say by whom.
            let synthetic = synthetic.cloned().or_else(|| {
                let master = netdev.master.as_ref()?;
                interfaces.iter().find(|it| it.name == *master).cloned()
            });
            Some(Port {
                netdev,
                pci,
                synthetic,
            })
        };
        let mut ports: Vec<Port> = interfaces.iter().filter_map(port).collect();
        ports.sort_by_key(|port| (port.pci, port.netdev.dev_port));
        ports
    }

    /// The ports that are asked about: all, or the wanted one's.
    pub fn ports(&self) -> Vec<Port> {
        let mut ports = self.all_ports();
        ports.retain(|port| match &self.wanted {
            None => true,
            Some(Wanted::Mac(mac)) => port.netdev.mac == Some(*mac),
            Some(Wanted::Pci(pci)) => port.pci == *pci,
            Some(Wanted::Netdev(name)) => port.interfaces().any(|it| it.name == *name),
        });
        ports
    }

    /// The kernel's release as it names itself, and its first two numbers.
    pub fn kernel(&self) -> Seen<(String, (u32, u32))> {
        let path = "/proc/sys/kernel/osrelease";
        self.tree.read(path).parse(path, |text| {
            let mut numbers = text.split(|c: char| !c.is_ascii_digit());
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next()?.parse().ok()?;
            Some((text.clone(), (major, minor)))
        })
    }

    /// A variable of `/etc/os-release`.
    pub fn os_release(&self, name: &str) -> Option<String> {
        let text = self.tree.read("/etc/os-release").ok()?;
        text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?;
            Some(value.trim_matches('"').to_owned())
        })
    }
}

fn slice<T>(seen: &Seen<Vec<T>>) -> &[T] {
    match seen {
        Seen::Is(values) => values,
        _ => &[],
    }
}

fn functions(tree: &Tree) -> Seen<Vec<Function>> {
    let folder = "/sys/bus/pci/devices";
    let names = match tree.list(folder) {
        Seen::Is(names) => names,
        Seen::Absent => return Seen::Absent,
        Seen::Unclear(why) => return Seen::Unclear(why),
    };
    let mut functions = Vec::new();
    let mut unclear = None;
    for name in names {
        let Ok(pci) = name.parse() else { continue };
        let file = |file: &str| format!("{folder}/{name}/{file}");
        let (vendor, device) = (tree.hex(&file("vendor")), tree.hex(&file("device")));
        let (vendor, device) = match (vendor, device) {
            (Seen::Is(vendor), Seen::Is(device)) => (vendor, device as u16),
            (Seen::Unclear(why), _) | (_, Seen::Unclear(why)) => {
                unclear = Some(why);
                continue;
            }
            // Gone between the two reads.
            _ => continue,
        };
        if vendor != u32::from(VENDOR_MICROSOFT)
            || ![DEVICE_MANA_VF, DEVICE_MANA_PF].contains(&device)
        {
            continue;
        }
        let node: Option<i32> = tree.number(&file("numa_node")).ok();
        functions.push(Function {
            pci,
            device_id: device,
            class: tree.hex(&file("class")).ok(),
            driver: tree.link(&file("driver")),
            numa_node: node.and_then(|node| u32::try_from(node).ok()),
        });
    }
    match unclear {
        Some(why) if functions.is_empty() => Seen::Unclear(why),
        _ => Seen::Is(functions),
    }
}

fn interfaces(tree: &Tree) -> Seen<Vec<Interface>> {
    let folder = "/sys/class/net";
    let names = match tree.list(folder) {
        Seen::Is(names) => names,
        Seen::Absent => return Seen::Absent,
        Seen::Unclear(why) => return Seen::Unclear(why),
    };
    let interface = |name: String| {
        let file = |file: &str| format!("{folder}/{name}/{file}");
        // Beside the interfaces the class may have a plain file, `bonding_masters`.
        if matches!(tree.read(&file("address")), Seen::Absent) {
            return None;
        }
        Some(Interface {
            mac: tree
                .read(&file("address"))
                .ok()
                .and_then(|it| it.parse().ok()),
            up: tree
                .hex(&file("flags"))
                .ok()
                .map(|flags| flags & IFF_UP != 0),
            master: tree.link(&file("master")),
            mtu: tree.number(&file("mtu")).ok(),
            dev_port: tree.number(&file("dev_port")).ok(),
            driver: tree.link(&file("device/driver")),
            device: tree.link(&file("device")),
            name,
        })
    };
    Seen::Is(names.into_iter().filter_map(interface).collect())
}

fn ib_devices(tree: &Tree) -> Seen<Vec<IbDevice>> {
    let verbs = "/sys/class/infiniband_verbs";
    let mut nodes = HashMap::new();
    for node in tree.list(verbs).ok().unwrap_or_default() {
        if let Seen::Is(name) = tree.read(&format!("{verbs}/{node}/ibdev")) {
            nodes.insert(name, node);
        }
    }
    let folder = "/sys/class/infiniband";
    let names = match tree.list(folder) {
        Seen::Is(names) => names,
        Seen::Absent => return Seen::Absent,
        Seen::Unclear(why) => return Seen::Unclear(why),
    };
    let device = |name: String| {
        let uevent = tree.read(&format!("{folder}/{name}/device/uevent")).ok();
        let slot = uevent.as_ref().and_then(|text| {
            let slots = |line: &'_ str| line.strip_prefix("PCI_SLOT_NAME=").map(str::to_owned);
            text.lines().find_map(slots)
        });
        IbDevice {
            pci: slot.and_then(|slot| slot.trim().parse().ok()),
            node: nodes.get(&name).cloned(),
            name,
        }
    };
    Seen::Is(names.into_iter().map(device).collect())
}
