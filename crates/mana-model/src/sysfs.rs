//! The sysfs of the model's machine, written into a folder (reference/uverbs-boundary.md §1 "The fake
//! tree"): what DPDK's PCI scan, its MANA driver, libibverbs and this house's driver read.
//!
//! Who looks while it changes sees what sysfs shows, too: things that are gone between two reads,
//! and never a link in a class to what is not complete.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use uverbs_abi::{IbDevice, Mac, Netdev, PciAddress, SystemError};

use crate::Model;
use crate::front::query::GIDS;

/// Why the tree could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
pub struct SysfsError {
    /// What was being made, changed or removed.
    pub path: PathBuf,
    /// What the system answered.
    pub cause: io::Error,
}

/// A tree and what it shows.
#[derive(Debug)]
pub struct Sysfs {
    root: PathBuf,
    functions: Vec<Function>,
}

/// A PCI function with all that hangs below it.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    pci: PciAddress,
    devices: Vec<IbDevice>,
    netdevs: Vec<Netdev>,
}

impl Sysfs {
    /// Writes the tree of `model` into the folder `root`, which is made if need be. `names` are the
    /// netdevs' where they differ from the model's, by MAC.
    ///
    /// # Errors
    ///
    /// Names what could not be written; the rest is there.
    pub fn write(root: &Path, model: &Model, names: &[(Mac, String)]) -> Result<Self, SysfsError> {
        let mut tree = Self {
            root: root.to_owned(),
            functions: Vec::new(),
        };
        for folder in [
            "bus/pci/devices",
            "bus/pci/drivers/mana",
            "class/infiniband",
            "class/infiniband_verbs",
            "class/net",
        ] {
            make(&root.join(folder))?;
        }
        text(&root.join("class/infiniband_verbs/abi_version"), "6")?;
        let mut functions = tree.look(model)?;
        for netdev in functions.iter_mut().flat_map(|it| &mut it.netdevs) {
            if let Some((_, name)) = names.iter().find(|(mac, _)| *mac == netdev.mac) {
                netdev.name.clone_from(name);
            }
        }
        tree.show(functions)?;
        Ok(tree)
    }

    /// The tree that [`Sysfs::write`] wrote into `root` of a machine like `model`, which is as it
    /// was built.
    ///
    /// # Errors
    ///
    /// None but those of [`Model::system`].
    pub fn written(root: &Path, model: &Model) -> Result<Self, SysfsError> {
        let mut tree = Self {
            root: root.to_owned(),
            functions: Vec::new(),
        };
        tree.functions = tree.look(model)?;
        Ok(tree)
    }

    /// Lets the tree show what the machine is now: devices that went or came, netdevs and carriers
    /// that changed.
    ///
    /// # Errors
    ///
    /// Names what could not be written; the next call tries again.
    pub fn follow(&mut self, model: &Model) -> Result<(), SysfsError> {
        let now = self.look(model)?;
        if now == self.functions {
            return Ok(());
        }
        self.show(now)
    }

    fn look(&self, model: &Model) -> Result<Vec<Function>, SysfsError> {
        let unreadable = |error: SystemError| SysfsError {
            path: error.path.clone(),
            cause: io::Error::from_raw_os_error(error.errno.0),
        };
        let system = model.system();
        let mut functions: Vec<Function> = Vec::new();
        for device in system.ib_devices().map_err(unreadable)? {
            match functions.last_mut() {
                Some(last) if last.pci == device.pci => last.devices.push(device),
                _ => functions.push(Function {
                    pci: device.pci,
                    netdevs: system.netdevs(&device).map_err(unreadable)?,
                    devices: vec![device],
                }),
            }
        }
        Ok(functions)
    }

    fn show(&mut self, now: Vec<Function>) -> Result<(), SysfsError> {
        for old in &self.functions {
            if !now.iter().any(|new| new.is_same_as(old)) {
                self.hide_function(old)?;
            }
        }
        for new in &now {
            match self.functions.iter().find(|old| new.is_same_as(old)) {
                Some(old) if old == new => {}
                Some(_) => self.netdevs(new)?,
                None => self.function(new)?,
            }
        }
        self.functions = now;
        Ok(())
    }

    fn folder(&self, function: &Function) -> PathBuf {
        let pci = function.pci.to_string();
        let bus = format!("devices/pci{}:00", &pci[..4]);
        self.root.join(bus).join(pci)
    }

    fn function(&self, function: &Function) -> Result<(), SysfsError> {
        let folder = self.folder(function);
        let Some(device) = function.devices.first() else {
            return Ok(());
        };
        make(&folder)?;
        let pci = function.pci.to_string();
        let numa = device.numa_node.map_or(-1, i64::from);
        for (name, value) in [
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
                format!(
                    "DRIVER=mana\nPCI_CLASS=20000\nPCI_ID={:04X}:{:04X}\nPCI_SLOT_NAME={pci}",
                    device.vendor_id, device.device_id
                ),
            ),
        ] {
            text(&folder.join(name), &value)?;
        }
        self.netdevs(function)?;
        let driver = self.root.join("bus/pci/drivers/mana");
        link(&folder.join("driver"), &driver)?;
        for device in &function.devices {
            self.ib_device(&folder, device, function.netdevs.len())?;
        }
        for netdev in &function.netdevs {
            let target = folder.join("net").join(&netdev.name);
            link(&self.root.join("class/net").join(&netdev.name), &target)?;
        }
        link(&driver.join(&pci), &folder)?;
        link(&self.root.join("bus/pci/devices").join(&pci), &folder)
    }

    /// Every link to it, then itself.
    fn hide_function(&self, function: &Function) -> Result<(), SysfsError> {
        let folder = self.folder(function);
        let pci = function.pci.to_string();
        let classes = function.devices.iter().flat_map(|device| {
            [
                format!("class/infiniband/{}", device.name),
                format!("class/infiniband_verbs/{}", device.node),
            ]
        });
        let netdevs = function.netdevs.iter();
        let links = classes
            .chain(netdevs.map(|netdev| format!("class/net/{}", netdev.name)))
            .chain([
                format!("bus/pci/devices/{pci}"),
                format!("bus/pci/drivers/mana/{pci}"),
            ]);
        for path in links {
            let path = self.root.join(path);
            gone(&path, fs::remove_file(&path))?;
        }
        gone(&folder, fs::remove_dir_all(&folder))
    }

    fn netdevs(&self, function: &Function) -> Result<(), SysfsError> {
        let device = self.folder(function);
        for netdev in &function.netdevs {
            let folder = device.join("net").join(&netdev.name);
            make(&folder)?;
            let carrier = netdev.carrier.unwrap_or(netdev.up);
            // IFF_BROADCAST and IFF_MULTICAST; IFF_UP; IFF_RUNNING and IFF_LOWER_UP.
            let (flags, state) = match (netdev.up, carrier) {
                (true, true) => ("0x11043", "up"),
                (true, false) => ("0x1003", "down"),
                (false, _) => ("0x1002", "down"),
            };
            for (name, value) in [
                ("address", netdev.mac.to_string()),
                ("dev_port", netdev.dev_port.to_string()),
                ("flags", flags.to_owned()),
                ("mtu", netdev.mtu.to_string()),
                ("operstate", state.to_owned()),
            ] {
                text(&folder.join(name), &value)?;
            }
            let file = folder.join("carrier");
            match netdev.up {
                true => text(&file, if carrier { "1" } else { "0" })?,
                false => gone(&file, fs::remove_file(&file))?,
            }
            link(&folder.join("device"), &device)?;
        }
        Ok(())
    }

    fn ib_device(
        &self,
        function: &Path,
        device: &IbDevice,
        ports: usize,
    ) -> Result<(), SysfsError> {
        let folder = function.join("infiniband").join(&device.name);
        make(&folder)?;
        link(&folder.join("device"), function)?;
        text(&folder.join("node_type"), "1: CA")?;
        text(&folder.join("node_guid"), "0000:0000:0000:0000")?;
        for number in 1..=ports {
            let port = folder.join("ports").join(number.to_string());
            make(&port)?;
            text(&port.join("link_layer"), "Ethernet")?;
            // Only the first port of the RDMA device has a table of GIDs; nothing is in it while its
            // netdev is not UP.
            if number == 1 && !device.name.starts_with("manae_") {
                let gids = port.join("gids");
                make(&gids)?;
                for index in 0..GIDS {
                    text(&gids.join(index.to_string()), &["0000"; 8].join(":"))?;
                }
            }
        }
        let node = function.join("infiniband_verbs").join(&device.node);
        make(&node)?;
        text(&node.join("ibdev"), &device.name)?;
        text(&node.join("abi_version"), "1")?;
        // The stand-in behind an open node.
        text(&node.join("dev"), "1:3")?;
        link(&node.join("device"), function)?;
        let class = self.root.join("class");
        link(&class.join("infiniband_verbs").join(&device.node), &node)?;
        link(&class.join("infiniband").join(&device.name), &folder)
    }
}

impl Function {
    /// Whether nothing but states of its netdevs differs.
    fn is_same_as(&self, other: &Self) -> bool {
        let names = |function: &Self| -> Vec<String> {
            let netdevs = function.netdevs.iter();
            netdevs.map(|netdev| netdev.name.clone()).collect()
        };
        self.pci == other.pci && self.devices == other.devices && names(self) == names(other)
    }
}

fn make(folder: &Path) -> Result<(), SysfsError> {
    fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))
}

/// Writes a file in one step, so that nobody reads half of it.
fn text(file: &Path, text: &str) -> Result<(), SysfsError> {
    let new = file.with_extension("new");
    fs::write(&new, format!("{text}\n")).map_err(|cause| failed(&new, cause))?;
    fs::rename(&new, file).map_err(|cause| failed(file, cause))
}

/// Makes a link, which may be there from a try that failed.
fn link(link: &Path, target: &Path) -> Result<(), SysfsError> {
    match symlink(target, link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(|cause| failed(link, cause)),
    }
}

/// What was removed may have been gone.
fn gone(path: &Path, result: io::Result<()>) -> Result<(), SysfsError> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(|cause| failed(path, cause)),
    }
}

fn failed(path: &Path, cause: io::Error) -> SysfsError {
    SysfsError {
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DoorbellMode, ModelConfig, parse_device};

    /// Every path below `folder` with its content or target, for comparing.
    fn all(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                assert!(target.exists(), "{path:?} leads nowhere");
                into.push((path, target.display().to_string()));
            } else if kind.is_dir() {
                all(&path, into);
            } else {
                into.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }

    fn listed(folder: &Path) -> Vec<(PathBuf, String)> {
        let mut list = Vec::new();
        all(folder, &mut list);
        list
    }

    #[test]
    fn a_physical_function_is_told_by_its_pci_id() {
        for (text, id) in [("model0", "00ba"), ("model0,pf=on", "00b9")] {
            let model = Model::new(ModelConfig {
                devices: vec![parse_device(text).unwrap()],
                doorbells: DoorbellMode::Stepped,
            })
            .unwrap();
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("sys");
            let _tool = Sysfs::write(&root, &model, &[]).unwrap();
            let function = root.join("bus/pci/devices/7870:00:00.0");
            let read = |name: &str| fs::read_to_string(function.join(name)).unwrap();
            assert_eq!(read("device").trim(), format!("0x{id}"));
            let line = format!("PCI_ID=1414:{}\n", id.to_uppercase());
            assert!(read("uevent").contains(&line));
        }
    }

    #[test]
    fn a_tree_that_follows_is_what_a_new_one_would_be() {
        let texts = ["model0,ports=2,kernel=7.3", "model1"];
        let model = Model::new(ModelConfig {
            devices: texts
                .iter()
                .map(|text| parse_device(text).unwrap())
                .collect(),
            doorbells: DoorbellMode::Stepped,
        })
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sys");
        let _tool = Sysfs::write(&root, &model, &[]).unwrap();
        let first = listed(&root);
        let mut tree = Sysfs::written(&root, &model).unwrap();
        let mut same_as_new = |what: &str| {
            tree.follow(&model).unwrap();
            let followed = listed(&root);
            fs::remove_dir_all(&root).unwrap();
            Sysfs::write(&root, &model, &[]).unwrap();
            // A folder that has become empty may stay.
            assert_eq!(followed, listed(&root), "{what}");
            followed
        };
        assert_eq!(same_as_new("nothing"), first);
        model.port(1).set_netdev_up(true).unwrap();
        let up = same_as_new("UP");
        assert!(
            up.iter()
                .any(|(path, text)| path.ends_with("carrier") && text == "1\n")
        );
        model.port(1).set_link_up(false);
        let cut = same_as_new("no carrier");
        assert!(
            cut.iter()
                .any(|(path, text)| path.ends_with("carrier") && text == "0\n")
        );
        model.remove(0).unwrap();
        let away = same_as_new("away");
        assert!(
            !away
                .iter()
                .any(|(path, _)| path.display().to_string().contains("7870:00:00.0"))
        );
        model.restore(0).unwrap();
        let back = same_as_new("back");
        assert!(back.iter().any(|(path, _)| path.ends_with("uverbs3")));
        assert!(!back.iter().any(|(path, _)| path.ends_with("uverbs0")));
        model.remove(0).unwrap();
        model.remove(1).unwrap();
        same_as_new("none");
    }
}
