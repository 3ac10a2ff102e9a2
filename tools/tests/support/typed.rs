//! The program with a prompt: lines are typed into a pipe or a pseudo-terminal, and what it writes is
//! waited for.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{LIMIT, Run, command};

/// What a program has written so far.
struct Written {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Written {
    fn by(mut source: impl Read + Send + 'static) -> Written {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = bytes.clone();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A pseudo-terminal ends with an error.
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                shared.lock().expect("no panic").extend(&buffer[..count]);
            }
        });
        Written { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic")).into_owned()
    }

    fn end(self) -> String {
        self.reader.join().expect("no panic");
        let bytes = self.bytes.lock().expect("no panic");
        String::from_utf8(bytes.clone()).expect("UTF-8")
    }
}

/// A running program.
pub struct Typed {
    child: Child,
    stdin: Option<File>,
    stdout: Written,
    stderr: Option<Written>,
    /// What was waited for ends here.
    seen: usize,
}

impl Typed {
    /// Starts `mana testpmd` on a line, over pipes.
    pub fn piped(line: &str) -> Typed {
        let mut child = command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mana starts");
        let stdin = std::os::fd::OwnedFd::from(child.stdin.take().expect("a pipe"));
        Typed {
            stdin: Some(stdin.into()),
            stdout: Written::by(child.stdout.take().expect("a pipe")),
            stderr: Some(Written::by(child.stderr.take().expect("a pipe"))),
            child,
            seen: 0,
        }
    }

    /// The same on a pseudo-terminal, where standard error goes as well.
    pub fn on_terminal(line: &str) -> Typed {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let path = name.into_string().expect("UTF-8");
        let slave = || {
            let file = OpenOptions::new().read(true).write(true).open(&path);
            Stdio::from(file.expect("the terminal opens"))
        };
        let child = command(line)
            .env("TERM", "vt100")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("mana starts");
        let master = File::from(master);
        Typed {
            child,
            stdout: Written::by(master.try_clone().expect("a second handle")),
            stdin: Some(master),
            stderr: None,
            seen: 0,
        }
    }

    /// Its process id.
    pub fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Types these characters.
    pub fn keys(&mut self, keys: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(keys.as_bytes()).expect("it reads");
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\n"));
    }

    /// Waits until `text` was written behind what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let mut found = None;
        self.wait_until(text, |written| {
            found = written.find(text);
            found.is_some()
        });
        self.seen += found.expect("it was found") + text.len();
    }

    /// Waits until `done` says so of what was written behind what was waited for before.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut done: impl FnMut(&str) -> bool) {
        let start = Instant::now();
        loop {
            let written = self.stdout.text();
            if done(&written[self.seen..]) {
                return;
            }
            let errors = self.stderr.as_ref().map(Written::text);
            assert!(
                start.elapsed() < LIMIT,
                "no `{what}`: {written}\n{errors:?}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a table with the statistics of `port` says that the counter `name` is so high.
    #[track_caller]
    pub fn wait_for_count(&mut self, port: usize, name: &str, least: u64) {
        let (heading, field) = (format!(" for port {port} "), format!("  {name}: "));
        let count = |table: &str| {
            let (_, value) = table.split_once(&field)?;
            let (value, _) = value.split_once([' ', '\n'])?;
            value.parse::<u64>().ok()
        };
        self.wait_until(&format!("{name}: {least} of port {port}"), |written| {
            let mut tables = written.split("NIC statistics").skip(1);
            tables.any(|table| table.starts_with(&heading) && count(table) >= Some(least))
        });
    }

    /// Interrupts it, as Ctrl-C does, and waits for the end.
    #[track_caller]
    pub fn interrupt(self) -> Run {
        kill_process(self.id(), Signal::INT).expect("a child");
        self.end()
    }

    /// Types nothing more and waits for the end.
    #[track_caller]
    pub fn end(mut self) -> Run {
        let terminal = self.stderr.is_none();
        let kept = self.stdin.take().filter(|_| terminal);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if start.elapsed() > LIMIT {
                let _ = self.child.kill();
                panic!("it does not end: {}", self.stdout.text());
            }
            thread::sleep(Duration::from_millis(2));
        };
        drop(kept);
        Run {
            code: status.code().unwrap_or(-1),
            stdout: self.stdout.end(),
            stderr: self.stderr.map_or_else(String::new, Written::end),
        }
    }
}
