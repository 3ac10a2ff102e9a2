//! What a program has mapped: the proof of which libraries it runs on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The program that `mana model exec` with the process id `parent` has started; none as long as it
/// has not.
#[must_use]
pub fn only_child(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    children.ok()?.trim().parse().ok()
}

/// The files that the process has mapped; none of one that has ended.
#[must_use]
pub fn mapped(process: u32) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    // Five fields before the name, proc(5); names here hold no spaces.
    text.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|name| name.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// Whether the first thread of the process sleeps, as proc(5) tells it: the letter behind the name.
#[must_use]
pub(super) fn is_asleep(process: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// Whether all these libraries, by the beginning of their file names, are mapped.
///
/// # Panics
///
/// If one of that stem is mapped that is not the one under `root`.
#[track_caller]
pub(crate) fn are_of(mapped: &BTreeSet<PathBuf>, root: &Path, libraries: &[&str]) -> bool {
    libraries.iter().all(|library| {
        let stem = library.split(".so").next().unwrap_or(library);
        let mut found = mapped
            .iter()
            .filter(|path| named(path).starts_with(&format!("{stem}.so")))
            .peekable();
        found.peek().is_some()
            && found.all(|path| {
                let right = path.starts_with(root) && named(path).starts_with(library);
                assert!(right, "{} instead of {library}", path.display());
                right
            })
    })
}

fn named(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
