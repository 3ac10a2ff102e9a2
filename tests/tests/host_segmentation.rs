//! The kernel leaves the cutting of TCP to the taps, as it does to hardware: the driver receives
//! packets of up to 60 kB, csum mode asks the device to cut them, and the kernel at the other end judges
//! what arrives.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use conformance::host::{File, Host, Link, Server, Testpmd, fetch, iperf, note};

/// 20 MB, and a byte that fills no word.
const LENGTH: u64 = 20_000_001;
const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// Most bytes of a packet before it is cut: what one of the buffers holds.
const LONGEST: u32 = 60_000;

/// Two taps that leave cutting to us, and testpmd between them.
fn start(host: &Host, tso: &str) -> (Link, Testpmd) {
    let link = Link::new(host);
    let [near, far] = Link::MACS;
    let device = format!("--vdev=model0,{}", link.taps("tso=on"));
    let buffers = "--mbuf-size=65535 --mbcache=0 --rxd=64 --txd=64 --total-num-mbufs=1024";
    let peers = format!("--eth-peer=0,{near} --eth-peer=1,{far}");
    let mode = format!("--forward-mode=csum --csum=hw {tso} {buffers} {peers}");
    let testpmd = Testpmd::start(host, &device, &mode);
    link.configure(1500);
    for end in [&link.near, &link.far] {
        end.ip(&format!("link set dev tap0 gso_max_size {LONGEST}"));
    }
    (link, testpmd)
}

/// Packets that the driver handed to the device.
fn sent(json: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(json).expect("a line of JSON");
    let ports = value["ports"].as_array().expect("ports");
    let packets = ports.iter().map(|port| port["tx_packets"].as_u64());
    packets.map(|count| count.expect("a number")).sum()
}

#[test]
fn the_device_cuts_what_the_kernel_left_long_and_a_file_arrives() {
    let Some(host) = Host::or_skip("the_device_cuts_what_the_kernel_left_long_and_a_file_arrives")
    else {
        return;
    };
    // IPv6 with time stamps: 1500 - 40 - 32.
    let (link, testpmd) = start(&host, "--tso=1428");
    let file = File::new(&host, LENGTH);
    let server = Server::start(&link.far, &file);
    for address in SERVER {
        let address: IpAddr = address.parse().expect("an address");
        let speed = fetch(&host, &link.near, address, &file) * 8e-9;
        note(&format!(
            "host: HTTP to {address}, cut by the device: {speed:.2} Gbit/s"
        ));
    }
    drop(server);
    for target in SERVER {
        let flow = iperf(&link, target, 2, "");
        let speed = flow.bits_per_second * 1e-9;
        note(&format!(
            "host: iperf3 TCP to {target}, cut by the device: {speed:.2} Gbit/s"
        ));
    }
    link.assert_no_errors();
    let arrived: u64 = link.counters().iter().map(|end| end.get("TcpInSegs")).sum();
    let stopped = testpmd.stop();
    assert!(stopped.json.contains("\"findings\":0"), "{}", stopped.json);
    let sent = sent(&stopped.json);
    // A packet of the driver becomes many, or nothing was proved.
    assert!(
        arrived > 2 * sent,
        "{sent} packets sent, {arrived} segments arrived"
    );
    note(&format!(
        "host: the device made {arrived} segments of {sent} packets"
    ));
}
