//! The programs of two releases of rdma-core see the model's devices as the kernel would show them.

#![forbid(unsafe_code)]

use std::time::Duration;

use conformance::host::{Ended, Job};
use conformance::stack::{Stack, Tree};

/// Runs a program of rdma-core on a model.
#[track_caller]
fn run(stack: &Stack, tree: &Tree, model: &str, program: &str, arguments: &str) -> Ended {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut words = tree.verbs_program(program);
    words.extend(arguments.split_whitespace().map(Into::into));
    let options = [format!("--vdev={model}")];
    let mut command = stack.exec(&options, &words, folder.path());
    Job::start(&mut command, Duration::from_secs(60)).end()
}

/// What `ibv_devinfo -v` says of one device: its fields by name, those of its ports numbered.
fn fields(text: &str, device: &str) -> Vec<(String, String)> {
    let (_, text) = text
        .split_once(&format!("hca_id:\t{device}\n"))
        .unwrap_or_else(|| panic!("no {device}: {text}"));
    let text = text.split("hca_id:").next().unwrap_or_default();
    let mut port = String::new();
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':') {
            let (name, value) = (name.trim(), value.trim());
            if name == "port" {
                port = format!("port {value} ");
            }
            all.push((format!("{port}{name}"), value.to_owned()));
        }
    }
    all
}

#[track_caller]
fn assert_fields(text: &str, device: &str, expected: &[(&str, &str)]) {
    let fields = fields(text, device);
    for (name, value) in expected {
        let found = fields.iter().find(|(field, _)| field == name);
        let found = found.map(|(_, value)| value.as_str());
        assert_eq!(found, Some(*value), "{device}: {name}\n{text}");
    }
}

/// Those of reference/mana-hardware.md §4.7 that both kernels share.
const LIMITS: &[(&str, &str)] = &[
    ("max_mr_size", "0xffffffffffffffff"),
    // 4 KiB to 2 MiB.
    ("page_size_cap", "0x3ff000"),
    // The smaller of 30 for sending and 15 for receiving.
    ("max_sge", "15"),
    ("max_pd", "24576"),
    ("max_srq", "0"),
    ("atomic_cap", "ATOMIC_NONE (0)"),
];

fn kernel_6_12(tree: fn(&Stack) -> &Tree, test: &str) {
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let tree = tree(&stack);
    let list = run(&stack, tree, "model0,ports=2", "ibv_devices", "").success();
    let devices: Vec<&str> = list
        .lines()
        .skip(2)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(devices, ["mana_0"], "{list}");
    let text = run(&stack, tree, "model0,ports=2", "ibv_devinfo", "-v").success();
    assert_fields(&text, "mana_0", LIMITS);
    let expected = [
        // Not set before 6.13 or so: the driver in C takes 0 for a kernel that can't tell.
        ("vendor_part_id", "0"),
        ("phys_port_cnt", "2"),
        ("port 1 link_layer", "Ethernet"),
        ("port 2 link_layer", "Ethernet"),
        // As long as its netdev is not UP.
        ("port 1 state", "PORT_DOWN (1)"),
    ];
    assert_fields(&text, "mana_0", &expected);
    let text = run(&stack, tree, "model0,netdev=up", "ibv_devinfo", "-v").success();
    assert_fields(&text, "mana_0", &[("port 1 state", "PORT_ACTIVE (4)")]);
}

fn kernel_7_3(tree: fn(&Stack) -> &Tree, test: &str) {
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let tree = tree(&stack);
    let list = run(&stack, tree, "model0,kernel=7.3", "ibv_devices", "").success();
    for device in ["mana_0", "manae_0"] {
        assert!(list.contains(&format!("{device} ")), "{list}");
    }
    let text = run(
        &stack,
        tree,
        "model0,kernel=7.3,ports=3",
        "ibv_devinfo",
        "-v",
    )
    .success();
    assert_fields(&text, "manae_0", LIMITS);
    let expected = [
        ("vendor_id", "0x1414"),
        // GDMA_DEVICE_MANA, beside which `mana_0` is GDMA_DEVICE_MANA_IB (§1.3).
        ("vendor_part_id", "2"),
        ("phys_port_cnt", "3"),
        // 1 MiB in WQEs of 512 bytes.
        ("max_qp_wr", "2048"),
        ("max_cqe", "2048"),
    ];
    assert_fields(&text, "manae_0", &expected);
    assert_fields(&text, "mana_0", &[("vendor_part_id", "3")]);
    assert!(text.contains("IP csum offload"), "{text}");
}

#[test]
fn rdma_core_56_shows_the_one_device_of_kernel_6_12_with_its_ports_and_limits() {
    let test = "rdma_core_56_shows_the_one_device_of_kernel_6_12_with_its_ports_and_limits";
    kernel_6_12(|stack| &stack.dpdk, test);
}

#[test]
fn rdma_core_44_shows_the_one_device_of_kernel_6_12_with_its_ports_and_limits() {
    let test = "rdma_core_44_shows_the_one_device_of_kernel_6_12_with_its_ports_and_limits";
    kernel_6_12(|stack| &stack.rdma_core_44, test);
}

#[test]
fn rdma_core_56_shows_the_two_devices_of_kernel_7_3() {
    let test = "rdma_core_56_shows_the_two_devices_of_kernel_7_3";
    kernel_7_3(|stack| &stack.dpdk, test);
}

#[test]
fn rdma_core_44_shows_the_two_devices_of_kernel_7_3() {
    let test = "rdma_core_44_shows_the_two_devices_of_kernel_7_3";
    kernel_7_3(|stack| &stack.rdma_core_44, test);
}

/// libibverbs looks for a provider by the kernel's driver id alone (reference/uverbs-boundary.md
/// §3): with another one than 20 there is no device, for either release.
#[test]
fn a_driver_id_that_no_provider_knows_hides_the_device_from_both() {
    let test = "a_driver_id_that_no_provider_knows_hides_the_device_from_both";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    for tree in [&stack.dpdk, &stack.rdma_core_44] {
        let ended = run(&stack, tree, "model0,driver-id=77", "ibv_devinfo", "");
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(text.contains("No IB devices found"), "{text}");
    }
}
