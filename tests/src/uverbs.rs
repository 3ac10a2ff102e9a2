//! A C program on the preloaded model that knows the kernel's ABI and nothing else.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::skip;

/// The program `tests/programs/uverbs.c`, and the `mana` that runs it.
pub struct Uverbs {
    folder: TempDir,
    mana: PathBuf,
}

impl Uverbs {
    /// Compiles the program; `None` after reporting that `test` is skipped, where there is no model to
    /// run it on or no C compiler with its headers.
    ///
    /// # Panics
    ///
    /// Where no temporary folder can be made.
    #[must_use]
    pub fn build(test: &str) -> Option<Self> {
        let Some(mana) = env::var_os("MANA_BIN").filter(|_| env::var_os("MANA_PRELOAD").is_some())
        else {
            skip(
                test,
                "MANA_BIN and MANA_PRELOAD are not set: `cargo xtask test --tier stack`",
            );
            return None;
        };
        let house = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let compiled = Command::new("cc")
            .args(["-O2", "-o"])
            .arg(folder.path().join("uverbs"))
            .arg("-I")
            .arg(house.join("../crates/mana-model-preload"))
            .arg(house.join("programs/uverbs.c"))
            .args(["-lpthread", "-ldl"])
            .output();
        match compiled {
            Ok(output) if output.status.success() => Some(Self {
                folder,
                mana: mana.into(),
            }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
                skip(test, &format!("cc can't compile uverbs.c: {why}"));
                None
            }
            Err(error) => {
                skip(test, &format!("there is no cc: {error}"));
                None
            }
        }
    }

    /// The program's path.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.path().join("uverbs")
    }

    /// A path in the folder of this test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `mana` with these words.
    #[must_use]
    pub fn mana(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.mana);
        command.args(words);
        command
    }

    /// `mana model exec` of the program: options, then the program's arguments, a blank between.
    #[must_use]
    pub fn exec(&self, options: &str, arguments: &str) -> Command {
        let mut command = self.mana(&["model", "exec"]);
        command.args(options.split_whitespace());
        command.arg("--").arg(self.program());
        command.args(arguments.split_whitespace());
        command
    }

    /// Runs [`Uverbs::exec`] to its end.
    ///
    /// # Panics
    ///
    /// Where it can't be started.
    #[must_use]
    pub fn run(&self, options: &str, arguments: &str) -> Ran {
        Ran::of(&mut self.exec(options, arguments))
    }
}

/// What a program left.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// Where it can't be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("the program starts");
        Self {
            code: status.code(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}
