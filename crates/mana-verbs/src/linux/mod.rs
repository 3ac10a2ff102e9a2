//! The running Linux as a [`System`]: sysfs for discovery, netlink for driver ids, the uverbs node
//! for everything else.

mod ethtool;
pub(crate) mod ioctl;
mod netlink;
mod nldev;
mod rtnetlink;
mod sysfs;
mod transport;

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use uverbs_abi::{Errno, IbDevice, Netdev, System, SystemError, SystemKind, Transport};

use sysfs::Sysfs;
use transport::LinuxTransport;

/// The machine this program runs on.
///
/// An ib device without a uverbs node (`ib_uverbs` is not loaded) is listed with an empty
/// [`IbDevice::node`]; opening it is an error that names the module.
#[derive(Debug, Clone)]
pub struct LinuxSystem {
    root: PathBuf,
    sysfs: PathBuf,
}

impl LinuxSystem {
    /// The running machine. As for libibverbs, the variable SYSFS_PATH names another place for
    /// `/sys`, which is how programs run on a model of the device; programs that give their user
    /// more rights ignore it.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: getauxval reads a value that the kernel left for this process.
        let privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        let named = env::var_os("SYSFS_PATH").filter(|_| !privileged);
        Self {
            sysfs: sysfs_of(named),
            ..Self::with_root("/")
        }
    }

    /// A machine whose `/sys` and `/dev` lie below `root`: for tests, and for containers that
    /// mount the host's elsewhere. Netlink knows nothing of such a root and is asked only for `/`;
    /// elsewhere driver ids are probed.
    #[must_use]
    pub fn with_root(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let sysfs = root.join("sys");
        Self { root, sysfs }
    }

    fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.sysfs.clone())
    }

    fn driver_ids(&self) -> HashMap<String, u32> {
        if self.is_this_machine() {
            netlink::driver_ids()
        } else {
            HashMap::new()
        }
    }
}

/// The place that SYSFS_PATH names, if it names one.
fn sysfs_of(named: Option<OsString>) -> PathBuf {
    match named.map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => PathBuf::from("/sys"),
    }
}

impl Default for LinuxSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl System for LinuxSystem {
    fn kind(&self) -> SystemKind {
        SystemKind::Linux
    }

    fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
        let mut devices = self.sysfs().ib_devices()?;
        if !devices.is_empty() {
            let driver_ids = self.driver_ids();
            for device in &mut devices {
                device.driver_id = driver_ids.get(&device.name).copied();
            }
        }
        Ok(devices)
    }

    fn netdevs(&self, device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
        let mut netdevs = self.sysfs().netdevs(&device.name)?;
        if self.is_this_machine() {
            for netdev in &mut netdevs {
                netdev.max_mtu = rtnetlink::max_mtu(&netdev.name);
            }
        }
        Ok(netdevs)
    }

    fn netdev_statistics(&self, netdev: &str) -> Result<Vec<(String, u64)>, SystemError> {
        // The kernel is asked by name: not for a netdev of another tree.
        if !self.is_this_machine() || self.sysfs != Path::new("/sys") {
            return Ok(Vec::new());
        }
        ethtool::statistics(netdev).map_err(|errno| SystemError {
            path: self.sysfs.join("class/net").join(netdev),
            errno,
            fix: None,
        })
    }

    fn open(&self, device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
        let directory = self.root.join("dev/infiniband");
        if device.node.is_empty() {
            return Err(open_error(directory, Errno::ENOENT));
        }
        let path = directory.join(&device.node);
        match LinuxTransport::open(&path) {
            Ok(transport) => Ok(Box::new(transport)),
            Err(errno) => Err(open_error(path, errno)),
        }
    }
}

/// Why a uverbs node can't be opened, with what mends it.
fn open_error(path: PathBuf, errno: Errno) -> SystemError {
    let fix = match errno {
        Errno::ENOENT => Some(
            "the kernel's user verbs are not there: `sudo modprobe ib_uverbs && sudo modprobe \
             mana_ib` (on Ubuntu they come with linux-modules-extra-$(uname -r)); in a container, \
             pass /dev/infiniband through"
                .to_owned(),
        ),
        Errno::EACCES | Errno::EPERM => Some(format!(
            "no right to use the device: run as root, or `sudo chmod a+rw {}`; in a container, \
             allow the device",
            path.display()
        )),
        Errno::EMFILE => Some("too many open files: `ulimit -n 65536`".to_owned()),
        Errno::EIO | Errno::ENODEV => {
            Some("the device has been removed or is being reset; try again".to_owned())
        }
        _ => None,
    };
    SystemError { path, errno, fix }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn sysfs_is_where_the_variable_says_if_it_says_a_place() {
        for (named, place) in [
            (Some("/tmp/model/sys"), "/tmp/model/sys"),
            (Some(""), "/sys"),
            (Some("model/sys"), "/sys"),
            (None, "/sys"),
        ] {
            assert_eq!(sysfs_of(named.map(OsString::from)), Path::new(place));
        }
    }

    fn device(node: &str) -> IbDevice {
        IbDevice {
            name: "mana_0".to_owned(),
            node: node.to_owned(),
            pci: "7870:00:00.0".parse().unwrap(),
            vendor_id: 0x1414,
            device_id: 0x00ba,
            driver_id: None,
            numa_node: None,
        }
    }

    /// `expect_err` wants Debug of a transport.
    fn error(system: &LinuxSystem, node: &str) -> SystemError {
        match system.open(&device(node)) {
            Err(error) => error,
            Ok(_) => panic!("{node} was opened"),
        }
    }

    #[test]
    fn this_machine_is_read_without_an_error() {
        let system = LinuxSystem::new();
        let devices = system.ib_devices().unwrap();
        if !Path::new("/sys/class/infiniband").exists() {
            assert_eq!(devices, []);
        }
        for device in &devices {
            system.netdevs(device).unwrap();
        }
    }

    #[test]
    fn a_missing_node_names_the_modules_that_make_it() {
        let root = tempfile::tempdir().unwrap();
        let system = LinuxSystem::with_root(root.path());
        for (node, path) in [
            ("uverbs0", "dev/infiniband/uverbs0"),
            ("", "dev/infiniband"),
        ] {
            let error = error(&system, node);
            assert_eq!(error.errno, Errno::ENOENT);
            assert_eq!(error.path, root.path().join(path));
            let fix = error.fix.unwrap();
            for word in ["modprobe", "mana_ib", "ib_uverbs", "linux-modules-extra"] {
                assert!(fix.contains(word), "{fix}");
            }
        }
    }

    #[test]
    fn a_node_without_permission_names_the_command_that_gives_it() {
        let path = PathBuf::from("/dev/infiniband/uverbs3");
        let error = open_error(path, Errno::EACCES);
        assert!(
            error
                .fix
                .unwrap()
                .contains("chmod a+rw /dev/infiniband/uverbs3")
        );
    }

    #[test]
    fn a_node_is_opened_and_what_is_no_uverbs_node_is_told_by_its_first_call() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev/infiniband")).unwrap();
        fs::write(root.path().join("dev/infiniband/uverbs0"), "").unwrap();
        let system = LinuxSystem::with_root(root.path());
        let error = crate::Context::open(&system, &device("uverbs0")).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOTTY));
        assert_eq!(error.operation(), Some(crate::operation::FIND_DRIVER_ID));
    }
}
