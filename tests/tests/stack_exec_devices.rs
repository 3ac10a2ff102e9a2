//! Several devices and ports at once, any bus address, and the lines of Azure's guide "MANA and DPDK
//! on Linux" as they stand there (reference/azure-guide.md), for DPDK's testpmd and ours.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Duration;

use conformance::host::{Ended, Job};
use conformance::situations;
use conformance::stack::{Column, Stack, Stats, Tree};
use mana_model::control::Client;

const LIMIT: Duration = Duration::from_secs(60);
const MAC: &str = "00:0d:3a:76:3b:d0";
/// Frames after which a port counts as forwarding.
const SOME: u64 = 1000;

/// One queue, and several, with `$BUS_INFO` and `$MANA_MAC`.
const AZURES_LINES: [&str; 2] = [
    "-l 1-3 --vdev=$BUS_INFO,mac=$MANA_MAC -- --forward-mode=txonly --auto-start --txd=128 \
     --rxd=128 --stats 2",
    "-l 1-6 --vdev=$BUS_INFO,mac=$MANA_MAC -- --forward-mode=txonly --auto-start --nb-cores=4 \
     --txd=128 --rxd=128 --txq=8 --rxq=8 --stats 2",
];

/// The line with its variables, and changed where this machine lacks what it wants. Cores: DPDK's runs
/// several lcores on one, ours forwards with fewer. Hugepages: without them the pool can't be of DPDK's
/// usual size.
fn azures(line: &str, column: Column, bus: &str) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let last = cores - 1;
    let mut line = line.replace("$BUS_INFO", bus).replace("$MANA_MAC", MAC);
    for (list, needed) in [("1-3", 4), ("1-6", 7)] {
        let usual = format!("-l {list} ");
        if cores < needed && column.is_ours() {
            let fewer = format!("--nb-cores={}", last.max(1));
            line = line.replace(&usual, &format!("-l 0-{last} "));
            line = line.replace("--nb-cores=4", &fewer);
        } else if cores < needed {
            line = line.replace(&usual, &format!("--lcores=({list})@(0-{last}) "));
        }
    }
    format!("{line} --total-num-mbufs=16384")
}

/// Runs a testpmd with the words of `line` on a model until all its ports have sent something, then
/// interrupts it as a terminal does.
#[track_caller]
fn testpmd(stack: &Stack, column: Column, options: &str, line: &str) -> Ended {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("control");
    let mut options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    options.push(format!("--control={}", socket.display()));
    let mut words = stack.testpmd(column);
    words.extend(line.split_whitespace().map(OsString::from));
    let mut job = Job::start(&mut stack.exec(&options, &words, folder.path()), LIMIT);
    job.wait_until("all ports send", |_| all_have_sent(&socket));
    let ended = job.interrupt();
    assert_nothing_left(folder.path());
    ended
}

fn all_have_sent(socket: &Path) -> bool {
    let Ok(client) = Client::wait_for(socket, Duration::ZERO) else {
        return false;
    };
    let sent = |port| {
        client
            .port(port)
            .counters()
            .is_ok_and(|it| it.tx_frames > SOME)
    };
    client
        .ports()
        .is_ok_and(|ports| ports > 0 && (0..ports).all(sent))
}

#[track_caller]
fn assert_nothing_left(folder: &Path) {
    let names = std::fs::read_dir(folder).unwrap().flatten();
    let ours: Vec<_> = names
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("mana-model") || name == "control")
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// What was sent, of a run without findings but the one that DPDK's driver always has
/// (reference/mana-hardware.md §8 no. 14).
#[track_caller]
fn sent(column: Column, ended: &Ended) -> Stats {
    let findings = ended
        .stderr
        .split_once("finding(s):\n")
        .map_or("", |(_, it)| it);
    let known = |line: &str| !column.is_ours() && line.contains("no CQ doorbell for 8 laps");
    assert!(findings.lines().all(known), "{ended}");
    let code = if findings.is_empty() { 0 } else { 3 };
    assert_eq!(ended.code, Some(code), "{ended}");
    Stats::read(&ended.stdout).unwrap_or_else(|| panic!("no statistics: {ended}"))
}

#[track_caller]
fn runs_azures_lines(stack: &Stack, column: Column, kernel: &str, bus: &str) {
    for line in AZURES_LINES {
        let options = format!("--vdev=model0,mac={MAC},kernel={kernel},pci={bus}");
        let ended = testpmd(stack, column, &options, &azures(line, column, bus));
        assert!(sent(column, &ended).tx > SOME, "{ended}");
        assert!(ended.stdout.to_lowercase().contains(MAC), "{ended}");
    }
}

fn runs_azures_lines_on_6_12(stack: &Stack, column: Column) -> String {
    runs_azures_lines(stack, column, "6.12", "7870:00:00.0");
    "yes".to_owned()
}

fn runs_azures_lines_on_7_3_at_another_bus_address(stack: &Stack, column: Column) -> String {
    runs_azures_lines(stack, column, "7.3", "ab12:03:04.5");
    "yes".to_owned()
}

/// The kernel in question is that of the guide's last trouble, with driver id 19: without rdma-core
/// only; where both were made to agree, through it, too.
fn runs_azures_lines_on_azures_5_15(stack: &Stack, column: Column) -> String {
    let (kernel, cell) = match column {
        Column::OursUverbs => ("5.15-azure", "yes"),
        _ => ("5.15-azure,driver-id=20", "yes, with driver id 20"),
    };
    runs_azures_lines(stack, column, kernel, "0000:00:02.0");
    cell.to_owned()
}

fn forwards_on_two_ports_of_one_device_and_one_of_another(stack: &Stack, column: Column) -> String {
    let options =
        "--vdev=model0,ports=2,pci=0001:00:02.0 --vdev=model1,kernel=7.3,pci=c05e:00:00.0";
    let provider = column.provider();
    let ours = format!("-a 0001:00:02.0{provider} -a c05e:00:00.0{provider}");
    let devices = if column.is_ours() { &ours } else { "" };
    let line = format!(
        "-l 0-1 {devices} -- --forward-mode=txonly --auto-start --txq=2 --rxq=2 --txd=128 --rxd=128 \
         --total-num-mbufs=16384 --stats-period 2"
    );
    let ended = testpmd(stack, column, options, &line);
    let stats = sent(column, &ended);
    assert_eq!(stats.streams.len(), 6, "{ended}");
    assert!(stats.streams.iter().all(|it| it.tx > 0), "{ended}");
    "yes".to_owned()
}

situations! {
    runs_azures_lines_on_6_12
    runs_azures_lines_on_7_3_at_another_bus_address
    runs_azures_lines_on_azures_5_15
    forwards_on_two_ports_of_one_device_and_one_of_another
}

/// What a program of rdma-core writes on these options of `mana model exec`.
#[track_caller]
fn verbs(stack: &Stack, tree: &Tree, options: &[&str], program: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options: Vec<String> = options.iter().map(|&it| it.to_owned()).collect();
    let mut command = stack.exec(&options, &tree.verbs_program(program), folder.path());
    let text = Job::start(&mut command, LIMIT).end().success();
    assert_nothing_left(folder.path());
    text
}

#[test]
fn rdma_core_lists_the_devices_of_several_kernels_side_by_side() {
    let test = "rdma_core_lists_the_devices_of_several_kernels_side_by_side";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let devices = [
        "--vdev=model0,ports=2,pci=0001:00:02.0",
        "--vdev=model1,kernel=7.3,pci=ab12:03:04.5",
        "--vdev=model2,kernel=5.15-azure",
    ];
    for tree in [&stack.dpdk, &stack.rdma_core_44] {
        let listed = |options: &[&str]| {
            let text = verbs(&stack, tree, options, "ibv_devices");
            let names = text
                .lines()
                .skip(2)
                .filter_map(|it| it.split_whitespace().next());
            let mut names: Vec<_> = names.map(str::to_owned).collect();
            names.sort();
            names
        };
        // The first that come have the lowest numbers; with driver id 19 rdma-core knows none.
        assert_eq!(listed(&devices), ["mana_0", "mana_1", "manae_0"]);
        let all = [&devices[..], &["--driver-id=20"]].concat();
        assert_eq!(listed(&all), ["mana_0", "mana_1", "mana_2", "manae_0"]);
        // An id of a device's own is not the others'.
        let one = [
            "--driver-id=77",
            "--vdev=model0",
            "--vdev=model1,driver-id=20",
        ];
        assert_eq!(listed(&one), ["mana_1"]);
        let text = verbs(&stack, tree, &devices, "ibv_devinfo");
        let ports: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("phys_port_cnt:"))
            .map(str::trim)
            .collect();
        assert_eq!(ports.len(), 3, "{text}");
        assert_eq!(ports.iter().filter(|&&it| it == "2").count(), 1, "{text}");
    }
}
