//! The table at the end.

use std::fmt;

use crate::table::Table;

/// What came of one tier.
#[derive(Debug, Default)]
pub struct Tally {
    pub tier: String,
    pub passed: usize,
    pub failed: Vec<Named>,
    pub skipped: Vec<Named>,
    /// Figures to be read, not judged.
    pub notes: Vec<String>,
    /// What is compared side by side.
    pub table: Table,
    pub seconds: u64,
}

/// A test or check that did not pass, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub reason: String,
}

impl Tally {
    /// Nothing yet.
    pub fn new(tier: &str) -> Tally {
        Tally {
            tier: tier.to_owned(),
            ..Tally::default()
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.failed.push(Named {
            name: name.into(),
            reason: reason.into(),
        });
    }

    /// Counts what could not be run.
    pub fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Named {
            name: name.into(),
            reason: reason.into(),
        });
    }

    /// Counts a check by its result.
    pub fn count(&mut self, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(reason) => self.fail(name, reason),
            Verdict::Skipped(reason) => self.skip(name, reason),
        }
    }
}

/// What came of one check.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl From<Result<(), String>> for Verdict {
    fn from(result: Result<(), String>) -> Verdict {
        match result {
            Ok(()) => Verdict::Passed,
            Err(reason) => Verdict::Failed(reason),
        }
    }
}

/// All tiers of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub tiers: Vec<Tally>,
}

impl Report {
    /// Whether nothing failed.
    pub fn good(&self) -> bool {
        self.tiers.iter().all(|tally| tally.failed.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tally in &self.tiers {
            write!(f, "{}", tally.table)?;
        }
        let mut noted = false;
        for note in self.tiers.iter().flat_map(|tally| &tally.notes) {
            writeln!(f, "{note}")?;
            noted = true;
        }
        if noted {
            writeln!(f)?;
        }
        writeln!(
            f,
            "{:<14}{:>8}{:>8}{:>9}{:>9}",
            "tier", "passed", "failed", "skipped", "seconds"
        )?;
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for tally in &self.tiers {
            passed += tally.passed;
            failed += tally.failed.len();
            skipped += tally.skipped.len();
            writeln!(
                f,
                "{:<14}{:>8}{:>8}{:>9}{:>9}",
                tally.tier,
                tally.passed,
                tally.failed.len(),
                tally.skipped.len(),
                tally.seconds
            )?;
            for (word, list) in [("failed", &tally.failed), ("skipped", &tally.skipped)] {
                for named in list {
                    let reason = named.reason.replace('\n', "\n      ");
                    writeln!(f, "  {word} {}: {reason}", named.name)?;
                }
            }
        }
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_with_the_sums() {
        let mut check = Tally::new("check");
        check.count("format", Verdict::Passed);
        check.count("arrows", Verdict::from(Err("gdma uses pmd-api".to_owned())));
        let mut unit = Tally {
            passed: 40,
            ..Tally::new("unit")
        };
        unit.skip("gdma::x", "no hugepages");
        unit.notes.push("tcp: 3.1 Gbit/s".to_owned());
        let report = Report {
            tiers: vec![check, unit],
        };
        let text = report.to_string();
        assert!(text.starts_with("tcp: 3.1 Gbit/s\n\n"), "{text}");
        assert!(text.ends_with("\n41 passed, 1 failed, 1 skipped"), "{text}");
        assert!(text.contains("failed arrows: gdma uses pmd-api"), "{text}");
        assert!(text.contains("skipped gdma::x: no hugepages"), "{text}");
        assert!(!report.good());
    }
}
