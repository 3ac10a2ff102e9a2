//! Taps that can't be had: testpmd refuses, and says what would help.

#![forbid(unsafe_code)]

use std::process::Command;
use std::time::Duration;

use conformance::host::{Host, Job, Namespace, Testpmd, interface};

const LIMIT: Duration = Duration::from_secs(60);
const APPLICATION: &str = "-- --forward-mode=icmpecho --auto-start --duration 0.1";

/// A command that must fail with a message in which each of these stands.
#[track_caller]
fn refused(command: &mut Command, texts: &[&str]) {
    let ended = Job::start(command, LIMIT).end();
    assert!(ended.code.is_some_and(|code| code != 0), "{ended}");
    for text in texts {
        assert!(ended.stderr.contains(text), "`{text}` is missing: {ended}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}

fn testpmd(host: &Host, device: &str) -> Command {
    host.testpmd(&format!("--no-huge --vdev=model0,{device} {APPLICATION}"))
}

/// A tap in `namespace`.
fn tap(namespace: &Namespace, name: &str) -> String {
    format!("link=tap:{name}:netns={}", namespace.name())
}

#[test]
fn names_that_no_interface_can_have_are_refused() {
    let Some(host) = Host::or_skip("names_that_no_interface_can_have_are_refused") else {
        return;
    };
    let namespace = host.namespace();
    // IFNAMSIZ of linux/if.h is 16, with the NUL.
    let long = "sixteen-letters0";
    refused(&mut testpmd(&host, &tap(&namespace, long)), &[long, "15"]);
    for name in ["a/b", ".."] {
        refused(&mut testpmd(&host, &tap(&namespace, name)), &[name]);
    }
    let longest = &long[..15];
    assert!(!namespace.has(longest));
    let device = format!("--vdev=model0,{}", tap(&namespace, longest));
    let testpmd = Testpmd::start(&host, &device, "--forward-mode=icmpecho");
    assert!(namespace.has(longest));
    testpmd.stop();
}

#[test]
fn names_of_other_interfaces_and_of_taps_in_use_are_refused() {
    let Some(host) = Host::or_skip("names_of_other_interfaces_and_of_taps_in_use_are_refused")
    else {
        return;
    };
    let namespace = host.namespace();
    namespace.ip("link add veth0 type veth peer name veth1");
    namespace.ip("tuntap add dev tun0 mode tun");
    for other in ["lo", "veth0", "tun0"] {
        refused(
            &mut testpmd(&host, &tap(&namespace, other)),
            &[other, "not a tap"],
        );
        assert!(namespace.has(other), "it is left alone");
    }
    let device = format!("--vdev=model0,{}", tap(&namespace, "tap0"));
    let first = Testpmd::start(&host, &device, "--forward-mode=icmpecho");
    refused(
        &mut testpmd(&host, &tap(&namespace, "tap0")),
        &["tap0", "in use by another process"],
    );
    assert!(namespace.has("tap0"), "the first one keeps it");
    first.stop();
    // Two ports of one machine are no better.
    let twice = format!("{0},{0}", tap(&namespace, "tap0"));
    refused(&mut testpmd(&host, &twice), &["tap0"]);
    assert!(!namespace.has("tap0"));
}

#[test]
fn without_the_capability_it_is_named() {
    let Some(host) = Host::or_skip("without_the_capability_it_is_named") else {
        return;
    };
    let name = interface();
    let line = format!("--no-huge --vdev=model0,link=tap:{name} {APPLICATION}");
    let unable = "setpriv --bounding-set -net_admin --inh-caps -net_admin";
    refused(
        &mut host.testpmd_by(unable, &line),
        &[&name, "CAP_NET_ADMIN", "ip tuntap add"],
    );
    // Root's own tap it may not take either, where it may enter the namespace.
    let namespace = host.namespace();
    let unable = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";
    let line = format!(
        "--no-huge --vdev=model0,{} {APPLICATION}",
        tap(&namespace, "tap0")
    );
    refused(&mut host.testpmd_by(unable, &line), &["CAP_SYS_ADMIN"]);
    assert!(!namespace.has("tap0"));
}

#[test]
fn a_namespace_that_does_not_exist_is_named() {
    let Some(host) = Host::or_skip("a_namespace_that_does_not_exist_is_named") else {
        return;
    };
    let namespace = host.namespace();
    let device = tap(&namespace, "tap0");
    let name = namespace.name().to_owned();
    drop(namespace);
    refused(&mut testpmd(&host, &device), &[&name, "ip netns add"]);
}

#[test]
fn a_multicast_address_is_refused_before_a_tap_is_made() {
    let Some(host) = Host::or_skip("a_multicast_address_is_refused_before_a_tap_is_made") else {
        return;
    };
    let namespace = host.namespace();
    let device = format!("mac=01:00:5e:00:00:01,{}", tap(&namespace, "tap1"));
    refused(
        &mut testpmd(&host, &device),
        &["01:00:5e:00:00:01", "multicast"],
    );
    assert!(!namespace.has("tap1"));
}

#[test]
fn queues_and_sizes_that_do_not_fit_are_refused() {
    let Some(host) = Host::or_skip("queues_and_sizes_that_do_not_fit_are_refused") else {
        return;
    };
    let namespace = host.namespace();
    namespace.ip("tuntap add dev one mode tap");
    namespace.ip("tuntap add dev several mode tap multi_queue");
    for (device, texts) in [
        (tap(&namespace, "one:queues=4"), ["one", "multi_queue"]),
        (tap(&namespace, "several"), ["several", "multi_queue"]),
        (tap(&namespace, "new:queues=257"), ["257", "256"]),
        (tap(&namespace, "new:queues=0"), ["queues", "1"]),
        (tap(&namespace, "new:mtu=67"), ["67", "68"]),
        (tap(&namespace, "new:mtu=70000"), ["70000", "mtu"]),
    ] {
        refused(&mut testpmd(&host, &device), &texts);
    }
    assert!(!namespace.has("new"));
}
