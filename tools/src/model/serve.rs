//! Serves the model as a PCI function to virtual machines: `mana model serve --socket PATH`.

use std::fs::File;
use std::io::{self, IsTerminal, PipeReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use mana_model::control::Server;
use mana_model::{DeviceConfig, Finding, parse_device};
use mana_model_pci::{Lines, Served, Settings, Writer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tracing_subscriber::filter::LevelFilter;

use super::error::Error;
use super::{FINDINGS, say};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    socket: PathBuf,
    device: String,
    rnic: bool,
    log: Option<PathBuf>,
    level: LevelFilter,
    control: Option<PathBuf>,
    parent: Option<i32>,
}

impl Options {
    /// Reads the words behind `serve`.
    fn parse(words: &[String]) -> Result<Self, Error> {
        let (mut socket, mut device, mut log, mut control) = (None, None, None, None);
        let (mut rnic, mut level) = (true, LevelFilter::WARN);
        let mut parent = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                return Err(usage(format!("`{word}`: serve takes options only")));
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match words.next() {
                    Some(value) => (word.as_str(), value.clone()),
                    None => return Err(usage(format!("{word} needs a value"))),
                },
            };
            let path = || Some(PathBuf::from(&value)).filter(|path| !path.as_os_str().is_empty());
            let given = || path().ok_or_else(|| usage(format!("{name} needs a path")));
            match name {
                "--socket" => socket = Some(given()?),
                "--log" => log = Some(given()?),
                "--control" => control = Some(given()?),
                "--parent" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    parent = Some(number.ok_or_else(|| {
                        usage(format!("--parent={value}: expected a process's number"))
                    })?);
                }
                "--log-level" => {
                    level = value.parse().map_err(|_| {
                        usage(format!(
                            "--log-level={value}: expected off, error, warn, info, debug or trace"
                        ))
                    })?;
                }
                "--vdev" if device.is_some() => {
                    return Err(usage(
                        "--vdev: a socket has one device: serve another by another process",
                    ));
                }
                "--vdev" => device = Some(value),
                "--rnic" => {
                    rnic = match value.as_str() {
                        "yes" => true,
                        "no" => false,
                        _ => return Err(usage(format!("--rnic={value}: expected yes or no"))),
                    };
                }
                _ => {
                    return Err(usage(format!(
                        "unknown option {name}: there are --socket, --vdev, --rnic, --log, \
                         --log-level, --control and --parent"
                    )));
                }
            }
        }
        Ok(Self {
            socket: socket.ok_or_else(|| usage("serve needs --socket=PATH"))?,
            device: device.unwrap_or_else(|| "model0".to_owned()),
            rnic,
            log,
            level,
            control,
            parent,
        })
    }

    fn config(&self) -> Result<DeviceConfig, Error> {
        Ok(parse_device(&self.device)?)
    }

    /// Where the messages' lines go, and who writes them.
    fn trace(&self) -> Result<Option<(Lines, Writer)>, Error> {
        let Some(path) = &self.log else {
            return Ok(None);
        };
        let written = if path == Path::new("-") {
            Lines::new(io::stderr(), None)
        } else {
            let file = File::create(path).map_err(|cause| Error::Log {
                path: path.clone(),
                cause,
            })?;
            Lines::new(file, None)
        };
        written.map(Some).map_err(Error::System)
    }
}

/// Lines a second that the device may tell on standard error: a guest must not fill disks.
const LINES: u32 = 500;

/// Serves until a signal; returns the exit code.
pub fn run(words: &[String]) -> Result<u8, Error> {
    let options = Options::parse(words)?;
    // The device waits for nobody who reads what it tells.
    let (told, _teller) = Lines::new(io::stderr(), Some(LINES)).map_err(Error::System)?;
    tracing_subscriber::fmt()
        .with_max_level(options.level)
        .with_writer(move || told.clone())
        .with_ansi(io::stderr().is_terminal())
        .init();
    // Taken first, so that a socket that is there is removed by whatever ends this.
    let ended = signals().map_err(Error::System)?;
    if let Some(parent) = options.parent {
        set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(|error| Error::System(error.into()))?;
        // It may have ended before.
        if getppid() != Pid::from_raw(parent) {
            return Err(usage(format!(
                "--parent={parent}: that process did not start this one, or is gone"
            )));
        }
    }
    let (trace, _tracer) = options.trace()?.unzip();
    let settings = Settings {
        rnic: options.rnic,
        trace,
    };
    let served = Arc::new(Served::start(options.config()?, &options.socket, settings)?);
    let control = match &options.control {
        Some(path) => Some(Control::start(&served, path)?),
        None => None,
    };
    say(format_args!(
        "mana model: {} is served on {}",
        options.device,
        options.socket.display()
    ));
    wait(&ended).map_err(Error::System)?;
    drop(control);
    let findings = served.findings();
    drop(served);
    Ok(tell(&findings))
}

/// Prints what the driver did wrong; the exit code.
fn tell(findings: &[Finding]) -> u8 {
    for finding in findings {
        say(format_args!("mana model: {finding}"));
    }
    if findings.is_empty() { 0 } else { FINDINGS }
}

/// A pipe that is readable once a signal came that ends this.
fn signals() -> io::Result<PipeReader> {
    let (ended, signal) = io::pipe()?;
    for number in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(number, signal.try_clone()?)?;
    }
    Ok(ended)
}

fn wait(ended: &PipeReader) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(ended, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The control socket, which is removed with it.
struct Control {
    file: mana_model::control::SocketFile,
    /// Closing it ends the thread.
    stop: Option<io::PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Control {
    fn start(served: &Arc<Served>, path: &Path) -> Result<Self, Error> {
        let server = Server::bind(path)?;
        let file = server.file();
        let (stopped, stop) = io::pipe().map_err(Error::System)?;
        let served = Arc::clone(served);
        let thread = thread::Builder::new().name("mana-control".to_owned());
        let thread = thread
            .spawn(move || server.run(Some(&stopped), |line| served.run(line)))
            .map_err(Error::System)?;
        Ok(Self {
            file,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.file.remove();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed where it happened.
            let _ended = thread.join();
        }
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_have_their_values_behind_a_blank_or_an_equals_sign() {
        let options = parse("--socket /tmp/s --vdev=model0,ports=2 --rnic=no --log=-").unwrap();
        assert_eq!(options.socket, Path::new("/tmp/s"));
        assert_eq!(options.device, "model0,ports=2");
        assert!(!options.rnic && options.control.is_none());
        assert_eq!(options.log.as_deref(), Some(Path::new("-")));
        let options = parse("--socket=/tmp/s").unwrap();
        assert_eq!((options.device.as_str(), options.rnic), ("model0", true));
    }

    #[test]
    fn wrong_lines_say_what_is_expected() {
        for (line, text) in [
            ("", "--socket=PATH"),
            ("--socket", "needs a value"),
            ("--socket=", "needs a path"),
            ("/tmp/s", "options only"),
            ("--socket=/s --vdev=model0 --vdev=model1", "one device"),
            ("--socket=/s --rnic=maybe", "yes or no"),
            ("--socket=/s --parent=0", "a process's number"),
            ("--socket=/s --log-level=loud", "info"),
            ("--socket=/s --what=1", "--vdev"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(text), "{line}: {message}");
        }
    }
}
