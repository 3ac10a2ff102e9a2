//! What is written: a table, TAP, or JSON.

use std::io::{self, Write};
use std::path::PathBuf;

use conformance::{Needs, Suite};
use serde::Serialize;

use super::conduct::Outcome;
use super::error::Error;
use super::options::{Format, Options, Target};

/// Exit code where suites passed and the model found something.
const FINDINGS: u8 = 3;

/// The results so far.
pub struct Report {
    format: Format,
    device: String,
    rows: Vec<Row>,
    provider: Option<String>,
    note: Option<String>,
    libraries: Vec<PathBuf>,
    /// Suites that failed, and of them those for findings only.
    failed: usize,
    found: usize,
}

/// One suite of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    name: &'static str,
    proves: &'static str,
    result: &'static str,
    seconds: f64,
    reason: Option<String>,
}

/// The JSON object.
#[derive(Serialize)]
struct Whole<'a> {
    device: &'a str,
    provider: &'a Option<String>,
    provider_note: &'a Option<String>,
    libraries: &'a [PathBuf],
    passed: usize,
    failed: usize,
    skipped: usize,
    suites: &'a [Row],
}

impl Report {
    /// Writes what comes before the first suite.
    pub fn begin(options: &Options) -> Result<Self, Error> {
        let device = match &options.target {
            Target::Model { device, .. } => device.to_text()?,
            Target::Hardware { selector, .. } => selector.to_string(),
        };
        match options.format {
            Format::Table => say(&format!(
                "device: {device}\n\n{:<26}{:<9}{:>8}\n",
                "suite", "result", "seconds"
            ))?,
            Format::Tap => say(&format!("TAP version 13\n1..{}\n", options.suites.len()))?,
            Format::Json => {}
        }
        Ok(Self {
            format: options.format,
            device,
            rows: Vec::new(),
            provider: None,
            note: None,
            libraries: Vec::new(),
            failed: 0,
            found: 0,
        })
    }

    /// Writes what came of a suite.
    pub fn take(&mut self, suite: &'static Suite, outcome: Outcome) -> Result<(), Error> {
        let (result, reason, told) = match outcome {
            Outcome::Passed(told) => ("passed", None, Some(told)),
            Outcome::Failed(reason, told) => ("failed", Some(reason), Some(told)),
            Outcome::Findings(told) => {
                self.found += 1;
                let reason = format!("findings of the model: {}", told.findings.join("; "));
                ("failed", Some(reason), Some(told))
            }
            Outcome::Skipped(reason) => ("skipped", Some(reason.to_owned()), None),
        };
        self.failed += usize::from(result == "failed");
        let told = told.unwrap_or_default();
        self.provider = self.provider.take().or(told.provider);
        self.note = self.note.take().or(told.note);
        for library in told.libraries {
            if !self.libraries.contains(&library) {
                self.libraries.push(library);
            }
        }
        let row = Row {
            name: suite.name,
            proves: suite.proves,
            result,
            // Milliseconds are what a run can be timed to.
            seconds: (told.seconds * 1000.0).round() / 1000.0,
            reason,
        };
        self.rows.push(row.clone());
        match self.format {
            Format::Table => say(&table_row(&row)),
            Format::Tap => say(&tap_point(self.rows.len(), &row)),
            Format::Json => Ok(()),
        }
    }

    /// Writes what comes after the last suite. Returns the exit code.
    pub fn end(self) -> Result<u8, Error> {
        let count = |result| self.rows.iter().filter(|row| row.result == result).count();
        let (passed, skipped) = (count("passed"), count("skipped"));
        match self.format {
            Format::Table => {
                let mut text = String::new();
                if let (Some(provider), Some(note)) = (&self.provider, &self.note) {
                    text += &format!("\nprovider: {provider} ({note})\n");
                }
                let failed = self.failed;
                text += &format!("{passed} passed, {failed} failed, {skipped} skipped\n");
                say(&text)?;
            }
            Format::Tap => {}
            Format::Json => {
                let whole = Whole {
                    device: &self.device,
                    provider: &self.provider,
                    provider_note: &self.note,
                    libraries: &self.libraries,
                    passed,
                    failed: self.failed,
                    skipped,
                    suites: &self.rows,
                };
                let line = serde_json::to_string(&whole).map_err(io::Error::from)?;
                say(&format!("{line}\n"))?;
            }
        }
        Ok(match self.failed {
            0 => 0,
            failed if failed == self.found => FINDINGS,
            _ => 1,
        })
    }
}

/// One row, and under it why a suite failed.
fn table_row(row: &Row) -> String {
    let reason = row.reason.as_deref().unwrap_or_default();
    let line = format!("{:<26}{:<9}", row.name, row.result);
    match row.result {
        "skipped" => format!("{line}{:>8}  {reason}\n", ""),
        "failed" => {
            let reason = reason.replace('\n', "\n    ");
            format!("{line}{:>8.3}\n    {reason}\n", row.seconds)
        }
        _ => format!("{line}{:>8.3}\n", row.seconds),
    }
}

/// A test point of TAP 14, with a diagnostic block in YAML where a suite ran.
fn tap_point(number: usize, row: &Row) -> String {
    let reason = row.reason.as_deref().unwrap_or_default();
    let point = format!("ok {number} - {}", row.name);
    // A JSON string is one of YAML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let block = |lines: &str| {
        format!(
            "  ---\n{lines}  duration_ms: {}\n  ...\n",
            row.seconds * 1e3
        )
    };
    match row.result {
        "skipped" => format!("{point} # SKIP {reason}\n"),
        "failed" => {
            let message = format!("  message: {}\n", quoted(reason));
            format!("not {point}\n{}", block(&message))
        }
        _ => format!("{point}\n{}", block("")),
    }
}

/// Writes the names of suites and what they prove.
pub fn list(suites: &[&Suite], json: bool) -> Result<(), Error> {
    if json {
        let list: Vec<_> = suites
            .iter()
            .map(|suite| {
                serde_json::json!({
                    "name": suite.name, "proves": suite.proves, "needs": needs(suite),
                })
            })
            .collect();
        return say(&format!("{}\n", serde_json::json!({ "suites": list })));
    }
    let lines = suites.iter().map(|suite| {
        let (name, needs) = (suite.name, needs(suite));
        format!("{name} (needs a {needs})\n    {}\n", suite.proves)
    });
    say(&lines.collect::<String>())
}

fn needs(suite: &Suite) -> &'static str {
    match suite.needs {
        Needs::Port => "port",
        Needs::Loop => "loop",
        Needs::Steering => "loop and a machine to steer",
        Needs::Model | Needs::Neighbour => "model",
    }
}

/// Writes to standard output at once: a suite may take long.
fn say(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(result: &'static str, reason: Option<&str>) -> Row {
        Row {
            name: "rss",
            proves: "…",
            result,
            seconds: 0.25,
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn test_points_are_those_of_tap_13() {
        let passed = "ok 1 - rss\n  ---\n  duration_ms: 250\n  ...\n";
        assert_eq!(tap_point(1, &row("passed", None)), passed);
        assert_eq!(
            tap_point(2, &row("skipped", Some("no loop"))),
            "ok 2 - rss # SKIP no loop\n"
        );
        assert_eq!(
            tap_point(3, &row("failed", Some("a \"b\"\nc"))),
            "not ok 3 - rss\n  ---\n  message: \"a \\\"b\\\"\\nc\"\n  duration_ms: 250\n  ...\n"
        );
    }

    #[test]
    fn rows_of_the_table_hold_their_reason() {
        assert_eq!(
            table_row(&row("failed", Some("at x:\nnot equal"))),
            "rss                       failed      0.250\n    at x:\n    not equal\n"
        );
        let skipped = table_row(&row("skipped", Some("no loop")));
        assert!(skipped.ends_with("  no loop\n"), "{skipped}");
    }
}
