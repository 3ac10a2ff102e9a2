//! Debian's dpdk-telemetry.py, unmodified, finds and reads ours as it does DPDK's own testpmd.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use conformance::host::Job;
use conformance::stack::{Column, Stack};
use serde_json::Value;

const ASKED: [&str; 8] = [
    "/ethdev/list",
    "/ethdev/stats,0",
    "/ethdev/xstats,0",
    "/ethdev/info,0",
    "/ethdev/link_status,0",
    "/eal/app_params",
    "/info",
    "/help,/ethdev/list",
];

/// Whether this machine has the script's interpreter.
fn has_python() -> bool {
    let python = Command::new("/usr/bin/env")
        .args(["python3", "-c", "import readline"])
        .stderr(Stdio::null())
        .status();
    python.is_ok_and(|status| status.success())
}

/// Runs the script on a folder of sockets; what it prints, by command.
fn script(stack: &Stack, folder: &Path) -> BTreeMap<String, Value> {
    let script = stack.dpdk.root().join("usr/bin/dpdk-telemetry.py");
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("python3")
        .arg(script)
        .args(["-f", "tel"])
        .env("RUNTIME_DIRECTORY", folder);
    let mut job = Job::start(&mut command, Duration::from_secs(60));
    let lines: String = ASKED.iter().map(|line| format!("{line}\n")).collect();
    job.write(format!("{lines}quit\n").as_bytes());
    let text = job.end().success();
    let mut all = BTreeMap::new();
    // What is no JSON says that nobody serves the socket yet.
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let value: BTreeMap<String, Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"));
        all.extend(value);
    }
    all
}

/// Its answers about a column's testpmd.
fn answers(stack: &Stack, column: Column) -> BTreeMap<String, Value> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut words = match column {
        Column::DpdkRdmaCore56 => {
            let mut words = stack.dpdk.testpmd();
            words.extend(["-m", "256", "--no-huge"].map(Into::into));
            words
        }
        _ => stack.testpmd(column),
    };
    let line = "-l 0-1 --file-prefix=tel -a 7870:00:00.0 -- --total-num-mbufs=8192 --rxq=2 --txq=2";
    words.extend(line.split_whitespace().map(Into::into));
    if column.is_ours() {
        words.extend(["--duration", "60"].map(Into::into));
    }
    let options = ["--vdev=model0".to_owned()];
    let mut command = stack.exec(&options, &words, folder.path());
    command.env("RUNTIME_DIRECTORY", folder.path());
    let mut job = Job::start(&mut command, Duration::from_secs(60));
    // Its standard output comes in blocks, too late to wait for.
    let mut found = BTreeMap::new();
    job.wait_until("a started port", |_| {
        found = script(stack, folder.path());
        let info = found.get("/ethdev/info");
        info.is_some_and(|info| info["dev_started"] == 1)
    });
    let ended = if column.is_ours() {
        job.interrupt()
    } else {
        job.write(b"\n");
        job.end()
    };
    // The driver in C always breaks a rule of the hardware, which is code 3.
    let good = ended.code == Some(0) || !column.is_ours() && ended.code == Some(3);
    assert!(good, "{ended}");
    found
}

fn keys(value: &Value) -> Vec<&String> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    object.keys().collect()
}

#[test]
fn dpdk_telemetry_py_reads_ours_as_dpdks_own() {
    let test = "dpdk_telemetry_py_reads_ours_as_dpdks_own";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    if !has_python() {
        conformance::skip(test, "this machine has no python3 with readline");
        return;
    }
    let dpdk = answers(&stack, Column::DpdkRdmaCore56);
    let ours = answers(&stack, Column::OursUverbs);
    let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&dpdk));
    assert_eq!(ours["/ethdev/list"], dpdk["/ethdev/list"]);
    assert_eq!(keys(&ours["/ethdev/stats"]), keys(&dpdk["/ethdev/stats"]));
    for (name, value) in dpdk["/ethdev/stats"].as_object().expect("a map") {
        let length = |value: &Value| value.as_array().map(Vec::len);
        assert_eq!(
            length(&ours["/ethdev/stats"][name]),
            length(value),
            "{name}"
        );
    }
    // Ours has more of them, but none of DPDK's is missing.
    for name in keys(&dpdk["/ethdev/xstats"]) {
        assert!(ours["/ethdev/xstats"][name].is_u64(), "{name}");
    }
    for field in [
        "name",
        "nb_rx_queues",
        "nb_tx_queues",
        "port_id",
        "mtu",
        "mac_addr",
        "rx_mbuf_size_min",
        "promiscuous",
        "scattered_rx",
        "all_multicast",
        "dev_started",
        "dev_configured",
        "rxq_state",
        "txq_state",
        "lro",
        "dev_flags",
    ] {
        assert_eq!(
            ours["/ethdev/info"][field], dpdk["/ethdev/info"][field],
            "{field}"
        );
    }
    let link = |all: &BTreeMap<String, Value>| all["/ethdev/link_status"].clone();
    assert_eq!(keys(&link(&ours)), keys(&link(&dpdk)));
    assert_eq!(link(&ours)["status"], link(&dpdk)["status"]);
    assert_eq!(keys(&ours["/info"]), keys(&dpdk["/info"]));
    let words = ours["/eal/app_params"].as_array().expect("words");
    assert!(words.contains(&"--rxq=2".into()), "{words:?}");
}
