//! What happens to a tap while testpmd forwards: it goes, moves, changes its MTU, and brings frames
//! that are too long or too short. testpmd goes on and ends as if nothing had been.

#![forbid(unsafe_code)]

use std::fs;
use std::thread;
use std::time::Duration;

use conformance::capture;
use conformance::host::{Host, Job, Namespace, Pinged, Stopped, Testpmd};

const LIMIT: Duration = Duration::from_secs(60);
/// What a running testpmd is given to notice a change, or to fall over it.
const WHILE: Duration = Duration::from_millis(300);

/// icmpecho on a tap of its own making in `namespace`, that has an address.
fn start(host: &Host, namespace: &Namespace) -> Testpmd {
    let device = format!("--vdev=model0,link=tap:tap0:netns={}", namespace.name());
    let testpmd = Testpmd::start(host, &device, "--forward-mode=icmpecho");
    namespace.configure("tap0", 1, 1500);
    testpmd
}

/// Ten requests of so many bytes of payload are all answered.
#[track_caller]
fn answered(namespace: &Namespace, size: u32) {
    Pinged::reach(namespace, "192.0.2.2");
    let pinged = Pinged::run(namespace, &format!("-i 0.05 -c 10 -s {size} 192.0.2.2"));
    assert_eq!(pinged, Pinged::all(10), "{size} bytes");
}

/// It still runs, and ends with 0 and its tables.
#[track_caller]
fn goes_on(mut testpmd: Testpmd) -> Stopped {
    thread::sleep(WHILE);
    assert!(
        !testpmd.job.has_ended(),
        "it ended: {}",
        testpmd.job.stderr()
    );
    testpmd.stop()
}

/// It tells of what happened.
#[track_caller]
fn tells(testpmd: &mut Testpmd, text: &str) {
    let told = |job: &Job| job.stderr().contains(text);
    testpmd.job.wait_until("it tells", told);
}

/// A number of the only port in the line of JSON.
#[track_caller]
fn count(stopped: &Stopped, field: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(&stopped.json).expect("JSON");
    let value = json["ports"][0][field].as_u64();
    value.unwrap_or_else(|| panic!("no {field} in {json}"))
}

#[test]
fn a_namespace_may_be_deleted_under_a_running_tap() {
    let Some(host) = Host::or_skip("a_namespace_may_be_deleted_under_a_running_tap") else {
        return;
    };
    let namespace = host.namespace();
    let testpmd = start(&host, &namespace);
    answered(&namespace, 56);
    let flood = namespace.start("ping -q -f 192.0.2.2", LIMIT);
    drop(namespace);
    let _ = flood.kill();
    assert!(count(&goes_on(testpmd), "rx_packets") > 10);
}

#[test]
fn a_tap_may_move_and_vanish_with_its_new_namespace() {
    let Some(host) = Host::or_skip("a_tap_may_move_and_vanish_with_its_new_namespace") else {
        return;
    };
    let (home, abroad) = (host.namespace(), host.namespace());
    let mut testpmd = start(&host, &home);
    home.ip(&format!("link set tap0 netns {}", abroad.name()));
    abroad.configure("tap0", 1, 1500);
    answered(&abroad, 56);
    let flood = abroad.start("ping -q -f 192.0.2.2", LIMIT);
    drop(abroad);
    let _ = flood.kill();
    tells(&mut testpmd, "tap0");
    assert!(count(&goes_on(testpmd), "rx_packets") > 10);
}

#[test]
fn a_tap_may_be_deleted_and_made_anew_by_the_next() {
    let Some(host) = Host::or_skip("a_tap_may_be_deleted_and_made_anew_by_the_next") else {
        return;
    };
    let namespace = host.namespace();
    let mut testpmd = start(&host, &namespace);
    let _flood = namespace.start("ping -q -f 192.0.2.2", LIMIT);
    namespace.ip("link del tap0");
    let next = start(&host, &namespace);
    tells(&mut testpmd, "deleted");
    goes_on(testpmd);
    next.stop();
}

#[test]
fn frames_longer_than_the_buffers_are_counted_and_the_next_flow() {
    let Some(host) = Host::or_skip("frames_longer_than_the_buffers_are_counted_and_the_next_flow")
    else {
        return;
    };
    let namespace = host.namespace();
    let testpmd = start(&host, &namespace);
    answered(&namespace, 1472);
    namespace.ip("link set tap0 mtu 9000");
    // A buffer holds 2048 bytes: 14 of Ethernet, 28 of IPv4 and ICMP, 2006 of payload.
    answered(&namespace, 2006);
    for size in [2007, 8972] {
        let line = format!("-i 0.02 -W 1 -c 10 -M do -s {size} 192.0.2.2");
        let pinged = Pinged::impatient(&namespace, &line);
        assert_eq!((pinged.sent, pinged.received), (10, 0), "{size} bytes");
    }
    answered(&namespace, 56);
    assert_eq!(count(&goes_on(testpmd), "rx_errors"), 20);
}

#[test]
fn the_mtu_of_a_tap_may_change_while_packets_flow() {
    let Some(host) = Host::or_skip("the_mtu_of_a_tap_may_change_while_packets_flow") else {
        return;
    };
    let namespace = host.namespace();
    let testpmd = start(&host, &namespace);
    answered(&namespace, 56);
    let mut flood = namespace.start("ping -q -f 192.0.2.2", LIMIT);
    for mtu in [9000, 68, 1280, 65_000, 1500] {
        namespace.ip(&format!("link set tap0 mtu {mtu}"));
        let payload = (mtu - 28).min(1472);
        Pinged::reach(&namespace, &format!("-M do -s {payload} 192.0.2.2"));
    }
    assert!(!flood.has_ended(), "{}", flood.stderr());
    drop(flood);
    answered(&namespace, 1472);
    assert_eq!(count(&goes_on(testpmd), "rx_errors"), 0);
}

/// Frames of 14 to 59 bytes, shorter than any on a wire, leave a port for one tap and reach another
/// port by another: the kernel's bridge is between them.
#[test]
fn runts_are_carried_as_they_are() {
    let name = "runts_are_carried_as_they_are";
    let Some(host) = Host::or_skip(name) else {
        return;
    };
    let namespace = host.namespace();
    // The kernel has nothing to say of its own.
    namespace.set("ipv6/conf/default/disable_ipv6", 1);
    if namespace.run("ip link add bridge type bridge").code != Some(0) {
        conformance::skip(name, "this kernel has no bridge");
        return;
    }
    // To everyone, from an address for documentation, of an experimental type (IEEE 802).
    let header = b"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\xaa\x88\xb5";
    let runts: Vec<Vec<u8>> = (14..60_u8)
        .map(|length| header.iter().copied().chain(15..=length).collect())
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let [sent, arrived] = ["sent", "arrived"].map(|name| folder.path().join(name));
    // Until the port receives and the bridge forwards, what it is for is lost.
    let mut frames = vec![vec![0xff; 60]; 100];
    frames.extend_from_slice(&runts);
    fs::write(&sent, capture::write(&frames)).expect("a file");
    let tap = |tap: &str| format!("link=tap:{tap}:netns={}", namespace.name());
    let device = format!("--vdev=model0,{},capture={}", tap("far"), arrived.display());
    let receiver = Testpmd::start(&host, &device, "--forward-mode=rxonly");
    namespace.ip("tuntap add dev near mode tap");
    for end in ["near", "far"] {
        namespace.ip(&format!("link set {end} master bridge up"));
    }
    namespace.ip("link set bridge up");
    let device = format!(
        "--vdev=model0,link=pcap:rx={}:pps=100,{}",
        sent.display(),
        tap("near")
    );
    let mut sender = Testpmd::start(&host, &device, "--forward-mode=io --no-flush-rx");
    let last = runts.last().expect("some");
    sender.job.wait_until("the last one arrives", |_| {
        fs::read(&arrived).is_ok_and(|file| file.ends_with(last))
    });
    sender.stop();
    let stopped = goes_on(receiver);
    let captured = capture::read(&fs::read(&arrived).expect("a file"));
    assert!(captured.ends_with(&runts), "{captured:?}");
    assert_eq!(count(&stopped, "rx_packets"), captured.len() as u64);
    assert_eq!(count(&stopped, "rx_errors"), 0);
}
