//! Two ports of the device, each in a network namespace, as two machines.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{ended, run, wait_until};
use crate::host::Pinged;

/// Both sides.
pub struct Pair {
    /// The first port.
    pub left: Side,
    /// The second.
    pub right: Side,
}

/// A port in its namespace.
#[derive(Debug, Clone)]
pub struct Side {
    /// The namespace.
    pub namespace: &'static str,
    /// The netdev.
    pub netdev: String,
    /// Its last part of both addresses.
    host: u16,
}

impl Pair {
    /// Takes the first two netdevs.
    #[track_caller]
    pub(super) fn new(netdevs: &[String]) -> Self {
        let [left, right, ..] = netdevs else {
            panic!("two ports are needed: {netdevs:?}")
        };
        let pair = Self {
            left: Side::new("left", left, 1),
            right: Side::new("right", right, 2),
        };
        // Names of neighbours, asked for once and with patience: no later frame waits for them.
        pair.ping(&format!("-c 1 {}", pair.right.v4()));
        pair.ping(&format!("-c 1 {}", pair.right.v6()));
        pair
    }

    /// Pings from the left with these arguments; all answers must come.
    ///
    /// ping leaves after twice the longest time that an answer took, so that on a busy machine the
    /// last ones may come when it is gone: the kernel has counted those.
    ///
    /// # Panics
    ///
    /// If one does not come.
    #[track_caller]
    pub fn ping(&self, arguments: &str) {
        let before = self.left.answers();
        // For the first answer it does wait as long as it is told.
        let told = self.left.run(&format!("ping -q -W 30 {arguments}"));
        let pinged = Pinged::parse(&told).unwrap_or_else(|| panic!("no sums: {told}"));
        if pinged.received < pinged.sent {
            let all = before + pinged.sent + pinged.duplicates;
            wait_until(&format!("all answers: {told}"), || {
                self.left.answers() >= all
            });
        }
    }

    /// Both sides.
    #[must_use]
    pub fn sides(&self) -> [&Side; 2] {
        [&self.left, &self.right]
    }

    /// Gives both this MTU.
    #[track_caller]
    pub fn set_mtu(&self, mtu: u32) {
        for side in self.sides() {
            side.run(&format!("ip link set {} mtu {mtu}", side.netdev));
        }
        self.wait_for_carrier();
    }

    /// Waits until both see their link.
    #[track_caller]
    pub fn wait_for_carrier(&self) {
        for side in self.sides() {
            wait_until("a carrier", || {
                side.run(&format!("ip link show {}", side.netdev))
                    .contains("LOWER_UP")
            });
        }
    }
}

impl Side {
    #[track_caller]
    fn new(namespace: &'static str, netdev: &str, host: u16) -> Self {
        let side = Self {
            namespace,
            netdev: netdev.to_owned(),
            host,
        };
        run(&format!(
            "ip netns add {namespace} && ip link set {netdev} netns {namespace}"
        ));
        // Nothing speaks on the interface before the test does.
        let settings = "/proc/sys/net/ipv6/conf/default";
        side.run(&format!(
            "ip link set lo up && for name in accept_ra router_solicitations accept_dad; do \
             echo 0 >{settings}/$name && echo 0 >{settings}/../{netdev}/$name || exit 1; done && \
             ip link set {netdev} up && ip address add {}/24 dev {netdev} && \
             ip address add {}/64 dev {netdev} nodad",
            side.v4(),
            side.v6()
        ));
        side
    }

    /// Its address of IPv4.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        let [_, host] = self.host.to_be_bytes();
        Ipv4Addr::new(192, 0, 2, host)
    }

    /// Its address of IPv6.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, self.host)
    }

    /// One of them.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        match v6 {
            true => self.v6().into(),
            false => self.v4().into(),
        }
    }

    /// As [`run`], in here.
    ///
    /// # Panics
    ///
    /// As [`run`].
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        // A thread's namespace is that of what it starts: `ip netns exec` takes as long as three
        // programs more.
        let inside = || {
            self.enter();
            ended(line)
        };
        let (code, stdout, stderr) = thread::scope(|scope| {
            let joined = scope.spawn(inside).join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert!(
            code == 0,
            "in {}: `{line}` ended with {code}\n{stdout}{stderr}",
            self.namespace
        );
        stdout
    }

    /// Moves the calling thread in here, for its sockets.
    ///
    /// # Panics
    ///
    /// If it may not.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.namespace)).expect("a namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the thread may enter it");
    }

    /// Answers to pings that the kernel has taken in here.
    #[track_caller]
    fn answers(&self) -> u64 {
        let told = self.run("cat /proc/net/snmp /proc/net/snmp6");
        // Two lines a protocol of the one, names and values; a line with both a counter of the other.
        let mut icmp = told.lines().filter_map(|line| line.strip_prefix("Icmp: "));
        let (names, values) = (icmp.next(), icmp.next());
        let (names, values) = (names.unwrap_or_default(), values.unwrap_or_default());
        let mut v4 = names.split_whitespace().zip(values.split_whitespace());
        let v4 = v4.find_map(|(name, value)| (name == "InEchoReps").then_some(value));
        let mut v6 = told
            .lines()
            .filter_map(|line| line.strip_prefix("Icmp6InEchoReplies"));
        let number = |text: Option<&str>| -> u64 {
            let number = text.and_then(|text| text.trim().parse().ok());
            number.unwrap_or_else(|| panic!("no number of answers: {told}"))
        };
        number(v4) + number(v6.next())
    }

    /// What `ethtool -S` counts.
    #[track_caller]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.run(&format!("ethtool -S {}", self.netdev))
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for side in self.sides() {
            let Side {
                namespace, netdev, ..
            } = side;
            // Back first: what a namespace still has when it goes comes back later.
            let (_, _, _) = ended(&format!(
                "ip -n {namespace} link set {netdev} down; ip -n {namespace} link set {netdev} netns 1; \
                 ip netns delete {namespace}"
            ));
        }
    }
}
