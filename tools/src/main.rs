//! `mana`: testpmd and companions for the MANA poll-mode driver.

#![forbid(unsafe_code)]

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
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // testpmd splits its words at `--` itself; clap would swallow the separator.
    if let Some(("testpmd", rest)) = words
        .split_first()
        .map(|(word, rest)| (word.as_str(), rest))
    {
        return testpmd::main(rest);
    }
    match Cli::parse().command {
        Command::Testpmd { words } => testpmd::main(&words),
    }
}
