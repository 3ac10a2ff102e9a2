//! What `mana testpmd` tells by DPDK's telemetry protocol and as OpenMetrics.

#![forbid(unsafe_code)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use support::{LIMIT, Run, SMALL, command};

/// A testpmd that sends, with its runtime folder.
struct Running {
    child: Option<Child>,
    folder: tempfile::TempDir,
    metrics: Option<String>,
}

impl Running {
    fn start(eal: &str) -> Running {
        Running::with(eal, "")
    }

    fn with(eal: &str, app: &str) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = command(&format!(
            "--vdev=model0 {eal} -- --forward-mode=txonly --rxq=2 --txq=2 --duration 600 {SMALL} {app}"
        ))
        .env("RUNTIME_DIRECTORY", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mana starts");
        let mut metrics = None;
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with("txonly packet forwarding") {
            line.clear();
            let read = lines.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended");
            let address = line.trim().strip_prefix("testpmd: metrics at http://");
            metrics = metrics.or(address.map(str::to_owned));
        }
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Running {
            child: Some(child),
            folder,
            metrics,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("dpdk").join(name)
    }

    fn stop(mut self) -> Run {
        let child = self.child.take().expect("a child");
        rustix::process::kill_process(Pid::from_child(&child), Signal::INT).expect("a child");
        Run::from(child.wait_with_output().expect("output"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child");
            child.wait().expect("a child");
        }
    }
}

struct Client(OwnedFd);

impl Client {
    fn new(path: &Path) -> (Client, Value) {
        let client = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
        let address = SocketAddrUnix::new(path).expect("a path");
        connect(&client, &address).expect("somebody listens");
        let client = Client(client);
        let greeting = client.receive();
        (client, greeting)
    }

    fn receive(&self) -> Value {
        let mut buffer = vec![0; 1 << 20];
        let (_, length) = recv(&self.0, &mut buffer[..], RecvFlags::empty()).expect("an answer");
        serde_json::from_slice(&buffer[..length]).expect("JSON")
    }

    fn ask(&self, command: &str) -> Value {
        send(&self.0, command.as_bytes(), SendFlags::NOSIGNAL).expect("it listens");
        let name = command.split(',').next().expect("a first part");
        self.receive()[name].take()
    }
}

#[test]
fn a_running_port_is_told_by_number_and_its_counters_move() {
    let running = Running::start("--file-prefix=tel");
    let (client, greeting) = Client::new(&running.path("tel/dpdk_telemetry.v2"));
    let id = running.child.as_ref().expect("a child").id();
    assert_eq!(greeting["pid"], id);
    assert!(
        greeting["version"]
            .as_str()
            .expect("text")
            .starts_with("mana ")
    );
    let list = client.ask("/ethdev/list");
    assert_eq!(list, serde_json::json!([0]));
    let info = client.ask("/ethdev/info,0");
    assert_eq!(info["name"], "7870:00:00.0_port1");
    assert_eq!(
        (&info["nb_rx_queues"], &info["dev_started"]),
        (&2.into(), &1.into())
    );
    assert_eq!(client.ask("/ethdev/link_status,0")["status"], "UP");
    assert_eq!(client.ask("/ethdev/stats,1"), Value::Null);
    let words = client.ask("/eal/app_params");
    assert_eq!(words[0], "--forward-mode=txonly");
    let words = client.ask("/eal/params");
    assert!(
        words
            .as_array()
            .expect("words")
            .contains(&"--vdev=model0".into())
    );
    let sent = || {
        client.ask("/ethdev/stats,0")["opackets"]
            .as_u64()
            .expect("a number")
    };
    let (first, start) = (sent(), Instant::now());
    while sent() <= first {
        assert!(start.elapsed() < LIMIT, "nothing moves");
    }
    let xstats = client.ask("/ethdev/xstats,0");
    let stats = client.ask("/ethdev/stats,0");
    let value = |value: &Value| value.as_u64().expect("a number");
    assert!(value(&xstats["tx_good_packets"]) <= value(&stats["opackets"]));
    let queues: u64 = (0..16)
        .map(|queue| value(&stats["q_opackets"][queue]))
        .sum();
    assert_eq!(queues, value(&stats["opackets"]));
    let path = running.path("tel");
    running.stop().succeeded();
    assert!(!path.join("dpdk_telemetry.v2").exists(), "the socket stays");
}

#[test]
fn what_is_told_of_a_port_is_asked_of_it() {
    let running = Running::with("", "--enable-scatter --mbuf-size=640 --max-pkt-len=1018");
    let (client, _) = Client::new(&running.path("rte/dpdk_telemetry.v2"));
    let info = client.ask("/ethdev/info,0");
    for (field, value) in [
        ("scattered_rx", 1),
        ("rx_mbuf_size_min", 640),
        ("mtu", 1000),
        ("dev_configured", 1),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    running.stop().succeeded();
    let running = Running::start("");
    let (client, _) = Client::new(&running.path("rte/dpdk_telemetry.v2"));
    let info = client.ask("/ethdev/info,0");
    assert_eq!(info["scattered_rx"], 0);
    running.stop().succeeded();
}

#[test]
fn metrics_are_had_by_http_and_are_those_of_the_socket() {
    let running = Running::start("--metrics=0");
    let address = running.metrics.clone().expect("an address");
    let (host, path) = address.split_once('/').expect("a path");
    let (client, _) = Client::new(&running.path("rte/dpdk_telemetry.v2"));
    let before = client.ask("/ethdev/xstats,0");
    let mut http = TcpStream::connect(host).expect("it listens");
    write!(http, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("it reads");
    let mut text = String::new();
    http.read_to_string(&mut text).expect("text");
    let after = client.ask("/ethdev/xstats,0");
    let sample = "mana_tx_good_packets_total{port=\"0\",device=\"7870:00:00.0_port1\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(sample));
    let found: u64 = line.expect(&text).parse().expect("a number");
    let bound = |xstats: &Value| xstats["tx_good_packets"].as_u64().expect("a number");
    assert!((bound(&before)..=bound(&after)).contains(&found), "{found}");
    running.stop().succeeded();
}

#[test]
fn without_telemetry_there_is_no_socket_and_where_it_can_not_be_one_warning() {
    let running = Running::start("--no-telemetry");
    assert!(!running.path("").exists());
    let run = running.stop().succeeded();
    assert!(!run.stderr.contains("telemetry"), "{}", run.stderr);
    let run = command(&format!("--vdev=model0 -- --duration 0.1 {SMALL}"))
        .env("RUNTIME_DIRECTORY", "/nonexistent")
        .output();
    let run = Run::from(run.expect("mana starts")).succeeded();
    assert_eq!(
        run.stderr.matches("no telemetry").count(),
        1,
        "{}",
        run.stderr
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let line = format!("--vdev=model0 --metrics={address} -- --duration 0.1 {SMALL}");
    Run::of(&line).failed(1, "can't serve --metrics=127.0.0.1:");
}
