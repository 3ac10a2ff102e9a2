//! An unpacked tree of Debian whose programs run on the model, by the tree's own dynamic loader.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::tools::Tools;

/// Where DPDK's drivers are, under a folder of libraries.
const DRIVERS: &str = "dpdk/pmds-25.0";
/// libmana registers itself with libibverbs when it is loaded, so neither `/etc/libibverbs.d` nor
/// the folder of providers, both absolute paths of the machine, is needed
/// (reference/uverbs-boundary.md §1).
const PROVIDER: &str = "libmana.so.1";
/// What the linked-in drivers of testpmd lack: the driver itself, which pulls libmana in, and the
/// kind of mempool it asks for.
const DPDK: &str = "librte_net_mana.so.25 librte_mempool_ring.so.25";

/// One tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    tools: Tools,
}

impl Tree {
    /// The tree at `root`.
    ///
    /// # Panics
    ///
    /// If there is no dynamic loader in it.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            tools: Tools::in_tree(root),
        }
    }

    /// Where it is, without links: as it stands in `/proc/PID/maps`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let root = self.root.canonicalize();
        root.unwrap_or_else(|error| panic!("{}: {error}", self.root.display()))
    }

    /// The folder with the library `name`.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn folder_of(&self, name: &str) -> PathBuf {
        let folders = self.tools.folders();
        let found = folders.iter().find(|folder| folder.join(name).is_file());
        let found = found.cloned();
        found.unwrap_or_else(|| panic!("no {name} under {}", self.root.display()))
    }

    /// The file of a provider of libibverbs.
    #[must_use]
    pub fn provider(&self, name: &str) -> PathBuf {
        self.folder_of("libibverbs.so.1")
            .join("libibverbs")
            .join(name)
    }

    /// The words that start one of its programs of rdma-core.
    #[must_use]
    pub fn verbs_program(&self, name: &str) -> Vec<OsString> {
        self.start(None, PROVIDER, &self.tools.path(name))
    }

    /// The words that start DPDK's testpmd.
    #[must_use]
    pub fn testpmd(&self) -> Vec<OsString> {
        self.with_dpdk(&self.tools.path("dpdk-testpmd"))
    }

    /// The words that start any program linked against the tree's DPDK.
    #[must_use]
    pub fn with_dpdk(&self, program: &Path) -> Vec<OsString> {
        let drivers = self.folder_of("librte_eal.so.25").join(DRIVERS);
        self.start(Some(&drivers), DPDK, program)
    }

    /// The words that start any program over the tree's libraries, none of them preloaded.
    #[must_use]
    pub fn foreign(&self, program: &Path) -> Vec<OsString> {
        let mut words = self.tools.loader().to_vec();
        words.push(program.into());
        words
    }

    fn start(&self, more: Option<&Path>, preload: &str, program: &Path) -> Vec<OsString> {
        let mut words = self.tools.loader().to_vec();
        if let (Some(more), Some(paths)) = (more, words.last_mut()) {
            paths.push(":");
            paths.push(more);
        }
        words.extend(["--preload".into(), preload.into(), program.into()]);
        words
    }
}
