//! Runs the program on the model, and says at the end what was found.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use mana_model::control::{BindError, SocketFile};
use mana_model::{LinkConfig, Model};
use uverbs_abi::Mac;

use super::error::Error;
use super::options::Options;
use super::signals::Signals;
use super::tree::Tree;
use super::{FINDINGS, elf, preload};

/// Runs it; returns the exit code.
pub fn run(options: &Options) -> Result<u8, Error> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::Architecture);
    }
    let program = elf::find(&options.program)?;
    elf::check(&program)?;
    let library = preload::find()?;
    let config = options.machine()?;
    // Before anything is started; the library binds it when the program looks for devices.
    let control = options
        .control
        .as_deref()
        .map(SocketPath::new)
        .transpose()?;
    let model = Model::new(config)?;
    let failed = |cause| Error::Start {
        program: program.clone(),
        cause,
    };
    // Before there is anything that has to be removed.
    let signals = Signals::take().map_err(failed)?;
    let tree = Tree::write(&model, &tap_names(options, &model)?)?;
    let mut command = Command::new(&program);
    command
        .args(&options.arguments)
        .env("SYSFS_PATH", tree.sysfs())
        .env("SYSFS_PCI_DEVICES", tree.pci_devices())
        .env("LD_PRELOAD", preload::list(&library, tree.folder())?)
        .env("MANA_MODEL_DEVICES", options.devices.join("\n"))
        .env("MANA_MODEL_DOORBELL", options.doorbell.name())
        .env("MANA_MODEL_REPORTS", tree.reports());
    match &control {
        Some(control) => command.env("MANA_MODEL_CONTROL", &control.0),
        None => command.env_remove("MANA_MODEL_CONTROL"),
    };
    let status = signals
        .wait(command.spawn().map_err(failed)?)
        .map_err(failed)?;
    let found = report(&tree.findings());
    let code = exit_code(status);
    if !tree.was_loaded() {
        let error = Error::NotLoaded { program };
        if code == 0 {
            return Err(error);
        }
        super::tell(&error);
    }
    Ok(match code {
        0 if found > 0 => FINDINGS,
        code => code,
    })
}

/// The path of the control socket. What is left there by a program that was killed goes with it.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(path: &Path) -> Result<Self, BindError> {
        // The program may change its folder.
        let path = std::path::absolute(path).map_err(|cause| BindError::Io {
            path: path.to_owned(),
            cause,
        })?;
        SocketFile::prepare(&path)?;
        Ok(Self(path))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // A socket on which somebody listens is another's by now.
        let _other = SocketFile::prepare(&self.0);
    }
}

/// As shells do it.
fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => 1,
    }
}

/// Prints what all processes found, in the order of their ids; returns the number of findings.
fn report(findings: &[String]) -> usize {
    if !findings.is_empty() {
        super::say(format_args!("mana model: {} finding(s):", findings.len()));
        for finding in findings {
            super::say(format_args!("  {finding}"));
        }
    }
    findings.len()
}

/// The names of netdevs that are those of taps, by MAC.
fn tap_names(options: &Options, model: &Model) -> Result<Vec<(Mac, String)>, Error> {
    let mut names = Vec::new();
    let mut ports = 0..;
    for text in &options.devices {
        for port in mana_model::parse_device(text)?.ports {
            if let (LinkConfig::Tap(tap), Some(index)) = (port.link, ports.next()) {
                names.push((model.port(index).mac(), tap.name));
            }
        }
    }
    Ok(names)
}
