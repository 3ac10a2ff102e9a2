//! Programs of Debian for the tests: fetched as packages and unpacked under `target/debian/`,
//! without root and without installing anything.
//!
//! apt runs on state directories of its own there, with the machine's sources and keys, so that no
//! mirror is named here and the machine's own lists stay as they are. A group may be of another
//! suite of Debian than the machine.

mod apt;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use apt::Apt;

use crate::process;
use crate::workspace::Workspace;

/// Whose turn it is to use apt: groups may be fetched by several threads.
static TURN: Mutex<()> = Mutex::new(());

/// Packages that are unpacked into one tree of their own.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    pub name: &'static str,
    /// The suite of Debian; the machine's own without one.
    suite: Option<&'static str>,
    packages: &'static [&'static str],
    brings: Brings,
}

/// What comes along with the packages of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brings {
    Nothing,
    /// The libraries that they depend on, libc among them: the tree runs by its own dynamic loader,
    /// whatever the machine has.
    Libraries,
    /// The kernel that its one package stands for, instead of that package.
    Kernel,
}

/// valgrind with its tools. Everything else it needs is libc.
pub const VALGRIND: Group = Group {
    name: "valgrind",
    suite: None,
    packages: &["valgrind"],
    brings: Brings::Nothing,
};

/// What the tier `host` talks to the driver with, and through it. The last two are on every Debian,
/// but their versions differ.
pub const HOST: Group = Group {
    name: "host",
    suite: None,
    packages: &[
        "iproute2",
        "iputils-ping",
        "iperf3",
        "curl",
        "nginx",
        "netcat-openbsd",
        "tcpdump",
        "ethtool",
        "coreutils",
        "util-linux",
        "mount",
    ],
    brings: Brings::Libraries,
};

/// DPDK's testpmd with the driver in C for this device, on rdma-core 56 and its own libc: the first
/// release of Debian that has that driver. testpmd is among the tools for developers there.
pub const DPDK: Group = Group {
    name: "dpdk",
    suite: Some("trixie"),
    packages: &[
        // dpdk-telemetry.py.
        "dpdk",
        "dpdk-dev",
        "librte-net-mana25",
        "librte-mempool-ring25",
        "ibverbs-providers",
        "ibverbs-utils",
        "libibverbs-dev",
    ],
    brings: Brings::Libraries,
};

/// rdma-core 44, the first that knows this device.
pub const RDMA_CORE_44: Group = Group {
    name: "rdma-core-44",
    suite: Some("bookworm"),
    packages: &["ibverbs-providers", "ibverbs-utils", "libibverbs-dev"],
    brings: Brings::Libraries,
};

/// Headers of DPDK, for programs in C that the tests compile against the libraries of [`DPDK`]. In a tree
/// of its own: the package depends on every driver.
pub const DPDK_HEADERS: Group = Group {
    name: "dpdk-headers",
    suite: Some("trixie"),
    // Its headers include those of the second.
    packages: &["libdpdk-dev", "libbsd-dev"],
    brings: Brings::Nothing,
};

/// The driver in C of DPDK 25.11 on rdma-core 65, for `cargo xtask bench --suite forky` only. The suite moves
/// on: one day these packages are others.
pub const DPDK_FORKY: Group = Group {
    name: "dpdk-forky",
    suite: Some("forky"),
    packages: &[
        "dpdk-dev",
        "librte-net-mana26",
        "librte-mempool-ring26",
        "ibverbs-providers",
    ],
    brings: Brings::Libraries,
};

/// Its headers, as [`DPDK_HEADERS`].
pub const DPDK_FORKY_HEADERS: Group = Group {
    name: "dpdk-forky-headers",
    suite: Some("forky"),
    packages: &["libdpdk-dev", "libbsd-dev"],
    brings: Brings::Nothing,
};

/// QEMU: the first release of Debian's that has vfio-user.
pub const QEMU: Group = Group {
    name: "qemu",
    suite: Some("trixie-backports"),
    packages: &[
        "qemu-system-x86",
        "qemu-system-common",
        "qemu-system-data",
        "seabios",
    ],
    brings: Brings::Libraries,
};

/// What a guest has besides the kernel and the programs of this house, rdma-core 56 among it.
pub const GUEST: Group = Group {
    name: "guest",
    suite: Some("trixie"),
    packages: &[
        "busybox-static",
        // busybox's own shell prefers its own tools to the others here.
        "dash",
        "bash",
        "ibverbs-providers",
        "ibverbs-utils",
        "iproute2",
        "ethtool",
        "iputils-ping",
    ],
    brings: Brings::Libraries,
};

/// Debian 13's kernel for clouds, 6.12.
pub const LINUX_6_12: Group = Group {
    name: "linux-6.12",
    suite: Some("trixie"),
    packages: &["linux-image-cloud-amd64"],
    brings: Brings::Kernel,
};

/// The newest that Debian 13 has.
pub const LINUX_7: Group = Group {
    name: "linux-7",
    suite: Some("trixie-backports"),
    packages: &["linux-image-cloud-amd64"],
    brings: Brings::Kernel,
};

const GROUPS: &[&Group] = &[
    &VALGRIND,
    &HOST,
    &DPDK,
    &DPDK_HEADERS,
    &RDMA_CORE_44,
    &QEMU,
    &GUEST,
    &LINUX_6_12,
    &LINUX_7,
];

/// Fetches all groups.
pub fn fetch_all(workspace: &Workspace) -> Result<(), String> {
    for group in GROUPS {
        println!("{}: {}", group.name, group.fetch(workspace)?.display());
    }
    Ok(())
}

impl Group {
    /// The folder the packages are unpacked in. Fetched the first time, and when the list of
    /// packages has changed.
    pub fn fetch(&self, workspace: &Workspace) -> Result<PathBuf, String> {
        let debian = workspace.target.join("debian");
        let tree = debian.join(self.name);
        let suite = self.suite.unwrap_or("the machine's own");
        let wanted = format!("{suite}\n{}", self.packages.join("\n"));
        let stamp = debian.join(format!("{}.packages", self.name));
        if tree.is_dir() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(tree);
        }
        println!(
            "== fetch: {} into {}",
            self.packages.join(", "),
            tree.display()
        );
        // Groups of one suite share its folder, and apt does not share it with itself.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apt = Apt::new(debian.join("apt"))?;
        if let Some(suite) = self.suite {
            apt = Apt::of_suite(debian.join(format!("apt-{suite}")), &apt, suite)?;
        }
        let mut packages: Vec<String> = self.packages.iter().map(ToString::to_string).collect();
        match self.brings {
            Brings::Nothing => {}
            Brings::Libraries => packages.extend(apt.libraries(self.packages)?),
            Brings::Kernel => packages = apt.kernel(self.packages[0])?,
        }
        let archives = apt.download(&packages, self.name)?;
        drop(turn);
        // Unpacked beside its place, so that an interrupted run leaves no half of a tree.
        let part = debian.join(format!("{}.part", self.name));
        for path in [&part, &tree] {
            remove(path)?;
        }
        create(&part)?;
        for archive in &archives {
            process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&part))?;
        }
        fs::rename(&part, &tree).map_err(|error| failed(&tree, &error))?;
        fs::write(&stamp, wanted).map_err(|error| failed(&stamp, &error))?;
        Ok(tree)
    }
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))
}

/// Removes a folder, if it is there.
pub fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(folder, &error)),
        _ => Ok(()),
    }
}

/// What failed at which path.
pub fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The first file below `folder` whose name starts with `prefix`.
pub fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).ok()?.flatten() {
            let path = entry.path();
            let named = entry.file_name().to_string_lossy().starts_with(prefix);
            // Links are left alone: they may lead out of the tree.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && named => return Some(path),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_at_any_depth_by_the_start_of_its_name() {
        let folder = std::env::temp_dir().join(format!("xtask-find-{}", std::process::id()));
        let tool = folder.join("usr/libexec/valgrind/callgrind-amd64-linux");
        create(tool.parent().unwrap()).unwrap();
        fs::write(&tool, "").unwrap();
        assert_eq!(find(&folder, "callgrind-"), Some(tool));
        assert_eq!(find(&folder, "memcheck-"), None);
        remove(&folder).unwrap();
        assert_eq!(find(&folder, "callgrind-"), None);
    }
}
