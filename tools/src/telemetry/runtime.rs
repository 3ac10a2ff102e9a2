//! DPDK's runtime folder.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The folder of a `--file-prefix`, where dpdk-telemetry.py looks for it, made if need be.
///
/// # Errors
///
/// If it can't be made, or belongs to somebody else, as it might in `/tmp`.
pub fn folder(prefix: &str) -> io::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("RUNTIME_DIRECTORY").unwrap_or_else(|| match geteuid().is_root() {
        true => "/var/run".into(),
        false => set("XDG_RUNTIME_DIR").unwrap_or_else(|| "/tmp".into()),
    });
    below(Path::new(&base), prefix)
}

fn below(base: &Path, prefix: &str) -> io::Result<PathBuf> {
    let failed =
        |path: &Path, cause: &str| io::Error::other(format!("{}: {cause}", path.display()));
    let shared = base.join("dpdk");
    let folder = shared.join(prefix);
    for path in [&shared, &folder] {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(path, &error.to_string()));
            }
            _ => {}
        }
    }
    let found = fs::symlink_metadata(&folder)?;
    match found.is_dir() && found.uid() == geteuid().as_raw() {
        true => Ok(folder),
        false => Err(failed(
            &folder,
            "it is no folder of this user; use --file-prefix",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_its_users_alone_and_no_link() {
        let base = tempfile::tempdir().unwrap();
        let folder = below(base.path(), "x").unwrap();
        assert_eq!(folder, base.path().join("dpdk/x"));
        assert_eq!(below(base.path(), "x").unwrap(), folder, "again");
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::os::unix::fs::symlink(&folder, base.path().join("dpdk/y")).unwrap();
        assert!(below(base.path(), "y").is_err());
        assert!(below(&base.path().join("missing"), "x").is_err());
    }
}
