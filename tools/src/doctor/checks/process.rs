//! What this process may do, where it runs, and which other processes matter.

use crate::doctor::machine::Machine;
use crate::doctor::report::Check;
use crate::doctor::tree::Seen;

/// `CAP_NET_RAW`.
const NET_RAW: u32 = 13;
/// Processes that are looked at.
const MAX_PROCESSES: usize = 20_000;

/// Does a device model stand before the kernel?
pub fn preload(machine: &Machine) -> Check {
    let name = "preload";
    let why = "what this report says of MANA is the device model's, not this machine's";
    match machine.preloaded() {
        true => Check::warning(name, "the device model is preloaded (mana model exec)", why)
            .mended_by("unset LD_PRELOAD SYSFS_PATH"),
        false => Check::ok(name, "no device model is preloaded"),
    }
}

/// Whether this process has a capability in effect.
pub fn has_capability(machine: &Machine, number: u32) -> Option<bool> {
    let status = machine.tree.read("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let set = u64::from_str_radix(line.trim(), 16).ok()?;
    Some(set >> number & 1 == 1)
}

/// May raw packet queues be made?
pub fn capabilities(machine: &Machine) -> Check {
    let name = "capabilities";
    let why = "the kernel makes raw packet queues only for who has CAP_NET_RAW";
    if machine.preloaded() {
        return Check::ok(name, "the preloaded device model asks for none");
    }
    match has_capability(machine, NET_RAW) {
        Some(true) => Check::ok(name, "CAP_NET_RAW"),
        Some(false) => Check::fail(name, "this process has no CAP_NET_RAW", why).mended_by(
            "run it with sudo, or once: sudo setcap cap_net_raw+ep $(command -v mana); in a \
             container: --cap-add=NET_RAW --cap-add=IPC_LOCK",
        ),
        None => Check::unknown(name, "/proc/self/status does not tell", why),
    }
}

/// Is this a container, and what does it lack?
pub fn container(machine: &Machine) -> Check {
    let name = "container";
    let why = "a container sees only what it was given";
    let tree = &machine.tree;
    let kind = if tree.exists("/var/run/secrets/kubernetes.io") {
        "a Kubernetes pod"
    } else if tree.exists("/run/.containerenv") {
        "a podman container"
    } else if tree.exists("/.dockerenv") {
        "a docker container"
    } else {
        return Check::ok(name, "none in sight");
    };
    let mut lacks = Vec::new();
    if !tree.exists("/dev/infiniband") {
        lacks.push("--device=/dev/infiniband");
    }
    if has_capability(machine, NET_RAW) == Some(false) {
        lacks.push("--cap-add=NET_RAW");
    }
    if has_capability(machine, 14) == Some(false) {
        lacks.push("--cap-add=IPC_LOCK");
    }
    if !tree.exists("/dev/hugepages") {
        lacks.push("--volume=/dev/hugepages:/dev/hugepages");
    }
    match lacks.is_empty() {
        true => Check::ok(name, kind),
        false => Check::warning(name, format!("{kind} without {}", lacks.join(" ")), why)
            .mended_by(format!(
                "start it with {} (Kubernetes: the same in securityContext, a hugepages-2Mi \
                     request and an emptyDir of medium HugePages)",
                lacks.join(" ")
            )),
    }
}

/// Who else has the device open?
pub fn device_users(machine: &Machine) -> Check {
    let name = "device-users";
    let why = "a port that another process started can't be started again";
    let nodes: Vec<String> = machine
        .mana_ib()
        .filter_map(|device| Some(format!("/dev/infiniband/{}", device.node.as_ref()?)))
        .collect();
    let processes = match processes(machine) {
        Ok(processes) => processes,
        Err(reason) => return Check::unknown(name, reason, why),
    };
    let (mut users, mut hidden) = (Vec::new(), 0);
    for pid in processes {
        if machine.live && pid == std::process::id() {
            continue;
        }
        let folder = format!("/proc/{pid}/fd");
        let names = match machine.tree.list(&folder) {
            Seen::Is(names) => names,
            // Gone meanwhile.
            Seen::Absent => continue,
            Seen::Unclear(_) => {
                hidden += 1;
                continue;
            }
        };
        let open = names.iter().any(|fd| {
            let link = machine.tree.place(&format!("{folder}/{fd}"));
            std::fs::read_link(link)
                .is_ok_and(|to| nodes.iter().any(|node| to.as_os_str() == &**node))
        });
        if open {
            let program = machine.tree.read(&format!("/proc/{pid}/comm")).ok();
            users.push(format!("{} ({pid})", program.unwrap_or_default()));
        }
    }
    if !users.is_empty() {
        return Check::warning(name, users.join(", "), why).mended_by(
            "stop it, or choose a port that it has not: sudo fuser -v /dev/infiniband/*",
        );
    }
    match hidden {
        0 => Check::ok(name, "no other process has the device open"),
        _ => Check::unknown(
            name,
            format!("{hidden} processes of other users can't be looked at"),
            why,
        )
        .mended_by("sudo mana doctor"),
    }
}

/// Does a DPDK program run that takes the ports away by failsafe or vdev_netvsc?
pub fn dpdk_vdevs(machine: &Machine) -> Check {
    let name = "dpdk-vdevs";
    let why = "net_failsafe and net_vdev_netvsc take the port and are advised against: choose the \
               MANA port itself with -a BDF,mac=";
    let processes = match processes(machine) {
        Ok(processes) => processes,
        Err(reason) => return Check::unknown(name, reason, why),
    };
    let mut found = Vec::new();
    for pid in processes {
        let line = machine
            .tree
            .read(&format!("/proc/{pid}/cmdline"))
            .ok()
            .unwrap_or_default();
        // This program and a shell that greps name them, too; a device argument begins with them.
        let device = line.split('\0').find(|word| {
            let value = word.split_once('=').map_or(*word, |(_, value)| value);
            [value, word]
                .iter()
                .any(|it| it.starts_with("net_vdev_netvsc") || it.starts_with("net_failsafe"))
        });
        if let Some(device) = device {
            found.push(format!("process {pid} has {device}"));
        }
    }
    match found.is_empty() {
        true => Check::ok(name, "no program runs with failsafe or vdev_netvsc"),
        false => Check::warning(name, found.join(", "), why).mended_by(
            "start it with -a BDF,mac=MAC instead (mana doctor's line `ports` has both)",
        ),
    }
}

fn processes(machine: &Machine) -> Result<Vec<u32>, String> {
    match machine.tree.list("/proc") {
        Seen::Is(names) => Ok((names.iter())
            .filter_map(|name| name.parse().ok())
            .take(MAX_PROCESSES)
            .collect()),
        Seen::Absent => Err("/proc is not there".to_owned()),
        Seen::Unclear(reason) => Err(reason),
    }
}
