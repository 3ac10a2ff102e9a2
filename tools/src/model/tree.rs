//! The private folder of a run: the model's sysfs and what is found.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mana_model::Model;
use mana_model::sysfs::{Sysfs, SysfsError};
use uverbs_abi::Mac;

use super::error::Error;

/// A private folder: `sys` with the tree, `reports` for what is found. Gone when dropped.
pub struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Writes the tree of `model`; `names` are names of netdevs that differ from the model's.
    pub fn write(model: &Model, names: &[(Mac, String)]) -> Result<Self, Error> {
        let tree = Self { folder: private()? };
        let reports = tree.reports();
        fs::create_dir(&reports).map_err(|cause| failed(&reports, cause))?;
        Sysfs::write(&tree.sysfs(), model, names)
            .map_err(|SysfsError { path, cause }| Error::Tree { path, cause })?;
        Ok(tree)
    }

    /// What SYSFS_PATH shall name.
    pub fn sysfs(&self) -> PathBuf {
        self.folder.join("sys")
    }

    /// What SYSFS_PCI_DEVICES shall name.
    pub fn pci_devices(&self) -> PathBuf {
        self.sysfs().join("bus/pci/devices")
    }

    /// Where processes leave their findings.
    pub fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("mana model: {} stays: {error}", self.folder.display());
        }
    }
}

/// A new folder that only this user can enter.
fn private() -> Result<PathBuf, Error> {
    let parent = std::env::temp_dir();
    let process = std::process::id();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..100 {
        let folder = parent.join(format!("mana-model-{process}-{number}"));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            // Without links, so that what is told to the program is what it will see.
            Ok(()) => {
                return folder
                    .canonicalize()
                    .map_err(|cause| failed(&folder, cause));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(failed(&folder, error)),
        }
    }
    Err(failed(&parent, last))
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::Tree {
        path: path.to_owned(),
        cause,
    }
}
