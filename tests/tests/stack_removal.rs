//! A device that goes away while packets circulate, for good or to come back.

#![forbid(unsafe_code)]

use std::time::Duration;

use conformance::situations;
use conformance::stack::{Column, Ethdev, Session, Stack};
use mana_model::control::Client;
use mana_model::{After, Fault, ObjectCounts};

/// DPDK's keeps what it prints until it prints statistics.
const APP: &str = "--stats-period=1 --total-num-mbufs=4096 --txd=128 --rxd=128";
const CIRCULATING: &str = "--auto-start --forward-mode=io --tx-first --no-flush-rx";
const REMOVED: &str = "\nPort 0: device removal event\n";

/// A testpmd on a loop with more options, once its port has sent so many packets, and its model.
#[track_caller]
fn started(
    stack: &Stack,
    column: Column,
    more: &str,
    packets: u64,
) -> (Session, Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("control");
    let options = [
        "--vdev=model0,link=loop".to_owned(),
        format!("--control={}", socket.display()),
    ];
    let app = format!("{APP} {more}");
    let session = Session::start_with(stack, column, &options, "DEVICE", &app);
    let mut session = session.on_its_libraries(stack);
    let client = Client::wait_for(&socket, Duration::from_secs(60)).expect("the model listens");
    let port = client.port(0);
    let sent = || port.counters().expect("the model answers").tx_frames;
    session.wait_while("packets", || sent() < packets);
    (session, client, folder)
}

#[track_caller]
fn assert_nothing_left(client: &Client) {
    let objects = client.objects().expect("the model answers");
    assert_eq!(objects, ObjectCounts::default());
}

/// DPDK's takes the port away; ours stops when told to.
fn told_of(stack: &Stack, column: Column, gone: fn(&Client)) -> String {
    let (mut session, client, _folder) = started(stack, column, CIRCULATING, 1000);
    gone(&client);
    session.wait_until("the event", |text| text.contains(REMOVED));
    if !column.is_ours() {
        session.wait_until("the end of its port", |text| {
            let rest = text.split_once("Now total ports is 0");
            rest.is_some_and(|(_, rest)| rest.contains("Port statistics"))
        });
        assert_nothing_left(&client);
    }
    let outcome = session.interrupt();
    let stats = outcome.clean();
    if column.is_ours() {
        assert!(stats.rx > 1000, "{stats:?}");
        return "told, stops clean".to_owned();
    }
    "told, port detached".to_owned()
}

fn tells_of_device_fatal(stack: &Stack, column: Column) -> String {
    told_of(stack, column, |client| {
        let fault = Fault::DeviceFatal { device: 0 };
        client.inject(fault).expect("the model takes it");
    })
}

fn tells_of_a_device_that_is_removed(stack: &Stack, column: Column) -> String {
    told_of(stack, column, |client| {
        client.remove(0).expect("the model takes it");
    })
}

/// What DPDK 24.11 has of it is the removal: recovery came to the driver in C in 2026.
fn meets_a_reset_of_its_device(stack: &Stack, column: Column) -> String {
    let reset = |client: &Client| {
        let after = After::Time(Duration::from_millis(50));
        client.reset(0, after).expect("the model takes it");
    };
    if !column.is_ours() {
        return told_of(stack, column, reset);
    }
    // Packets both ways, one way, and none: whoever has a queue gives it up, whatever it does with it.
    let one_way = "--auto-start --forward-mode=txonly --no-flush-rx";
    for (more, packets) in [(CIRCULATING, 1000), (one_way, 1000), ("-i", 0)] {
        let (mut session, client, _folder) = started(stack, column, more, packets);
        session.wait_until("start", |text| text.contains("Checking link statuses"));
        reset(&client);
        session.wait_until("recovery", |text| {
            text.contains("Port 0: error recovery successful event")
        });
        assert!(session.stdout().contains(REMOVED));
        if packets > 0 {
            let port = client.port(0);
            let sent = || port.counters().expect("the model answers").tx_frames;
            let before = sent();
            if more != CIRCULATING {
                session.wait_while("packets after it", || sent() < before + packets);
            }
            let _counted = session.interrupt().clean();
        } else {
            session.type_line("quit");
            assert_eq!(session.end().ended.code, Some(0));
        }
    }
    "told, recovers".to_owned()
}

situations! {
    tells_of_device_fatal
    tells_of_a_device_that_is_removed
    meets_a_reset_of_its_device
}

#[test]
fn the_driver_in_c_tells_an_application_of_the_removal_once_and_its_bursts_do_nothing() {
    let test = "the_driver_in_c_tells_an_application_of_the_removal_once_and_its_bursts_do_nothing";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let Some(mut program) = Ethdev::start(&stack, test, "model0,link=sink", "") else {
        return;
    };
    assert_eq!(program.number("start"), 0);
    assert_eq!(program.number("removals"), 0);
    program.model().remove(0).expect("the model takes it");
    while program.number("removals") == 0 {}
    assert_eq!(program.number("send p4x1"), 0);
    assert_eq!(program.number("away"), 0);
    assert_eq!(program.number("receive 0"), 0);
    assert_eq!(program.number("removals"), 1);
    let outcome = program.end();
    assert!(outcome.findings.is_empty(), "{outcome:?}");
    assert_eq!(outcome.ended.code, Some(0), "{}", outcome.ended);
}
