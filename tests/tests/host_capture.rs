//! Captures of a port on a tap, read by tcpdump: the frames are those of a wire.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::Path;

use conformance::host::{File, Host, Link, Server, Testpmd, fetch};
use serde_json::Value;

/// What tcpdump says of a capture, with these options.
#[track_caller]
fn tcpdump(host: &Host, options: &str, capture: &Path) -> String {
    let line = format!("tcpdump -Z root -n {options} -r {}", capture.display());
    host.run(&line).success()
}

/// All frames of either port are in its capture, and of a transfer no checksum in them is wrong.
#[test]
fn tcpdump_finds_every_frame_and_no_wrong_checksum() {
    let Some(host) = Host::or_skip("tcpdump_finds_every_frame_and_no_wrong_checksum") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let captures = ["near", "far"].map(|name| folder.path().join(name));
    let link = Link::new(&host);
    let device = format!(
        "--vdev=model0,{},capture={},capture={}",
        link.taps("queues=1"),
        captures[0].display(),
        captures[1].display()
    );
    let testpmd = Testpmd::start(&host, &device, "--forward-mode=io");
    link.configure(1500);
    let file = File::new(&host, 2_000_001);
    let server = Server::start(&link.far, &file);
    for address in ["192.0.2.2", "2001:db8::2"] {
        let address: IpAddr = address.parse().expect("an address");
        fetch(&host, &link.near, address, &file);
    }
    drop(server);
    link.assert_no_errors();
    let stopped = testpmd.stop();
    let json: Value = serde_json::from_str(&stopped.json).expect("JSON");
    for (port, capture) in captures.iter().enumerate() {
        let number = |field: &str| json["ports"][port][field].as_u64().expect("a number");
        let frames = number("rx_packets") + number("tx_packets");
        let counted = tcpdump(&host, "--count", capture);
        let counted: u64 = counted
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no count: {counted}"));
        // What came before forwarding began is in the capture and not in the sums.
        assert!(counted >= frames, "{counted} of {frames}");
        let said = tcpdump(&host, "-vv", capture);
        for protocol in ["GET /file HTTP/1.1", "ARP", "neighbor solicitation"] {
            assert!(said.contains(protocol), "no {protocol}");
        }
        let right = said.matches("(correct)").count() as u64;
        assert!(right > frames / 2, "{right} of {frames} are checked");
        for wrong in ["incorrect", "bad cksum", "bad hdr"] {
            let line = said.lines().find(|line| line.contains(wrong));
            assert!(line.is_none(), "{wrong}: {line:?}");
        }
    }
}

/// The judge sees what it must: with checksums left to the tap, and nothing to complete them.
#[test]
fn tcpdump_sees_checksums_that_nobody_computed() {
    let Some(host) = Host::or_skip("tcpdump_sees_checksums_that_nobody_computed") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let [capture, other] = ["near", "far"].map(|name| folder.path().join(name));
    let link = Link::new(&host);
    let device = format!(
        "--vdev=model0,{},capture={},capture={}",
        link.taps("csum=on"),
        capture.display(),
        other.display()
    );
    let testpmd = Testpmd::start(&host, &device, "--forward-mode=io");
    link.configure(1500);
    let line = "curl --silent --max-time 2 http://192.0.2.2/file";
    assert_eq!(link.near.run(line).code, Some(28), "nobody answers");
    testpmd.stop();
    let said = tcpdump(&host, "-vv tcp", &capture);
    assert!(said.contains("incorrect"), "{said}");
}
