//! Ports started, stopped, closed, reset and configured.

use mana_pmd::MIN_DEPTH;
use pmd_api::Support;

use super::{Prompt, complain};
use crate::testpmd::display;
use crate::testpmd::error::Error;
use crate::testpmd::run::say;

const LINKS: &str = "Checking link statuses...\n";
const BUSY: &str = "Please remove port";

/// `port start|stop|close|reset PORTS`.
pub fn change(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let ports = prompt.ports(words[1])?;
    if ports.is_empty() {
        return Ok(());
    }
    match words[0] {
        "start" => start(prompt, &ports),
        "stop" => stop(prompt, &ports),
        "close" => close(prompt, &ports),
        _ => reset(prompt, &ports),
    }
}

fn start(prompt: &mut Prompt<'_, '_>, ports: &[usize]) -> Result<(), Error> {
    let mut any = false;
    for number in ports.iter().copied() {
        let session = &mut prompt.session;
        if session.ports[number].is_started() {
            complain(&format!("Port {number} is now not stopped"));
            continue;
        }
        let changed = session.ports[number].changed;
        match session.start_port(number) {
            Ok(()) => {
                any = true;
                let mut text = String::new();
                let line = session.ports[number].line(&session.args);
                display::configured(&mut text, number, &line, false);
                // Without news there is nothing to configure, says testpmd.
                let text = match (changed, text.split_once('\n')) {
                    (false, Some((_, rest))) => rest.to_owned(),
                    _ => text,
                };
                say(&text)?;
            }
            Err(error) => complain(&format!("Fail to start port {number}: {error}")),
        }
    }
    match any {
        true => say(LINKS)?,
        false => complain("Please stop the ports first"),
    }
    say("Done\n")
}

/// Whether forwarding uses the port, which is told.
fn is_busy(prompt: &Prompt<'_, '_>, number: usize) -> bool {
    let busy = prompt.session.is_forwarding() && prompt.session.ports[number].is_started();
    if busy {
        complain(&format!(
            "{BUSY} {number} from forwarding configuration: `stop` first."
        ));
    }
    busy
}

fn stop(prompt: &mut Prompt<'_, '_>, ports: &[usize]) -> Result<(), Error> {
    say("Stopping ports...\n")?;
    let mut any = false;
    for number in ports.iter().copied() {
        if is_busy(prompt, number) || !prompt.session.ports[number].is_started() {
            continue;
        }
        any = true;
        if let Err(error) = prompt.session.ports[number].stop() {
            complain(&format!("Port {number}: {error}"));
        }
    }
    say(if any { LINKS } else { "" })?;
    say("Done\n")
}

fn close(prompt: &mut Prompt<'_, '_>, ports: &[usize]) -> Result<(), Error> {
    say("Closing ports...\n")?;
    for number in ports.iter().copied() {
        if is_busy(prompt, number) {
            continue;
        }
        let port = &mut prompt.session.ports[number];
        if port.is_started() {
            complain(&format!(
                "Cannot close started device (port {number}): `port stop {number}` first"
            ));
            continue;
        }
        match port.close() {
            Ok(()) => say(&format!("Port {number} is closed\n"))?,
            Err(error) => complain(&format!("Port {number}: {error}")),
        }
    }
    say("Done\n")
}

fn reset(prompt: &mut Prompt<'_, '_>, ports: &[usize]) -> Result<(), Error> {
    let started = |number: &usize| prompt.session.ports[*number].is_started();
    if ports.iter().any(started) {
        complain("Can not reset port(s), please stop port(s) first.");
        return Ok(());
    }
    say("Resetting ports...\n")?;
    for number in ports.iter().copied() {
        prompt.session.ports[number].recover();
    }
    prompt.session.tend()?;
    say("Done\n")
}

/// `port config mtu N VALUE`.
pub fn mtu(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[0])? else {
        return Ok(());
    };
    let Some(mtu) = prompt.parsed::<u16>(words[1], "an MTU in bytes")? else {
        return Ok(());
    };
    if let Err(error) = prompt.session.ports[number].set_mtu(mtu.into()) {
        complain(&format!("Set MTU failed. diag=-22: {error}"));
    }
    Ok(())
}

/// `port config all rxq|txq|rxd|txd N`.
pub fn queues(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(value) = prompt.parsed::<u16>(words[1], "a number")? else {
        return Ok(());
    };
    let session = &mut prompt.session;
    if session.ports.iter().any(|port| port.is_started()) {
        complain("Please stop all ports first");
        return Ok(());
    }
    for port in &session.ports {
        let info = port.info();
        let (least, most, limit) = match words[0] {
            "rxq" => (0, info.max_rx_queues.into(), "rx_queues"),
            "txq" => (0, info.max_tx_queues.into(), "tx_queues"),
            "rxd" => (MIN_DEPTH, info.max_depth, "rxds"),
            _ => (MIN_DEPTH, info.max_depth, "txds"),
        };
        let (what, number) = (words[0], port.number);
        let (than, limit) = match u32::from(value) {
            value if value > most => ("greater", format!("max_{limit} ({most})")),
            value if value < least => ("less", format!("min_{limit} ({least})")),
            _ => continue,
        };
        complain(&format!(
            "Fail: input {what} ({value}) can't be {than} than {limit} of port {number}"
        ));
        return Ok(());
    }
    if value == 0 {
        complain("Warning: Either rx or tx queues should be non zero");
        return Ok(());
    }
    let args = &mut session.args;
    match words[0] {
        "rxq" => args.rxq = value,
        "txq" => args.txq = value,
        "rxd" => args.rxd = value.into(),
        _ => args.txd = value.into(),
    }
    session.plan_queues();
    Ok(())
}

/// `port N rxq|txq QUEUE start|stop`.
pub fn queue(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(_) = prompt.port(words[0])? else {
        return Ok(());
    };
    let Some(queue) = prompt.number(words[2], "a queue number")? else {
        return Ok(());
    };
    let queues = match words[1] {
        "rxq" => prompt.session.queues.rx,
        _ => prompt.session.queues.tx,
    };
    if queue >= queues.into() {
        let way = if words[1] == "rxq" { "RX" } else { "TX" };
        complain(&format!(
            "Invalid {way} queue {queue} (must be < nb_{}={queues})",
            words[1]
        ));
        return Ok(());
    }
    complain(&format!(
        "Function not supported in PMD: {}: mana_ib makes and destroys the queues of a port \
         together",
        Support::NotByKernel
    ));
    Ok(())
}
