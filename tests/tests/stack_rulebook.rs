//! The kernel's rules as the preloaded model has them: what comes of every operation by the ioctl is
//! what comes of it in process.

#![forbid(unsafe_code)]

use std::env;
use std::process::Command;
use std::time::Duration;

use conformance::host::Job;
use conformance::skip;

/// What one recording may take.
const LIMIT: Duration = Duration::from_secs(60);
const PCI: &str = "7870:00:00.0";

fn record(command: &mut Command) -> String {
    Job::start(command, LIMIT).end().success()
}

fn same_rules(test: &str, kernel: &str) {
    let (Some(mana), Some(_)) = (env::var_os("MANA_BIN"), env::var_os("MANA_PRELOAD")) else {
        let reason = "MANA_BIN and MANA_PRELOAD are not set: `cargo xtask test --tier stack`";
        return skip(test, reason);
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("control");
    let device = format!("--vdev=model0,kernel={kernel},ports=2,pci={PCI}");
    let in_process = record(Command::new(&mana).args(["conformance", "--rulebook", &device]));
    let mut preloaded = Command::new(&mana);
    preloaded
        .args(["model", "exec", &device, "--control"])
        .arg(&socket);
    preloaded
        .arg("--")
        .arg(&mana)
        .args(["conformance", "--rulebook", "-a", PCI, "--socket"]);
    let preloaded = record(preloaded.arg(&socket));
    for (ours, theirs) in in_process.lines().zip(preloaded.lines()) {
        assert_eq!(theirs, ours);
    }
    assert_eq!(preloaded.lines().count(), in_process.lines().count());
    assert!(in_process.lines().count() > 400, "{in_process}");
    assert!(!in_process.contains("not tried"), "{in_process}");
}

#[test]
fn the_preloaded_model_has_the_rules_of_the_one_in_process_on_6_12() {
    same_rules("rules of 6.12", "6.12");
}

#[test]
fn the_preloaded_model_has_the_rules_of_the_one_in_process_on_7_3() {
    same_rules("rules of 7.3", "7.3");
}
