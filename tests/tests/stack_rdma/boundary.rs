//! What crosses the boundary, recorded between the libraries and the device
//! (reference/uverbs-boundary.md §2; step numbers are its).

use crate::commands::{Command, Commands, Shape};
use crate::libraries::{Release, Run, Tree, value};

const PAIR: &str = "model0,ports=2,link=pair";

/// Runs testpmd with two queues each way and records its commands. None where the test was skipped.
fn record(test: &str, release: Release, model: &str, provider: &str) -> Option<Commands> {
    let tree = Tree::or_skip(test, release)?;
    let record = tree.compile(test, "record.c", "record.so")?;
    let log = tree.scratch.path().join("commands");
    let ended = tree.testpmd(&Run {
        model,
        provider,
        preload: Some(record),
        environment: vec![("RECORD_TO", value(&log))],
        ..Run::default()
    });
    ended.assert_ran_over(provider);
    Some(Commands::take(&log))
}

const M: bool = true;
const OPTIONAL: bool = false;

/// Attributes of the commands of which the reference tells them, in their order.
#[rustfmt::skip]
fn expected(command: &Command, release: Release) -> Option<(usize, Shape)> {
    Some(match (command.name(), release) {
        // T1, R1. Before rdma-core 52 with a shorter request and no answer of the driver.
        ("create cq", Release::Current) => (152, vec![
            (0, 0, M), (6, 4, M), (1, 4, M), (2, 8, M), (4, 4, M), (7, 0, OPTIONAL),
            (0x1000, 16, M), (0x1001, 8, M),
        ]),
        ("create cq", Release::First) => (136, vec![
            (0, 0, M), (6, 4, M), (1, 4, M), (2, 8, M), (4, 4, M), (7, 0, OPTIONAL),
            (0x1000, 8, M),
        ]),
        // T2.
        ("create send queue", _) => (216, vec![
            (2, 0, M), (4, 0, M), (5, 0, M), (0, 0, M), (9, 8, M), (7, 8, M), (8, 20, M),
            (12, 0, M), (13, 20, M), (14, 4, M), (0x1000, 16, M), (0x1001, 16, M),
        ]),
        // R2.
        ("create work queue", _) => (232, vec![
            (0, 0, M), (3, 8, M), (1, 0, M), (2, 0, M), (4, 8, M), (6, 4, M), (7, 4, M),
            (5, 0, M), (8, 4, M), (9, 4, M), (10, 4, M), (11, 4, M), (0x1000, 16, M),
        ]),
        // R3.
        ("create table", _) => (72, vec![(2, 8, M), (0, 16, M), (1, 16, M)]),
        // R4.
        ("create rss", _) => (200, vec![
            (2, 0, M), (6, 0, M), (0, 0, M), (9, 8, M), (7, 8, M), (8, 20, M),
            (12, 0, M), (13, 20, M), (14, 4, M), (0x1000, 64, M), (0x1001, 520, M),
        ]),
        // R5, P3.
        ("register memory", _) => (72, vec![(2, 8, M), (0, 40, M), (1, 12, M)]),
        ("alloc pd", _) => (72, vec![(2, 8, M), (0, 8, M), (1, 4, M)]),
        _ => return None,
    })
}

#[test]
fn the_libraries_send_what_the_reference_recorded_in_its_order() {
    let test = "the_libraries_send_what_the_reference_recorded_in_its_order";
    for release in Release::ALL {
        let Some(commands) = record(test, release, "model0", "rdma-core") else {
            return;
        };
        let queues = |names: [&'static str; 2]| [names, names].concat();
        let expected_names = [
            vec!["probe", "get context", "alloc async event", "query device"],
            vec!["alloc pd", "register memory"],
            queues(["create cq", "create send queue"]),
            queues(["create cq", "create work queue"]),
            vec!["create table", "create rss", "destroy qp", "destroy table"],
            queues(["destroy work queue", "destroy cq"]),
            queues(["destroy qp", "destroy cq"]),
            vec!["destroy mr", "destroy pd"],
        ];
        assert_eq!(commands.names(), expected_names.concat(), "{release:?}");
        for command in &commands.all {
            // ENOSPC is the answer to a probe with the right driver id.
            let probe = command.name() == "probe";
            assert_eq!(command.errno, if probe { 28 } else { 0 }, "{command:?}");
            assert_eq!(command.driver, 20);
            if let Some((length, shape)) = expected(command, release) {
                assert_eq!(
                    (command.length, command.shape()),
                    (length, shape),
                    "{release:?}"
                );
            }
        }
        commands.assert_nothing_left();
    }
}

/// What may differ: addresses, and the segments of a work request to send, from which libmana works
/// out the size that we give it.
fn comparable(command: &Command) -> Command {
    let mut command = command.clone();
    for attribute in &mut command.attributes {
        // The driver's data of an RSS queue pair, which has no ring, are 64 bytes.
        if attribute.id == 0x1000 && attribute.bytes <= 16 {
            attribute.content.replace_range(0..16, "address");
        }
        if command.object == 4 && attribute.id == 8 {
            attribute.content.replace_range(16..24, "segments");
        }
    }
    command
}

#[test]
fn uverbs_sends_what_the_libraries_send() {
    let test = "uverbs_sends_what_the_libraries_send";
    let (Some(libraries), Some(uverbs)) = (
        record(test, Release::Current, PAIR, "rdma-core"),
        record(test, Release::Current, PAIR, "uverbs"),
    ) else {
        return;
    };
    let after_open = |commands: &Commands| -> Vec<Command> {
        let after = commands.all.iter();
        let after = after.skip_while(|command| command.name() != "query device");
        after.map(comparable).collect()
    };
    let (libraries, uverbs) = (after_open(&libraries), after_open(&uverbs));
    for (theirs, ours) in libraries.iter().zip(&uverbs) {
        assert_eq!(ours, theirs, "{}", theirs.name());
    }
    assert_eq!(uverbs.len(), libraries.len());
    let ports = uverbs.iter().filter(|c| c.name() == "create rss").count();
    assert_eq!(ports, 2);
}

/// libmana takes the number of the port from the parent domain, and each ring from its offer.
#[test]
fn each_queue_has_its_ports_number_and_a_ring_of_its_own() {
    let test = "each_queue_has_its_ports_number_and_a_ring_of_its_own";
    for release in Release::ALL {
        let Some(commands) = record(test, release, PAIR, "rdma-core") else {
            return;
        };
        let contents = |name: &str| -> Vec<&str> {
            let of_name = commands.all.iter().filter(|command| command.name() == name);
            of_name
                .map(|command| {
                    &*command
                        .attribute(0x1000)
                        .expect("data of the driver")
                        .content
                })
                .collect()
        };
        let ports = |name: &str, at: usize| -> Vec<String> {
            let port = |content: &&str| content[2 * at..2 * at + 8].to_owned();
            contents(name).iter().map(port).collect()
        };
        let (one, two) = ("01000000", "02000000");
        assert_eq!(ports("create send queue", 12), [one, one, two, two]);
        assert_eq!(ports("create rss", 60), [one, two]);
        let mut rings: Vec<&str> = ["create cq", "create send queue", "create work queue"]
            .iter()
            .flat_map(|name| contents(name))
            .map(|content| &content[..16])
            .collect();
        assert_eq!(rings.len(), 8 + 4 + 4);
        // Little-endian: whole pages.
        assert!(
            rings
                .iter()
                .all(|ring| ring.starts_with("00") && &ring[3..4] == "0")
        );
        rings.sort_unstable();
        rings.dedup();
        assert_eq!(rings.len(), 16, "{rings:?}");
        commands.assert_nothing_left();
    }
}
