//! Runs each suite in a process of its own.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use conformance::Suite;
use mana_model::DeviceConfig;
use rustix::process::{Pid, Signal, kill_process};

use super::error::Error;
use super::inside::Told;
use super::options::{Options, Target};
use crate::program;

/// How often it is looked whether a suite has ended.
const LOOK: Duration = Duration::from_millis(2);
/// What a suite that was told to end is given for it.
const GRACE: Duration = Duration::from_secs(3);

/// What came of a suite.
pub enum Outcome {
    Passed(Told),
    /// With the reason.
    Failed(String, Told),
    /// The suite passed, but the model has findings.
    Findings(Told),
    /// With the reason.
    Skipped(&'static str),
}

/// Runs a suite, unless something is in its way.
pub fn run(options: &Options, suite: &'static Suite) -> Result<Outcome, Error> {
    if let Some(reason) = options.in_the_way(suite) {
        return Ok(Outcome::Skipped(reason));
    }
    let words = program::words().map_err(Error::Start)?;
    // Only this user can enter it.
    let folder = tempfile::Builder::new().prefix("mana-").tempdir();
    let folder = folder.map_err(Error::Start)?;
    let line = line(options, suite, &words, &folder.path().join("control"))?;
    let start = Instant::now();
    let mut child = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::Start)?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        // A pipe that breaks ends the text, which then lacks its last line.
        let _broken = stdout.map(|mut stdout| stdout.read_to_end(&mut text));
        text
    });
    let status = wait(&mut child, options.timeout).map_err(Error::Start)?;
    let text = reader.join().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let told = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Told>(line).ok());
    let nothing = || Told {
        seconds: start.elapsed().as_secs_f64(),
        ..Told::default()
    };
    Ok(match (status, told) {
        (None, told) => {
            let limit = options.timeout.as_secs();
            let reason = format!("still ran after {limit} seconds and was ended");
            Outcome::Failed(reason, told.unwrap_or_else(nothing))
        }
        (Some(status), None) => {
            let reason = format!("its process ended with {status}; see above for what it said");
            Outcome::Failed(reason, nothing())
        }
        (Some(status), Some(mut told)) => match told.failure.take() {
            Some(reason) => Outcome::Failed(reason, told),
            None if !told.findings.is_empty() => Outcome::Findings(told),
            None if !status.success() => Outcome::Failed(
                format!("it passed, but its process ended with {status}"),
                told,
            ),
            None => Outcome::Passed(told),
        },
    })
}

/// The command line of a suite's process.
fn line(
    options: &Options,
    suite: &Suite,
    words: &[OsString],
    socket: &Path,
) -> Result<Vec<OsString>, Error> {
    let mut line: Vec<OsString> = Vec::new();
    let mut arguments: Vec<OsString> = Vec::new();
    match &options.target {
        Target::Model { device, preloaded } => {
            let vdev = |device: &DeviceConfig| {
                let text = device.to_text()?;
                Ok::<_, Error>(OsString::from(format!("--vdev={text}")))
            };
            if *preloaded {
                line.extend_from_slice(words);
                line.extend(["model", "exec"].map(OsString::from));
                for device in suite.machine((**device).clone()) {
                    line.push(vdev(&device)?);
                }
                let named = |option: &str| {
                    let mut word = OsString::from(option);
                    word.push(socket);
                    word
                };
                line.extend([named("--control="), "--".into()]);
                arguments.extend(["--preload".into(), named("--socket=")]);
            }
            arguments.push(vdev(device)?);
        }
        Target::Hardware {
            selector,
            steer,
            control,
            ..
        } => {
            arguments.extend(["-a".into(), selector.to_string().into()]);
            if *steer {
                arguments.push("--steer".into());
            }
            if let Some(path) = control {
                arguments.extend(["--control".into(), path.into()]);
            }
        }
    }
    line.extend_from_slice(words);
    line.extend(["conformance", "--inside", "--suite", suite.name].map(OsString::from));
    line.push(format!("--provider={}", options.provider).into());
    line.extend(arguments);
    Ok(line)
}

/// Waits for the process, `None` if the limit was over first and it was ended.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!told).then_some(status));
        }
        let now = Instant::now();
        if now > end && !told {
            told = true;
            // Under `mana model exec` the suite is the process behind, which is not asked at once. Any
            // may have ended meanwhile.
            for process in started_by(child.id()).into_iter().chain([child.id()]) {
                let _gone = signal(process, Signal::TERM);
            }
        }
        if now > end + GRACE {
            for process in started_by(child.id()) {
                let _gone = signal(process, Signal::KILL);
            }
            child.kill()?;
        }
        thread::sleep(LOOK);
    }
}

fn signal(process: u32, signal: Signal) -> Option<()> {
    let pid = Pid::from_raw(i32::try_from(process).ok()?)?;
    kill_process(pid, signal).ok()
}

/// The processes that a process has started.
fn started_by(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}
