//! Runs commands over a model.

use std::fmt::Write as _;

use uverbs_abi::Errno;

use super::answer::{
    PortState, write_counters, write_finding, write_frame, write_kind, write_objects, write_port,
};
use super::command::{Command, HELP, up_text};
use super::error::ControlError;
use crate::{After, Fault, Model, PortView};

/// When a device is back that asked the model's kernel for a reset.
const SERVED: After = After::Steps(3);

/// Runs one line; the answer is none, one or several whole lines, without the closing `ok`.
///
/// # Errors
///
/// A line that is no command, a port or device that the model does not have, and what the model
/// refuses. Nothing has changed then.
pub fn run(model: &Model, line: &str) -> Result<String, ControlError> {
    let mut answer = String::new();
    match line.parse()? {
        Command::Help => answer.push_str(HELP),
        Command::Ports => {
            for index in 0..model.ports() {
                write_port(&mut answer, index, &port_state(&model.port(index)));
            }
        }
        Command::Counters(Some(index)) => {
            write_counters(&mut answer, index, &port(model, index)?.counters());
        }
        Command::Counters(None) => {
            for index in 0..model.ports() {
                write_counters(&mut answer, index, &model.port(index).counters());
            }
        }
        Command::Findings => {
            let findings = model.findings();
            findings
                .iter()
                .for_each(|it| write_finding(&mut answer, it));
        }
        Command::TakeFindings => {
            let findings = model.take_findings();
            findings
                .iter()
                .for_each(|it| write_finding(&mut answer, it));
        }
        Command::Undecided => {
            let kinds = model.undecided();
            kinds.iter().for_each(|it| write_kind(&mut answer, *it));
        }
        Command::Objects => write_objects(&mut answer, &model.objects()),
        Command::Operations => line_of(&mut answer, "operations", model.operations()),
        Command::Drained => {
            let drained = if model.drained() { "yes" } else { "no" };
            line_of(&mut answer, "drained", drained);
        }
        Command::Step => line_of(&mut answer, "moved", model.step()),
        Command::Cool(cooling) => model.set_cooling(cooling),
        Command::Inject(fault) => {
            match fault {
                Fault::FailOperation { .. } => {}
                Fault::TxError { port: index, .. }
                | Fault::RxTruncated { port: index, .. }
                | Fault::GarbageCqe { port: index, .. }
                | Fault::LostCqe { port: index, .. } => {
                    port(model, index)?;
                }
                Fault::RemoveAt { device, .. } | Fault::DeviceFatal { device } => {
                    check_device(model, device)?;
                }
            }
            model.inject(fault);
        }
        Command::Remove { device } => {
            check_device(model, device)?;
            done(model.remove(device), device)?;
        }
        Command::Restore { device } => {
            check_device(model, device)?;
            done(model.restore(device), device)?;
        }
        Command::Reset { device, after } => {
            check_device(model, device)?;
            done(model.reset(device, after), device)?;
        }
        Command::ResetRequest { device } => {
            check_device(model, device)?;
            done(model.reset(device, SERVED), device)?;
        }
        Command::Wire { port: index, link } => {
            let wired = port(model, index)?.set_wire(&link);
            wired.map_err(|errno| ControlError {
                errno,
                why: format!("port {index} can have a loop or a sink"),
            })?;
        }
        Command::Link { port: index, up } => port(model, index)?.set_link_up(up),
        Command::Netdev { port: index, up } => {
            let port = port(model, index)?;
            port.set_netdev_up(up).map_err(|errno| ControlError {
                errno,
                why: format!(
                    "{} can't be set {}: {errno}: a driver has a send queue on the port",
                    port.netdev(),
                    up_text(up)
                ),
            })?;
        }
        Command::Frames { port: index } => {
            let frames = port(model, index)?.take_tx_frames();
            frames.iter().for_each(|it| write_frame(&mut answer, it));
        }
        Command::Deliver {
            port: index,
            frames,
        } => {
            let port = port(model, index)?;
            frames.iter().for_each(|frame| port.deliver(frame));
        }
    }
    Ok(answer)
}

fn line_of(answer: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String does not fail.
    let _always = writeln!(answer, "{name} {value}");
}

fn port_state(port: &PortView) -> PortState {
    PortState {
        device: port.device(),
        mac: port.mac(),
        netdev: port.netdev(),
        up: port.is_netdev_up(),
        link_up: port.is_link_up(),
    }
}

fn port(model: &Model, index: usize) -> Result<PortView, ControlError> {
    let ports = model.ports();
    if index < ports {
        return Ok(model.port(index));
    }
    Err(missing("port", index, ports))
}

fn check_device(model: &Model, index: usize) -> Result<(), ControlError> {
    let devices = model.devices();
    if index < devices {
        return Ok(());
    }
    Err(missing("device", index, devices))
}

/// A device that went or came, or says that it is there already or away already.
fn done(result: Result<(), Errno>, device: usize) -> Result<(), ControlError> {
    result.map_err(|errno| ControlError {
        errno,
        why: match errno {
            Errno::EEXIST => format!("device {device} is there: remove it first"),
            _ => format!("device {device} is away: restore it first"),
        },
    })
}

pub(super) fn missing(what: &str, index: usize, count: usize) -> ControlError {
    let last = count.saturating_sub(1);
    ControlError {
        errno: Errno::ENODEV,
        why: format!("the model has no {what} {index}: they are counted from 0 to {last}"),
    }
}
