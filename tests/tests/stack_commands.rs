//! What DPDK's testpmd does by command only: starting a port again and again, and VLAN tags.

#![forbid(unsafe_code)]

use std::fs;

use conformance::capture;
use conformance::stack::{Column, Outcome, Session, Stack, cell};

/// Types these commands at the prompt, and quits.
fn commands(stack: &Stack, model: &str, app: &str, lines: &[&str]) -> Outcome {
    let column = Column::DpdkRdmaCore56;
    let app = format!("-i --total-num-mbufs=8192 --txd=128 --rxd=128 {app}");
    let mut session = Session::start(stack, column, model, "DEVICE", &app).on_its_libraries(stack);
    for line in lines {
        session.type_line(line);
    }
    session.type_line("quit");
    session.end()
}

#[test]
fn dpdks_testpmd_starts_and_stops_its_port_50_times_and_sends_each_time() {
    let test = "dpdks_testpmd_starts_and_stops_its_port_50_times_and_sends_each_time";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let round = ["start tx_first", "stop", "port stop 0", "port start 0"];
    let outcome = commands(
        &stack,
        "model0,link=loop",
        "--rxq=2 --txq=2 --forward-mode=io --no-flush-rx",
        &round.repeat(50),
    );
    let _counted = outcome.clean();
    let text = &outcome.ended.stdout;
    let stops: Vec<&str> = text.split("Telling cores to stop").skip(1).collect();
    assert_eq!(stops.len(), 50, "{}", outcome.ended);
    for stop in stops {
        let sent: u64 = stop
            .split("TX-packets:")
            .skip(1)
            .take(2)
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        // The first burst of each queue at least.
        assert!(sent >= 64, "{stop}");
    }
    let row = "starts and stops 50 times";
    cell(row, Column::DpdkRdmaCore56.name(), "yes");
}

#[test]
fn dpdks_testpmd_has_the_device_insert_its_vlan_tag() {
    let test = "dpdks_testpmd_has_the_device_insert_its_vlan_tag";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sent.pcap");
    let model = format!("model0,link=pcap:tx={}", file.display());
    let mut lines = vec![
        "port stop 0",
        "tx_vlan set 0 291",
        "port start 0",
        "set fwd txonly",
    ];
    // Once might stop before the first burst.
    lines.extend(["start", "stop"].repeat(10));
    let outcome = commands(&stack, &model, "", &lines);
    let _counted = outcome.clean();
    let frames = capture::read(&fs::read(&file).expect("a capture"));
    assert!(!frames.is_empty(), "{}", outcome.ended);
    for frame in &frames {
        // TPID, then priority 0 and VLAN 291.
        assert_eq!(frame[12..16], [0x81, 0x00, 0x01, 0x23], "{frame:02x?}");
        assert_eq!(frame.len(), 68);
    }
    let row = "has the device insert a VLAN tag";
    cell(row, Column::DpdkRdmaCore56.name(), "yes");
}
