//! Lines for whom they reach late or not at all: what the device tells must never hold it up.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that may wait to be written; what comes on top is lost, and counted.
const WAITING: usize = 4096;
/// How long the end waits for what is not written yet.
const FAREWELL: Duration = Duration::from_secs(1);

/// Hands lines to a [`Writer`]. Clones hand over to the same.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Option<String>>,
    lost: Arc<AtomicU64>,
    /// Most lines a second, and the second that is counted.
    most: Option<u32>,
    second: Arc<Mutex<(Option<Instant>, u32)>>,
}

/// The thread that writes. Dropping it writes what waits, for a second at most.
pub struct Writer {
    queue: SyncSender<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Lines that are written to `to`; of each second the first `most`, or all.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub fn new(to: impl Write + Send + 'static, most: Option<u32>) -> io::Result<(Self, Writer)> {
        let (queue, lines) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let thread = thread::Builder::new()
            .name("mana-lines".to_owned())
            .spawn({
                let lost = Arc::clone(&lost);
                move || write(to, &lines, &lost)
            })?;
        let lines = Self {
            queue: queue.clone(),
            lost,
            most,
            second: Arc::default(),
        };
        let thread = Some(thread);
        Ok((lines, Writer { queue, thread }))
    }

    /// Hands a line over, without its end.
    pub fn push(&self, line: String) {
        if self.is_enough() || !self.hand_over(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False if there is no room.
    fn hand_over(&self, line: String) -> bool {
        !matches!(self.queue.try_send(Some(line)), Err(TrySendError::Full(_)))
    }

    /// Whether this second has had its lines.
    fn is_enough(&self) -> bool {
        let Some(most) = self.most else {
            return false;
        };
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *second;
        if since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            (*since, *count) = (Some(Instant::now()), 0);
        }
        *count = count.saturating_add(1);
        *count > most
    }
}

/// Each call of `write` is one line or several, as those of `tracing` are.
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.push(text.trim_end_matches('\n').to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut to: impl Write, lines: &Receiver<Option<String>>, lost: &AtomicU64) {
    while let Ok(Some(line)) = lines.recv() {
        let lost = lost.swap(0, Ordering::Relaxed);
        // Who reads may be gone; the device lives on.
        let _read = match lost {
            0 => Ok(()),
            lost => writeln!(to, "... {lost} lines are not shown"),
        };
        let _read = writeln!(to, "{line}").and_then(|()| to.flush());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let until = Instant::now() + FAREWELL;
        while matches!(self.queue.try_send(None), Err(TrySendError::Full(_))) {
            if Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_line_is_written_by_the_end() {
        let (mut read, write) = io::pipe().unwrap();
        let (lines, writer) = Lines::new(write, None).unwrap();
        for line in 0..1000 {
            lines.push(line.to_string());
        }
        drop(writer);
        let mut text = String::new();
        drop(lines);
        read.read_to_string(&mut text).unwrap();
        let expected: String = (0..1000).map(|line| format!("{line}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn who_does_not_read_holds_nobody_up_and_learns_what_was_lost() {
        let (mut read, write) = io::pipe().unwrap();
        let (lines, writer) = Lines::new(write, None).unwrap();
        // More than the pipe and the queue hold together.
        for _ in 0..20_000 {
            lines.push("a line of a device whose log nobody reads".to_owned());
        }
        let reader = thread::spawn(move || {
            let mut text = String::new();
            read.read_to_string(&mut text).map(|_| text)
        });
        while !lines.hand_over("the last".to_owned()) {
            thread::sleep(Duration::from_millis(1));
        }
        drop((lines, writer));
        let text = reader.join().unwrap().unwrap();
        assert!(text.contains("lines are not shown"));
        assert!(text.ends_with("the last\n"));
    }

    #[test]
    fn a_flood_is_cut_to_so_many_lines_a_second() {
        let (mut read, write) = io::pipe().unwrap();
        let (lines, writer) = Lines::new(write, Some(10)).unwrap();
        for _ in 0..1000 {
            lines.push("again".to_owned());
        }
        thread::sleep(Duration::from_millis(1100));
        lines.push("the next second".to_owned());
        drop((lines, writer));
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let count = text.matches("again\n").count();
        assert!((10..100).contains(&count), "{count}");
        assert!(text.contains("lines are not shown"));
    }
}
