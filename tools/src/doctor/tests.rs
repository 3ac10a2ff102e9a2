//! What the doctor says of written machines.

use std::collections::BTreeMap;

use super::checks::{self, Asked};
use super::explain;
use super::machine::{Machine, Wanted};
use super::report::{Check, Report, Status};
use super::tree::Tree;
use super::trees::{CHANNEL1, MAC1, PCI, Written};

fn report_of(written: &Written, port: Option<&str>, asked: &Asked) -> Report {
    let tree = Tree::below(written.root()).unwrap();
    let machine = Machine::read(tree, false, port.map(Wanted::parse));
    Report {
        checks: checks::all(&machine, asked),
    }
}

/// The report of the port that is there for the driver.
fn report(written: &Written) -> Report {
    report_of(written, Some("eth1"), &Asked::default())
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    report
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap()
}

/// Of the checks that are not ok, those that files can tell.
fn complaints(report: &Report) -> BTreeMap<&'static str, Status> {
    let told_by_files =
        |check: &&Check| !["driver-id", "device-opens", "slow-path"].contains(&check.name);
    let bad = report
        .checks
        .iter()
        .filter(|check| check.status != Status::Ok);
    bad.filter(told_by_files)
        .map(|check| (check.name, check.status))
        .collect()
}

#[test]
fn a_healthy_machine_has_no_complaint() {
    let tree = Written::azure();
    let report = report(&tree);
    assert_eq!(complaints(&report), BTreeMap::new(), "{report}");
    assert_eq!(report.exit_code(), 0);
    let ports = &check(&report, "ports").seen;
    assert_eq!(
        *ports,
        format!("{PCI},mac={MAC1} enP30832s1d1 DOWN, synthetic eth1 DOWN")
    );
}

/// One difference from the healthy machine, and which checks say so.
#[test]
fn every_difference_is_named_by_its_check() {
    use Status::{Fail, Unknown, Warning};
    type Situation = (
        &'static str,
        fn(&Written),
        &'static [(&'static str, Status)],
    );
    let situations: &[Situation] = &[
        (
            "no MANA",
            |it| it.without("sys/bus/pci/devices/7870:00:00.0"),
            &[
                ("pci-device", Fail),
                ("kernel-driver", Unknown),
                ("ib-device", Unknown),
                ("uverbs-node", Unknown),
                ("ports", Unknown),
                ("netdev-down", Unknown),
                ("mtu", Unknown),
                ("numa", Unknown),
            ],
        ),
        (
            "bound to vfio-pci",
            |it| it.function(PCI, "0x00ba", Some("vfio-pci")),
            &[("kernel-driver", Fail)],
        ),
        (
            "not bound",
            |it| it.without("sys/devices/7870:00:00.0/driver"),
            &[("kernel-driver", Fail)],
        ),
        (
            "a PF",
            |it| it.write("sys/devices/7870:00:00.0/device", "0x00b9"),
            &[],
        ),
        (
            "another class",
            |it| it.write("sys/devices/7870:00:00.0/class", "0x028000"),
            &[("pci-device", Warning)],
        ),
        (
            "garbage for a device id",
            |it| it.write("sys/devices/7870:00:00.0/device", "0xzz"),
            &[
                ("pci-device", Unknown),
                ("kernel-driver", Unknown),
                ("ib-device", Unknown),
                ("uverbs-node", Unknown),
                ("ports", Unknown),
                ("netdev-down", Unknown),
                ("mtu", Unknown),
                ("numa", Unknown),
            ],
        ),
        (
            "an old kernel",
            |it| {
                it.release("5.15.0-91-generic");
                it.without("sys/module/mana_ib");
                it.write(
                    "lib/modules/5.15.0-91-generic/modules.dep",
                    "kernel/drivers/net/mana/mana.ko:",
                );
            },
            &[
                ("kernel", Fail),
                ("distribution", Warning),
                ("modules", Fail),
            ],
        ),
        (
            "Ubuntu 22.04's backport",
            |it| {
                it.release("5.15.0-1045-azure");
                it.os("ubuntu", "22.04", "Ubuntu 22.04.3 LTS");
            },
            &[],
        ),
        (
            "before Ubuntu's backport",
            |it| {
                it.release("5.15.0-1044-azure");
                it.os("ubuntu", "22.04", "Ubuntu 22.04.3 LTS");
                it.without("sys/module/mana_ib");
                it.write(
                    "lib/modules/5.15.0-1044-azure/modules.dep",
                    "kernel/ib_uverbs.ko.zst:",
                );
            },
            &[
                ("kernel", Fail),
                ("distribution", Warning),
                ("modules", Fail),
            ],
        ),
        (
            "RHEL 8.9",
            |it| {
                it.release("4.18.0-513.5.1.el8_9.x86_64");
                it.os("rhel", "8.9", "Red Hat Enterprise Linux 8.9 (Ootpa)");
            },
            &[],
        ),
        (
            "RHEL 9.4",
            |it| {
                it.release("5.14.0-427.13.1.el9_4.x86_64");
                it.os("rhel", "9.4", "Red Hat Enterprise Linux 9.4 (Plow)");
            },
            &[],
        ),
        (
            "Debian 12's own kernel",
            |it| {
                it.release("6.1.0-28-cloud-amd64");
                it.os("debian", "12", "Debian GNU/Linux 12 (bookworm)");
                it.without("sys/module/mana_ib");
                it.without("sys/class/infiniband");
                it.write(
                    "lib/modules/6.1.0-28-cloud-amd64/modules.dep",
                    "kernel/net/mana.ko:\nkernel/ib_uverbs.ko:",
                );
            },
            &[
                ("kernel", Fail),
                ("distribution", Warning),
                ("modules", Fail),
                ("ib-device", Fail),
                ("uverbs-node", Unknown),
            ],
        ),
        (
            "Azure Linux without mana_ib",
            |it| {
                it.release("6.6.57.1-7.azl3");
                it.os("azurelinux", "3.0", "Microsoft Azure Linux 3.0");
                it.without("sys/module/mana_ib");
                it.without("sys/class/infiniband");
                it.write(
                    "lib/modules/6.6.57.1-7.azl3/modules.dep",
                    "kernel/ib_uverbs.ko:",
                );
            },
            &[
                ("modules", Fail),
                ("ib-device", Fail),
                ("uverbs-node", Unknown),
            ],
        ),
        (
            "mana_ib not loaded",
            |it| {
                it.without("sys/module/mana_ib");
                it.write(
                    "lib/modules/6.8.0-1020-azure/modules.dep",
                    "kernel/drivers/infiniband/hw/mana/mana_ib.ko.zst:",
                );
            },
            &[("modules", Fail)],
        ),
        (
            "no ib device",
            |it| it.without("sys/class/infiniband"),
            &[("ib-device", Fail), ("uverbs-node", Unknown)],
        ),
        (
            "7.3's two ib devices",
            |it| {
                it.release("7.3.4-cloud-amd64");
                it.ib("manae_0", "uverbs1");
            },
            &[],
        ),
        (
            "no node",
            |it| it.without("dev/infiniband/uverbs0"),
            &[("uverbs-node", Fail)],
        ),
        (
            "no ib_uverbs",
            |it| it.without("sys/class/infiniband_verbs/uverbs0"),
            &[("uverbs-node", Fail)],
        ),
        (
            "a cgroup that forbids the node",
            |it| {
                it.write("proc/self/cgroup", "5:devices:/docker/1\n0::/");
                it.write(
                    "sys/fs/cgroup/devices/docker/1/devices.list",
                    "c 1:3 rwm\nc 10:200 rwm",
                );
            },
            &[("uverbs-node", Fail)],
        ),
        (
            "a cgroup that allows the node",
            |it| {
                it.write("proc/self/cgroup", "5:devices:/docker/1\n0::/");
                it.write(
                    "sys/fs/cgroup/devices/docker/1/devices.list",
                    "c 1:3 rwm\nc 231:* rwm",
                );
            },
            &[],
        ),
        (
            "no rdma-core",
            |it| it.without("usr"),
            &[("rdma-core", Warning)],
        ),
        (
            "no libmana",
            |it| it.without("usr/lib/x86_64-linux-gnu/libmana.so.1"),
            &[("rdma-core", Warning)],
        ),
        (
            "rdma-core 39",
            |it| {
                it.library("libibverbs.so.1", "libibverbs.so.1.14.39.0");
                it.without("usr/lib/x86_64-linux-gnu/libmana.so.1");
            },
            &[("rdma-core", Warning)],
        ),
        (
            "rdma-core 44",
            |it| {
                it.library("libibverbs.so.1", "libibverbs.so.1.14.44.0");
                it.library("libmana.so.1", "libmana.so.1.0.44.0");
            },
            &[("rdma-core", Warning)],
        ),
        (
            "two releases mixed",
            |it| it.library("libmana.so.1", "libmana.so.1.0.44.0"),
            &[("rdma-core", Warning)],
        ),
        (
            "a second copy",
            |it| it.write("usr/local/lib/libmana.so.1", ""),
            &[("rdma-core", Warning)],
        ),
        (
            "the synthetic interface UP",
            |it| it.up("eth1"),
            &[("netdev-down", Fail)],
        ),
        (
            "the VF UP",
            |it| it.up("enP30832s1d1"),
            &[("netdev-down", Fail)],
        ),
        (
            "no flags",
            |it| it.without("sys/devices/7870:00:00.0/net/enP30832s1d1/flags"),
            &[("netdev-down", Unknown)],
        ),
        (
            "garbage for flags",
            |it| it.attribute("enP30832s1d1", "flags", "up"),
            &[("netdev-down", Unknown)],
        ),
        (
            "different MTUs",
            |it| it.attribute("eth1", "mtu", "9000"),
            &[("mtu", Warning)],
        ),
        (
            "no MTU",
            |it| it.without("sys/devices/7870:00:00.0/net/enP30832s1d1/mtu"),
            &[("mtu", Unknown)],
        ),
        (
            "no interface at all",
            |it| it.without("sys/devices/7870:00:00.0/net"),
            &[("ports", Fail), ("netdev-down", Unknown), ("mtu", Unknown)],
        ),
        (
            "no hugepages",
            |it| it.pages(0, 0),
            &[("hugepages", Warning)],
        ),
        (
            "no free hugepages",
            |it| it.pages(64, 0),
            &[("hugepages", Warning)],
        ),
        (
            "garbage for hugepages",
            |it| {
                it.write(
                    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
                    "many",
                );
            },
            &[("hugepages", Unknown)],
        ),
        (
            "hugetlbfs not mounted",
            |it| it.write("proc/mounts", "proc /proc proc rw 0 0"),
            &[("hugetlb-mount", Warning)],
        ),
        (
            "a pod's limit on hugepages",
            |it| {
                it.write("proc/self/cgroup", "0::/kubepods/pod1");
                it.write("sys/fs/cgroup/kubepods/hugetlb.2MB.max", "0");
                it.write("sys/fs/cgroup/kubepods/pod1/hugetlb.2MB.max", "max");
            },
            &[("hugetlb-cgroup", Warning)],
        ),
        (
            "a limit of cgroup v1",
            |it| {
                it.write("proc/self/cgroup", "9:hugetlb:/docker/1\n0::/");
                it.write(
                    "sys/fs/cgroup/hugetlb/docker/1/hugetlb.2MB.limit_in_bytes",
                    "2097152",
                );
            },
            &[("hugetlb-cgroup", Warning)],
        ),
        (
            "no transparent huge pages",
            |it| {
                it.write(
                    "sys/kernel/mm/transparent_hugepage/enabled",
                    "always madvise [never]",
                );
            },
            &[("thp", Warning)],
        ),
        (
            "a user's limits",
            |it| {
                it.memlock("8388608");
                it.capabilities("0000000000000000");
            },
            &[("memlock", Warning), ("capabilities", Fail)],
        ),
        (
            "a pod on AKS",
            |it| {
                it.folder("var/run/secrets/kubernetes.io/serviceaccount");
                it.without("dev/infiniband");
                it.capabilities("00000000a80425fb");
                it.memlock("65536");
            },
            &[
                ("uverbs-node", Fail),
                ("memlock", Warning),
                ("container", Warning),
            ],
        ),
        (
            "the channel in user mode",
            |it| {
                it.folder(&format!("sys/bus/vmbus/drivers/uio_hv_generic/{CHANNEL1}"));
            },
            &[("netvsc", Warning)],
        ),
        (
            "DPDK with vdev_netvsc",
            |it| {
                it.write(
                    "proc/77/cmdline",
                    "dpdk-testpmd\0--vdev=net_vdev_netvsc0,iface=eth1\0--\0-i\0",
                );
            },
            &[("dpdk-vdevs", Warning)],
        ),
        (
            "another process has it",
            |it| {
                it.write("proc/78/comm", "dpdk-testpmd");
                it.link("proc/78/fd/5", "/dev/infiniband/uverbs0");
            },
            &[("device-users", Warning)],
        ),
        (
            "no /proc",
            |it| it.without("proc"),
            &[
                ("kernel", Unknown),
                ("distribution", Unknown),
                ("default-route", Unknown),
                ("hugetlb-mount", Unknown),
                ("hugetlb-cgroup", Unknown),
                ("memlock", Unknown),
                ("capabilities", Unknown),
                ("device-users", Unknown),
                ("dpdk-vdevs", Unknown),
            ],
        ),
        (
            "no /sys",
            |it| it.without("sys"),
            &[
                ("pci-device", Unknown),
                ("kernel-driver", Unknown),
                ("modules", Unknown),
                ("ib-device", Unknown),
                ("uverbs-node", Unknown),
                ("ports", Unknown),
                ("netdev-down", Unknown),
                ("mtu", Unknown),
                ("hugepages", Unknown),
                ("numa", Unknown),
            ],
        ),
    ];
    assert!(situations.len() >= 40);
    for (situation, change, expected) in situations {
        let tree = Written::azure();
        change(&tree);
        let report = report(&tree);
        let expected: BTreeMap<_, _> = expected.iter().copied().collect();
        assert_eq!(complaints(&report), expected, "{situation}:\n{report}");
        for check in report.checks.iter().filter(|check| check.status >= Warning) {
            assert!(
                check.fix.is_some() && !check.why.is_empty(),
                "{situation}: {check}"
            );
        }
    }
}

#[test]
fn nothing_at_all_is_never_ok_and_never_a_panic() {
    let empty = tempfile::tempdir().unwrap();
    let machine = Machine::read(Tree::below(empty.path()).unwrap(), false, None);
    let checks = checks::all(&machine, &Asked::default());
    // What needs to be there to be ok, is not.
    for name in [
        "pci-device",
        "kernel",
        "modules",
        "ib-device",
        "ports",
        "netdev-down",
        "hugepages",
    ] {
        let check = checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(check.status, Status::Unknown, "{check}");
    }
}

#[test]
fn the_port_with_the_default_route_is_never_to_be_taken_down() {
    let tree = Written::azure();
    let of = |port| report_of(&tree, port, &Asked::default());
    let primary = of(Some("eth0"));
    let down = check(&primary, "netdev-down");
    assert_eq!(down.status, Status::Fail);
    assert!(
        !down.fix.as_ref().unwrap().contains("ip link set"),
        "{down}"
    );
    let route = check(&primary, "default-route");
    assert_eq!(
        (route.status, &*route.seen),
        (Status::Warning, "eth0 carries the default route")
    );
    // Of both, one starts.
    let both = of(None);
    assert_eq!(check(&both, "netdev-down").status, Status::Warning);
    assert_eq!(both.exit_code(), 1);
    // The same port by its other names.
    for name in [MAC1, "enP30832s1d1", "eth1"] {
        assert_eq!(
            check(&of(Some(name)), "netdev-down").status,
            Status::Ok,
            "{name}"
        );
    }
    let nobody = of(Some("eth7"));
    assert_eq!(check(&nobody, "ports").status, Status::Fail);
    assert_eq!(nobody.exit_code(), 2);
}

#[test]
fn interfaces_that_are_up_are_taken_down_with_the_synthetic_one_first() {
    let tree = Written::azure();
    tree.up("eth1");
    tree.up("enP30832s1d1");
    let report = report(&tree);
    let fix = check(&report, "netdev-down").fix.clone().unwrap();
    assert_eq!(
        fix,
        "sudo ip link set dev eth1 down && sudo ip link set dev enP30832s1d1 down"
    );
}

#[test]
fn ports_are_listed_with_their_addresses() {
    let tree = Written::azure();
    let trie = "Local:\n     |-- 10.0.0.4\n        /32 host LOCAL\n";
    tree.write("proc/net/fib_trie", trie);
    let six = "fe8000000000000000000000000000d0 02 40 20 80     eth0";
    tree.write("proc/net/if_inet6", six);
    let seen = &check(&report_of(&tree, Some("eth0"), &Asked::default()), "ports")
        .seen
        .clone();
    assert!(
        seen.ends_with("synthetic eth0 UP (10.0.0.4 fe80::d0)"),
        "{seen}"
    );
}

#[test]
fn cores_of_another_node_are_named() {
    let tree = Written::azure();
    let of = |cores: &[u32]| {
        let cores = cores.to_vec();
        report_of(&tree, None, &Asked { cores })
    };
    assert_eq!(check(&of(&[1, 2]), "numa").status, Status::Ok);
    let far = of(&[1, 9]);
    assert_eq!(
        check(&far, "numa").seen,
        "cores 9 are not on the device's node 0"
    );
}

#[test]
fn a_thousand_interfaces_stay_one_line() {
    let tree = Written::azure();
    for number in 0..1000 {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256);
        tree.vf(&format!("enP9s{number}"), &mac, number + 2, true, "");
    }
    let report = report_of(&tree, None, &Asked::default());
    let ports = check(&report, "ports").to_string();
    assert!(
        ports.ends_with("and 986 more") && !ports.contains('\n'),
        "{ports}"
    );
}

#[test]
fn what_files_say_does_not_break_the_line_or_steer_the_terminal() {
    let tree = Written::azure();
    tree.os("debian", "12", "evil\u{1b}[31m name");
    let line = check(&report(&tree), "distribution").to_string();
    assert!(!line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn every_check_has_a_long_form_under_its_name() {
    let report = report(&Written::azure());
    for check in &report.checks {
        assert!(explain::topic(check.name).is_some(), "{}", check.name);
    }
    let mut names: Vec<_> = explain::TOPICS.iter().map(|topic| topic.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(explain::nearest("netdev-donw"), Some("netdev-down"));
}

#[test]
fn the_json_has_one_object_a_check() {
    let report = report(&Written::azure());
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), report.checks.len());
    for check in checks {
        assert!(
            check["name"].is_string() && check["seen"].is_string(),
            "{check}"
        );
        assert!(["ok", "warning", "fail", "unknown"].contains(&check["status"].as_str().unwrap()));
        assert!(check["fix"].is_string() || check["fix"].is_null());
    }
}

#[test]
fn a_bundle_tells_the_machine_but_not_whose_it_is() {
    use std::io::Read;
    let tree = Written::azure();
    tree.write("proc/sys/kernel/hostname", "anna-7");
    tree.write(
        "proc/version",
        "Linux version 6.8 (built on anna-7 at 10.1.2.3)",
    );
    let read = |keep: bool| {
        let machine = Machine::read(Tree::below(tree.root()).unwrap(), false, None);
        let report = Report {
            checks: checks::all(&machine, &Asked::default()),
        };
        let path = tree.path("bundle.tar.gz");
        super::bundle::write(&path, &machine, &report, keep).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut all = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            all += &format!("== {}\n", entry.path().unwrap().display());
            entry.read_to_string(&mut all).unwrap();
        }
        all
    };
    let clean = read(false);
    for secret in [MAC1, "anna-7", "10.1.2.3"] {
        assert!(!clean.contains(secret), "{secret} in\n{clean}");
        assert!(read(true).contains(secret), "{secret}");
    }
    assert!(clean.contains("mac=MAC-") && clean.contains("== mana-doctor/report.json"));
    assert!(clean.contains("mana-doctor/files/sys/bus/pci/devices/7870:00:00.0/vendor"));
}
