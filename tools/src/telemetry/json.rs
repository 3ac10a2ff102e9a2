//! The answers of DPDK's telemetry, as its version 24.11 gives them.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::data::{Board, PortData};

/// Bytes that an answer may have. DPDK's 16384 would cut the statistics of 64 queues; clients take
/// the number from the greeting.
pub const MAX_OUTPUT: usize = 128 << 10;
/// Bytes of a command, and of the one repeated in an answer.
const MAX_COMMAND: usize = 56;
/// Queues in the arrays of `/ethdev/stats` (RTE_ETHDEV_QUEUE_STAT_CNTRS).
const QUEUE_STATS: usize = 16;
/// RTE_ETH_SPEED_NUM_UNKNOWN: neither mana_ib nor the driver knows the speed.
const UNKNOWN_SPEED: u32 = u32::MAX;

/// Every command with its help, in the order of their names.
const COMMANDS: &[(&str, &str)] = &[
    ("/", "Lists the commands. Takes no parameters"),
    (
        "/eal/app_params",
        "Gives the words behind `--`. Takes no parameters",
    ),
    (
        "/eal/lcore/info",
        "Tells of a core. Parameters: int lcore_id",
    ),
    ("/eal/lcore/list", "Lists the cores. Takes no parameters"),
    (
        "/eal/params",
        "Gives the words before `--`. Takes no parameters",
    ),
    ("/ethdev/info", "Tells of a port. Parameters: int port_id"),
    (
        "/ethdev/link_status",
        "Gives the link of a port. Parameters: int port_id",
    ),
    ("/ethdev/list", "Lists the ports. Takes no parameters"),
    (
        "/ethdev/macs",
        "Gives the MAC addresses of a port. Parameters: int port_id",
    ),
    (
        "/ethdev/stats",
        "Gives the statistics of a port. Parameters: int port_id",
    ),
    (
        "/ethdev/xstats",
        "Gives all statistics of a port by name. Parameters: int port_id[,hide_zero=true|false]",
    ),
    (
        "/help",
        "Gives the help of a command. Parameters: string command",
    ),
    ("/info", "Tells of the process. Takes no parameters"),
];

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq)]
enum Reply {
    /// Unknown, or with a parameter that names nothing.
    Null,
    Text(&'static str),
    List(Vec<Value>),
    /// In the order in which it is written.
    Dict(Vec<(String, Value)>),
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Reply::Null => serializer.serialize_unit(),
            Reply::Text(text) => serializer.serialize_str(text),
            Reply::List(values) => serializer.collect_seq(values),
            Reply::Dict(entries) => {
                serializer.collect_map(entries.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

struct Answer<'a>(&'a str, Reply);

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// What a client is told when it comes.
pub fn greeting() -> String {
    text(&Reply::Dict(process()))
}

fn process() -> Vec<(String, Value)> {
    dict([
        (
            "version",
            json!(concat!("mana ", env!("CARGO_PKG_VERSION"))),
        ),
        ("pid", json!(std::process::id())),
        ("max_output_len", json!(MAX_OUTPUT)),
    ])
}

/// Answers one message: a command, and after a comma its parameters.
pub fn answer(message: &[u8], board: &Board) -> String {
    let message = message.split(|byte| *byte == 0).next().unwrap_or_default();
    let message = String::from_utf8_lossy(message);
    let words = message.trim_start_matches(',');
    let (command, parameters) = words.split_once(',').unwrap_or((words, ""));
    let reply = if command.len() < MAX_COMMAND {
        reply(command, parameters, board)
    } else {
        Reply::Null
    };
    let shown = match command {
        "" => "none",
        _ => &command[..command.floor_char_boundary(MAX_COMMAND)],
    };
    fitting(shown, reply)
}

/// As text, without the last entries where not all fit.
fn fitting(command: &str, mut reply: Reply) -> String {
    loop {
        let written = text(&Answer(command, reply.clone()));
        if written.len() <= MAX_OUTPUT {
            return written;
        }
        match &mut reply {
            Reply::List(values) => values.truncate(values.len() * 7 / 8),
            Reply::Dict(entries) => entries.truncate(entries.len() * 7 / 8),
            Reply::Null | Reply::Text(_) => reply = Reply::Null,
        }
    }
}

/// Neither numbers nor strings nor maps with strings as keys can fail.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn dict<const N: usize>(entries: [(&str, Value); N]) -> Vec<(String, Value)> {
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

fn reply(command: &str, parameters: &str, board: &Board) -> Reply {
    let program = &board.program;
    let words = |words: &[String]| Reply::List(words.iter().map(|word| json!(word)).collect());
    match command {
        "/" => Reply::List(COMMANDS.iter().map(|(name, _)| json!(name)).collect()),
        "/info" => Reply::Dict(process()),
        "/help" => help(parameters),
        "/eal/params" => words(&program.eal_words),
        "/eal/app_params" => words(&program.app_words),
        "/eal/lcore/list" => Reply::List(program.cores.iter().map(|core| json!(core.id)).collect()),
        "/eal/lcore/info" => {
            let core = number(parameters)
                .and_then(|id| program.cores.iter().find(|core| u64::from(core.id) == id));
            core.map_or(Reply::Null, |core| {
                Reply::Dict(dict([
                    ("lcore_id", json!(core.id)),
                    ("socket", json!(core.socket)),
                    ("role", json!("RTE")),
                    ("cpuset", json!([core.cpu])),
                ]))
            })
        }
        "/ethdev/list" => {
            let ports = board.ports();
            Reply::List(ports.iter().map(|port| json!(port.number)).collect())
        }
        "/ethdev/info" => of_port(parameters, board, info),
        "/ethdev/link_status" => of_port(parameters, board, link),
        "/ethdev/macs" => of_port(parameters, board, |port| {
            Reply::List(vec![json!(mac(port))])
        }),
        "/ethdev/stats" => of_port(parameters, board, stats),
        "/ethdev/xstats" => {
            let hide = parameters
                .split(',')
                .skip(1)
                .any(|word| word == "hide_zero=true");
            of_port(parameters, board, |port| xstats(port, hide))
        }
        _ => Reply::Null,
    }
}

fn help(parameters: &str) -> Reply {
    let find = |name: &str| COMMANDS.iter().find(|(known, _)| *known == name);
    match parameters {
        "" => find("/help").map_or(Reply::Null, |(_, help)| Reply::Text(help)),
        name => find(name).map_or(Reply::Null, |(name, help)| {
            Reply::Dict(dict([(name, json!(help))]))
        }),
    }
}

/// The port that the first parameter names; as in DPDK, what follows the number is left alone.
fn of_port(parameters: &str, board: &Board, tell: impl Fn(&PortData) -> Reply) -> Reply {
    let Some(number) = number(parameters) else {
        return Reply::Null;
    };
    let ports = board.ports();
    let port = ports.iter().find(|port| u64::from(port.number) == number);
    port.map_or(Reply::Null, tell)
}

/// The number at the start, in the bases of `strtoul`.
fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let end = digits
        .find(|c: char| !c.is_digit(base))
        .unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], base).ok()
}

fn mac(port: &PortData) -> String {
    port.info.mac.to_string().to_uppercase()
}

fn info(port: &PortData) -> Reply {
    let states = |queues: usize| json!(vec![u8::from(port.started); queues]);
    Reply::Dict(dict([
        ("name", json!(port.name())),
        // RTE_ETH_DEV_ATTACHED.
        ("state", json!(1)),
        ("nb_rx_queues", json!(port.rx.len())),
        ("nb_tx_queues", json!(port.tx.len())),
        ("port_id", json!(port.number)),
        ("mtu", json!(port.mtu)),
        ("rx_mbuf_size_min", json!(port.buffer)),
        ("mac_addr", json!(mac(port))),
        // The kernel gives no way to ask for the first and the third (reference/mana-hardware.md
        // §8).
        ("promiscuous", json!(0)),
        ("scattered_rx", json!(u8::from(port.scattered))),
        ("all_multicast", json!(0)),
        ("dev_started", json!(u8::from(port.started))),
        ("lro", json!(0)),
        ("dev_configured", json!(u8::from(port.configured))),
        ("rxq_state", states(port.rx.len())),
        ("txq_state", states(port.tx.len())),
        (
            "numa_node",
            json!(port.info.numa_node.map_or(-1, i64::from)),
        ),
        // RTE_ETH_DEV_INTR_RMV: the port tells when its device goes away.
        ("dev_flags", json!("0x8")),
    ]))
}

fn link(port: &PortData) -> Reply {
    Reply::Dict(match port.link.is_up() {
        false => dict([("status", json!("DOWN"))]),
        true => dict([
            ("status", json!("UP")),
            ("speed", json!(UNKNOWN_SPEED)),
            ("duplex", json!("full-duplex")),
        ]),
    })
}

fn stats(port: &PortData) -> Reply {
    let stats = &port.stats;
    let queues = |values: &mut dyn Iterator<Item = u64>| {
        let values = values.chain(std::iter::repeat(0)).take(QUEUE_STATS);
        json!(values.collect::<Vec<u64>>())
    };
    let (rx, tx) = (&port.rx, &port.tx);
    Reply::Dict(dict([
        ("ipackets", json!(stats.rx_packets)),
        ("opackets", json!(stats.tx_packets)),
        ("ibytes", json!(stats.rx_bytes)),
        ("obytes", json!(stats.tx_bytes)),
        ("imissed", json!(stats.rx_missed)),
        ("ierrors", json!(stats.rx_errors)),
        ("oerrors", json!(stats.tx_errors)),
        ("rx_nombuf", json!(stats.rx_nombuf)),
        (
            "q_ipackets",
            queues(&mut rx.iter().map(|queue| queue.packets)),
        ),
        (
            "q_opackets",
            queues(&mut tx.iter().map(|queue| queue.packets)),
        ),
        ("q_ibytes", queues(&mut rx.iter().map(|queue| queue.bytes))),
        ("q_obytes", queues(&mut tx.iter().map(|queue| queue.bytes))),
        ("q_errors", queues(&mut rx.iter().map(|queue| queue.errors))),
    ]))
}

fn xstats(port: &PortData, hide_zero: bool) -> Reply {
    let shown = port
        .xstats
        .iter()
        .filter(|stat| !hide_zero || stat.value != 0);
    Reply::Dict(
        shown
            .map(|stat| (stat.name.clone(), json!(stat.value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::port;
    use super::super::{CoreData, Program};
    use super::*;

    fn board() -> Board {
        let board = Board::new(Program {
            eal_words: vec!["mana".to_owned(), "--vdev=model0".to_owned()],
            app_words: vec!["--rxq=2".to_owned()],
            cores: vec![CoreData {
                id: 3,
                cpu: 1,
                socket: 0,
            }],
        });
        let mut port = port();
        port.stats.rx_packets = 7;
        port.rx[1].packets = 7;
        port.xstats[0].value = 7;
        board.answer(|| vec![port]);
        board
    }

    /// All taken from dpdk-testpmd 24.11 on the model, but for numbers and names.
    #[test]
    fn mistakes_are_answered_with_null_under_the_command_as_dpdk_does() {
        let board = board();
        let long = format!("/{}", "a".repeat(80));
        for (message, expected) in [
            ("nope", r#"{"nope":null}"#),
            ("/nope,1", r#"{"/nope":null}"#),
            ("/help,/nope", r#"{"/help":null}"#),
            ("/ethdev/stats", r#"{"/ethdev/stats":null}"#),
            ("/ethdev/stats,", r#"{"/ethdev/stats":null}"#),
            ("/ethdev/stats,7", r#"{"/ethdev/stats":null}"#),
            ("/ethdev/stats,a", r#"{"/ethdev/stats":null}"#),
            ("/ethdev/list ", r#"{"/ethdev/list ":null}"#),
            (",", r#"{"none":null}"#),
            ("\"", r#"{"\"":null}"#),
        ] {
            assert_eq!(answer(message.as_bytes(), &board), expected);
        }
        let cut = format!(r#"{{"{}":null}}"#, &long[..56]);
        assert_eq!(answer(long.as_bytes(), &board), cut);
        assert_eq!(
            answer(b"/ethdev/list,junk\0more", &board),
            r#"{"/ethdev/list":[0]}"#
        );
    }

    #[test]
    fn statistics_have_dpdks_names_and_order() {
        let board = board();
        let zeros = |count| vec!["0"; count].join(",");
        let expected = format!(
            r#"{{"/ethdev/stats":{{"ipackets":7,"opackets":0,"ibytes":0,"obytes":0,"imissed":0,"ierrors":0,"oerrors":0,"rx_nombuf":0,"q_ipackets":[0,7,{}],"q_opackets":[{z}],"q_ibytes":[{z}],"q_obytes":[{z}],"q_errors":[{z}]}}}}"#,
            zeros(14),
            z = zeros(16)
        );
        for message in ["/ethdev/stats,0", "/ethdev/stats,0x0", "/ethdev/stats,0,1"] {
            assert_eq!(answer(message.as_bytes(), &board), expected);
        }
        let shown = answer(b"/ethdev/xstats,0,hide_zero=true", &board);
        let start = r#"{"/ethdev/xstats":{"rx_good_packets":7,"rx_q0_doorbells":"#;
        assert!(shown.starts_with(start), "{shown}");
        let all = answer(b"/ethdev/xstats,0", &board);
        assert!(
            all.contains(r#""rx_mbuf_allocation_errors":0,"rx_q0_packets":0,"#),
            "{all}"
        );
    }

    #[test]
    fn the_program_and_its_commands_are_told() {
        let board = board();
        for (message, expected) in [
            ("/eal/params", r#"{"/eal/params":["mana","--vdev=model0"]}"#),
            ("/eal/app_params", r#"{"/eal/app_params":["--rxq=2"]}"#),
            ("/eal/lcore/list", r#"{"/eal/lcore/list":[3]}"#),
            (
                "/eal/lcore/info,3",
                r#"{"/eal/lcore/info":{"lcore_id":3,"socket":0,"role":"RTE","cpuset":[1]}}"#,
            ),
            (
                "/help,/ethdev/list",
                r#"{"/help":{"/ethdev/list":"Lists the ports. Takes no parameters"}}"#,
            ),
            (
                "/ethdev/macs,0",
                r#"{"/ethdev/macs":["00:0D:3A:00:00:00"]}"#,
            ),
        ] {
            assert_eq!(answer(message.as_bytes(), &board), expected);
        }
        // Every command that is listed is one.
        for (name, _) in COMMANDS {
            let parameter = if *name == "/eal/lcore/info" { 3 } else { 0 };
            let message = match *name {
                "/help" => (*name).to_owned(),
                _ => format!("{name},{parameter}"),
            };
            let found = answer(message.as_bytes(), &board);
            assert!(!found.contains("null"), "{found}");
        }
        assert!(COMMANDS.is_sorted());
        let info = answer(b"/info", &board);
        assert_eq!(info, format!(r#"{{"/info":{}}}"#, greeting()));
        let expected = format!(r#""pid":{},"max_output_len":131072}}"#, std::process::id());
        assert!(greeting().ends_with(&expected));
    }

    #[test]
    fn what_does_not_fit_loses_its_end_and_stays_json() {
        let entries = (0..20_000).map(|n| (format!("{n}"), json!(n))).collect();
        let text = fitting("/x", Reply::Dict(entries));
        assert!(text.len() <= MAX_OUTPUT);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["/x"]["1000"], 1000);
    }
}
