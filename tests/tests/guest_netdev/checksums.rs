//! Checksums: what the device makes, and what it says of those that arrive.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use conformance::guest::{Guest, Pair, Trace, V4, V6, exchange};
use conformance::rfc1071;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::SOME;

#[test]
fn checksums_of_device_and_kernel_agree() {
    let Some(guest) = Guest::or_skip("checksums_of_device_and_kernel_agree") else {
        return;
    };
    let pair = guest.pair();
    for (tx, rx) in [("on", "off"), ("off", "on"), ("on", "on"), ("off", "off")] {
        for side in pair.sides() {
            side.run(&format!("ethtool -K {} tx {tx} rx {rx}", side.netdev));
        }
        for v6 in [V4, V6] {
            exchange(&pair.left, &pair.right, v6, SOME);
            datagrams(&pair, v6, 20);
        }
    }
    for side in pair.sides() {
        let wrong = side.run("cat /proc/net/snmp /proc/net/snmp6");
        let errors = checksum_errors(&wrong);
        assert!(errors.iter().all(|(_, count)| *count == 0), "{errors:?}");
        assert!(errors.len() >= 3, "{errors:?}");
    }
}

/// Counters of wrong checksums in `/proc/net/snmp` and `/proc/net/snmp6`.
fn checksum_errors(text: &str) -> Vec<(String, u64)> {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut found = Vec::new();
    for (names, values) in lines.iter().zip(lines.iter().skip(1)) {
        for (name, value) in names.iter().zip(values) {
            if *name == "InCsumErrors" && names[0] == values[0] {
                found.push((
                    format!("{}{name}", names[0]),
                    value.parse().expect("a number"),
                ));
            }
        }
    }
    for line in &lines {
        if let [name, value] = line[..]
            && name.ends_with("InCsumErrors")
        {
            found.push((name.to_owned(), value.parse().expect("a number")));
        }
    }
    found
}

/// Sends datagrams from left to right, and looks at each.
fn datagrams(pair: &Pair, v6: bool, count: u8) {
    let to = pair.right.address(v6);
    thread::scope(|scope| {
        let (sender, port) = std::sync::mpsc::channel();
        scope.spawn(move || {
            pair.right.enter();
            let socket = UdpSocket::bind((to, 0)).expect("a socket");
            socket
                .set_read_timeout(Some(Duration::from_secs(30)))
                .expect("a limit");
            sender
                .send(socket.local_addr().expect("an address"))
                .expect("the other waits");
            let mut bytes = [0; 2000];
            for number in 0..count {
                let length = socket.recv(&mut bytes).expect("a datagram");
                assert_eq!(
                    &bytes[..length],
                    &vec![number; 10 + usize::from(number) * 50]
                );
            }
        });
        scope.spawn(move || {
            pair.left.enter();
            let address = port.recv().expect("the other listens");
            let socket = UdpSocket::bind((pair.left.address(v6), 0)).expect("a socket");
            for number in 0..count {
                let bytes = vec![number; 10 + usize::from(number) * 50];
                socket.send_to(&bytes, address).expect("sent");
            }
        });
    });
}

/// Bytes of a datagram whose checksum is right, and of one whose is not, and of no others.
const RIGHT: usize = 334;
const WRONG: usize = 335;
/// Datagrams of each.
const COUNT: usize = 10;

#[test]
fn the_device_tells_right_checksums_from_wrong_ones() {
    let Some(guest) = Guest::or_skip("the_device_tells_right_checksums_from_wrong_ones") else {
        return;
    };
    let pair = guest.pair();
    for rx in ["on", "off"] {
        let netdev = &pair.right.netdev;
        pair.right.run(&format!("ethtool -K {netdev} rx {rx}"));
        for v6 in [V4, V6] {
            let before = errors(&pair);
            let trace = Trace::start(&pair.right);
            right_and_wrong(&pair, v6, before + COUNT as u64);
            // Linux wants the header's verdict as well, and there is none in IPv6.
            let told = rx == "on" && !v6;
            for (payload, verdict) in [(RIGHT, told), (WRONG, false)] {
                let seen = trace.wait_for(payload, COUNT);
                let verdicts = seen.iter().map(|packet| packet.checksum_is_right);
                assert_eq!(
                    verdicts.collect::<Vec<_>>(),
                    [verdict; COUNT],
                    "{payload} bytes, rx {rx}, IPv6 {v6}"
                );
            }
            // The kernel looked at those itself.
            assert_eq!(errors(&pair) - before, COUNT as u64, "rx {rx}, IPv6 {v6}");
        }
    }
}

/// Datagrams that the right side's kernel found wrong.
fn errors(pair: &Pair) -> u64 {
    let text = pair.right.run("cat /proc/net/snmp /proc/net/snmp6");
    let counters = checksum_errors(&text);
    let of_udp = |name: &str| ["Udp:InCsumErrors", "Udp6InCsumErrors"].contains(&name);
    let counters = counters.iter().filter(|(name, _)| of_udp(name));
    counters.map(|(_, count)| count).sum()
}

/// Sends datagrams of both kinds to a socket, which gets those that are right, and which is kept
/// until the kernel has found so many wrong ones.
fn right_and_wrong(pair: &Pair, v6: bool, wrong_ones: u64) {
    let (from, to) = (pair.left.address(v6), pair.right.address(v6));
    let (sender, port) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            pair.right.enter();
            let socket = UdpSocket::bind((to, 0)).expect("a socket");
            let limit = Duration::from_secs(30);
            socket.set_read_timeout(Some(limit)).expect("a limit");
            let address = socket.local_addr().expect("an address");
            sender.send(address).expect("the other waits");
            let mut bytes = [0; 2000];
            for _ in 0..COUNT {
                let length = socket.recv(&mut bytes).expect("a datagram");
                assert_eq!(&bytes[..length], &[0x5A; RIGHT]);
            }
            // The others have a queue of their own and may be late, and are looked at on reading.
            socket.set_nonblocking(true).expect("a socket");
            let start = Instant::now();
            while errors(pair) < wrong_ones && start.elapsed() < limit {
                let more = socket.recv(&mut bytes).map_err(|error| error.kind());
                assert_eq!(more, Err(ErrorKind::WouldBlock));
                thread::sleep(Duration::from_millis(5));
            }
        });
        scope.spawn(move || {
            pair.left.enter();
            let to = port.recv().expect("the other listens");
            let right = UdpSocket::bind((from, 0)).expect("a socket");
            let family = match v6 {
                true => AddressFamily::INET6,
                false => AddressFamily::INET,
            };
            // Here the header of UDP is the sender's.
            let raw = socket(family, SocketType::RAW, Some(ipproto::UDP)).expect("this is root");
            let datagram = wrong(from, to);
            for _ in 0..COUNT {
                let to = SocketAddr::new(to.ip(), 0);
                let sent = sendto(&raw, &datagram, SendFlags::empty(), &to);
                assert_eq!(sent, Ok(datagram.len()));
            }
            for _ in 0..COUNT {
                right.send_to(&[0x5A; RIGHT], to).expect("sent");
            }
        });
    });
}

/// A datagram with its header, whose checksum is off by one.
fn wrong(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    let length = (8 + WRONG) as u16;
    let mut datagram = 20_000_u16.to_be_bytes().to_vec();
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend([0xA5; WRONG]);
    // RFC 768 and RFC 8200: addresses, protocol and length stand before it in the sum.
    let mut summed = Vec::new();
    for address in [from, to.ip()] {
        match address {
            IpAddr::V4(address) => summed.extend(address.octets()),
            IpAddr::V6(address) => summed.extend(address.octets()),
        }
    }
    summed.extend([0, 17]);
    summed.extend(length.to_be_bytes());
    summed.extend(&datagram);
    let checksum = !rfc1071::sum(&summed);
    // 0 would say that there is none.
    let other = [checksum ^ 1, checksum ^ 2];
    let other = other.into_iter().find(|sum| *sum != 0).expect("one of two");
    datagram[6..8].copy_from_slice(&other.to_be_bytes());
    datagram
}
