//! Guests that tests start from outside (`kernel_*`), by `cargo xtask vm`: Debian's kernel and its
//! unmodified drivers on the device that `mana model serve` plays. What runs inside is a script, whose
//! output is told apart by its parts.
//!
//! The run fails by itself where the guest's kernel complains or the device's model found something.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::host::Job;

/// Where the device is in a guest.
pub const PCI: &str = "0000:00:04.0";
/// What begins the line before a part of what a guest writes.
const PART: &str = "== ";

/// `cargo xtask vm` with the program under test, or none where `test` can't run; then it is reported as
/// skipped.
///
/// # Panics
///
/// Where the tier `kernel` did not start this.
#[must_use]
pub fn command(test: &str) -> Option<Command> {
    if let Ok(reason) = env::var("MANA_KERNEL_SKIP") {
        crate::skip(test, &reason);
        return None;
    }
    let variable = |name: &str| {
        env::var_os(name).unwrap_or_else(|| {
            panic!("{name} is not set; `cargo xtask test --tier kernel` builds and sets it")
        })
    };
    let mut command = Command::new(variable("MANA_XTASK"));
    command.arg("vm").arg("--mana").arg(variable("MANA_BIN"));
    Some(command)
}

/// Runs `parts`, lines of a shell by their names, one after the other in one guest, whatever becomes of
/// those before. `command` is that of [`command`] with the options of the guest, which may take
/// `seconds`. Returns what each part wrote on standard output, by name.
///
/// # Panics
///
/// Where the guest fails: its kernel complains, or it takes too long.
#[must_use]
pub fn run(
    mut command: Command,
    seconds: u64,
    parts: &[(String, String)],
) -> BTreeMap<String, String> {
    let mut script = String::new();
    for (name, line) in parts {
        // Writing to a String does not fail.
        let _always = writeln!(script, "echo '{PART}{name}'; {line}");
    }
    // What failed is seen by what its part has.
    script += "true";
    command.args(["--seconds", &seconds.to_string(), "--", "sh", "-c", &script]);
    // The run itself ends in time; what it is made of may have to be fetched first.
    let limit = Duration::from_secs(seconds + 300);
    let ended = Job::start(&mut command, limit).end();
    print!("{}", ended.stderr);
    told(&ended.success())
}

/// What each part wrote.
fn told(text: &str) -> BTreeMap<String, String> {
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    let mut part = None;
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix(PART) {
            part = Some(parts.entry(name.trim_end().to_owned()).or_default());
        } else if let Some(part) = &mut part {
            part.push_str(line);
        }
    }
    parts
}

/// What `mana conformance --json` writes.
#[derive(Debug, Clone, Deserialize)]
pub struct Results {
    /// `uverbs` or `rdma-core`; none where no port could be opened.
    pub provider: Option<String>,
    /// Its versions, or why it was taken.
    pub provider_note: Option<String>,
    /// Libraries of rdma-core that were mapped in the suites' processes.
    pub libraries: Vec<PathBuf>,
    /// One for each suite.
    pub suites: Vec<Row>,
}

/// What came of a suite.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// `passed`, `failed` or `skipped`.
    pub result: String,
    /// How long it ran.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
}

impl Row {
    /// What came of it in the words of the table of [`crate::matrix`].
    #[must_use]
    pub fn verdict(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let reason = reason.lines().next().unwrap_or_default();
        match self.result.as_str() {
            "passed" => "passed".to_owned(),
            "skipped" => format!("not applicable: {reason}"),
            _ => format!("fails: {reason}"),
        }
    }
}

impl Results {
    /// Reads what a part of a guest wrote.
    ///
    /// # Panics
    ///
    /// If that is nothing of the kind.
    #[must_use]
    #[track_caller]
    pub fn read(part: &str) -> Self {
        serde_json::from_str(part).unwrap_or_else(|error| panic!("{error}: {part}"))
    }

    /// Names of suites that were skipped, and why, in their order; each of the others passed.
    ///
    /// # Panics
    ///
    /// If one failed, with all that did.
    #[must_use]
    #[track_caller]
    pub fn skipped(&self, stack: &str) -> Vec<(&str, &str)> {
        let of = |result: &str| {
            let rows = self.suites.iter().filter(move |row| row.result == result);
            rows.map(|row| (row.name.as_str(), row.reason.as_deref().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        let (skipped, passed) = (of("skipped"), of("passed"));
        let failed: Vec<_> = self
            .suites
            .iter()
            .filter(|row| !["skipped", "passed"].contains(&row.result.as_str()))
            .collect();
        assert!(failed.is_empty(), "{stack}: {failed:#?}");
        assert!(!passed.is_empty(), "{stack}: nothing ran: {skipped:?}");
        skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_on_lines_of_their_own() {
        let parts = told("== uverbs\nleft == right\n\n== release\n7.3\n== none\n");
        assert_eq!(parts["uverbs"], "left == right\n\n");
        assert_eq!(parts["release"], "7.3\n");
        assert_eq!(parts["none"], "");
    }
}
