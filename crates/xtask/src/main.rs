//! `cargo xtask test [--tier NAME]…`, `check`, `fetch`, `bench`: the whole CI; `long NAME`: what takes hours;
//! `vm`: a guest with Debian's kernel and the device, see [`vm`].
//!
//! `test` runs the tiers of [`Tier`] in order and ends with a table and the line
//! `N passed, N failed, N skipped`; it fails when anything failed. `check` is the first tier alone.
//! `fetch` only fetches the Debian packages the tests use, `package` makes one of the tool. `long` runs what takes longer than tiers may,
//! see [`long`].
//!
//! # What a test may rely on
//!
//! * Every test program runs with its package's folder as working directory and, as under
//!   `cargo test`, with `CARGO_MANIFEST_DIR` set.
//! * `MANA_BIN` is the path of the program `mana`, built in release by this very run.
//! * `MANA_SKIPPED_FILE` names a file. A test that cannot run here appends a line to it,
//!   `name<TAB>reason`, where `name` is the test function's name, and returns. It is then counted as
//!   skipped, with its reason, and not as passed. An `#[ignore = "reason"]` counts likewise. Without
//!   xtask the variable is unset, and the test prints the same two on standard output.
//! * `MANA_NOTES_FILE` names a file. Lines that a test appends to it are figures to be read, not
//!   judged: they are printed above the final table.
//!
//! The tier `host` runs the programs `host_*` of the package `conformance`, one test after the
//! other. They find besides:
//!
//! * `MANA_HOST_TOOLS`, the folder of unpacked Debian packages with the programs they start: none of
//!   the machine's own is used.
//! * `MANA_EXAMPLES`, the folder with the driver's examples, built in release by this very run.
//! * `MANA_HOST_SKIP`, set instead of both where the packages can't be fetched: why. Every test of
//!   the tier is then skipped for this reason.
//!
//! The tier `stack` runs the programs `stack_*` likewise. They find besides `MANA_BIN`:
//!
//! * `MANA_PRELOAD`, the library of the device model for unmodified programs, built in release by
//!   this very run.
//! * `MANA_DPDK_TREE` and `MANA_RDMA_CORE_44_TREE`, the unpacked packages of [`debian::DPDK`] and
//!   [`debian::RDMA_CORE_44`].
//! * `MANA_ETHDEV`, the program of `tests/programs/ethdev.c`, compiled by this very run against
//!   [`debian::DPDK`]; or `MANA_ETHDEV_SKIP`, what is missing here.
//! * `MANA_STATIC_BIN`, the program `mana` without default features, linked statically.
//! * `MANA_STACK_SKIP`, set where one of them can't be fetched: why.
//!
//! The tier `kernel` runs the programs `guest_*` inside guests, with `MANA_GUEST` set, and the programs
//! `kernel_*` as those of `host`. The latter find besides `MANA_BIN`:
//!
//! * `MANA_XTASK`, this program: `$MANA_XTASK vm --mana $MANA_BIN …` runs a guest.
//! * `MANA_KERNEL_SKIP`, set where what guests are made of can't be fetched: why;
//!   `MANA_KERNEL_6_1_SKIP`, where Debian 12's kernel can't.
//!
//! In the tier `unit`, `MANA_RDMA_HEADERS` lists the folders with the headers of both releases of
//! rdma-core, if they can be fetched.
//!
//! Nothing is installed and nothing outside the target directory is written.

#![forbid(unsafe_code)]

mod bench;
mod checks;
mod conformance;
mod debian;
mod ethdev;
mod instructions;
mod kernel;
mod libtest;
mod long;
mod matrix;
mod package;
mod process;
mod program;
mod report;
mod runner;
mod table;
mod tiers;
mod vm;
mod workspace;

use std::process::ExitCode;

use long::Long;
use tiers::Tier;
use workspace::Workspace;

const USAGE: &str = "usage: cargo xtask test [--tier NAME]... | check | fetch | package | bench [--suite trixie|forky] [OPTIONS OF mana bench] | vm [OPTIONS] (--shell | -- COMMAND...) | long soak|properties [--minutes N] [--seed N] [--provider uverbs|rdma-core] | long kernel";

enum Task {
    Test(Vec<Tier>),
    Fetch,
    Package,
    Bench(bench::Options),
    Long(Long),
    Vm(vm::Options),
    /// Prints how something is used.
    Usage(&'static str),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = parse(&arguments).and_then(|task| {
        let workspace = Workspace::load()?;
        match task {
            Task::Test(tiers) => Ok(tiers::run(&workspace, &tiers)),
            Task::Fetch => debian::fetch_all(&workspace).map(|()| true),
            Task::Package => package::make(&workspace).map(|path| {
                println!("{}", path.display());
                true
            }),
            Task::Bench(options) => bench::run(&workspace, &options).map(|()| true),
            Task::Long(long) => long.run(&workspace).map(|()| true),
            Task::Vm(options) => return Ok(guest(&workspace, &options)),
            Task::Usage(text) => {
                println!("{text}");
                Ok(true)
            }
        }
        .map(|good| {
            if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
    });
    done.unwrap_or_else(|message| {
        eprintln!("xtask: {message}");
        ExitCode::from(2)
    })
}

/// The exit status is the guest's.
fn guest(workspace: &Workspace, options: &vm::Options) -> ExitCode {
    ExitCode::from(vm::run(workspace, options).unwrap_or_else(|message| {
        eprintln!("xtask: {message}");
        vm::FAILED
    }))
}

fn parse(arguments: &[String]) -> Result<Task, String> {
    let bench = arguments.first().is_some_and(|first| first == "bench");
    let mut arguments = arguments.iter().map(String::as_str);
    // What a guest runs has options of its own, and what `bench` does not know is `mana bench`'s.
    let mut own = arguments.clone().take_while(|word| *word != "--");
    if !bench && own.any(|word| word == "--help" || word == "-h") {
        let first = arguments.next();
        return Ok(Task::Usage(match first {
            Some("vm") => vm::USAGE,
            _ => USAGE,
        }));
    }
    let task = match arguments.next() {
        Some("test") => {
            let mut tiers = Vec::new();
            while let Some(argument) = arguments.next() {
                let name = match argument.strip_prefix("--tier") {
                    Some("") => arguments.next().ok_or("--tier needs a name")?,
                    Some(rest) if rest.starts_with('=') => &rest[1..],
                    _ => return Err(format!("unknown argument `{argument}`\n{USAGE}")),
                };
                tiers.push(Tier::from_name(name)?);
            }
            if tiers.is_empty() {
                tiers.extend(Tier::ALL);
            }
            Task::Test(tiers)
        }
        Some("check") => Task::Test(vec![Tier::Check]),
        Some("fetch") => Task::Fetch,
        Some("package") => Task::Package,
        Some("bench") => Task::Bench(bench::Options::parse(arguments.by_ref())?),
        Some("vm") => Task::Vm(vm::Options::parse(arguments.by_ref())?),
        Some("long") => Task::Long(Long::parse(arguments.by_ref())?),
        Some(other) => return Err(format!("unknown task `{other}`\n{USAGE}")),
        None => return Err(USAGE.to_owned()),
    };
    match arguments.next() {
        Some(argument) => Err(format!("unknown argument `{argument}`\n{USAGE}")),
        None => Ok(task),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(line: &str) -> Result<Vec<Tier>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words)? {
            Task::Test(tiers) => Ok(tiers),
            Task::Fetch
            | Task::Package
            | Task::Bench(_)
            | Task::Long(_)
            | Task::Vm(_)
            | Task::Usage(_) => Ok(Vec::new()),
        }
    }

    #[test]
    fn tiers_are_chosen_by_name_and_all_without_one() {
        assert_eq!(tiers("test").unwrap(), Tier::ALL);
        assert_eq!(
            tiers("test --tier unit --tier=host").unwrap(),
            [Tier::Unit, Tier::Host]
        );
        assert_eq!(tiers("check").unwrap(), [Tier::Check]);
        assert_eq!(tiers("fetch").unwrap(), []);
    }

    #[test]
    fn help_is_no_mistake_but_before_a_guests_command_only() {
        let usage = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            match parse(&words).unwrap() {
                Task::Usage(text) => Some(text),
                _ => None,
            }
        };
        assert_eq!(usage(&["--help"]), Some(USAGE));
        assert_eq!(usage(&["test", "-h"]), Some(USAGE));
        assert_eq!(usage(&["vm", "--kernel", "7.x", "--help"]), Some(vm::USAGE));
        assert_eq!(usage(&["vm", "--", "mana", "--help"]), None);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            "",
            "tset",
            "test unit",
            "test --tier",
            "check --tier unit",
            "fetch x",
        ] {
            assert!(tiers(line).is_err(), "{line}");
        }
        assert!(
            tiers("test --tier modle")
                .unwrap_err()
                .contains("check, unit, model")
        );
    }
}
