//! What the device tells of a packet's flow, as the kernel's driver hands it on.

use std::net::{IpAddr, UdpSocket};
use std::thread;

use conformance::guest::{Guest, Pair, Side, Trace, V4, V6};
use conformance::toeplitz;

/// Bytes of a datagram of these tests, and of no other.
const PAYLOAD: usize = 333;

#[test]
fn flows_arrive_on_the_queues_that_key_and_table_choose() {
    let Some(guest) = Guest::or_skip("flows_arrive_on_the_queues_that_key_and_table_choose") else {
        return;
    };
    let pair = guest.pair();
    let spread = Rss::of(&pair.right);
    assert!(spread.table.contains(&0) && spread.table.contains(&1));
    spread.holds(&pair);
    // All on the second queue.
    pair.right
        .run(&format!("ethtool -X {} weight 0 1", pair.right.netdev));
    let second = Rss::of(&pair.right);
    assert!(
        second.table.iter().all(|&queue| queue == 1),
        "{:?}",
        second.table
    );
    second.holds(&pair);
    // Another key, over both.
    let key: Vec<String> = (1..=40)
        .map(|byte: u8| format!("{:02x}", byte.wrapping_mul(29)))
        .collect();
    pair.right.run(&format!(
        "ethtool -X {} equal 2 hkey {}",
        pair.right.netdev,
        key.join(":")
    ));
    let other = Rss::of(&pair.right);
    assert_ne!(other.key, spread.key);
    other.holds(&pair);
}

/// What the driver has told the device of a side.
struct Rss {
    key: [u8; 40],
    table: [u16; 64],
}

impl Rss {
    fn of(side: &Side) -> Self {
        let text = side.run(&format!("ethtool -x {}", side.netdev));
        let (table, key) = text.split_once("RSS hash key:").expect("a key");
        let entries: Vec<u16> = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(at, _)| at.trim().parse::<u32>().is_ok())
            .flat_map(|(_, rest)| rest.split_whitespace())
            .map(|entry| entry.parse().expect("a queue"))
            .collect();
        let key: Vec<u8> = key
            .trim()
            .lines()
            .next()
            .expect("a line")
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
            .collect();
        Self {
            key: key.try_into().expect("40 bytes"),
            table: entries.try_into().expect("64 entries"),
        }
    }

    /// Sends flows of UDP, and holds the queue and the hash of each packet against Toeplitz.
    fn holds(&self, pair: &Pair) {
        /// Flows a version of IP, and packets a flow.
        const FLOWS: u16 = 16;
        const PACKETS: usize = 3;
        let mut expected = Vec::new();
        let trace = Trace::start(&pair.right);
        for v6 in [V4, V6] {
            let (from, to) = (pair.left.address(v6), pair.right.address(v6));
            for flow in 0..FLOWS {
                let mut input = Vec::new();
                for address in [from, to] {
                    match address {
                        IpAddr::V4(address) => input.extend(address.octets()),
                        IpAddr::V6(address) => input.extend(address.octets()),
                    }
                }
                input.extend((20_000 + flow).to_be_bytes());
                input.extend(9_u16.to_be_bytes());
                let hash = toeplitz::hash(&self.key, &input);
                let queue = self.table[hash as usize % 64];
                expected.extend([(hash, queue); PACKETS]);
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    pair.left.enter();
                    for flow in 0..FLOWS {
                        let socket = UdpSocket::bind((from, 20_000 + flow)).expect("a socket");
                        for _ in 0..PACKETS {
                            socket.send_to(&[0; PAYLOAD], (to, 9)).expect("sent");
                        }
                    }
                });
            });
        }
        let seen = trace.wait_for(PAYLOAD, expected.len());
        assert!(seen.iter().all(|packet| packet.l4_hash), "{seen:?}");
        let mut found: Vec<(u32, u16)> = seen
            .iter()
            .map(|packet| (packet.hash, packet.queue))
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "hash and queue of each packet");
    }
}
