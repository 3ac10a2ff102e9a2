//! Trees of Debian's rdma-core, changed as a test needs them, and `mana testpmd` over them on the
//! preloaded model.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::skip;
use tempfile::TempDir;

/// An unpacked tree with libibverbs and libmana, and the program that runs over it.
pub struct Tree {
    root: PathBuf,
    loader: PathBuf,
    folders: Vec<PathBuf>,
    mana: PathBuf,
    /// What the test changes.
    pub scratch: TempDir,
}

/// Which of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The first one with a libmana.
    First,
    /// A current one.
    Current,
}

impl Release {
    pub const ALL: [Self; 2] = [Self::First, Self::Current];
}

/// How the program is run.
#[derive(Clone)]
pub struct Run<'a> {
    /// The model.
    pub model: &'a str,
    /// `provider=` of its device.
    pub provider: &'a str,
    /// Searched for libraries before the tree.
    pub first: Option<PathBuf>,
    /// Preloaded in front of the model.
    pub preload: Option<PathBuf>,
    pub environment: Vec<(&'a str, OsString)>,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self {
            model: "model0",
            provider: "rdma-core",
            first: None,
            preload: None,
            environment: Vec::new(),
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tree {
    /// The tree of a release, unless the test was skipped.
    pub fn or_skip(test: &str, release: Release) -> Option<Self> {
        let variable = match release {
            Release::First => "MANA_RDMA_CORE_44_TREE",
            Release::Current => "MANA_DPDK_TREE",
        };
        let (root, mana) = match (env::var_os(variable), env::var_os("MANA_BIN")) {
            (Some(root), Some(mana)) => (PathBuf::from(root), PathBuf::from(mana)),
            _ => {
                let reason = env::var("MANA_STACK_SKIP").unwrap_or_else(|_| {
                    format!(
                        "{variable} or MANA_BIN is not set: `cargo xtask test --tier stack` sets \
                         them"
                    )
                });
                skip(test, &reason);
                return None;
            }
        };
        let folders: Vec<PathBuf> = ["usr/lib", "lib"]
            .iter()
            .map(|folder| root.join(folder).join("x86_64-linux-gnu"))
            .filter(|folder| folder.is_dir())
            .collect();
        let loader = folders
            .iter()
            .map(|folder| folder.join("ld-linux-x86-64.so.2"))
            .find(|loader| loader.is_file());
        Some(Self {
            loader: loader.expect("the tree has its dynamic loader"),
            root,
            folders,
            mana,
            scratch: tempfile::tempdir().expect("a scratch folder"),
        })
    }

    /// The file of a library of the tree.
    pub fn library(&self, name: &str) -> PathBuf {
        let found = self.folders.iter().map(|folder| folder.join(name));
        let found = found.filter_map(|path| path.canonicalize().ok()).next();
        found.unwrap_or_else(|| panic!("no {name} in {}", self.root.display()))
    }

    /// The release in the name of a library's file.
    pub fn release_of(&self, library: &str) -> String {
        let file = self.library(library);
        let name = file.file_name().expect("a file").to_string_lossy();
        let numbers: Vec<&str> = name.split('.').collect();
        numbers[numbers.len() - 2..].join(".")
    }

    /// A folder in which `name` is the file `target`.
    pub fn folder_with(&self, name: &str, target: &Path) -> PathBuf {
        let folder = self.scratch.path().join(format!("with-{name}"));
        fs::create_dir(&folder).expect("a folder");
        symlink(target, folder.join(name)).expect("a link");
        folder
    }

    /// The source in this test's folder, compiled against the tree's headers to a shared object of
    /// that name, in a folder of its own. None, and the test skipped, without a compiler.
    pub fn compile(&self, test: &str, source: &str, name: &str) -> Option<PathBuf> {
        let folder = self.scratch.path().join(source);
        fs::create_dir(&folder).expect("a folder");
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/stack_rdma")
            .join(source);
        let object = folder.join(name);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-I"])
            .arg(self.root.join("usr/include"))
            .arg(file)
            .arg("-o")
            .arg(&object)
            .arg("-ldl");
        match cc.output() {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{cc:?}: {errors}");
                Some(object)
            }
            Err(error) => {
                skip(test, &format!("no C compiler: cc: {error}"));
                None
            }
        }
    }

    /// Runs `mana testpmd` for a moment, under the tree's loader.
    pub fn testpmd(&self, run: &Run<'_>) -> Ended {
        let mut folders: Vec<PathBuf> = run.first.iter().cloned().collect();
        folders.extend(self.folders.iter().cloned());
        let search = env::join_paths(folders).expect("paths without colons");
        let mut command = Command::new(&self.mana);
        command.args(["model", "exec", "--vdev", run.model, "--"]);
        if let Some(preload) = &run.preload {
            // The model's library puts itself before others, so the program's own start is late
            // enough for a library before that.
            command.args(["/bin/sh", "-c"]);
            command.arg(r#"LD_PRELOAD="$0:$LD_PRELOAD" exec "$@""#);
            command.arg(preload);
        }
        command.arg(&self.loader).arg("--inhibit-cache");
        command.arg("--library-path").arg(search).arg(&self.mana);
        command.args(["testpmd", "--no-huge", "-l", "0-1", "-a"]);
        command.arg(format!("7870:00:00.0,provider={}", run.provider));
        command.args([
            "--",
            "--forward-mode=io",
            "--tx-first",
            "--duration=0.2",
            "--total-num-mbufs=4096",
            "--rxd=128",
            "--txd=128",
            "--rxq=2",
            "--txq=2",
        ]);
        command.env_remove("RDMAV_DRIVERS").env_remove("LD_PRELOAD");
        command.envs(run.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Ended {
    /// The line about the port's provider.
    pub fn provider(&self) -> &str {
        let line = self
            .stdout
            .lines()
            .find(|line| line.starts_with("Port 0 provider:"));
        line.unwrap_or_else(|| panic!("no provider: {self:?}"))
    }

    /// Asserts that packets went round, nothing was found, and the provider's line begins so.
    pub fn assert_ran_over(&self, provider: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("finding"), "{self:?}");
        let line = self.provider();
        let begin = format!("Port 0 provider: {provider}");
        assert!(line.starts_with(&begin), "{line}, expected {begin}");
        let total = self.stdout.split("Accumulated").nth(1);
        let total = total.unwrap_or_else(|| panic!("no total: {self:?}"));
        let mut words = total.split_whitespace().skip_while(|w| *w != "RX-packets:");
        let received: u64 = words
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no RX-packets: {total}"));
        assert!(received > 0, "{self:?}");
    }

    /// Asserts that no port was opened, with one line on standard error that holds all of `parts`,
    /// but for one that says where there is more.
    pub fn assert_refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(!self.stdout.contains("Port 0"), "{self:?}");
        // A tree's libibverbs looks for its list of drivers where the machine would have it.
        let lines = self.stderr.lines();
        let beside = ["libibverbs: ", "mana testpmd: more of this: mana doctor "];
        let lines: Vec<&str> = lines
            .filter(|line| !beside.iter().any(|start| line.starts_with(start)))
            .collect();
        let [line] = lines[..] else {
            panic!("more or less than one line: {self:?}");
        };
        for part in parts {
            assert!(line.contains(part), "no `{part}` in {line}");
        }
    }
}

/// A path as the value of a variable.
pub fn value(path: impl AsRef<OsStr>) -> OsString {
    path.as_ref().to_owned()
}
