//! One guest from its start to its end, and what is to be said of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::follow::Follow;
use super::image;
use super::initramfs::{self, Content};
use super::log;
use super::options::{Accel, Device, Options};
use super::packages::Trees;
use super::qemu::{self, Machine};
use super::server::{self, Server};
use super::signals::Signals;
use crate::debian::failed;
use crate::process;

/// How often what goes on is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long KVM may take to get the guest to its first program before it is not trusted any more.
const KVM_PATIENCE: Duration = Duration::from_secs(20);
/// Lines of a log that are shown where something went wrong.
const SHOWN: usize = 30;

const WELCOME: &str = "\
A guest with a MANA. `exit` ends it, and so does Ctrl-A X at any time.
  mana doctor | mana setup | mana testpmd -a 0000:00:04.0 -- ... | ip | ethtool | ibv_devinfo | modprobe
  rdma-core-44 COMMAND...     the same over the libraries of rdma-core 44
";

/// What a run needs.
pub struct Run<'a> {
    pub options: &'a Options,
    pub trees: &'a Trees,
    /// The program `mana`.
    pub mana: &'a Path,
    pub folder: &'a Folder,
    /// Where kernels are unpacked.
    pub kernels: &'a Path,
    pub signals: &'a Signals,
}

/// How a guest ended.
enum Ended {
    /// It told this exit status.
    Told(u8),
    /// It never came to its first program.
    NotReady,
    /// A prompt was left.
    Left,
}

impl Run<'_> {
    /// Boots the guest and returns its command's exit status.
    pub fn run(&self) -> Result<u8, String> {
        let start = Instant::now();
        let until = self
            .options
            .command
            .is_some()
            .then(|| start + self.options.limit);
        let script = self.options.command.as_deref().map(qemu::quoted);
        let content = Content {
            mana: self.mana,
            files: &self.options.files,
            command: script.as_deref(),
            modules: self.options.modules,
            welcome: WELCOME,
            ports: match self.options.device {
                Some(Device::Model(_)) => &["log", "control", "stdout", "stderr", "model"],
                _ => &["log", "control", "stdout", "stderr"],
            },
        };
        initramfs::write(
            &self.folder.path().join(qemu::INITRAMFS),
            self.trees,
            &content,
        )?;
        let kernel = image::unpacked(&self.trees.image()?, self.kernels);
        let accels = match self.options.accel {
            Some(accel) => vec![accel],
            None if qemu::accel() == Accel::Kvm => vec![Accel::Kvm, Accel::Tcg],
            None => vec![Accel::Tcg],
        };
        let mut patience = (accels.len() > 1).then_some(KVM_PATIENCE);
        for accel in accels {
            let mut server = match &self.options.device {
                Some(Device::Model(text)) => Some(Server::start(self.mana, text, self.folder)?),
                Some(Device::Socket(path)) => {
                    server::link(path, self.folder)?;
                    None
                }
                None => None,
            };
            let ended = self.guest(accel, &kernel, server.as_mut(), until, patience.take());
            let served = server.map_or(Ok(()), Server::stop);
            match ended? {
                Ended::NotReady => {
                    eprintln!("xtask: KVM does not get the guest to its first program: without it")
                }
                Ended::Left => return served.map(|()| 0),
                Ended::Told(code) => {
                    self.judge()?;
                    served?;
                    eprintln!(
                        "xtask: {} ran {:.1} s; logs in {}",
                        self.trees.release,
                        start.elapsed().as_secs_f64(),
                        self.folder.path().display()
                    );
                    return Ok(code);
                }
            }
        }
        Err(self.wrong("the guest never came to its first program"))
    }

    /// Runs QEMU to its end.
    fn guest(
        &self,
        accel: Accel,
        kernel: &Path,
        mut server: Option<&mut Server>,
        until: Option<Instant>,
        patience: Option<Duration>,
    ) -> Result<Ended, String> {
        let shell = self.options.command.is_none();
        let machine = Machine {
            folder: self.folder.path(),
            accel,
            memory: self.options.memory,
            hugepages: self.options.hugepages,
            kernel,
            device: self.options.device.is_some(),
            control: server.is_some(),
            shell,
        };
        let mut command = machine.command(self.trees);
        let errors = self.folder.path().join("qemu.log");
        if !shell {
            let file = File::create(&errors).map_err(|error| failed(&errors, &error))?;
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(file);
        }
        let child = command
            .spawn()
            .map_err(|error| process::not_started(&command, &error))?;
        let mut qemu = Qemu { child };
        let at = |name: &str| self.folder.path().join(name);
        let mut stdout = Follow::new(at(qemu::STDOUT), std::io::stdout());
        let mut stderr = Follow::new(at(qemu::STDERR), std::io::stderr());
        let started = Instant::now();
        let status = loop {
            // Looked at before the output, so that nothing written before its end is missed.
            let status = qemu
                .child
                .try_wait()
                .map_err(|error| format!("QEMU: {error}"))?;
            stdout.copy();
            stderr.copy();
            if let Some(status) = status {
                break status;
            }
            if let Some(signal) = self.signals.came() {
                return Err(format!("ended by signal {signal}"));
            }
            if let Some(server) = server.as_deref_mut()
                && let Some(told) = server.ended()
            {
                return Err(self.wrong(&format!(
                    "the server of the device ended under the guest: {told}"
                )));
            }
            if until.is_some_and(|until| Instant::now() > until) {
                let limit = self.options.limit.as_secs();
                return Err(self.wrong(&format!(
                    "the guest still ran after {limit} seconds (--seconds raises it)"
                )));
            }
            if patience.is_some_and(|patience| started.elapsed() > patience)
                && self.told("ready").is_none()
            {
                return Ok(Ended::NotReady);
            }
            thread::sleep(LOOK);
        };
        if let Some(signal) = self.signals.came() {
            return Err(format!("ended by signal {signal}"));
        }
        match self.told("exit").and_then(|code| code.parse().ok()) {
            Some(_) if shell => Ok(Ended::Left),
            Some(code) => Ok(Ended::Told(code)),
            None if shell => Ok(Ended::Left),
            None => Err(self.wrong(&ended_without(status, &errors))),
        }
    }

    /// What the guest's first program told behind this word.
    fn told(&self, word: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.path().join(qemu::CONTROL)).ok()?;
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()))
    }

    /// Whether the guest's kernel has nothing to complain of.
    fn judge(&self) -> Result<(), String> {
        for name in [qemu::CONSOLE, qemu::LOG] {
            let path = self.folder.path().join(name);
            let text = fs::read(&path).map_err(|error| failed(&path, &error))?;
            if let Some(found) =
                log::complaint(&String::from_utf8_lossy(&text), SHOWN, self.options.resets)
            {
                return Err(format!(
                    "the guest's kernel complains, see {}:\n{found}",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// What went wrong, with the end of the console's log.
    fn wrong(&self, what: &str) -> String {
        let path = self.folder.path().join(qemu::CONSOLE);
        let text = fs::read(&path).unwrap_or_default();
        let end = log::end(&String::from_utf8_lossy(&text), SHOWN);
        format!(
            "{what}; all logs are in {}\n{end}",
            self.folder.path().display()
        )
    }
}

fn ended_without(status: ExitStatus, errors: &PathBuf) -> String {
    let text = fs::read_to_string(errors).unwrap_or_default();
    format!(
        "QEMU ended with {status} before the command did: {}",
        log::end(&text, SHOWN)
    )
}

/// Killed with this value.
struct Qemu {
    child: Child,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
