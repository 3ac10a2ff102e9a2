//! `cargo xtask long NAME`: what takes longer than the tiers may. Results of the last runs are in
//! `docs/long.md`.

use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::workspace::Workspace;
use crate::{conformance, matrix, process, program};

pub const USAGE: &str = "cargo xtask long soak|properties [--minutes N] [--seed N], for soak also \
                         [--provider uverbs|rdma-core]; cargo xtask long kernel";

/// What is run for long.
#[derive(Debug, PartialEq, Eq)]
pub enum Long {
    /// Ports that live through starts, stops, resets and removals under traffic: the example `soak`
    /// of the package `conformance`, which prints its seed; with a provider `mana conformance` over the
    /// preloaded model.
    Soak {
        minutes: u64,
        seed: Option<u64>,
        provider: Option<String>,
    },
    /// The property tests, again and again from one seed to the next, with many cases.
    Properties { minutes: u64, seed: Option<u64> },
    /// Every suite over every stack on both kernels, in guests: see [`matrix`].
    Kernel,
}

impl Long {
    /// An hour, if nothing else is said.
    pub fn parse<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let task = arguments.next().ok_or(USAGE)?;
        if task == "kernel" {
            return match arguments.next() {
                None => Ok(Self::Kernel),
                Some(argument) => Err(format!("unknown argument `{argument}`\n{USAGE}")),
            };
        }
        if !["soak", "properties"].contains(&task) {
            return Err(format!("unknown long task `{task}`\n{USAGE}"));
        }
        let (mut minutes, mut seed, mut provider) = (60, None, None);
        while let Some(argument) = arguments.next() {
            let number = |text: Option<&str>| {
                let text = text.ok_or_else(|| format!("{argument} needs a number"))?;
                text.parse::<u64>()
                    .map_err(|_| format!("{argument} needs a number, not `{text}`"))
            };
            match argument {
                "--minutes" => minutes = number(arguments.next())?,
                "--seed" => seed = Some(number(arguments.next())?),
                "--provider" if task == "soak" => match arguments.next() {
                    Some(name @ ("uverbs" | "rdma-core")) => provider = Some(name.to_owned()),
                    _ => return Err(format!("--provider needs uverbs or rdma-core\n{USAGE}")),
                },
                _ => return Err(format!("unknown argument `{argument}`\n{USAGE}")),
            }
        }
        Ok(match task {
            "soak" => Self::Soak {
                minutes,
                seed,
                provider,
            },
            _ => Self::Properties { minutes, seed },
        })
    }

    /// Runs it on this program's terminal.
    pub fn run(&self, workspace: &Workspace) -> Result<(), String> {
        match *self {
            Self::Soak {
                minutes,
                seed,
                provider: Some(ref provider),
            } => conformance::soak(workspace, provider, minutes.saturating_mul(60), seed),
            Self::Soak { minutes, seed, .. } => {
                let mut soak = Command::new(program::build("conformance", "soak", true)?);
                soak.arg(minutes.saturating_mul(60).to_string());
                soak.args(seed.map(|seed| seed.to_string()));
                process::run(&mut soak)
            }
            Self::Properties { minutes, seed } => properties(minutes, seed),
            Self::Kernel => matrix::write(workspace),
        }
    }
}

/// Runs every unit test, the property tests with 4096 cases each, for `minutes` and at least once.
/// The seed is printed before each round, so that a failure can be drawn again.
fn properties(minutes: u64, seed: Option<u64>) -> Result<(), String> {
    let start = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut seed = seed.unwrap_or_else(|| now.map_or(1, |now| now.as_secs()));
    loop {
        println!("== properties: PROPTEST_RNG_SEED={seed}");
        let mut cargo = process::cargo();
        cargo.args([
            "test",
            "--release",
            "--workspace",
            "--lib",
            "--bins",
            "--quiet",
        ]);
        cargo.env("PROPTEST_RNG_SEED", seed.to_string());
        cargo.env("PROPTEST_CASES", "4096");
        process::run(&mut cargo)?;
        if start.elapsed().as_secs() >= minutes.saturating_mul(60) {
            return Ok(());
        }
        seed = seed.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Long, String> {
        Long::parse(line.split_whitespace())
    }

    #[test]
    fn a_task_takes_an_hour_or_what_is_asked_for() {
        let soak = |minutes, seed| {
            Ok(Long::Soak {
                minutes,
                seed,
                provider: None,
            })
        };
        assert_eq!(parse("soak"), soak(60, None));
        assert_eq!(parse("soak --minutes 3 --seed 7"), soak(3, Some(7)));
        let over = Long::Soak {
            minutes: 60,
            seed: None,
            provider: Some("rdma-core".to_owned()),
        };
        assert_eq!(parse("soak --provider rdma-core"), Ok(over));
        let properties = Long::Properties {
            minutes: 2,
            seed: None,
        };
        assert_eq!(parse("properties --minutes 2"), Ok(properties));
        assert_eq!(parse("kernel"), Ok(Long::Kernel));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            "",
            "sook",
            "soak 3",
            "kernel --minutes 2",
            "soak --minutes",
            "soak --minutes x",
            "soak --provider dpdk",
            "properties --provider uverbs",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
