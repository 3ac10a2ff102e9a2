//! `mana testpmd`: dpdk-testpmd's command line, forward modes and output over this driver.
//!
//! `eal_args` and `app_args` read the two sides of the command line (`getopt` is their grammar,
//! `options` their tables); `devices` makes models or the machine's devices of the device
//! arguments; `setup` builds pools, queues and streams; `workers` forward, each stream by one of
//! `modes` on a `lane`; a `session` holds ports and forwards any number of times; `run` is the order
//! of it all, with a `prompt` or without; `display` and `summary` are what it prints.

mod app_args;
mod bursts;
mod capture;
mod checksums;
mod cores;
mod devices;
mod display;
mod eal_args;
mod error;
mod getopt;
mod headers;
mod json;
mod lane;
mod lengths;
mod modes;
mod observe;
mod options;
mod port;
mod prompt;
mod run;
mod session;
mod setup;
mod stats;
mod streams;
mod summary;
mod verbose;
mod watch;
mod workers;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;

use app_args::AppArgs;
use eal_args::EalArgs;
use error::Error;
use getopt::UsageError;

/// Exit code of a run whose model found something wrong with the driver.
const FINDINGS: u8 = 3;

/// What `--help` prints.
pub fn help() -> String {
    options::help()
}

/// Runs testpmd on the words behind `mana testpmd`. The exit code is 0, 1 for a run that failed, 2
/// for a command line that could not be understood, 3 for findings of the model.
pub fn main(words: &[String]) -> ExitCode {
    match run_words(words) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FINDINGS),
        Err(error) => {
            eprintln!("mana testpmd: error: {error}");
            if let Some(check) = error.check() {
                eprintln!("mana testpmd: more of this: mana doctor --explain {check}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_words(words: &[String]) -> Result<usize, Error> {
    let (eal, app) = parse(words)?;
    if eal.help || app.help {
        run::say(&help())?;
        return Ok(0);
    }
    tracing_subscriber::fmt()
        .with_max_level(eal.log_level.unwrap_or(LevelFilter::WARN))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if eal.version {
        run::say(concat!("EAL: mana ", env!("CARGO_PKG_VERSION"), "\n"))?;
    }
    run::run(&eal, &app)
}

/// Splits the words at the first `--` and reads both sides.
fn parse(words: &[String]) -> Result<(EalArgs, AppArgs), UsageError> {
    let (left, right) = match words.iter().position(|word| word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    Ok((EalArgs::parse(left)?, AppArgs::parse(right)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<(EalArgs, AppArgs), UsageError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn azures_lines_are_read_on_both_sides() {
        let (eal, app) = parse_line(
            "-l 1-6 --vdev=7870:00:00.0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly \
             --auto-start --nb-cores=4 --txd=128 --rxd=128 --txq=8 --rxq=8 --stats 2",
        )
        .unwrap();
        assert_eq!(eal.cores.unwrap().len(), 6);
        assert_eq!(eal.devices, ["7870:00:00.0,mac=00:0d:3a:76:3b:d0"]);
        assert_eq!((app.txq, app.nb_cores), (8, 4));
    }

    #[test]
    fn an_option_on_the_wrong_side_is_sent_to_the_other() {
        let error = parse_line("--rxq=4 -- --auto-start").unwrap_err();
        assert!(
            error.to_string().contains("it belongs after `--`"),
            "{error}"
        );
        let error = parse_line("-- --vdev=model0").unwrap_err();
        assert!(
            error.to_string().contains("it belongs before `--`"),
            "{error}"
        );
    }

    #[test]
    fn without_the_separator_everything_is_left() {
        let (eal, app) = parse_line("--vdev=model0").unwrap();
        assert_eq!(eal.devices.len(), 1);
        assert_eq!(app, AppArgs::default());
    }
}
