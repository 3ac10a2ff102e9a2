//! Commands over a device without a kernel in front of it.

use uverbs_abi::Errno;

use super::answer::{
    PortState, write_counters, write_finding, write_frame, write_objects, write_port,
};
use super::command::Command;
use super::error::ControlError;
use super::run::missing;
use crate::hardware::{Hardware, Refusal};
use crate::{Fault, ObjectCounts};

/// Runs one command, of those that concern ports, their links and findings; the answer is as that of
/// [`super::run`].
///
/// # Errors
///
/// A port that the device does not have, and `EOPNOTSUPP` for commands that concern a kernel. Nothing
/// has changed then.
pub fn run_on_hardware(hardware: &mut Hardware, command: &Command) -> Result<String, ControlError> {
    let mut answer = String::new();
    let ports = hardware.config().ports.len();
    let check = |port: usize| match port < ports {
        true => Ok(()),
        false => Err(missing("port", port, ports)),
    };
    match command {
        Command::Ports => {
            for port in 0..ports {
                let state = PortState {
                    device: 0,
                    mac: hardware.mac(port).unwrap_or_default(),
                    // The guest names its netdevs, and sets them.
                    netdev: "-".to_owned(),
                    up: false,
                    link_up: hardware.is_link_up(port),
                };
                write_port(&mut answer, port, &state);
            }
        }
        Command::Counters(which) => {
            let which = match which {
                Some(port) => {
                    check(*port)?;
                    *port..port + 1
                }
                None => 0..ports,
            };
            for port in which {
                write_counters(&mut answer, port, &hardware.counters(port));
            }
        }
        Command::Findings => {
            let findings = hardware.findings().iter();
            findings.for_each(|it| write_finding(&mut answer, it));
        }
        Command::TakeFindings => {
            let findings = hardware.take_findings();
            findings
                .iter()
                .for_each(|it| write_finding(&mut answer, it));
        }
        Command::Inject(
            fault @ (Fault::TxError { port, .. }
            | Fault::RxTruncated { port, .. }
            | Fault::GarbageCqe { port, .. }
            | Fault::LostCqe { port, .. }),
        ) => {
            check(*port)?;
            done(hardware.inject(*port, fault))?;
        }
        Command::Link { port, up } => {
            check(*port)?;
            done(hardware.set_link_up(*port, *up))?;
        }
        Command::Wire { port, link } => {
            check(*port)?;
            let wired = hardware.set_wire(*port, link);
            if !wired.map_err(|refusal| ControlError::invalid(refusal.to_string()))? {
                return Err(ControlError::invalid("a port can have a loop or a sink"));
            }
        }
        Command::Objects => {
            let live = hardware.live();
            // The device has completion queues with the work queues that they serve only.
            let objects = ObjectCounts {
                pds: live.domains,
                mrs: live.memory_regions,
                wqs: live.work_queues,
                ..ObjectCounts::default()
            };
            write_objects(&mut answer, &objects);
        }
        Command::Frames { port } => {
            check(*port)?;
            let frames = hardware.take_tx_frames(*port);
            frames.iter().for_each(|it| write_frame(&mut answer, it));
        }
        Command::Deliver { port, frames } => {
            check(*port)?;
            for frame in frames {
                done(hardware.deliver(*port, frame))?;
            }
        }
        other => {
            return Err(ControlError {
                errno: Errno::EOPNOTSUPP,
                why: format!("`{other}` concerns a kernel, which this model has not: see `help`"),
            });
        }
    }
    Ok(answer)
}

fn done(result: Result<(), Refusal>) -> Result<(), ControlError> {
    result.map_err(|refusal| ControlError::invalid(refusal.to_string()))
}
