use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mana_pmd::{Port, Queues};
use pmd_api::Pool;
use smoltcp::wire::{IpCidr, IpEndpoint};

#[path = "../../examples/udp_echo/main.rs"]
#[allow(dead_code, reason = "its main is not called")]
pub mod example;

use crate::support::until;
use example::common::{self, Arguments, Machine};
use example::{Host, OPTIONS, ask, echo};

/// Two ports wired to each other, each an IP host with a pool of its own.
pub struct Pair {
    machine: Machine,
    ports: [Port; 2],
    pools: [Pool; 2],
}

pub const ADDRESSES: [[&str; 2]; 2] = [
    ["192.0.2.1/24", "2001:db8::1/64"],
    ["192.0.2.2/24", "2001:db8::2/64"],
];

impl Pair {
    pub fn start() -> (Self, [Host; 2]) {
        let arguments = Arguments::parse([], &OPTIONS).unwrap().unwrap();
        let machine = Machine::new(&arguments).unwrap();
        let mut ports: [Port; 2] = machine.open().unwrap();
        let pools = [(); 2].map(|()| common::pool(&arguments, 1).unwrap());
        let mut hosts = Vec::new();
        for ((port, pool), addresses) in ports.iter_mut().zip(&pools).zip(ADDRESSES) {
            let mut queues = common::start(port, &arguments, pool).unwrap();
            let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
            let addresses = addresses.map(|text| text.parse::<IpCidr>().unwrap());
            hosts.push(Host::of_port(port, rx, tx, pool.clone(), &addresses).unwrap());
        }
        let pair = Self {
            machine,
            ports,
            pools,
        };
        (pair, hosts.try_into().ok().unwrap())
    }

    /// Stops everything: no buffer is missing, no object left, and the device found nothing.
    pub fn stop(self, hosts: [Host; 2]) {
        for (mut port, host) in self.ports.into_iter().zip(hosts) {
            let counters = host.phy.counters();
            assert_eq!((counters.rejected, counters.bad_checksum), (0, 0));
            let (rx, tx) = host.phy.into_queues();
            let (rx, tx) = (vec![rx], vec![tx]);
            port.stop(Queues { rx, tx }).unwrap();
            port.close().unwrap();
        }
        for pool in self.pools {
            assert_eq!(pool.in_use(), 0);
        }
        let objects = self.machine.model().unwrap().objects();
        assert_eq!(objects, mana_model::ObjectCounts::default());
        assert_eq!(self.machine.finish(), []);
    }
}

#[test]
fn ten_thousand_datagrams_come_back_over_either_ip_version() {
    let (pair, [mut client, mut server]) = Pair::start();
    let (stop, never) = (AtomicBool::new(false), AtomicBool::new(false));
    let echoed = thread::scope(|scope| {
        let server = scope.spawn(|| echo(&mut server, 7, &stop).unwrap());
        for cidr in ADDRESSES[1] {
            let address = cidr.parse::<IpCidr>().unwrap().address();
            let server = IpEndpoint::new(address, 7);
            let answered = ask(&mut client, server, 10_000, &never).unwrap();
            assert_eq!(answered, 10_000, "{address}");
        }
        stop.store(true, Ordering::Relaxed);
        server.join().unwrap()
    });
    assert_eq!(echoed, 20_000);
    // Besides the datagrams: ARP and neighbour discovery, asked and answered.
    let counters = client.phy.counters();
    assert!(
        (20_002..20_020).contains(&counters.received),
        "{counters:?}"
    );
    pair.stop([client, server]);
}

#[test]
fn the_example_runs_by_itself_and_ends_when_it_is_told_to() {
    let arguments = Arguments::parse([], &OPTIONS).unwrap().unwrap();
    let machine = Machine::new(&arguments).unwrap();
    let model = machine.model().unwrap();
    until(
        |stop| example::run(&arguments, &machine, stop).unwrap(),
        || model.port(1).counters().rx_frames > 100,
    );
    assert_eq!(model.objects(), mana_model::ObjectCounts::default());
    assert_eq!(machine.finish(), []);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let refused = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned());
        let stop = AtomicBool::new(true);
        let error = match Arguments::parse(words, &OPTIONS) {
            Ok(arguments) => {
                let arguments = arguments.unwrap();
                Machine::new(&arguments)
                    .and_then(|machine| example::run(&arguments, &machine, &stop))
            }
            Err(error) => Err(error),
        };
        error.unwrap_err().to_string()
    };
    for (words, reason) in [
        (&["--address=192.0.2.2"][..], "192.0.2.2/24"),
        (&["--address=ff02::1/64"], "no host's address"),
        (&["--address=192.0.2.2/33"], "no host's address"),
        (&["--port=65536"], "no number that fits"),
        (&["--port=0"], "no number that fits"),
        (&["--queues=0"], "1 to 64"),
        (&["--queues=65"], "1 to 64"),
        (&["--duration=-1"], "no time to run"),
        (&["--address=10.0.0.1/8"], "can't reach 10.0.0.1/8"),
        (&["--queues=2"], "needs --queues=1"),
        (&["--speed=9"], "`--speed` is no option of udp_echo"),
        (&["--duration"], "needs a value"),
        (&["--vdev=model0", "-a", "7870:00:00.0"], "either models"),
        (&["--vdev=model0,ports=3"], "3 ports, this example needs 1"),
        (&["--vdev=modem0"], "modem0"),
        (&["--mbuf-size=100"], "buffers of 100 bytes"),
        (
            &[
                "--address=10.0.0.1/8",
                "--address=10.0.0.2/8",
                "--address=10.0.0.3/8",
            ],
            "at most",
        ),
    ] {
        let error = refused(words);
        assert!(error.contains(reason), "{words:?}: {error}");
    }
}
