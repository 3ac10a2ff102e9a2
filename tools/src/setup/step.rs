//! What is done to a machine, one thing a step, each with its way back.
//!
//! Both ways may be gone again at any point and be taken again from the start: a step that is done
//! already is no error, and neither is one that is undone already.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::doctor::tree::{Seen, Tree};

/// The VMBus class of network devices (reference/azure-guide.md).
pub const NETWORK_CLASS: &str = "f8615163-df3e-46c5-913f-f2d2f965ed0e";
/// Where the drivers of VMBus are.
const VMBUS: &str = "/sys/bus/vmbus/drivers";
/// How long an interface may take to come back after its driver was bound.
const APPEARS: Duration = Duration::from_secs(10);
/// `IFF_UP`.
const IFF_UP: u32 = 1;

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Loads a kernel module that was not loaded.
    Module { name: String },
    /// Reserves hugepages.
    Hugepages {
        path: String,
        before: u64,
        after: u64,
    },
    /// Takes an interface down that was UP.
    LinkDown { interface: String },
    /// Lets uio_hv_generic take network channels.
    NewClass,
    /// Moves a synthetic channel from hv_netvsc to uio_hv_generic.
    Channel { device: String },
    /// Writes a file of ours that was not there, or was another.
    File {
        path: String,
        before: Option<String>,
        after: String,
    },
    /// Gives a device node another owner.
    Owner {
        path: String,
        before: u32,
        after: u32,
    },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("{path}: {cause}")]
    File { path: String, cause: io::Error },
    #[error("{path}: {cause} (as root, and not in a container whose /sys is read-only)")]
    Denied { path: String, cause: io::Error },
    #[error(
        "{path}: the kernel reserved {got} hugepages of {wanted}: its memory is in use or in \
         pieces; ask for fewer (--hugepages={got}), or reserve them at boot (hugepages={wanted} on \
         the kernel's command line)"
    )]
    Hugepages { path: String, got: u64, wanted: u64 },
    #[error("{path} reads {text:?}, which is no number of flags")]
    Flags { path: String, text: String },
    #[error("{interface} is still {state}; something else changes it (NetworkManager, networkd?)")]
    Link {
        interface: String,
        state: &'static str,
    },
    #[error("`{command}` failed: {reason}")]
    Module { command: String, reason: String },
}

impl Step {
    /// What a shell would do.
    pub fn command(&self) -> String {
        match self {
            Self::Module { name } => format!("modprobe {name}"),
            Self::Hugepages { path, after, .. } => format!("echo {after} > {path}"),
            Self::LinkDown { interface } => format!("ip link set dev {interface} down"),
            Self::NewClass => format!("echo {NETWORK_CLASS} > {VMBUS}/uio_hv_generic/new_id"),
            Self::Channel { device } => format!(
                "echo {device} > {VMBUS}/hv_netvsc/unbind && \
                 echo {device} > {VMBUS}/uio_hv_generic/bind"
            ),
            Self::File { path, after, .. } => format!("echo '{}' > {path}", after.trim_end()),
            Self::Owner { path, after, .. } => format!("chown {after} {path}"),
        }
    }

    /// What a shell would do to undo it.
    pub fn undo_command(&self) -> String {
        match self {
            // `modprobe -r` would take what it needed along: with mana_ib the netdevs of mana.
            Self::Module { name } => format!("rmmod {name}"),
            Self::Hugepages { path, before, .. } => format!("echo {before} > {path}"),
            Self::LinkDown { interface } => format!("ip link set dev {interface} up"),
            Self::NewClass => format!("echo {NETWORK_CLASS} > {VMBUS}/uio_hv_generic/remove_id"),
            Self::Channel { device } => format!(
                "echo {device} > {VMBUS}/uio_hv_generic/unbind && \
                 echo {device} > {VMBUS}/hv_netvsc/bind"
            ),
            Self::File { path, before, .. } => match before {
                None => format!("rm -f {path}"),
                Some(text) => format!("echo '{}' > {path}", text.trim_end()),
            },
            Self::Owner { path, before, .. } => format!("chown {before} {path}"),
        }
    }

    /// Whether a reboot undoes it.
    pub fn ends_with_boot(&self) -> bool {
        !matches!(self, Self::File { .. })
    }

    /// Does it.
    pub fn apply(&self, tree: &Tree) -> Result<(), StepError> {
        match self {
            Self::Module { name } => module(tree, "modprobe", name),
            Self::Hugepages { path, after, .. } => {
                write(tree, path, &after.to_string())?;
                match tree.number::<u64>(path) {
                    Seen::Is(got) if got < *after => Err(StepError::Hugepages {
                        path: path.clone(),
                        got,
                        wanted: *after,
                    }),
                    _ => Ok(()),
                }
            }
            Self::LinkDown { interface } => set_link(tree, interface, false),
            Self::NewClass => {
                let path = format!("{VMBUS}/uio_hv_generic/new_id");
                unless(
                    io::ErrorKind::AlreadyExists,
                    write(tree, &path, NETWORK_CLASS),
                )
            }
            Self::Channel { device } => rebind(tree, device, "hv_netvsc", "uio_hv_generic"),
            Self::File { path, after, .. } => put(tree, path, after),
            Self::Owner { path, after, .. } => own(tree, path, *after),
        }
    }

    /// Undoes it.
    pub fn undo(&self, tree: &Tree) -> Result<(), StepError> {
        match self {
            Self::Module { name } => match tree.exists(&format!("/sys/module/{name}")) {
                true => module(tree, "rmmod", name),
                false => Ok(()),
            },
            Self::Hugepages { path, before, .. } => write(tree, path, &before.to_string()),
            Self::LinkDown { interface } => {
                let start = Instant::now();
                // Its driver may have been bound only now.
                while !tree.exists(&format!("/sys/class/net/{interface}"))
                    && start.elapsed() < APPEARS
                    && tree.is_live()
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                set_link(tree, interface, true)
            }
            Self::NewClass => {
                let path = format!("{VMBUS}/uio_hv_generic/remove_id");
                // Gone with the module, or never written.
                unless(io::ErrorKind::NotFound, write(tree, &path, NETWORK_CLASS)).or_else(
                    |error| match &error {
                        StepError::File { cause, .. } if cause.raw_os_error() == Some(19) => Ok(()),
                        _ => Err(error),
                    },
                )
            }
            Self::Channel { device } => rebind(tree, device, "uio_hv_generic", "hv_netvsc"),
            Self::File { path, before, .. } => match before {
                Some(text) => put(tree, path, text),
                None => match tree.exists(path) {
                    true => fs::remove_file(locate(tree, path)?).map_err(failed(path)),
                    false => Ok(()),
                },
            },
            Self::Owner { path, before, .. } => match tree.exists(path) {
                true => own(tree, path, *before),
                false => Ok(()),
            },
        }
    }
}

fn unless(kind: io::ErrorKind, result: Result<(), StepError>) -> Result<(), StepError> {
    match result {
        Err(StepError::File { cause, .. }) if cause.kind() == kind => Ok(()),
        other => other,
    }
}

fn failed(path: &str) -> impl FnOnce(io::Error) -> StepError + use<> {
    let path = path.to_owned();
    move |cause| match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StepError::Denied { path, cause }
        }
        _ => StepError::File { path, cause },
    }
}

fn locate(tree: &Tree, path: &str) -> Result<std::path::PathBuf, StepError> {
    tree.resolve(path).map_err(failed(path))
}

/// Writes into a file that is there: sysfs takes each write as one value.
fn write(tree: &Tree, path: &str, text: &str) -> Result<(), StepError> {
    let place = locate(tree, path)?;
    let result = OpenOptions::new().write(true).truncate(true).open(place);
    let written = result.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(failed(path))
}

/// Writes a file of ours whole or not at all.
fn put(tree: &Tree, path: &str, text: &str) -> Result<(), StepError> {
    let place = locate(tree, path)?;
    let folder = place.parent().unwrap_or(Path::new("/"));
    let new = place.with_extension("mana-new");
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::rename(&new, &place));
    written.map_err(failed(path))
}

fn own(tree: &Tree, path: &str, uid: u32) -> Result<(), StepError> {
    let place = locate(tree, path)?;
    std::os::unix::fs::chown(place, Some(uid), None).map_err(failed(path))
}

/// Takes an interface up or down by its flags, which sysfs lets root write.
fn set_link(tree: &Tree, interface: &str, up: bool) -> Result<(), StepError> {
    let path = format!("/sys/class/net/{interface}/flags");
    let flags = |seen: Seen<u32>| match seen {
        Seen::Is(flags) => Ok(flags),
        Seen::Absent => {
            let cause = io::Error::from(io::ErrorKind::NotFound);
            Err(failed(&path)(cause))
        }
        Seen::Unclear(text) => Err(StepError::Flags {
            path: path.clone(),
            text,
        }),
    };
    let before = flags(tree.hex(&path))?;
    let wanted = if up {
        before | IFF_UP
    } else {
        before & !IFF_UP
    };
    if wanted != before {
        write(tree, &path, &format!("{wanted:#x}"))?;
    }
    let after = flags(tree.hex(&path))?;
    match (after & IFF_UP != 0) == up {
        true => Ok(()),
        false => Err(StepError::Link {
            interface: interface.to_owned(),
            state: if up { "DOWN" } else { "UP" },
        }),
    }
}

/// Moves a VMBus device to another driver, from wherever it is.
fn rebind(tree: &Tree, device: &str, from: &str, to: &str) -> Result<(), StepError> {
    let bound = |driver: &str| tree.link(&format!("{VMBUS}/{driver}/{device}")).is_some();
    if bound(from) {
        write(tree, &format!("{VMBUS}/{from}/unbind"), device)?;
    }
    match bound(to) {
        true => Ok(()),
        false => write(tree, &format!("{VMBUS}/{to}/bind"), device),
    }
}

/// Runs a program that loads or unloads a module.
fn module(tree: &Tree, program: &str, name: &str) -> Result<(), StepError> {
    let fail = |reason: String| StepError::Module {
        command: format!("{program} {name}"),
        reason,
    };
    if !tree.is_live() {
        return Err(fail(
            "modules can be loaded on this machine only".to_owned(),
        ));
    }
    let output = Command::new(program)
        .arg(name)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| fail(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(fail(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}
