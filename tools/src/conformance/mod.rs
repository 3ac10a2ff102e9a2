//! `mana conformance`: the suites of the crate of that name, over a model or a port of this machine.
//!
//! `options` reads the command line. `conduct` runs each suite in a process of its own, so that one
//! that fails, dies or hangs leaves the next a clean start; `inside` is that process. `report` writes
//! what came of it. `served` is about a real kernel with a model behind it.
//! `rulebook` runs no suite: it records the kernel's rules.

mod conduct;
mod error;
mod inside;
mod options;
mod report;
mod rulebook;
mod served;

use std::process::ExitCode;

pub use options::Args;

use error::Error;
use options::Options;

/// Runs the suites. The exit code is 0 where all passed that could run, 1 if one failed, 2 for a
/// command line that could not be understood, 3 if the model found something wrong where suites
/// passed.
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mana conformance: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<u8, Error> {
    if args.list {
        report::list(&options::suites(&args.suites)?, args.json)?;
        return Ok(0);
    }
    let options = Options::new(args)?;
    if args.rulebook {
        rulebook::record(&options, args.socket.as_deref())?;
        return Ok(0);
    }
    if args.inside {
        inside::run(&options, args.socket.as_deref())?;
        return Ok(0);
    }
    let mut report = report::Report::begin(&options)?;
    for suite in &options.suites {
        let outcome = conduct::run(&options, suite)?;
        report.take(suite, outcome)?;
    }
    report.end()
}
