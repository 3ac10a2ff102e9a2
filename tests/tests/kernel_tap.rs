//! The guest's netdev and the host's kernel: the link of the device's port is a tap.

#![forbid(unsafe_code)]

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use conformance::host::{File, Host, Server};

/// How long something may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the file that is fetched.
const LENGTH: u64 = 2_000_000;

/// Pings until the other side is there, then every size, and fetches a file by both versions of IP.
const SCRIPT: &str = "set -e
ip link set eth0 up mtu 9000
ip address add 192.0.2.2/24 dev eth0
ip address add 2001:db8::2/64 dev eth0 nodad
for target in 192.0.2.1 2001:db8::1; do
    until ping -q -c 1 -W 1 $target >/dev/null 2>&1; do sleep 0.2; done
    for size in 0 56 1472 8952; do ping -q -c 5 -i 0.01 -M do -s $size $target >/dev/null; done
done
for server in 192.0.2.1 '[2001:db8::1]'; do busybox wget -q -O - http://$server/file | sha256sum; done";

#[test]
fn the_guests_kernel_talks_to_the_hosts() {
    let test = "the_guests_kernel_talks_to_the_hosts";
    if let Ok(reason) = env::var("MANA_KERNEL_SKIP") {
        return conformance::skip(test, &reason);
    }
    let Some(host) = Host::or_skip(test) else {
        return;
    };
    let variable = |name: &str| {
        PathBuf::from(env::var_os(name).expect("`cargo xtask test --tier kernel` sets it"))
    };
    let namespace = host.namespace();
    let file = File::new(&host, LENGTH);
    let _server = Server::start(&namespace, &file);
    let device = format!("model0,link=tap:tap0:mtu=9000:netns={}", namespace.name());
    let mut vm = Command::new(variable("MANA_XTASK"));
    vm.arg("vm").arg("--mana").arg(host.mana());
    vm.args(["--vdev", &device, "--", "sh", "-c", SCRIPT]);
    let guest = thread::spawn(move || vm.output());
    let until = Instant::now() + PATIENCE;
    while !namespace.has("tap0") && !guest.is_finished() {
        assert!(Instant::now() < until, "no tap in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    if !guest.is_finished() {
        namespace.configure("tap0", 1, 9000);
    }
    let output = guest.join().expect("a thread").expect("xtask starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    let sums: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(sums, [file.sha256(), file.sha256()], "{errors}");
    namespace.counters().assert_no_errors();
    assert!(!namespace.has("tap0"), "the tap goes with the device");
}
