//! The lines of answers, written by the model's side and read by the client's. Each begins with a
//! word that says what it is.

use std::fmt::Write as _;

use uverbs_abi::Mac;

use super::command::{hex, number, up_text};
use crate::core::PortCounters;
use crate::findings::{Finding, FindingKind};
use crate::model::ObjectCounts;

/// A port as `ports` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// Index of its device.
    pub device: usize,
    /// Its MAC address.
    pub mac: Mac,
    /// Name of its netdev.
    pub netdev: String,
    /// Whether the netdev is UP.
    pub up: bool,
    /// Whether the link has a carrier.
    pub link_up: bool,
}

/// A structure of counters with their names, all of them.
pub(super) trait Numbers: Default {
    /// Each name with its value.
    fn named(&self) -> Vec<(&'static str, u64)>;
    /// Sets the counter of a name; `None` without such a one.
    fn set(&mut self, name: &str, value: u64) -> Option<()>;
}

macro_rules! numbers {
    ($kind:ty: $($field:ident)*) => {
        impl Numbers for $kind {
            fn named(&self) -> Vec<(&'static str, u64)> {
                // Without `..`, so that a new field must be named here.
                let Self { $($field),* } = *self;
                vec![$((stringify!($field), $field as u64)),*]
            }

            fn set(&mut self, name: &str, value: u64) -> Option<()> {
                match name {
                    $(stringify!($field) => self.$field = value.try_into().ok()?,)*
                    _ => return None,
                }
                Some(())
            }
        }
    };
}

numbers! {
    PortCounters: tx_frames tx_bytes tx_errors rx_frames rx_bytes rx_no_buffer rx_truncated
        rx_disabled link_dropped
}

numbers! { ObjectCounts: contexts pds mrs cqs qps wqs tables }

pub(super) fn write_port(to: &mut String, index: usize, port: &PortState) {
    let PortState {
        device,
        mac,
        netdev,
        up,
        link_up,
    } = port;
    // Writing to a String does not fail; so in all of these.
    let _always = writeln!(
        to,
        "port {index} device {device} mac {mac} netdev {netdev} {} link {}",
        up_text(*up),
        up_text(*link_up)
    );
}

pub(super) fn read_port(line: &str) -> Option<PortState> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        "port",
        _,
        "device",
        device,
        "mac",
        mac,
        "netdev",
        netdev,
        state,
        "link",
        link,
    ] = words[..]
    else {
        return None;
    };
    Some(PortState {
        device: number(device)?,
        mac: mac.parse().ok()?,
        netdev: netdev.to_owned(),
        up: is_up(state)?,
        link_up: is_up(link)?,
    })
}

fn is_up(word: &str) -> Option<bool> {
    match word {
        "up" => Some(true),
        "down" => Some(false),
        _ => None,
    }
}

pub(super) fn write_counters(to: &mut String, port: usize, counters: &PortCounters) {
    for (name, value) in counters.named() {
        let _always = writeln!(to, "port {port} {name} {value}");
    }
}

/// Adds the counter that a line tells.
pub(super) fn read_counter(line: &str, counters: &mut PortCounters) -> Option<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["port", _, name, value] = words[..] else {
        return None;
    };
    counters.set(name, number(value)?)
}

pub(super) fn write_objects(to: &mut String, objects: &ObjectCounts) {
    for (name, value) in objects.named() {
        let _always = writeln!(to, "{name} {value}");
    }
}

pub(super) fn read_object(line: &str, objects: &mut ObjectCounts) -> Option<()> {
    let (name, value) = line.split_once(' ')?;
    objects.set(name, number(value)?)
}

pub(super) fn write_finding(to: &mut String, finding: &Finding) {
    let Finding {
        kind,
        device,
        queue,
        evidence,
        count,
    } = finding;
    let queue = queue.map_or("-".to_owned(), |queue| format!("{queue:#x}"));
    let evidence = evidence.replace(['\n', '\r'], " ");
    let name = kind.name();
    let _always = writeln!(to, "finding {name} {device} {queue} {count} {evidence}");
}

pub(super) fn read_finding(line: &str) -> Option<Finding> {
    let mut words = line.splitn(6, ' ');
    let (word, kind, device, queue, count) = (
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
    );
    Some(Finding {
        kind: (word == "finding").then(|| FindingKind::from_name(kind))??,
        device: device.to_owned(),
        queue: match queue {
            "-" => None,
            id => Some(number(id)?),
        },
        count: number(count)?,
        evidence: words.next()?.to_owned(),
    })
}

pub(super) fn write_kind(to: &mut String, kind: FindingKind) {
    let _always = writeln!(to, "undecided {}", kind.name());
}

pub(super) fn read_kind(line: &str) -> Option<FindingKind> {
    FindingKind::from_name(line.strip_prefix("undecided ")?)
}

pub(super) fn write_frame(to: &mut String, frame: &[u8]) {
    to.push_str("frame ");
    for byte in frame {
        let _always = write!(to, "{byte:02x}");
    }
    to.push('\n');
}

pub(super) fn read_frame(line: &str) -> Option<Vec<u8>> {
    match line.strip_prefix("frame")?.trim_start() {
        "" => Some(Vec::new()),
        digits => hex(digits),
    }
}

/// `moved 12`, `operations 3`.
pub(super) fn read_number(line: &str, name: &str) -> Option<u64> {
    number(line.strip_prefix(name)?.strip_prefix(' ')?)
}

/// `drained yes`.
pub(super) fn read_yes(line: &str, name: &str) -> Option<bool> {
    match line.strip_prefix(name)? {
        " yes" => Some(true),
        " no" => Some(false),
        _ => None,
    }
}
