//! `mana conformance` as a child: what it runs, what it says, and how it ends.

#![forbid(unsafe_code)]

use std::process::{Command, Output};

use serde_json::Value;

fn conformance(line: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mana"))
        .arg("conformance")
        .args(line.split_whitespace())
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("mana starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn json(line: &str) -> (i32, Value) {
    let (code, stdout, stderr) = conformance(&format!("{line} --json"));
    let value = serde_json::from_str(&stdout);
    (
        code,
        value.unwrap_or_else(|error| panic!("{error} in {stdout}, {stderr}")),
    )
}

/// The results of the suites by name.
fn results(whole: &Value) -> Vec<(&str, &str, &str)> {
    let suites = whole["suites"].as_array().expect("an array").iter();
    suites
        .map(|suite| {
            let text = |key: &str| suite[key].as_str().unwrap_or_default();
            (text("name"), text("result"), text("reason"))
        })
        .collect()
}

#[test]
fn every_suite_is_listed_with_what_it_proves_and_passes_on_a_model() {
    let (code, listed, _) = conformance("--list --json");
    assert_eq!(code, 0);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let listed = listed["suites"].as_array().unwrap();
    // Other kernels' turn is in the tests of the suites themselves.
    let (code, whole) = json("--vdev=model0,kernel=7.3");
    assert_eq!(code, 0, "{whole}");
    let results = results(&whole);
    assert_eq!(whole["passed"], results.len());
    assert_eq!(results.len(), listed.len());
    for ((name, result, reason), listed) in results.into_iter().zip(listed) {
        assert_eq!(listed["name"], name);
        assert!(listed["proves"].as_str().unwrap().len() > 20, "{name}");
        assert_eq!((result, reason), ("passed", ""), "{name}");
    }
    assert_eq!(whole["provider"], "uverbs");
}

#[test]
fn a_suite_that_fails_is_told_with_its_message_and_leaves_the_next_a_clean_start() {
    // Frames of 9000 bytes do not fit, and only one suite of these three sends them.
    let line = "--vdev=model0,adapter-mtu=1514 --suite smoke --suite loopback --suite ring_laps";
    let (code, whole) = json(line);
    assert_eq!(code, 1, "{whole}");
    let [smoke, loopback, ring_laps] = results(&whole)[..] else {
        panic!("{whole}");
    };
    assert_eq!(smoke, ("smoke", "passed", ""));
    assert_eq!(ring_laps, ("ring_laps", "passed", ""));
    assert_eq!((loopback.0, loopback.1), ("loopback", "failed"));
    assert!(loopback.2.contains("panicked at"), "{}", loopback.2);
    assert!(loopback.2.contains("packets received"), "{}", loopback.2);
    assert_eq!(
        (&whole["passed"], &whole["failed"], &whole["skipped"]),
        (&2.into(), &1.into(), &0.into())
    );
}

#[test]
fn a_port_that_does_not_start_fails_every_suite_and_names_the_fix() {
    let (code, stdout, _) = conformance("--vdev=model0,netdev=up --suite smoke --suite vlan");
    assert_eq!(code, 1, "{stdout}");
    assert_eq!(stdout.matches("failed  ").count(), 2, "{stdout}");
    assert!(stdout.contains("ip link set"), "{stdout}");
    assert!(
        stdout.ends_with("0 passed, 2 failed, 0 skipped\n"),
        "{stdout}"
    );
}

#[test]
fn a_suite_that_takes_too_long_is_ended_and_counted_as_failed() {
    let (code, whole) = json("--suite rss --timeout=0");
    assert_eq!(code, 1, "{whole}");
    let (_, result, reason) = results(&whole)[0];
    assert_eq!(result, "failed");
    assert!(reason.contains("still ran after 0 seconds"), "{reason}");
}

#[test]
fn without_a_device_of_hardware_what_could_run_fails_and_the_rest_is_skipped_with_its_reason() {
    let (code, whole) = json("-a 7fff:00:00.0,mac=00:0d:3a:00:00:77");
    assert_eq!(code, 1, "{whole}");
    for (name, result, reason) in results(&whole) {
        match name {
            "smoke" | "send_only" | "restart" => assert_eq!(result, "failed", "{name}"),
            "loopback" | "ring_laps" | "tx_multi_segment" | "rx_wakeup" => {
                assert_eq!(result, "skipped", "{name}");
                assert!(reason.contains("--wire=loop"), "{name}: {reason}");
            }
            _ if name.starts_with("kernel_") => {
                assert_eq!(result, "skipped", "{name}");
                let wired = reason.contains("--wire=loop");
                assert!(wired || reason.contains("--steer"), "{name}: {reason}");
            }
            _ => {
                assert_eq!(result, "skipped", "{name}");
                assert!(reason.contains("device model"), "{name}: {reason}");
            }
        }
    }
}

#[test]
fn tap_has_its_version_its_plan_and_a_point_a_suite() {
    let (code, stdout, _) = conformance("--tap --suite smoke --suite vlan");
    assert_eq!(code, 0);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["TAP version 13", "1..2"]);
    assert!(
        lines.contains(&"ok 1 - smoke") && lines.contains(&"ok 2 - vlan"),
        "{stdout}"
    );
    let (code, stdout, _) = conformance("-a 7fff:00:00.0 --tap --suite rss");
    assert_eq!(code, 0);
    assert!(
        stdout.contains("ok 1 - rss # SKIP needs a device model"),
        "{stdout}"
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for (line, part) in [
        ("--suite=smoky", "there is no suite `smoky`"),
        ("--vdev=model0,link=gen", "leave link= out"),
        ("--vdev=modl0", "modelN"),
        ("--jsn", "--json"),
        ("-a model0", "--vdev=model0"),
    ] {
        let (code, _, stderr) = conformance(line);
        assert_eq!(code, 2, "{line}: {stderr}");
        assert!(stderr.contains(part), "{line}: {stderr}");
    }
}
