//! The machine that the tier runs on: its trees and programs.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Column, Tree};
use crate::host::note;
use crate::tools::Tools;

/// What builds and fetches what the tests need.
const COMMAND: &str = "`cargo xtask test --tier stack` builds, fetches and sets it";
/// Enters a user namespace as somebody without any privilege outside, who yet may read what the
/// user who runs the tests may.
const ORDINARY: &str = "unshare --user --map-user=65534 --map-group=65534 --";

/// Trees and programs.
pub struct Stack {
    tools: Tools,
    mana: PathBuf,
    preload: PathBuf,
    /// DPDK, rdma-core 56.
    pub dpdk: Tree,
    /// rdma-core 44.
    pub rdma_core_44: Tree,
}

impl Stack {
    /// The machine, or none where `test` can't run; then it is reported as skipped.
    ///
    /// # Panics
    ///
    /// If the programs are not there: that is no property of the machine.
    #[must_use]
    pub fn or_skip(test: &str) -> Option<Self> {
        match Self::new() {
            Ok(stack) => Some(stack),
            Err(reason) => {
                crate::skip(test, &reason);
                None
            }
        }
    }

    fn new() -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("`mana model exec` runs on x86-64 Linux only".to_owned());
        }
        if let Ok(reason) = env::var("MANA_STACK_SKIP") {
            return Err(reason);
        }
        Ok(Self {
            tools: Tools::in_tree(&variable("MANA_HOST_TOOLS")),
            mana: variable("MANA_BIN"),
            preload: variable("MANA_PRELOAD"),
            dpdk: Tree::at(&variable("MANA_DPDK_TREE")),
            rdma_core_44: Tree::at(&variable("MANA_RDMA_CORE_44_TREE")),
        })
    }

    /// The programs beside the trees, tcpdump among them.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Our program.
    #[must_use]
    pub fn mana(&self) -> &Path {
        &self.mana
    }

    /// `mana model exec OPTIONS -- WORDS`, of an ordinary user, with nothing of this process's
    /// environment. Temporary files, DPDK's among them, go to `folder`.
    #[must_use]
    pub fn exec(&self, options: &[String], words: &[OsString], folder: &Path) -> Command {
        let mut all = Vec::new();
        if rustix::process::geteuid().is_root() && self.has_namespaces() {
            all.extend(self.tools.words(ORDINARY));
        }
        all.extend([self.mana.clone().into(), "model".into(), "exec".into()]);
        all.extend(options.iter().map(OsString::from));
        all.push("--".into());
        all.extend_from_slice(words);
        let mut command = self.tools.bound(&all);
        command
            .env("MANA_PRELOAD", &self.preload)
            .env("XDG_RUNTIME_DIR", folder)
            .env("TMPDIR", folder);
        command
    }

    /// The words that start a column's testpmd, up to its arguments.
    #[must_use]
    pub fn testpmd(&self, column: Column) -> Vec<OsString> {
        let mut words = match column {
            Column::DpdkRdmaCore56 => {
                let mut words = self.dpdk.testpmd();
                words.extend(["-m", "256", "--no-telemetry"].map(OsString::from));
                words.push("--no-huge".into());
                return words;
            }
            Column::OursUverbs => vec![self.mana.clone().into()],
            Column::OursRdmaCore56 => self.dpdk.foreign(&self.mana),
            Column::OursRdmaCore44 => self.rdma_core_44.foreign(&self.mana),
        };
        words.extend(["testpmd", "--no-huge"].map(OsString::from));
        words
    }

    /// The same for ours over a tree's libraries, with an object that is preloaded behind the model.
    ///
    /// # Panics
    ///
    /// For a column that is none of those.
    #[must_use]
    pub(super) fn testpmd_preloading(&self, column: Column, object: &Path) -> Vec<OsString> {
        let tree = match column {
            Column::OursRdmaCore56 => &self.dpdk,
            Column::OursRdmaCore44 => &self.rdma_core_44,
            other => panic!("{} has no tree's loader", other.name()),
        };
        let mut words = tree.foreign(&self.mana);
        let program = words.len() - 1;
        words.splice(program..program, ["--preload".into(), object.into()]);
        words.extend(["testpmd", "--no-huge"].map(OsString::from));
        words
    }

    /// Whether root can become an ordinary user here. Said once where it can't.
    fn has_namespaces(&self) -> bool {
        static ANSWER: OnceLock<bool> = OnceLock::new();
        *ANSWER.get_or_init(|| {
            let line = format!("{ORDINARY} /bin/true");
            let output = self.tools.command(&line).output();
            let can = output.is_ok_and(|output| output.status.success());
            if !can {
                note("stack: the programs ran as root: no user namespaces here");
            }
            can
        })
    }
}

pub(super) fn variable(name: &str) -> PathBuf {
    env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set; {COMMAND}"))
        .into()
}
