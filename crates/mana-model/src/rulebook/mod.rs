//! The kernel's rules as a table: what comes of every (operation, situation) at a uverbs node.
//!
//! [`record`] tries them at the nodes of any [`System`] and writes one line each. Recorded on the
//! real kernels (`mana conformance --rulebook`, in a guest) the table is the truth that this crate's
//! front is held against: on the model, it must come out the same (`tests/tests/rulebook.rs`).
//!
//! The device needs two ports, whose netdevs are DOWN and which nobody uses. Numbers that belong to
//! the device and not to the rules (ids of queues, keys, limits) are not told.

mod memory;
mod program;
mod request;
mod situations;

use std::time::Duration;

use uverbs_abi::ids::{MANA_DRIVER_IDS, PART_ID_RNIC};
use uverbs_abi::{Errno, IbDevice, PciAddress, System, SystemError};

use crate::Model;
use crate::control::{Client, ClientError};
use program::Program;
use request::Refused;

/// What is done to the machine beside its uverbs nodes.
pub trait Surroundings {
    /// Sets the netdev of a port UP or DOWN, as `ip link set` does. Ports count from 0.
    ///
    /// # Errors
    ///
    /// The kernel's error number.
    fn set_netdev_up(&self, port: usize, up: bool) -> Result<(), Errno>;

    /// Takes the device away from its drivers, as unbinding it does.
    ///
    /// # Errors
    ///
    /// The kernel's error number.
    fn remove(&self) -> Result<(), Errno>;

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// The kernel's error number.
    fn restore(&self) -> Result<(), Errno>;

    /// How long after one of these an event may come. Where none comes, it is waited for so long.
    fn patience(&self) -> Duration;
}

/// The first device of a model.
impl Surroundings for Model {
    fn set_netdev_up(&self, port: usize, up: bool) -> Result<(), Errno> {
        self.port(port).set_netdev_up(up)
    }

    fn remove(&self) -> Result<(), Errno> {
        Model::remove(self, 0)
    }

    fn restore(&self) -> Result<(), Errno> {
        Model::restore(self, 0)
    }

    fn patience(&self) -> Duration {
        // They are there when the call returns.
        Duration::ZERO
    }
}

/// The first device of a model in another process.
impl Surroundings for Client {
    fn set_netdev_up(&self, port: usize, up: bool) -> Result<(), Errno> {
        told(self.port(port).set_netdev_up(up))
    }

    fn remove(&self) -> Result<(), Errno> {
        told(Client::remove(self, 0))
    }

    fn restore(&self) -> Result<(), Errno> {
        told(Client::restore(self, 0))
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

fn told(answer: Result<(), ClientError>) -> Result<(), Errno> {
    answer.map_err(|error| match error {
        ClientError::Refused(refused) => refused.errno,
        _ => Errno::EPROTO,
    })
}

/// Why nothing could be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulebookError {
    /// Devices could not be listed or opened.
    #[error(transparent)]
    System(#[from] SystemError),
    /// No ib device for Ethernet at the address.
    #[error("there is no ib device with raw packets at {0}; are ib_uverbs and mana_ib loaded?")]
    NoDevice(PciAddress),
    /// A kernel call that every situation begins with.
    #[error("{what}: {errno}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// How it was answered.
        errno: Errno,
    },
    /// A device that is too small.
    #[error("the device at {pci} has {ports} ports; the rulebook is recorded on one with two")]
    Ports {
        /// The device.
        pci: PciAddress,
        /// Its ports.
        ports: u8,
    },
}

/// Tries every situation at the MANA device at `pci`, and tells at once what came of each: a line
/// `operation: situation -> outcome`, the outcome being the error number's name, or `ok` and what was answered.
///
/// The device is removed and restored at the end. Nothing else changes.
///
/// # Errors
///
/// Where the device is not there, can't be opened, or has not two ports.
pub fn record(
    system: &dyn System,
    pci: PciAddress,
    surroundings: &dyn Surroundings,
    tell: &mut dyn FnMut(&str),
) -> Result<(), RulebookError> {
    let device = ethernet(system, pci)?;
    let program = Program::start(system, &device)?;
    let (ports, limits) = (program.ports(), program.limits);
    drop(program);
    if ports != 2 {
        return Err(RulebookError::Ports { pci, ports });
    }
    let mut recorder = Recorder {
        system,
        pci,
        device,
        surroundings,
        limits,
        tell,
    };
    situations::all(&mut recorder)
}

/// The function's ib device on which raw packet queues can be created: the only one of old kernels,
/// the one of Ethernet where there are two.
fn ethernet(system: &dyn System, pci: PciAddress) -> Result<IbDevice, RulebookError> {
    let mut found = None;
    for device in system.ib_devices()? {
        if device.pci == pci {
            let program = Program::start(system, &device)?;
            if program.part != PART_ID_RNIC {
                found = Some(device);
            }
        }
    }
    found.ok_or(RulebookError::NoDevice(pci))
}

/// What the device allows.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    comp_vectors: u32,
    max_cqe: u32,
    max_qp_wr: u32,
}

/// The table that is being written.
struct Recorder<'a> {
    system: &'a dyn System,
    pci: PciAddress,
    device: IbDevice,
    surroundings: &'a dyn Surroundings,
    limits: Limits,
    tell: &'a mut dyn FnMut(&str),
}

impl Recorder<'_> {
    /// One line, tried in a context of its own.
    fn try_it(
        &mut self,
        operation: &str,
        situation: &str,
        act: impl FnOnce(&Program) -> Result<String, Refused>,
    ) -> Result<(), RulebookError> {
        let program = Program::start(self.system, &self.device)?;
        self.line(operation, situation, act(&program));
        Ok(())
    }

    fn line(&mut self, operation: &str, situation: &str, outcome: Result<String, Refused>) {
        let outcome = match outcome {
            Ok(answer) if answer.is_empty() => "ok".to_owned(),
            Ok(answer) => format!("ok {answer}"),
            Err(Refused::Here(errno)) => name(errno),
            Err(Refused::Beyond(bytes)) => format!("ok, {bytes} bytes beyond its answer"),
            Err(Refused::Before(what, errno)) => format!("not tried: {what}: {}", name(errno)),
        };
        (self.tell)(&format!("{operation}: {situation} -> {outcome}"));
    }

    /// The device again, which was away and may have come back under other names.
    fn find_again(&mut self) -> Result<(), RulebookError> {
        self.device = ethernet(self.system, self.pci)?;
        Ok(())
    }
}

fn name(errno: Errno) -> String {
    errno
        .name()
        .map_or_else(|| format!("errno {}", errno.0), str::to_owned)
}

/// The driver id of a device; where it is not told, the one upstream.
fn driver_id(device: &IbDevice) -> u32 {
    device.driver_id.unwrap_or(MANA_DRIVER_IDS[0])
}
