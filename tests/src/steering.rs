//! A MANA device of the running kernel, steered as root can steer it: by what sysfs lets be written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mana_model::rulebook::Surroundings;
use uverbs_abi::{Errno, PciAddress};

/// `IFF_UP`.
const IFF_UP: u32 = 1;
/// The PCI driver.
const DRIVER: &str = "/sys/bus/pci/drivers/mana";

/// One PCI function with the kernel's driver.
#[derive(Debug, Clone, Copy)]
pub struct Steering {
    pci: PciAddress,
}

impl Steering {
    /// The function at this address; whether there is one shows when it is steered.
    #[must_use]
    pub fn new(pci: PciAddress) -> Self {
        Self { pci }
    }

    /// The netdev of a port, counted from 0.
    ///
    /// # Errors
    ///
    /// `ENODEV` where there is none, and what sysfs answers.
    pub fn netdev(&self, port: usize) -> Result<String, Errno> {
        let folder = PathBuf::from(format!("/sys/bus/pci/devices/{}/net", self.pci));
        for entry in fs::read_dir(folder).map_err(|error| errno(&error))? {
            let entry = entry.map_err(|error| errno(&error))?;
            let number = read(&entry.path().join("dev_port"))?;
            if number.trim().parse() == Ok(port) {
                return Ok(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Err(Errno::ENODEV)
    }

    /// Its configuration space, for reading.
    ///
    /// # Errors
    ///
    /// Where there is no such function.
    pub fn config(&self) -> io::Result<File> {
        File::open(format!("/sys/bus/pci/devices/{}/config", self.pci))
    }

    fn driver(&self, file: &str) -> Result<(), Errno> {
        write(&Path::new(DRIVER).join(file), &self.pci.to_string())
    }
}

impl Surroundings for Steering {
    fn set_netdev_up(&self, port: usize, up: bool) -> Result<(), Errno> {
        let path = format!("/sys/class/net/{}/flags", self.netdev(port)?);
        let path = Path::new(&path);
        let flags = read(path)?;
        let flags = flags.trim().trim_start_matches("0x");
        let flags = u32::from_str_radix(flags, 16).map_err(|_| Errno::EPROTO)?;
        let flags = if up { flags | IFF_UP } else { flags & !IFF_UP };
        write(path, &format!("{flags:#x}"))
    }

    fn remove(&self) -> Result<(), Errno> {
        self.driver("unbind")
    }

    fn restore(&self) -> Result<(), Errno> {
        self.driver("bind")
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }
}

fn read(path: &Path) -> Result<String, Errno> {
    fs::read_to_string(path).map_err(|error| errno(&error))
}

/// In one write, as sysfs wants it.
fn write(path: &Path, text: &str) -> Result<(), Errno> {
    fs::write(path, text).map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno)
}
