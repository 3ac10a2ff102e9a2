//! What a testpmd does by command: starting a port again and again, VLAN tags, and receiving until
//! all is there. The same script for each.

#![forbid(unsafe_code)]

use std::fs;

use conformance::stack::{Column, Outcome, Session, Stack, tcpdump};
use conformance::{capture, situations};

/// Types these commands at the prompt, and quits.
fn commands(stack: &Stack, column: Column, model: &str, app: &str, lines: &[&str]) -> Outcome {
    let app = format!("-i --total-num-mbufs=8192 --txd=128 --rxd=128 {app}");
    let mut session = Session::start(stack, column, model, "DEVICE", &app).on_its_libraries(stack);
    for line in lines {
        session.type_line(line);
    }
    session.type_line("quit");
    session.end()
}

fn starts_and_stops_its_port_50_times_and_sends_each_time(stack: &Stack, column: Column) -> String {
    let round = ["start tx_first", "stop", "port stop 0", "port start 0"];
    let outcome = commands(
        stack,
        column,
        "model0,link=loop",
        "--rxq=2 --txq=2 --forward-mode=io --no-flush-rx",
        &round.repeat(50),
    );
    let _counted = outcome.clean();
    let text = &outcome.ended.stdout;
    let stops: Vec<&str> = text.split("Telling cores to stop").skip(1).collect();
    assert_eq!(stops.len(), 50, "{}", outcome.ended);
    let mut all = 0;
    for stop in stops {
        let sent: u64 = stop
            .split("TX-packets:")
            .skip(1)
            .take(2)
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        // The first burst of each queue at least.
        assert!(sent >= 64, "{stop}");
        all += sent;
    }
    format!("50 times, {all} sent")
}

fn has_the_device_insert_a_vlan_tag(stack: &Stack, column: Column) -> String {
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
    let outcome = commands(stack, column, &model, "", &lines);
    let _counted = outcome.clean();
    let frames = capture::read(&fs::read(&file).expect("a capture"));
    assert!(!frames.is_empty(), "{}", outcome.ended);
    for frame in &frames {
        // TPID, then priority 0 and VLAN 291.
        assert_eq!(frame[12..16], [0x81, 0x00, 0x01, 0x23], "{frame:02x?}");
        assert_eq!(frame.len(), 68);
    }
    let seen = tcpdump(stack, "-e", &file);
    let tagged = seen.matches("vlan 291, p 0, ethertype IPv4").count();
    assert_eq!(tagged, frames.len(), "{seen}");
    format!("{tagged} of {} tagged, also by tcpdump", frames.len())
}

/// A generator's frames, which the port only receives.
fn receives(stack: &Stack, column: Column, queues: u32) -> String {
    const COUNT: u64 = 20_000;
    let model = format!("model0,link=gen:count={COUNT}:size=60:flows=64");
    let app = format!(
        "-i --forward-mode=rxonly --no-flush-rx --total-num-mbufs=8192 --txq={queues} \
         --rxq={queues} --txd=256 --rxd=256"
    );
    let session = Session::on_terminal(stack, column, &model, "DEVICE", &app);
    let mut session = session.on_its_libraries(stack);
    session.type_line("start");
    // What is shown last.
    let shown = |text: &str| -> Option<u64> {
        let (_, last) = text.rsplit_once("NIC statistics for port 0")?;
        let (_, rest) = last.split_once("RX-packets:")?;
        last.contains("Tx-bps:").then_some(())?;
        rest.split_whitespace().next()?.parse().ok()
    };
    for turn in 1.. {
        session.type_line("show port stats 0");
        session.wait_until("statistics", |text| text.matches("Tx-bps:").count() == turn);
        if shown(&session.stdout()) == Some(COUNT) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    session.type_line("stop");
    session.type_line("quit");
    let outcome = session.end();
    let stats = outcome.clean();
    assert_eq!((stats.rx, stats.rx_dropped), (COUNT, 0), "{stats:?}");
    assert_eq!((stats.tx, stats.tx_dropped), (0, 0), "{stats:?}");
    let streams = stats.streams.iter().map(|stream| stream.rx);
    let streams: Vec<u64> = streams.collect();
    if queues > 1 {
        assert_eq!(streams.iter().sum::<u64>(), COUNT, "{streams:?}");
        assert!(streams.iter().all(|rx| *rx > 0), "{streams:?}");
    }
    format!("{COUNT} of {COUNT}")
}

situations! {
    starts_and_stops_its_port_50_times_and_sends_each_time
    has_the_device_insert_a_vlan_tag
    receives_all_of_a_generator_in_rxonly_on_one_queue = |stack, column| receives(stack, column, 1);
    receives_all_of_a_generator_in_rxonly_on_four_queues = |stack, column| receives(stack, column, 4);
}
