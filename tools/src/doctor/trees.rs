//! Written machines, each with one thing different from a healthy virtual machine on Azure.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// PCI address of the MANA function.
pub const PCI: &str = "7870:00:00.0";
/// MAC of the first port, which carries the default route.
pub const MAC0: &str = "00:0d:3a:76:3b:d0";
/// MAC of the second, which is there for the driver.
pub const MAC1: &str = "00:0d:3a:76:3b:d1";
/// VMBus device of the second synthetic interface.
pub const CHANNEL1: &str = "000d3a76-3bd1-000d-3a76-3bd1000d3a76";

const RELEASE: &str = "6.8.0-1020-azure";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A folder with a machine's files.
pub struct Written(TempDir);

impl Written {
    /// Ubuntu 24.04 with two network interfaces: eth0 is UP and has the default route, eth1 and its
    /// VF are DOWN. Hugepages are reserved, rdma-core 50 is installed.
    pub fn azure() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.release(RELEASE);
        tree.os("ubuntu", "24.04", "Ubuntu 24.04.1 LTS");
        tree.function(PCI, "0x00ba", Some("mana"));
        tree.synthetic("eth0", MAC0, true, "000d3a76-3bd0-000d-3a76-3bd0000d3a76");
        tree.synthetic("eth1", MAC1, false, CHANNEL1);
        tree.vf("enP30832s1", MAC0, 0, true, "eth0");
        tree.vf("enP30832s1d1", MAC1, 1, false, "eth1");
        tree.ib("mana_0", "uverbs0");
        for module in ["mana", "mana_ib", "ib_uverbs"] {
            tree.folder(&format!("sys/module/{module}"));
        }
        tree.library("libibverbs.so.1", "libibverbs.so.1.14.50.0");
        tree.library("libmana.so.1", "libmana.so.1.0.50.0");
        tree.pages(1024, 1000);
        tree.write("sys/devices/system/node/node0/cpulist", "0-7");
        tree.write(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never",
        );
        tree.write(
            "proc/mounts",
            "hugetlbfs /dev/hugepages hugetlbfs rw,relatime 0 0",
        );
        tree.write("proc/self/cgroup", "0::/user.slice");
        tree.memlock("unlimited");
        tree.capabilities("000001ffffffffff");
        tree.write("proc/1/cmdline", "/sbin/init\0");
        tree.folder("proc/1/fd");
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                      eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        tree.write("proc/net/route", routes);
        tree
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub fn folder(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    /// Takes a file or folder away.
    pub fn without(&self, path: &str) {
        let path = self.path(path);
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Makes a link, in the place of one that was there.
    pub fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(to, path).unwrap();
    }

    pub fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn release(&self, release: &str) {
        self.write("proc/sys/kernel/osrelease", release);
    }

    pub fn os(&self, id: &str, version: &str, pretty: &str) {
        let text = format!("ID={id}\nVERSION_ID=\"{version}\"\nPRETTY_NAME=\"{pretty}\"");
        self.write("etc/os-release", &text);
    }

    pub fn function(&self, pci: &str, device: &str, driver: Option<&str>) {
        let folder = format!("sys/devices/{pci}");
        self.write(&format!("{folder}/vendor"), "0x1414");
        self.write(&format!("{folder}/device"), device);
        self.write(&format!("{folder}/class"), "0x020000");
        self.write(&format!("{folder}/numa_node"), "0");
        let uevent = format!("DRIVER=mana\nPCI_SLOT_NAME={pci}");
        self.write(&format!("{folder}/uevent"), &uevent);
        self.link(
            &format!("sys/bus/pci/devices/{pci}"),
            &format!("/sys/devices/{pci}"),
        );
        if let Some(driver) = driver {
            self.folder(&format!("sys/bus/pci/drivers/{driver}"));
            let to = format!("/sys/bus/pci/drivers/{driver}");
            self.link(&format!("{folder}/driver"), &to);
        }
    }

    fn interface(&self, folder: &str, name: &str, mac: &str, up: bool) {
        self.write(&format!("{folder}/address"), mac);
        self.write(
            &format!("{folder}/flags"),
            if up { "0x1003" } else { "0x1002" },
        );
        self.write(&format!("{folder}/mtu"), "1500");
        self.link(&format!("sys/class/net/{name}"), &format!("/{folder}"));
    }

    /// An interface of hv_netvsc on a VMBus channel.
    pub fn synthetic(&self, name: &str, mac: &str, up: bool, channel: &str) {
        let device = format!("sys/devices/vmbus/{channel}");
        let folder = format!("{device}/net/{name}");
        self.interface(&folder, name, mac, up);
        self.link(&format!("{folder}/device"), &format!("/{device}"));
        self.folder("sys/bus/vmbus/drivers/hv_netvsc");
        self.link(
            &format!("{device}/driver"),
            "/sys/bus/vmbus/drivers/hv_netvsc",
        );
        let bound = format!("sys/bus/vmbus/drivers/hv_netvsc/{channel}");
        self.link(&bound, &format!("/{device}"));
    }

    /// An interface of the MANA function.
    pub fn vf(&self, name: &str, mac: &str, dev_port: u32, up: bool, master: &str) {
        let folder = format!("sys/devices/{PCI}/net/{name}");
        self.interface(&folder, name, mac, up);
        self.write(&format!("{folder}/dev_port"), &dev_port.to_string());
        self.link(&format!("{folder}/device"), &format!("/sys/devices/{PCI}"));
        if !master.is_empty() {
            self.link(
                &format!("{folder}/master"),
                &format!("/sys/class/net/{master}"),
            );
        }
    }

    /// Changes an attribute of an interface.
    pub fn attribute(&self, interface: &str, file: &str, text: &str) {
        self.write(
            &format!("{}/{file}", self.interface_folder(interface)),
            text,
        );
    }

    pub fn up(&self, interface: &str) {
        self.attribute(interface, "flags", "0x1003");
    }

    /// Where the class's link leads, which is absolute.
    fn interface_folder(&self, interface: &str) -> String {
        let to = fs::read_link(self.path(&format!("sys/class/net/{interface}"))).unwrap();
        to.to_str().unwrap().trim_start_matches('/').to_owned()
    }

    pub fn ib(&self, name: &str, node: &str) {
        let folder = format!("sys/class/infiniband/{name}");
        self.write(&format!("{folder}/node_type"), "1: CA");
        self.link(&format!("{folder}/device"), &format!("/sys/devices/{PCI}"));
        self.write(&format!("sys/class/infiniband_verbs/{node}/ibdev"), name);
        self.write(&format!("sys/class/infiniband_verbs/{node}/dev"), "231:192");
        self.write(&format!("dev/infiniband/{node}"), "");
        self.mode(&format!("dev/infiniband/{node}"), 0o666);
    }

    pub fn library(&self, name: &str, file: &str) {
        self.write(&format!("{LIBRARIES}/{file}"), "");
        self.link(&format!("{LIBRARIES}/{name}"), file);
    }

    pub fn pages(&self, total: u64, free: u64) {
        let node = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
        for folder in [node, "sys/kernel/mm/hugepages/hugepages-2048kB"] {
            self.write(&format!("{folder}/nr_hugepages"), &total.to_string());
            self.write(&format!("{folder}/free_hugepages"), &free.to_string());
        }
    }

    pub fn memlock(&self, soft: &str) {
        let line =
            format!("Max locked memory         {soft}              unlimited            bytes");
        self.write("proc/self/limits", &line);
    }

    pub fn capabilities(&self, set: &str) {
        self.write("proc/self/status", &format!("Name:\tmana\nCapEff:\t{set}"));
    }
}
