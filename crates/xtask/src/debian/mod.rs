//! Programs of Debian for the tests: fetched as packages and unpacked under `target/debian/`,
//! without root and without installing anything.
//!
//! apt runs on state directories of its own there, with the machine's sources and keys, so that no
//! mirror is named here and the machine's own lists stay as they are. A group may be of another
//! suite of Debian than the machine.

mod apt;
mod suite;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use apt::Apt;

use crate::process;
use crate::workspace::Workspace;

/// Held by whoever in this process fetches something: one process at a time.
static LOCK: Mutex<Weak<File>> = Mutex::new(Weak::new());

/// Packages that are unpacked into one tree of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The kernel for clouds of any suite.
    pub fn linux(suite: &str) -> Group {
        // Groups are few and live as long as the process.
        let kept = |text: String| &*text.leak();
        Group {
            name: kept(format!("linux-{suite}")),
            suite: Some(kept(suite.to_owned())),
            ..LINUX_6_12
        }
    }

    /// The folder the packages are unpacked in. Fetched the first time, and when the list of
    /// packages has changed.
    pub fn fetch(&self, workspace: &Workspace) -> Result<PathBuf, String> {
        let debian = workspace.target.join("debian");
        let tree = debian.join(self.name);
        let suite = self.suite.unwrap_or("the machine's own");
        let wanted = format!("{suite}\n{}", self.packages.join("\n"));
        let stamp = debian.join(format!("{}.packages", self.name));
        let there =
            || tree.is_dir() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
        if there() {
            return Ok(tree);
        }
        let _lock = lock(&debian)?;
        if there() {
            return Ok(tree);
        }
        eprintln!(
            "== fetch: {} into {}",
            self.packages.join(", "),
            tree.display()
        );
        let apt = match self.suite {
            Some(suite) => Apt::of_suite(&debian, suite)?,
            None => Apt::new(debian.join("apt"))?,
        };
        let mut packages: Vec<String> = self.packages.iter().map(ToString::to_string).collect();
        match self.brings {
            Brings::Nothing => {}
            Brings::Libraries => packages.extend(apt.libraries(self.packages)?),
            Brings::Kernel => packages = apt.kernel(self.packages[0])?,
        }
        let archives = apt.download(&packages, self.name)?;
        // Unpacked beside its place, so that an interrupted run leaves no half of a tree.
        let part = debian.join(format!("{}.part", self.name));
        for path in [&part, &tree] {
            remove(path)?;
        }
        create(&part)?;
        unpack(archives, &part)?;
        fs::rename(&part, &tree).map_err(|error| failed(&tree, &error))?;
        fs::write(&stamp, wanted).map_err(|error| failed(&stamp, &error))?;
        Ok(tree)
    }
}

/// Waits until no other process fetches into this folder.
fn lock(debian: &Path) -> Result<Arc<File>, String> {
    let mut held = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lock) = held.upgrade() {
        return Ok(lock);
    }
    create(debian)?;
    let path = debian.join("lock");
    let wrong = |error| failed(&path, &error);
    let file = File::create(&path).map_err(wrong)?;
    file.lock().map_err(wrong)?;
    let lock = Arc::new(file);
    *held = Arc::downgrade(&lock);
    Ok(lock)
}

/// Fetches several groups at once: what they are fetched from is mostly waited for.
pub fn together(workspace: &Workspace, groups: &[Group]) -> Result<Vec<PathBuf>, String> {
    thread::scope(|scope| {
        let threads: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(move || group.fetch(workspace)))
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let panicked = |_| Err("fetching panicked".to_owned());
            thread.join().unwrap_or_else(panicked)
        });
        // All are waited for, then the first that failed tells.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Unpacks packages into a folder, as many at once as there are processors.
fn unpack(archives: Vec<PathBuf>, folder: &Path) -> Result<(), String> {
    let left = Mutex::new(archives);
    let worker = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(archive) = next else {
                return Ok(());
            };
            process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder))?;
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().try_for_each(|thread| {
            let panicked = |_| Err("unpacking panicked".to_owned());
            thread.join().unwrap_or_else(panicked)
        })
    })
}

pub fn create(folder: &Path) -> Result<(), String> {
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
