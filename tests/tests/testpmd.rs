//! `mana testpmd` as Azure's documentation calls it, and every mistake the issue names: run as a
//! user runs it, on models.

#![forbid(unsafe_code)]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use conformance::host::Job;

/// Ordinary pages: the tests must not depend on what the machine has reserved.
const PAGES: &str = "--no-huge";
/// How long a program may run that is told to stop.
const LIMIT: Duration = Duration::from_secs(90);

fn command(line: &str) -> Command {
    let program = std::env::var_os("MANA_BIN")
        .expect("MANA_BIN names no program; `cargo xtask test --tier model` builds and sets it");
    let mut command = Command::new(program);
    command
        .arg("testpmd")
        .args(line.split_whitespace())
        .stdin(Stdio::null());
    command
}

/// What a finished run said.
struct Said {
    success: bool,
    stdout: String,
    stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn run(line: &str) -> Said {
    command(line).output().expect("mana starts").into()
}

/// The JSON line of a successful run.
#[track_caller]
fn json(line: &str) -> (serde_json::Value, String) {
    let said = run(line);
    assert!(said.success, "{}\n{}", said.stdout, said.stderr);
    let last = said.stdout.lines().last().expect("output");
    let value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last}"));
    (value, said.stdout)
}

/// A run that must fail with a message in which each of these stands.
#[track_caller]
fn refused(line: &str, texts: &[&str]) {
    let said = run(line);
    assert!(!said.success, "{line} succeeded:\n{}", said.stdout);
    for text in texts {
        assert!(
            said.stderr.contains(text),
            "`{text}` is missing in the answer to {line}:\n{}\n{}",
            said.stderr,
            said.stdout
        );
    }
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
}

#[test]
fn azures_first_line_sends_on_one_queue() {
    let (json, stdout) = json(&format!(
        "-l 1-3 {PAGES} --vdev=model0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly --auto-start \
         --txd=128 --rxd=128 --stats 2 --duration 1 --json"
    ));
    assert_eq!(json["findings"], 0);
    assert!(json["seconds"].as_f64().expect("seconds") >= 1.0);
    assert_eq!(json["ports"].as_array().expect("ports").len(), 1);
    assert_eq!(json["ports"][0]["port"], 0);
    let number = |field: &str| json["ports"][0][field].as_u64().expect("a number");
    assert!(number("tx_packets") > 0);
    assert_eq!(number("tx_bytes"), number("tx_packets") * 64);
    assert_eq!(number("tx_errors") + number("rx_errors"), 0);
    number("rx_missed");
    number("rx_nombuf");
    assert!(stdout.to_lowercase().contains("00:0d:3a:76:3b:d0"));
    assert!(stdout.contains("Accumulated forward statistics for all ports"));
}

#[test]
fn azures_second_line_sends_on_eight_queues_and_four_cores() {
    let (json, stdout) = json(&format!(
        "-l 1-6 {PAGES} --vdev=model0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly --auto-start \
         --nb-cores=4 --txd=128 --rxd=128 --txq=8 --rxq=8 --stats 2 --duration 1 --json"
    ));
    assert_eq!(json["findings"], 0);
    assert!(json["ports"][0]["tx_packets"].as_u64().expect("a number") > 0);
    assert!(stdout.contains("cores=4 - streams=8"), "{stdout}");
}

#[test]
fn every_kernel_and_two_ports_run() {
    for kernel in ["6.12", "7.3", "5.15-azure"] {
        let line = format!(
            "{PAGES} --vdev=model0,ports=2,link=pair,kernel={kernel} -- --forward-mode=macswap \
             --tx-first --auto-start --stats 1 --json"
        );
        let mut job = Job::start(&mut command(&line), LIMIT);
        job.wait_until("both have received", |job| {
            let stdout = job.stdout();
            (0..2).all(|port| {
                let heading = format!("NIC statistics for port {port} ");
                let mut tables = stdout.split(&heading).skip(1);
                tables.any(|table| {
                    let (_, count) = table.split_once("  RX-packets: ").unwrap_or_default();
                    count.starts_with(|digit| ('1'..='9').contains(&digit))
                })
            })
        });
        let stdout = job.interrupt().success();
        let last = stdout.lines().last().expect("output");
        let json: serde_json::Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(json["findings"], 0);
        for port in 0..2 {
            assert!(
                json["ports"][port]["rx_packets"].as_u64() > Some(0),
                "{json}"
            );
        }
    }
}

#[test]
fn an_interrupt_stops_it_cleanly_with_the_final_table() {
    let line = format!("{PAGES} --vdev=model0 -- --forward-mode=txonly --auto-start --stats 1");
    let mut job = Job::start(&mut command(&line), LIMIT);
    job.wait_until("Tx-pps", |job| job.stdout().contains("Tx-pps"));
    let stdout = job.interrupt().success();
    let (_, table) = stdout
        .split_once("Accumulated forward statistics for all ports")
        .unwrap_or_else(|| panic!("no final table in {stdout}"));
    assert!(table.contains("TX-packets: "), "{table}");
}

#[test]
fn command_line_mistakes_name_what_would_be_right() {
    refused("--vdev=model0 -- --forward-mod=txonly --rxqq=2", &["--rxq"]);
    refused("--vdev=model0 -- --no-such-thing", &["--no-such-thing"]);
    refused("--vdev=model0 -- --forward-mode=mc", &["mac"]);
    refused("--vdev=model0,colour=red -- ", &["colour", "mac"]);
    refused("--vdev=model0,link=wire", &["wire", "loop", "pcap", "sink"]);
    refused(
        "--vdev=model0,kernel=4.19",
        &["4.19", "6.12", "7.3", "5.15-azure"],
    );
    refused("--vdev=model0,mac=01:0d:3a:76:3b:d0", &["multicast"]);
}

#[test]
fn devices_that_can_not_be_had_are_named() {
    refused("--vdev=model0,ports=3,link=pair", &["pair"]);
    refused("--vdev=model0,link=pair", &["pair"]);
    refused(
        "--vdev=model0,mac=00:0d:3a:76:3b:d0 --vdev=model1,mac=00:0d:3a:76:3b:d0",
        &["00:0d:3a:76:3b:d0"],
    );
    for kernel in ["6.12", "7.3", "5.15-azure"] {
        let line = format!("{PAGES} --vdev=model0,netdev=up,kernel={kernel} -- --duration 0.1");
        refused(&line, &["UP", "ip link set"]);
    }
}

#[test]
fn queues_and_depths_out_of_range_name_the_range() {
    let model = format!("{PAGES} --vdev=model0 -- --duration 0.1");
    refused(&format!("{model} --rxq=3"), &["power of two"]);
    refused(&format!("{model} --rxq=128"), &["64"]);
    refused(&format!("{model} --txd=32"), &["64"]);
    refused(&format!("{model} --rxd=10000"), &["8192"]);
    refused(&format!("{model} --txd=0"), &["--txd=0"]);
}

#[test]
fn a_pool_that_is_too_small_names_the_number_needed() {
    // 128 + 128 buffers in the rings, 1.5 caches of 250 for each of 2 queues, a burst of 64.
    refused(
        &format!(
            "{PAGES} --vdev=model0 -- --txd=128 --rxd=128 --mbcache=250 --total-num-mbufs=900"
        ),
        &["900", "1070"],
    );
}

#[test]
fn captures_that_can_not_be_read_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cut.pcap");
    let whole = conformance::capture::write(&conformance::packets::mixture(4, 200));
    fs::write(&path, &whole[..whole.len() - 7]).expect("a file");
    let cut = path.display().to_string();
    refused(&format!("--vdev=model0,link=pcap:rx={cut}"), &["cut.pcap"]);
    fs::write(&path, b"no capture at all, but a text").expect("a file");
    refused(&format!("--vdev=model0,link=pcap:rx={cut}"), &["cut.pcap"]);
    refused(
        "--vdev=model0,link=pcap:rx=/nonexistent/x.pcap",
        &["/nonexistent/x.pcap", "No such file"],
    );
}

/// On a machine without MANA; with one, nothing here may touch it.
#[test]
fn a_machine_without_mana_is_told_what_it_lacks() {
    if fs::exists("/sys/class/infiniband").unwrap_or(true) {
        skipped("this machine has ib devices");
        return;
    }
    refused(
        "-l 0-1 --vdev=7870:00:00.0,mac=00:0d:3a:76:3b:d0 -- --duration 0.1",
        &["/sys/class/infiniband", "mana_ib"],
    );
    refused("-l 0-1 -- --duration 0.1", &["mana_ib"]);
}

fn skipped(reason: &str) {
    conformance::skip("a_machine_without_mana_is_told_what_it_lacks", reason);
}
