//! Commands over a model, by text and by socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;
use uverbs_abi::Errno;

use super::answer::{Numbers, read_finding, write_finding};
use super::*;
use crate::{
    After, DoorbellMode, Fault, Finding, FindingKind, LinkConfig, Model, ModelConfig, ObjectCounts,
    PortCounters, parse_device,
};

fn model(devices: &[&str]) -> Model {
    let devices = devices.iter().map(|text| parse_device(text).unwrap());
    Model::new(ModelConfig {
        devices: devices.collect(),
        doorbells: DoorbellMode::Stepped,
    })
    .unwrap()
}

fn fault() -> impl Strategy<Value = Fault> {
    let small = 0_usize..100;
    let nth = 1_u64..;
    prop_oneof![
        (nth.clone(), 1..4096).prop_map(|(nth, errno)| Fault::FailOperation {
            nth,
            errno: Errno(errno)
        }),
        (
            small.clone(),
            proptest::option::of(any::<u32>()),
            33_u8..43,
            nth.clone()
        )
            .prop_map(|(port, sq, cqe_type, nth)| Fault::TxError {
                port,
                sq,
                cqe_type,
                nth
            }),
        (small.clone(), nth.clone()).prop_map(|(port, nth)| Fault::RxTruncated { port, nth }),
        (small.clone(), nth.clone()).prop_map(|(port, nth)| Fault::GarbageCqe { port, nth }),
        (small.clone(), nth.clone()).prop_map(|(port, nth)| Fault::LostCqe { port, nth }),
        (small.clone(), nth).prop_map(|(device, nth)| Fault::RemoveAt { device, nth }),
        small.prop_map(|device| Fault::DeviceFatal { device }),
    ]
}

fn after() -> impl Strategy<Value = After> {
    let time = any::<u32>().prop_map(|ms| After::Time(Duration::from_millis(u64::from(ms))));
    prop_oneof![any::<u32>().prop_map(After::Steps), time]
}

/// What a command can put behind a port.
const WIRES: [LinkConfig; 3] = [
    LinkConfig::Loop,
    LinkConfig::Sink { capture: false },
    LinkConfig::Sink { capture: true },
];

fn command() -> impl Strategy<Value = Command> {
    let port = 0_usize..100;
    let frame = proptest::collection::vec(any::<u8>(), 1..100);
    let frames = proptest::collection::vec(frame, 1..4);
    prop_oneof![
        Just(Command::Help),
        Just(Command::Ports),
        proptest::option::of(port.clone()).prop_map(Command::Counters),
        Just(Command::Findings),
        Just(Command::TakeFindings),
        Just(Command::Undecided),
        Just(Command::Objects),
        Just(Command::Operations),
        Just(Command::Drained),
        Just(Command::Step),
        prop::sample::select(&crate::Cooling::ALL[..]).prop_map(Command::Cool),
        (0_usize..100).prop_map(|device| Command::Remove { device }),
        (0_usize..100).prop_map(|device| Command::Restore { device }),
        (0_usize..100, after()).prop_map(|(device, after)| Command::Reset { device, after }),
        (port.clone(), any::<bool>()).prop_map(|(port, up)| Command::Link { port, up }),
        (0_usize..100).prop_map(|device| Command::ResetRequest { device }),
        (port.clone(), prop::sample::select(&WIRES[..]))
            .prop_map(|(port, link)| Command::Wire { port, link }),
        fault().prop_map(Command::Inject),
        (port.clone(), any::<bool>()).prop_map(|(port, up)| Command::Netdev { port, up }),
        port.clone().prop_map(|port| Command::Frames { port }),
        (port, frames).prop_map(|(port, frames)| Command::Deliver { port, frames }),
    ]
}

proptest! {
    #[test]
    fn a_command_is_what_its_text_says(command in command()) {
        let text = command.to_string();
        prop_assert_eq!(text.parse::<Command>().unwrap(), command, "{}", text);
    }

    #[test]
    fn any_line_is_a_command_or_an_error(line in ".{0,60}") {
        let _either = line.parse::<Command>();
    }
}

#[test]
fn help_names_every_command() {
    for word in "help ports counters findings take-findings undecided objects operations drained \
                 step inject remove restore reset reset-request link wire netdev frames deliver"
        .split_whitespace()
    {
        assert!(HELP.lines().any(|line| line.starts_with(word)), "{word}");
    }
}

#[test]
fn wrong_lines_are_refused_with_what_is_expected() {
    let model = model(&["model0"]);
    for (line, errno, text) in [
        ("", Errno::EINVAL, "a command"),
        ("what", Errno::EINVAL, "`help`"),
        ("step 2", Errno::EINVAL, "nothing more"),
        ("counters x", Errno::EINVAL, "a port, not `x`"),
        ("counters 1", Errno::ENODEV, "no port 1"),
        ("inject", Errno::EINVAL, "a fault"),
        ("inject rx-truncated 0 0", Errno::EINVAL, "counted from 1"),
        ("inject rx-truncated 7 1", Errno::ENODEV, "no port 7"),
        ("inject tx-error 0 32 1", Errno::EINVAL, "33 to 42"),
        ("inject fail-operation 1 EWHAT", Errno::EINVAL, "its name"),
        ("inject lost-cqe 1 1", Errno::ENODEV, "no port 1"),
        ("inject remove-at 3 1", Errno::ENODEV, "no device 3"),
        ("inject device-fatal 3", Errno::ENODEV, "no device 3"),
        ("remove 1", Errno::ENODEV, "no device 1"),
        ("restore 0", Errno::EEXIST, "is there"),
        ("reset 0 5", Errno::EINVAL, "`after`"),
        ("reset 0 after", Errno::EINVAL, "milliseconds"),
        ("reset 0 after 1 x", Errno::EINVAL, "`steps`"),
        ("link 0 cut", Errno::EINVAL, "`up` or `down`"),
        ("wire 0 tap", Errno::EINVAL, "`sink:keep`"),
        ("wire 1 loop", Errno::ENODEV, "no port 1"),
        ("reset-request 1", Errno::ENODEV, "no device 1"),
        ("netdev 0 on", Errno::EINVAL, "`up` or `down`"),
        ("deliver 0 abc", Errno::EINVAL, "pairs"),
        ("deliver 0 zz", Errno::EINVAL, "pairs"),
    ] {
        let error = run(&model, line).unwrap_err();
        assert_eq!(error.errno, errno, "{line}");
        assert!(error.why.contains(text), "{line}: {}", error.why);
    }
    assert_eq!(model.operations(), 0);
}

#[test]
fn an_errno_may_be_named() {
    let expected = Command::Inject(Fault::FailOperation {
        nth: 3,
        errno: Errno::ENOMEM,
    });
    let read: Command = "inject fail-operation 3 ENOMEM".parse().unwrap();
    assert_eq!(read, expected);
}

/// What `Client` reads is what the model has, for every structure with names in it.
#[test]
fn counters_and_findings_survive_their_text() {
    let mut counters = PortCounters::default();
    for (number, (name, _)) in counters.named().into_iter().enumerate() {
        counters.set(name, number as u64 + 1).unwrap();
    }
    let mut objects = ObjectCounts::default();
    for (number, (name, _)) in objects.named().into_iter().enumerate() {
        objects.set(name, number as u64 + 1).unwrap();
    }
    assert_eq!((counters.named().len(), objects.named().len()), (9, 7));
    for (queue, evidence) in [(Some(7), "a b  c"), (None, "")] {
        let finding = Finding {
            kind: FindingKind::CqOverflow,
            device: "model0".to_owned(),
            queue,
            evidence: evidence.to_owned(),
            count: 2,
        };
        let mut text = String::new();
        write_finding(&mut text, &finding);
        assert_eq!(read_finding(text.trim_end_matches('\n')), Some(finding));
    }
}

#[test]
fn a_client_sees_and_steers_what_the_model_has() {
    let model = model(&["model0,ports=2,link=sink:keep", "model1,link=loop"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let service = serve(&model, &path).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::wait_for(&path, Duration::from_secs(5)).unwrap();
    assert_eq!(client.ports().unwrap(), 3);
    for index in 0..3 {
        let (port, view) = (client.port(index), model.port(index));
        assert_eq!(port.mac().unwrap(), view.mac());
        assert_eq!(port.netdev().unwrap(), view.netdev());
        port.set_netdev_up(true).unwrap();
        assert!(view.is_netdev_up() && port.is_netdev_up().unwrap());
        port.set_netdev_up(false).unwrap();
        assert!(!view.is_netdev_up());
    }
    let port = client.port(2);
    port.deliver(&[0x55; 70]).unwrap();
    assert!(!client.drained().unwrap());
    client.step().unwrap();
    assert!(client.drained().unwrap());
    assert_eq!(port.counters().unwrap(), model.port(2).counters());
    assert_eq!(port.counters().unwrap().rx_disabled, 1);
    assert_eq!(client.objects().unwrap(), ObjectCounts::default());
    assert_eq!(client.operations().unwrap(), 0);
    assert_eq!(client.findings().unwrap(), []);
    assert_eq!(client.take_findings().unwrap(), []);
    assert_eq!(client.undecided().unwrap(), []);
    assert!(client.port(0).take_tx_frames().unwrap().is_empty());
    assert_eq!(
        client.port(3).counters().unwrap_err().errno(),
        Some(Errno::ENODEV)
    );
    client.port(2).set_link_up(false).unwrap();
    assert!(!model.port(2).is_link_up() && !client.port(2).is_link_up().unwrap());
    client.remove(1).unwrap();
    let away = [client.remove(1), client.reset(1, After::Steps(0))];
    for refused in away {
        assert_eq!(refused.unwrap_err().errno(), Some(Errno::ENODEV));
    }
    client.restore(1).unwrap();
    assert_eq!(client.restore(1).unwrap_err().errno(), Some(Errno::EEXIST));
    client.reset(1, After::Steps(0)).unwrap();
    client.inject(Fault::DeviceFatal { device: 1 }).unwrap();
    assert_eq!(model.system().ib_devices().unwrap().len(), 1);
    drop(service);
    assert!(!path.exists());
    assert!(client.step().is_err());
}

#[test]
fn another_link_begins_empty() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _service = serve(&model, &path).unwrap();
    let client = Client::connect(&path).unwrap();
    let port = client.port(0);
    port.deliver(&[0x55; 70]).unwrap();
    assert!(!client.drained().unwrap());
    for link in &WIRES {
        port.set_wire(link).unwrap();
        assert!(client.drained().unwrap());
    }
    assert_eq!(
        model.port(0).set_wire(&LinkConfig::Pair),
        Err(Errno::EOPNOTSUPP)
    );
}

#[test]
fn a_device_that_asks_for_a_reset_is_away_and_comes_back() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _service = serve(&model, &path).unwrap();
    let client = Client::connect(&path).unwrap();
    client.request_reset(0).unwrap();
    let devices = || model.system().ib_devices().unwrap().len();
    assert_eq!(devices(), 0);
    for _ in 0..3 {
        client.step().unwrap();
    }
    assert_eq!(devices(), 1);
}

/// As the serial port of a virtual machine is one.
#[test]
fn a_character_device_is_opened_and_not_connected_to() {
    let client = Client::connect(std::path::Path::new("/dev/null")).unwrap();
    assert!(matches!(client.step(), Err(ClientError::Io(_))));
}

#[test]
fn many_lines_at_once_are_answered_in_order_and_the_last_needs_no_end() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _service = serve(&model, &path).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"operations\r\n\nwhat\n drained").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    let ["operations 0", "ok", error, "drained yes", "ok"] = lines[..] else {
        panic!("{answer}");
    };
    assert!(error.starts_with("error 22 unknown command"), "{error}");
}

#[test]
fn a_client_that_never_ends_its_line_is_sent_away() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _service = serve(&model, &path).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    // The end of it may find the connection closed.
    let _broken = stream.write_all(&[b'x'; 300 * 1024]);
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with("error 90"),
        "{answer}"
    );
    assert!(Client::connect(&path).unwrap().drained().unwrap());
}

#[test]
fn a_path_that_can_not_be_a_socket_is_refused_with_the_reason() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let first = serve(&model, &path).unwrap();
    assert!(matches!(serve(&model, &path), Err(BindError::InUse { .. })));
    assert!(Client::connect(&path).unwrap().drained().unwrap());
    drop(first);
    fs::write(&path, "text").unwrap();
    assert!(matches!(
        serve(&model, &path),
        Err(BindError::NoSocket { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    let long = folder.path().join("x".repeat(108));
    assert!(matches!(
        serve(&model, &long),
        Err(BindError::TooLong { .. })
    ));
    let nowhere = folder.path().join("none/socket");
    assert!(matches!(serve(&model, &nowhere), Err(BindError::Io { .. })));
}

#[test]
fn a_socket_that_a_killed_model_left_is_replaced() {
    let model = model(&["model0"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _service = serve(&model, &path).unwrap();
    assert!(Client::connect(&path).unwrap().drained().unwrap());
}
