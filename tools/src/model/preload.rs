//! The preloaded library: where it is, and how the program's environment names it.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::program;

/// Its file name.
const NAME: &str = "libmana_model_preload.so";

/// Finds the library: the one that MANA_PRELOAD names, unless this program is setuid; else beside
/// this program, or in `../lib/mana` of its folder.
pub fn find() -> Result<PathBuf, Error> {
    let named = std::env::var_os("MANA_PRELOAD").filter(|_| !is_setuid());
    if let Some(named) = named {
        let named = PathBuf::from(named);
        return absolute(&named).ok_or_else(|| missing(&[named]));
    }
    let program = program::path().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("."));
    let places = [folder.join(NAME), folder.join("../lib/mana").join(NAME)];
    let found = places.iter().find_map(|place| absolute(place));
    found.ok_or_else(|| missing(&places))
}

/// LD_PRELOAD with the library behind whatever the user preloads already: those see the program's
/// calls, as without a model, and the model stands where the kernel is. `folder` is private to this
/// run.
pub fn list(library: &Path, folder: &Path) -> Result<OsString, Error> {
    let mut list = std::env::var_os("LD_PRELOAD").unwrap_or_default();
    if !list.is_empty() {
        list.push(":");
    }
    if can_be_preloaded(library) {
        list.push(library);
        return Ok(list);
    }
    let link = folder.join(NAME);
    if !can_be_preloaded(&link) {
        return Err(Error::Preloadable {
            library: library.to_owned(),
        });
    }
    symlink(library, &link).map_err(|cause| Error::Tree {
        path: link.clone(),
        cause,
    })?;
    list.push(link);
    Ok(list)
}

/// Whether the loader reads the path as one: blanks and colons part paths, `$` begins a word that it
/// replaces (ld.so(8)).
fn can_be_preloaded(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    !bytes
        .iter()
        .any(|byte| byte.is_ascii_whitespace() || b":$".contains(byte))
}

/// The path of a file that is there, without links: the program may change its folder.
fn absolute(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|path| path.is_file())
}

fn missing(places: &[PathBuf]) -> Error {
    let places: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    Error::NoPreload {
        name: NAME,
        looked: places.join(" or "),
    }
}

fn is_setuid() -> bool {
    rustix::process::getuid() != rustix::process::geteuid()
        || rustix::process::getgid() != rustix::process::getegid()
}
