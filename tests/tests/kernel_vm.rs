//! `cargo xtask vm` itself: what a guest's command tells, how a guest ends, and that nothing is left of it.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Exit status of a run that has none of its command's.
const FAILED: i32 = 125;
/// How long something may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// `cargo xtask vm` with these words, or none where `test` can't run; then it is reported as skipped.
fn vm(test: &str, words: &[&str]) -> Option<Command> {
    let mut command = conformance::vm::command(test)?;
    command.args(words);
    Some(command)
}

fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("xtask starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn output_errors_and_exit_status_are_the_commands_own() {
    let script = "printf 'one\\ntwo'; echo wrong >&2; cat /given; id -u; exit 7";
    let given = tempfile::NamedTempFile::new().expect("a file");
    fs::write(given.path(), "given\n").expect("it can be written");
    let file = format!("{}=/given", given.path().display());
    let words = ["--no-device", "--file", &file, "--", "sh", "-c", script];
    let Some(mut vm) = vm("output_errors_and_exit_status_are_the_commands_own", &words) else {
        return;
    };
    let (code, stdout, stderr) = ended(&mut vm);
    assert_eq!(code, Some(7), "{stderr}");
    assert_eq!(stdout, "one\ntwogiven\n0\n");
    assert!(stderr.starts_with("wrong\n"), "{stderr}");
}

/// A device of somebody else's and a third kernel, of Debian 12, which has no `mana_ib`; and a guest as
/// every other beside it, at the same time.
#[test]
fn two_guests_run_at_once_one_on_a_device_served_elsewhere_and_a_third_kernel() {
    let test = "two_guests_run_at_once_one_on_a_device_served_elsewhere_and_a_third_kernel";
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("a device");
    let path = socket.to_str().expect("text");
    let script = "uname -r; cat /sys/class/net/*/address; ls /sys/class/infiniband
        ip link set eth0 up; ip link set eth1 up; ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:09 dev eth0
        ip address add 192.0.2.1/24 dev eth0; ping -c 3 -W 1 192.0.2.2 >/dev/null
        ethtool -S eth1 | grep -q 'rx_0_packets: [1-9]' && echo 'the other port hears'";
    let elsewhere = [
        "--socket", path, "--kernel", "6.1", "--", "sh", "-c", script,
    ];
    let Some(mut here) = vm(test, &["--", "sh", "-c", "cat /sys/class/net/*/address"]) else {
        return;
    };
    if let Ok(reason) = env::var("MANA_KERNEL_6_1_SKIP") {
        return conformance::skip(test, &reason);
    }
    let device = "model0,mac=00:0d:3a:11:22:33,mac=00:0d:3a:11:22:34,link=pair";
    let mut server = Command::new(env::var_os("MANA_BIN").expect("it is set"))
        .args(["model", "serve", "--vdev", device, "--socket", path])
        .stdout(Stdio::null())
        .spawn()
        .expect("the device");
    wait_until(&mut server, || socket.exists());
    let here = thread::spawn(move || ended(&mut here));
    let (code, stdout, stderr) = ended(&mut vm(test, &elsewhere).expect("as before"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("6.1."), "{stdout}");
    let (_, rest) = stdout.split_once('\n').expect("lines");
    assert_eq!(
        rest, "00:0d:3a:11:22:33\n00:0d:3a:11:22:34\n00:00:00:00:00:00\nthe other port hears\n",
        "{stderr}"
    );
    assert!(stderr.contains("has no module mana_ib"), "{stderr}");
    let (code, stdout, stderr) = here.join().expect("a thread");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("00:0d:3a:00:00:00\n"), "{stdout}");
    assert_eq!(server.try_wait().expect("it is ours"), None, "it stays");
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("an id"), Signal::TERM).expect("it runs");
    let status = server.wait().expect("it ends");
    assert!(status.success(), "without findings: {status}");
}

/// Behind a mirror that has nothing: there is no guest, and nothing that looks like one.
#[test]
fn packages_that_can_not_be_had_are_named() {
    let Some(mut vm) = vm("packages_that_can_not_be_had_are_named", &["--", "true"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let apt = folder.path().join("apt-get");
    fs::write(&apt, "#!/bin/sh\necho 'E: no such mirror' >&2\nexit 100\n").expect("a program");
    fs::set_permissions(&apt, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = env::var("PATH").expect("there is one");
    vm.env("PATH", format!("{}:{path}", folder.path().display()));
    vm.env("CARGO_TARGET_DIR", folder.path().join("target"));
    let (code, stdout, stderr) = ended(&mut vm);
    assert_eq!((code, stdout.as_str()), (Some(FAILED), ""), "{stderr}");
    for text in ["qemu-system-x86", "no such mirror", "apt-get -c", "failed"] {
        assert!(stderr.contains(text), "{text}: {stderr}");
    }
}

#[test]
fn a_device_that_nobody_serves_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("it can be written");
    let missing = folder.path().join("missing");
    // A server that was killed leaves one at which nobody listens.
    let stale = folder.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    for (path, expected) in [
        (file, "no socket"),
        (missing, "No such file"),
        (stale, "Connection refused"),
    ] {
        let words = ["--socket", path.to_str().expect("text"), "--", "true"];
        let Some(mut vm) = vm("a_device_that_nobody_serves_is_told", &words) else {
            return;
        };
        let (code, _, stderr) = ended(&mut vm);
        assert_eq!(code, Some(FAILED), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn a_complaint_of_the_kernel_is_no_success() {
    let script = "echo 'WARNING: made up by a test' >/dev/kmsg";
    let words = ["--no-device", "--no-modules", "--", "sh", "-c", script];
    let Some(mut vm) = vm("a_complaint_of_the_kernel_is_no_success", &words) else {
        return;
    };
    let (code, _, stderr) = ended(&mut vm);
    assert_eq!(code, Some(FAILED), "{stderr}");
    assert!(
        stderr.contains("complains") && stderr.contains("WARNING: made up"),
        "{stderr}"
    );
}

#[test]
fn a_guest_that_takes_too_long_is_ended() {
    let words = ["--no-device", "--seconds", "1", "--", "sleep", "1000"];
    let Some(mut vm) = vm("a_guest_that_takes_too_long_is_ended", &words) else {
        return;
    };
    let (code, _, stderr) = ended(&mut vm);
    assert_eq!(code, Some(FAILED), "{stderr}");
    assert!(stderr.contains("still ran after 1 seconds"), "{stderr}");
}

#[test]
fn a_device_that_cannot_be_served_is_told() {
    let words = ["--vdev", "model0,link=nonsense", "--", "true"];
    let Some(mut vm) = vm("a_device_that_cannot_be_served_is_told", &words) else {
        return;
    };
    let (code, _, stderr) = ended(&mut vm);
    assert_eq!(code, Some(FAILED), "{stderr}");
    assert!(
        stderr.contains("cannot be served") && stderr.contains("nonsense"),
        "{stderr}"
    );
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let words = [
        "--file",
        "/nonexistent/program=/bin/program",
        "--no-device",
        "--",
        "true",
    ];
    let Some(mut vm) = vm("a_program_that_is_not_there_is_told", &words) else {
        return;
    };
    let (code, _, stderr) = ended(&mut vm);
    assert_eq!(code, Some(FAILED), "{stderr}");
    assert!(
        stderr.contains("/nonexistent/program: No such file"),
        "{stderr}"
    );
}

/// A target directory whose path is longer than a socket's may be.
#[test]
fn a_long_path_and_signals_leave_nothing_behind() {
    let script = "echo started; exec sleep 1000";
    let words = ["--", "sh", "-c", script];
    let Some(vm) = vm("a_long_path_and_signals_leave_nothing_behind", &words) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let long = folder
        .path()
        .join("a-name-of-forty-bytes-and-no-more-than-it".repeat(3));
    symlink(target(), &long).expect("a link");
    let mut vm = vm;
    vm.env("CARGO_TARGET_DIR", &long);
    for signal in [Signal::INT, Signal::KILL] {
        let child = vm.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("xtask starts");
        let id = child.id();
        let run = target().join("vm").join(id.to_string());
        wait_until(&mut child, || {
            fs::read_to_string(run.join("stdout")).is_ok_and(|text| text == "started\n")
        });
        let children = children(id);
        assert!(children.len() >= 2, "QEMU and the device: {children:?}");
        let pid = i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .expect("an id");
        kill_process(pid, signal).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        let there = |id: &u32| Path::new("/proc").join(id.to_string()).exists();
        if signal == Signal::KILL {
            // They see for themselves that it is gone; the next run tidies up.
            let until = Instant::now() + PATIENCE;
            while children.iter().any(there) {
                assert!(Instant::now() < until, "of {children:?} some are left");
                thread::sleep(Duration::from_millis(20));
            }
            continue;
        }
        assert_eq!(output.status.code(), Some(FAILED));
        assert!(!children.iter().any(there), "of {children:?} some are left");
        let left: Vec<_> = fs::read_dir(&run).expect("the logs").flatten().collect();
        assert!(
            left.iter().all(|entry| is_log(&entry.file_name())),
            "{left:?}"
        );
    }
}

/// Where cargo builds.
fn target() -> PathBuf {
    let xtask = PathBuf::from(env::var_os("MANA_XTASK").expect("it is set"));
    let folder = xtask.ancestors().nth(2);
    folder.expect("a folder of a profile in it").to_owned()
}

fn is_log(name: &OsStr) -> bool {
    [
        "console.log",
        "control",
        "kernel.log",
        "model.log",
        "qemu.log",
        "stderr",
        "stdout",
    ]
    .iter()
    .any(|log| name == *log)
}

fn wait_until(child: &mut Child, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert_eq!(child.try_wait().expect("it is ours"), None, "xtask ended");
        assert!(Instant::now() < until, "not in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that this one has started.
fn children(id: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("procfs").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == id.to_string())
    })
    .collect()
}
