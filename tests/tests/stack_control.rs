//! The preloaded model, steered from outside its process and by the program itself; threads, fork,
//! exec and signal handlers of the program.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use conformance::uverbs::{Ran, Uverbs};
use mana_model::control::{Client, ClientError};
use mana_model::{Fault, ObjectCounts};

/// A doorbell for a queue that does not exist, as a line of `findings`.
fn finding(queue: u32, count: u32) -> String {
    format!("finding DoorbellQueue model0 {queue:#x} {count} Send doorbell {queue:#018x}\n")
}

#[test]
fn a_running_program_is_steered_and_read_over_its_socket() {
    let test = "a_running_program_is_steered_and_read_over_its_socket";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let path = uverbs.path("control");
    let options = format!(
        "--vdev=model0,ports=2,link=sink:keep --vdev=model1 --control={}",
        path.display()
    );
    let mut command = uverbs.exec(&options, "hold");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let client = Client::wait_for(&path, Duration::from_secs(60)).unwrap();
    let mut input = running.stdin.take().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(client.ports().unwrap(), 3);
    let expected = ObjectCounts {
        contexts: 1,
        ..ObjectCounts::default()
    };
    assert_eq!(client.objects().unwrap(), expected);
    client.port(1).deliver(&[0xAA; 60]).unwrap();
    client.step().unwrap();
    assert_eq!(client.port(1).counters().unwrap().rx_disabled, 1);
    assert!(client.findings().unwrap().is_empty());

    // The program's next calls ask for the context that it has: the first fails as ordered, the second
    // for itself, the third because the device is gone.
    let mut call = || {
        input.write_all(b"\n").unwrap();
        lines.next().unwrap().unwrap()
    };
    let operations = client.operations().unwrap();
    client
        .inject(Fault::FailOperation {
            nth: 1,
            errno: uverbs_abi::Errno::ENOMEM,
        })
        .unwrap();
    assert_eq!(call(), "12");
    assert_eq!(call(), "22");
    assert_eq!(client.operations().unwrap(), operations + 2);
    client.inject(Fault::DeviceFatal { device: 0 }).unwrap();
    assert_eq!(call(), "5");

    // A second program has the path denied, and leaves the first alone.
    let second = uverbs.run(&format!("--control={}", path.display()), "hold");
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("another model listens"), "{second:?}");
    let control = |words: &[&str]| {
        let socket = path.to_str().unwrap();
        Ran::of(&mut uverbs.mana(&[&["model", "control", socket], words].concat()))
    };
    let asked = control(&["drained"]);
    assert_eq!((asked.code, asked.out.as_str()), (Some(0), "drained yes\n"));
    let refused = control(&["counters", "9"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("no port 9"), "{refused:?}");
    assert_eq!(control(&[]).code, Some(2));

    drop(input);
    assert_eq!(running.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
    assert!(matches!(client.step(), Err(ClientError::Io(_))));
    let late = control(&["drained"]);
    assert_eq!(late.code, Some(1));
    assert!(late.err.contains("no model is steered"), "{late:?}");
}

#[test]
fn a_socket_of_a_killed_program_goes_and_one_that_can_not_be_is_refused_before_the_start() {
    let test =
        "a_socket_of_a_killed_program_goes_and_one_that_can_not_be_is_refused_before_the_start";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let path = uverbs.path("control");
    let mut command = uverbs.mana(&["model", "exec"]);
    command.arg(format!("--control={}", path.display()));
    // The shell does not look for devices; the program in it does, and is killed.
    let script = format!(
        "{} hold < /dev/zero > /dev/null & while [ ! -S {} ]; do sleep 0.01; done; kill -9 $!; wait $!; \
         exit 4",
        uverbs.program().display(),
        path.display()
    );
    let killed = Ran::of(command.args(["--", "/bin/sh", "-c", &script]));
    assert_eq!(killed.code, Some(4), "{killed:?}");
    assert!(!path.exists());

    fs::write(&path, "text").unwrap();
    let long = uverbs.path(&"x".repeat(120));
    for (path, text) in [
        (path, "no socket"),
        (long, "too long"),
        (uverbs.path("none/control"), "folder in which"),
    ] {
        let ran = uverbs.run(&format!("--control={}", path.display()), "threads 1 1");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(text) && ran.out.is_empty(), "{ran:?}");
    }
}

#[test]
fn a_program_asks_its_own_model() {
    let Some(uverbs) = Uverbs::build("a_program_asks_its_own_model") else {
        return;
    };
    let ran = uverbs.run("--vdev=model0,mac=00:0d:3a:11:22:33", "commands ports what");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut lines = ran.out.lines();
    let (length, port) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(length, format!("{} 0", port.len() + 1));
    assert!(
        port.starts_with("port 0 device 0 mac 00:0d:3a:11:22:33"),
        "{ran:?}"
    );
    assert_eq!(lines.next(), Some("-1 22"));
    assert!(lines.next().unwrap().starts_with("unknown command"));

    // An answer that did not fit is had again whole; the command is not run twice.
    let ran = uverbs.run("", "cut");
    let whole = finding(1, 1);
    let expected = format!("{} findi\n{} 0\n{whole}", whole.len(), whole.len());
    assert_eq!((ran.code, ran.out), (Some(0), expected));
}

#[test]
fn a_plain_doorbell_page_is_read_when_the_device_is_stepped() {
    let test = "a_plain_doorbell_page_is_read_when_the_device_is_stepped";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("--doorbell=step", "step");
    let whole = finding(7, 1);
    let expected = format!("0 0\nstep 0\n{} 0\n{whole}", whole.len());
    assert_eq!((ran.code, ran.out), (Some(3), expected));
    assert!(ran.err.contains("1 finding(s)"), "{}", ran.err);
}

#[test]
fn no_doorbell_of_any_thread_is_lost() {
    let Some(uverbs) = Uverbs::build("no_doorbell_of_any_thread_is_lost") else {
        return;
    };
    let ran = uverbs.run("", "threads 8 3000");
    for queue in 1..=8 {
        assert!(ran.out.contains(&finding(queue, 3000)), "{ran:?}");
    }
    assert_eq!(ran.code, Some(3));
}

#[test]
fn the_programs_own_fault_handler_stack_and_masks_go_on_working() {
    let test = "the_programs_own_fault_handler_stack_and_masks_go_on_working";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "handler");
    assert!(ran.out.starts_with("faults 3\n"), "{ran:?}");
    // One before, three in the handler, one behind, all with every signal blocked.
    for (queue, count) in [(1, 1), (2, 3), (3, 1)] {
        assert!(ran.out.contains(&finding(queue, count)), "{ran:?}");
    }
    assert_eq!(ran.code, Some(3));
}

#[test]
fn a_forked_child_has_a_machine_of_its_own_and_leaves_the_parents_socket_alone() {
    let test = "a_forked_child_has_a_machine_of_its_own_and_leaves_the_parents_socket_alone";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let path = uverbs.path("control");
    let ran = uverbs.run(&format!("--control={}", path.display()), "fork");
    let (child, parent) = (finding(2, 1), finding(1, 1) + &finding(3, 1));
    let expected = format!("{} 0\n{child}{} 0\n{parent}", child.len(), parent.len());
    assert_eq!((ran.code, ran.out), (Some(3), expected));
    assert!(ran.err.contains("3 finding(s)"), "{}", ran.err);
    assert!(!path.exists());
}

#[test]
fn a_program_that_executes_another_is_on_the_model_still() {
    let test = "a_program_that_executes_another_is_on_the_model_still";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "exec");
    assert!(ran.out.ends_with(&finding(1, 1)), "{ran:?}");
    assert_eq!(ran.code, Some(3));
}

#[test]
fn every_form_of_a_store_rings_once_with_the_value_that_was_stored() {
    let test = "every_form_of_a_store_rings_once_with_the_value_that_was_stored";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "stores");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let last = if ran.out.starts_with("avx\n") { 27 } else { 18 };
    // movhps, movhpd and vmovhps store the high half.
    let high = [8, 9, 21];
    for number in 1..=last {
        let queue = if high.contains(&number) {
            number + 100
        } else {
            number
        };
        assert!(ran.out.contains(&finding(queue, 1)), "{number}: {ran:?}");
    }
    let rung = ran
        .out
        .lines()
        .filter(|line| line.contains("DoorbellQueue"));
    assert_eq!(rung.count(), last as usize, "{ran:?}");
    // The other half of a whole vector falls beside the registers.
    assert!(ran.out.contains("DoorbellRegister"), "{ran:?}");
}

#[test]
fn a_store_that_is_no_doorbell_ends_the_program_with_its_bytes() {
    let test = "a_store_that_is_no_doorbell_ends_the_program_with_its_bytes";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "narrow");
    assert!(ran.code.is_some_and(|code| code >= 128), "{ran:?}");
    assert!(ran.err.contains("c7"), "{ran:?}");
}

#[test]
fn a_folder_that_can_not_be_written_is_named_before_the_start() {
    let test = "a_folder_that_can_not_be_written_is_named_before_the_start";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let mut command = uverbs.exec("", "true");
    let ran = Ran::of(command.env("TMPDIR", uverbs.path("none")));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("TMPDIR") && ran.err.contains("none"),
        "{ran:?}"
    );
}
