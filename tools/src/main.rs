//! `mana`: testpmd and companions for the MANA poll-mode driver.

#![forbid(unsafe_code)]

mod bench;
mod conformance;
mod doctor;
mod generate;
mod model;
mod program;
mod setup;
mod telemetry;
mod testpmd;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tools for the MANA poll-mode driver.
#[derive(Parser)]
#[command(name = "mana", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Forward packets between ports, with dpdk-testpmd's two-sided command line
    #[command(disable_help_flag = true)]
    Testpmd {
        /// As for dpdk-testpmd (`mana testpmd --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    Bench(bench::Args),
    Conformance(conformance::Args),
    Doctor(doctor::Args),
    Setup(setup::Args),
    /// Write man pages and shell completions into a folder, for packagers
    #[command(hide = true)]
    Generate {
        /// Where to
        folder: std::path::PathBuf,
    },
    /// Run an unmodified program on the device model: `mana model exec -- ibv_devinfo -v`
    #[command(disable_help_flag = true)]
    Model {
        /// `exec` and what it takes (`mana model --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // Both split their words at `--` themselves; clap would swallow the separator.
    match words.split_first() {
        Some((word, rest)) if word == "testpmd" => return testpmd::main(rest),
        Some((word, rest)) if word == "model" => return model::main(rest),
        _ => {}
    }
    match Cli::parse().command {
        Command::Testpmd { words } => testpmd::main(&words),
        Command::Bench(args) => bench::main(&args),
        Command::Conformance(args) => conformance::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Setup(args) => setup::main(&args),
        Command::Generate { folder } => match generate::write(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("mana generate: error: {}: {error}", folder.display());
                ExitCode::FAILURE
            }
        },
        Command::Model { words } => model::main(&words),
    }
}
