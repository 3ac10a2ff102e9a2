//! The program as a child, and captures: what the tests of `mana testpmd` share.

#![allow(dead_code, reason = "no test file uses all of it")]

mod typed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "no test file uses all of it")]
pub use typed::Typed;

/// How long anything may take, on a machine that is busy with other things.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Pools small enough for a test machine.
pub const SMALL: &str = "--total-num-mbufs=4096";

pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs `mana testpmd` on the words of `line`.
    pub fn of(line: &str) -> Run {
        Run::from(command(line).output().expect("mana starts"))
    }

    /// The value of `field` in the port's part of the JSON line.
    pub fn port_field(&self, port: usize, field: &str) -> u64 {
        self.json()["ports"][port][field]
            .as_u64()
            .expect("a number")
    }

    pub fn json(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().expect("output");
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    #[track_caller]
    pub fn succeeded(self) -> Run {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn failed(self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains(text),
            "{text} is missing in: {}",
            self.stderr
        );
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

pub fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mana"));
    command
        .arg("testpmd")
        .args(line.split_whitespace())
        // Sockets of telemetry are made here, not in the machine's folder.
        .env("RUNTIME_DIRECTORY", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    command
}

/// A file of this test alone, without what an earlier run has left there.
pub fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Most often there is none.
    let _gone = fs::remove_file(&path);
    path
}

/// A capture of `frames` in the classic format, little-endian with microseconds.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(65535u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for frame in frames {
        bytes.extend([0; 8]);
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// The frames of a capture, whatever its time stamps.
pub fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("4 bytes")) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

/// How many frames a capture has that is still written: its last one may be there in part.
pub fn whole_frames(bytes: &[u8]) -> usize {
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut count = 0;
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
        let Some(behind) = rest.get(16 + length..) else {
            break;
        };
        (rest, count) = (behind, count + 1);
    }
    count
}

/// How many frames a capture has so far; none where its writer has not made it yet.
pub fn frames_so_far(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| whole_frames(&bytes))
}

/// Waits until a capture that is still written holds so many frames.
#[track_caller]
pub fn wait_for_frames(path: &Path, count: usize) {
    let start = Instant::now();
    while count > frames_so_far(path) {
        assert!(start.elapsed() < LIMIT, "{} came", frames_so_far(path));
        thread::sleep(Duration::from_millis(20));
    }
}

/// A UDP packet of flow `flow` that carries `number`.
pub fn udp(flow: u8, number: u32) -> Vec<u8> {
    let mut frame = vec![0u8; 60 + number as usize % 40];
    let length = frame.len();
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..34].copy_from_slice(&[10, 0, 0, flow, 10, 0, 1, 1]);
    frame[34..38].copy_from_slice(&[0x10, flow, 0, 9]);
    frame[38..40].copy_from_slice(&((length - 34) as u16).to_be_bytes());
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}
