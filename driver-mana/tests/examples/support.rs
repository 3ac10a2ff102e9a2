//! Runs of examples, and what goes through them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mana_model::{Model, pcap};
use tempfile::TempDir;

/// Time without result after which a run is given up.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs `run` in a thread of its own until `done` says so, then sets its stop flag; returns what it
/// returned.
///
/// # Panics
///
/// If `done` does not come true, or the run ends before.
pub fn until<T: Send>(run: impl FnOnce(&AtomicBool) -> T + Send, done: impl Fn() -> bool) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let run = scope.spawn(|| run(&stop));
        let start = Instant::now();
        while !done() && !run.is_finished() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        let (came, ended) = (done(), run.is_finished());
        stop.store(true, Ordering::Relaxed);
        let result = run.join().expect("the example does not panic");
        assert!(came, "given up; the example had ended by itself: {ended}");
        result
    })
}

/// Ethernet frames of 60 to `longest` bytes with pseudo-random contents of IPv4 or of nothing known;
/// every fifth has a VLAN tag (priority 0: a device that strips a tag tells its id only).
pub fn frames(count: usize, longest: usize, mut seed: u64) -> Frames {
    let mut next = move || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    (0..count)
        .map(|number| {
            let len = 60 + next() % (longest - 59);
            let mut frame: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            // Local experimental EtherType: nothing in it is looked at.
            let at = if number % 5 == 0 {
                frame[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x01 + (number % 200) as u8]);
                16
            } else {
                12
            };
            frame[at..at + 2].copy_from_slice(&[0x88, 0xB5]);
            frame
        })
        .collect()
}

/// Frames in order.
pub type Frames = Vec<Vec<u8>>;

/// Two devices that replay a capture each; what they send is captured.
pub struct Replayed {
    folder: TempDir,
    sent: [Frames; 2],
}

impl Replayed {
    /// `frames` arrive at the first and at the second port.
    pub fn new(frames: [Frames; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (port, frames) in frames.iter().enumerate() {
            let path = folder.path().join(format!("in{port}"));
            let mut writer = pcap::Writer::create(&path).unwrap();
            for frame in frames {
                writer.write(Duration::ZERO, frame).unwrap();
            }
            writer.flush().unwrap();
        }
        Self {
            folder,
            sent: frames,
        }
    }

    /// The options that describe the devices.
    pub fn devices(&self) -> impl Iterator<Item = String> {
        let folder = self.folder.path().display();
        (0..2)
            .map(move |n| format!("--vdev=model{n},link=pcap:rx={folder}/in{n}:tx={folder}/out{n}"))
    }

    /// Whether each port has sent what arrived at the other.
    pub fn all_sent(&self, model: &Model) -> bool {
        let sent = |port: usize| model.port(port).counters().tx_frames;
        (0..2).all(|port| sent(port) >= self.sent[1 - port].len() as u64)
    }

    /// What arrived at one port and what the other sent, for both.
    pub fn both_ways(self) -> [(Frames, Frames); 2] {
        let out = |port| pcap::read(&self.folder.path().join(format!("out{port}"))).unwrap();
        let received = [out(1), out(0)];
        let [a, b] = self.sent;
        let [from_a, from_b] = received;
        [(a, from_a), (b, from_b)]
    }

    /// Every frame once, in order, unchanged.
    pub fn assert_unchanged(self) {
        for (sent, received) in self.both_ways() {
            assert_eq!(sent.len(), received.len());
            for (number, (sent, received)) in sent.iter().zip(received).enumerate() {
                assert_eq!(*sent, received, "frame {number}");
            }
        }
    }
}
