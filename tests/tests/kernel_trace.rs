//! What the drivers of both kernels ask the device for, message by message, against what was recorded of them
//! on another device; and the same once more after the device was removed and found again.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Recordings (reference/kernel-in-a-vm.md §6 and §6b) of a life from probe to removal, with a program of
/// verbs between.
const V6_12: &str =
    include_str!("../../crates/mana-model-pci/src/function/tests/recorded/6.12-verbs.txt");
const V7: &str =
    include_str!("../../crates/mana-model-pci/src/function/tests/recorded/7.3-verbs.txt");

/// How long something may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest does: queues by our driver; the device goes and comes; the drivers go.
const SCRIPT: &str = "set -e
there() { [ -d /sys/class/net/eth0 ] && [ -n \"$(ls /sys/class/infiniband)\" ]; }
gone() { ! there && [ ! -d /sys/bus/pci/devices/0000:00:04.0 ]; }
there
mana testpmd -a 0000:00:04.0 -- -i --rxq=2 --txq=1 </dev/null >/tmp/testpmd
echo 1 >/sys/bus/pci/devices/0000:00:04.0/remove
until gone; do sleep 0.1; done
[ -z \"$(ls /sys/class/net | grep eth)$(ls /sys/class/infiniband)\" ]
echo 1 >/sys/bus/pci/rescan
until there; do sleep 0.1; done
rmmod mana_ib
rmmod mana
echo done";

/// A line of a trace without what differs from run to run: type, name, versions, lengths, device. None for
/// the statistics that Linux 7 asks for by the clock, every two seconds.
fn shape(line: &str) -> Option<String> {
    let words: Vec<&str> = line.strip_prefix("HWC ")?.split_whitespace().collect();
    if words[1] == "MANA_QUERY_GF_STAT" {
        return None;
    }
    Some([0, 1, 2, 4, 6, 8].map(|at| words[at]).join(" "))
}

/// What a life is made of: the shapes up to the first context of verbs, those of its program, and those
/// from the device's last address on.
fn life(lines: &[String]) -> (&[String], &[String], &[String]) {
    let is = |line: &String, name: &str| line.contains(name);
    let context = |line: &String| is(line, "ALLOCATE_RESOURCE_RANGE");
    let first = lines.iter().position(context).unwrap_or(lines.len());
    let (probe, rest) = lines.split_at(first);
    // Linux 7.3 has verbs of its own to take down before its address.
    let end = |line: &String| is(line, "DESTROY_RESOURCE_RANGE");
    let last = rest.iter().rposition(end).map_or(0, |at| at + 1);
    let (program, removal) = rest.split_at(last);
    (probe, program, removal)
}

/// The messages of a program whose lengths are not its own buffers'.
fn kinds(program: &[String]) -> BTreeSet<&str> {
    let own = |line: &&str| line.contains("DMA_REGION");
    program
        .iter()
        .map(String::as_str)
        .filter(|line| !own(line))
        .collect()
}

fn sorted(lines: &[String]) -> Vec<&String> {
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort();
    lines
}

/// Lives of a trace: each begins with the channel.
fn lives(trace: &str) -> Vec<Vec<String>> {
    let mut lives: Vec<Vec<String>> = Vec::new();
    for line in trace.lines() {
        match line.starts_with("SMC ESTABLISH_HWC") {
            true => lives.push(Vec::new()),
            false => {
                if let (Some(life), Some(shape)) = (lives.last_mut(), shape(line)) {
                    life.push(shape);
                }
            }
        }
    }
    lives
}

fn drivers_talk_as_recorded(test: &str, kernel: &str, recorded: &str) {
    if let Ok(reason) = env::var("MANA_KERNEL_SKIP") {
        return conformance::skip(test, &reason);
    }
    let variable = |name: &str| {
        env::var_os(name).expect("`cargo xtask test --tier kernel` builds it and sets it")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mut server = Server(
        Command::new(variable("MANA_BIN"))
            .args(["model", "serve", "--vdev", "model0,ports=1,link=loop"])
            .arg("--socket")
            .arg(at("socket"))
            .arg("--log")
            .arg(at("log"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the device"),
    );
    let until = Instant::now() + PATIENCE;
    while !at("socket").exists() {
        assert_eq!(server.0.try_wait().expect("ours"), None, "it ended");
        assert!(Instant::now() < until, "no socket in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let mut vm = Command::new(variable("MANA_XTASK"));
    vm.args(["vm", "--kernel", kernel, "--mana"])
        .arg(variable("MANA_BIN"));
    vm.arg("--socket").arg(at("socket"));
    vm.args(["--", "sh", "-c", SCRIPT]);
    let Output {
        status,
        stdout,
        stderr,
    } = vm.output().expect("xtask starts");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&stdout), "done\n", "{errors}");
    drop(server);
    let trace = fs::read_to_string(at("log")).expect("the trace");
    let recorded: Vec<String> = recorded.lines().filter_map(shape).collect();
    let (probe, program, removal) = life(&recorded);
    assert!(probe.len() >= 25 && program.len() >= 30 && removal.len() >= 10);
    let lives = lives(&trace);
    assert_eq!(lives.len(), 2, "{trace}");
    for (number, seen) in lives.iter().enumerate() {
        let (seen_probe, seen_program, seen_removal) = match number {
            0 => life(seen),
            // Without a program.
            _ => {
                let (probe, removal) = seen.split_at(probe.len().min(seen.len()));
                (probe, &[][..], removal)
            }
        };
        match number {
            0 => assert_eq!(seen_probe, probe),
            // Drivers that are there already begin with their parts of the device at once, in any order.
            _ => assert_eq!(sorted(seen_probe), sorted(probe), "when it came again"),
        }
        assert_eq!(seen_removal, removal, "life {number}");
        if number == 0 {
            let (seen, recorded) = (kinds(seen_program), kinds(program));
            let differ: Vec<_> = seen.symmetric_difference(&recorded).collect();
            assert!(differ.is_empty(), "seen or recorded only: {differ:?}");
        }
    }
}

/// Killed with this value, after it wrote its trace to the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ended = self.0.wait();
    }
}

#[test]
fn linux_6_12_talks_as_recorded_and_so_after_the_device_was_gone() {
    let test = "linux_6_12_talks_as_recorded_and_so_after_the_device_was_gone";
    drivers_talk_as_recorded(test, "6.12", V6_12);
}

#[test]
fn linux_7_talks_as_recorded_and_so_after_the_device_was_gone() {
    let test = "linux_7_talks_as_recorded_and_so_after_the_device_was_gone";
    drivers_talk_as_recorded(test, "7.x", V7);
}
