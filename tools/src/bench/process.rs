//! The process of a stack, from outside.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::de::DeserializeOwned;

use super::error::Error;
use super::plan::{Count, Direction, Events, Pass, Ready};
use super::stacks::Stack;

/// Lines of a process's complaints that are kept.
const COMPLAINTS: usize = 20;

/// A process that is ready to measure.
pub struct Process {
    stack: Stack,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    /// What it said of itself.
    pub ready: Ready,
}

/// What came of a start.
pub enum Started {
    Ready(Process),
    /// This stack has no such thing, for the reason.
    Unsupported(String),
}

impl Process {
    /// Starts it and waits until it is ready.
    pub fn start(
        stack: Stack,
        mut command: Command,
        check: impl Fn(&Ready) -> Result<(), String>,
    ) -> Result<Started, Error> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::Start)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let listener = child.stderr.take().map(|errors| {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.push_back(line);
                    if said.len() > COMPLAINTS {
                        said.pop_front();
                    }
                }
            })
        });
        let output = output.ok_or_else(|| Error::failed("a pipe is missing"))?;
        let mut process = Self {
            stack,
            child,
            input,
            output: BufReader::new(output),
            said,
            listener,
            ready: Ready {
                provider: String::new(),
                memory_kib: 0,
                libraries: Vec::new(),
            },
        };
        let line = process.line()?;
        #[derive(serde::Deserialize)]
        struct Unsupported {
            unsupported: String,
        }
        if let Ok(Unsupported { unsupported }) = serde_json::from_str(&line) {
            return Ok(Started::Unsupported(unsupported));
        }
        process.ready = process.parse(&line)?;
        check(&process.ready).map_err(|why| Error::Stack {
            stack: stack.name(),
            why,
        })?;
        Ok(Started::Ready(process))
    }

    /// Measures so many packets.
    pub fn pass(&mut self, direction: Direction, packets: u64) -> Result<Pass, Error> {
        self.ask(&format!("pass {} {packets}", direction.name()))
    }

    /// Moves so many packets, for callgrind.
    pub fn count(&mut self, direction: Direction, packets: u64) -> Result<Count, Error> {
        self.ask(&format!("count {} {packets}", direction.name()))
    }

    /// Moves so many packets, and counts what the processor counts.
    pub fn events(&mut self, direction: Direction, packets: u64) -> Result<Events, Error> {
        self.ask(&format!("events {} {packets}", direction.name()))
    }

    /// Lets it end, and asserts that it ends well. Returns what the model found where that is
    /// expected.
    pub fn end(mut self) -> Result<Vec<String>, Error> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if let Some(listener) = self.listener.take() {
            // It has read to the end, or there is nothing more to read.
            let _panicked = listener.join();
        }
        let said = self.said();
        let findings: Vec<String> = said
            .lines()
            .skip_while(|line| !line.contains(" finding(s):"))
            .skip(1)
            .map(|line| line.trim().to_owned())
            .collect();
        match status.code() {
            Some(0) => Ok(Vec::new()),
            // What is found of the driver in C is told, not judged.
            Some(3) if self.stack == Stack::C || self.stack.may_have(&findings) => Ok(findings),
            _ => Err(self.failed(&format!("ended with {status}"))),
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T, Error> {
        let input = self.input.as_mut();
        let told = input.map(|input| writeln!(input, "{line}"));
        if !matches!(told, Some(Ok(()))) {
            return Err(self.failed("does not listen any more"));
        }
        let line = self.line()?;
        self.parse(&line)
    }

    /// The next line of JSON; other lines are the libraries' talk.
    fn line(&mut self) -> Result<String, Error> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                let status = self.child.wait()?;
                return Err(self.failed(&format!("ended with {status}")));
            }
            if line.starts_with('{') {
                return Ok(line);
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &str) -> Result<T, Error> {
        serde_json::from_str(line).map_err(|error| self.failed(&format!("said {line}: {error}")))
    }

    fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Vec::from_iter(said.iter().map(String::as_str)).join("\n")
    }

    fn failed(&self, what: &str) -> Error {
        Error::Stack {
            stack: self.stack.name(),
            why: format!("its process {what}; it said:\n{}", self.said()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        // Its input ends, so it does; where it hangs, it is ended. After `end` it is gone.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}
