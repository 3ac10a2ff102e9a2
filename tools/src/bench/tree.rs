//! What other people's programs and libraries are needed: found below folders, never fetched.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders deep below a root that are looked into.
const DEPTH: usize = 8;

/// The first file below `root`, by the order of names, whose name starts with `prefix`. Links count where
/// they lead to a file.
pub fn find(root: &Path, prefix: &str) -> Option<PathBuf> {
    search(root, DEPTH, &|name| name.starts_with(prefix))
}

/// The same for a whole name.
pub fn find_exactly(root: &Path, name: &str) -> Option<PathBuf> {
    search(root, DEPTH, &|other| other == name)
}

fn search(folder: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    let named = |entry: &&fs::DirEntry| {
        entry.file_name().to_str().is_some_and(wanted) && entry.path().is_file()
    };
    if let Some(entry) = entries.iter().find(named) {
        return Some(entry.path());
    }
    entries
        .iter()
        .filter(|entry| depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| search(&entry.path(), depth - 1, wanted))
}

/// An unpacked DPDK with rdma-core, and perhaps with its own libc and loader.
#[derive(Debug, Clone)]
pub struct Dpdk {
    root: PathBuf,
    /// Folders with libraries, in the order in which they are searched.
    pub folders: Vec<PathBuf>,
    loader: Option<PathBuf>,
}

impl Dpdk {
    /// What is below `root`; the reason where something is missing.
    pub fn at(root: &Path) -> Result<Self, String> {
        let root = root
            .canonicalize()
            .map_err(|error| format!("{}: {error}", root.display()))?;
        let folder = |prefix: &str| {
            let file = find(&root, prefix);
            let folder = file.and_then(|file| Some(file.parent()?.to_owned()));
            folder.ok_or_else(|| format!("no {prefix} below {}", root.display()))
        };
        let mut folders = Vec::new();
        for library in ["librte_eal.so.", "librte_net_mana.so."] {
            folders.push(folder(library)?);
        }
        // A DPDK that was built here is on the machine's rdma-core and libc.
        folders.extend(
            ["libmana.so.", "libibverbs.so.", "libc.so."]
                .map(folder)
                .into_iter()
                .flatten(),
        );
        let mut known = Vec::new();
        folders.retain(|folder| {
            let new = !known.contains(folder);
            known.push(folder.clone());
            new
        });
        Ok(Self {
            loader: find(&root, "ld-linux-x86-64.so."),
            root,
            folders,
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a library that programs link with, `librte_eal.so.25`: the shortest name, not the
    /// file with the full version.
    pub fn library(&self, name: &str) -> Result<PathBuf, String> {
        let prefix = format!("{name}.so.");
        let mut found: Vec<PathBuf> = self
            .folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix)
            })
            .collect();
        found.sort_by_key(|path| (path.file_name().map(|name| name.len()), path.clone()));
        let first = found.into_iter().next();
        first.ok_or_else(|| format!("no {name} below {}", self.root.display()))
    }

    /// The words before a program that shall run over its libraries.
    pub fn start(&self) -> Vec<OsString> {
        let paths: Vec<_> = self.folders.iter().map(|path| path.as_os_str()).collect();
        match &self.loader {
            Some(loader) => vec![
                loader.into(),
                "--inhibit-cache".into(),
                "--library-path".into(),
                paths.join(":".as_ref()),
            ],
            None => Vec::new(),
        }
    }

    /// What LD_LIBRARY_PATH must say where there is no loader of its own.
    pub fn environment(&self) -> Option<OsString> {
        let paths: Vec<_> = self.folders.iter().map(|path| path.as_os_str()).collect();
        self.loader.is_none().then(|| paths.join(":".as_ref()))
    }

    /// Whether both libraries of rdma-core are in it.
    pub fn has_rdma_core(&self) -> bool {
        self.loader.is_some()
            && self.library("libmana").is_ok()
            && self.library("libibverbs").is_ok()
    }
}

/// valgrind.
#[derive(Debug, Clone)]
pub struct Valgrind {
    pub program: PathBuf,
    /// What VALGRIND_LIB must say, where it is not installed.
    pub library: Option<PathBuf>,
}

impl Valgrind {
    /// Below `root`, or installed.
    pub fn find(root: Option<&Path>) -> Result<Self, String> {
        let unpacked = root.and_then(|root| {
            // `valgrind` itself is a script there that looks for the installed system's symbols.
            let program = find_exactly(root, "valgrind.bin")?.canonicalize().ok()?;
            let tool = find(root, "callgrind-")?.canonicalize().ok()?;
            Some(Self {
                program,
                library: Some(tool.parent()?.to_owned()),
            })
        });
        let installed = || {
            let path = std::env::var_os("PATH")?;
            let mut places = std::env::split_paths(&path).map(|folder| folder.join("valgrind"));
            Some(Self {
                program: places.find(|place| place.is_file())?,
                library: None,
            })
        };
        let found = unpacked.or_else(installed);
        found.ok_or_else(|| "no valgrind, neither in --tree nor in PATH".to_owned())
    }
}
