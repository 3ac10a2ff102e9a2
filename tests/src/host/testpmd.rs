//! `mana testpmd` as a child that forwards until it is told to stop.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use super::Host;
use crate::job::{Ended, Job};

/// How long one may run.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// A forwarding testpmd.
pub struct Testpmd {
    /// The program.
    pub job: Job,
}

/// What a testpmd said that was told to stop.
#[derive(Debug)]
pub struct Stopped {
    /// Its last line.
    pub json: String,
    /// All it wrote on standard output.
    pub stdout: String,
    /// All it wrote on standard error.
    pub stderr: String,
}

impl Host {
    /// `mana testpmd` with these words.
    #[must_use]
    pub fn testpmd(&self, line: &str) -> Command {
        self.tools.bound(&self.testpmd_words(line))
    }

    /// `mana testpmd` with these words, by way of a program of the tree that starts others.
    #[must_use]
    pub fn testpmd_by(&self, starter: &str, line: &str) -> Command {
        let words = [self.tools.words(starter), self.testpmd_words(line)].concat();
        self.tools.bound(&words)
    }

    fn testpmd_words(&self, line: &str) -> Vec<OsString> {
        let mut words = vec![self.mana.clone().into_os_string(), "testpmd".into()];
        words.extend(line.split_whitespace().map(Into::into));
        words
    }
}

impl Testpmd {
    /// Starts one with the words before and after `--`, and waits until it forwards. It uses
    /// ordinary pages: the machine need not have reserved any.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn start(host: &Host, eal: &str, app: &str) -> Self {
        let line = format!("--no-huge {eal} -- --auto-start --json {app}");
        Self::follow(Job::start(&mut host.testpmd(&line), LIMIT))
    }

    /// Waits until an already started one forwards.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn follow(mut job: Job) -> Self {
        job.wait_until("forwarding", |job| {
            job.stdout().contains("nb forwarding ports=")
        });
        Self { job }
    }

    /// Stops it with SIGINT.
    ///
    /// # Panics
    ///
    /// If it does not end with 0, a final table and its line of JSON.
    #[track_caller]
    pub fn stop(self) -> Stopped {
        Stopped::new(self.job.interrupt())
    }
}

impl Stopped {
    #[track_caller]
    fn new(ended: Ended) -> Self {
        assert_eq!(ended.code, Some(0), "{ended}");
        let table = "Accumulated forward statistics for all ports";
        assert!(ended.stdout.contains(table), "no final table: {ended}");
        let json = ended.stdout.lines().last().unwrap_or_default().to_owned();
        assert!(json.starts_with('{'), "no line of JSON: {ended}");
        let Ended { stdout, stderr, .. } = ended;
        Self {
            json,
            stdout,
            stderr,
        }
    }
}
