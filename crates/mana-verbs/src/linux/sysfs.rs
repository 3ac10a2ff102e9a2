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
    let carrier_path = path.join("carrier");
    Ok(Some(Netdev {
        name,
        mac,
        dev_port,
        up: flags & IFF_UP != 0,
        master: master(&path.join("master"))?,
        mtu,
        // Not in sysfs; see `rtnetlink`.
        max_mtu: None,
        carrier: carrier(&carrier_path, read(&carrier_path))?,
    }))
}

/// What reading `carrier` tells: nothing where it is gone, or where the netdev is DOWN, which the
/// kernel answers with `EINVAL`.
fn carrier(
    path: &Path,
    read: Result<Option<String>, SystemError>,
) -> Result<Option<bool>, SystemError> {
    match read {
        Ok(None) => Ok(None),
        Ok(Some(text)) => match &*text {
            "0" => Ok(Some(false)),
            "1" => Ok(Some(true)),
            _ => Err(garbage(path, &text, "0 or 1")),
        },
        Err(error) if error.errno == Errno::EINVAL => Ok(None),
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A written sysfs.
    struct Tree(TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn sysfs(&self) -> Sysfs {
            Sysfs::new(self.0.path().to_owned())
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            fs::write(self.path(path), text).unwrap();
        }

        fn remove(&self, path: &str) {
            fs::remove_file(self.path(path)).unwrap();
        }

        fn link(&self, from: &str, to: &str) {
            fs::create_dir_all(self.path(from).parent().unwrap()).unwrap();
            symlink(self.path(to), self.path(from)).unwrap();
        }

        fn function(&self, pci: &str, device_id: &str) {
            let directory = format!("devices/{pci}");
            self.write(&format!("{directory}/vendor"), "0x1414\n");
            self.write(&format!("{directory}/device"), device_id);
            self.write(&format!("{directory}/numa_node"), "-1\n");
            let uevent = format!("DRIVER=mana\nPCI_CLASS=20000\nPCI_SLOT_NAME={pci}\n");
            self.write(&format!("{directory}/uevent"), &uevent);
        }

        fn ib_device(&self, name: &str, pci: &str, node: &str) {
            let device = format!("class/infiniband/{name}/device");
            self.link(&device, &format!("devices/{pci}"));
            let ibdev = format!("class/infiniband_verbs/{node}/ibdev");
            self.write(&ibdev, &format!("{name}\n"));
        }

        fn netdev(&self, pci: &str, name: &str, mac: &str, dev_port: &str, flags: &str) {
            let directory = format!("devices/{pci}/net/{name}");
            self.write(&format!("{directory}/address"), &format!("{mac}\n"));
            self.write(&format!("{directory}/dev_port"), &format!("{dev_port}\n"));
            self.write(&format!("{directory}/flags"), &format!("{flags}\n"));
            self.write(&format!("{directory}/mtu"), "1500\n");
        }

        /// The tree of a 6.12 kernel: one ib device of two ports, the second one UP and enslaved.
        fn linux_6_12() -> Self {
            let tree = Self::new();
            tree.function(PCI, "0x00ba\n");
            tree.ib_device("mana_0", PCI, "uverbs0");
            tree.write("class/infiniband_verbs/abi_version", "6\n");
            tree.netdev(PCI, "enP30832s1d1", "00:0d:3a:76:3b:d1", "1", "0x1843");
            tree.netdev(PCI, "enP30832s1", "00:0d:3a:76:3b:d0", "0", "0x1002");
            let master = format!("devices/{PCI}/net/enP30832s1d1/master");
            tree.link(&master, "devices/vmbus/net/eth1");
            tree.write(&format!("devices/{PCI}/net/enP30832s1d1/carrier"), "1\n");
            tree
        }

        fn error(&self) -> SystemError {
            let sysfs = self.sysfs();
            let result = sysfs.ib_devices().map(drop);
            result.and(sysfs.netdevs("mana_0").map(drop)).unwrap_err()
        }
    }

    const PCI: &str = "7870:00:00.0";

    #[test]
    fn a_6_12_kernel_shows_one_ib_device_with_all_netdevs() {
        let tree = Tree::linux_6_12();
        let devices = tree.sysfs().ib_devices().unwrap();
        let expected = IbDevice {
            name: "mana_0".to_owned(),
            node: "uverbs0".to_owned(),
            pci: PCI.parse().unwrap(),
            vendor_id: 0x1414,
            device_id: 0x00ba,
            driver_id: None,
            numa_node: None,
        };
        assert_eq!(devices, [expected]);
        let first = Netdev {
            name: "enP30832s1".to_owned(),
            mac: "00:0d:3a:76:3b:d0".parse().unwrap(),
            dev_port: 0,
            up: false,
            master: None,
            mtu: 1500,
            max_mtu: None,
            carrier: None,
        };
        let second = Netdev {
            name: "enP30832s1d1".to_owned(),
            mac: "00:0d:3a:76:3b:d1".parse().unwrap(),
            dev_port: 1,
            up: true,
            master: Some("eth1".to_owned()),
            mtu: 1500,
            max_mtu: None,
            carrier: Some(true),
        };
        assert_eq!(tree.sysfs().netdevs("mana_0").unwrap(), [first, second]);
    }

    #[test]
    fn a_7_3_kernel_shows_two_ib_devices_on_one_function() {
        let tree = Tree::new();
        tree.function(PCI, "0x00ba\n");
        tree.write(&format!("devices/{PCI}/numa_node"), "1\n");
        tree.ib_device("manae_0", PCI, "uverbs1");
        tree.ib_device("mana_0", PCI, "uverbs0");
        tree.netdev(PCI, "eth1", "00:0d:3a:76:3b:d0", "0", "0x1002");
        let devices = tree.sysfs().ib_devices().unwrap();
        let shown: Vec<_> = (devices.iter())
            .map(|device| (&*device.name, &*device.node, device.numa_node))
            .collect();
        let expected = [
            ("mana_0", "uverbs0", Some(1)),
            ("manae_0", "uverbs1", Some(1)),
        ];
        assert_eq!(shown, expected);
        for name in ["mana_0", "manae_0"] {
            assert_eq!(tree.sysfs().netdevs(name).unwrap().len(), 1);
        }
    }

    #[test]
    fn two_functions_are_sorted_by_their_address() {
        let tree = Tree::new();
        for (name, pci, node) in [
            ("mana_0", "7870:00:01.0", "uverbs0"),
            ("mana_1", PCI, "uverbs1"),
        ] {
            tree.function(pci, "0x00ba\n");
            tree.ib_device(name, pci, node);
        }
        tree.netdev("7870:00:01.0", "eth1", "00:0d:3a:00:00:01", "0", "0x1002");
        let devices = tree.sysfs().ib_devices().unwrap();
        assert_eq!(devices[0].name, "mana_1");
        assert_eq!(devices[1].pci.to_string(), "7870:00:01.0");
        assert_eq!(tree.sysfs().netdevs("mana_0").unwrap().len(), 1);
        assert_eq!(tree.sysfs().netdevs("mana_1").unwrap(), []);
    }

    #[test]
    fn a_machine_without_the_classes_has_no_devices() {
        let tree = Tree::new();
        assert_eq!(tree.sysfs().ib_devices().unwrap(), []);
        assert_eq!(tree.sysfs().netdevs("mana_0").unwrap(), []);
    }

    #[test]
    fn what_vanishes_between_two_reads_is_left_out() {
        for gone in ["vendor", "device", "uevent"] {
            let tree = Tree::linux_6_12();
            tree.remove(&format!("devices/{PCI}/{gone}"));
            assert_eq!(tree.sysfs().ib_devices().unwrap(), [], "{gone}");
        }
        for gone in ["address", "dev_port", "flags", "mtu"] {
            let tree = Tree::linux_6_12();
            tree.remove(&format!("devices/{PCI}/net/enP30832s1/{gone}"));
            let netdevs = tree.sysfs().netdevs("mana_0").unwrap();
            assert_eq!(netdevs.len(), 1, "{gone}");
            assert_eq!(netdevs[0].name, "enP30832s1d1");
        }
        let tree = Tree::linux_6_12();
        tree.remove(&format!("devices/{PCI}/numa_node"));
        assert_eq!(tree.sysfs().ib_devices().unwrap()[0].numa_node, None);
        // The function is gone and the link to it is not yet.
        tree.link("class/infiniband/mana_9/device", "devices/nowhere");
        assert_eq!(tree.sysfs().ib_devices().unwrap().len(), 1);
    }

    #[test]
    fn a_device_of_no_pci_function_is_left_out() {
        let tree = Tree::linux_6_12();
        tree.write("devices/virtual/uevent", "MODALIAS=x\n");
        tree.link("class/infiniband/rxe0/device", "devices/virtual");
        assert_eq!(tree.sysfs().ib_devices().unwrap().len(), 1);
    }

    #[test]
    fn a_device_without_a_uverbs_node_is_listed_with_an_empty_one() {
        let tree = Tree::linux_6_12();
        fs::remove_dir_all(tree.path("class/infiniband_verbs")).unwrap();
        assert_eq!(tree.sysfs().ib_devices().unwrap()[0].node, "");
    }

    #[test]
    fn garbage_is_an_error_that_names_the_file_and_what_it_holds() {
        for (file, text) in [
            ("vendor", "1414"),
            ("vendor", "0x+141"),
            ("device", "0x1ffff"),
            ("device", ""),
            ("numa_node", "one"),
            ("uevent", "PCI_SLOT_NAME=7870:00\n"),
            ("net/enP30832s1/address", "00:0d:3a:76:3b"),
            ("net/enP30832s1/dev_port", "4294967296"),
            ("net/enP30832s1/dev_port", "-1"),
            ("net/enP30832s1/flags", "4098"),
            ("net/enP30832s1/flags", "0x"),
            ("net/enP30832s1/mtu", "+1500"),
            ("net/enP30832s1/mtu", ""),
            ("net/enP30832s1/carrier", "2"),
            ("net/enP30832s1/carrier", ""),
        ] {
            let tree = Tree::linux_6_12();
            tree.write(&format!("devices/{PCI}/{file}"), text);
            let error = tree.error();
            assert!(error.path.ends_with(file), "{file}: {error}");
            assert_eq!(error.errno, Errno::EINVAL);
            let held = text.strip_prefix("PCI_SLOT_NAME=").unwrap_or(text).trim();
            assert!(error.to_string().contains(held), "{error}");
        }
    }

    #[test]
    fn a_carrier_is_told_where_the_kernel_tells_it() {
        let tree = Tree::linux_6_12();
        let path = format!("devices/{PCI}/net/enP30832s1d1/carrier");
        let carriers = || {
            let netdevs = tree.sysfs().netdevs("mana_0").unwrap();
            [netdevs[0].carrier, netdevs[1].carrier]
        };
        assert_eq!(carriers(), [None, Some(true)]);
        tree.write(&path, "0\n");
        assert_eq!(carriers(), [None, Some(false)]);
        let failed = |errno| {
            let (path, fix) = (tree.path(&path), None);
            carrier(&path.clone(), Err(SystemError { path, errno, fix }))
        };
        assert_eq!(failed(Errno::EINVAL).unwrap(), None);
        assert!(failed(Errno::EACCES).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_garbage_too() {
        let tree = Tree::linux_6_12();
        let path = tree.path(&format!("devices/{PCI}/net/enP30832s1/mtu"));
        fs::write(path, b"15\xff00").unwrap();
        assert!(tree.error().path.ends_with("mtu"));
    }
}
