//! Forwarding started and stopped.

use super::{Prompt, complain};
use crate::testpmd::error::Error;

/// `start`.
pub fn start(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    start_with(prompt, 0)
}

/// `start tx_first`.
pub fn start_tx_first(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    start_with(prompt, 1)
}

/// `start tx_first N`.
pub fn start_tx_first_bursts(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match prompt.number(words[0], "a number of bursts")? {
        Some(bursts) => start_with(prompt, bursts),
        None => Ok(()),
    }
}

fn start_with(prompt: &mut Prompt<'_, '_>, tx_first: usize) -> Result<(), Error> {
    let session = &mut prompt.session;
    if session.is_forwarding() {
        complain("Packet forwarding already started");
        return Ok(());
    }
    let open = session.open_ports();
    if !open
        .iter()
        .all(|number| session.ports[*number].is_started())
    {
        complain("Not all ports were started");
        return Ok(());
    }
    if let Err(error) = session.args.check() {
        complain(&error.to_string());
        return Ok(());
    }
    match session.start_forwarding(tx_first) {
        Err(error @ Error::TooManySegments { .. }) => complain(&error.to_string()),
        result => result?,
    }
    Ok(())
}

/// `stop`.
pub fn stop(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    if !prompt.session.is_forwarding() {
        complain("Packet forwarding not started");
        return Ok(());
    }
    prompt.session.stop_forwarding().map(drop)
}

/// `quit`.
pub fn quit(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    prompt.quits = true;
    Ok(())
}
