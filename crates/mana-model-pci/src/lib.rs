//! The MANA device in software as a PCI function over vfio-user: what Linux's own drivers probe.
//!
//! [`Served::start`] listens on a Unix socket for a client of vfio-user, such as QEMU's device
//! `vfio-user-pci`, and is the function in its machine until that ends; then it is ready for the
//! next. [`Served::run`] steers and reads the device by text.
//!
//! From the outside in: `server` speaks vfio-user, `device` is the function behind it, made of
//! `config_space`, `registers` (BAR0), `smc` (the shared-memory channel), `channel` (the hardware
//! channel, through which requests pass), `interrupts` (MSI-X) and `memory` (the guest's, with all
//! unsafe code of the crate; `called` where it can't be mapped); `function` knows the requests and holds the device of `mana-model`;
//! `trace` writes them down, by `lines`, for which nobody waits. The guest is not trusted: whatever it writes wherever, an answer says
//! so or the log does, and nothing else happens.
//!
//! ```
//! use mana_model::parse_device;
//! use mana_model_pci::{Served, Settings};
//!
//! let folder = tempfile::tempdir()?;
//! let socket = folder.path().join("mana");
//! let served = Served::start(parse_device("model0,link=sink")?, &socket, Settings::default())?;
//! assert!(served.run("state")?.starts_with("client no\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod called;
mod channel;
mod config_space;
mod control;
mod device;
mod error;
mod function;
mod interrupts;
mod limits;
mod lines;
mod memory;
mod registers;
mod server;
mod smc;
mod trace;

use std::path::Path;
use std::sync::Arc;

use mana_model::control::ControlError;
use mana_model::{DeviceConfig, Finding};

pub use control::HELP;
use device::Device;
pub use error::Error;
use function::Function;
pub use lines::{Lines, Writer};
use memory::GuestMemory;
use server::{Shared, Threads};
use trace::Trace;

/// What a function may be told besides its device.
pub struct Settings {
    /// Whether the RNIC is listed beside the Ethernet adapter: Linux 6.12 needs it for its verbs, Linux
    /// 7.3 makes a second ib device of it.
    pub rnic: bool,
    /// Gets a line for each message of the driver, in the form
    /// `HWC 0xc CREATE_QUEUE v1/r1 req 96 resp 36 dev 0x2 ...`.
    pub trace: Option<Lines>,
}

impl Default for Settings {
    /// With the RNIC, without a trace.
    fn default() -> Self {
        Self {
            rnic: true,
            trace: None,
        }
    }
}

/// A function that is served, with its threads. Dropping it ends them and removes the socket; a
/// client that is connected then finds the function fallen off its bus.
pub struct Served {
    shared: Arc<Shared>,
    _threads: Threads,
}

impl Served {
    /// Serves the device that `config` describes on a socket of mode 0600 at `socket`. One that a
    /// killed server has left is replaced.
    ///
    /// # Errors
    ///
    /// What is wrong with the device, or what is in the way of the socket, and what to do.
    pub fn start(config: DeviceConfig, socket: &Path, settings: Settings) -> Result<Self, Error> {
        if config.physical {
            return Err(Error::Physical);
        }
        let memory = Arc::new(GuestMemory::default());
        let mut function = Function::new(config, Arc::clone(&memory) as _)?;
        function.set_rnic(settings.rnic);
        let device = Device::new(function, memory, Trace::new(settings.trace));
        let shared = Arc::new(Shared::new(device));
        Ok(Self {
            _threads: Threads::start(&shared, socket)?,
            shared,
        })
    }

    /// Runs a command, as [`HELP`] lists them; the answer is none, one or several whole lines.
    ///
    /// # Errors
    ///
    /// A line that is no command, a port that the device does not have, and what can't be done now.
    /// Nothing has changed then.
    pub fn run(&self, line: &str) -> Result<String, ControlError> {
        control::run(&self.shared, line)
    }

    /// What the driver did wrong so far, in the order of its finding.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.shared.device().function.hardware().findings().to_vec()
    }
}
