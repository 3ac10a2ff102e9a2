//! The device steered and read by text.

use std::fmt::Write as _;

use gdma::eqe::event;
use mana_model::control::{Command, ControlError, run_on_hardware};

use crate::server::Shared;

/// What `help` answers: one line a command.
pub const HELP: &str = "\
help                                   this text
device                                 what it is, as the text of `--vdev`
state                                  whether a client and a driver are there, and what exists
ports                                  every port: MAC and carrier
counters [PORT]                        what the device counted, of one port or of all
operations                             requests of the driver so far
step                                   let the device do everything that is pending, for a moment
hold                                   stand still: from now on packets move in `step` only
go                                     move by itself again, as it does at first
findings                               what the driver did wrong so far
take-findings                          the same, and forget it
objects                                domains, memory regions and work queues that there are
wire PORT loop|sink|sink:keep          puts another link behind the port; what was on the old one is lost
frames PORT                            take what the port sent, where its link is sink:keep
deliver PORT HEX                       let a frame arrive at the port
link PORT up|down                      the carrier of the port's link; without it frames are lost
inject tx-error PORT TYPE NTH [QUEUE]  the NTH packet sent (of a queue) ends in an error CQE, 33 to 42
inject rx-truncated PORT NTH           the NTH packet received is truncated
inject garbage-cqe PORT NTH            the NTH CQE of the port is nonsense
inject lost-cqe PORT NTH               the NTH CQE of the port is never written
reset-request [0]                      RESET_REQUEST: Linux 7 takes the device down and up again
event TYPE [VALUE]                     any event on the queue of the hardware channel
remove [0]                             ask the machine to take the device out, as a host does
fall-off                               the device is gone at once; reads are all ones until the machine ends
";

/// Runs one line.
pub(crate) fn run(shared: &Shared, line: &str) -> Result<String, ControlError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut answer = String::new();
    match words[..] {
        ["help"] => answer.push_str(HELP),
        ["device"] => {
            let device = shared.device();
            let text = device.function.hardware().config().to_text();
            let text = text.map_err(|error| ControlError::not_now(error.to_string()))?;
            let _always = writeln!(answer, "device {text}");
        }
        ["state"] => {
            let device = shared.device();
            let live = device.function.hardware().live();
            let yes = |is| if is { "yes" } else { "no" };
            // Writing to a String does not fail.
            let _always = write!(
                answer,
                "client {}\nestablished {}\nempty {}\nrequests {}\nmaps {}\ndomains {}\nmemory_regions {}\n\
                 work_queues {}\nevent_queues {}\nforeign {}\n",
                yes(shared.is_connected()),
                yes(device.is_established()),
                yes(device.function.is_empty()),
                device.requests,
                device.memory.stretches(),
                live.domains,
                live.memory_regions,
                live.work_queues,
                live.event_queues,
                live.foreign,
            );
        }
        ["reset-request"] | ["reset-request", "0"] => post(shared, event::RESET_REQUEST, 0)?,
        ["event", kind] => post(shared, number(kind, line)?, 0)?,
        ["event", kind, value] => post(shared, number(kind, line)?, number(value, line)?)?,
        ["remove"] | ["remove", "0"] => {
            let mut device = shared.device();
            if !device.give_back.is_heard(0) {
                return Err(ControlError::not_now(
                    "the machine does not listen to this wish, as QEMU's vfio-user-pci does not: take \
                     the device out by the machine itself, or in its guest by sysfs (remove)",
                ));
            }
            device.give_back.raise(0);
        }
        ["hold"] => shared.device().held = true,
        ["go"] => {
            let mut device = shared.device();
            device.held = false;
            device.settle();
            drop(device);
            // What did not get done in a turn.
            shared.wake();
        }
        ["fall-off"] => shared.device().fall_off(),
        _ => {
            let command: Command = line.parse()?;
            let mut device = shared.device();
            match command {
                // All doorbells are trapped, so nothing is left undecided.
                Command::Undecided => {}
                Command::Operations => {
                    let _always = writeln!(answer, "operations {}", device.requests);
                }
                Command::Step => {
                    let moved = device.settle();
                    let _always = writeln!(answer, "moved {moved}");
                }
                command => {
                    answer = run_on_hardware(device.function.hardware_mut(), &command)?;
                    // A frame was delivered, perhaps: who gave it sees it arrive.
                    if !device.held {
                        device.settle();
                    }
                }
            }
            drop(device);
            // What did not get done in a turn.
            shared.wake();
        }
    }
    Ok(answer)
}

fn post(shared: &Shared, kind: u8, value: u32) -> Result<(), ControlError> {
    match shared.device().event(kind, value) {
        true => Ok(()),
        false => Err(ControlError::not_now(
            "no driver has set the hardware channel up: try again when it has",
        )),
    }
}

/// A number, decimal or behind `0x`.
fn number<T: TryFrom<u64>>(text: &str, line: &str) -> Result<T, ControlError> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = parsed.ok().and_then(|number| number.try_into().ok());
    number.ok_or_else(|| {
        let line: String = line.trim().chars().take(80).collect();
        ControlError::invalid(format!(
            "`{line}`: expected a number, not `{text}` (see `help`)"
        ))
    })
}
