//! Where the preloaded library is.

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
