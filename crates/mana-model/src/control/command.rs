//! The commands, as text and as values.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use uverbs_abi::Errno;

use super::error::ControlError;
use crate::{After, Cooling, Fault, LinkConfig};

/// What `help` answers: one line a command.
pub const HELP: &str = "\
help                                   this text
ports                                  every port: device, MAC, netdev and its state
counters [PORT]                        what the device counted, of one port or of all
findings                               what the driver did wrong so far
take-findings                          the same, and forget it
undecided                              kinds of findings that this model can't have
objects                                how many verbs objects there are
operations                             control operations so far
drained                                whether captures and generators have ended and nothing moves
step                                   let the device do everything that is pending
cool none|l3|memory                    where completions are moved to once written, for measurements
inject fail-operation NTH ERRNO        the NTH control operation from now fails (ENOMEM, 12)
inject tx-error PORT TYPE NTH [QUEUE]  the NTH packet sent (of a queue) ends in an error CQE, 33 to 42
inject rx-truncated PORT NTH           the NTH packet received is truncated
inject garbage-cqe PORT NTH            the NTH CQE of the port is nonsense
inject lost-cqe PORT NTH               the NTH CQE of the port is never written
inject remove-at DEVICE NTH            the device goes away with the NTH control operation from now
inject device-fatal DEVICE             as remove, and no error where it is away
remove DEVICE                          the device goes away: DEVICE_FATAL, then EIO
restore DEVICE                         it comes back, with new ib devices
reset DEVICE [after MS]                both, at once or after so many milliseconds
reset DEVICE after N steps             both, the second in the Nth step
reset-request DEVICE                   it asks the kernel's driver for a reset, which that serves
link PORT up|down                      the carrier of the port's link; without it frames are lost
wire PORT loop|sink|sink:keep          puts another link behind the port; what was on the old one is lost
netdev PORT up|down                    set the netdev's state, as `ip link set` does
frames PORT                            take what the port sent, where its link is sink:keep
deliver PORT HEX...                    let frames arrive at the port with the next step
";

/// One command. Its text is its [`fmt::Display`], and [`FromStr`] reads it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The list of commands.
    Help,
    /// Every port.
    Ports,
    /// The counters of one port or of all.
    Counters(Option<usize>),
    /// [`crate::Model::findings`].
    Findings,
    /// [`crate::Model::take_findings`].
    TakeFindings,
    /// [`crate::Model::undecided`].
    Undecided,
    /// [`crate::Model::objects`].
    Objects,
    /// [`crate::Model::operations`].
    Operations,
    /// [`crate::Model::drained`].
    Drained,
    /// [`crate::Model::step`].
    Step,
    /// [`crate::Model::set_cooling`].
    Cool(Cooling),
    /// [`crate::Model::inject`].
    Inject(Fault),
    /// [`crate::Model::remove`].
    Remove {
        /// The device.
        device: usize,
    },
    /// [`crate::Model::restore`].
    Restore {
        /// The device.
        device: usize,
    },
    /// [`crate::Model::reset`].
    Reset {
        /// The device.
        device: usize,
        /// When it comes back; of times, whole milliseconds are told.
        after: After,
    },
    /// The device asks for a reset: [`crate::Model::reset`] where the kernel is the model's own, else
    /// the message by which a device asks.
    ResetRequest {
        /// The device.
        device: usize,
    },
    /// [`crate::PortView::set_wire`].
    Wire {
        /// The port.
        port: usize,
        /// A loop or a sink.
        link: LinkConfig,
    },
    /// [`crate::PortView::set_link_up`].
    Link {
        /// The port.
        port: usize,
        /// Whether it has a carrier.
        up: bool,
    },
    /// [`crate::PortView::set_netdev_up`].
    Netdev {
        /// The port.
        port: usize,
        /// Whether UP or DOWN.
        up: bool,
    },
    /// [`crate::PortView::take_tx_frames`].
    Frames {
        /// The port.
        port: usize,
    },
    /// [`crate::PortView::deliver`].
    Deliver {
        /// The port.
        port: usize,
        /// The frames, at least one, each of at least one byte.
        frames: Vec<Vec<u8>>,
    },
}

impl FromStr for Command {
    type Err = ControlError;

    fn from_str(line: &str) -> Result<Self, ControlError> {
        let mut words = Words {
            line,
            rest: line.split_whitespace(),
        };
        let command = match words.text("a command")? {
            "help" => Self::Help,
            "ports" => Self::Ports,
            "counters" => Self::Counters(words.maybe("a port")?),
            "findings" => Self::Findings,
            "take-findings" => Self::TakeFindings,
            "undecided" => Self::Undecided,
            "objects" => Self::Objects,
            "operations" => Self::Operations,
            "drained" => Self::Drained,
            "step" => Self::Step,
            "cool" => {
                let text = words.text("none, l3 or memory")?;
                let cooling = text.parse();
                Self::Cool(cooling.map_err(|_| words.wrong("none, l3 or memory"))?)
            }
            "inject" => Self::Inject(words.fault()?),
            "remove" => Self::Remove {
                device: words.number("a device")?,
            },
            "restore" => Self::Restore {
                device: words.number("a device")?,
            },
            "reset" => Self::Reset {
                device: words.number("a device")?,
                after: words.after()?,
            },
            "link" => Self::Link {
                port: words.number("a port")?,
                up: words.up()?,
            },
            "netdev" => Self::Netdev {
                port: words.number("a port")?,
                up: words.up()?,
            },
            "reset-request" => Self::ResetRequest {
                device: words.number("a device")?,
            },
            "wire" => Self::Wire {
                port: words.number("a port")?,
                link: words.wire()?,
            },
            "frames" => Self::Frames {
                port: words.number("a port")?,
            },
            "deliver" => Self::Deliver {
                port: words.number("a port")?,
                frames: words.frames()?,
            },
            other => {
                return Err(ControlError::invalid(format!(
                    "unknown command `{other}`: `help` lists them"
                )));
            }
        };
        words.end()?;
        Ok(command)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help => f.write_str("help"),
            Self::Ports => f.write_str("ports"),
            Self::Counters(None) => f.write_str("counters"),
            Self::Counters(Some(port)) => write!(f, "counters {port}"),
            Self::Findings => f.write_str("findings"),
            Self::TakeFindings => f.write_str("take-findings"),
            Self::Undecided => f.write_str("undecided"),
            Self::Objects => f.write_str("objects"),
            Self::Operations => f.write_str("operations"),
            Self::Drained => f.write_str("drained"),
            Self::Step => f.write_str("step"),
            Self::Cool(cooling) => write!(f, "cool {cooling}"),
            Self::Inject(fault) => {
                f.write_str("inject ")?;
                write_fault(fault, f)
            }
            Self::Remove { device } => write!(f, "remove {device}"),
            Self::Restore { device } => write!(f, "restore {device}"),
            Self::Reset { device, after } => match after {
                After::Steps(0) => write!(f, "reset {device}"),
                After::Steps(steps) => write!(f, "reset {device} after {steps} steps"),
                After::Time(time) => write!(f, "reset {device} after {}", time.as_millis()),
            },
            Self::ResetRequest { device } => write!(f, "reset-request {device}"),
            Self::Wire { port, link } => write!(f, "wire {port} {}", wire_text(link)),
            Self::Link { port, up } => write!(f, "link {port} {}", up_text(*up)),
            Self::Netdev { port, up } => write!(f, "netdev {port} {}", up_text(*up)),
            Self::Frames { port } => write!(f, "frames {port}"),
            Self::Deliver { port, frames } => {
                write!(f, "deliver {port}")?;
                for frame in frames {
                    f.write_str(" ")?;
                    let mut bytes = frame.iter();
                    bytes.try_for_each(|byte| write!(f, "{byte:02x}"))?;
                }
                Ok(())
            }
        }
    }
}

fn write_fault(fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match *fault {
        Fault::FailOperation { nth, errno } => write!(f, "fail-operation {nth} {}", errno.0),
        Fault::TxError {
            port,
            sq,
            cqe_type,
            nth,
        } => {
            write!(f, "tx-error {port} {cqe_type} {nth}")?;
            sq.map_or(Ok(()), |sq| write!(f, " {sq}"))
        }
        Fault::RxTruncated { port, nth } => write!(f, "rx-truncated {port} {nth}"),
        Fault::GarbageCqe { port, nth } => write!(f, "garbage-cqe {port} {nth}"),
        Fault::LostCqe { port, nth } => write!(f, "lost-cqe {port} {nth}"),
        Fault::RemoveAt { device, nth } => write!(f, "remove-at {device} {nth}"),
        Fault::DeviceFatal { device } => write!(f, "device-fatal {device}"),
    }
}

/// Of links that a command can put behind a port.
const fn wire_text(link: &LinkConfig) -> &'static str {
    match link {
        LinkConfig::Sink { capture: true } => "sink:keep",
        LinkConfig::Sink { capture: false } => "sink",
        _ => "loop",
    }
}

pub(super) const fn up_text(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// The words of a line that are left.
struct Words<'l> {
    line: &'l str,
    rest: SplitWhitespace<'l>,
}

impl<'l> Words<'l> {
    fn wrong(&self, expected: &str) -> ControlError {
        let line: String = self.line.trim().chars().take(80).collect();
        ControlError::invalid(format!("`{line}`: expected {expected} (see `help`)"))
    }

    fn text(&mut self, expected: &str) -> Result<&'l str, ControlError> {
        self.rest.next().ok_or_else(|| self.wrong(expected))
    }

    /// A number, decimal or behind `0x`.
    fn number<T: TryFrom<u64>>(&mut self, expected: &str) -> Result<T, ControlError> {
        let text = self.text(expected)?;
        number(text).ok_or_else(|| self.wrong(&format!("{expected}, not `{text}`")))
    }

    fn maybe<T: TryFrom<u64>>(&mut self, expected: &str) -> Result<Option<T>, ControlError> {
        if self.rest.clone().next().is_none() {
            return Ok(None);
        }
        self.number(expected).map(Some)
    }

    fn nth(&mut self) -> Result<u64, ControlError> {
        let nth = self.number("which one, counted from 1")?;
        if nth == 0 {
            return Err(self.wrong("which one, counted from 1"));
        }
        Ok(nth)
    }

    fn up(&mut self) -> Result<bool, ControlError> {
        match self.text("`up` or `down`")? {
            "up" => Ok(true),
            "down" => Ok(false),
            _ => Err(self.wrong("`up` or `down`")),
        }
    }

    /// What is behind a port.
    fn wire(&mut self) -> Result<LinkConfig, ControlError> {
        let expected = "`loop`, `sink` or `sink:keep`";
        match self.text(expected)? {
            "loop" => Ok(LinkConfig::Loop),
            "sink" => Ok(LinkConfig::Sink { capture: false }),
            "sink:keep" => Ok(LinkConfig::Sink { capture: true }),
            _ => Err(self.wrong(expected)),
        }
    }

    /// When a device comes back.
    fn after(&mut self) -> Result<After, ControlError> {
        match self.rest.next() {
            None => return Ok(After::Steps(0)),
            Some("after") => {}
            Some(_) => return Err(self.wrong("`after`, or nothing more")),
        }
        let expected = "milliseconds, or a number of steps and `steps`";
        let number: u64 = self.number(expected)?;
        match self.rest.next() {
            None => Ok(After::Time(Duration::from_millis(number))),
            Some("steps") => match u32::try_from(number) {
                Ok(steps) => Ok(After::Steps(steps)),
                Err(_) => Err(self.wrong(expected)),
            },
            Some(_) => Err(self.wrong(expected)),
        }
    }

    /// All words that are left, at least one.
    fn frames(&mut self) -> Result<Vec<Vec<u8>>, ControlError> {
        let mut frames = Vec::new();
        let mut text = self.text("a frame in hexadecimal digits")?;
        loop {
            let frame = hex(text);
            frames.push(frame.ok_or_else(|| self.wrong("a frame in pairs of hexadecimal digits"))?);
            match self.rest.next() {
                Some(next) => text = next,
                None => return Ok(frames),
            }
        }
    }

    fn fault(&mut self) -> Result<Fault, ControlError> {
        Ok(match self.text("a fault")? {
            "fail-operation" => Fault::FailOperation {
                nth: self.nth()?,
                errno: {
                    let text = self.text("an error number, or its name")?;
                    errno(text).ok_or_else(|| self.wrong("an error number, or its name"))?
                },
            },
            "tx-error" => {
                let port = self.number("a port")?;
                let cqe_type = self.number("the type of a CQE, 33 to 42")?;
                if !(33..=42).contains(&cqe_type) {
                    return Err(self.wrong("the type of a CQE, 33 to 42"));
                }
                Fault::TxError {
                    port,
                    cqe_type,
                    nth: self.nth()?,
                    sq: self.maybe("the id of a send queue")?,
                }
            }
            "rx-truncated" => Fault::RxTruncated {
                port: self.number("a port")?,
                nth: self.nth()?,
            },
            "garbage-cqe" => Fault::GarbageCqe {
                port: self.number("a port")?,
                nth: self.nth()?,
            },
            "lost-cqe" => Fault::LostCqe {
                port: self.number("a port")?,
                nth: self.nth()?,
            },
            "remove-at" => Fault::RemoveAt {
                device: self.number("a device")?,
                nth: self.nth()?,
            },
            "device-fatal" => Fault::DeviceFatal {
                device: self.number("a device")?,
            },
            _ => {
                return Err(self.wrong(
                    "fail-operation, tx-error, rx-truncated, garbage-cqe, lost-cqe, remove-at or \
                     device-fatal",
                ));
            }
        })
    }

    fn end(&mut self) -> Result<(), ControlError> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(self.wrong(&format!("nothing more, not `{word}`"))),
        }
    }
}

/// A number, decimal or behind `0x`.
pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    T::try_from(number.ok()?).ok()
}

/// The bytes of a text of hexadecimal digits; at least one.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

/// An error number by its name or digits.
fn errno(text: &str) -> Option<Errno> {
    let known = (1..=133)
        .map(Errno)
        .find(|errno| errno.name() == Some(text));
    known.or_else(|| {
        let number: i32 = text.parse().ok()?;
        // MAX_ERRNO of the kernel.
        (1..=4095).contains(&number).then_some(Errno(number))
    })
}
