//! The files of a machine: of this one, or of one whose files lie below a folder.
//!
//! Nothing is believed to be there or to be readable, and nothing that is read is longer than
//! [`MAX_BYTES`]. Links are followed within the tree: one that leads to `/usr/lib` leads to that
//! folder below the root.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// What is read of a file at most, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;
/// What a preloaded model has a sysfs of; the rest is the machine's own.
const DEVICES: [&str; 4] = ["class/infiniband", "class/net", "bus/pci", "devices/pci"];
/// Links that lead from one to the next, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a look at a file told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// This.
    Is(T),
    /// It is not there.
    Absent,
    /// It is there, or may be, but can't be read or understood; why.
    Unclear(String),
}

impl<T> Seen<T> {
    /// What is there, if it could be read.
    pub fn ok(self) -> Option<T> {
        match self {
            Seen::Is(value) => Some(value),
            _ => None,
        }
    }

    /// Understands what was read.
    pub fn parse<U>(self, path: &str, value: impl FnOnce(&T) -> Option<U>) -> Seen<U>
    where
        T: std::fmt::Debug,
    {
        match self {
            Seen::Is(text) => match value(&text) {
                Some(value) => Seen::Is(value),
                None => {
                    let shown: String = format!("{text:?}").chars().take(60).collect();
                    Seen::Unclear(format!("{path} reads {shown}"))
                }
            },
            Seen::Absent => Seen::Absent,
            Seen::Unclear(why) => Seen::Unclear(why),
        }
    }
}

/// Owner and rights of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// A machine's files.
pub struct Tree {
    root: PathBuf,
    /// Where `/sys` is, for this machine only: a preloaded device model names another place.
    sys: Option<PathBuf>,
}

impl Tree {
    /// This machine. SYSFS_PATH names another place for `/sys`, as for the driver and libibverbs.
    pub fn live() -> Self {
        let named = std::env::var_os("SYSFS_PATH").map(PathBuf::from);
        Self {
            root: PathBuf::from("/"),
            sys: named.filter(|path| path.is_absolute()),
        }
    }

    /// The machine whose files lie below `root`.
    pub fn below(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        if !root.is_dir() {
            return Err(io::Error::from(ErrorKind::NotADirectory));
        }
        Ok(Self { root, sys: None })
    }

    /// Whether these are the files of this machine.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where the file of the machine's `path` is, without following links.
    pub fn place(&self, path: &str) -> PathBuf {
        if let (Some(sys), Some(rest)) = (&self.sys, path.strip_prefix("/sys/"))
            && DEVICES.iter().any(|folder| rest.starts_with(folder))
        {
            return sys.join(rest);
        }
        self.root.join(path.trim_start_matches('/'))
    }

    /// The same with all links followed, none of which leads out of the tree.
    pub fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        if self.root == Path::new("/") {
            return Ok(self.place(path));
        }
        let mut at = self.root.clone();
        let mut rest: Vec<String> = parts(Path::new(path));
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                if at != self.root {
                    at.pop();
                }
                continue;
            }
            let next = at.join(&part);
            match fs::read_link(&next) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::other("too many links"));
                    }
                    if target.is_absolute() {
                        at.clone_from(&self.root);
                    }
                    rest.extend(parts(&target));
                }
                Err(_) => at = next,
            }
        }
        Ok(at)
    }

    /// A file's text without the white space around it.
    pub fn read(&self, path: &str) -> Seen<String> {
        let mut bytes = Vec::new();
        let result = self.resolve(path).and_then(|place| {
            let file = File::open(&place)?;
            // Sockets and devices are no files to be read; a pipe would never end.
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("not a plain file"));
            }
            file.take(MAX_BYTES).read_to_end(&mut bytes)
        });
        match result {
            Ok(_) => Seen::Is(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) => unless_absent(path, &error),
        }
    }

    /// A number in a file, in decimal.
    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Seen<N> {
        self.read(path).parse(path, |text| text.parse().ok())
    }

    /// A number in a file, in hexadecimal with `0x`.
    pub fn hex(&self, path: &str) -> Seen<u32> {
        self.read(path).parse(path, |text| {
            u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        })
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: &str) -> Seen<Vec<String>> {
        let result = self.resolve(path).and_then(|place| {
            let mut names = Vec::new();
            for entry in fs::read_dir(place)?.take(MAX_ENTRIES) {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        });
        match result {
            Ok(names) => Seen::Is(names),
            Err(error) => unless_absent(path, &error),
        }
    }

    /// The last part of where a link leads: the name of a driver, a bus, a device.
    pub fn link(&self, path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/')?;
        let target = fs::read_link(self.resolve(folder).ok()?.join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether there is such a file or folder.
    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|place| place.exists())
    }

    /// Owner and rights of a file.
    pub fn rights(&self, path: &str) -> Seen<Rights> {
        match self.resolve(path).and_then(fs::metadata) {
            Ok(data) => Seen::Is(Rights {
                uid: data.uid(),
                gid: data.gid(),
                mode: data.mode() & 0o7777,
            }),
            Err(error) => unless_absent(path, &error),
        }
    }

    /// Where a link to a library leads in the end, as a path of the machine.
    pub fn real(&self, path: &str) -> Option<String> {
        let place = self.resolve(path).ok()?;
        let place = fs::canonicalize(place).ok()?;
        let inside = place.strip_prefix(&self.root).ok()?;
        Some(format!("/{}", inside.display()))
    }
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<String> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::ParentDir => Some("..".to_owned()),
        _ => None,
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts
}

/// sysfs answers `ENODEV` to who reads an attribute of a device that goes, and `EINVAL` to who asks
/// an interface that is DOWN for its carrier.
fn unless_absent<T>(path: &str, error: &io::Error) -> Seen<T> {
    let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    match error.raw_os_error() {
        Some(19 | 22) => Seen::Absent,
        _ if gone => Seen::Absent,
        _ => Seen::Unclear(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere_outside_of_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        fs::write(root.join("inside"), "inside\n").unwrap();
        symlink("/inside", root.join("etc/absolute")).unwrap();
        symlink("../../secret", root.join("etc/climbs")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        let tree = Tree::below(&root).unwrap();
        assert_eq!(tree.read("/etc/absolute"), Seen::Is("inside".to_owned()));
        assert_eq!(tree.read("/etc/climbs"), Seen::Absent);
        assert!(matches!(tree.read("/etc/loop"), Seen::Unclear(_)));
        assert!(matches!(tree.read("/etc"), Seen::Unclear(_)));
        assert_eq!(tree.read("/nothing"), Seen::Absent);
    }

    #[test]
    fn what_is_no_number_is_unclear() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("n"), "12 pages\n").unwrap();
        let tree = Tree::below(folder.path()).unwrap();
        let number = tree.number::<u64>("/n");
        assert_eq!(number, Seen::Unclear("/n reads \"12 pages\"".to_owned()));
        assert_eq!(tree.number::<u64>("/m"), Seen::Absent);
    }
}
