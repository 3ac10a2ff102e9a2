//! Packets and events looked at.

use std::path::Path;

use super::{Prompt, complain};
use crate::testpmd::error::Error;
use crate::testpmd::run::say;
use crate::testpmd::watch::Way;

/// `set verbose LEVEL`.
pub fn verbose(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(level) = prompt.number(words[0], "a level, 0 to 3")? else {
        return Ok(());
    };
    let (ports, args) = (&prompt.session.ports, &mut prompt.session.args);
    for port in ports {
        port.watch.set_verbose(level as u32);
    }
    let before = std::mem::replace(&mut args.verbose, level as u32);
    say(&format!("Change verbose level from {before} to {level}\n"))
}

/// `set capture rx|tx N FILE`.
pub fn capture(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let way = match words[0] {
        "rx" => Way::Rx,
        _ => Way::Tx,
    };
    let Some(port) = prompt.port(words[1])? else {
        return Ok(());
    };
    let (watch, name) = (&prompt.session.ports[port].watch, words[0]);
    if words[2] == "off" {
        return match watch.end_capture(way) {
            Some(packets) => say(&format!(
                "Port {port}: capture of {name} ended with {packets} packets\n"
            )),
            None => {
                complain(&format!("Port {port}: there is no capture of {name}"));
                Ok(())
            }
        };
    }
    match watch.capture(way, Path::new(words[2])) {
        Ok(()) => say(&format!("Port {port}: capture of {name} to {}\n", words[2])),
        Err(error) => {
            complain(&format!("Port {port}: {}: {error}", words[2]));
            Ok(())
        }
    }
}

/// `show event`.
pub fn show_events(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    let mut text = String::new();
    for port in &prompt.session.ports {
        for event in &port.events {
            text.push_str(&format!("Port {}: {event}\n", port.number));
        }
    }
    if text.is_empty() {
        text.push_str("No event\n");
    }
    say(&text)
}
