//! A running program: its output is collected, its time is limited, and nothing of it outlives its
//! value.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// How often a waiting test looks.
const LOOK: Duration = Duration::from_micros(200);

/// The terminal is nobody's controlling terminal.
const NOCTTY: i32 = rustix::fs::OFlags::NOCTTY.bits().cast_signed();

/// A program and what it has started, a process group of its own.
pub struct Job {
    name: String,
    child: Child,
    until: Instant,
    limit: Duration,
    stdout: Collected,
    stderr: Collected,
    /// Set when the program was waited for.
    status: Option<ExitStatus>,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its command line.
    pub name: String,
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output of a program that must have succeeded.
    ///
    /// # Panics
    ///
    /// If it did not, with all it wrote.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.code == Some(0), "{self}");
        self.stdout
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => writeln!(f, "`{}` ended with {code}", self.name)?,
            (None, signal) => writeln!(f, "`{}` ended by signal {signal:?}", self.name)?,
        }
        write!(f, "{}\n{}", self.stdout, self.stderr)
    }
}

impl Job {
    /// Starts a program that may run as long as `limit`.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    pub fn start(command: &mut Command, limit: Duration) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (name, mut child) = spawn(command);
        Self {
            name,
            until: Instant::now() + limit,
            limit,
            stdout: Collected::from(child.stdout.take().expect("a pipe")),
            stderr: Collected::from(child.stderr.take().expect("a pipe")),
            child,
            status: None,
        }
    }

    /// The same with standard output and standard error on one terminal, which changes nothing of
    /// what is written: so a program of C writes each line when it is complete, in the order in
    /// which both would be read there. All of it counts as standard output.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    pub fn start_on_terminal(command: &mut Command, limit: Duration) -> Self {
        let (near, far) = terminal().unwrap_or_else(|error| panic!("a terminal: {error}"));
        let second = far.try_clone().expect("a second handle");
        command.stdout(Stdio::from(far)).stderr(Stdio::from(second));
        let (name, child) = spawn(command);
        // The command still holds the far side; without it the near one ends with the program.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            name,
            until: Instant::now() + limit,
            limit,
            stdout: Collected::from(near),
            stderr: Collected::from(std::io::empty()),
            child,
            status: None,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Bytes that it has written on standard output so far.
    #[must_use]
    pub fn stdout_length(&self) -> usize {
        self.stdout.bytes().len()
    }

    /// What it has written on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `done` holds of this program.
    ///
    /// # Panics
    ///
    /// If the program ends before, or runs out of time.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            if self.has_ended() {
                // What it wrote last may have made it true.
                self.stdout.join();
                self.stderr.join();
                assert!(done(self), "it ended before {what}: {}", self.said());
                return;
            }
            assert!(!self.is_over(), "no {what} in time: {}", self.said());
            thread::sleep(LOOK);
        }
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    ///
    /// If it does not take it.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("standard input is open");
        let written = stdin.write_all(bytes).and_then(|()| stdin.flush());
        written.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends a signal to the group.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            // A group that has just ended is no mistake.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Whether the program has ended by itself.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status.is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If that takes longer than the limit.
    #[must_use]
    #[track_caller]
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        while !self.has_ended() {
            assert!(!self.is_over(), "it does not end: {}", self.said());
            thread::sleep(LOOK);
        }
        self.stdout.join();
        self.stderr.join();
        let status = self.status.expect("it has ended");
        Ended {
            name: self.name.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    #[must_use]
    #[track_caller]
    pub fn interrupt(self) -> Ended {
        self.signal(Signal::INT);
        self.end()
    }

    /// Kills it as nothing else can, and waits for its end.
    #[must_use]
    #[track_caller]
    pub fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.end()
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.until
    }

    fn said(&self) -> String {
        let Self { name, limit, .. } = self;
        format!(
            "`{name}` (limit {limit:?})\n{}\n{}",
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// A stream that is read to its end by a thread.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut part = vec![0; 65_536];
            while let Ok(length @ 1..) = stream.read(&mut part) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&part[..length]);
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Starts a program in a group of its own.
fn spawn(command: &mut Command) -> (String, Child) {
    let name = line(command);
    let child = command.process_group(0).stdin(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
    (name, child)
}

/// Both sides of a pseudo-terminal that hands through what is written.
fn terminal() -> std::io::Result<(File, File)> {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&near)?;
    unlockpt(&near)?;
    let path = ptsname(&near, Vec::new())?;
    let path = path.into_string().map_err(std::io::Error::other)?;
    let far = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NOCTTY)
        .open(path)?;
    let mut modes = tcgetattr(&far)?;
    modes.make_raw();
    tcsetattr(&far, OptionalActions::Now, &modes)?;
    Ok((File::from(near), far))
}

/// The command line without the loader's words.
fn line(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    let wrapped = words.iter().rposition(|word| word == "--library-path");
    words[wrapped.map_or(0, |at| at + 2)..].join(" ")
}
