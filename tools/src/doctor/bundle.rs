//! What support would ask for, in one file: the report and the files that it was made from.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::machine::Machine;
use super::redact::Redactor;
use super::report::Report;
use super::tree::Seen;

/// Files taken as they are.
const FILES: [&str; 11] = [
    "/proc/sys/kernel/osrelease",
    "/proc/version",
    "/etc/os-release",
    "/proc/modules",
    "/proc/meminfo",
    "/proc/self/mounts",
    "/proc/self/limits",
    "/proc/self/status",
    "/proc/self/cgroup",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/class/infiniband_verbs/abi_version",
];
/// Attributes of an interface.
const INTERFACE: [&str; 6] = [
    "address",
    "flags",
    "mtu",
    "dev_port",
    "operstate",
    "carrier",
];
/// Attributes of a PCI function.
const FUNCTION: [&str; 6] = [
    "vendor",
    "device",
    "class",
    "numa_node",
    "uevent",
    "resource",
];
/// How interfaces are called that were named by the kernel or by udev, and not after something.
const PLAIN_NAMES: [&str; 6] = ["eth", "en", "lo", "ib", "docker", "veth"];
/// What the kernel's log is searched for.
const LOG_WORDS: [&str; 5] = ["mana", "hv_netvsc", "infiniband", "ib_uverbs", "1414:00b"];

/// Writes the bundle, readable by its owner alone.
///
/// Nothing is left of it where that fails.
pub fn write(path: &Path, machine: &Machine, report: &Report, keep_names: bool) -> io::Result<()> {
    let new = path.with_extension("partial");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let written = pack(file, machine, report, keep_names);
    let done = written.and_then(|()| std::fs::rename(&new, path));
    done.inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

fn pack(file: File, machine: &Machine, report: &Report, keep_names: bool) -> io::Result<()> {
    let mut redactor = (!keep_names).then(|| Redactor::new(names(machine)));
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut add = |name: &str, text: &str| {
        let clean = |text: &str, redactor: &mut Option<Redactor>| match redactor {
            Some(redactor) => redactor.text(text),
            None => text.to_owned(),
        };
        let name = clean(name, &mut redactor);
        let text = clean(text, &mut redactor);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("mana-doctor/{name}"), text.as_bytes())
    };
    add("report.txt", &report.to_string())?;
    let json = serde_json::to_string_pretty(report).map_err(io::Error::from)?;
    add("report.json", &json)?;
    add("version", concat!("mana ", env!("CARGO_PKG_VERSION"), "\n"))?;
    for path in paths(machine) {
        let text = match machine.tree.read(&path) {
            Seen::Is(text) => format!("{text}\n"),
            Seen::Absent => continue,
            Seen::Unclear(why) => format!("{why}\n"),
        };
        add(&format!("files{path}"), &text)?;
    }
    if machine.live {
        add("kernel-log", &kernel_log())?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()?.sync_all()
}

/// The names that are the machine's own, not the kernel's.
fn names(machine: &Machine) -> Vec<String> {
    let host = machine.tree.read("/proc/sys/kernel/hostname").ok();
    let etc = machine.tree.read("/etc/hostname").ok();
    let interfaces = machine.interfaces().iter().map(|it| it.name.clone());
    let named = interfaces.filter(|name| !PLAIN_NAMES.iter().any(|plain| name.starts_with(plain)));
    let users = ["USER", "LOGNAME", "SUDO_USER"].map(|name| std::env::var(name).ok());
    let users = users.into_iter().flatten().filter(|name| name != "root");
    let hosts = host
        .into_iter()
        .chain(etc)
        .filter(|name| name != "localhost");
    hosts.chain(named).chain(users).collect()
}

fn paths(machine: &Machine) -> Vec<String> {
    let mut paths: Vec<String> = FILES.map(str::to_owned).into();
    for interface in machine.interfaces() {
        let of = |file| format!("/sys/class/net/{}/{file}", interface.name);
        paths.extend(INTERFACE.map(of));
    }
    for function in machine.functions() {
        let of = |file| format!("/sys/bus/pci/devices/{}/{file}", function.pci);
        paths.extend(FUNCTION.map(of));
    }
    for device in machine.mana_ib() {
        paths.push(format!(
            "/sys/class/infiniband/{}/device/uevent",
            device.name
        ));
        paths.push(format!("/sys/class/infiniband/{}/node_type", device.name));
    }
    let folder = "/sys/devices/system/node";
    for node in machine.tree.list(folder).ok().unwrap_or_default() {
        let pages = format!("{folder}/{node}/hugepages");
        for size in machine.tree.list(&pages).ok().unwrap_or_default() {
            let of = |file| format!("{pages}/{size}/{file}");
            paths.extend(["nr_hugepages", "free_hugepages"].map(of));
        }
    }
    paths
}

/// What the kernel's log says of the device; why not, where this user may not read it.
fn kernel_log() -> String {
    let output = Command::new("dmesg").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let ours = |line: &&str| LOG_WORDS.iter().any(|word| line.contains(word));
            text.lines()
                .filter(ours)
                .map(|line| format!("{line}\n"))
                .collect()
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("dmesg: {error}\n"),
    }
}
