//! The failures that Azure's guide documents: what DPDK's testpmd says, and what ours does
//! (reference/uverbs-boundary.md §3 and §4).

#![forbid(unsafe_code)]

use std::time::Duration;

use conformance::situations;
use conformance::stack::{Column, Session, Stack};
use mana_model::control::Client;

const APP: &str = "--auto-start --forward-mode=txonly --total-num-mbufs=4096 --txd=128 --rxd=128";

/// A kernel with driver id 19, which rdma-core takes for another vendor's: libibverbs loads that
/// vendor's library.
fn meets_a_kernel_whose_driver_id_is_19(stack: &Stack, column: Column) -> String {
    let options = ["--driver-id=19".to_owned()];
    if column == Column::DpdkRdmaCore56 {
        let library = stack.dpdk.provider("liberdma-rdmav34.so");
        let eal = format!("-d {} DEVICE", library.display());
        let mut session = Session::start_with(stack, column, &options, &eal, APP);
        session.type_line("");
        let ended = session.end().ended;
        for line in [
            "MANA_DRIVER: mana_probe_port(): ibv_alloc_parent_domain failed port 1",
            "MANA_DRIVER: mana_pci_probe_mac(): Probe on IB port 1 failed -12",
            "testpmd: No probed ethernet devices",
        ] {
            assert!(ended.stderr.contains(line), "no {line}: {ended}");
        }
        return "parent domain failed, -12".to_owned();
    }
    let mut session = Session::start_with(stack, column, &options, "DEVICE", APP);
    if column == Column::OursUverbs {
        session.wait_until("forwarding", |text| text.contains("RX queue: 0"));
        let outcome = session.stop();
        assert!(outcome.clean().tx > 0, "{}", outcome.ended);
        let announced = "driver id 19";
        assert!(
            outcome.ended.stdout.contains(announced),
            "{}",
            outcome.ended
        );
        return "forwards".to_owned();
    }
    let ended = session.end().ended;
    assert_eq!(ended.code, Some(1), "{ended}");
    for part in [
        "the kernel's driver id is 19, libmana's is 20",
        "update the kernel",
        "provider=uverbs",
    ] {
        assert!(ended.stderr.contains(part), "no {part}: {ended}");
    }
    "exit 1, names both and what to do".to_owned()
}

fn meets_a_netdev_that_is_up(stack: &Stack, column: Column, kernel: &str, errno: i32) -> String {
    let model = format!("model0,netdev=up,kernel={kernel}");
    let mut session = Session::start(stack, column, &model, "DEVICE", APP);
    if column.is_ours() {
        let ended = session.end().ended;
        assert_eq!(ended.code, Some(1), "{ended}");
        for part in ["netdev enP30832s1 is UP", "ip link set enP30832s1 down"] {
            assert!(ended.stderr.contains(part), "no {part}: {ended}");
        }
        return "exit 1, names netdev and command".to_owned();
    }
    session.type_line("");
    let ended = session.end().ended;
    for line in [
        "MANA_DRIVER: mana_start_tx_queues(): Failed to create qp queue index 0".to_owned(),
        format!("MANA_DRIVER: mana_dev_start(): failed to start tx queues -{errno}"),
    ] {
        assert!(ended.stderr.contains(&line), "no {line}: {ended}");
    }
    format!("no QP, -{errno}, exit 0")
}

fn meets_a_netdev_that_is_up_on_6_12(stack: &Stack, column: Column) -> String {
    meets_a_netdev_that_is_up(stack, column, "6.12", 19)
}

fn meets_a_netdev_that_is_up_on_7_3(stack: &Stack, column: Column) -> String {
    meets_a_netdev_that_is_up(stack, column, "7.3", 16)
}

situations! {
    meets_a_kernel_whose_driver_id_is_19
    meets_a_netdev_that_is_up_on_6_12
    meets_a_netdev_that_is_up_on_7_3
}

/// Ours leaves no object: the suite `errno_at_every_operation`, and in driver-mana/tests/port
/// `a_netdev_that_is_up_is_one_error_on_every_kernel_and_taking_it_down_mends_it`.
#[test]
fn each_start_of_the_driver_in_c_that_fails_leaks_a_completion_queue() {
    let test = "each_start_of_the_driver_in_c_that_fails_leaks_a_completion_queue";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("control");
    let options = [
        "--vdev=model0,netdev=up".to_owned(),
        format!("--control={}", socket.display()),
    ];
    let app = "-i --total-num-mbufs=4096";
    let column = Column::DpdkRdmaCore56;
    let mut session = Session::start_with(&stack, column, &options, "DEVICE", app);
    for _ in 0..3 {
        session.type_line("port start 0");
    }
    let client = Client::wait_for(&socket, Duration::from_secs(60)).expect("the model listens");
    let all = |client: &Client| client.objects().is_ok_and(|objects| objects.cqs >= 4);
    session.wait_while("four completion queues", || !all(&client));
    let objects = client.objects().expect("the model answers");
    assert_eq!((objects.cqs, objects.qps, objects.wqs), (4, 0, 0));
    session.type_line("quit");
    let ended = session.end().ended;
    assert_eq!(
        ended
            .stderr
            .matches("failed to start tx queues -19")
            .count(),
        4
    );
}
