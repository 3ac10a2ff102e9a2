//! The kernel leaves its checksums to the taps, so frames arrive with the sum of the pseudo-header alone:
//! csum mode completes them, and the kernel at the other end judges.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use conformance::host::{File, Host, Link, Server, Testpmd, fetch, iperf};

const LENGTH: u64 = 20_000_001;
const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Two taps with offloaded checksums, and testpmd between them.
fn start(host: &Host, mode: &str) -> (Link, Testpmd) {
    let link = Link::new(host);
    let device = format!("--vdev=model0,{}", link.taps("csum=on"));
    let testpmd = Testpmd::start(host, &device, mode);
    link.configure(1500);
    (link, testpmd)
}

/// TCP and UDP over both protocols through csum mode.
fn completes(host: &Host, who: &str) {
    let [near, far] = Link::MACS;
    let peers = format!("--eth-peer=0,{near} --eth-peer=1,{far}");
    let (link, testpmd) = start(host, &format!("--forward-mode=csum --csum={who} {peers}"));
    let file = File::new(host, LENGTH);
    let server = Server::start(&link.far, &file);
    for address in SERVER {
        let address: IpAddr = address.parse().expect("an address");
        fetch(host, &link.near, address, &file);
    }
    drop(server);
    for target in SERVER {
        for direction in ["", "-R"] {
            iperf(&link, target, 1, &format!("-u -b 50M {direction}"));
        }
    }
    for counters in link.counters() {
        counters.assert_no_errors();
        assert!(counters.get("TcpInSegs") > 100, "{counters:?}");
        assert!(counters.get("UdpInDatagrams") > 100, "{counters:?}");
        assert!(counters.get("Udp6InDatagrams") > 100, "{counters:?}");
    }
    testpmd.stop();
}

#[test]
fn the_device_completes_the_checksums_of_tcp_and_udp() {
    if let Some(host) = Host::or_skip("the_device_completes_the_checksums_of_tcp_and_udp") {
        completes(&host, "hw");
    }
}

#[test]
fn software_completes_the_checksums_of_tcp_and_udp() {
    if let Some(host) = Host::or_skip("software_completes_the_checksums_of_tcp_and_udp") {
        completes(&host, "sw");
    }
}

/// Without csum mode nothing completes them: then the kernel must see it, or the tests above could
/// not fail.
#[test]
fn the_kernel_drops_what_io_mode_leaves_incomplete() {
    let Some(host) = Host::or_skip("the_kernel_drops_what_io_mode_leaves_incomplete") else {
        return;
    };
    let (link, testpmd) = start(&host, "--forward-mode=io");
    let file = File::new(&host, 1000);
    let _server = Server::start(&link.far, &file);
    for server in ["192.0.2.2", "[2001:db8::2]"] {
        let errors = || link.far.counters().get("TcpInCsumErrors");
        let before = errors();
        let line = format!("curl --globoff --silent --max-time 2 http://{server}/file");
        let ended = link.near.run(&line);
        assert_eq!(ended.code, Some(28), "curl must time out: {ended}");
        assert!(errors() > before, "no error is counted for {server}");
    }
    testpmd.stop();
}
