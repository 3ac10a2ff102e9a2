//! Programs of Debian from an unpacked tree, run by the tree's own dynamic loader with the tree's
//! libraries: the same whatever the machine has installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packages put programs and libraries.
const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARIES: [&str; 2] = ["lib", "usr/lib"];

/// An unpacked tree.
#[derive(Debug, Clone)]
pub struct Tools {
    tree: PathBuf,
    /// Where its libraries are.
    folders: Vec<PathBuf>,
    /// The dynamic loader and its arguments up to the program.
    loader: Vec<OsString>,
}

impl Tools {
    /// The programs under `tree`.
    ///
    /// # Panics
    ///
    /// If there is no dynamic loader in it.
    #[must_use]
    pub fn in_tree(tree: &Path) -> Self {
        let folders: Vec<PathBuf> = LIBRARIES
            .iter()
            .flat_map(|folder| children(&tree.join(folder)))
            .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
            .collect();
        let loader = folders
            .iter()
            .flat_map(|folder| children(folder))
            .find(|path| named(path).starts_with("ld-linux") && path.is_file())
            .unwrap_or_else(|| panic!("no dynamic loader under {}", tree.display()));
        let paths: Vec<_> = folders.iter().map(|path| path.as_os_str()).collect();
        let loader = [
            loader.into_os_string(),
            "--inhibit-cache".into(),
            "--library-path".into(),
            paths.join(":".as_ref()),
        ];
        Self {
            tree: tree.to_owned(),
            loader: loader.into(),
            folders,
        }
    }

    /// The folders of its libraries.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The dynamic loader and its arguments; the last is the list of folders. A program follows.
    pub(crate) fn loader(&self) -> &[OsString] {
        &self.loader
    }

    /// The file of the program `name`.
    ///
    /// # Panics
    ///
    /// If the tree has none.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        PROGRAMS
            .iter()
            .map(|folder| self.tree.join(folder).join(name))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("no {name} under {}", self.tree.display()))
    }

    /// The words of a command line, the first of which is a program of the tree.
    ///
    /// # Panics
    ///
    /// As [`Tools::path`].
    #[must_use]
    pub fn words(&self, line: &str) -> Vec<OsString> {
        let mut words = line.split_whitespace();
        let program = self.path(words.next().expect("a program"));
        let mut all = self.loader.clone();
        all.push(program.into());
        all.extend(words.map(OsString::from));
        all
    }

    /// A command line as [`Tools::words`], which is killed when this thread ends and sees none of
    /// this process's environment.
    ///
    /// # Panics
    ///
    /// As [`Tools::path`].
    #[must_use]
    pub fn command(&self, line: &str) -> Command {
        self.bound(&self.words(line))
    }

    /// Any words as a command, likewise.
    pub(crate) fn bound(&self, words: &[OsString]) -> Command {
        let all = [&self.words("setpriv --pdeathsig KILL")[..], words].concat();
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).env_clear().env("LC_ALL", "C");
        command
    }

    /// The libraries that the loader takes for the program `name`: one `name => path (address)` or
    /// `path (address)` a line.
    ///
    /// # Panics
    ///
    /// As [`Tools::path`], and if the loader fails.
    #[must_use]
    pub fn libraries(&self, name: &str) -> String {
        let mut command = Command::new(&self.loader[0]);
        command.args(&self.loader[1..]).arg("--list");
        let output = command.arg(self.path(name)).env_clear().output();
        let output = output.expect("the loader runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn named(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
