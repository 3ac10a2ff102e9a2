//! `cargo xtask long NAME`: what takes longer than the tiers may. Results of the last runs are in
//! `docs/long.md`.

use std::process::Command;

use crate::{process, program};

pub const USAGE: &str = "cargo xtask long soak [--minutes N] [--seed N]";

/// What is run for long.
#[derive(Debug, PartialEq, Eq)]
pub enum Long {
    /// Ports that live through starts, stops, resets and removals under traffic: the example `soak`
    /// of the package `conformance`, which prints its seed.
    Soak { minutes: u64, seed: Option<u64> },
}

impl Long {
    /// An hour of soak, if nothing else is said.
    pub fn parse<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        match arguments.next() {
            Some("soak") => {}
            Some(other) => return Err(format!("unknown long task `{other}`\n{USAGE}")),
            None => return Err(USAGE.to_owned()),
        }
        let (mut minutes, mut seed) = (60, None);
        while let Some(argument) = arguments.next() {
            let number = |text: Option<&str>| {
                let text = text.ok_or_else(|| format!("{argument} needs a number"))?;
                text.parse::<u64>()
                    .map_err(|_| format!("{argument} needs a number, not `{text}`"))
            };
            match argument {
                "--minutes" => minutes = number(arguments.next())?,
                "--seed" => seed = Some(number(arguments.next())?),
                _ => return Err(format!("unknown argument `{argument}`\n{USAGE}")),
            }
        }
        Ok(Self::Soak { minutes, seed })
    }

    /// Runs it on this program's terminal.
    pub fn run(&self) -> Result<(), String> {
        let Self::Soak { minutes, seed } = self;
        let mut soak = Command::new(program::build("conformance", "soak", true)?);
        soak.arg(minutes.saturating_mul(60).to_string());
        soak.args(seed.map(|seed| seed.to_string()));
        process::run(&mut soak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Long, String> {
        Long::parse(line.split_whitespace())
    }

    #[test]
    fn a_soak_takes_an_hour_or_what_is_asked_for() {
        let soak = |minutes, seed| Ok(Long::Soak { minutes, seed });
        assert_eq!(parse("soak"), soak(60, None));
        assert_eq!(parse("soak --minutes 3 --seed 7"), soak(3, Some(7)));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in ["", "sook", "soak 3", "soak --minutes", "soak --minutes x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
