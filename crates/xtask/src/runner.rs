//! Building test programs with cargo and running them one after the other.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::libtest::Output;
use crate::process;
use crate::report::Tally;
use crate::workspace::Workspace;

/// How long one test program may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(900);
/// How long a program that has ended may hold its output open by what it has started.
const GRACE: Duration = Duration::from_secs(2);

/// How a line on standard output begins by which a program tells of a test that can't run where it is,
/// for which there is no file to write to; a name, a tab and the reason follow.
pub const SKIPPED: &str = "skipped elsewhere: ";
/// The same of a cell of the table: row, column and text follow, with tabs between them.
pub const CELL: &str = "cell elsewhere: ";

/// One built test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    pub package: String,
    /// Name of the library, program or file in `tests/`.
    pub target: String,
    pub path: PathBuf,
    folder: PathBuf,
}

/// How test programs are run.
#[derive(Default)]
pub struct How {
    /// Only the tests whose names contain this.
    pub filter: &'static str,
    /// One test after the other: they measure the machine, or need most of it.
    pub serial: bool,
    /// Variables for the tests.
    pub environment: Vec<(&'static str, OsString)>,
    /// How long one test program may take, if not what most may.
    pub limit: Option<Duration>,
}

/// Builds what `cargo` (a `cargo test …` without `--no-run`) would run. A package that does not
/// compile is the second value; the programs of the others are there all the same.
pub fn build(workspace: &Workspace, cargo: &mut Command) -> (Vec<TestProgram>, Result<(), String>) {
    cargo.args([
        "--no-run",
        "--no-fail-fast",
        "--message-format=json-render-diagnostics",
    ]);
    cargo.stdout(Stdio::piped());
    let output = match cargo.spawn().and_then(Child::wait_with_output) {
        Ok(output) => output,
        Err(error) => return (Vec::new(), Err(process::not_started(cargo, &error))),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let programs = text
        .lines()
        .filter_map(|line| program(workspace, line))
        .collect();
    let built = match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{} failed, see its output above",
            process::line(cargo)
        )),
    };
    (programs, built)
}

/// The test program that a message of cargo announces.
fn program(workspace: &Workspace, message: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let id = message["package_id"].as_str()?;
    let package = workspace.members().find(|package| package.id == id)?;
    Some(TestProgram {
        package: package.name.clone(),
        target: message["target"]["name"].as_str()?.to_owned(),
        path: PathBuf::from(message["executable"].as_str()?),
        folder: package.folder.clone(),
    })
}

/// Property tests and soaks draw the same cases in every run, unless the caller names another seed: a
/// run judges a change, not luck. `cargo xtask long` is what searches on.
const SEEDS: [(&str, &str); 2] = [
    ("PROPTEST_RNG_SEED", "20261128"),
    ("MANA_SOAK_SEED", "1795860436021411235"),
];

/// Those of [`SEEDS`] that the caller does not name.
pub fn seeds() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
    SEEDS.into_iter().filter(move |seed| !named(seed))
}

impl TestProgram {
    /// Runs the program's tests and counts them. Returns how many ran.
    pub fn run(&self, workspace: &Workspace, how: &How, tally: &mut Tally) -> usize {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command.envs(seeds());
        command.envs(how.environment.iter().cloned());
        command.args(Some(how.filter).filter(|text| !text.is_empty()));
        command.args(how.serial.then_some("--test-threads=1"));
        let name = format!("{} {}", self.package, self.target);
        let limit = how.limit.unwrap_or(LIMIT);
        count_within(workspace, &mut command, &name, limit, tally)
    }
}

/// Runs the doc tests of every library and counts them.
pub fn doc_tests(workspace: &Workspace, tally: &mut Tally) {
    let mut cargo = process::cargo();
    cargo.args([
        "test",
        "--workspace",
        "--doc",
        "--no-fail-fast",
        "--quiet",
        "--",
    ]);
    // `--quiet` is for cargo alone: the names are needed.
    cargo.args(["--format", "pretty"]);
    count(workspace, &mut cargo, "doc", tally);
}

/// Runs a test program to its end and counts what it prints. Returns how many tests ran.
pub fn count(workspace: &Workspace, command: &mut Command, name: &str, tally: &mut Tally) -> usize {
    count_within(workspace, command, name, LIMIT, tally)
}

fn count_within(
    workspace: &Workspace,
    command: &mut Command,
    name: &str,
    limit: Duration,
    tally: &mut Tally,
) -> usize {
    println!("== {}: {name}", tally.tier);
    let skipped_file = workspace.target.join("xtask-skipped");
    let notes_file = workspace.target.join("xtask-notes");
    let table_file = workspace.target.join("xtask-table");
    for file in [&skipped_file, &notes_file, &table_file] {
        let _ = fs::remove_file(file);
    }
    command
        .env("MANA_SKIPPED_FILE", &skipped_file)
        .env("MANA_NOTES_FILE", &notes_file)
        .env("MANA_TABLE_FILE", &table_file)
        .stdout(Stdio::piped());
    let mut output = Output::default();
    let (mut elsewhere, mut cells) = (String::new(), String::new());
    let ended = follow_within(command, limit, |line| {
        println!("{line}");
        output.line(line);
        if let Some(test) = line.strip_prefix(SKIPPED) {
            elsewhere.push_str(&format!("{test}\n"));
        }
        if let Some(cell) = line.strip_prefix(CELL) {
            cells.push_str(&format!("{cell}\n"));
        }
    });
    let skipped = fs::read_to_string(&skipped_file).unwrap_or_default() + &elsewhere;
    let notes = fs::read_to_string(&notes_file).unwrap_or_default();
    tally.notes.extend(notes.lines().map(str::to_owned));
    tally
        .table
        .read(&(fs::read_to_string(&table_file).unwrap_or_default() + &cells));
    let failures = tally.failed.len();
    output.count(&format!("{name} "), &skipped, tally);
    match ended {
        // Failed tests are listed by name; anything else that is wrong has no name yet.
        Ok(()) if output.complete() => {}
        Err(_) if output.complete() && tally.failed.len() > failures => {}
        Ok(()) => tally.fail(name, "it printed no result"),
        Err(reason) => tally.fail(name, reason),
    }
    output.ran()
}

/// Runs a program, handing over each line it writes, until it ends or [`LIMIT`] is over.
pub fn follow(command: &mut Command, line: impl FnMut(&str)) -> Result<(), String> {
    follow_within(command, LIMIT, line)
}

fn follow_within(
    command: &mut Command,
    limit: Duration,
    line: impl FnMut(&str),
) -> Result<(), String> {
    let mut child = command
        .spawn()
        .map_err(|error| process::not_started(command, &error))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for bytes in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&bytes).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    let in_time = take_lines(&mut child, &lines, limit, line);
    if !in_time {
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot be waited for: {error}"))?;
    match (in_time, status.success()) {
        (false, _) => Err(format!(
            "still ran after {} seconds and was killed",
            limit.as_secs()
        )),
        (true, true) => Ok(()),
        (true, false) => Err(format!("ended with {status}")),
    }
}

/// Returns false when the limit is over first.
fn take_lines(
    child: &mut Child,
    lines: &Receiver<String>,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> bool {
    let limit = Instant::now() + limit;
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) if ended.is_some_and(|at| at.elapsed() > GRACE) => {
                return true;
            }
            Err(RecvTimeoutError::Timeout) => {
                if ended.is_none() && child.try_wait().is_ok_and(|status| status.is_some()) {
                    ended = Some(Instant::now());
                }
            }
        }
        if Instant::now() > limit {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workspace::fake::{member, workspace};

    #[test]
    fn only_test_programs_of_the_house_are_taken_from_cargos_messages() {
        let workspace = workspace(vec![member("gdma", &[])]);
        let message = |id: &str, test: bool, executable: Value| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": id, "profile": {"test": test},
                "target": {"name": "rings"}, "executable": executable,
            })
            .to_string()
        };
        let found = program(&workspace, &message("path+gdma", true, "/t/rings".into())).unwrap();
        assert_eq!(
            (found.package.as_str(), found.target.as_str()),
            ("gdma", "rings")
        );
        assert_eq!(found.path, Path::new("/t/rings"));
        for message in [
            message("path+gdma", false, "/t/example".into()),
            message("path+other", true, "/t/other".into()),
            message("path+gdma", true, Value::Null),
            "not json".to_owned(),
        ] {
            assert_eq!(program(&workspace, &message), None, "{message}");
        }
    }

    #[test]
    fn a_program_is_followed_line_by_line_to_its_exit_code() {
        let run = |script: &str| {
            let mut lines = Vec::new();
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).stdout(Stdio::piped());
            let ended = follow(&mut shell, |line| lines.push(line.to_owned()));
            (lines, ended)
        };
        assert_eq!(
            run("echo a; echo b"),
            (vec!["a".to_owned(), "b".to_owned()], Ok(()))
        );
        assert!(run("exit 3").1.unwrap_err().contains('3'));
    }

    #[test]
    fn a_program_whose_child_keeps_the_output_open_is_not_waited_for() {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 30 & echo done"])
            .stdout(Stdio::piped());
        let start = Instant::now();
        let mut lines = Vec::new();
        follow(&mut shell, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["done"]);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
