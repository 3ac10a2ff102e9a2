//! However a program on the model ends: what was found is told, the exit code is its own, and
//! nothing is left of the run.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::host::Job;
use conformance::uverbs::{Ran, Uverbs};
use rustix::process::{Pid, Signal, kill_process};

/// What each program here does: a doorbell for a queue that is not there.
const FINDING: &str = "model0: queue 0x1: doorbell for a queue that the context does not have";

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// `mana model exec` of these words, with temporary files in a folder of their own.
fn exec(uverbs: &Uverbs, words: &[&str]) -> Command {
    let folder = uverbs.path("tmp");
    fs::create_dir_all(&folder).unwrap();
    let mut command = uverbs.mana(&[&["model", "exec", "--"], words].concat());
    command.env("TMPDIR", folder);
    command
}

#[track_caller]
fn assert_nothing_left(uverbs: &Uverbs) {
    let left: Vec<_> = fs::read_dir(uverbs.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[track_caller]
fn assert_ran(uverbs: &Uverbs, words: &[&str], code: i32, findings: usize) {
    let ran = Ran::of(&mut exec(uverbs, words));
    assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
    assert_eq!(
        ran.err.matches(FINDING).count(),
        findings,
        "{words:?}: {ran:?}"
    );
    let told = ran.err.contains(&format!("{findings} finding(s):"));
    assert_eq!(told, findings > 0, "{words:?}: {ran:?}");
    assert_nothing_left(uverbs);
}

#[test]
fn findings_are_told_and_the_exit_code_is_the_programs_however_it_ends() {
    let test = "findings_are_told_and_the_exit_code_is_the_programs_however_it_ends";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let program = uverbs.program();
    let program = program.to_str().unwrap();
    // 3 where it succeeded only; 128 and the signal's number as in shells.
    for (how, code) in [
        ("0", 3),
        ("5", 5),
        ("_exit", 3),
        ("SIGKILL", 137),
        ("abort", 134),
        ("fault", 139),
    ] {
        assert_ran(&uverbs, &[program, "end", how], code, 1);
    }
    assert_ran(&uverbs, &[program, "true"], 0, 0);
    assert_ran(&uverbs, &["false"], 1, 0);
}

#[test]
fn findings_of_programs_before_and_behind_an_exec_or_a_fork_are_all_told() {
    let test = "findings_of_programs_before_and_behind_an_exec_or_a_fork_are_all_told";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let program = uverbs.program();
    let program = program.to_str().unwrap();
    // The same process id: of another program, of itself again, thrice.
    assert_ran(&uverbs, &[program, "become", "true"], 3, 1);
    assert_ran(&uverbs, &[program, "become", "false"], 1, 1);
    assert_ran(&uverbs, &[program, "become", program, "end", "_exit"], 3, 2);
    let thrice = [
        program, "become", program, "become", program, "end", "SIGKILL",
    ];
    assert_ran(&uverbs, &thrice, 137, 3);
    // A shell that becomes the program, and one that starts it and goes on.
    let line = |text: &str| text.replace("PROGRAM", program);
    let shell = line("exec PROGRAM end 0");
    assert_ran(&uverbs, &["sh", "-c", &shell], 3, 1);
    let shell = line("PROGRAM end abort; PROGRAM end 5 && exit 9; exit 0");
    assert_ran(&uverbs, &["sh", "-c", &shell], 3, 2);
    let shell = line("PROGRAM become PROGRAM end 0; exit 7");
    assert_ran(&uverbs, &["sh", "-c", &shell], 7, 2);
}

#[test]
fn a_run_that_is_killed_leaves_a_folder_that_the_next_one_removes_when_its_program_has_ended() {
    let test =
        "a_run_that_is_killed_leaves_a_folder_that_the_next_one_removes_when_its_program_has_ended";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let program = uverbs.program();
    let program = program.to_str().unwrap();
    let mut command = exec(&uverbs, &[program, "hold"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut killed = command.spawn().unwrap();
    let input = killed.stdin.take();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let folders = || fs::read_dir(uverbs.path("tmp")).unwrap().count();
    assert_eq!(folders(), 1);
    // What the program needs stays, and what is no such folder.
    let file = uverbs.path("tmp/mana-model-1-0");
    fs::write(&file, "").unwrap();
    let next = || Ran::of(&mut exec(&uverbs, &["true"])).code;
    assert_eq!((next(), folders()), (Some(0), 2));
    drop(input);
    // Its output ends with it.
    assert!(lines.next().is_none());
    let limit = Instant::now() + LIMIT;
    while folders() > 1 {
        assert!(Instant::now() < limit, "the folder stays");
        assert_eq!(next(), Some(0));
    }
    fs::remove_file(file).unwrap();
    assert_nothing_left(&uverbs);
}

/// Sends a signal to `mana model exec` alone while its program runs, and expects its exit code.
#[track_caller]
fn signalled(uverbs: &Uverbs, script: &str, signal: Signal) -> Ran {
    let script = format!("{script}; echo ready; while :; do sleep 0.05; done");
    let mut command = exec(uverbs, &["sh", "-c", &script]);
    let mut job = Job::start(&mut command, LIMIT);
    job.wait_until("the program", |job| job.stdout().contains("ready"));
    kill_process(Pid::from_raw(job.id() as i32).unwrap(), signal).unwrap();
    let ended = job.end();
    assert_nothing_left(uverbs);
    Ran {
        code: ended.code,
        out: ended.stdout,
        err: ended.stderr,
    }
}

#[test]
fn a_request_to_end_reaches_the_program_and_the_run_tidies_up_behind_it() {
    let test = "a_request_to_end_reaches_the_program_and_the_run_tidies_up_behind_it";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let program = uverbs.program();
    let rings = format!("{} end 0", program.display());
    for (signal, name, code) in [(Signal::TERM, "TERM", 143), (Signal::HUP, "HUP", 129)] {
        let ran = signalled(&uverbs, &rings, signal);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(FINDING), "{ran:?}");
        let script = format!("trap 'exit 6' {name}");
        assert_eq!(signalled(&uverbs, &script, signal).code, Some(6));
    }
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let Some(uverbs) = Uverbs::build("what_nohup_ignores_stays_ignored") else {
        return;
    };
    let inner = format!(
        "trap '' HUP; exec {} model exec -- sh -c 'kill -HUP $PPID; kill -HUP $$; exit 4'",
        uverbs.mana(&[]).get_program().to_str().unwrap()
    );
    let ran = Ran::of(Command::new("sh").args(["-c", &inner]));
    assert_eq!(ran.code, Some(4), "{ran:?}");
}

/// Closed standard descriptors, standard error that nobody reads.
#[test]
fn a_run_without_anybody_to_read_what_it_says_has_the_same_exit_code() {
    let test = "a_run_without_anybody_to_read_what_it_says_has_the_same_exit_code";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let program = uverbs.program();
    let mana = uverbs.mana(&[]).get_program().to_owned();
    let shell = |redirect: &str, program: &Path| {
        let line = format!(
            "exec {} model exec -- {} closed {redirect}",
            mana.display(),
            program.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().code()
    };
    assert_eq!(shell("<&- >&- 2>&-", &program), Some(3));
    assert_eq!(shell("2>/dev/full", &program), Some(3));
    assert_eq!(shell("2>&-", Path::new("/nonexistent")), Some(1));
    // A group of its own is asked as a whole, by `timeout` and by terminals.
    let mut command = exec(&uverbs, &["sleep", "60"]);
    let mut job = Job::start(command.process_group(0), LIMIT);
    job.wait_until("the program", |job| {
        conformance::stack::only_child(job.id()).is_some()
    });
    job.signal(Signal::TERM);
    assert_eq!(job.end().code, Some(143));
    assert_nothing_left(&uverbs);
}
