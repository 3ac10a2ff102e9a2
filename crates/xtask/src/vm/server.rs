//! The device: `mana model serve` beside QEMU, or whoever listens at a socket.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::folder::Folder;
use super::log;
use crate::debian::failed;
use crate::process;

/// How long it may take to be there, and to go.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// Lets QEMU find another's socket where that of a [`Server`] would be: paths of sockets are short.
pub fn link(socket: &Path, folder: &Folder) -> Result<(), String> {
    let wrong = |error| failed(socket, &error);
    let data = fs::metadata(socket).map_err(wrong)?;
    if !data.file_type().is_socket() {
        let socket = socket.display();
        return Err(format!(
            "{socket}: no socket: start a server of vfio-user that listens there"
        ));
    }
    let socket = std::path::absolute(socket).map_err(wrong)?;
    let place = folder.path().join(Server::SOCKET);
    // Of a run before it, with another accelerator.
    let _gone = fs::remove_file(&place);
    symlink(&socket, &place).map_err(|error| failed(&place, &error))
}

/// A running server. Killed with this value.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Its socket, in the folder of the run, where it works: the path is short, wherever that is.
    pub const SOCKET: &'static str = "device.socket";
    /// The socket by which its model is steered.
    pub const CONTROL: &'static str = "control.socket";

    /// Starts it and waits until it listens.
    pub fn start(mana: &Path, device: &str, folder: &Folder) -> Result<Self, String> {
        let log = folder.path().join("model.log");
        let file = File::create(&log).map_err(|error| failed(&log, &error))?;
        let second = file.try_clone().map_err(|error| failed(&log, &error))?;
        let socket = folder.path().join(Self::SOCKET);
        // Of a run before it, with another accelerator.
        let _gone = fs::remove_file(&socket);
        let control = folder.path().join(Self::CONTROL);
        let _gone = fs::remove_file(&control);
        let mut command = Command::new(mana);
        command
            .current_dir(folder.path())
            .args(["model", "serve", "--socket", Self::SOCKET])
            .args(["--control", Self::CONTROL, "--vdev", device])
            // It ends when this process is killed, as QEMU does.
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second);
        let child = command
            .spawn()
            .map_err(|error| process::not_started(&command, &error))?;
        let mut server = Self { child, log };
        let until = Instant::now() + PATIENCE;
        while !(socket.exists() && control.exists()) {
            if let Some(told) = server.ended() {
                return Err(format!("the device cannot be served: {told}"));
            }
            if Instant::now() > until {
                let seconds = PATIENCE.as_secs();
                return Err(format!(
                    "no device is served after {seconds} seconds: {}",
                    server.told()
                ));
            }
            thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// What it told, if it has ended.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}\n{}", self.told()))
    }

    /// Ends it; whatever it finds wrong with its guest is an error.
    pub fn stop(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended.
            let _gone = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!(
                        "the server of the device ended with {status}:\n{}",
                        self.told()
                    ));
                }
                _ => thread::sleep(LOOK),
            }
        }
        Err(format!(
            "the server of the device does not end:\n{}",
            self.told()
        ))
    }

    fn told(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        log::end(&String::from_utf8_lossy(&text), 30)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
