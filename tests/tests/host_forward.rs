//! Two namespaces with the driver between them: every frame from one tap to the other goes through
//! `rx_burst`, io mode and `tx_burst`, and the kernel at either end judges what arrives.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use conformance::host::{File, Host, Link, Server, Testpmd, fetch, iperf, note};

/// The file that crosses: 100 MB, and a byte that fills no word.
const LENGTH: u64 = 100_000_001;
/// Where the server is, by both protocols.
const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// Fetches a file over IPv4 and IPv6 and asks the kernel for its judgement.
#[track_caller]
fn transfer(host: &Host, link: &Link, what: &str) {
    let file = File::new(host, LENGTH);
    let _server = Server::start(&link.far, &file);
    for address in SERVER {
        let server: IpAddr = address.parse().expect("an address");
        let speed = fetch(host, &link.near, server, &file) * 8e-9;
        let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
        note(&format!(
            "host: HTTP over {family}, {what}: {speed:.2} Gbit/s"
        ));
    }
    link.assert_no_errors();
}

fn io(host: &Host, queues: u16, mtu: u32) -> (Link, Testpmd) {
    let buffers = if mtu > 1500 { "--mbuf-size=9728" } else { "" };
    io_with(host, queues, mtu, buffers)
}

fn io_with(host: &Host, queues: u16, mtu: u32, buffers: &str) -> (Link, Testpmd) {
    let link = Link::new(host);
    let taps = link.taps(&format!("queues={queues}:mtu={mtu}"));
    let testpmd = Testpmd::start(
        host,
        &format!("--vdev=model0,{taps}"),
        &format!("--forward-mode=io --rxq={queues} --txq={queues} {buffers}"),
    );
    link.configure(mtu);
    (link, testpmd)
}

/// `test`, its queues and MTU.
#[track_caller]
fn file_crosses(test: &str, queues: u16, mtu: u32) {
    let Some(host) = Host::or_skip(test) else {
        return;
    };
    let (link, testpmd) = io(&host, queues, mtu);
    transfer(&host, &link, &format!("io, {queues} queue(s), MTU {mtu}"));
    let stopped = testpmd.stop();
    assert!(stopped.json.contains("\"findings\":0"), "{}", stopped.json);
}

#[test]
fn a_file_crosses_one_queue_unchanged() {
    file_crosses("a_file_crosses_one_queue_unchanged", 1, 1500);
}

#[test]
fn a_file_crosses_four_queues_unchanged() {
    file_crosses("a_file_crosses_four_queues_unchanged", 4, 1500);
}

#[test]
fn a_file_crosses_one_queue_in_jumbo_frames_unchanged() {
    file_crosses(
        "a_file_crosses_one_queue_in_jumbo_frames_unchanged",
        1,
        9000,
    );
}

#[test]
fn a_file_crosses_four_queues_in_jumbo_frames_unchanged() {
    file_crosses(
        "a_file_crosses_four_queues_in_jumbo_frames_unchanged",
        4,
        9000,
    );
}

/// Each frame arrives in five mbufs and leaves from them.
#[test]
fn a_file_crosses_in_jumbo_frames_scattered_over_small_mbufs_unchanged() {
    let test = "a_file_crosses_in_jumbo_frames_scattered_over_small_mbufs_unchanged";
    let Some(host) = Host::or_skip(test) else {
        return;
    };
    let (link, testpmd) = io_with(&host, 2, 9000, "--enable-scatter --max-pkt-len=9018");
    transfer(&host, &link, "io, scattered, 2 queue(s), MTU 9000");
    let stopped = testpmd.stop();
    assert!(stopped.json.contains("\"findings\":0"), "{}", stopped.json);
    assert!(stopped.json.contains("\"rx_errors\":0"), "{}", stopped.json);
}

/// What is received in one buffer leaves in as many segments as 512 bytes make of it.
#[test]
fn a_file_crosses_the_pipeline_in_many_segments_unchanged() {
    let Some(host) = Host::or_skip("a_file_crosses_the_pipeline_in_many_segments_unchanged") else {
        return;
    };
    for (queues, mtu) in [(1, 1500), (4, 9000)] {
        let link = Link::new(&host);
        let taps = link.taps(&format!("queues={queues}:mtu={mtu}"));
        let arguments =
            format!("--vdev=model0,{taps} --split=512 --queues={queues} --mbuf-size=9728");
        let pipeline = host.example("pipeline", &arguments);
        link.configure(mtu);
        transfer(
            &host,
            &link,
            &format!("pipeline, split, {queues} queue(s), MTU {mtu}"),
        );
        let _ = pipeline.interrupt().success();
    }
}

#[test]
fn iperf3_runs_both_ways_without_a_wrong_checksum() {
    let Some(host) = Host::or_skip("iperf3_runs_both_ways_without_a_wrong_checksum") else {
        return;
    };
    let (link, testpmd) = io(&host, 1, 1500);
    for (target, seconds, arguments, what) in [
        (SERVER[0], 10, "", "TCP"),
        (SERVER[1], 10, "-R", "TCP back"),
        (SERVER[1], 3, "-u -b 100M", "UDP"),
        (SERVER[0], 3, "-u -b 100M -R", "UDP back"),
    ] {
        let flow = iperf(&link, target, seconds, arguments);
        let speed = flow.bits_per_second * 1e-9;
        let missing = flow.missing;
        note(&format!(
            "host: iperf3 {what} to {target}, io, 1 queue, MTU 1500: {speed:.2} Gbit/s, \
             {missing} lost or sent again"
        ));
    }
    for counters in link.counters() {
        counters.assert_no_errors();
        assert!(counters.get("TcpInSegs") > 1000, "{counters:?}");
        let datagrams = counters.get("UdpInDatagrams") + counters.get("Udp6InDatagrams");
        assert!(datagrams > 1000, "{counters:?}");
    }
    testpmd.stop();
}
