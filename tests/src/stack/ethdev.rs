//! `tests/programs/ethdev.c` on DPDK's libraries and the model: what DPDK's driver does when an
//! application asks it for what testpmd does not.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mana_model::control::Client;
use tempfile::TempDir;

use super::machine::variable;
use super::{Column, Outcome, Stack, maps};
use crate::host::Job;

/// How long one may run.
const LIMIT: Duration = Duration::from_secs(180);
/// What the program says between its start and its end begins so.
const REPLY: &str = "= ";

/// The running program, with its port open.
pub struct Ethdev {
    job: Job,
    /// Its process id.
    process: u32,
    model: Client,
    /// Bytes of standard output that were read.
    read: usize,
    _folder: Option<TempDir>,
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The numbers of its last line.
    pub numbers: Vec<i64>,
    /// The lines before.
    pub lines: Vec<String>,
}

impl Ethdev {
    /// Starts it on a preloaded model (`model0,…`), with options as they stand in its source. `None` after
    /// reporting that `test` is skipped, where it could not be compiled.
    ///
    /// # Panics
    ///
    /// If the program does not get as far as to ask for commands.
    #[must_use]
    #[track_caller]
    pub fn start(stack: &Stack, test: &str, model: &str, options: &str) -> Option<Self> {
        if let Ok(reason) = env::var("MANA_ETHDEV_SKIP") {
            crate::skip(test, &reason);
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ethdev");
        std::fs::copy(variable("MANA_ETHDEV"), &file).expect("the program can be copied");
        let socket = folder.path().join("control");
        let mut words = stack.dpdk.with_dpdk(&file);
        let line = "-l 0 --no-huge -m 256 --no-telemetry -a 7870:00:00.0 --";
        words.extend(line.split(' ').map(Into::into));
        words.extend(options.split_whitespace().map(Into::into));
        let exec = [
            format!("--vdev={model}"),
            format!("--control={}", socket.display()),
        ];
        let job = Job::start(&mut stack.exec(&exec, &words, folder.path()), LIMIT);
        let model = Client::wait_for(&socket, LIMIT).expect("the model listens");
        let exec = job.id();
        let mut program = Self::ready(job, model, || {
            maps::only_child(exec).expect("the program runs")
        });
        program._folder = Some(folder);
        program.assert_libraries(&stack.dpdk.root());
        Some(program)
    }

    /// Starts it on the running kernel, with words for EAL, and options as they stand in its source.
    /// `model` is what serves the device.
    ///
    /// # Panics
    ///
    /// As [`Ethdev::start`].
    #[must_use]
    #[track_caller]
    pub fn on_the_kernel(eal: &str, options: &str, model: Client) -> Self {
        let mut command = Command::new("ethdev");
        command.args(eal.split_whitespace()).arg("--");
        command.args(options.split_whitespace());
        let job = Job::start(&mut command, LIMIT);
        let process = job.id();
        let program = Self::ready(job, model, || process);
        program.assert_libraries(Path::new("/"));
        program
    }

    /// One that asks for commands, when it does.
    #[track_caller]
    fn ready(job: Job, model: Client, process: impl FnOnce() -> u32) -> Self {
        let mut program = Self {
            job,
            process: 0,
            model,
            read: 0,
            _folder: None,
        };
        let _ready = program.answer("its port");
        program.process = process();
        program
    }

    #[track_caller]
    fn assert_libraries(&self, root: &Path) {
        let mapped = maps::mapped(self.process);
        let libraries = Column::DpdkRdmaCore56.libraries();
        assert!(maps::are_of(&mapped, root, libraries));
    }

    /// The model it runs on.
    #[must_use]
    pub fn model(&self) -> &Client {
        &self.model
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.job.write(format!("{line}\n").as_bytes());
    }

    /// Waits for the answer to what was typed.
    ///
    /// # Panics
    ///
    /// If the program ends instead, or runs out of time.
    #[track_caller]
    pub fn answer(&mut self, what: &str) -> Answer {
        let read = self.read;
        let mut found = None;
        self.job.wait_until(what, |job| {
            found = Answer::in_text(&job.stdout()[read..]);
            found.is_some()
        });
        let (answer, length) = found.expect("an answer");
        self.read += length;
        answer
    }

    /// Types a line and waits for its answer.
    ///
    /// # Panics
    ///
    /// As [`Ethdev::answer`].
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Answer {
        self.type_line(line);
        self.answer(line)
    }

    /// Types a line that is answered by one number.
    ///
    /// # Panics
    ///
    /// As [`Ethdev::answer`], or if it is answered otherwise.
    #[track_caller]
    pub fn number(&mut self, line: &str) -> i64 {
        let answer = self.ask(line);
        assert_eq!(answer.numbers.len(), 1, "{line}: {answer:?}");
        answer.numbers[0]
    }

    /// Lets a frame arrive at its port.
    ///
    /// # Panics
    ///
    /// If the model does not answer.
    pub fn deliver(&self, frame: &[u8]) {
        let port = self.model.port(0);
        port.deliver(frame).expect("the model takes a frame");
        self.model.step().expect("the model answers");
    }

    /// Waits until it sleeps within a command that says so.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn wait_for_sleep(&mut self) {
        let (read, process) = (self.read, self.process);
        self.job.wait_until("sleep", |job| {
            job.stdout()[read..].contains("sleeping\n") && maps::is_asleep(process)
        });
    }

    /// Ends it, and waits for that.
    ///
    /// # Panics
    ///
    /// If it takes too long.
    #[must_use]
    #[track_caller]
    pub fn end(self) -> Outcome {
        Outcome::of(Column::DpdkRdmaCore56, self.job.end())
    }
}

impl Answer {
    /// The first whole answer, and its bytes.
    fn in_text(text: &str) -> Option<(Self, usize)> {
        let whole = &text[..=text.rfind('\n')?];
        let mut length = 0;
        let mut lines = Vec::new();
        for line in whole.split_inclusive('\n') {
            length += line.len();
            let line = line.trim_end();
            if let Some(numbers) = line.strip_prefix(REPLY) {
                let numbers = numbers.split(' ').filter_map(|word| word.parse().ok());
                let numbers = numbers.collect();
                return Some((Self { numbers, lines }, length));
            }
            lines.push(line.to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        assert_eq!(Answer::in_text(""), None);
        assert_eq!(Answer::in_text("packet 60\n= 1"), None);
        let text = "packet 60\n= 1 -11\n= 5\n";
        let (answer, length) = Answer::in_text(text).unwrap();
        assert_eq!(answer.lines, ["packet 60"]);
        assert_eq!(answer.numbers, [1, -11]);
        assert_eq!(&text[length..], "= 5\n");
    }
}
