//! A testpmd on the model, from its start to its last words.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Column, Stack, Stats, maps};
use crate::host::{Ended, Job};

/// How long one may run.
const LIMIT: Duration = Duration::from_secs(180);
/// Seconds after which ours stops by itself, should the test not be there any more.
const OURS_STOPS: u32 = 180;
/// Rules that the driver in C is known to break, by what the model says: it never rings a CQ's doorbell
/// (reference/mana-hardware.md §8 no. 14), and has the device compute a UDP checksum with the offset of the
/// header that its stack held (no. 4).
const KNOWN: [&str; 2] = [
    "no CQ doorbell for 8 laps",
    "offload request does not fit the packet",
];

/// Whether the driver in C is known to break the rule of a finding.
#[must_use]
pub fn is_known_of_the_driver_in_c(finding: &str) -> bool {
    KNOWN.iter().any(|text| finding.contains(text))
}

/// What `mana model exec` writes before them.
const FINDINGS: &str = "finding(s):\n";

/// A running testpmd.
pub struct Session {
    job: Job,
    column: Column,
    folder: TempDir,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The testpmd.
    pub column: Column,
    /// Exit code and output.
    pub ended: Ended,
    /// What the model found.
    pub findings: Vec<String>,
}

impl Session {
    /// Starts a column's testpmd on a model (`model0,…`), with the words before and after `--`.
    /// `DEVICE` in them stands for the first device, as an argument.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    #[track_caller]
    pub fn start(stack: &Stack, column: Column, model: &str, eal: &str, app: &str) -> Self {
        let options = [format!("--vdev={model}")];
        Self::start_with(stack, column, &options, eal, app)
    }

    /// As [`Session::start`], with any options of `mana model exec`.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    #[track_caller]
    pub fn start_with(
        stack: &Stack,
        column: Column,
        options: &[String],
        eal: &str,
        app: &str,
    ) -> Self {
        let words = stack.testpmd(column);
        Self::launch(stack, column, options, words, [eal, app], Job::start)
    }

    /// As [`Session::start`], with a terminal for what it writes: see [`Job::start_on_terminal`].
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    #[track_caller]
    pub fn on_terminal(stack: &Stack, column: Column, model: &str, eal: &str, app: &str) -> Self {
        let options = [format!("--vdev={model}")];
        let words = stack.testpmd(column);
        let start = Job::start_on_terminal;
        Self::launch(stack, column, &options, words, [eal, app], start)
    }

    /// Ours over a tree's libraries, as [`Session::on_terminal`], with any options of
    /// `mana model exec` and `object` preloaded behind the model.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    #[track_caller]
    pub fn preloading(
        stack: &Stack,
        column: Column,
        options: &[String],
        eal: &str,
        app: &str,
        object: &Path,
    ) -> Self {
        let words = stack.testpmd_preloading(column, object);
        let start = Job::start_on_terminal;
        Self::launch(stack, column, options, words, [eal, app], start)
    }

    #[track_caller]
    fn launch(
        stack: &Stack,
        column: Column,
        options: &[String],
        mut words: Vec<OsString>,
        [eal, app]: [&str; 2],
        start: fn(&mut Command, Duration) -> Job,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let device = format!("-a 7870:00:00.0{}", column.provider());
        let eal = eal.replace("DEVICE", &device);
        let stop = match column.is_ours() {
            true => format!(" --duration {OURS_STOPS}"),
            false => String::new(),
        };
        let line = format!("-l 0-1 {eal} -- {app}{stop}");
        words.extend(line.split_whitespace().map(Into::into));
        let mut command = stack.exec(options, &words, folder.path());
        Self {
            job: start(&mut command, LIMIT),
            column,
            folder,
        }
    }

    /// The process id of `mana model exec`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.job.id()
    }

    /// Its folder of temporary files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until the libraries that it should stand on are mapped, and asserts that no others are.
    ///
    /// # Panics
    ///
    /// If it does not get there, or stands on others.
    #[must_use]
    #[track_caller]
    pub fn on_its_libraries(mut self, stack: &Stack) -> Self {
        let root = match self.column {
            Column::OursRdmaCore44 => stack.rdma_core_44.root(),
            _ => stack.dpdk.root(),
        };
        let libraries = self.column.libraries();
        self.job.wait_until("libraries", |job| {
            let mapped = maps::only_child(job.id()).map(maps::mapped);
            mapped.is_some_and(|mapped| maps::are_of(&mapped, &root, libraries))
        });
        self
    }

    /// What it has written on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.job.stdout()
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.job.has_ended()
    }

    /// Types a line, for one with a prompt.
    pub fn type_line(&mut self, line: &str) {
        self.job.write(format!("{line}\n").as_bytes());
    }

    /// Waits until `done` holds of what it has written on standard output.
    ///
    /// # Panics
    ///
    /// If it ends before, or runs out of time.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        self.job.wait_until(what, |job| done(&job.stdout()));
    }

    /// Waits as long as `busy` holds, of whatever the test looks at.
    ///
    /// # Panics
    ///
    /// If it ends before, or runs out of time.
    #[track_caller]
    pub fn wait_while(&mut self, what: &str, mut busy: impl FnMut() -> bool) {
        self.job.wait_until(what, |_| !busy());
    }

    /// Stops forwarding as its user would, by Enter or Ctrl-C, and waits for the end.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    #[must_use]
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        let ended = if self.column.is_ours() {
            self.job.interrupt()
        } else {
            self.type_line("");
            self.job.end()
        };
        Outcome::of(self.column, ended)
    }

    /// Ends it by Ctrl-C.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    #[must_use]
    #[track_caller]
    pub fn interrupt(self) -> Outcome {
        Outcome::of(self.column, self.job.interrupt())
    }

    /// Waits for an end that comes by itself.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn end(self) -> Outcome {
        Outcome::of(self.column, self.job.end())
    }
}

impl Outcome {
    pub(super) fn of(column: Column, ended: Ended) -> Self {
        let on_terminal = ended.stdout.rsplit_once(FINDINGS);
        let findings = match ended.stderr.rsplit_once(FINDINGS).or(on_terminal) {
            Some((_, lines)) => lines.lines().map(|line| line.trim().to_owned()).collect(),
            None => Vec::new(),
        };
        Self {
            column,
            ended,
            findings,
        }
    }

    /// Asserts that it ended well and broke no rule of the hardware, but for the two that the driver
    /// in C always breaks; returns what it counted.
    ///
    /// # Panics
    ///
    /// With all that it wrote, if not.
    #[track_caller]
    pub fn clean(&self) -> Stats {
        self.assert_clean();
        self.stats()
    }

    /// The same of one that may have counted nothing.
    ///
    /// # Panics
    ///
    /// With all that it wrote, if not.
    #[track_caller]
    pub fn assert_clean(&self) {
        let is_known =
            |finding: &String| !self.column.is_ours() && is_known_of_the_driver_in_c(finding);
        let unknown: Vec<_> = self
            .findings
            .iter()
            .filter(|text| !is_known(text))
            .collect();
        assert!(unknown.is_empty(), "{unknown:#?}\n{}", self.ended);
        let code = if self.findings.is_empty() { 0 } else { 3 };
        assert_eq!(self.ended.code, Some(code), "{}", self.ended);
    }

    /// What it counted.
    ///
    /// # Panics
    ///
    /// With all that it wrote, if it printed no statistics.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        let text = &self.ended.stdout;
        Stats::read(text).unwrap_or_else(|| panic!("no statistics: {}", self.ended))
    }
}
