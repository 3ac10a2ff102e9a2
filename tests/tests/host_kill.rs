//! testpmd killed as nothing else can, under traffic: nothing it leaves stops the next one.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use conformance::host::{
    File, Host, Hugepages, Job, Link, Namespace, Pinged, Server, Testpmd, fetch, free_hugepages,
};

/// How often it is killed.
const KILLS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// An icmpecho testpmd on a tap in `namespace`, on hugepages.
fn start(host: &Host, namespace: &Namespace) -> Testpmd {
    let name = namespace.name();
    let line = format!(
        "--vdev=model0,link=tap:tap0:netns={name} -- --forward-mode=icmpecho --auto-start --json"
    );
    Testpmd::follow(Job::start(&mut host.testpmd(&line), LIMIT))
}

fn flood(namespace: &Namespace) -> Job {
    namespace.start("ping -q -f 192.0.2.2", LIMIT)
}

#[test]
fn after_a_kill_the_tap_is_gone_and_the_next_start_works() {
    let Some(host) = Host::or_skip("after_a_kill_the_tap_is_gone_and_the_next_start_works") else {
        return;
    };
    let _pages = Hugepages::of_free(32);
    let pages = free_hugepages();
    let namespace = host.namespace();
    for kill in 0..KILLS {
        let testpmd = start(&host, &namespace);
        namespace.configure("tap0", 1, 1500);
        let mut flood = flood(&namespace);
        Pinged::reach(&namespace, "192.0.2.2");
        let ended = testpmd.job.kill();
        assert_eq!(ended.signal, Some(9), "{ended}");
        assert!(!namespace.has("tap0"), "the tap is left, kill {kill}");
        // Another program of the machine may have some for a while.
        flood.wait_until("the hugepages are back", |_| free_hugepages() >= pages);
        drop(flood);
    }
    let testpmd = start(&host, &namespace);
    namespace.configure("tap0", 1, 1500);
    Pinged::reach(&namespace, "192.0.2.2");
    let pinged = Pinged::run(&namespace, "-i 0.05 -c 10 192.0.2.2");
    assert_eq!(pinged, Pinged::all(10));
    testpmd.stop();
}

/// TCP segments that have come to the client.
fn segments(link: &Link) -> u64 {
    link.near.counters().get("TcpInSegs")
}

/// With taps that stay, a transfer outlives them all: TCP sends again what a dead testpmd lost.
#[test]
fn a_transfer_over_lasting_taps_survives_kills_of_testpmd() {
    let Some(host) = Host::or_skip("a_transfer_over_lasting_taps_survives_kills_of_testpmd") else {
        return;
    };
    let link = Link::new(&host);
    for end in [&link.near, &link.far] {
        end.ip("tuntap add dev tap0 mode tap");
    }
    link.configure(1500);
    // Four seconds, of which the kills leave most: nothing comes through while nobody runs.
    let file = File::new(&host, 40_000_001);
    let _server = Server::start_at(&link.far, &file, 10_000_000);
    let server: IpAddr = "192.0.2.2".parse().expect("an address");
    let device = format!("--vdev=model0,{}", link.taps("queues=1"));
    let mut testpmd = Testpmd::start(&host, &device, "--forward-mode=io");
    thread::scope(|scope| {
        let transfer = scope.spawn(|| fetch(&host, &link.near, server, &file));
        for kill in 0..3 {
            // It is killed as soon as the file comes through it, however long the start took.
            let before = segments(&link);
            testpmd.job.wait_until("the file comes", |_| {
                segments(&link) > before + 20 || transfer.is_finished()
            });
            assert!(!transfer.is_finished(), "it ended before kill {kill}");
            let ended = testpmd.job.kill();
            assert_eq!(ended.signal, Some(9), "{ended}");
            testpmd = Testpmd::start(&host, &device, "--forward-mode=io");
        }
        transfer.join().expect("the file arrives");
        testpmd.stop();
    });
    link.assert_no_errors();
    assert!(link.near.has("tap0"), "what testpmd found it leaves");
}
