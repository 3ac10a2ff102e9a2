//! `mana doctor` on this machine as it is, and on large logs.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::{Command, Stdio};

fn doctor(arguments: &[&str]) -> Command {
    let program = std::env::var_os("MANA_BIN")
        .expect("MANA_BIN names no program; `cargo xtask test --tier model` builds and sets it");
    let mut command = Command::new(program);
    command.arg("doctor").args(arguments);
    command
}

#[test]
fn this_machine_is_looked_at_without_a_panic_and_the_exit_code_is_the_worst_line() {
    let output = doctor(&["--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let statuses: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["status"].as_str().unwrap())
        .collect();
    assert!(statuses.len() > 20, "{report}");
    let expected = match () {
        () if statuses.contains(&"fail") => 2,
        () if statuses.contains(&"warning") => 1,
        () => 0,
    };
    assert_eq!(output.status.code(), Some(expected));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_log_of_a_hundred_megabytes_is_read_in_passing() {
    let mut command = doctor(&["--explain"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let noise = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            input.write_all(&noise)?;
        }
        input.write_all(b"\nEAL: FATAL: Cannot get hugepage information.\n")
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("line 2: EAL: FATAL: Cannot get hugepage information.\nhugepages: "),
        "{said}"
    );
    assert!(
        said.lines()
            .any(|line| line.trim_start().starts_with("fix:"))
    );
}

#[test]
fn wrong_words_are_named_with_what_was_probably_meant() {
    for (arguments, part) in [
        (
            &["--explain", "netdev-dwon"][..],
            "did you mean `netdev-down`?",
        ),
        (&["--cores=3-1"], "--cores=3-1: expected numbers"),
        (&["--root=/nowhere/at/all"], "--root=/nowhere/at/all"),
    ] {
        let output = doctor(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(part), "{said}");
    }
}
