//! The host kernel pings the port behind a tap: `--forward-mode=icmpecho` answers.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use conformance::host::{Host, Pinged, Testpmd};

/// A thousand requests, two milliseconds apart, each answered once.
#[test]
fn icmpecho_answers_every_ping_and_every_ping6_once() {
    let Some(host) = Host::or_skip("icmpecho_answers_every_ping_and_every_ping6_once") else {
        return;
    };
    let namespace = host.namespace();
    let device = format!("--vdev=model0,link=tap:tap0:netns={}", namespace.name());
    let testpmd = Testpmd::start(&host, &device, "--forward-mode=icmpecho");
    namespace.configure("tap0", 1, 1500);
    for target in ["192.0.2.2", "2001:db8::2"] {
        Pinged::reach(&namespace, target);
        let pinged = Pinged::run(&namespace, &format!("-i 0.002 -c 1000 {target}"));
        assert_eq!(pinged, Pinged::all(1000), "{target}");
    }
    namespace.counters().assert_no_errors();
    testpmd.stop();
    assert!(!namespace.has("tap0"), "the tap goes with testpmd");
}

/// Sizes up to the MTU, with a pattern that ping compares.
#[test]
fn icmpecho_returns_what_was_sent_in_every_size() {
    let Some(host) = Host::or_skip("icmpecho_returns_what_was_sent_in_every_size") else {
        return;
    };
    let namespace = host.namespace();
    let device = format!(
        "--vdev=model0,link=tap:tap0:mtu=9000:netns={}",
        namespace.name()
    );
    let application = "--forward-mode=icmpecho --mbuf-size=9728";
    let testpmd = Testpmd::start(&host, &device, application);
    namespace.configure("tap0", 1, 9000);
    // Payloads, with 28 bytes of headers for IPv4 and 48 for IPv6: the smallest, those around the
    // shortest Ethernet frame, around the common MTU, and the largest.
    for (target, largest) in [("192.0.2.2", 8972), ("2001:db8::2", 8952)] {
        Pinged::reach(&namespace, target);
        for size in [0, 17, 18, 1472, 1473, largest] {
            // All at once: ping waits for the last as long as for an interval, a second.
            let line = format!("-l 20 -c 20 -M do -p a55a -s {size} {target}");
            let pinged = Pinged::run(&namespace, &line);
            assert_eq!(pinged, Pinged::all(20), "{size} bytes to {target}");
        }
    }
    namespace.counters().assert_no_errors();
    testpmd.stop();
}

/// How often a thread of the process `id` whose name begins like this has slept.
fn sleeps(id: u32, name: &str) -> Option<u64> {
    let read = |task: &Path, file| fs::read_to_string(task.join(file)).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("procfs");
    let mut tasks = tasks.map(|task| task.expect("procfs").path());
    let status = read(
        &tasks.find(|task| read(task, "comm").starts_with(name))?,
        "status",
    );
    let mut lines = status.lines();
    let switches = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    switches.trim().parse().ok()
}

/// A core that spins has used up its time slice when a frame comes, and on a busy machine the frame
/// waits for the next one: seconds have been seen.
#[test]
fn a_forwarding_core_behind_a_tap_sleeps_where_no_frame_comes() {
    let Some(host) = Host::or_skip("a_forwarding_core_behind_a_tap_sleeps_where_no_frame_comes")
    else {
        return;
    };
    let namespace = host.namespace();
    let device = format!("--vdev=model0,link=tap:tap0:netns={}", namespace.name());
    let mut testpmd = Testpmd::start(&host, &device, "--forward-mode=icmpecho");
    let id = testpmd.job.id();
    testpmd.job.wait_until("the core sleeps", |_| {
        sleeps(id, "lcore-").is_some_and(|sleeps| sleeps > 1000)
    });
    testpmd.stop();
}
