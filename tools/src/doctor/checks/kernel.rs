//! The kernel, its distribution and its modules.

use crate::doctor::machine::Machine;
use crate::doctor::report::Check;
use crate::doctor::tree::Seen;

/// Modules a port needs, from the bottom up.
const MODULES: [&str; 3] = ["mana", "mana_ib", "ib_uverbs"];

/// Is the kernel new enough, and what comes with it?
pub fn kernel(machine: &Machine) -> Check {
    let name = "kernel";
    let why =
        "the Ethernet driver came with 5.15, the InfiniBand driver, which a port needs, with 6.2";
    let (release, version) = match machine.kernel() {
        Seen::Is(kernel) => kernel,
        Seen::Absent => {
            return Check::unknown(name, "/proc/sys/kernel/osrelease is not there", why);
        }
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
    };
    if let Some(backport) = backport(machine, &release, version) {
        return Check::ok(name, format!("{release}: {backport}"));
    }
    if version < (6, 2) {
        let loaded = machine.tree.exists("/sys/module/mana_ib");
        return match loaded {
            true => Check::ok(name, format!("{release}, with mana_ib from elsewhere")),
            false => Check::fail(name, format!("{release} is older than 6.2"), why)
                .mended_by(newer(machine)),
        };
    }
    let mut brings = vec![];
    brings.push(match version < (6, 8) {
        true => "no receive interrupts before 6.8",
        false => "receive interrupts",
    });
    if version >= (6, 16) {
        brings.push("Ethernet and RDMA are two ib devices");
    }
    Check::ok(name, format!("{release}: {}", brings.join(", ")))
}

/// Kernels older than 6.2 to which distributions ported the drivers back
/// (reference/azure-guide.md, mana-hardware.md §5.4).
fn backport(machine: &Machine, release: &str, version: (u32, u32)) -> Option<&'static str> {
    if version >= (6, 2) {
        return None;
    }
    let id = machine.os_release("ID")?;
    let of = machine.os_release("VERSION_ID")?;
    let build = |prefix: &str| {
        let rest = release.strip_prefix(prefix)?;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u32>()
            .ok()
    };
    match (id.as_str(), of.as_str()) {
        ("ubuntu", "20.04" | "22.04")
            if build("5.15.0-")? >= 1045 && release.ends_with("-azure") =>
        {
            Some("Ubuntu's backport, whose driver id is 19: see driver-id")
        }
        ("rhel", "8.9" | "8.10") if build("4.18.0-")? >= 513 => Some("Red Hat's backport"),
        ("rhel", "9.4" | "9.5" | "9.6") if build("5.14.0-")? >= 427 => Some("Red Hat's backport"),
        _ => None,
    }
}

/// How to get a newer kernel, by distribution.
fn newer(machine: &Machine) -> &'static str {
    match machine.os_release("ID").as_deref() {
        Some("ubuntu") => "sudo apt install linux-azure && sudo reboot",
        Some("debian") => {
            "add bookworm-backports to the apt sources, then: sudo apt install -t bookworm-backports \
             linux-image-cloud-amd64 && sudo reboot"
        }
        Some("rhel" | "centos" | "rocky" | "almalinux") => "sudo dnf upgrade kernel && sudo reboot",
        _ => "install a kernel of 6.2 or later and reboot",
    }
}

/// Is this one of the images of the guide?
pub fn distribution(machine: &Machine) -> Check {
    let name = "distribution";
    let why = "the guide names no backport of MANA for it; the kernel's own release decides";
    let Some(pretty) = machine
        .os_release("PRETTY_NAME")
        .or_else(|| machine.os_release("ID"))
    else {
        return Check::unknown(name, "/etc/os-release tells nothing", why);
    };
    let Seen::Is((release, version)) = machine.kernel() else {
        return Check::unknown(name, pretty, why);
    };
    if version >= (6, 2) || backport(machine, &release, version).is_some() {
        return Check::ok(name, pretty);
    }
    Check::warning(name, format!("{pretty} with {release}"), why).mended_by(newer(machine))
}

/// Where a module is.
#[derive(Debug, PartialEq, Eq)]
enum Module {
    Loaded,
    Loadable,
    Missing,
    /// No list of the kernel's modules is here, as in a container.
    CannotTell,
}

fn module(machine: &Machine, module: &str) -> Module {
    let tree = &machine.tree;
    if tree.exists(&format!("/sys/module/{module}")) {
        return Module::Loaded;
    }
    let loaded = tree.read("/proc/modules").ok().unwrap_or_default();
    if loaded
        .lines()
        .any(|line| line.split(' ').next() == Some(module))
    {
        return Module::Loaded;
    }
    let Seen::Is((release, _)) = machine.kernel() else {
        return Module::CannotTell;
    };
    let folder = format!("/lib/modules/{release}");
    let named = |line: &str| {
        let file = line.split(':').next().unwrap_or_default();
        let file = file.rsplit('/').next().unwrap_or_default();
        let stem = file.split('.').next().unwrap_or_default();
        stem.replace('-', "_") == module
    };
    let lists = |file: &str| tree.read(&format!("{folder}/{file}")).ok();
    let (builtin, dep) = (lists("modules.builtin"), lists("modules.dep"));
    if builtin
        .as_deref()
        .is_some_and(|text| text.lines().any(named))
    {
        return Module::Loaded;
    }
    match dep {
        Some(text) if text.lines().any(named) => Module::Loadable,
        Some(_) => Module::Missing,
        None => Module::CannotTell,
    }
}

/// Are the modules there?
pub fn modules(machine: &Machine) -> Check {
    let name = "modules";
    let why = "mana makes the netdev, mana_ib the ib device, ib_uverbs the node that is opened";
    if machine.preloaded() {
        return Check::ok(name, "the preloaded device model needs none");
    }
    let found = MODULES.map(|name| (name, module(machine, name)));
    let those = |wanted: Module| {
        let names = found.iter().filter(|(_, is)| *is == wanted).map(|it| it.0);
        names.collect::<Vec<_>>()
    };
    let missing = those(Module::Missing);
    if !missing.is_empty() {
        let seen = format!(
            "{} not built or not installed for this kernel",
            missing.join(", ")
        );
        return Check::fail(name, seen, why).mended_by(missing_fix(machine));
    }
    let loadable = those(Module::Loadable);
    if !loadable.is_empty() {
        let seen = format!("{} not loaded", loadable.join(", "));
        let fix = format!("sudo modprobe -a {}", loadable.join(" "));
        return Check::fail(name, seen, why).mended_by(fix);
    }
    let unclear = those(Module::CannotTell);
    match unclear.is_empty() {
        true => Check::ok(name, "mana, mana_ib and ib_uverbs are loaded"),
        false => {
            let seen = format!(
                "{} not loaded, and no list of modules here",
                unclear.join(", ")
            );
            Check::unknown(name, seen, why).mended_by(format!(
                "on the host: sudo modprobe -a {}",
                unclear.join(" ")
            ))
        }
    }
}

/// How to get modules that the kernel's package does not bring.
fn missing_fix(machine: &Machine) -> String {
    let release = machine.kernel().ok().map(|it| it.0).unwrap_or_default();
    match machine.os_release("ID").as_deref() {
        Some("ubuntu") => format!(
            "sudo apt install linux-modules-extra-{release} && sudo modprobe -a mana_ib ib_uverbs"
        ),
        Some("debian") if release.starts_with("6.1.") => {
            "Debian 12's own kernel is built without MANA_INFINIBAND: add bookworm-backports to the \
             apt sources, then: sudo apt install -t bookworm-backports linux-image-cloud-amd64 && \
             sudo reboot"
                .to_owned()
        }
        Some("azurelinux" | "mariner") => {
            "this kernel is built without CONFIG_MANA_INFINIBAND: choose an image with a kernel that \
             has it (grep MANA_INFINIBAND /boot/config-$(uname -r))"
                .to_owned()
        }
        Some("rhel" | "centos" | "rocky" | "almalinux" | "fedora") => {
            format!("sudo dnf install kernel-modules-extra-{release}")
        }
        _ => "install the package with the kernel's extra modules, or a kernel built with \
              CONFIG_MANA_INFINIBAND (grep MANA /boot/config-$(uname -r))"
            .to_owned(),
    }
}
