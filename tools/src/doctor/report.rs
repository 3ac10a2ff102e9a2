//! What a check found, and how it is printed.

use std::fmt;

use serde::Serialize;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It can't be told from here.
    Unknown,
    /// A port starts, but something will go wrong or slowly.
    Warning,
    /// No port would start.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Ok => "ok",
            Status::Unknown => "cannot tell",
            Status::Warning => "warning",
            Status::Fail => "fails",
        })
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// Why it matters; empty where all is well.
    pub why: &'static str,
    /// The command that mends it, where one does.
    pub fix: Option<String>,
}

impl Check {
    pub fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, seen, "")
    }

    pub fn unknown(name: &'static str, seen: impl Into<String>, why: &'static str) -> Self {
        Self::new(name, Status::Unknown, seen, why)
    }

    pub fn warning(name: &'static str, seen: impl Into<String>, why: &'static str) -> Self {
        Self::new(name, Status::Warning, seen, why)
    }

    pub fn fail(name: &'static str, seen: impl Into<String>, why: &'static str) -> Self {
        Self::new(name, Status::Fail, seen, why)
    }

    fn new(name: &'static str, status: Status, seen: impl Into<String>, why: &'static str) -> Self {
        Self {
            name,
            status,
            // What is read from files must not break the line, nor steer a terminal.
            seen: printable(&seen.into()),
            why,
            fix: None,
        }
    }

    /// Adds the command that mends it.
    pub fn mended_by(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(printable(&fix.into()));
        self
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}{:<16}{}", self.status, self.name, self.seen)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        match &self.fix {
            Some(fix) => write!(f, "; mend: {fix}"),
            None => Ok(()),
        }
    }
}

/// All checks of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    /// 0 where all is well, 1 with a warning, 2 where no port would start.
    pub fn exit_code(&self) -> u8 {
        match self.checks.iter().map(|check| check.status).max() {
            Some(Status::Fail) => 2,
            Some(Status::Warning) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        let count = |status| {
            let of = |check: &&Check| check.status == status;
            self.checks.iter().filter(of).count()
        };
        writeln!(
            f,
            "{} checks: {} ok, {} warnings, {} fail, {} cannot be told; \
             `mana doctor --explain NAME` says more of each",
            self.checks.len(),
            count(Status::Ok),
            count(Status::Warning),
            count(Status::Fail),
            count(Status::Unknown),
        )
    }
}

fn printable(text: &str) -> String {
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(one_line).collect()
}
