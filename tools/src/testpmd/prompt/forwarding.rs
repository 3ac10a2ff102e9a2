//! Forwarding started and stopped.

use super::{Prompt, complain};
use crate::testpmd::error::Error;

/// `start`.
pub fn start(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    start_with(prompt, false)
}

/// `start tx_first`.
pub fn start_tx_first(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    start_with(prompt, true)
}

/// `start tx_first N`.
pub fn start_tx_first_bursts(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match prompt.number(words[0], "a number of bursts")? {
        Some(1) => start_with(prompt, true),
        Some(bursts) => {
            complain(&format!(
                "start tx_first {bursts}: one burst on every stream is what there is: \
                 `start tx_first`, with `set burst` before it"
            ));
            Ok(())
        }
        None => Ok(()),
    }
}

fn start_with(prompt: &mut Prompt<'_, '_>, tx_first: bool) -> Result<(), Error> {
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
