//! Runs the program on the model, and says at the end what was found.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mana_model::control::{BindError, SocketFile};
use mana_model::{LinkConfig, Model};
use signal_hook::consts::{SIGINT, SIGTERM};
use uverbs_abi::Mac;

use super::error::Error;
use super::options::Options;
use super::tree::Tree;
use super::{FINDINGS, elf, preload};

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(5);

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
    let tree = Tree::write(&model, &tap_names(options, &model)?)?;
    let mut command = Command::new(&program);
    command
        .args(&options.arguments)
        .env("SYSFS_PATH", tree.sysfs())
        .env("SYSFS_PCI_DEVICES", tree.pci_devices())
        .env("LD_PRELOAD", with_others(&library))
        .env("MANA_MODEL_DEVICES", options.devices.join("\n"))
        .env(
            "MANA_MODEL_DOORBELL",
            if options.trap { "trap" } else { "step" },
        )
        .env("MANA_MODEL_REPORTS", tree.reports());
    match &control {
        Some(control) => command.env("MANA_MODEL_CONTROL", &control.0),
        None => command.env_remove("MANA_MODEL_CONTROL"),
    };
    let failed = |cause| Error::Start {
        program: program.clone(),
        cause,
    };
    // A terminal sends these to the program, too; this one stays, to tell what was found.
    let stopped = Arc::new(AtomicBool::new(false));
    let terminated = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&stopped)).map_err(failed)?;
    signal_hook::flag::register(SIGTERM, Arc::clone(&terminated)).map_err(failed)?;
    let child = command.spawn().map_err(failed)?;
    let status = wait(child, &terminated).map_err(failed)?;
    let found = report(&tree.reports());
    Ok(match exit_code(status) {
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

/// Waits for the program; passes on a request to end.
fn wait(mut child: Child, terminated: &AtomicBool) -> std::io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if terminated.swap(false, Ordering::Relaxed)
            && let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32)
        {
            // It may have ended meanwhile.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        thread::sleep(LOOK);
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

/// The library before whatever the user preloads already.
fn with_others(library: &Path) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    list
}

/// Prints what all processes found; returns the number of findings.
fn report(folder: &Path) -> usize {
    let mut lines = Vec::new();
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    if !lines.is_empty() {
        eprintln!("mana model: {} finding(s):", lines.len());
        for line in &lines {
            eprintln!("  {line}");
        }
    }
    lines.len()
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
