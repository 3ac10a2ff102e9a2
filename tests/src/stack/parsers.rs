//! What others' programs look for in testpmd's output: facts of Microsoft's LISA
//! (`dpdktestpmd.py`) and of DPDK's DTS (`dts/api/testpmd`), written down anew. A text that lacks one
//! of them is one that they can't read.

use std::ops::RangeInclusive;

/// What stands behind a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A decimal number.
    Number,
    /// One or more spaces and a decimal number.
    Padded,
    /// `0x` and a hexadecimal number.
    Hexadecimal,
    /// Something up to the end of the line.
    Line,
    /// A MAC in hexadecimal bytes.
    Mac,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

type Fact = (&'static str, Value);

/// `show port info`.
const PORT: &[Fact] = &[
    ("Infos for port ", Value::Number),
    ("MAC address: ", Value::Mac),
    ("Device name: ", Value::Line),
    ("Driver name: ", Value::Line),
    ("Firmware-version: ", Value::Line),
    ("Connect to socket: ", Value::Number),
    ("memory allocation on the socket: ", Value::Number),
    ("Link status: ", Value::OneOf(&["up", "down"])),
    ("Link speed: ", Value::Line),
    (
        "Link duplex: ",
        Value::OneOf(&["full-duplex", "half-duplex"]),
    ),
    ("Autoneg status: ", Value::OneOf(&["On", "Off"])),
    ("MTU: ", Value::Number),
    ("Promiscuous mode: ", Value::OneOf(&["enabled", "disabled"])),
    (
        "Allmulticast mode: ",
        Value::OneOf(&["enabled", "disabled"]),
    ),
    ("Maximum number of MAC addresses: ", Value::Number),
    (
        "Maximum number of MAC addresses of hash filtering: ",
        Value::Number,
    ),
    ("Hash key size in bytes: ", Value::Number),
    ("Redirection table size: ", Value::Number),
    ("Minimum size of RX buffer: ", Value::Number),
    ("Maximum configurable length of RX packet: ", Value::Number),
    (
        "Maximum configurable size of LRO aggregated packet: ",
        Value::Number,
    ),
    ("Maximum number of VFs: ", Value::Number),
    ("Current number of RX queues: ", Value::Number),
    ("Max possible RX queues: ", Value::Number),
    ("Max possible number of RXDs per queue: ", Value::Number),
    ("Min possible number of RXDs per queue: ", Value::Number),
    ("RXDs number alignment: ", Value::Number),
    ("Current number of TX queues: ", Value::Number),
    ("Max possible TX queues: ", Value::Number),
    ("Max possible number of TXDs per queue: ", Value::Number),
    ("Min possible number of TXDs per queue: ", Value::Number),
    ("TXDs number alignment: ", Value::Number),
    ("Max segment number per packet: ", Value::Number),
    ("Max segment number per MTU/TSO: ", Value::Number),
    ("Device capabilities: ", Value::Hexadecimal),
    (
        "Device error handling mode: ",
        Value::OneOf(&["none", "passive", "proactive", "unknown"]),
    ),
];

/// Names of hashed headers, as far as a MANA may have them.
const FLOW_TYPES: &[&str] = &[
    "ipv4", "ipv4-tcp", "ipv4-udp", "ipv6", "ipv6-tcp", "ipv6-udp",
];

/// `show port stats`, and what is printed every `--stats-period`.
const STATS: &[Fact] = &[
    ("NIC statistics for port ", Value::Number),
    ("RX-packets:", Value::Padded),
    ("RX-missed:", Value::Padded),
    ("RX-bytes:", Value::Padded),
    ("RX-errors:", Value::Padded),
    ("RX-nombuf:", Value::Padded),
    ("TX-packets:", Value::Padded),
    ("TX-errors:", Value::Padded),
    ("TX-bytes:", Value::Padded),
    ("Rx-pps:", Value::Padded),
    ("Rx-bps:", Value::Padded),
    ("Tx-pps:", Value::Padded),
    ("Tx-bps:", Value::Padded),
];

/// `show rxq info` and `show txq info`, what both have.
const QUEUE: &[Fact] = &[
    ("prefetch threshold: ", Value::Number),
    ("host threshold: ", Value::Number),
    ("writeback threshold: ", Value::Number),
    ("free threshold: ", Value::Number),
    ("deferred start: ", Value::OneOf(&["on", "off"])),
];
const RX_QUEUE: &[Fact] = &[
    ("Mempool: ", Value::Line),
    ("RX drop packets: ", Value::OneOf(&["on", "off"])),
    ("RX scattered packets: ", Value::OneOf(&["on", "off"])),
    (
        "Rx queue state: ",
        Value::OneOf(&["stopped", "started", "hairpin", "unknown"]),
    ),
    ("Number of RXDs: ", Value::Number),
];
const TX_QUEUE: &[Fact] = &[
    ("TX RS threshold: ", Value::Number),
    ("Tx queue state: ", Value::OneOf(&["stopped", "started"])),
    ("Number of TXDs: ", Value::Number),
];

/// A packet of `set verbose`.
const PACKET: &[Fact] = &[
    ("src=", Value::Mac),
    ("dst=", Value::Mac),
    ("pool=", Value::Line),
    ("type=", Value::Hexadecimal),
    ("length=", Value::Number),
    ("nb_segs=", Value::Number),
    ("l2_len=", Value::Number),
];
/// How packet types begin, and offload flags.
const TYPES: &[&str] = &["L2_", "L3_", "L4_", "TUNNEL_", "INNER_"];
const FLAGS: &str = "RTE_MBUF_F_";

/// What a value at the beginning of `text` takes of it; none where there is none.
fn value(text: &str, value: Value) -> Option<&str> {
    let run = |text: &str, fits: fn(char) -> bool| {
        let length = text.find(|c| !fits(c)).unwrap_or(text.len());
        (length > 0).then_some(length)
    };
    let length = match value {
        Value::Number => run(text, |c| c.is_ascii_digit())?,
        Value::Padded => {
            let spaces = run(text, char::is_whitespace)?;
            spaces + run(&text[spaces..], |c| c.is_ascii_digit())?
        }
        Value::Hexadecimal => 2 + run(text.strip_prefix("0x")?, |c| c.is_ascii_hexdigit())?,
        Value::Line => run(text, |c| c != '\r' && c != '\n')?,
        Value::Mac => {
            let length = run(text, |c| c.is_ascii_hexdigit() || c == ':')?;
            let bytes = text[..length].split(':');
            (bytes.clone().count() == 6 && bytes.clone().all(|byte| byte.len() == 2))
                .then_some(length)?
        }
        Value::OneOf(words) => {
            let length = run(text, |c| !c.is_whitespace())?;
            words.contains(&&text[..length]).then_some(length)?
        }
    };
    Some(text[..length].trim_start())
}

/// The first value behind a label.
fn find(text: &str, (label, kind): Fact) -> Option<&str> {
    text.match_indices(label)
        .find_map(|(at, _)| value(&text[at + label.len()..], kind))
}

fn all_of(text: &str, facts: &[Fact]) -> Result<(), String> {
    for fact in facts {
        find(text, *fact).ok_or_else(|| format!("no `{}` with {:?} in {text}", fact.0, fact.1))?;
    }
    Ok(())
}

/// The packets a second of a direction, `Rx` or `Tx`, as LISA takes them: each sample, without the
/// zeros at the beginning.
#[must_use]
pub fn lisa_rates(text: &str, direction: &str) -> Vec<u64> {
    let label = format!("{direction}-pps:");
    let parts = text.split(label.as_str()).skip(1);
    let numbers = parts.filter_map(|rest| value(rest, Value::Padded)?.parse().ok());
    numbers.skip_while(|rate| *rate == 0).collect()
}

/// The ports of `show port info all`, as DTS cuts them: from 21 asterisks to an empty line, or to the
/// end.
///
/// # Errors
///
/// What a port lacks.
pub fn dts_ports(text: &str) -> Result<usize, String> {
    let stars = "*".repeat(21);
    let mut ports = 0;
    for block in text.split("\n\n").filter(|block| block.contains(&stars)) {
        all_of(block, PORT)?;
        let (_, rest) = block.split_once("VLAN offload:").ok_or("no VLAN offload")?;
        let mut rest = rest.trim_start();
        for name in ["strip ", ", filter ", ", extend ", ", qinq strip "] {
            let found = rest.strip_prefix(name);
            let found = found.ok_or_else(|| format!("no `{name}` at {rest}"))?;
            let length = if found.starts_with("on") { 2 } else { 3 };
            let (on, behind) = found.split_at(length.min(found.len()));
            if !["on", "off"].contains(&on) {
                return Err(format!("`{on}` of {name}"));
            }
            rest = behind;
        }
        let (_, rest) = block
            .split_once("Supported RSS offload flow types:\n")
            .ok_or("no flow types")?;
        let types = rest.lines().take_while(|line| line.starts_with("  "));
        for name in types.flat_map(str::split_whitespace) {
            if !FLOW_TYPES.contains(&name) {
                return Err(format!("flow type `{name}`"));
            }
        }
        let (_, private) = block
            .split_once("Device private info:")
            .ok_or("no private info")?;
        if private.trim().is_empty() {
            return Err("empty private info".to_owned());
        }
        ports += 1;
    }
    Ok(ports)
}

/// The ports of `show port stats all`, as DTS cuts them: from a line of `#` with words to one
/// without.
///
/// # Errors
///
/// What a port lacks.
pub fn dts_stats(text: &str) -> Result<usize, String> {
    let (mut ports, mut block) = (0, String::new());
    for line in text.lines() {
        let is_border = line.starts_with("  #") && line.ends_with('#');
        if is_border && line.trim().chars().all(|c| c == '#') {
            all_of(&block, STATS)?;
            ports += 1;
            block.clear();
        } else if is_border || !block.is_empty() {
            block.push_str(&format!("{line}\n"));
        }
    }
    Ok(ports)
}

/// A queue of `show rxq info` or `show txq info`.
///
/// # Errors
///
/// What it lacks.
pub fn dts_queue(text: &str, receives: bool) -> Result<(), String> {
    all_of(text, QUEUE)?;
    all_of(text, if receives { RX_QUEUE } else { TX_QUEUE })
}

/// The packets that `set verbose` printed: each from `src=` to its flags, behind a line that says
/// where a burst came or went.
///
/// # Errors
///
/// What a packet lacks, or what DTS does not expect in it.
pub fn dts_packets(text: &str) -> Result<usize, String> {
    let mut packets = 0;
    let mut parts = text.split("src=");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let burst = find(before, ("port ", Value::Number))
            .and(find(before, ("/queue ", Value::Number)))
            .or(find(before, (": received ", Value::Number)));
        if packets == 0 && burst.is_none() {
            return Err(format!("no burst in {before}"));
        }
        let (packet, flags) = part.split_once("ol_flags: ").ok_or("no ol_flags")?;
        let odd = |c: char| !(c.is_alphanumeric() || c.is_whitespace() || "_=:-".contains(c));
        if let Some(at) = packet.find(odd) {
            return Err(format!("`{}` in {packet}", &packet[at..]));
        }
        let flags = flags.lines().next().unwrap_or_default();
        if !flags.split_whitespace().all(|flag| flag.starts_with(FLAGS)) {
            return Err(format!("flags {flags}"));
        }
        let packet = format!("src={packet}");
        all_of(&packet, PACKET)?;
        // DTS wants the NIC's types, too, which testpmd prints of NICs that tell them: MANA does not.
        let (_, types) = packet.split_once("sw ptype: ").ok_or("no sw ptype")?;
        let types = types.split('-').next().unwrap_or_default();
        let known = |name: &str| TYPES.iter().any(|start| name.starts_with(start));
        if !types.split_whitespace().all(known) {
            return Err(format!("types {types}"));
        }
        packets += 1;
        before = part;
    }
    Ok(packets)
}

/// The names of `show device info all`: behind the first `: ` of lines that have one.
#[must_use]
pub fn dts_devices(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter(|line| line.to_lowercase().contains("device name:"));
    lines
        .filter_map(|line| line.trim().split(": ").nth(1))
        .collect()
}

/// What the answer to a command must say for DTS to go on, or must not.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// These words are in it, whatever their case.
    Says(&'static str),
    /// It begins so.
    Begins(&'static str),
    /// It ends so.
    Ends(&'static str),
    /// Nothing is said.
    Nothing,
    /// None of these words.
    Lacks(&'static [&'static str]),
}

/// The commands of DTS whose answers it looks at.
pub const DTS_VERDICTS: &[(&str, Verdict)] = &[
    ("start", Verdict::Lacks(&["Bad arguments"])),
    (
        "start again",
        Verdict::Says("Packet forwarding already started"),
    ),
    ("stop", Verdict::Says("Done.")),
    ("stop again", Verdict::Says("Packet forwarding not started")),
    (
        "set fwd macswap",
        Verdict::Says("Set macswap packet forwarding mode"),
    ),
    ("set verbose 0", Verdict::Says("Change verbose level")),
    ("show port info 9", Verdict::Begins("Invalid port")),
    ("show port stats 9", Verdict::Begins("Invalid port")),
    ("port stop all", Verdict::Ends("Done")),
    ("port start all", Verdict::Ends("Done")),
    (
        "csum set ip hw 0",
        Verdict::Says("ip checksum offload is hw"),
    ),
    (
        "csum set udp hw 0",
        Verdict::Says("udp checksum offload is hw"),
    ),
    (
        "csum set tcp hw 0",
        Verdict::Says("tcp checksum offload is hw"),
    ),
    (
        "csum set sctp hw 0",
        Verdict::Says("checksum offload is not supported by port 0"),
    ),
    (
        "tx_vlan set 0 5",
        Verdict::Lacks(&["Please stop port", "Invalid vlan_id", "Invalid port"]),
    ),
    ("tx_vlan set 0 4096", Verdict::Says("Invalid vlan_id")),
    (
        "tx_vlan reset 0",
        Verdict::Lacks(&["Please stop port", "Invalid port"]),
    ),
    ("port close all", Verdict::Says("Port 0 is closed")),
];

/// Holds an answer against a verdict.
///
/// # Errors
///
/// The answer, where it is not what DTS wants.
pub fn dts_verdict(answer: &str, verdict: Verdict) -> Result<(), String> {
    let lower = |text: &str| text.to_lowercase();
    let right = match verdict {
        Verdict::Says(words) => lower(answer).contains(&lower(words)),
        Verdict::Begins(words) => answer.starts_with(words),
        Verdict::Ends(words) => answer.trim().ends_with(words),
        Verdict::Nothing => answer.trim().is_empty(),
        Verdict::Lacks(words) => !words.iter().any(|words| answer.contains(words)),
    };
    right
        .then_some(())
        .ok_or_else(|| format!("{verdict:?}: {answer}"))
}

/// Rates that are no accident: some sample, none of them absurd.
#[must_use]
pub fn are_rates(rates: &[u64], sane: RangeInclusive<u64>) -> bool {
    !rates.is_empty() && rates.iter().all(|rate| *rate == 0 || sane.contains(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_are_and_of_their_kind() {
        let text =
            "Tx-pps:     14579940          Tx-bps:   7464929376\nMAC address: 7C:1E:52:3E:5B:E3\n";
        assert_eq!(find(text, ("Tx-pps:", Value::Padded)), Some("14579940"));
        assert_eq!(find(text, ("Tx-pps:", Value::Number)), None);
        assert_eq!(
            find(text, ("MAC address: ", Value::Mac)),
            Some("7C:1E:52:3E:5B:E3")
        );
        assert_eq!(find("state: on", ("state: ", Value::OneOf(&["off"]))), None);
        assert_eq!(find("x: \n", ("x: ", Value::Line)), None);
        assert_eq!(find("c: 0x0( )", ("c: ", Value::Hexadecimal)), Some("0x0"));
    }

    #[test]
    fn zeros_at_the_beginning_are_no_rates() {
        let text = "Rx-pps:            0\nRx-pps:            7\nRx-pps:            0\n";
        assert_eq!(lisa_rates(text, "Rx"), [7, 0]);
        assert!(lisa_rates(text, "Tx").is_empty());
    }

    #[test]
    fn a_missing_line_is_a_text_that_can_not_be_read() {
        // From DPDK's documentation of testpmd.
        let stats = "  ######################## NIC statistics for port 0  ########################\n  \
                     RX-packets: 0          RX-missed: 0          RX-bytes:  0\n  RX-errors: 0\n  \
                     RX-nombuf:  0         \n  TX-packets: 0          TX-errors: 0          TX-bytes:  0\n\n  \
                     Throughput (since last show)\n  \
                     Rx-pps:            0          Rx-bps:            0\n  \
                     Tx-pps:            0          Tx-bps:            0\n  \
                     ############################################################################\n";
        assert_eq!(dts_stats(stats), Ok(1));
        assert_eq!(dts_stats(&stats.repeat(2)), Ok(2));
        assert!(dts_stats(&stats.replace("RX-nombuf:", "RX-nombufs")).is_err());
        assert_eq!(dts_ports(""), Ok(0));
        assert!(dts_ports(&"*".repeat(21)).is_err());
    }
}
