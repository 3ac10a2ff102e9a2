//! What the Tab key makes of the beginning of a line.

use rustyline::completion::Completer;
use rustyline::{
    Context, Helper, Result, highlight::Highlighter, hint::Hinter, validate::Validator,
};

use super::commands::TABLE;
use super::parse::{following, is_value};
use crate::testpmd::modes::ModeName;

/// Completes words of commands.
pub struct Words;

/// Where the word at the end of `line` begins, and what it could become.
fn candidates(line: &str) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, word) = line.split_at(start);
    let before: Vec<&str> = before.split_whitespace().collect();
    let mut all = Vec::new();
    for token in following(TABLE, &before) {
        match token {
            "MODE" => all.extend(ModeName::ALL.map(|mode| mode.to_string())),
            "PORTS" => all.push("all".to_owned()),
            token if !is_value(token) => all.push(token.to_owned()),
            _ => {}
        }
    }
    all.retain(|candidate| candidate.starts_with(word));
    all.sort();
    all.dedup();
    (start, all)
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        let (start, mut all) = candidates(&line[..at]);
        // What is the only one is finished.
        if let [only] = all.as_mut_slice() {
            only.push(' ');
        }
        Ok((start, all))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_from_what_stands_before_them() {
        assert_eq!(candidates("sta"), (0, vec!["start".to_owned()]));
        assert_eq!(candidates("show port st").1, ["stats"]);
        assert_eq!(candidates("show port stats a").1, ["all"]);
        assert_eq!(candidates("set fwd tx"), (8, vec!["txonly".to_owned()]));
        assert!(candidates("nonsense ").1.is_empty());
    }
}
