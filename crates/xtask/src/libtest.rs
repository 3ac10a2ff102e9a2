//! What the test programs of Rust print, and what tests say they could not do.

use crate::report::{Named, Tally};

/// The output of one test program (or of the doc tests of several crates).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    passed: Vec<String>,
    failed: Vec<String>,
    ignored: Vec<Named>,
    /// Sums of the `test result:` lines; `None` while there was none.
    totals: Option<Totals>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Output {
    /// Takes one line of standard output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let totals = self.totals.get_or_insert_default();
            totals.passed += count(rest, " passed");
            totals.failed += count(rest, " failed");
            totals.ignored += count(rest, " ignored");
            return;
        }
        let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        let name = name
            .strip_suffix(" - should panic")
            .unwrap_or(name)
            .to_owned();
        let word = outcome.split([',', ' ']).next().unwrap_or_default();
        match word {
            "ok" => self.passed.push(name),
            "FAILED" => self.failed.push(name),
            "ignored" => {
                let reason = outcome
                    .split_once(", ")
                    .map_or("ignored", |(_, reason)| reason);
                self.ignored.push(Named {
                    name,
                    reason: reason.to_owned(),
                });
            }
            _ => {}
        }
    }

    /// Whether the program came to its end and all its tests passed.
    pub fn complete(&self) -> bool {
        self.totals.is_some()
    }

    /// Tests that ran.
    pub fn ran(&self) -> usize {
        self.totals
            .map_or(0, |totals| totals.passed + totals.failed)
    }

    /// Adds this to the tier's tally, every name behind `prefix`. `skipped` is the content of the
    /// file in which tests said what they could not do: those leave the number of the passed ones.
    ///
    /// The numbers are those of the `test result:` lines: a test that garbles its own line by
    /// printing in the middle of it is still counted.
    pub fn count(&self, prefix: &str, skipped: &str, tally: &mut Tally) {
        let totals = self.totals.unwrap_or_default();
        let mut passed = self.passed.clone();
        let mut left_out = 0;
        for line in skipped.lines().filter(|line| !line.trim().is_empty()) {
            let (name, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
            if let Some(at) = passed.iter().position(|test| names(test, name)) {
                passed.swap_remove(at);
                left_out += 1;
            }
            tally.skip(format!("{prefix}{name}"), reason);
        }
        tally.passed += totals.passed.saturating_sub(left_out);
        for name in &self.failed {
            tally.fail(format!("{prefix}{name}"), "see its output above");
        }
        for _ in self.failed.len()..totals.failed {
            tally.fail(
                format!("{prefix}?"),
                "its name was lost in its output, see above",
            );
        }
        for Named { name, reason } in &self.ignored {
            tally.skip(format!("{prefix}{name}"), reason);
        }
        for _ in self.ignored.len()..totals.ignored {
            tally.skip(format!("{prefix}?"), "ignored");
        }
    }
}

/// Whether `test`, a path of modules, is the test function `name`.
fn names(test: &str, name: &str) -> bool {
    test.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

/// The number before `word` in `ok. 3 passed; 0 failed; …`.
fn count(text: &str, word: &str) -> usize {
    text.split(word)
        .next()
        .and_then(|before| before.rsplit([' ', ';']).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 6 tests
test rings::a_full_ring_refuses ... ok
test rings::hugepages ... ok
test rings::loses_nothing - should panic ... ok
test rings::takes_long ... ignored, ten minutes
test rings::without_reason ... ignored
test rings::wraps ... FAILED

failures:

---- rings::wraps stdout ----
test of mine ... what now

failures:
    rings::wraps

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s
";

    fn output(text: &str) -> Output {
        let mut output = Output::default();
        text.lines().for_each(|line| output.line(line));
        output
    }

    fn tally(text: &str, skipped: &str) -> Tally {
        let mut tally = Tally::new("unit");
        output(text).count("gdma ", skipped, &mut tally);
        tally
    }

    fn named(list: &[Named]) -> Vec<(&str, &str)> {
        list.iter()
            .map(|named| (named.name.as_str(), named.reason.as_str()))
            .collect()
    }

    #[test]
    fn passed_failed_and_ignored_tests_are_told_apart() {
        let tally = tally(OUTPUT, "");
        assert_eq!(tally.passed, 3);
        assert_eq!(
            named(&tally.failed),
            [("gdma rings::wraps", "see its output above")]
        );
        assert_eq!(
            named(&tally.skipped),
            [
                ("gdma rings::takes_long", "ten minutes"),
                ("gdma rings::without_reason", "ignored")
            ]
        );
    }

    #[test]
    fn a_test_that_says_it_was_skipped_is_not_counted_as_passed() {
        let tally = tally(OUTPUT, "hugepages\tnone can be reserved\n\n");
        assert_eq!(tally.passed, 2);
        assert_eq!(
            named(&tally.skipped)[0],
            ("gdma hugepages", "none can be reserved")
        );
    }

    #[test]
    fn a_skipped_part_of_a_test_is_listed_and_takes_no_other_test_away() {
        let tally = tally(OUTPUT, "pages\tthe name of no test function\n");
        assert_eq!(tally.passed, 3);
        assert_eq!(tally.skipped.len(), 3);
    }

    #[test]
    fn a_garbled_line_loses_the_name_and_not_the_count() {
        let garbled = "test a ... noise of the test itself\nok\ntest b ... more noiseFAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = tally(garbled, "");
        assert_eq!((tally.passed, tally.failed.len()), (1, 1));
    }

    #[test]
    fn several_results_in_one_output_are_summed() {
        let twice = format!("{OUTPUT}\n{OUTPUT}");
        assert_eq!(tally(&twice, "").passed, 6);
        assert_eq!(output(&twice).ran(), 8);
    }

    #[test]
    fn a_program_that_dies_is_not_complete() {
        let died = output("running 2 tests\ntest a ... ok\n");
        assert!(!died.complete());
        assert!(output(OUTPUT).complete());
    }
}
