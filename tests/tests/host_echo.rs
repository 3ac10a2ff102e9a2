//! smoltcp on a port, asked by the host: the example `udp_echo` returns every datagram.

#![forbid(unsafe_code)]

use std::time::Duration;

use conformance::host::{Host, Pinged};

const LIMIT: Duration = Duration::from_secs(60);
/// Datagrams over each of IPv4 and IPv6.
const DATAGRAMS: u32 = 5000;

/// Lines of all lengths up to a full frame's.
fn datagram(number: u32) -> String {
    let filling = "abcdefghijklmnopqrstuvwxyz".chars().cycle();
    let length = (number * 7 % 1400) as usize;
    let filling: String = filling.take(length).collect();
    format!("{number} {filling}\n")
}

/// netcat sends what it reads in one piece as one datagram, so each line waits for its answer.
#[test]
fn ten_thousand_datagrams_of_netcat_come_back() {
    let Some(host) = Host::or_skip("ten_thousand_datagrams_of_netcat_come_back") else {
        return;
    };
    let namespace = host.namespace();
    let name = namespace.name();
    let echo = host.example(
        "udp_echo",
        &format!("--vdev=model0,link=tap:tap0:netns={name}"),
    );
    namespace.configure("tap0", 1, 1500);
    for target in ["192.0.2.2", "2001:db8::2"] {
        Pinged::reach(&namespace, target);
        let mut client = namespace.start(&format!("nc.openbsd -u {target} 7"), LIMIT);
        let mut sent = String::new();
        for number in 0..DATAGRAMS {
            let line = datagram(number);
            client.write(line.as_bytes());
            sent.push_str(&line);
            let length = sent.len();
            client.wait_until("an answer", |job| job.stdout_length() >= length);
        }
        let answers = client.stdout();
        assert!(answers == sent, "{target}: other answers than questions");
        let _ = client.kill();
    }
    namespace.counters().assert_no_errors();
    let said = echo.interrupt().success();
    let line = format!("echoed {} datagrams", 2 * DATAGRAMS);
    assert!(said.contains(&line), "{said}");
}
