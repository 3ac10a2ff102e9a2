//! `mana model serve` as a child: how it begins, what it says, how it is steered, and how it ends.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn mana() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mana"));
    command.arg("model").stdin(Stdio::null());
    command
}

/// A server that listens. Killed with this value.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(folder: &Path, line: &str) -> Self {
        let child = mana()
            .arg("serve")
            .args(line.split_whitespace())
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("mana starts");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("is served on"), "{said}");
        Self { child, stderr }
    }

    /// Signals it; its exit code and what else it said.
    fn end(mut self, signal: Signal) -> (i32, String) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn run(folder: &Path, line: &str) -> (i32, String, String) {
    let output = mana()
        .args(line.split_whitespace())
        .current_dir(folder)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("mana starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn it_listens_until_a_signal_and_takes_its_sockets_along() {
    let folder = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let server = Server::start(
            folder.path(),
            "--socket=s --control=c --vdev model0,ports=2,link=pair --log=log",
        );
        let (code, said, _) = run(folder.path(), "control c state");
        assert_eq!(code, 0);
        assert!(
            said.starts_with("client no\nestablished no\nempty yes\n"),
            "{said}"
        );
        assert_eq!(server.end(signal), (0, String::new()));
        assert!(!folder.path().join("s").exists() && !folder.path().join("c").exists());
    }
    assert_eq!(fs::read_to_string(folder.path().join("log")).unwrap(), "");
}

#[test]
fn it_ends_beside_a_client_that_stays_connected() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "--socket=s");
    let _client = UnixStream::connect(folder.path().join("s")).unwrap();
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[test]
fn commands_that_can_not_be_run_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), "--socket=s --control=c");
    for (command, why) in [
        ("reset-request", "no driver has set the hardware channel up"),
        (
            "counters 1",
            "the model has no port 1: they are counted from 0 to 0",
        ),
        ("netdev 0 up", "concerns a kernel, which this model has not"),
        ("event x", "expected a number, not `x`"),
        ("event 256", "expected a number, not `256`"),
        ("nonsense", "unknown command"),
    ] {
        let (code, _, said) = run(folder.path(), &format!("control c {command}"));
        assert_eq!(code, 1, "{command}: {said}");
        assert!(said.contains(why), "{command}: {said}");
    }
    let (code, said, _) = run(folder.path(), "control c help");
    assert_eq!(code, 0);
    assert!(said.contains("reset-request"), "{said}");
}

#[test]
fn what_is_in_the_way_is_named_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), "--socket=s --control=c");
    fs::write(folder.path().join("file"), "text").unwrap();
    for (line, exit, why) in [
        ("serve", 2, "serve needs --socket=PATH"),
        (
            "serve --socket=s",
            1,
            "s: another model listens on this socket: name a free path",
        ),
        ("serve --socket=file", 1, "file: exists and is no socket"),
        (
            "serve --socket=x --control=c",
            1,
            "c: another model listens on this socket",
        ),
        (
            "serve --socket=x --log=no/log",
            1,
            "--log=no/log: No such file",
        ),
        ("serve --socket=x --vdev=model0,ports=99", 1, "1 to 16"),
        ("serve --socket=x --vdev=model0,link=pair", 1, "pair"),
    ] {
        let (code, _, said) = run(folder.path(), line);
        assert_eq!(code, exit, "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
        assert!(!folder.path().join("x").exists(), "{line}");
    }
    // One that a killed server has left.
    drop(UnixListener::bind(folder.path().join("stale")).unwrap());
    assert_eq!(
        Server::start(folder.path(), "--socket=stale")
            .end(Signal::TERM)
            .0,
        0
    );
}
