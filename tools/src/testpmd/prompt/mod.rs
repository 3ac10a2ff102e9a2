//! The prompt of testpmd: commands from a file, a pipe or a terminal, one at a time.
//!
//! `commands` is the table of what there is, `parse` finds a line in it, `complete` completes it,
//! `input` reads lines. What the commands do stands in `forwarding`, `ports`, `settings`, `packets`,
//! `rss` and `show`. As in dpdk-testpmd, what a command tells goes to standard output and what it refuses
//! to standard error, the prompt goes on after any mistake, and the exit code is not changed by one.

mod commands;
mod complete;
mod devices;
mod forwarding;
mod help;
mod histograms;
mod input;
mod packets;
mod parse;
mod ports;
mod rss;
mod settings;
mod show;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::error::Error;
use super::run::{TICK, say};
use super::session::Session;
use input::{Input, Typed};
use parse::Miss;

/// What stands before every command.
const PROMPT: &str = "testpmd> ";

/// A session with a prompt.
struct Prompt<'s, 'm> {
    session: &'s mut Session<'m>,
    /// Set by `quit`.
    quits: bool,
}

/// Runs the commands of a file, as far as one that quits: as in dpdk-testpmd that ends the file, not
/// the program. False if a signal came.
///
/// # Errors
///
/// What ends the session; a command that is refused does not.
pub fn run_script(
    session: &mut Session<'_>,
    script: &str,
    echo: bool,
    stop: &AtomicBool,
) -> Result<bool, Error> {
    let mut prompt = Prompt {
        session,
        quits: false,
    };
    for line in script.lines() {
        if stop.load(Relaxed) {
            return Ok(false);
        }
        if echo {
            say(&format!("{PROMPT}{line}\n"))?;
        }
        prompt.session.tend()?;
        prompt.execute(line)?;
        if prompt.quits {
            return Ok(true);
        }
    }
    // It asks for a line before it sees that there is none.
    say(if echo { PROMPT } else { "" })?;
    Ok(true)
}

/// Prompts until `quit`, the end of the input, a signal, or `--duration`.
///
/// # Errors
///
/// What ends the session; a command that is refused does not.
pub fn run(session: &mut Session<'_>, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let end = session.args.duration.map(|time| Instant::now() + time);
    let mut prompt = Prompt {
        session,
        quits: false,
    };
    let input = Input::start()?;
    while !prompt.quits {
        input.ask()?;
        let line = loop {
            if stop.load(Relaxed) || end.is_some_and(|end| Instant::now() >= end) {
                return say("\n");
            }
            prompt.session.tend()?;
            if let Some(typed) = input.wait(TICK) {
                break typed;
            }
        };
        match line {
            Typed::Line(line) => prompt.execute(&line)?,
            Typed::End => return Ok(()),
            Typed::Failed(error) => {
                complain(&format!("standard input: {error}"));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Tells of a mistake. Who closed standard error does not hear of it.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

impl Prompt<'_, '_> {
    /// Runs one line; nothing, where it is empty or a comment.
    fn execute(&mut self, line: &str) -> Result<(), Error> {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            return Ok(());
        }
        match parse::find(commands::TABLE, &words) {
            Ok((spec, values)) => (spec.run)(self, &values),
            Err(Miss::Unknown { hint }) => {
                say("Command not found\n")?;
                if let Some(hint) = hint {
                    complain(&hint);
                }
                Ok(())
            }
            Err(Miss::Wrong { hint }) => {
                complain(&hint);
                say("Bad arguments\n")
            }
        }
    }

    /// The number of an open port, or what is wrong with it is told.
    fn port(&self, word: &str) -> Result<Option<usize>, Error> {
        let number = self.number(word, "a port number")?;
        let open = number.filter(|number| self.session.open_ports().contains(number));
        if let (Some(number), None) = (number, open) {
            complain(&format!("Invalid port {number}"));
        }
        Ok(open)
    }

    /// The open ports that a word names: `all`, or one number. Empty after a mistake, which is told.
    fn ports(&self, word: &str) -> Result<Vec<usize>, Error> {
        match word {
            "all" => Ok(self.session.open_ports()),
            word => Ok(self.port(word)?.into_iter().collect()),
        }
    }

    /// As [`Prompt::ports`], where testpmd tells after a mistake which ports there are.
    fn shown_ports(&self, word: &str) -> Result<Vec<usize>, Error> {
        let ports = self.ports(word)?;
        if ports.is_empty() && word.parse::<u32>().is_ok() {
            let open = self.session.open_ports();
            let numbers: Vec<String> = open.iter().map(usize::to_string).collect();
            let numbers = numbers.join(" ");
            say(&format!("The valid ports array is [ {numbers} ]\n"))?;
        }
        Ok(ports)
    }

    /// A number, or what was expected is told.
    fn number(&self, word: &str, what: &str) -> Result<Option<usize>, Error> {
        let number: Option<u32> = self.parsed(word, what)?;
        Ok(number.map(|number| number as usize))
    }

    /// Any kind of number, likewise.
    fn parsed<N: FromStr>(&self, word: &str, what: &str) -> Result<Option<N>, Error> {
        let number = word.parse().ok();
        if number.is_none() {
            complain(&format!("`{word}`: expected {what}"));
            say("Bad arguments\n")?;
        }
        Ok(number)
    }
}
