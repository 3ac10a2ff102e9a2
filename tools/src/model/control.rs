//! Steers the model of a running program: `mana model control SOCKET COMMAND`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mana_model::control::Client;

use super::FINDINGS;
use super::error::Error;

/// Runs the command and prints the answer; returns the exit code.
pub fn run(words: &[String]) -> Result<u8, Error> {
    let (wait, rest) = wait(words)?;
    let Some((socket, command)) = rest.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(usage("expected SOCKET COMMAND"));
    };
    let client = Client::wait_for(Path::new(socket), wait)?;
    let lines = client.send(&command.join(" "))?;
    let mut out = std::io::stdout().lock();
    for line in &lines {
        if writeln!(out, "{line}").is_err() {
            // Who reads has read enough.
            break;
        }
    }
    let asked = matches!(command[0].trim(), "findings" | "take-findings");
    Ok(if asked && !lines.is_empty() {
        FINDINGS
    } else {
        0
    })
}

/// How long to wait for the socket, and the words behind.
fn wait(words: &[String]) -> Result<(Duration, &[String]), Error> {
    let Some((first, rest)) = words.split_first() else {
        return Ok((Duration::ZERO, words));
    };
    let Some(option) = first.strip_prefix("--") else {
        return Ok((Duration::ZERO, words));
    };
    let seconds = match option.split_once('=') {
        Some(("wait", seconds)) => Some((seconds, rest)),
        None if option == "wait" => rest.split_first().map(|(word, rest)| (word.as_str(), rest)),
        _ => return Err(usage(format!("unknown option {first}: there is --wait"))),
    };
    let (seconds, rest) = seconds.ok_or_else(|| usage("--wait needs a value"))?;
    let duration = seconds.parse().ok().map(Duration::try_from_secs_f64);
    match duration {
        Some(Ok(duration)) if duration < Duration::from_secs(86_400) => Ok((duration, rest)),
        _ => Err(usage(format!("--wait={seconds}: expected seconds"))),
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}
