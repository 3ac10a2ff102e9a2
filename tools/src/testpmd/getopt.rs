//! The grammar of `getopt_long`, which both sides of testpmd's command line follow: `--name value`,
//! `--name=value`, any unambiguous beginning of a long name, `-x value`, `-xvalue` and bundled
//! one-letter flags.

/// Whether an option is followed by a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A flag.
    Nothing,
    /// Exactly one value.
    Value,
}

/// One row of an option table.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec<Id> {
    /// Name after `--`; empty where only the letter exists.
    pub long: &'static str,
    /// Letter after `-`.
    pub short: Option<char>,
    /// Whether a value follows.
    pub takes: Takes,
    /// What the option means.
    pub id: Id,
    /// One line for the help text; for an option without meaning here, the reason.
    pub help: &'static str,
}

impl<Id> OptionSpec<Id> {
    /// The option as a user writes it, the long form where there is one.
    pub fn written(&self) -> String {
        match (self.long, self.short) {
            ("", Some(letter)) => format!("-{letter}"),
            (long, _) => format!("--{long}"),
        }
    }
}

/// An option that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<Id> {
    /// Which one.
    pub id: Id,
    /// Its full name, for messages.
    pub option: String,
    /// Its value, empty for a flag.
    pub value: String,
    /// The table's help text.
    pub help: &'static str,
}

/// Why a command line could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// No such option on this side.
    #[error("unknown {side} option `{option}`{hint} (`mana testpmd --help` lists them)")]
    Unknown {
        /// "EAL" or "testpmd".
        side: &'static str,
        /// As written.
        option: String,
        /// The nearest name, or where the option belongs.
        hint: String,
    },
    /// A beginning of several names.
    #[error("option `{option}` could be any of {candidates}: write more of it")]
    Ambiguous {
        /// As written.
        option: String,
        /// All names that begin so.
        candidates: String,
    },
    /// A value is missing.
    #[error("option `{option}` needs a value")]
    MissingValue {
        /// Full name.
        option: String,
    },
    /// A flag was given a value.
    #[error("option `{option}` takes no value, found `{value}`")]
    UnwantedValue {
        /// Full name.
        option: String,
        /// What was given.
        value: String,
    },
    /// A word that belongs to no option.
    #[error("unexpected argument `{argument}` among the {side} options")]
    Stray {
        /// "EAL" or "testpmd".
        side: &'static str,
        /// The word.
        argument: String,
    },
    /// A value out of its range or form.
    #[error("`{option}={value}`: {expected}")]
    BadValue {
        /// Full name.
        option: String,
        /// What was given.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// An option of DPDK's whose behaviour does not exist here yet, and which must not be ignored.
    #[error("option `{option}` is not there yet: {instead}")]
    NotYet {
        /// Full name.
        option: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// Options that contradict each other or the devices.
    #[error("{0}")]
    Conflict(String),
}

/// One side of the command line: its name in messages, its table, and the long names of the other
/// side, so that an option on the wrong side of `--` is recognised.
pub struct Side<Id: 'static> {
    /// "EAL" or "testpmd".
    pub name: &'static str,
    /// All options.
    pub table: &'static [OptionSpec<Id>],
    /// Whether the other side knows a long name.
    pub other_knows: fn(&str) -> bool,
    /// Where the other side is written.
    pub other_place: &'static str,
}

impl<Id: Copy> Side<Id> {
    /// Splits `arguments` into options, in the order given.
    ///
    /// # Errors
    ///
    /// For every word that is no option of this side or lacks its value.
    pub fn parse(&self, arguments: &[String]) -> Result<Vec<Given<Id>>, UsageError> {
        let mut given = Vec::new();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, inline) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let spec = self.find(name)?;
                let value = match (spec.takes, inline) {
                    (Takes::Nothing, None) => String::new(),
                    (Takes::Nothing, Some(value)) => {
                        let option = spec.written();
                        return Err(UsageError::UnwantedValue { option, value });
                    }
                    (Takes::Value, Some(value)) => value,
                    (Takes::Value, None) => next_word(spec, &mut words)?,
                };
                given.push(found(spec, value));
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                for (at, letter) in letters.char_indices() {
                    let spec = self
                        .table
                        .iter()
                        .find(|spec| spec.short == Some(letter))
                        .ok_or_else(|| self.unknown(&letter.to_string(), "-"))?;
                    if spec.takes == Takes::Nothing {
                        given.push(found(spec, String::new()));
                        continue;
                    }
                    let rest = &letters[at + letter.len_utf8()..];
                    let value = if rest.is_empty() {
                        next_word(spec, &mut words)?
                    } else {
                        rest.to_owned()
                    };
                    given.push(found(spec, value));
                    break;
                }
            } else {
                return Err(UsageError::Stray {
                    side: self.name,
                    argument: word.clone(),
                });
            }
        }
        Ok(given)
    }

    /// The option called `name`, or the only one that begins so.
    fn find(&self, name: &str) -> Result<&'static OptionSpec<Id>, UsageError> {
        if name.is_empty() {
            return Err(self.unknown(name, "--"));
        }
        if let Some(exact) = self.table.iter().find(|spec| spec.long == name) {
            return Ok(exact);
        }
        let mut candidates = self.table.iter().filter(|spec| spec.long.starts_with(name));
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.unknown(name, "--")),
            (Some(_), Some(_)) => {
                let names: Vec<String> = self
                    .table
                    .iter()
                    .filter(|spec| spec.long.starts_with(name))
                    .map(|spec| format!("`--{}`", spec.long))
                    .collect();
                Err(UsageError::Ambiguous {
                    option: format!("--{name}"),
                    candidates: names.join(", "),
                })
            }
        }
    }

    fn unknown(&self, name: &str, dashes: &str) -> UsageError {
        let hint = if dashes == "--" && (self.other_knows)(name) {
            format!(": it belongs {}", self.other_place)
        } else {
            self.nearest(name)
                .map(|nearest| format!(", did you mean `--{nearest}`?"))
                .unwrap_or_default()
        };
        UsageError::Unknown {
            side: self.name,
            option: format!("{dashes}{name}"),
            hint,
        }
    }

    /// The long name most like `name`, if one is like it at all.
    fn nearest(&self, name: &str) -> Option<&'static str> {
        let names = self.table.iter().map(|spec| spec.long);
        most_like(name, names.filter(|long| !long.is_empty()))
    }
}

/// The one of `names` most like `name`, if one is like it at all; a single letter is like nothing.
pub fn most_like<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const ALIKE: f64 = 0.7;
    names
        .filter(|_| name.len() > 1)
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn next_word<'a, Id>(
    spec: &OptionSpec<Id>,
    words: &mut impl Iterator<Item = &'a String>,
) -> Result<String, UsageError> {
    words
        .next()
        .cloned()
        .ok_or_else(|| UsageError::MissingValue {
            option: spec.written(),
        })
}

fn found<Id: Copy>(spec: &OptionSpec<Id>, value: String) -> Given<Id> {
    Given {
        id: spec.id,
        option: spec.written(),
        value,
        help: spec.help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[OptionSpec<u8>] = &[
        row("stats-period", None, Takes::Value, 1),
        row("rxq", None, Takes::Value, 2),
        row("rxq-share", None, Takes::Value, 3),
        row("auto-start", Some('a'), Takes::Nothing, 4),
        row("interactive", Some('i'), Takes::Nothing, 5),
        row("", Some('l'), Takes::Value, 6),
        row("rxd", None, Takes::Value, 7),
    ];

    const fn row(long: &'static str, short: Option<char>, takes: Takes, id: u8) -> OptionSpec<u8> {
        OptionSpec {
            long,
            short,
            takes,
            id,
            help: "",
        }
    }

    fn parse(line: &str) -> Result<Vec<(u8, String)>, UsageError> {
        let side = Side {
            name: "testpmd",
            table: TABLE,
            other_knows: |name| name == "vdev",
            other_place: "before `--`",
        };
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let given = side.parse(&words)?;
        Ok(given.into_iter().map(|one| (one.id, one.value)).collect())
    }

    #[test]
    fn a_value_stands_behind_a_space_or_an_equals_sign() {
        let expected = vec![(1, "2".to_owned()), (2, "4".to_owned())];
        assert_eq!(parse("--stats-period 2 --rxq=4").unwrap(), expected);
    }

    #[test]
    fn an_unambiguous_beginning_is_enough_and_an_exact_name_is_never_ambiguous() {
        assert_eq!(parse("--stats 2").unwrap(), vec![(1, "2".to_owned())]);
        assert_eq!(parse("--rxq 4").unwrap(), vec![(2, "4".to_owned())]);
        assert_eq!(
            parse("--rx 4").unwrap_err().to_string(),
            "option `--rx` could be any of `--rxq`, `--rxq-share`, `--rxd`: write more of it"
        );
    }

    #[test]
    fn letters_take_their_value_attached_or_apart_and_flags_bundle() {
        assert_eq!(parse("-l1-3").unwrap(), vec![(6, "1-3".to_owned())]);
        assert_eq!(parse("-l 1-3").unwrap(), vec![(6, "1-3".to_owned())]);
        let ids: Vec<u8> = parse("-ial 1").unwrap().iter().map(|one| one.0).collect();
        assert_eq!(ids, [5, 4, 6]);
    }

    #[test]
    fn an_unknown_option_is_answered_with_the_nearest_name() {
        assert_eq!(
            parse("--start-period 2").unwrap_err().to_string(),
            "unknown testpmd option `--start-period`, did you mean `--stats-period`? \
             (`mana testpmd --help` lists them)"
        );
        assert_eq!(
            parse("--vdev x").unwrap_err().to_string(),
            "unknown testpmd option `--vdev`: it belongs before `--` \
             (`mana testpmd --help` lists them)"
        );
        assert!(matches!(parse("-z"), Err(UsageError::Unknown { .. })));
    }

    #[test]
    fn missing_and_unwanted_values_and_stray_words_are_errors() {
        assert_eq!(
            parse("--rxq"),
            Err(UsageError::MissingValue {
                option: "--rxq".to_owned()
            })
        );
        assert!(matches!(
            parse("--auto-start=yes"),
            Err(UsageError::UnwantedValue { .. })
        ));
        assert!(matches!(parse("word"), Err(UsageError::Stray { .. })));
        assert!(matches!(parse("-"), Err(UsageError::Stray { .. })));
    }
}
