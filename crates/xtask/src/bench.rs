//! `cargo xtask bench [--suite trixie|forky] [OPTIONS]`: `mana bench` with everything it can be measured
//! against.
//!
//! Fetches Debian's DPDK (of the suite: 24.11 is trixie's, 25.11 forky's), its headers, rdma-core and
//! valgrind into `target/debian`, builds `mana` and the preload library in release, and passes the
//! options on. What can't be fetched is said, and skipped by the program.

use std::process::Command;

use crate::debian::Group;
use crate::workspace::Workspace;
use crate::{debian, process, program};

/// The package of the library that puts programs on the model.
const PRELOAD: &str = "mana-model-preload";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    suite: &'static Suite,
    /// For `mana bench`.
    options: Vec<String>,
}

/// A suite of Debian that has the driver in C.
#[derive(Debug, PartialEq, Eq)]
struct Suite {
    name: &'static str,
    dpdk: &'static Group,
    headers: &'static Group,
}

/// The first one is taken where none is named.
const SUITES: [Suite; 2] = [
    Suite {
        name: "trixie",
        dpdk: &debian::DPDK,
        headers: &debian::DPDK_HEADERS,
    },
    Suite {
        name: "forky",
        dpdk: &debian::DPDK_FORKY,
        headers: &debian::DPDK_FORKY_HEADERS,
    },
];

impl Options {
    /// From the words behind `bench`.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut suite = &SUITES[0];
        let mut options = Vec::new();
        while let Some(word) = words.next() {
            let name = match word.strip_prefix("--suite") {
                Some("") => words.next().ok_or("--suite needs a name")?,
                Some(rest) if rest.starts_with('=') => &rest[1..],
                _ => {
                    options.push(word.to_owned());
                    continue;
                }
            };
            let found = SUITES.iter().find(|suite| suite.name == name);
            let known = || SUITES.map(|suite| suite.name).join(" and ");
            suite = found.ok_or_else(|| format!("--suite {name}: there are {}", known()))?;
        }
        Ok(Self { suite, options })
    }
}

/// Runs it on this program's terminal.
pub fn run(workspace: &Workspace, options: &Options) -> Result<(), String> {
    let Options { suite, options } = options;
    let fetch = |group: &Group| {
        group
            .fetch(workspace)
            .inspect_err(|reason| println!("not fetched: {reason}"))
            .ok()
    };
    let (dpdk, headers) = (fetch(suite.dpdk), fetch(suite.headers));
    fetch(&debian::VALGRIND);
    println!("== build: mana, {PRELOAD}");
    let mut mana = Command::new(program::build("mana", "mana", false)?);
    mana.env("MANA_PRELOAD", program::library(PRELOAD)?)
        .args(["bench", "--tree"])
        .arg(workspace.target.join("debian"));
    let mut made_by = "cargo xtask bench".to_owned();
    // The first one is found in the tree, so that another one can be named among the options.
    if suite.name != SUITES[0].name {
        made_by.push_str(&format!(" --suite {}", suite.name));
        for (option, folder) in [("--dpdk", dpdk), ("--dpdk-headers", headers)] {
            mana.arg(option)
                .arg(folder.ok_or(format!("no DPDK of {}", suite.name))?);
        }
    }
    for option in options {
        made_by.push_str(&format!(" {option}"));
    }
    process::run(mana.arg("--made-by").arg(made_by).args(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<(&'static str, String), String> {
        let options = Options::parse(words.split_whitespace())?;
        Ok((options.suite.name, options.options.join(" ")))
    }

    #[test]
    fn a_suite_is_taken_out_of_the_options_that_are_passed_on() {
        assert_eq!(
            parse("--full --json").unwrap(),
            ("trixie", "--full --json".to_owned())
        );
        for words in ["--suite forky --full", "--full --suite=forky"] {
            assert_eq!(parse(words).unwrap(), ("forky", "--full".to_owned()));
        }
        for wrong in ["--suite", "--suite buster", "--suite="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
