//! Statistics of a netdev by name, against Debian's ethtool: what `rx_missed` of a port is read from.

#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::thread;

use conformance::host::{Host, Namespace, interface};
use mana_verbs::LinuxSystem;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use uverbs_abi::System;

/// What our system reads of an interface in that namespace.
fn read(namespace: &Namespace, netdev: &str) -> Vec<(String, u64)> {
    let file = File::open(format!("/run/netns/{}", namespace.name())).expect("the namespace");
    let netdev = netdev.to_owned();
    let there = thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the thread may move");
        LinuxSystem::new().netdev_statistics(&netdev)
    });
    let told = there.join().expect("no panic");
    told.expect("the kernel tells")
}

#[test]
fn ethtool_and_this_driver_read_the_same_statistics() {
    let Some(host) = Host::or_skip("ethtool_and_this_driver_read_the_same_statistics") else {
        return;
    };
    let [a, b] = [host.namespace(), host.namespace()];
    let [near, far] = [interface(), interface()];
    a.ip(&format!(
        "link add {near} numrxqueues 3 numtxqueues 2 type veth peer name {far} netns {}",
        b.name()
    ));
    a.configure(&near, 1, 1500);
    b.configure(&far, 2, 1500);
    let _ = a.run("ping -c 5 -i 0.01 192.0.2.2").success();
    let shown = a.run(&format!("ethtool -S {near}")).success();
    let shown: Vec<(String, u64)> = shown
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect();
    assert!(shown.len() > 10, "{shown:?}");
    assert_eq!(read(&a, &near), shown);
    // The loopback has none, and ethtool says so.
    assert_eq!(read(&a, "lo"), []);
}
