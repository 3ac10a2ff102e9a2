//! From a line to a command of the table.

use super::Prompt;
use crate::testpmd::error::Error;
use crate::testpmd::getopt::most_like;

/// A command.
pub struct Spec {
    /// Its words: literal ones, alternatives as in `on|off`, and values in capitals.
    pub form: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Where `help` shows it.
    pub section: &'static str,
    /// Runs it on its alternatives and values in their order.
    pub run: Run,
}

/// What a command does. An error ends the session.
pub type Run = fn(&mut Prompt<'_, '_>, &[&str]) -> Result<(), Error>;

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// No command begins so.
    Unknown {
        /// What may have been meant.
        hint: Option<String>,
    },
    /// Its beginning is one, what follows is not.
    Wrong {
        /// What could follow.
        hint: String,
    },
}

/// Whether a word of a form stands for a value.
pub fn is_value(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_ascii_uppercase())
}

fn fits(token: &str, word: &str) -> bool {
    is_value(token) || token.split('|').any(|literal| literal == word)
}

/// How many words of a form are those of the line.
fn common(form: &str, words: &[&str]) -> usize {
    let pairs = form.split(' ').zip(words);
    pairs.take_while(|(token, word)| fits(token, word)).count()
}

/// What could stand after these words, over all commands: literals and values, each once.
pub fn following(table: &'static [Spec], words: &[&str]) -> Vec<&'static str> {
    let mut all: Vec<&str> = Vec::new();
    for spec in table {
        if common(spec.form, words) == words.len()
            && let Some(token) = spec.form.split(' ').nth(words.len())
        {
            let tokens = token.split('|');
            for token in tokens {
                if !all.contains(&token) {
                    all.push(token);
                }
            }
        }
    }
    all
}

/// Finds the command of a line; it has at least one word. A form with literal words is preferred to
/// one with values.
///
/// # Errors
///
/// A line that is none.
pub fn find<'l>(
    table: &'static [Spec],
    words: &[&'l str],
) -> Result<(&'static Spec, Vec<&'l str>), Miss> {
    let whole = |spec: &&Spec| {
        let length = spec.form.split(' ').count();
        length == words.len() && common(spec.form, words) == length
    };
    let values = |spec: &Spec| spec.form.split(' ').filter(|token| is_value(token)).count();
    if let Some(spec) = table.iter().filter(whole).min_by_key(|spec| values(spec)) {
        let tokens = spec.form.split(' ').zip(words);
        let taken = tokens.filter(|(token, _)| is_value(token) || token.contains('|'));
        return Ok((spec, taken.map(|(_, word)| *word).collect()));
    }
    let deepest = table.iter().map(|spec| common(spec.form, words)).max();
    let deepest = deepest.unwrap_or(0);
    let expected = following(table, &words[..deepest]);
    let literals = expected.iter().copied().filter(|token| !is_value(token));
    let found = words.get(deepest);
    let nearest = found.and_then(|word| most_like(word, literals));
    if deepest == 0 {
        let hint =
            nearest.map(|nearest| format!("did you mean `{nearest}`? (`help` lists the commands)"));
        return Err(Miss::Unknown { hint });
    }
    let before = words[..deepest].join(" ");
    let mut hint = match (found, expected.is_empty()) {
        (Some(word), true) => format!("`{word}` after `{before}`: nothing more was expected"),
        (Some(word), false) => format!(
            "`{word}` after `{before}`: expected {}",
            expected.join(", ")
        ),
        (None, _) => format!("after `{before}`: expected {}", expected.join(", ")),
    };
    if let Some(nearest) = nearest {
        hint.push_str(&format!("; did you mean `{nearest}`?"));
    }
    Err(Miss::Wrong { hint })
}

#[cfg(test)]
mod tests {
    use super::super::commands::TABLE;
    use super::*;

    fn miss(line: &str) -> Miss {
        let words: Vec<&str> = line.split(' ').collect();
        find(TABLE, &words).err().expect("no command")
    }

    #[test]
    fn every_form_is_found_by_its_own_words_and_hands_out_its_values() {
        for spec in TABLE {
            let words: Vec<&str> = spec
                .form
                .split(' ')
                .map(|token| token.split('|').next().unwrap_or(token))
                .collect();
            let (found, values) = find(TABLE, &words).unwrap_or_else(|_| panic!("{}", spec.form));
            assert_eq!(found.form, spec.form);
            let taken = spec
                .form
                .split(' ')
                .filter(|t| is_value(t) || t.contains('|'));
            assert_eq!(values.len(), taken.count(), "{}", spec.form);
        }
    }

    #[test]
    fn a_misspelt_word_is_answered_with_the_nearest_that_could_stand_there() {
        assert_eq!(
            miss("shw port info 0"),
            Miss::Unknown {
                hint: Some("did you mean `show`? (`help` lists the commands)".to_owned())
            }
        );
        assert_eq!(miss("xyzzy"), Miss::Unknown { hint: None });
        let Miss::Wrong { hint } = miss("show prt info 0") else {
            panic!("it begins as a command");
        };
        assert!(hint.ends_with("did you mean `port`?"), "{hint}");
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        let hint = |line| match miss(line) {
            Miss::Wrong { hint } => hint,
            Miss::Unknown { .. } => panic!("it begins as a command"),
        };
        assert_eq!(hint("set burst"), "after `set burst`: expected N");
        assert_eq!(
            hint("stop it"),
            "`it` after `stop`: nothing more was expected"
        );
        assert!(hint("show port").starts_with("after `show port`: expected info, "));
    }
}
