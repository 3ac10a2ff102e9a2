//! Tests that run inside a guest of `cargo xtask vm`, with the unmodified drivers of Debian's kernel on
//! the device that `mana model serve` plays: whole test programs (`guest_*`), which the tier `kernel` puts into
//! one guest of each kernel.
//!
//! [`Guest::or_skip`] begins every test: anywhere else they would unload the machine's drivers.

mod dpdk;
mod pair;
mod tcp;
mod testpmd;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub use dpdk::Dpdk;
pub use pair::{Pair, Side};
pub use tcp::{V4, V6, between, exchange};
pub use testpmd::Testpmd;
pub use trace::{Packet, Trace};

/// Set in guests only.
const INSIDE: &str = "MANA_GUEST";
/// Where the device is.
pub const ADDRESS: &str = "0000:00:04.0";
/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The guest, all of it this test's.
pub struct Guest {
    /// `6.12.117+deb13-cloud-amd64`.
    pub release: String,
}

impl Guest {
    /// The guest in the state it booted to: drivers loaded, netdevs down in the first namespace, MTU
    /// 1500, all offloads on. None anywhere else; then `test` is reported as skipped.
    ///
    /// # Panics
    ///
    /// If that state can't be reached.
    #[must_use]
    #[track_caller]
    pub fn or_skip(test: &str) -> Option<Self> {
        if std::env::var_os(INSIDE).is_none() {
            crate::skip(test, "runs in a guest: `cargo xtask test --tier kernel`");
            return None;
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
        let guest = Self {
            release: release.trim().to_owned(),
        };
        run("modprobe -a mana mana_ib ib_uverbs");
        for netdev in guest.netdevs() {
            run(&format!(
                "ip address flush dev {netdev} && ip link set {netdev} down mtu 1500 && \
                 ethtool -K {netdev} tx on rx on tso on gso on"
            ));
        }
        Some(guest)
    }

    /// Whether the kernel is older than 7.
    #[must_use]
    pub fn is_6(&self) -> bool {
        self.release.starts_with("6.")
    }

    /// The netdevs of the device, by port.
    #[must_use]
    pub fn netdevs(&self) -> Vec<String> {
        let mut ports = BTreeMap::new();
        for name in names(&format!("/sys/bus/pci/devices/{ADDRESS}/net")) {
            let port = fs::read_to_string(format!("/sys/class/net/{name}/dev_port"));
            let port = port.ok().and_then(|text| text.trim().parse().ok());
            ports.insert(port.unwrap_or(0_u32), name);
        }
        ports.into_values().collect()
    }

    /// The ib devices.
    #[must_use]
    pub fn ib_devices(&self) -> Vec<String> {
        names("/sys/class/infiniband")
    }

    /// Both ports, each in a namespace of its own, UP and with addresses.
    ///
    /// # Panics
    ///
    /// If there are not two, or something about them fails.
    #[must_use]
    #[track_caller]
    pub fn pair(&self) -> Pair {
        Pair::new(&self.netdevs())
    }
}

/// Runs a line of a shell, and returns what it wrote on standard output.
///
/// # Panics
///
/// If it does not end with 0, with all it wrote.
#[track_caller]
pub fn run(line: &str) -> String {
    let (code, stdout, stderr) = ended(line);
    assert!(code == 0, "`{line}` ended with {code}\n{stdout}{stderr}");
    stdout
}

/// Exit status, standard output and error of a line of a shell; 128 for a signal.
///
/// # Panics
///
/// If there is no shell.
#[must_use]
#[track_caller]
pub fn ended(line: &str) -> (i32, String, String) {
    let output = Command::new("sh").args(["-c", line]).output();
    let output = output.expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(128),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Waits until `done` holds.
///
/// # Panics
///
/// If it does not within a time that is ample.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}");
        thread::sleep(LOOK);
    }
}

/// The names in a folder, none if it is not there.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(folder)).into_iter().flatten();
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
