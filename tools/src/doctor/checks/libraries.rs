//! rdma-core: libibverbs and libmana, by the names of their files.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::machine::Machine;
use crate::doctor::report::Check;

/// The release that brought libmana.
const FIRST: u32 = 44;
/// The release from which libmana makes rings of more than 256 entries.
const DEEP: u32 = 49;

/// Is a usable rdma-core installed? The driver does without (`provider=uverbs`), DPDK does not.
pub fn rdma_core(machine: &Machine) -> Check {
    let name = "rdma-core";
    let why = "DPDK and provider=rdma-core need libibverbs and libmana of one release, 44 or later; \
               provider=uverbs needs neither";
    let folders = folders(machine);
    let ibverbs = copies(machine, &folders, "libibverbs.so.1");
    let mana = copies(machine, &folders, "libmana.so.1");
    let (Some((ibverbs_file, ibverbs_release)), Some((mana_file, mana_release))) =
        (ibverbs.first_key_value(), mana.first_key_value())
    else {
        let missing = match (ibverbs.is_empty(), mana.is_empty()) {
            (true, true) => "neither libibverbs.so.1 nor libmana.so.1 is installed".to_owned(),
            (true, false) => "libibverbs.so.1 is not installed".to_owned(),
            _ => {
                let of = ibverbs.values().next().copied().flatten();
                let of = of.map(|release| format!(" (libibverbs is of rdma-core {release})"));
                format!("libmana.so.1 is not installed{}", of.unwrap_or_default())
            }
        };
        return Check::warning(name, missing, why).mended_by(install(machine));
    };
    if ibverbs.len() > 1 || mana.len() > 1 {
        let all: Vec<&str> = ibverbs
            .keys()
            .chain(mana.keys())
            .map(String::as_str)
            .collect();
        let why = "of several copies the loader may take one of each release, which crash together";
        return Check::warning(name, all.join(", "), why).mended_by(
            "remove all but one (ldconfig -p | grep -e libibverbs -e libmana shows which is taken), \
             then: sudo ldconfig",
        );
    }
    let (Some(ibverbs_release), Some(mana_release)) = (ibverbs_release, mana_release) else {
        let seen = format!("{ibverbs_file}, {mana_file}: their names tell no release");
        return Check::unknown(name, seen, why);
    };
    if ibverbs_release != mana_release {
        let seen = format!("libibverbs of {ibverbs_release}, libmana of {mana_release}");
        return Check::warning(name, seen, why).mended_by(install(machine));
    }
    let release = *mana_release;
    if release < FIRST {
        let seen = format!("rdma-core {release}");
        return Check::warning(name, seen, why).mended_by(install(machine));
    }
    if release < DEEP {
        let seen = format!("rdma-core {release}: rings of at most 256 entries");
        let why = "deeper rings need rdma-core 49 or later, or provider=uverbs";
        return Check::warning(name, seen, why).mended_by(install(machine));
    }
    Check::ok(name, format!("rdma-core {release}"))
}

/// The command that installs it.
fn install(machine: &Machine) -> &'static str {
    match machine.os_release("ID").as_deref() {
        Some("debian" | "ubuntu") | None => {
            "sudo apt install libibverbs1 ibverbs-providers (or choose provider=uverbs)"
        }
        Some(_) => "sudo dnf install libibverbs (or choose provider=uverbs)",
    }
}

/// Every different file of that name, with the release of rdma-core that its own name tells:
/// `libmana.so.1.0.56.0`.
fn copies(
    machine: &Machine,
    folders: &BTreeSet<String>,
    name: &str,
) -> BTreeMap<String, Option<u32>> {
    let mut files = BTreeMap::new();
    for folder in folders {
        let path = format!("{folder}/{name}");
        if !machine.tree.exists(&path) {
            continue;
        }
        let real = machine.tree.real(&path).unwrap_or(path);
        let file = real.rsplit('/').next().unwrap_or_default();
        let release = file.split('.').rev().nth(1).and_then(|it| it.parse().ok());
        let release = release.filter(|_| file.len() > name.len());
        files.insert(real, release);
    }
    files
}

/// Where the loader looks.
fn folders(machine: &Machine) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for base in ["/lib", "/usr/lib", "/usr/local/lib"] {
        for inner in ["", "64", "/x86_64-linux-gnu", "/aarch64-linux-gnu"] {
            folders.insert(format!("{base}{inner}"));
        }
    }
    let configurations = "/etc/ld.so.conf.d";
    for file in machine.tree.list(configurations).ok().unwrap_or_default() {
        let text = machine.tree.read(&format!("{configurations}/{file}")).ok();
        let lines = text.iter().flat_map(|text| text.lines());
        folders.extend(
            lines
                .filter(|line| line.starts_with('/'))
                .map(|it| it.trim().to_owned()),
        );
    }
    if machine.live {
        let named = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
        folders.extend(
            named
                .split(':')
                .filter(|it| it.starts_with('/'))
                .map(str::to_owned),
        );
    }
    folders
}
