//! The host kernel as the driver's peer: network namespaces, the programs that talk in them, and
//! `mana testpmd` between them.
//!
//! [`Host::or_skip`] begins every test: where the machine has no root, no tun device or no network
//! namespaces, the test is listed as skipped with the reason. All programs are those that
//! `cargo xtask` unpacked ([`Tools`]), never this machine's own; they run without its environment
//! and die with the thread that started them. Everything happens in namespaces of the test's own
//! ([`Namespace`]), nothing leaves the machine.

mod counters;
mod http;
mod hugepages;
mod iperf;
mod link;
mod namespace;
mod ping;
mod testpmd;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process};

pub use crate::job::{Ended, Job};
pub use crate::tools::Tools;
pub use counters::Counters;
pub use http::{File, Server, fetch};
pub use hugepages::{Hugepages, free_hugepages};
pub use iperf::{Flow, iperf};
pub use link::Link;
pub use namespace::Namespace;
pub use ping::Pinged;
pub use testpmd::{Stopped, Testpmd};

/// What builds and fetches what the tests need.
const COMMAND: &str = "`cargo xtask test --tier host` builds, fetches and sets it";

/// Counts namespaces and interfaces of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A machine that the tests can run on.
pub struct Host {
    tools: Tools,
    mana: PathBuf,
}

impl Host {
    /// The machine, or none where `test` can't run; then it is reported as skipped.
    ///
    /// # Panics
    ///
    /// If the programs are not there: that is no property of the machine.
    #[must_use]
    pub fn or_skip(test: &str) -> Option<Self> {
        match Self::new() {
            Ok(host) => Some(host),
            Err(reason) => {
                crate::skip(test, &reason);
                None
            }
        }
    }

    fn new() -> Result<Self, String> {
        if let Ok(reason) = env::var("MANA_HOST_SKIP") {
            return Err(reason);
        }
        if !rustix::process::geteuid().is_root() {
            return Err("needs root, for network namespaces and taps".to_owned());
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(|error| format!("/dev/net/tun: {error}"))?;
        let host = Self {
            tools: Tools::in_tree(&variable("MANA_HOST_TOOLS")),
            mana: variable("MANA_BIN"),
        };
        static LEFTOVERS: Once = Once::new();
        LEFTOVERS.call_once(|| host.remove_leftovers());
        Namespace::new(&host)
            .map(drop)
            .map_err(|error| format!("no network namespaces here: {error}"))?;
        Ok(host)
    }

    /// Removes the namespaces of processes that died before they could.
    pub fn remove_leftovers(&self) {
        namespace::remove_leftovers(&self.tools);
    }

    /// Runs one of the tree's programs to its end, outside of any namespace of a test.
    #[must_use]
    #[track_caller]
    pub fn run(&self, line: &str) -> Ended {
        namespace::run(&self.tools, line)
    }

    /// The programs.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The program `mana`.
    #[must_use]
    pub fn mana(&self) -> &Path {
        &self.mana
    }

    /// A namespace of its own.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::new(self).unwrap_or_else(|error| panic!("a namespace: {error}"))
    }

    /// Starts the example `name` of the driver with these arguments and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not get there, or no folder of examples is given.
    #[must_use]
    #[track_caller]
    pub fn example(&self, name: &str, arguments: &str) -> Job {
        let mut words = vec![variable("MANA_EXAMPLES").join(name).into_os_string()];
        words.extend(arguments.split_whitespace().map(Into::into));
        let mut job = Job::start(&mut self.tools.bound(&words), testpmd::LIMIT);
        job.wait_until("it is ready", |job| {
            job.stdout().lines().any(|line| line == "ready")
        });
        job
    }
}

/// A name for an interface that no one else on this machine has: at most 15 bytes.
#[must_use]
pub fn interface() -> String {
    format!("mn{}x{}", process::id(), next())
}

/// A figure for the reader of the report: in the file that `MANA_NOTES_FILE` names, from which
/// `cargo xtask test` takes it, otherwise on standard output.
///
/// # Panics
///
/// If the file can't be written.
pub fn note(line: &str) {
    println!("{line}");
    if let Some(path) = env::var_os("MANA_NOTES_FILE") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the file of notes can be opened");
        writeln!(file, "{line}").expect("the file of notes can be written");
    }
}

fn next() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set; {COMMAND}"))
        .into()
}
