//! Discovery by sysfs (reference/mana-hardware.md §1.5). What vanishes between two reads is left
//! out; what is there but can't be understood is an error that names the file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use uverbs_abi::{Errno, IbDevice, Netdev, PciAddress, SystemError};

/// `IFF_UP`.
const IFF_UP: u32 = 1;

/// No attribute that is read here is longer than a page.
const MAX_BYTES: u64 = 4096;

/// A mounted sysfs.
pub(super) struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// All ib devices that belong to a PCI function, without driver ids.
    pub(super) fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        let class = self.root.join("class/infiniband");
        let names = entries(&class)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let nodes = self.nodes()?;
        let mut devices = Vec::new();
        for name in names {
            let parent = class.join(&name).join("device");
            let name = name.to_string_lossy().into_owned();
            let node = nodes.get(&name).cloned().unwrap_or_default();
            devices.extend(ib_device(name, node, &parent)?);
        }
        devices.sort_by(|a, b| (a.pci, &a.name).cmp(&(b.pci, &b.name)));
        Ok(devices)
    }

    /// Names of uverbs nodes by name of their ib device.
    fn nodes(&self) -> Result<HashMap<String, String>, SystemError> {
        let class = self.root.join("class/infiniband_verbs");
        let mut nodes = HashMap::new();
        for node in entries(&class)? {
            // Beside the nodes the class has a plain file, `abi_version`.
            if let Ok(node) = node.into_string()
                && node.starts_with("uverbs")
                && let Some(ibdev) = read(&class.join(&node).join("ibdev"))?
            {
                nodes.insert(ibdev, node);
            }
        }
        Ok(nodes)
    }

    /// The netdevs of the PCI function of ib device `name`.
    pub(super) fn netdevs(&self, name: &str) -> Result<Vec<Netdev>, SystemError> {
        let directory = self
            .root
            .join("class/infiniband")
            .join(name)
            .join("device/net");
        let mut netdevs = Vec::new();
        for name in entries(&directory)? {
            let path = directory.join(&name);
            netdevs.extend(netdev(name.to_string_lossy().into_owned(), &path)?);
        }
        netdevs.sort_by(|a, b| (a.dev_port, &a.name).cmp(&(b.dev_port, &b.name)));
        Ok(netdevs)
    }
}

/// `None` where it is gone or no PCI device.
fn ib_device(name: String, node: String, parent: &Path) -> Result<Option<IbDevice>, SystemError> {
    let Some(pci) = pci_address(&parent.join("uevent"))? else {
        return Ok(None);
    };
    let Some(vendor_id) = parse(&parent.join("vendor"), "a 16-bit hexadecimal number", hex16)?
    else {
        return Ok(None);
    };
    let Some(device_id) = parse(&parent.join("device"), "a 16-bit hexadecimal number", hex16)?
    else {
        return Ok(None);
    };
    let numa_node = parse(
        &parent.join("numa_node"),
        "a number of a NUMA node",
        |text| {
            // -1 stands for a platform without nodes.
            let node: i32 = text.parse().ok()?;
            Some(u32::try_from(node).ok())
        },
    )?;
    Ok(Some(IbDevice {
        name,
        node,
        pci,
        vendor_id,
        device_id,
        driver_id: None,
        numa_node: numa_node.flatten(),
    }))
}

/// The line `PCI_SLOT_NAME` of a uevent file.
fn pci_address(path: &Path) -> Result<Option<PciAddress>, SystemError> {
    let Some(uevent) = read(path)? else {
        return Ok(None);
    };
    let slot = (uevent.lines()).find_map(|line| line.strip_prefix("PCI_SLOT_NAME="));
    slot.map(|slot| (slot.trim().parse()).map_err(|_| garbage(path, slot, "a PCI address")))
        .transpose()
}

/// `None` where it is gone.
fn netdev(name: String, path: &Path) -> Result<Option<Netdev>, SystemError> {
    let address = parse(&path.join("address"), "a MAC address", |text| {
        text.parse().ok()
    })?;
    let dev_port = parse(&path.join("dev_port"), "a decimal number", decimal)?;
    let flags = parse(&path.join("flags"), "a hexadecimal number", hex32)?;
    let mtu = parse(&path.join("mtu"), "a decimal number", decimal)?;
    let (Some(mac), Some(dev_port), Some(flags), Some(mtu)) = (address, dev_port, flags, mtu)
    else {
        return Ok(None);
    };
    Ok(Some(Netdev {
        name,
        mac,
        dev_port,
        up: flags & IFF_UP != 0,
        master: master(&path.join("master"))?,
        mtu,
    }))
}

/// The interface that a `master` link leads to.
fn master(path: &Path) -> Result<Option<String>, SystemError> {
    match fs::read_link(path) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(error) => unless_gone(path, &error).map(|()| None),
    }
}

fn decimal(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn hex32(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

fn hex16(text: &str) -> Option<u16> {
    hex32(text)?.try_into().ok()
}

/// Names in a directory; none where there is no such directory.
fn entries(directory: &Path) -> Result<Vec<OsString>, SystemError> {
    let mut names = Vec::new();
    let result = fs::read_dir(directory).and_then(|entries| {
        for entry in entries {
            names.push(entry?.file_name());
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(names),
        Err(error) => unless_gone(directory, &error).map(|()| names),
    }
}

/// Reads a value; `None` where the file is gone.
fn parse<T>(
    path: &Path,
    expected: &str,
    value: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, SystemError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    match value(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(garbage(path, &text, expected)),
    }
}

/// A file's text without the white space around it; `None` where the file is gone.
fn read(path: &Path) -> Result<Option<String>, SystemError> {
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    match result {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) => unless_gone(path, &error).map(|()| None),
    }
}

/// `Ok` where the error says that the thing is not there (any more): sysfs answers `ENODEV` to the
/// reader of an attribute whose device goes.
fn unless_gone(path: &Path, error: &io::Error) -> Result<(), SystemError> {
    let errno = Errno(error.raw_os_error().unwrap_or(0));
    let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if gone || errno == Errno::ENODEV {
        return Ok(());
    }
    Err(SystemError {
        path: path.to_owned(),
        errno,
        fix: None,
    })
}

fn garbage(path: &Path, text: &str, expected: &str) -> SystemError {
    SystemError {
        path: path.to_owned(),
        errno: Errno::EINVAL,
        fix: Some(format!("{text:?} is not {expected}")),
    }
}
