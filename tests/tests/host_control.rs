//! The control experiment of the tier: the same programs and judges over a cable of the kernel's
//! own. What fails here is no fault of the driver.

#![forbid(unsafe_code)]

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use conformance::host::{File, Host, Job, Namespace, Pinged, Server, fetch, interface};

const LIMIT: Duration = Duration::from_secs(60);

/// Two namespaces and a veth pair between them: the cable, its checksums computed by software.
fn cable(host: &Host, mtu: u32) -> [Namespace; 2] {
    let [a, b] = [host.namespace(), host.namespace()];
    let [near, far] = [interface(), interface()];
    let peer = format!("peer name {far} netns {}", b.name());
    a.ip(&format!("link add {near} type veth {peer}"));
    for (namespace, name, number) in [(&a, &near, 1), (&b, &far, 2)] {
        let _ = namespace
            .run(&format!("ethtool -K {name} tx off"))
            .success();
        namespace.configure(name, number, mtu);
    }
    [a, b]
}

#[test]
fn every_program_takes_its_libraries_from_the_tree() {
    let Some(host) = Host::or_skip("every_program_takes_its_libraries_from_the_tree") else {
        return;
    };
    for name in [
        "ip",
        "nstat",
        "ping",
        "iperf3",
        "curl",
        "nginx",
        "nc.openbsd",
        "tcpdump",
        "ethtool",
        "sha256sum",
        "setpriv",
        "tee",
    ] {
        let tree = std::env::var("MANA_HOST_TOOLS").expect("the tree");
        for line in host.tools().libraries(name).lines() {
            let ours = line.contains(&tree) || line.contains("linux-vdso");
            assert!(ours, "{name} takes {line}");
        }
    }
}

#[test]
fn a_cable_loses_nothing_and_a_cut_one_everything() {
    let Some(host) = Host::or_skip("a_cable_loses_nothing_and_a_cut_one_everything") else {
        return;
    };
    let [a, b] = cable(&host, 1500);
    assert_eq!(
        Pinged::run(&a, "-i 0.002 -c 200 192.0.2.2"),
        Pinged::all(200)
    );
    assert_eq!(
        Pinged::run(&a, "-i 0.002 -c 200 2001:db8::2"),
        Pinged::all(200)
    );
    b.ip("addr flush to 192.0.2.2");
    let cut = Pinged::impatient(&a, "-i 0.002 -c 5 -W 0.5 192.0.2.2");
    assert_eq!((cut.sent, cut.received), (5, 0));
}

#[test]
fn a_file_crosses_a_cable_and_no_checksum_is_wrong() {
    let Some(host) = Host::or_skip("a_file_crosses_a_cable_and_no_checksum_is_wrong") else {
        return;
    };
    let file = File::new(&host, 10_000_001);
    let [a, b] = cable(&host, 9000);
    let _server = Server::start(&b, &file);
    for address in ["192.0.2.2", "2001:db8::2"] {
        let server: IpAddr = address.parse().expect("an address");
        assert!(fetch(&host, &a, server, &file) > 0.0);
    }
    for namespace in [a, b] {
        let counters = namespace.counters();
        counters.assert_no_errors();
        assert!(counters.get("TcpInSegs") > 100, "{counters:?}");
    }
}

#[test]
fn a_process_that_died_leaves_its_namespaces_to_the_next() {
    let Some(host) = Host::or_skip("a_process_that_died_leaves_its_namespaces_to_the_next") else {
        return;
    };
    let namespace = host.namespace();
    let dead = namespace.start("sleep 0", LIMIT);
    let name = format!("mana-{}-0", dead.id());
    let _ = dead.end().success();
    // Not from inside of a namespace: `ip` mounts what it adds, and there no one else would see it.
    let _ = host.run(&format!("ip netns add {name}")).success();
    let sleep = format!("ip netns exec {name} sleep 600");
    let mut sleeper = Job::start(&mut host.tools().command(&sleep), LIMIT);
    let pids = format!("ip netns pids {name}");
    sleeper.wait_until("it is inside", |_| !host.run(&pids).stdout.is_empty());
    let folder = |name: &str| fs::exists(format!("/run/netns/{name}")).expect("a folder");
    assert!(folder(&name));
    host.remove_leftovers();
    assert!(!folder(&name), "{name} is still there");
    assert!(folder(namespace.name()), "this process lives");
    assert_eq!(sleeper.end().signal, Some(9));
}
