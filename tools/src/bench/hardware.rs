//! A port of this machine: what needs no stepping. `mana testpmd` and, where there is one,
//! dpdk-testpmd run the same modes one after the other on the same port, told by the same commands.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use conformance::stack::{Stats, Tree};
use serde::Serialize;

use super::error::Error;
use crate::program;

/// Modes, each with what it shows.
const MODES: [(&str, &str); 3] = [("txonly", "tx"), ("rxonly", "rx"), ("io", "forward")];
/// Buffers of each core.
const BUFFERS: usize = 8192;
/// What a testpmd writes when it takes commands.
const PROMPT: &str = "testpmd> ";
/// What a testpmd is given to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a port is measured.
pub struct Hardware<'a> {
    /// As `-a` names it, for both.
    pub device: &'a str,
    pub duration: Duration,
    /// Cores that forward, as many queues each way.
    pub cores: usize,
    /// An unpacked DPDK; without one, dpdk-testpmd of this machine.
    pub dpdk: Option<&'a Path>,
    pub huge: bool,
}

/// What one program did in one mode.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    pub mode: &'static str,
    pub stack: &'static str,
    pub seconds: f64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub tx_dropped: u64,
    /// Millions a second of what the mode is about.
    pub mpps: f64,
    /// Cycles of the time-stamp counter that forwarding took for a packet.
    pub cycles_per_packet: Option<f64>,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Rates {
    pub device: String,
    pub cores: usize,
    pub rates: Vec<Rate>,
    pub skipped: Vec<String>,
}

impl Rates {
    /// The table.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}, {} forwarding core(s), bursts of 32; rx and forward need somebody who sends",
            self.device, self.cores
        )];
        lines.push(format!(
            "{:8} {:14} {:>10} {:>14} {:>16} {:>16} {:>12}",
            "", "", "Mpps", "cycles/packet", "received", "sent", "not sent"
        ));
        for rate in &self.rates {
            let cycles = rate.cycles_per_packet;
            lines.push(format!(
                "{:8} {:14} {:>10.3} {:>14} {:>16} {:>16} {:>12}",
                rate.mode,
                rate.stack,
                rate.mpps,
                cycles.map_or("-".to_owned(), |cycles| format!("{cycles:.1}")),
                rate.rx_packets,
                rate.tx_packets,
                rate.tx_dropped
            ));
        }
        lines.extend(self.skipped.iter().map(|text| format!("skipped: {text}")));
        lines.join("\n")
    }
}

/// Measures the port.
pub fn run(hardware: &Hardware) -> Result<Rates, Error> {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    if hardware.cores == 0 || hardware.cores >= allowed {
        return Err(Error::Usage(format!(
            "--cores {}: one core is testpmd's own, this process may use {allowed}",
            hardware.cores
        )));
    }
    let mut rates = Rates {
        device: hardware.device.to_owned(),
        cores: hardware.cores,
        rates: Vec::new(),
        skipped: Vec::new(),
    };
    let folder = tempfile::Builder::new().prefix("mana-bench-").tempdir()?;
    let mut ours: Vec<OsString> = program::words().map_err(Error::Start)?;
    ours.push("testpmd".into());
    let c = match dpdk_testpmd(hardware.dpdk) {
        Some(words) => Some(words),
        None => {
            rates
                .skipped
                .push("C PMD: no dpdk-testpmd, neither in --tree nor in PATH".to_owned());
            None
        }
    };
    for (mode, what) in MODES {
        for (stack, words) in [("C PMD", &c), ("ours", &Some(ours.clone()))] {
            let Some(words) = words else { continue };
            eprintln!("mana bench: {mode}: {stack}");
            let text = hardware.testpmd(words, stack == "ours", mode, folder.path());
            let rate = text.and_then(|(seconds, text)| rate(what, stack, seconds, &text));
            match rate {
                Ok(rate) => rates.rates.push(rate),
                // The other one, and the other modes, may run all the same.
                Err(error) => rates.skipped.push(format!("{stack}, {mode}: {error}")),
            }
        }
    }
    match rates.rates.is_empty() {
        true => Err(Error::Failed(rates.skipped.join("\n"))),
        false => Ok(rates),
    }
}

/// The words that start DPDK's testpmd.
fn dpdk_testpmd(tree: Option<&Path>) -> Option<Vec<OsString>> {
    if let Some(tree) = tree {
        return Some(Tree::at(tree).testpmd());
    }
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("dpdk-testpmd"));
    let found: PathBuf = places.find(|place| place.is_file())?;
    Some(vec![found.into()])
}

impl Hardware<'_> {
    /// Forwards for a while; returns how long it was and all that was written.
    fn testpmd(
        &self,
        words: &[OsString],
        ours: bool,
        mode: &str,
        folder: &Path,
    ) -> Result<(f64, String), Error> {
        // What both need for their buffers, and little more: DPDK takes all of it at its start.
        let (buffers, mib) = (BUFFERS * self.cores, (256 + 64 * self.cores).to_string());
        let memory: &[&str] = match (self.huge, ours) {
            (true, _) => &["--in-memory"],
            (false, true) => &["--no-huge"],
            (false, false) => &["--no-huge", "-m", &mib, "--no-shconf"],
        };
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["-l", &format!("0-{}", self.cores), "--no-telemetry"])
            .args(memory)
            .args(["-a", self.device, "--", "-i", "--record-core-cycles"])
            .arg(format!("--forward-mode={mode}"))
            .arg(format!("--total-num-mbufs={buffers}"))
            .arg(format!("--nb-cores={}", self.cores))
            .args([
                format!("--rxq={}", self.cores),
                format!("--txq={}", self.cores),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for variable in ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"] {
            command.env(variable, folder);
        }
        let mut session = Session::start(&mut command)?;
        session.prompt(0)?;
        session.type_line("start")?;
        let start = Instant::now();
        thread::sleep(self.duration);
        let seconds = start.elapsed().as_secs_f64();
        session.type_line("stop")?;
        // Its answer ends with the next prompt, behind those of both lines.
        session.prompt(2)?;
        session.type_line("quit")?;
        session.end().map(|text| (seconds, text))
    }
}

/// A testpmd that takes commands. Ended with the value.
struct Session {
    child: Child,
    output: Receiver<Vec<u8>>,
    text: String,
}

impl Session {
    fn start(command: &mut Command) -> Result<Self, Error> {
        let mut child = command.spawn().map_err(Error::Start)?;
        let (send, output) = mpsc::channel();
        if let Some(mut stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count) = stdout.read(&mut bytes) {
                    if count == 0 || send.send(bytes[..count].to_vec()).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            child,
            output,
            text: String::new(),
        })
    }

    /// Waits until more than so many prompts were written.
    fn prompt(&mut self, before: usize) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while self.text.matches(PROMPT).count() <= before {
            match self
                .output
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => return Err(self.failed("does not prompt")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failed("ended")),
            }
        }
        Ok(())
    }

    fn type_line(&mut self, line: &str) -> Result<(), Error> {
        let input = self.child.stdin.as_mut();
        match input.map(|input| writeln!(input, "{line}")) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failed("does not listen")),
        }
    }

    fn end(mut self) -> Result<String, Error> {
        drop(self.child.stdin.take());
        let end = Instant::now() + PATIENCE;
        loop {
            match self
                .output
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => return Err(self.failed("does not end")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(std::mem::take(&mut self.text)),
            false => Err(self.failed(&format!("ended with {status}"))),
        }
    }

    fn failed(&self, what: &str) -> Error {
        let lines: Vec<&str> = self.text.lines().collect();
        let last = &lines[lines.len().saturating_sub(5)..];
        Error::Failed(format!("testpmd {what}: {}", last.join(" | ")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}

/// What testpmd's tables say.
fn rate(what: &'static str, stack: &'static str, seconds: f64, text: &str) -> Result<Rate, Error> {
    let stats = Stats::read(text).ok_or_else(|| Error::failed("testpmd printed no statistics"))?;
    let packets = match what {
        "tx" => stats.tx,
        "rx" => stats.rx,
        // What came and went on.
        _ => stats.rx.min(stats.tx),
    };
    let cycles = text
        .rsplit_once("CPU cycles/packet=")
        .and_then(|(_, rest)| {
            let number = rest.split_whitespace().next()?;
            number.parse().ok()
        });
    Ok(Rate {
        mode: what,
        stack,
        seconds,
        rx_packets: stats.rx,
        tx_packets: stats.tx,
        tx_dropped: stats.tx_dropped,
        mpps: packets as f64 / seconds / 1e6,
        cycles_per_packet: cycles.filter(|_| packets > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_cycles_are_those_of_testpmds_tables() {
        let text = "\
Telling cores to stop...
  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 2000000        RX-dropped: 0             RX-total: 2000000
  TX-packets: 1000000        TX-dropped: 7             TX-total: 1000007
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++

  CPU cycles/packet=135.03 (total cycles=4321 / total io packets=32) at 2600 MHz Clock
";
        let of = |what| rate(what, "ours", 0.5, text).unwrap();
        assert_eq!(
            (of("tx").mpps, of("rx").mpps, of("forward").mpps),
            (2.0, 4.0, 2.0)
        );
        assert_eq!(of("rx").cycles_per_packet, Some(135.03));
        assert_eq!(of("tx").tx_dropped, 7);
        assert!(rate("tx", "ours", 1.0, "Bye...").is_err());
    }
}
