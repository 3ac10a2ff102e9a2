//! The private folder of a run: the model's sysfs and what is found.
//!
//! It is gone when the run ends. A run that was killed leaves it; the next one that uses the same
//! TMPDIR removes it, unless the program it was made for still runs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use mana_model::Model;
use mana_model::sysfs::{Sysfs, SysfsError};
use rustix::process::geteuid;
use uverbs_abi::Mac;

use super::error::Error;

/// How the names of these folders begin.
const PREFIX: &str = "mana-model-";
/// Folders of one process id before it is no use to try on.
const TRIES: u32 = 100;

/// A private folder: `sys` with the tree, `reports` for what is found. Gone when dropped.
pub struct Tree {
    folder: PathBuf,
    /// Locked as long as the run lasts.
    _lock: File,
}

impl Tree {
    /// Writes the tree of `model`; `names` are names of netdevs that differ from the model's.
    pub fn write(model: &Model, names: &[(Mac, String)]) -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        // Without links, so that what is told to the program is what it will see.
        let parent = parent
            .canonicalize()
            .map_err(|cause| failed(&parent, cause))?;
        sweep(&parent);
        let tree = Self::private(&parent)?;
        let reports = tree.reports();
        fs::create_dir(&reports).map_err(|cause| failed(&reports, cause))?;
        Sysfs::write(&tree.sysfs(), model, names)
            .map_err(|SysfsError { path, cause }| Error::Tree { path, cause })?;
        Ok(tree)
    }

    /// A new folder that only this user can enter.
    fn private(parent: &Path) -> Result<Self, Error> {
        let process = std::process::id();
        for number in 0..TRIES {
            let folder = parent.join(format!("{PREFIX}{process}-{number}"));
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(&folder, error)),
            }
            // Another run may have taken it for one that was left behind.
            let Ok(lock) = File::open(&folder) else {
                continue;
            };
            // Where folders can't be locked nobody takes it for such.
            let _unlockable = lock.lock();
            if folder.is_dir() {
                return Ok(Self {
                    folder,
                    _lock: lock,
                });
            }
        }
        let cause = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(failed(&parent.join(PREFIX), cause))
    }

    /// Itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What SYSFS_PATH shall name.
    pub fn sysfs(&self) -> PathBuf {
        sysfs(&self.folder)
    }

    /// What SYSFS_PCI_DEVICES shall name.
    pub fn pci_devices(&self) -> PathBuf {
        self.sysfs().join("bus/pci/devices")
    }

    /// Where processes leave their findings.
    pub fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    /// What the processes found, in the order of their ids: each leaves a finding as the target of a
    /// link.
    pub fn findings(&self) -> Vec<String> {
        let entries = fs::read_dir(self.reports()).into_iter().flatten().flatten();
        let mut links: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        links.retain(|link| *link != self.loaded());
        links.sort();
        let texts = links.iter().filter_map(|link| fs::read_link(link).ok());
        texts.map(|text| text.display().to_string()).collect()
    }

    /// Whether the library was loaded into any process: it says so by a link there.
    pub fn was_loaded(&self) -> bool {
        self.loaded().is_symlink()
    }

    fn loaded(&self) -> PathBuf {
        self.reports().join("loaded")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            super::say(format_args!(
                "mana model: {} stays: {error}",
                self.folder.display()
            ));
        }
    }
}

fn sysfs(folder: &Path) -> PathBuf {
    folder.join("sys")
}

/// Removes what runs of this user left behind that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry
                .metadata()
                .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw());
        if !is_one {
            continue;
        }
        let folder = entry.path();
        // Locked while its run lasts.
        let lock = File::open(&folder)
            .ok()
            .filter(|file| file.try_lock().is_ok());
        if lock.is_some() && !is_used(&folder) {
            // Another run may be doing the same.
            let _gone = fs::remove_dir_all(&folder);
        }
    }
}

/// Whether a program still runs that was started on this folder.
fn is_used(folder: &Path) -> bool {
    let told = [b"SYSFS_PATH=", sysfs(folder).as_os_str().as_encoded_bytes()].concat();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("environ")).ok())
        .any(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|word| word == told)
        })
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::Tree {
        path: path.to_owned(),
        cause,
    }
}
