//! What is shown: ports, queues, statistics, configuration, pools.

use std::fmt::Write;

use mana_pmd::{DEFAULT_RSS_KEY, MIN_DEPTH, Port, RSS_TABLE};

use super::rss::HASHED;
use super::{Prompt, complain};
use crate::testpmd::display::{self, upper};
use crate::testpmd::error::Error;
use crate::testpmd::port::TestPort;
use crate::testpmd::run::say;

const BORDER: &str = "*********************";

/// `show port info|stats|xstats|summary PORTS`.
pub fn port(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let mut text = String::new();
    if words[0] == "summary" {
        let open = prompt.session.open_ports().len();
        let _ = write!(
            text,
            "Number of available ports: {open}\n\
             Port MAC Address       Name         Driver         Status   Link\n"
        );
        say(&text)?;
        text.clear();
    }
    for number in prompt.shown_ports(words[1])? {
        let queues = (prompt.session.queues.rx, prompt.session.queues.tx);
        let port = &mut prompt.session.ports[number];
        match words[0] {
            "info" => info(&mut text, port, queues),
            "stats" => {
                let rates = port.rates();
                display::port_statistics(&mut text, number, &port.shown(), &rates);
            }
            "xstats" => xstats(&mut text, port),
            _ => {
                let _ = writeln!(
                    text,
                    "{number:<4} {:<17} {:<12} {:<14} {:<8} Unknown",
                    upper(port.info().mac),
                    name(port),
                    "net_mana",
                    link(port),
                );
            }
        }
    }
    say(&text)
}

fn name(port: &TestPort) -> String {
    format!("{}_port{}", port.info().pci, port.info().port)
}

/// The link in testpmd's words.
fn link(port: &TestPort) -> &'static str {
    if port.link().is_up() { "up" } else { "down" }
}

fn info(out: &mut String, port: &TestPort, queues: (u16, u16)) {
    let info = port.info();
    let socket = info.numa_node.unwrap_or(0);
    let strip = if port.keep_vlan_tags { "off" } else { "on" };
    let mtu = port.open().map_or(info.mtu, Port::mtu);
    let _ = write!(
        out,
        "\n{BORDER} Infos for port {:<2} {BORDER}\n\
         MAC address: {}\nDevice name: {}\nDriver name: net_mana\n\
         Firmware-version: not available\nDevargs: \n\
         Connect to socket: {socket}\nmemory allocation on the socket: {socket}\n\
         Link status: {}\nLink speed: Unknown\nLink duplex: full-duplex\nAutoneg status: On\n\
         MTU: {}\nPromiscuous mode: disabled\nAllmulticast mode: disabled\n\
         Maximum number of MAC addresses: 1\n\
         Maximum number of MAC addresses of hash filtering: 0\n\
         VLAN offload: \n  strip {strip}, filter off, extend off, qinq strip off\n\
         Hash key size in bytes: {}\nRedirection table size: {RSS_TABLE}\n\
         Supported RSS offload flow types:\n{HASHED}",
        port.number,
        upper(info.mac),
        name(port),
        link(port),
        mtu,
        DEFAULT_RSS_KEY.len(),
    );
    let _ = write!(
        out,
        "Minimum size of RX buffer: {}\nMaximum configurable length of RX packet: {}\n\
         Maximum configurable size of LRO aggregated packet: 0\nMaximum number of VFs: 1\n",
        60 + pmd_api::HEADROOM,
        info.max_mtu.unwrap_or(mtu) + 14,
    );
    for (way, count, most) in [
        ("R", queues.0, info.max_rx_queues),
        ("T", queues.1, info.max_tx_queues),
    ] {
        let _ = write!(
            out,
            "Current number of {way}X queues: {count}\nMax possible {way}X queues: {most}\n\
             Max possible number of {way}XDs per queue: {}\n\
             Min possible number of {way}XDs per queue: {MIN_DEPTH}\n\
             {way}XDs number alignment: 1\n",
            info.max_depth,
        );
    }
    let _ = write!(
        out,
        "Max segment number per packet: {0}\nMax segment number per MTU/TSO: {0}\n\
         Device capabilities: 0x0( )\nDevice error handling mode: proactive\n\
         Device private info:\n  {1}\n",
        info.max_tx_segments,
        private(port),
    );
}

/// What the driver adds to DPDK's fields.
fn private(port: &TestPort) -> String {
    let info = port.info();
    format!(
        "provider {} ({}), driver id {}, ib device {}, netdev {}, link {}",
        info.provider,
        info.provider_note,
        info.driver_id,
        info.ib_device,
        info.netdev.as_deref().unwrap_or("none"),
        port.link(),
    )
}

fn xstats(out: &mut String, port: &TestPort) {
    let _ = writeln!(
        out,
        "###### NIC extended statistics for port {} ",
        port.number
    );
    for stat in port.xstats() {
        let _ = writeln!(out, "{}: {}", stat.name, stat.value);
    }
}

/// `clear port stats|xstats PORTS`.
pub fn clear_port(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    for number in prompt.shown_ports(words[1])? {
        prompt.session.ports[number].clear();
        if words[0] == "stats" {
            say(&format!("\n  NIC statistics for port {number} cleared\n"))?;
        }
    }
    Ok(())
}

/// `show fwd stats all`.
pub fn forward(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match only_all(words[0])? {
        true => say(&prompt.session.forward_statistics()),
        false => Ok(()),
    }
}

/// `clear fwd stats all`.
pub fn clear_forward(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    if only_all(words[0])? {
        prompt.session.clear_forward_statistics();
    }
    Ok(())
}

fn only_all(word: &str) -> Result<bool, Error> {
    if word != "all" {
        complain(&format!("`{word}`: expected all"));
        say("Bad arguments\n")?;
    }
    Ok(word == "all")
}

/// `show config fwd|rxtx|cores|txpkts`.
pub fn config(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let session = &prompt.session;
    let text = match words[0] {
        "fwd" => session.describe(&[display::forwarding]),
        "rxtx" => session.describe(&[display::configuration]),
        "cores" => {
            let cores = &session.cores.workers[..session.args.nb_cores];
            let ids = cores.iter().map(|core| format!(" {}", core.id));
            format!("List of forwarding lcores: {}\n", ids.collect::<String>())
        }
        _ => {
            let lengths = &session.args.tx_lengths;
            let segments: Vec<String> = lengths.segments.iter().map(u32::to_string).collect();
            format!(
                "Number of segments: {}\nSegment sizes: {}\nSplit packet: {}\n",
                segments.len(),
                segments.join(","),
                lengths.split,
            )
        }
    };
    say(&text)
}

/// `show rxq|txq info N QUEUE`.
pub fn queue(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[1])? else {
        return Ok(());
    };
    let Some(queue) = prompt.number(words[2], "a queue number")? else {
        return Ok(());
    };
    let session = &prompt.session;
    let (way, queues, depth) = match words[0] {
        "rxq" => ("RX", session.queues.rx, session.args.rxd),
        _ => ("TX", session.queues.tx, session.args.txd),
    };
    if queue >= queues.into() {
        complain(&format!(
            "Failed to retrieve information for port: {number}, {way} queue: {queue}\n\
             error desc: Invalid argument(-22): queues end at {}",
            queues.saturating_sub(1)
        ));
        return Ok(());
    }
    let port = &session.ports[number];
    let state = if port.is_started() {
        "started"
    } else {
        "stopped"
    };
    let depth = depth.next_power_of_two();
    let scattered = match port.open().is_some_and(Port::scatters) {
        true => "on",
        false => "off",
    };
    let heading =
        format!("\n{BORDER} Infos for port {number:<2}, {way} queue {queue:<2} {BORDER}\n");
    say(&match way {
        "RX" => format!(
            "{heading}Mempool: {}\nRX prefetch threshold: 0\nRX host threshold: 0\n\
             RX writeback threshold: 0\nRX free threshold: 0\nRX drop packets: on\n\
             RX deferred start: off\nRX scattered packets: {scattered}\nRx queue state: {state}\n\
             Number of RXDs: {depth}\n",
            session.pools.of(port.info().numa_node).name(),
        ),
        _ => format!(
            "{heading}TX prefetch threshold: 0\nTX host threshold: 0\n\
             TX writeback threshold: 0\nTX RS threshold: 0\nTX free threshold: 0\n\
             TX deferred start: off\nNumber of TXDs: {depth}\nTx queue state: {state}\n",
        ),
    })
}

/// `dump_mempool`.
pub fn dump_mempool(prompt: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    let mut text = String::new();
    for pool in prompt.session.pools.all() {
        let (region, size) = (pool.region(), pool.capacity());
        let base = region.base();
        let _ = write!(
            text,
            "mempool <{}>@{base:p}\n  socket_id={}\n  nb_mem_chunks=1\n  size={size}\n  \
             populated_size={size}\n  elt_size={}\n  ops_name: <mana>\n  \
             memory chunk at {base:p}, len={} of {}\n  avg bytes/object={:.6}\n  \
             internal cache infos:\n    cache_size={}\n  common_pool_count={}\n  in_use={}\n",
            pool.name(),
            region.numa_node().unwrap_or(0),
            pool.data_room(),
            region.len(),
            region.page_kind(),
            region.len() as f64 / f64::from(size),
            pool.cache(),
            pool.available(),
            pool.in_use(),
        );
    }
    say(&text)
}
