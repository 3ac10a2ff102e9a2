//! Network namespaces of the tests' own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Counters, Host, Tools};
use crate::job::{Ended, Job};

/// How names of namespaces begin; the process's id and a number follow.
const PREFIX: &str = "mana-";
/// How long a program without a limit of its own may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A network namespace, removed with this value.
pub struct Namespace {
    name: String,
    tools: Tools,
}

impl Namespace {
    pub(super) fn new(host: &Host) -> Result<Self, String> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), super::next());
        let tools = host.tools.clone();
        let added = run(&tools, &format!("ip netns add {name}"));
        if added.code != Some(0) {
            return Err(added.stderr.trim().to_owned());
        }
        let namespace = Self { name, tools };
        // The first that needs CAP_NET_ADMIN, which root in a container may lack.
        let up = namespace.run("ip link set lo up");
        if up.code != Some(0) {
            return Err(up.stderr.trim().to_owned());
        }
        // Nothing speaks on a new interface before the test does.
        for (setting, value) in [
            ("ipv6/conf/default/accept_ra", 0),
            ("ipv6/conf/default/router_solicitations", 0),
            ("ipv6/conf/default/addr_gen_mode", 1),
            ("ipv6/conf/default/accept_dad", 0),
        ] {
            let tee = namespace.setting(setting, value);
            if tee.code != Some(0) {
                return Err(tee.stderr.trim().to_owned());
            }
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command line of the tree's programs that runs in here.
    #[must_use]
    pub fn command(&self, line: &str) -> Command {
        self.enter(&self.tools.words(line))
    }

    /// Any program in here.
    #[must_use]
    pub fn program(&self, path: &Path, arguments: &str) -> Command {
        let mut words = vec![path.into()];
        words.extend(arguments.split_whitespace().map(Into::into));
        self.enter(&words)
    }

    fn enter(&self, words: &[std::ffi::OsString]) -> Command {
        let enter = self.tools.words(&format!("ip netns exec {}", self.name));
        self.tools.bound(&[&enter[..], words].concat())
    }

    /// Starts a command line that may run as long as `limit`.
    #[must_use]
    pub fn start(&self, line: &str, limit: Duration) -> Job {
        Job::start(&mut self.command(line), limit)
    }

    /// Runs a command line to its end.
    #[must_use]
    #[track_caller]
    pub fn run(&self, line: &str) -> Ended {
        self.start(line, LIMIT).end()
    }

    /// Runs `ip` in here.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn ip(&self, line: &str) {
        let _ = self.run(&format!("ip {line}")).success();
    }

    /// Sets what `/proc/sys/net/` says in here.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[track_caller]
    pub fn set(&self, setting: &str, value: u32) {
        let _ = self.setting(setting, value).success();
    }

    fn setting(&self, setting: &str, value: u32) -> Ended {
        let mut tee = self.start(&format!("tee /proc/sys/net/{setting}"), LIMIT);
        tee.write(value.to_string().as_bytes());
        tee.end()
    }

    /// Gives an interface the MAC `02:00:00:00:00:HOST`, this MTU and the addresses `192.0.2.HOST` and
    /// `2001:db8::HOST`, and sets it up.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn configure(&self, interface: &str, host: u8, mtu: u32) {
        self.ip(&format!(
            "link set {interface} address 02:00:00:00:00:{host:02x} mtu {mtu} up"
        ));
        self.ip(&format!("addr add 192.0.2.{host}/24 dev {interface}"));
        let six = format!("addr add 2001:db8::{host}/64 dev {interface} nodad");
        self.ip(&six);
    }

    /// Whether there is an interface of that name in here.
    #[must_use]
    pub fn has(&self, interface: &str) -> bool {
        self.run(&format!("ip link show dev {interface}")).code == Some(0)
    }

    /// The kernel's counters of protocols in here.
    #[must_use]
    #[track_caller]
    pub fn counters(&self) -> Counters {
        Counters::parse(
            &self
                .run("nstat --ignore --zeros --noupdate --json")
                .success(),
        )
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.tools, &self.name);
    }
}

/// Removes a namespace; what still runs in it is killed, or it would keep it alive.
fn remove(tools: &Tools, name: &str) {
    for process in run(tools, &format!("ip netns pids {name}")).stdout.lines() {
        if let Some(process) = process
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
    let _ = run(tools, &format!("ip netns del {name}"));
}

/// Removes the namespaces of processes that could not do it themselves.
pub(super) fn remove_leftovers(tools: &Tools) {
    let list = run(tools, "ip netns list").stdout;
    for name in list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !fs::exists(format!("/proc/{id}")).unwrap_or(true)) {
            remove(tools, name);
        }
    }
}

pub(super) fn run(tools: &Tools, line: &str) -> Ended {
    Job::start(&mut tools.command(line), LIMIT).end()
}
