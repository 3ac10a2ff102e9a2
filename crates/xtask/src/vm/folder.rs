//! Folders of runs under `target/vm`: each has what its guest boots into while it runs, and its logs
//! afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::debian::{self, failed};

/// Runs whose logs are kept.
const KEPT: usize = 20;
/// What no log is.
const PASSING: [&str; 3] = [
    super::qemu::INITRAMFS,
    super::server::Server::SOCKET,
    super::server::Server::CONTROL,
];

/// The folder of this process's run. When it goes, only the logs stay.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, and tidies up behind runs that were killed.
    pub fn new(runs: &Path) -> Result<Self, String> {
        let folder = Self(runs.join(std::process::id().to_string()));
        debian::remove(&folder.0)?;
        fs::create_dir_all(&folder.0).map_err(|error| failed(&folder.0, &error))?;
        tidy(runs);
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Another run may do the same at the same time.
fn clear(folder: &Path) {
    for name in PASSING {
        let _gone = fs::remove_file(folder.join(name));
    }
}

/// Clears the folders of runs that are over, and removes all but the newest of them.
fn tidy(runs: &Path) {
    let mut over: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if Path::new("/proc").join(&name).exists() {
            continue;
        }
        let made = entry.metadata().and_then(|data| data.modified());
        over.push((made.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
    }
    over.sort();
    over.reverse();
    for (number, (_, path)) in over.iter().enumerate() {
        clear(path);
        if number >= KEPT {
            let _gone = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_of_runs_that_are_over_stay_and_only_the_newest() {
        let runs = std::env::temp_dir().join(format!("xtask-runs-{}", std::process::id()));
        // No process has a number this large.
        let of = |number: usize| runs.join(format!("{}", 99_000_000 + number));
        for number in 0..KEPT + 3 {
            fs::create_dir_all(of(number)).unwrap();
            fs::write(of(number).join(PASSING[0]), "").unwrap();
            fs::write(of(number).join("kernel.log"), "").unwrap();
        }
        let folder = Folder::new(&runs).unwrap();
        assert_eq!(fs::read_dir(&runs).unwrap().count(), KEPT + 1);
        let left = fs::read_dir(&runs)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path() != folder.path());
        for entry in left {
            assert!(entry.path().join("kernel.log").exists());
            assert!(!entry.path().join(PASSING[0]).exists());
        }
        fs::write(folder.path().join(PASSING[0]), "").unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(path.is_dir() && !path.join(PASSING[0]).exists());
        fs::remove_dir_all(&runs).unwrap();
    }
}
