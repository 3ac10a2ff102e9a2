//! `tests/programs/ethdev.c` on DPDK's libraries and the model: what DPDK's driver does when an
//! application asks it for what testpmd does not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use mana_model::control::Client;
use tempfile::TempDir;

use super::machine::variable;
use super::{Column, Outcome, Stack, Tree, maps};
use crate::host::Job;

/// How long one may run.
const LIMIT: Duration = Duration::from_secs(60);
/// DPDK's libraries that the program calls.
const LIBRARIES: [&str; 4] = [
    "librte_eal.so.25",
    "librte_ethdev.so.25",
    "librte_mbuf.so.25",
    "librte_mempool.so.25",
];
/// What DPDK's own description asks of compilers, `libdpdk-libs.pc`.
const FLAGS: &str = "-march=corei7 -mrtm -include rte_config.h";
/// What the program says between its start and its end begins so.
const REPLY: &str = "= ";

/// The running program, with its port open.
pub struct Ethdev {
    job: Job,
    model: Client,
    /// Bytes of standard output that were read.
    read: usize,
    _folder: TempDir,
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
    /// Compiles and starts it on a model (`model0,…`), with options as they stand in its source.
    /// `None` after reporting that `test` is skipped, where there is no C compiler.
    ///
    /// # Panics
    ///
    /// If the program can't be compiled or does not get as far as to ask for commands.
    #[must_use]
    #[track_caller]
    pub fn start(stack: &Stack, test: &str, model: &str, options: &str) -> Option<Self> {
        let image = match program(&stack.dpdk) {
            Ok(image) => image,
            Err(reason) => {
                crate::skip(test, reason);
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ethdev");
        std::fs::write(&file, image).expect("the program can be written");
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
        let mut program = Self {
            job,
            model,
            read: 0,
            _folder: folder,
        };
        let _ready = program.answer("its port");
        let mapped = maps::mapped(program.id());
        let libraries = Column::DpdkRdmaCore56.libraries();
        assert!(maps::are_of(&mapped, &stack.dpdk.root(), libraries));
        Some(program)
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
        let (read, process) = (self.read, self.id());
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

    /// Its process id, behind that of `mana model exec`.
    #[track_caller]
    fn id(&self) -> u32 {
        maps::only_child(self.job.id()).expect("the program runs")
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

/// The program, compiled once a process against the headers of `MANA_DPDK_HEADERS` and the tree's
/// libraries; why not, where there is no compiler.
#[track_caller]
fn program(tree: &Tree) -> Result<&'static [u8], &'static str> {
    static PROGRAM: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile(tree));
    program.as_deref().map_err(String::as_str)
}

fn compile(tree: &Tree) -> Result<Vec<u8>, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/ethdev.c");
    let headers = variable("MANA_DPDK_HEADERS").join("usr/include");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("ethdev");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall"]).args(FLAGS.split(' '));
    for part in ["x86_64-linux-gnu", "x86_64-linux-gnu/dpdk", "dpdk"] {
        cc.arg("-isystem").arg(headers.join(part));
    }
    cc.arg(source).arg("-o").arg(&file);
    let libraries: Vec<PathBuf> = LIBRARIES
        .iter()
        .map(|name| tree.folder_of(name).join(name))
        .collect();
    // They ask for a libc that may be newer than the machine's.
    cc.args(libraries).arg("-Wl,--allow-shlib-undefined");
    let output = cc
        .output()
        .map_err(|error| format!("no C compiler: cc: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{cc:?}: {errors}");
    Ok(std::fs::read(file).expect("the program can be read"))
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
