//! The trees of Debian that a guest is made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::options::Kernel;
use crate::debian::{self, Group};
use crate::workspace::Workspace;

/// Where they are unpacked.
pub struct Trees {
    /// QEMU and its libraries.
    pub qemu: PathBuf,
    pub kernel: PathBuf,
    /// The kernel's own name of its version, such as `6.12.117+deb13-cloud-amd64`.
    pub release: String,
    /// The folder of its modules.
    pub modules: PathBuf,
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
        let mut groups = vec![debian::QEMU, debian::GUEST, debian::RDMA_CORE_44];
        match kernel {
            Kernel::V6_12 => groups.push(debian::LINUX_6_12),
            Kernel::V7 => groups.push(debian::LINUX_7),
            Kernel::Suite(suite) => groups.push(Group::linux(suite)),
            Kernel::Tree(_) => {}
        }
        groups.extend(dpdk.then_some(debian::DPDK));
        let mut trees = debian::together(workspace, &groups)?.into_iter();
        let mut next = || trees.next().unwrap_or_default();
        let (qemu, guest, rdma_core_44) = (next(), next(), next());
        let kernel = match kernel {
            Kernel::Tree(folder) => folder.to_owned(),
            _ => next(),
        };
        let (release, modules) = modules(&kernel)?;
        Ok(Trees {
            release,
            modules,
            qemu,
            guest,
            rdma_core_44,
            kernel,
            dpdk: dpdk.then(next),
        })
    }

    /// The kernel's image.
    pub fn image(&self) -> Result<PathBuf, String> {
        let boot = self
            .kernel
            .join("boot")
            .join(format!("vmlinuz-{}", self.release));
        let beside = self.modules.join("vmlinuz");
        let image = [&boot, &beside].into_iter().find(|path| path.is_file());
        image.cloned().ok_or_else(|| {
            let (boot, beside) = (boot.display(), beside.display());
            format!("no image of a kernel at {boot}, nor at {beside}")
        })
    }
}

/// The one kernel with modules in a tree: its release, and their folder. Up to Debian 12 they are not
/// below `usr`.
fn modules(kernel: &Path) -> Result<(String, PathBuf), String> {
    let mut found = BTreeSet::new();
    for folder in ["usr/lib/modules", "lib/modules"] {
        let entries = fs::read_dir(kernel.join(folder)).into_iter().flatten();
        // `lib` may be a link to `usr/lib`.
        found.extend(entries.flatten().filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, entry.path().canonicalize().ok()?))
        }));
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    match names[..] {
        [] => Err(format!(
            "{}: no modules below lib/modules",
            kernel.display()
        )),
        [_] => found.pop_first().ok_or_else(String::new),
        _ => Err(format!(
            "{}: modules of several kernels, {}: a folder with one is needed",
            kernel.display(),
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_modules_are_found_where_they_may_be_and_are_of_one_kernel() {
        let kernel = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        assert!(modules(&kernel).unwrap_err().contains("no modules"));
        for folder in ["lib/modules", "usr/lib/modules"] {
            let folder = kernel.join(folder);
            fs::create_dir_all(folder.join("6.1.0")).unwrap();
            let found = folder.join("6.1.0").canonicalize().unwrap();
            assert_eq!(modules(&kernel).unwrap(), ("6.1.0".to_owned(), found));
            fs::remove_dir(folder.join("6.1.0")).unwrap();
        }
        // As on a machine whose `lib` is a link.
        fs::remove_dir_all(kernel.join("lib")).unwrap();
        std::os::unix::fs::symlink("usr/lib", kernel.join("lib")).unwrap();
        fs::create_dir_all(kernel.join("lib/modules/6.1.0")).unwrap();
        assert_eq!(modules(&kernel).unwrap().0, "6.1.0");
        fs::create_dir_all(kernel.join("lib/modules/6.12.0")).unwrap();
        let text = modules(&kernel).unwrap_err();
        assert!(text.contains("6.1.0, 6.12.0"), "{text}");
        fs::remove_dir_all(&kernel).unwrap();
    }
}
