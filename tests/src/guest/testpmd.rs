//! DPDK's testpmd at its prompt.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::host::{Ended, Job};
use crate::stack::{self, Column};

/// How long one may run, on a busy machine that emulates the processor.
const LIMIT: Duration = Duration::from_secs(120);
const PROMPT: &str = "testpmd> ";

/// A running testpmd that waits for commands.
pub struct Testpmd {
    job: Job,
    /// Bytes of its output that were read.
    read: usize,
    libraries: Vec<String>,
}

impl Testpmd {
    /// Starts it with words for EAL and for itself, on a terminal for what it writes, and asserts that it
    /// stands on Debian's driver in C, libmana and libibverbs.
    ///
    /// # Panics
    ///
    /// If it does not come to its prompt, or stands on others.
    #[must_use]
    #[track_caller]
    pub fn start(eal: &str, app: &str) -> Self {
        let mut command = Command::new("dpdk-testpmd");
        command.args(eal.split_whitespace()).args(["--", "-i"]);
        command.args(app.split_whitespace());
        let mut testpmd = Self {
            job: Job::start_on_terminal(&mut command, LIMIT),
            read: 0,
            libraries: Vec::new(),
        };
        let _start = testpmd.answer("its prompt");
        let mapped = stack::mapped(testpmd.job.id());
        let wanted = Column::DpdkRdmaCore56.libraries();
        assert!(stack::are_of(&mapped, Path::new("/"), wanted), "{mapped:?}");
        testpmd.libraries = names(mapped.iter(), wanted);
        testpmd
    }

    /// File names of the driver, libmana and libibverbs that it has mapped.
    #[must_use]
    pub fn libraries(&self) -> &[String] {
        &self.libraries
    }

    /// Types a line and returns what is written up to the next prompt, the line itself included.
    ///
    /// # Panics
    ///
    /// If it ends instead, or runs out of time.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.job.write(format!("{line}\n").as_bytes());
        self.answer(line)
    }

    /// Waits until it has written this since its last answer, without being asked.
    ///
    /// # Panics
    ///
    /// As [`Testpmd::ask`].
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let read = self.read;
        self.job
            .wait_until(text, |job| job.stdout()[read..].contains(text));
    }

    /// What it has written so far.
    #[must_use]
    pub fn written(&self) -> String {
        self.job.stdout()
    }

    /// Lets it quit.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn quit(mut self) -> Ended {
        self.job.write(b"quit\n");
        self.job.end()
    }

    #[track_caller]
    fn answer(&mut self, what: &str) -> String {
        let read = self.read;
        let mut answer = String::new();
        self.job.wait_until(what, |job| {
            let text = job.stdout();
            let end = text[read..].find(PROMPT);
            answer = end.map_or(String::new(), |end| text[read..read + end].to_owned());
            end.is_some()
        });
        self.read += answer.len() + PROMPT.len();
        answer.replace('\r', "")
    }
}

/// Names of those files that begin with one of `wanted`, in that order.
fn names<'a>(files: impl Iterator<Item = &'a PathBuf> + Clone, wanted: &[&str]) -> Vec<String> {
    let named = |file: &PathBuf| Some(file.file_name()?.to_string_lossy().into_owned());
    wanted
        .iter()
        .filter_map(|start| {
            let mut names = files.clone().filter_map(named);
            names.find(|name| name.starts_with(start))
        })
        .collect()
}
