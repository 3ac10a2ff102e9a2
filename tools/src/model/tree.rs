//! The sysfs of the model's machine, written into a folder of its own
//! (reference/uverbs-boundary.md §1 "The fake tree"): what DPDK's PCI scan, its MANA driver,
//! libibverbs and this house's driver read.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use mana_model::Model;
use uverbs_abi::{IbDevice, Netdev};

use super::error::Error;

/// A private folder: `sys` with the tree, `reports` for what is found. Gone when dropped.
pub struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Writes the tree of `model`; `names` are names of netdevs that differ from the model's, by
    /// port over all devices.
    pub fn write(model: &Model, names: &[Option<String>]) -> Result<Self, Error> {
        let tree = Self { folder: private()? };
        tree.make(&tree.reports())?;
        tree.fill(model, names)?;
        Ok(tree)
    }

    /// What SYSFS_PATH shall name.
    pub fn sysfs(&self) -> PathBuf {
        self.folder.join("sys")
    }

    /// What SYSFS_PCI_DEVICES shall name.
    pub fn pci_devices(&self) -> PathBuf {
        self.sysfs().join("bus/pci/devices")
    }

    /// Where processes leave their findings.
    pub fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    fn fill(&self, model: &Model, names: &[Option<String>]) -> Result<(), Error> {
        let sys = self.sysfs();
        let driver = sys.join("bus/pci/drivers/mana");
        for folder in [
            "bus/pci/devices",
            "class/infiniband",
            "class/infiniband_verbs",
            "class/net",
        ] {
            self.make(&sys.join(folder))?;
        }
        self.make(&driver)?;
        self.text(&sys.join("class/infiniband_verbs/abi_version"), "6")?;
        let system = model.system();
        let unreadable = |error: uverbs_abi::SystemError| Error::Tree {
            path: error.path.clone(),
            cause: io::Error::from_raw_os_error(error.errno.0),
        };
        let mut port = 0;
        let mut written: Option<String> = None;
        for device in system.ib_devices().map_err(unreadable)? {
            let pci = device.pci.to_string();
            let relative = format!("devices/pci{}:00/{pci}", &pci[..4]);
            let function = sys.join(&relative);
            let netdevs = system.netdevs(&device).map_err(unreadable)?;
            if written.as_ref() != Some(&pci) {
                self.function(&function, &device, &pci)?;
                self.link(&function.join("driver"), &driver)?;
                self.link(&sys.join("bus/pci/devices").join(&pci), &function)?;
                self.link(&driver.join(&pci), &function)?;
                for netdev in &netdevs {
                    let name = names.get(port).cloned().flatten();
                    self.netdev(&function, netdev, &name.unwrap_or(netdev.name.clone()))?;
                    port += 1;
                }
                written = Some(pci);
            }
            self.ib_device(&function, &device, netdevs.len())?;
        }
        Ok(())
    }

    fn function(&self, function: &Path, device: &IbDevice, pci: &str) -> Result<(), Error> {
        self.make(function)?;
        let numa = device.numa_node.map_or(-1, i64::from);
        for (name, text) in [
            ("vendor", format!("{:#06x}", device.vendor_id)),
            ("device", format!("{:#06x}", device.device_id)),
            ("subsystem_vendor", format!("{:#06x}", device.vendor_id)),
            ("subsystem_device", "0x0000".to_owned()),
            ("class", "0x020000".to_owned()),
            ("revision", "0x00".to_owned()),
            ("numa_node", numa.to_string()),
            (
                "resource",
                ["0x0000000000000000 0x0000000000000000 0x0000000000000000"; 6].join("\n"),
            ),
            (
                "uevent",
                format!("DRIVER=mana\nPCI_CLASS=20000\nPCI_ID=1414:00BA\nPCI_SLOT_NAME={pci}"),
            ),
        ] {
            self.text(&function.join(name), &text)?;
        }
        Ok(())
    }

    fn netdev(&self, function: &Path, netdev: &Netdev, name: &str) -> Result<(), Error> {
        let folder = function.join("net").join(name);
        self.make(&folder)?;
        // IFF_BROADCAST and IFF_MULTICAST; IFF_UP, IFF_RUNNING and IFF_LOWER_UP of one that is UP.
        let flags = if netdev.up { "0x11043" } else { "0x1002" };
        let state = if netdev.up { "up" } else { "down" };
        for (name, text) in [
            ("address", netdev.mac.to_string()),
            ("dev_port", netdev.dev_port.to_string()),
            ("flags", flags.to_owned()),
            ("mtu", netdev.mtu.to_string()),
            ("operstate", state.to_owned()),
        ] {
            self.text(&folder.join(name), &text)?;
        }
        if netdev.up {
            self.text(&folder.join("carrier"), "1")?;
        }
        self.link(&folder.join("device"), function)?;
        self.link(&self.sysfs().join("class/net").join(name), &folder)
    }

    fn ib_device(&self, function: &Path, device: &IbDevice, ports: usize) -> Result<(), Error> {
        let sys = self.sysfs();
        let folder = function.join("infiniband").join(&device.name);
        self.make(&folder)?;
        self.link(&folder.join("device"), function)?;
        self.text(&folder.join("node_type"), "1: CA")?;
        self.text(&folder.join("node_guid"), "0000:0000:0000:0000")?;
        for port in 1..=ports {
            let port = folder.join("ports").join(port.to_string());
            self.make(&port)?;
            self.text(&port.join("link_layer"), "Ethernet")?;
        }
        self.link(&sys.join("class/infiniband").join(&device.name), &folder)?;
        let node = function.join("infiniband_verbs").join(&device.node);
        self.make(&node)?;
        self.text(&node.join("ibdev"), &device.name)?;
        self.text(&node.join("abi_version"), "1")?;
        // The stand-in behind an open node.
        self.text(&node.join("dev"), "1:3")?;
        self.link(&node.join("device"), function)?;
        self.link(
            &sys.join("class/infiniband_verbs").join(&device.node),
            &node,
        )
    }

    fn make(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))
    }

    fn text(&self, file: &Path, text: &str) -> Result<(), Error> {
        fs::write(file, format!("{text}\n")).map_err(|cause| failed(file, cause))
    }

    fn link(&self, link: &Path, target: &Path) -> Result<(), Error> {
        symlink(target, link).map_err(|cause| failed(link, cause))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("mana model: {} stays: {error}", self.folder.display());
        }
    }
}

/// A new folder that only this user can enter.
fn private() -> Result<PathBuf, Error> {
    let parent = std::env::temp_dir();
    let process = std::process::id();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..100 {
        let folder = parent.join(format!("mana-model-{process}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            // Without links, so that what is told to the program is what it will see.
            Ok(()) => {
                return folder
                    .canonicalize()
                    .map_err(|cause| failed(&folder, cause));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(failed(&folder, error)),
        }
    }
    Err(failed(&parent, last))
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::Tree {
        path: path.to_owned(),
        cause,
    }
}
