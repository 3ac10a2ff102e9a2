//! `mana doctor` and `mana setup` on a real kernel with its real drivers: what is said is so, and what is
//! said to mend it does.

#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use conformance::guest::{ADDRESS, Guest, ended, run, wait_until};
use serde_json::Value;

/// Pages of 2 MiB that the guest was started with.
const PAGES: u32 = 64;
const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// What the doctor says.
struct Diagnosis {
    code: i32,
    checks: Vec<Value>,
}

impl Diagnosis {
    #[track_caller]
    fn new() -> Self {
        Self::by("mana doctor --json")
    }

    /// What it says to a user without any rights.
    #[track_caller]
    fn to_nobody() -> Self {
        let mut mana = Command::new("mana");
        let output = mana
            .args(["doctor", "--json"])
            .uid(65534)
            .gid(65534)
            .output();
        let output = output.expect("mana starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self::of_output(
            output.status.code().unwrap_or(-1),
            &text(&output.stdout),
            &text(&output.stderr),
        )
    }

    #[track_caller]
    fn by(line: &str) -> Self {
        let (code, stdout, stderr) = ended(line);
        Self::of_output(code, &stdout, &stderr)
    }

    #[track_caller]
    fn of_output(code: i32, stdout: &str, stderr: &str) -> Self {
        let whole: Value = serde_json::from_str(stdout)
            .unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        let checks = whole["checks"].as_array().expect("a list").clone();
        Self { code, checks }
    }

    #[track_caller]
    fn of(&self, name: &str) -> &Value {
        let found = self.checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name}"))
    }

    /// Whether the check has this status, and what was seen has these words.
    #[track_caller]
    fn says(&self, name: &str, status: &str, words: &[&str]) {
        let check = self.of(name);
        let seen = check["seen"].as_str().expect("text");
        assert_eq!(check["status"], status, "{check}");
        assert!(
            words.iter().all(|word| seen.contains(word)),
            "{words:?} in {check}"
        );
    }

    /// Does what the check says that mends it, up to a remark or another way.
    #[track_caller]
    fn mend(&self, name: &str) {
        let check = self.of(name);
        let fix = check["fix"]
            .as_str()
            .unwrap_or_else(|| panic!("nothing mends {check}"));
        let first = fix
            .split(" (")
            .next()
            .and_then(|line| line.split(", or ").next());
        run(&first.unwrap_or_default().replace("sudo ", ""));
    }

    /// Whether nothing is worse than what can't be told.
    #[track_caller]
    fn is_well(&self) {
        let bad: Vec<&Value> = self
            .checks
            .iter()
            .filter(|check| check["status"] == "fail" || check["status"] == "warning")
            .collect();
        assert!(bad.is_empty() && self.code == 0, "{}: {bad:?}", self.code);
    }
}

/// Whether the driver itself starts on all ports: the judge of the doctor.
fn starts() -> bool {
    let (code, stdout, stderr) = ended(&format!(
        "mana testpmd -a {ADDRESS} -- --forward-mode=txonly --auto-start --duration 0.2"
    ));
    if code != 0 {
        println!("{stdout}{stderr}");
    }
    code == 0
}

#[test]
fn a_guest_as_it_boots_is_well_and_the_driver_starts() {
    let Some(guest) = Guest::or_skip("a_guest_as_it_boots_is_well_and_the_driver_starts") else {
        return;
    };
    let diagnosis = Diagnosis::new();
    diagnosis.is_well();
    diagnosis.says("pci-device", "ok", &[ADDRESS, "VF 1414:00ba"]);
    diagnosis.says("kernel-driver", "ok", &["mana is bound"]);
    diagnosis.says("kernel", "ok", &[&guest.release, "receive interrupts"]);
    diagnosis.says("modules", "ok", &[]);
    diagnosis.says("driver-id", "ok", &["has 20"]);
    diagnosis.says("device-opens", "ok", &["2 of 2 ports open"]);
    diagnosis.says("rdma-core", "ok", &["rdma-core 56"]);
    diagnosis.says("ports", "ok", &["eth0 DOWN", "eth1 DOWN"]);
    match guest.is_6() {
        true => diagnosis.says("ib-device", "ok", &["mana_0 for Ethernet"]),
        false => diagnosis.says(
            "ib-device",
            "ok",
            &["manae_0 for Ethernet", "mana_0 for RDMA"],
        ),
    }
    assert!(starts());
    Diagnosis::by("rdma-core-44 mana doctor --json").says(
        "rdma-core",
        "warning",
        &["rdma-core 44"],
    );
}

#[test]
fn a_netdev_that_is_up_keeps_the_driver_out() {
    let Some(guest) = Guest::or_skip("a_netdev_that_is_up_keeps_the_driver_out") else {
        return;
    };
    let netdevs = guest.netdevs();
    run(&format!("ip link set {} up", netdevs[0]));
    Diagnosis::new().says("netdev-down", "warning", &[&format!("{} UP", netdevs[0])]);
    for netdev in &netdevs {
        run(&format!("ip link set {netdev} up"));
    }
    let diagnosis = Diagnosis::new();
    diagnosis.says(
        "netdev-down",
        "fail",
        &netdevs.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(diagnosis.code, 2);
    assert!(!starts());
    diagnosis.mend("netdev-down");
    Diagnosis::new().mend("netdev-down");
    Diagnosis::new().is_well();
    assert!(starts());
}

#[test]
fn modules_that_are_not_loaded_are_named_and_loaded() {
    let Some(guest) = Guest::or_skip("modules_that_are_not_loaded_are_named_and_loaded") else {
        return;
    };
    for modules in ["mana_ib", "mana_ib mana", "mana_ib ib_uverbs"] {
        for module in modules.split(' ') {
            // On 6.12 it went with the one that uses it.
            let (_, _, _) = ended(&format!("rmmod {module}"));
        }
        let diagnosis = Diagnosis::new();
        let named: Vec<&str> = modules.split(' ').collect();
        diagnosis.says("modules", "fail", &named);
        diagnosis.says("ib-device", "fail", &[]);
        if modules.contains("mana ") || modules.ends_with("mana") {
            diagnosis.says("kernel-driver", "fail", &["has no driver"]);
        }
        assert_eq!(diagnosis.code, 2);
        assert!(!starts(), "without {modules}");
        diagnosis.mend("modules");
        wait_until("the netdevs are back", || guest.netdevs().len() == 2);
        Diagnosis::new().is_well();
    }
}

#[test]
fn a_function_without_its_driver_is_bound_again() {
    let Some(_guest) = Guest::or_skip("a_function_without_its_driver_is_bound_again") else {
        return;
    };
    run(&format!("echo {ADDRESS} >/sys/bus/pci/drivers/mana/unbind"));
    let diagnosis = Diagnosis::new();
    diagnosis.says("kernel-driver", "fail", &["has no driver"]);
    diagnosis.says("ports", "fail", &["no interface"]);
    assert!(!starts());
    diagnosis.mend("kernel-driver");
    Diagnosis::new().is_well();
    assert!(starts());
}

#[test]
fn hugepages_are_counted_and_set_up() {
    let Some(_guest) = Guest::or_skip("hugepages_are_counted_and_set_up") else {
        return;
    };
    Diagnosis::new().says(
        "hugepages",
        "ok",
        &[&format!("{PAGES} of {PAGES} of 2048kB free")],
    );
    run(&format!("echo 0 >{NR_HUGEPAGES}"));
    Diagnosis::new().says("hugepages", "warning", &[]);
    run("mana setup --hugepages 40 --journal /tmp/journal");
    Diagnosis::new().says("hugepages", "ok", &["40 of 40 of 2048kB free"]);
    run("mana setup --undo --journal /tmp/journal");
    let pages = fs::read_to_string(NR_HUGEPAGES).expect("procfs");
    assert_eq!(pages.trim(), "0");
    run(&format!("echo {PAGES} >{NR_HUGEPAGES}"));
}

#[test]
fn setup_frees_the_ports_and_gives_them_back() {
    let Some(guest) = Guest::or_skip("setup_frees_the_ports_and_gives_them_back") else {
        return;
    };
    let state = || -> Vec<bool> {
        let netdevs = guest.netdevs();
        let up = |netdev: &String| run(&format!("ip link show {netdev}")).contains(",UP");
        netdevs.iter().map(up).collect()
    };
    for netdev in guest.netdevs() {
        run(&format!("ip link set {netdev} up"));
    }
    run("rmmod mana_ib");
    let before = state();
    assert_eq!(before, [true, true]);
    let plan = run("mana setup --dry-run --hugepages 0 --journal /tmp/journal");
    assert!(
        plan.contains("modprobe mana_ib") && plan.contains("eth0 down"),
        "{plan}"
    );
    assert_eq!(state(), before);
    run("mana setup --hugepages 0 --journal /tmp/journal");
    Diagnosis::new().is_well();
    assert!(starts());
    let again = run("mana setup --hugepages 0 --journal /tmp/journal");
    assert!(again.contains("nothing to do"), "{again}");
    run("mana setup --undo --journal /tmp/journal");
    assert_eq!(state(), before);
}

#[test]
fn setup_begins_with_the_drivers_where_none_is_loaded() {
    let Some(_guest) = Guest::or_skip("setup_begins_with_the_drivers_where_none_is_loaded") else {
        return;
    };
    run("rmmod mana_ib && rmmod mana");
    run("mana setup --hugepages 0 --journal /tmp/journal");
    Diagnosis::new().is_well();
    assert!(starts());
    fs::remove_file("/tmp/journal").expect("a journal");
}

#[test]
fn a_user_without_rights_learns_it() {
    let Some(_guest) = Guest::or_skip("a_user_without_rights_learns_it") else {
        return;
    };
    run("chmod 600 /dev/infiniband/uverbs*");
    let diagnosis = Diagnosis::to_nobody();
    diagnosis.says("uverbs-node", "fail", &["may not be opened"]);
    diagnosis.says("capabilities", "fail", &[]);
    diagnosis.mend("uverbs-node");
    Diagnosis::to_nobody().says("uverbs-node", "ok", &[]);
}
