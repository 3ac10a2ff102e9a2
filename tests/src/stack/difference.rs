//! Two testpmds' answers, line by line, with the differences that are meant.

use super::dialogue::{Dialogue, Reply, shape};

/// Lines that are meant to be different.
#[derive(Debug)]
pub struct Difference {
    /// How the commands begin whose answers have them.
    pub commands: &'static str,
    /// Lines of DPDK's testpmd, in the form of [`shape`]; one that ends with `…` is a beginning.
    pub theirs: &'static [&'static str],
    /// Lines of ours in their place, likewise.
    pub ours: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// A comparison of any number of dialogues.
#[derive(Debug)]
pub struct Comparison {
    differences: &'static [Difference],
    /// Which lines of each difference were there.
    seen: Vec<Vec<bool>>,
    /// Lines that were equal.
    equal: usize,
    /// What was different without a reason.
    wrong: String,
}

impl Comparison {
    /// One that allows these differences.
    #[must_use]
    pub fn new(differences: &'static [Difference]) -> Self {
        let lines = |one: &Difference| vec![false; one.theirs.len() + one.ours.len()];
        Self {
            differences,
            seen: differences.iter().map(lines).collect(),
            equal: 0,
            wrong: String::new(),
        }
    }

    /// Compares the answers to one script.
    pub fn add(&mut self, theirs: &Dialogue, ours: &Dialogue) {
        let commands = |dialogue: &Dialogue| -> Vec<String> {
            let all = dialogue.answers.iter();
            all.map(|answer| answer.command.clone()).collect()
        };
        assert_eq!(commands(theirs), commands(ours), "{}", ours.outcome.ended);
        for (theirs, ours) in theirs.answers.iter().zip(&ours.answers) {
            let shapes = |reply: &Reply| -> Vec<String> {
                reply.lines.iter().map(|line| shape(line)).collect()
            };
            if shapes(theirs) == shapes(ours) {
                self.equal += ours.lines.len();
                continue;
            }
            let applied = self.applied(theirs, ours);
            let left = self.rest(theirs, true, &applied);
            let right = self.rest(ours, false, &applied);
            if left == right {
                self.equal += left.len();
                continue;
            }
            let same = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
            let both = left[same..].iter().rev().zip(right[same..].iter().rev());
            let last = both.take_while(|(a, b)| a == b).count();
            let quoted = |lines: &[String]| -> String {
                let lines = &lines[same..lines.len() - last];
                lines.iter().map(|line| format!("    {line}\n")).collect()
            };
            let (left, right) = (quoted(&left), quoted(&right));
            let command = &ours.command;
            self.wrong
                .push_str(&format!("{command}\n  theirs:\n{left}  ours:\n{right}"));
        }
    }

    /// The differences that these answers have: those of which each side with lines has some.
    fn applied(&self, theirs: &Reply, ours: &Reply) -> Vec<usize> {
        let has = |reply: &Reply, wanted: &[&str]| {
            let mut lines = reply.lines.iter().map(|line| shape(line));
            wanted.is_empty() || lines.any(|line| wanted.iter().any(|one| fits(one, &line)))
        };
        let is_applied = |one: &Difference| {
            ours.command.starts_with(one.commands) && has(theirs, one.theirs) && has(ours, one.ours)
        };
        let all = self.differences.iter().enumerate();
        all.filter(|(_, one)| is_applied(one))
            .map(|(at, _)| at)
            .collect()
    }

    /// The lines of an answer, each difference that is allowed replaced by its reason, or by nothing
    /// where only one of both has lines.
    fn rest(&mut self, reply: &Reply, is_theirs: bool, applied: &[usize]) -> Vec<String> {
        let mut rest: Vec<String> = Vec::new();
        for line in reply.lines.iter().map(|line| shape(line)) {
            match self.find(&line, is_theirs, applied) {
                None if line.is_empty() && rest.last().is_some_and(String::is_empty) => {}
                None => rest.push(line),
                Some(one) if one.theirs.is_empty() || one.ours.is_empty() => {}
                Some(one) if rest.last().is_some_and(|last| last == one.why) => {}
                Some(one) => rest.push(one.why.to_owned()),
            }
        }
        rest
    }

    fn find(
        &mut self,
        line: &str,
        is_theirs: bool,
        applied: &[usize],
    ) -> Option<&'static Difference> {
        for number in applied {
            let (one, seen) = (&self.differences[*number], &mut self.seen[*number]);
            let (lines, first) = match is_theirs {
                true => (one.theirs, 0),
                false => (one.ours, one.theirs.len()),
            };
            if let Some(at) = lines.iter().position(|wanted| fits(wanted, line)) {
                seen[first + at] = true;
                return Some(one);
            }
        }
        None
    }

    /// Ends it; the number of equal lines.
    ///
    /// # Panics
    ///
    /// With what differed without a reason, or with a difference that is not there any more.
    #[track_caller]
    pub fn end(self) -> usize {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong);
        for (one, seen) in self.differences.iter().zip(&self.seen) {
            let all = one.theirs.iter().chain(one.ours).zip(seen);
            let gone: Vec<_> = all.filter(|(_, seen)| !**seen).collect();
            assert!(
                gone.is_empty(),
                "not different any more: {gone:?} of {one:?}"
            );
        }
        self.equal
    }
}

/// Whether a line is the one that is wanted, or begins as it.
fn fits(wanted: &str, line: &str) -> bool {
    match wanted.strip_suffix('…') {
        Some(beginning) => line.starts_with(beginning),
        None => line == wanted,
    }
}
