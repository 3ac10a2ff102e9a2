//! A UDP echo server on smoltcp, over IPv4 and IPv6; ARP, neighbour discovery and ping are smoltcp's.
//!
//! ```sh
//! cargo run --release -p mana-pmd --example udp_echo -- --duration 5
//! ```
//!
//! Without a device it makes two ports wired to each other and lets a client on the second one ask. For
//! the host's own network, as root:
//!
//! ```sh
//! ip netns add echo
//! cargo run --release -p mana-pmd --example udp_echo -- --vdev=model0,link=tap:echo0:netns=echo &
//! sleep 2; ip -n echo address add 192.0.2.1/24 dev echo0; ip netns exec echo ping 192.0.2.2
//! ```
//!
//! smoltcp is built without fragments here: datagrams end at the MTU.

#![forbid(unsafe_code)]

mod client;
#[path = "../common/mod.rs"]
pub(crate) mod common;
mod host;

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Arguments, Error, Machine, Options};
use mana_pmd::{Port, Queues};
use pmd_api::{RxBurst, TxBurst};
use smoltcp::socket::udp;
use smoltcp::wire::IpCidr;

pub(crate) use client::ask;
pub(crate) use host::Host;

pub(crate) const OPTIONS: Options = Options {
    name: "udp_echo",
    models: &["model0,ports=2,link=pair"],
    own: &[
        (
            "address",
            "ADDRESS/BITS of the server; repeats (192.0.2.2/24, 2001:db8::2/64)",
        ),
        ("port", "UDP port (7)"),
        (
            "client",
            "datagrams that a client on a second port sends (none)",
        ),
    ],
};

/// The service `echo` (RFC 862).
const ECHO: u16 = 7;
/// Where the client is.
const CLIENT: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];

fn main() -> ExitCode {
    common::main(&OPTIONS, run)
}

pub(crate) fn run(
    arguments: &Arguments,
    machine: &Machine,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let service = arguments.own_number::<NonZeroU16>("port")?;
    let service = service.map_or(ECHO, NonZeroU16::get);
    let mut addresses = addresses(arguments.own("address"))?;
    if addresses.is_empty() {
        addresses = self::addresses(["192.0.2.2/24", "2001:db8::2/64"].into_iter())?;
    }
    let endless = arguments.demo.then_some(u64::MAX);
    let Some(count) = arguments.own_number("client")?.or(endless) else {
        let [mut port] = machine.open()?;
        let mut server = start(&mut port, arguments, &addresses)?;
        println!("ready");
        let echoed = echo(&mut server, service, stop)?;
        println!("echoed {echoed} datagrams");
        return finish(server, port);
    };

    let [mut port, mut other] = machine.open()?;
    let mut server = start(&mut port, arguments, &addresses)?;
    let client = self::addresses(CLIENT.into_iter())?;
    if !client
        .iter()
        .any(|own| own.contains_addr(&addresses[0].address()))
    {
        let [four, six] = CLIENT;
        return Err(format!(
            "the client is {four} and {six}: it can't reach {}",
            addresses[0]
        )
        .into());
    }
    let mut client = start(&mut other, arguments, &client)?;
    println!("ready");
    let to = (addresses[0].address(), service).into();
    let (echoed, answered) = thread::scope(|scope| {
        let client = scope.spawn(|| ask(&mut client, to, count, stop));
        let echoed = echo(&mut server, service, stop);
        stop.store(true, Ordering::Relaxed);
        (echoed, client.join().expect("the client does not panic"))
    });
    println!(
        "echoed {} datagrams, {} answers arrived",
        echoed?, answered?
    );
    finish(server, port)?;
    finish(client, other)
}

/// Sends every datagram that arrives at the port `service` back to where it came from, until `stop`
/// is set. Returns how many.
pub(crate) fn echo<R: RxBurst, T: TxBurst>(
    host: &mut Host<R, T>,
    service: u16,
    stop: &AtomicBool,
) -> Result<u64, Error> {
    let mut socket = host::udp_socket();
    socket
        .bind(service)
        .map_err(|e| format!("port {service}: {e}"))?;
    let handle = host.sockets.add(socket);
    let mut datagram = vec![0; usize::from(u16::MAX)];
    // Received, and not sent because the socket was full.
    let mut waiting = None;
    let mut echoed = 0;
    while !stop.load(Ordering::Relaxed) {
        let idle = host.poll();
        let socket = host.sockets.get_mut::<udp::Socket>(handle);
        loop {
            if waiting.is_none() {
                waiting = socket.recv_slice(&mut datagram).ok();
            }
            let Some((len, mut to)) = waiting.take() else {
                break;
            };
            // What was sent to a group is answered from our own address.
            to.local_address = to
                .local_address
                .filter(|own| host.interface.has_ip_addr(*own));
            match socket.send_slice(&datagram[..len], to) {
                Ok(()) => echoed += 1,
                Err(udp::SendError::BufferFull) => {
                    waiting = Some((len, to));
                    break;
                }
                // A source that can't be answered, such as port 0.
                Err(udp::SendError::Unaddressable) => {}
            }
        }
        if idle {
            common::rest();
        }
    }
    Ok(echoed)
}

/// Starts a port with one queue in each direction, as an IP host.
fn start(port: &mut Port, arguments: &Arguments, addresses: &[IpCidr]) -> Result<Host, Error> {
    if arguments.queues != 1 {
        return Err("this example has one thread and needs --queues=1".into());
    }
    let pool = common::pool(arguments, 1)?;
    let mut queues = common::start(port, arguments, &pool)?;
    let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    Host::of_port(port, rx, tx, pool, addresses)
}

fn finish(host: Host, port: Port) -> Result<(), Error> {
    let counters = host.phy.counters();
    let (rx, tx) = host.phy.into_queues();
    let (rx, tx) = (vec![rx], vec![tx]);
    common::stop(port, Queues { rx, tx })?;
    println!(
        "  not for smoltcp: {} with a wrong checksum, {} with a VLAN tag",
        counters.bad_checksum, counters.tagged
    );
    Ok(())
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpCidr>, Error> {
    texts.map(address).collect()
}

fn address(text: &str) -> Result<IpCidr, Error> {
    let address = text.parse().ok();
    let address = address.filter(|cidr: &IpCidr| cidr.address().is_unicast());
    let wrong = || format!("`{text}` is no host's address such as 192.0.2.2/24 or 2001:db8::2/64");
    Ok(address.ok_or_else(wrong)?)
}
