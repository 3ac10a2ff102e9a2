//! ib devices, their nodes, and what opening them tells.

use std::sync::Arc;

use mana_pmd::Candidate;
use mana_verbs::LinuxSystem;
use uverbs_abi::System;
use uverbs_abi::ids::MANA_DRIVER_IDS;

use crate::doctor::machine::Machine;
use crate::doctor::report::Check;
use crate::doctor::tree::{Rights, Seen};

/// Where the kernel says more.
const LOOK: &str = "sudo dmesg | grep -i -e mana -e infiniband";

/// The number that rdma-core gives to MANA, and so does the kernel upstream.
const DRIVER_MANA: u32 = MANA_DRIVER_IDS[0];

/// Is there an ib device that carries Ethernet?
pub fn ib_device(machine: &Machine) -> Check {
    let name = "ib-device";
    let why = "the driver reaches the port through an ib device of mana_ib";
    if let Seen::Unclear(reason) = &machine.ib_devices {
        return Check::unknown(name, reason, why);
    }
    let all: Vec<_> = machine.mana_ib().map(|it| it.name.clone()).collect();
    if all.is_empty() {
        if machine.functions().is_empty() {
            return Check::unknown(name, "no MANA function", why);
        }
        return Check::fail(name, "/sys/class/infiniband has none of MANA", why).mended_by(
            "sudo modprobe mana_ib; if that changes nothing: sudo dmesg | grep -i mana",
        );
    }
    let ethernet: Vec<_> = machine.ethernet_ib().map(|it| it.name.clone()).collect();
    let rdma: Vec<_> = all
        .iter()
        .filter(|it| !ethernet.contains(it))
        .cloned()
        .collect();
    let mut seen = format!("{} for Ethernet", ethernet.join(", "));
    if !rdma.is_empty() {
        seen += &format!(", {} for RDMA only", rdma.join(", "));
    }
    Check::ok(name, seen)
}

/// Are the nodes there, and may this user open them?
pub fn uverbs_node(machine: &Machine) -> Check {
    let name = "uverbs-node";
    let why = "opening the device means opening its node in /dev/infiniband";
    let devices: Vec<_> = machine.ethernet_ib().collect();
    if devices.is_empty() {
        return Check::unknown(name, "no ib device of MANA", why);
    }
    if machine.preloaded() {
        return Check::ok(name, "the preloaded device model answers for them");
    }
    let mut seen = Vec::new();
    for device in devices {
        let Some(node) = &device.node else {
            return Check::fail(name, format!("{} has no uverbs node", device.name), why)
                .mended_by("sudo modprobe ib_uverbs");
        };
        let path = format!("/dev/infiniband/{node}");
        let rights = match machine.tree.rights(&path) {
            Seen::Is(rights) => rights,
            Seen::Absent => {
                return Check::fail(name, format!("{path} is not there"), why).mended_by(
                    "on a host: sudo udevadm trigger --subsystem-match=infiniband_verbs; in a \
                     container: start it with --device=/dev/infiniband",
                );
            }
            Seen::Unclear(reason) => return Check::unknown(name, reason, why),
        };
        if machine.live && !may_open(&path, rights) {
            let seen = format!(
                "{path} (mode {:04o}) may not be opened by this user",
                rights.mode
            );
            return Check::fail(name, seen, why).mended_by(format!(
                "sudo chmod a+rw {path}, or run the program with sudo"
            ));
        }
        if let Some(list) = forbidden(machine, node) {
            return Check::fail(name, format!("{list} does not allow {path}"), why).mended_by(
                "start the container with --device=/dev/infiniband (systemd: DeviceAllow=\
                 char-infiniband_verbs rw)",
            );
        }
        seen.push(format!("{path} (mode {:04o})", rights.mode));
    }
    Check::ok(name, seen.join(", "))
}

/// The list of devices of this process's control group, where it is in sight and leaves the node out.
/// That of the second version is a program in the kernel: only opening tells.
fn forbidden(machine: &Machine, node: &str) -> Option<String> {
    let groups = machine.tree.read("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let devices = fields.next()?.split(',').any(|it| it == "devices");
        fields.next().filter(|_| devices)
    })?;
    let list = format!(
        "/sys/fs/cgroup/devices{}/devices.list",
        group.trim_end_matches('/')
    );
    let rules = machine.tree.read(&list).ok()?;
    let numbers = machine
        .tree
        .read(&format!("/sys/class/infiniband_verbs/{node}/dev"))
        .ok()?;
    let (major, _) = numbers.split_once(':')?;
    let allows = |rule: &str| {
        let fields: Vec<&str> = rule.split_whitespace().collect();
        let [kind, devices, access] = fields[..] else {
            return false;
        };
        let all = devices.split(':').next() == Some("*");
        let this = devices == numbers || devices == format!("{major}:*");
        ["a", "c"].contains(&kind) && (all || this) && access.contains('r') && access.contains('w')
    };
    (!rules.lines().any(allows)).then_some(list)
}

fn may_open(path: &str, rights: Rights) -> bool {
    use rustix::fs::{Access, access};
    rights.mode & 0o666 == 0o666 || access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Do kernel and rdma-core mean the same driver?
pub fn driver_id(machine: &Machine) -> Check {
    let name = "driver-id";
    let why = "libibverbs finds a device's library by this number; where kernel and rdma-core \
               differ, DPDK fails with `ibv_alloc_parent_domain failed` and -12";
    if !machine.live {
        return Check::unknown(name, "told by netlink and by probing, not by files", why)
            .mended_by("rdma -d dev show");
    }
    let devices = match LinuxSystem::new().ib_devices() {
        Ok(devices) => devices,
        Err(error) => return Check::unknown(name, error.to_string(), why),
    };
    let names: Vec<_> = machine.ethernet_ib().map(|it| &it.name).collect();
    let ours: Vec<_> = devices
        .iter()
        .filter(|it| names.contains(&&it.name))
        .collect();
    if ours.is_empty() {
        return Check::unknown(name, "no ib device of MANA", why);
    }
    let ids: Vec<String> = ours
        .iter()
        .map(|device| match device.driver_id {
            Some(id) => format!("{} has {id}", device.name),
            None => format!("{}: netlink does not tell", device.name),
        })
        .collect();
    let seen = ids.join(", ");
    match ours.iter().find_map(|device| device.driver_id) {
        None => Check::unknown(name, seen, why).mended_by("rdma -d dev show"),
        Some(DRIVER_MANA) => Check::ok(name, format!("{seen}, as in rdma-core")),
        Some(_) => {
            let seen = format!("{seen}, rdma-core has {DRIVER_MANA} (19 is erdma there)");
            Check::warning(name, seen, why).mended_by(
                "use provider=uverbs, which takes any number (auto does so itself); for DPDK update \
                 the kernel (Ubuntu: sudo apt install linux-azure && sudo reboot)",
            )
        }
    }
}

/// Does a port open?
pub fn device_opens(machine: &Machine) -> Check {
    let name = "device-opens";
    let why = "the driver tried to open each port and to read its limits";
    if !machine.live {
        return Check::unknown(name, "files can't be opened as devices", why);
    }
    if machine.ethernet_ib().next().is_none() {
        return Check::unknown(name, "no ib device of MANA", why);
    }
    let system: Arc<dyn System> = Arc::new(LinuxSystem::new());
    let candidates = match mana_pmd::discover(&system) {
        Ok(candidates) => candidates,
        Err(error) => return Check::fail(name, error.to_string(), why).mended_by(LOOK),
    };
    // A port whose netdev is UP opens, but does not start; that is another check's.
    let lacks = |candidate: &Candidate| {
        let up = candidate.netdev.as_ref().is_some_and(|netdev| netdev.up);
        candidate.lacks.len() > usize::from(up)
    };
    let bad: Vec<String> = candidates
        .iter()
        .filter(|it| lacks(it))
        .map(Candidate::to_string)
        .collect();
    let good = candidates.len() - bad.len();
    match (good, bad.is_empty()) {
        (0, true) => Check::fail(name, "no port", why).mended_by(LOOK),
        (0, false) => Check::fail(name, bad.join("; "), why).mended_by(LOOK),
        (_, true) => Check::ok(name, format!("{good} of {good} ports open")),
        (_, false) => Check::warning(name, bad.join("; "), why).mended_by(LOOK),
    }
}
