//! The two option tables: what is honoured, what is accepted without meaning here and why, and what
//! is refused because ignoring it would change what the run does.

mod app;
mod eal;

use super::getopt::{OptionSpec, Side, Takes};

pub use app::{APP, AppOption};
pub use eal::{EAL, EalOption};

const NO_SECOND_PROCESS: &str = "there is no secondary process to share with";

/// Whether a table has a long name that begins so.
fn knows<Id>(table: &[OptionSpec<Id>], name: &str) -> bool {
    table.iter().any(|spec| spec.long.starts_with(name))
}

const fn flag<Id: Copy>(long: &'static str, id: Id, help: &'static str) -> OptionSpec<Id> {
    spec(long, None, Takes::Nothing, id, help)
}

const fn value<Id: Copy>(long: &'static str, id: Id, help: &'static str) -> OptionSpec<Id> {
    spec(long, None, Takes::Value, id, help)
}

const fn spec<Id: Copy>(
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    id: Id,
    help: &'static str,
) -> OptionSpec<Id> {
    OptionSpec {
        long,
        short,
        takes,
        id,
        help,
    }
}

/// The help text of both sides.
pub fn help() -> String {
    let mut text = String::from("Usage: mana testpmd [EAL options] -- [testpmd options]\n");
    side_help(&mut text, &EAL, |id| id != EalOption::Meaningless);
    side_help(&mut text, &APP, |id| {
        !matches!(id, AppOption::Meaningless | AppOption::NotYet)
    });
    text.push_str("\nModels, as DEVICE:\n");
    text.push_str(mana_model::DEVICE_HELP);
    text.push_str(
        "\nWithout hardware:\n  \
         mana testpmd --vdev=model0 -- --forward-mode=txonly --duration 5\n\
         With it, its interface set DOWN:\n  \
         mana testpmd -l 1-3 -a 7870:00:00.0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=rxonly \
         --stats-period 2\n",
    );
    text
}

fn side_help<Id: Copy>(text: &mut String, side: &Side<Id>, honoured: impl Fn(Id) -> bool) {
    text.push_str(&format!("\n{} options:\n", side.name));
    let mut others = Vec::new();
    for spec in side.table {
        if !honoured(spec.id) {
            others.push(spec.written());
            continue;
        }
        let name = match (spec.short, spec.long) {
            (Some(letter), "") => format!("-{letter}"),
            (Some(letter), long) => format!("-{letter}, --{long}"),
            (None, long) => format!("    --{long}"),
        };
        text.push_str(&format!("  {name:<25} {}\n", spec.help));
    }
    text.push_str(
        "  Other options of DPDK, accepted with a line that says why they mean nothing\n",
    );
    text.push_str("  here, or refused with what to do instead:\n");
    let mut line = String::from("   ");
    for name in others {
        if line.len() + name.len() > 96 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(&name);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_table_has_a_name_or_letter_twice() {
        fn check<Id>(table: &[OptionSpec<Id>]) {
            let mut seen = HashSet::new();
            for spec in table {
                assert!(
                    spec.long.is_empty() || seen.insert(spec.long.to_owned()),
                    "{}",
                    spec.long
                );
                assert!(
                    spec.short
                        .is_none_or(|letter| seen.insert(letter.to_string()))
                );
                assert!(!spec.help.is_empty(), "{}", spec.long);
            }
        }
        check(EAL.table);
        check(APP.table);
    }

    #[test]
    fn stats_is_an_unambiguous_beginning_of_stats_period() {
        let words = ["--stats".to_owned(), "2".to_owned()];
        assert_eq!(APP.parse(&words).unwrap()[0].id, AppOption::StatsPeriod);
    }

    #[test]
    fn the_help_text_names_every_option() {
        let help = help();
        for spec in EAL.table {
            assert!(help.contains(&spec.written()), "{}", spec.written());
        }
        for spec in APP.table {
            assert!(help.contains(&spec.written()), "{}", spec.written());
        }
    }
}
