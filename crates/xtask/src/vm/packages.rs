//! The trees of Debian that a guest is made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use super::options::Kernel;
use crate::debian::{self, Group, failed};
use crate::workspace::Workspace;

/// Where they are unpacked.
pub struct Trees {
    /// QEMU and its libraries.
    pub qemu: PathBuf,
    pub kernel: PathBuf,
    /// The kernel's own name of its version, such as `6.12.117+deb13-cloud-amd64`.
    pub release: String,
    pub guest: PathBuf,
    pub rdma_core_44: PathBuf,
    pub dpdk: Option<PathBuf>,
}

impl Trees {
    /// Fetches what is missing.
    pub fn fetch(workspace: &Workspace, kernel: Kernel, dpdk: bool) -> Result<Trees, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("the guests are of x86-64, and are run on Linux of that only".to_owned());
        }
        let kernel = match kernel {
            Kernel::V6_12 => &debian::LINUX_6_12,
            Kernel::V7 => &debian::LINUX_7,
        };
        let groups = [&debian::QEMU, kernel, &debian::GUEST, &debian::RDMA_CORE_44];
        let [qemu, kernel, guest, rdma_core_44] = together(workspace, groups)?;
        let dpdk = match dpdk {
            true => Some(debian::DPDK.fetch(workspace)?),
            false => None,
        };
        Ok(Trees {
            release: release(&kernel)?,
            qemu,
            kernel,
            guest,
            rdma_core_44,
            dpdk,
        })
    }

    /// The kernel's image.
    pub fn image(&self) -> Result<PathBuf, String> {
        let boot = self
            .kernel
            .join("boot")
            .join(format!("vmlinuz-{}", self.release));
        let beside = self
            .kernel
            .join("usr/lib/modules")
            .join(&self.release)
            .join("vmlinuz");
        [boot, beside]
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| format!("{}: no image of a kernel", self.kernel.display()))
    }
}

/// What a tree is fetched from is mostly waited for.
fn together<const N: usize>(
    workspace: &Workspace,
    groups: [&Group; N],
) -> Result<[PathBuf; N], String> {
    let fetched = thread::scope(|scope| {
        groups
            .map(|group| scope.spawn(move || group.fetch(workspace)))
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("fetching panicked".to_owned()))
            })
    });
    let mut trees = Vec::new();
    for tree in fetched {
        trees.push(tree?);
    }
    trees
        .try_into()
        .map_err(|_| "as many trees as groups".to_owned())
}

/// The one folder of modules in a kernel's tree.
fn release(kernel: &Path) -> Result<String, String> {
    let modules = kernel.join("usr/lib/modules");
    let mut entries = fs::read_dir(&modules).map_err(|error| failed(&modules, &error))?;
    let first = entries.next().and_then(Result::ok);
    first
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .ok_or_else(|| format!("{}: no modules", modules.display()))
}
