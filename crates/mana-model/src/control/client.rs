//! The model's methods, over a control socket.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use uverbs_abi::{Errno, Mac};

use super::answer::{
    PortState, read_counter, read_finding, read_frame, read_kind, read_number, read_object,
    read_port, read_yes,
};
use super::command::Command;
use super::error::{ClientError, ControlError};
use crate::{After, Fault, Finding, FindingKind, LinkConfig, ObjectCounts, PortCounters};

/// How often it is tried whether somebody listens.
const LOOK: Duration = Duration::from_millis(5);

/// A connection to a model in another process. Clones share it, and commands of several threads
/// take turns.
#[derive(Debug, Clone)]
pub struct Client {
    stream: Arc<Mutex<BufReader<Box<dyn Stream>>>>,
}

/// What carries commands and answers.
trait Stream: Read + Write + Send + std::fmt::Debug {}

impl Stream for UnixStream {}
impl Stream for File {}

impl Client {
    /// Connects to the socket at `path`, or opens the character device there that leads to one (a
    /// serial port of a virtual machine).
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] where nobody listens.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let device = fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device());
        let stream: io::Result<Box<dyn Stream>> = if device {
            let file = File::options().read(true).write(true).open(path);
            file.map(|file| Box::new(file) as Box<dyn Stream>)
        } else {
            UnixStream::connect(path).map(|socket| Box::new(socket) as Box<dyn Stream>)
        };
        let stream = stream.map_err(|cause| ClientError::Connect {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self {
            stream: Arc::new(Mutex::new(BufReader::new(stream))),
        })
    }

    /// Connects as soon as somebody listens, which a program on the model does when it first looks
    /// for devices.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] where nobody does within `patience`.
    pub fn wait_for(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let end = Instant::now() + patience;
        loop {
            match Self::connect(path) {
                Err(ClientError::Connect { .. }) if Instant::now() < end => thread::sleep(LOOK),
                result => return result,
            }
        }
    }

    /// Sends a line and returns the answer's lines.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] where the model did not run it, [`ClientError::Io`] where the
    /// connection broke.
    pub fn send(&self, line: &str) -> Result<Vec<String>, ClientError> {
        if line.trim().is_empty() || line.contains('\n') {
            return Err(ControlError::invalid("expected one line with a command").into());
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let mut text = String::new();
            stream.read_line(&mut text)?;
            let Some(text) = text.strip_suffix('\n') else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            };
            if text == "ok" {
                return Ok(lines);
            }
            if let Some(refused) = text.strip_prefix("error ") {
                let (errno, why) = refused.split_once(' ').unwrap_or((refused, ""));
                return Err(ClientError::Refused(ControlError {
                    errno: Errno(errno.parse().unwrap_or(Errno::EINVAL.0)),
                    why: why.to_owned(),
                }));
            }
            lines.push(text.to_owned());
        }
    }

    /// Runs a command and reads each line of the answer.
    fn each<T>(
        &self,
        command: &Command,
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> Result<Vec<T>, ClientError> {
        let command = command.to_string();
        let lines = self.send(&command)?;
        let read = |line: String| {
            read(&line).ok_or_else(|| ClientError::Answer {
                command: command.chars().take(80).collect(),
                answer: line,
            })
        };
        lines.into_iter().map(read).collect()
    }

    fn one<T>(
        &self,
        command: &Command,
        read: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ClientError> {
        let mut all = self.each(command, read)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(ClientError::Answer {
                command: command.to_string(),
                answer: String::new(),
            }),
        }
    }

    fn none(&self, command: &Command) -> Result<(), ClientError> {
        self.each(command, |_| None::<()>).map(drop)
    }

    /// [`crate::Model::step`].
    ///
    /// # Errors
    ///
    /// Where the connection broke; so with all that follow.
    pub fn step(&self) -> Result<u64, ClientError> {
        self.one(&Command::Step, |line| read_number(line, "moved"))
    }

    /// [`crate::Model::findings`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn findings(&self) -> Result<Vec<Finding>, ClientError> {
        self.each(&Command::Findings, read_finding)
    }

    /// [`crate::Model::take_findings`].
    ///
    /// # Errors
    ///
    /// Where the connection broke; findings may be lost then.
    pub fn take_findings(&self) -> Result<Vec<Finding>, ClientError> {
        self.each(&Command::TakeFindings, read_finding)
    }

    /// [`crate::Model::undecided`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn undecided(&self) -> Result<Vec<FindingKind>, ClientError> {
        self.each(&Command::Undecided, read_kind)
    }

    /// [`crate::Model::inject`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] where the model has no such port or device.
    pub fn inject(&self, fault: Fault) -> Result<(), ClientError> {
        self.none(&Command::Inject(fault))
    }

    /// [`crate::Model::remove`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with `ENODEV` where the model has no such device, or it is away.
    pub fn remove(&self, device: usize) -> Result<(), ClientError> {
        self.none(&Command::Remove { device })
    }

    /// [`crate::Model::restore`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with `ENODEV` where the model has no such device, `EEXIST` where it
    /// is not away.
    pub fn restore(&self, device: usize) -> Result<(), ClientError> {
        self.none(&Command::Restore { device })
    }

    /// [`crate::Model::reset`].
    ///
    /// # Errors
    ///
    /// As [`Client::remove`].
    pub fn reset(&self, device: usize, after: After) -> Result<(), ClientError> {
        self.none(&Command::Reset { device, after })
    }

    /// [`Command::ResetRequest`].
    ///
    /// # Errors
    ///
    /// As [`Client::remove`].
    pub fn request_reset(&self, device: usize) -> Result<(), ClientError> {
        self.none(&Command::ResetRequest { device })
    }

    /// [`crate::Model::operations`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn operations(&self) -> Result<u64, ClientError> {
        self.one(&Command::Operations, |line| read_number(line, "operations"))
    }

    /// [`crate::Model::objects`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn objects(&self) -> Result<ObjectCounts, ClientError> {
        let mut objects = ObjectCounts::default();
        self.each(&Command::Objects, |line| read_object(line, &mut objects))?;
        Ok(objects)
    }

    /// [`crate::Model::drained`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn drained(&self) -> Result<bool, ClientError> {
        self.one(&Command::Drained, |line| read_yes(line, "drained"))
    }

    /// Every port, in order.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn port_states(&self) -> Result<Vec<PortState>, ClientError> {
        self.each(&Command::Ports, read_port)
    }

    /// [`crate::Model::ports`].
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn ports(&self) -> Result<usize, ClientError> {
        self.port_states().map(|ports| ports.len())
    }

    /// One port, counted from 0 over all devices. Whether there is one shows with its first method.
    #[must_use]
    pub fn port(&self, index: usize) -> PortClient {
        PortClient {
            client: self.clone(),
            index,
        }
    }
}

/// [`crate::PortView`], over a control socket. Methods of a port that the model does not have are
/// [`ClientError::Refused`] with `ENODEV`.
#[derive(Debug, Clone)]
pub struct PortClient {
    client: Client,
    index: usize,
}

impl PortClient {
    /// What `ports` tells of it.
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke; so with all that follow.
    pub fn state(&self) -> Result<PortState, ClientError> {
        let mut states = self.client.port_states()?;
        if self.index < states.len() {
            return Ok(states.swap_remove(self.index));
        }
        Err(ClientError::Refused(ControlError {
            errno: Errno::ENODEV,
            why: format!("the model has no port {}", self.index),
        }))
    }

    /// [`crate::PortView::mac`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn mac(&self) -> Result<Mac, ClientError> {
        Ok(self.state()?.mac)
    }

    /// [`crate::PortView::netdev`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn netdev(&self) -> Result<String, ClientError> {
        Ok(self.state()?.netdev)
    }

    /// [`crate::PortView::is_netdev_up`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn is_netdev_up(&self) -> Result<bool, ClientError> {
        Ok(self.state()?.up)
    }

    /// [`crate::PortView::is_link_up`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn is_link_up(&self) -> Result<bool, ClientError> {
        Ok(self.state()?.link_up)
    }

    /// [`crate::PortView::set_link_up`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn set_link_up(&self, up: bool) -> Result<(), ClientError> {
        let port = self.index;
        self.client.none(&Command::Link { port, up })
    }

    /// [`crate::PortView::set_wire`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] for anything but a loop or a sink; where there is no such port or the
    /// connection broke.
    pub fn set_wire(&self, link: &LinkConfig) -> Result<(), ClientError> {
        let (port, link) = (self.index, link.clone());
        self.client.none(&Command::Wire { port, link })
    }

    /// [`crate::PortView::counters`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke.
    pub fn counters(&self) -> Result<PortCounters, ClientError> {
        let mut counters = PortCounters::default();
        let command = Command::Counters(Some(self.index));
        self.client
            .each(&command, |line| read_counter(line, &mut counters))?;
        Ok(counters)
    }

    /// [`crate::PortView::set_netdev_up`].
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with `EBUSY` for UP while a driver has a send queue on the port.
    pub fn set_netdev_up(&self, up: bool) -> Result<(), ClientError> {
        let port = self.index;
        self.client.none(&Command::Netdev { port, up })
    }

    /// [`crate::PortView::take_tx_frames`].
    ///
    /// # Errors
    ///
    /// Where there is no such port or the connection broke; frames may be lost then.
    pub fn take_tx_frames(&self) -> Result<Vec<Vec<u8>>, ClientError> {
        let port = self.index;
        self.client.each(&Command::Frames { port }, read_frame)
    }

    /// [`crate::PortView::deliver`].
    ///
    /// # Errors
    ///
    /// `EINVAL` for an empty frame; where there is no such port or the connection broke.
    pub fn deliver(&self, frame: &[u8]) -> Result<(), ClientError> {
        self.deliver_all(vec![frame.to_vec()])
    }

    /// [`crate::PortView::deliver`] for each of some frames, by one command.
    ///
    /// # Errors
    ///
    /// As [`PortClient::deliver`], and where there is none; a command's line may have 256 KiB.
    pub fn deliver_all(&self, frames: Vec<Vec<u8>>) -> Result<(), ClientError> {
        let port = self.index;
        self.client.none(&Command::Deliver { port, frames })
    }
}
