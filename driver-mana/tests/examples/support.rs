//! Runs of examples, and what goes through them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time without result after which a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

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
pub fn frames(count: usize, longest: usize, mut seed: u64) -> Vec<Vec<u8>> {
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
