//! The kernel's own netdevs on the device: what Debian's unmodified driver does with it is what it does
//! on Azure.

#![forbid(unsafe_code)]

mod checksums;
mod rss;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::guest::{ADDRESS, Guest, Side, V4, V6, between, exchange, run, wait_until};

/// Bytes that several hundred packets carry.
const SOME: usize = 150_000;
/// The driver's receive queues, one a processor.
const QUEUES: usize = 2;

#[test]
fn the_driver_finds_two_ports_and_the_ib_devices_of_its_kernel() {
    let Some(guest) = Guest::or_skip("the_driver_finds_two_ports_and_the_ib_devices_of_its_kernel")
    else {
        return;
    };
    let netdevs = guest.netdevs();
    assert_eq!(netdevs.len(), 2, "{netdevs:?}");
    let mut macs = Vec::new();
    for netdev in &netdevs {
        let driver = run(&format!("ethtool -i {netdev}"));
        assert!(driver.contains("driver: mana\n"), "{driver}");
        assert!(
            driver.contains(&format!("bus-info: {ADDRESS}\n")),
            "{driver}"
        );
        let link = run(&format!("ip -d link show {netdev}"));
        assert!(
            link.contains(" mtu 1500 ") && link.contains(" maxmtu 9000 "),
            "{link}"
        );
        macs.push(run(&format!("cat /sys/class/net/{netdev}/address")));
    }
    assert_ne!(macs[0], macs[1]);
    assert!(
        macs.iter().all(|mac| mac.starts_with("00:0d:3a:")),
        "{macs:?}"
    );
    let devices = guest.ib_devices();
    let expected: &[&str] = match guest.is_6() {
        true => &["mana_0"],
        false => &["mana_0", "manae_0"],
    };
    assert_eq!(devices, expected);
    let raw = devices.last().expect("one at least");
    let ports = run(&format!("ls /sys/class/infiniband/{raw}/ports"));
    assert_eq!(ports.split_whitespace().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn the_drivers_are_unloaded_and_come_back() {
    let Some(guest) = Guest::or_skip("the_drivers_are_unloaded_and_come_back") else {
        return;
    };
    let (netdevs, devices) = (guest.netdevs(), guest.ib_devices());
    for _ in 0..3 {
        run("rmmod mana_ib");
        assert!(guest.ib_devices().is_empty());
        run("rmmod mana");
        assert!(guest.netdevs().is_empty());
        run("modprobe mana && modprobe mana_ib");
        assert_eq!(guest.netdevs(), netdevs);
        wait_until("the ib devices are back", || guest.ib_devices() == devices);
    }
    // The device is the same as before.
    guest.pair().ping("-c 3 192.0.2.2");
}

#[test]
fn the_drivers_are_unloaded_from_netdevs_that_are_up() {
    let Some(guest) = Guest::or_skip("the_drivers_are_unloaded_from_netdevs_that_are_up") else {
        return;
    };
    for netdev in guest.netdevs() {
        run(&format!("ip link set {netdev} up"));
    }
    run("rmmod mana_ib && rmmod mana && modprobe mana && modprobe mana_ib");
    guest.pair().ping("-c 3 192.0.2.2");
}

#[test]
fn pings_of_all_sizes_are_answered() {
    let Some(guest) = Guest::or_skip("pings_of_all_sizes_are_answered") else {
        return;
    };
    let pair = guest.pair();
    let (v4, v6) = (pair.right.v4(), pair.right.v6());
    for (address, largest) in [(IpAddr::from(v4), 1472), (v6.into(), 1452)] {
        for size in [0, 1, 56, 1000, largest] {
            pair.ping(&format!("-c 3 -i 0.01 -M do -s {size} {address}"));
        }
        // In fragments.
        pair.ping(&format!("-c 3 -i 0.01 -s 5000 {address}"));
        pair.ping(&format!("-c 300 -i 0.001 {address}"));
    }
}

#[test]
fn tcp_carries_all_bytes_both_ways() {
    let Some(guest) = Guest::or_skip("tcp_carries_all_bytes_both_ways") else {
        return;
    };
    let pair = guest.pair();
    for v6 in [V4, V6] {
        exchange(&pair.left, &pair.right, v6, SOME);
        exchange(&pair.right, &pair.left, v6, SOME);
    }
}

#[test]
fn frames_of_9000_bytes_pass_and_1500_again() {
    let Some(guest) = Guest::or_skip("frames_of_9000_bytes_pass_and_1500_again") else {
        return;
    };
    let pair = guest.pair();
    pair.set_mtu(9000);
    for (size, address) in [
        (8972, IpAddr::from(pair.right.v4())),
        (8952, pair.right.v6().into()),
    ] {
        pair.ping(&format!("-c 5 -i 0.01 -M do -s {size} {address}"));
    }
    exchange(&pair.left, &pair.right, V4, SOME);
    exchange(&pair.left, &pair.right, V6, SOME);
    pair.set_mtu(1500);
    pair.ping("-c 3 -i 0.01 -M do -s 1472 192.0.2.2");
    let (code, told, _) =
        conformance::guest::ended("ip netns exec left ping -q -c 1 -W 1 -M do -s 1473 192.0.2.2");
    assert_ne!(code, 0, "{told}");
    exchange(&pair.left, &pair.right, V4, SOME);
}

/// Packets that each receive queue has counted.
fn received(side: &Side) -> Vec<u64> {
    let counters = side.counters();
    (0..QUEUES)
        .map(|queue| counters[&format!("rx_{queue}_packets")])
        .collect()
}

#[test]
fn the_device_cuts_large_packets_into_segments() {
    let Some(guest) = Guest::or_skip("the_device_cuts_large_packets_into_segments") else {
        return;
    };
    let pair = guest.pair();
    let sent = |counters: &BTreeMap<String, u64>, what: &str| -> u64 {
        (0..QUEUES)
            .map(|queue| counters[&format!("tx_{queue}_{what}")])
            .sum()
    };
    for v6 in [V4, V6] {
        let before = (
            pair.left.counters(),
            received(&pair.right).iter().sum::<u64>(),
        );
        exchange(&pair.left, &pair.right, v6, SOME);
        let after = (
            pair.left.counters(),
            received(&pair.right).iter().sum::<u64>(),
        );
        let cut = sent(&after.0, "tso_packets") - sent(&before.0, "tso_packets");
        assert!(cut > 0, "no packet was left to the device to cut");
        let packets = sent(&after.0, "packets") - sent(&before.0, "packets");
        let segments = after.1 - before.1;
        // As many as carry so many bytes: 1428 is what IPv6 with timestamps leaves of 1500.
        assert!(
            segments >= (SOME / 1448) as u64,
            "{segments} segments of {packets} packets"
        );
    }
    // And without.
    pair.left
        .run(&format!("ethtool -K {} tso off gso off", pair.left.netdev));
    let before = pair.left.counters();
    exchange(&pair.left, &pair.right, V4, SOME);
    let after = pair.left.counters();
    assert_eq!(sent(&after, "tso_packets"), sent(&before, "tso_packets"));
}

#[test]
fn tagged_frames_keep_their_vlan() {
    let Some(guest) = Guest::or_skip("tagged_frames_keep_their_vlan") else {
        return;
    };
    run("modprobe 8021q");
    let pair = guest.pair();
    for offload in ["on", "off"] {
        for side in pair.sides() {
            let Side { netdev, .. } = side;
            let features = side.run(&format!("ethtool -k {netdev}"));
            let fixed = |name: &str| {
                features
                    .lines()
                    .any(|line| line.starts_with(name) && line.contains("[fixed]"))
            };
            for (name, option) in [("tx-vlan-offload", "txvlan"), ("rx-vlan-offload", "rxvlan")] {
                if !fixed(name) {
                    side.run(&format!("ethtool -K {netdev} {option} {offload}"));
                }
            }
            side.run(&format!(
                "ip link add link {netdev} name {netdev}.7 type vlan id 7"
            ));
            side.run(&format!("ip link set {netdev}.7 up"));
        }
        pair.left.run(&format!(
            "ip address add 198.51.100.1/24 dev {}.7",
            pair.left.netdev
        ));
        pair.right.run(&format!(
            "ip address add 198.51.100.2/24 dev {}.7",
            pair.right.netdev
        ));
        pair.ping("-c 3 -i 0.01 -s 1400 198.51.100.2");
        between(
            &pair.left,
            &pair.right,
            IpAddr::from([198, 51, 100, 2]),
            SOME,
        );
        // Another tag is another network.
        pair.right
            .run(&format!("ip link delete {}.7", pair.right.netdev));
        pair.right.run(&format!(
            "ip link add link {0} name {0}.7 type vlan id 8",
            pair.right.netdev
        ));
        pair.right
            .run(&format!("ip link set {}.7 up", pair.right.netdev));
        pair.right.run(&format!(
            "ip address add 198.51.100.2/24 dev {}.7",
            pair.right.netdev
        ));
        let (code, told, _) =
            conformance::guest::ended("ip netns exec left ping -q -c 1 -W 1 198.51.100.2");
        assert_ne!(code, 0, "{told}");
        for side in pair.sides() {
            side.run(&format!("ip link delete {}.7", side.netdev));
        }
    }
}

#[test]
fn ethtool_counts_what_passes() {
    let Some(guest) = Guest::or_skip("ethtool_counts_what_passes") else {
        return;
    };
    let pair = guest.pair();
    let before = [pair.left.counters(), pair.right.counters()];
    pair.ping("-c 50 -i 0.002 -s 1000 192.0.2.2");
    let after = [pair.left.counters(), pair.right.counters()];
    for (now, then) in after.iter().zip(&before) {
        let moved = |name: &str| now[name] - then[name];
        let queues = |what: &str| -> u64 {
            let of = |way: &str| {
                (0..QUEUES)
                    .map(|queue| moved(&format!("{way}_{queue}_{what}")))
                    .sum::<u64>()
            };
            assert!(of("rx") > 0, "{what}");
            of("tx")
        };
        assert!(queues("packets") >= 50);
        assert!(queues("bytes") >= 50 * 1042);
    }
    // What the device itself counts; newer drivers ask it from time to time.
    for (side, then) in pair.sides().into_iter().zip(&before) {
        for name in [
            "rx_ucast_pkts",
            "rx_ucast_bytes",
            "tx_ucast_pkts",
            "tx_ucast_bytes",
        ] {
            let name = format!("hc_{name}");
            wait_until(&name, || side.counters()[&name] >= then[&name] + 50);
        }
    }
}

#[test]
fn a_netdev_goes_down_under_traffic_and_comes_up_again() {
    let Some(guest) = Guest::or_skip("a_netdev_goes_down_under_traffic_and_comes_up_again") else {
        return;
    };
    let pair = guest.pair();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pair.left.enter();
            let socket = UdpSocket::bind((pair.left.v4(), 0)).expect("a socket");
            while !over.load(Ordering::Relaxed) {
                // Refused while the other side is down.
                let _sent = socket.send_to(&[0; 1000], (pair.right.v4(), 9));
            }
        });
        // Also when an assertion fails.
        let _ends = Ends(&over);
        for _ in 0..5 {
            let netdev = &pair.right.netdev;
            let before: u64 = received(&pair.right).iter().sum();
            wait_until("traffic", || {
                received(&pair.right).iter().sum::<u64>() > before + 20
            });
            let start = Instant::now();
            pair.right.run(&format!("ip link set {netdev} down"));
            // A receive queue whose fence does not come back is given up after ten seconds.
            assert!(
                start.elapsed() < Duration::from_secs(9),
                "{:?}",
                start.elapsed()
            );
            pair.right.run(&format!("ip link set {netdev} up"));
            pair.wait_for_carrier();
        }
    });
    exchange(&pair.left, &pair.right, V4, SOME);
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_number_of_queues_can_be_changed() {
    let Some(guest) = Guest::or_skip("the_number_of_queues_can_be_changed") else {
        return;
    };
    let pair = guest.pair();
    for queues in [1, QUEUES] {
        for side in pair.sides() {
            side.run(&format!("ethtool -L {} combined {queues}", side.netdev));
        }
        pair.wait_for_carrier();
        let told = pair.left.run(&format!("ethtool -l {}", pair.left.netdev));
        assert!(
            told.trim_end().ends_with(&format!("Combined:\t{queues}")),
            "{told}"
        );
        exchange(&pair.left, &pair.right, V4, SOME);
    }
}
