//! A tap: the link's other end is an interface of the host's kernel.
//!
//! Frames that wait in the kernel's queue are taken as the device's thread comes round, frames that
//! the port sends are written at once, inside the step. Nothing here waits.
//!
//! Frames without a buffer: hardware has a few milliseconds of packet memory and discards what
//! comes later. Here that memory is the tap's own queue in the kernel: the frame and all behind it
//! are left there as long as the
//! port has patience (`core/rx.rs`), then discarded and counted as hardware does until
//! its queue has a buffer again. While reception is off they are read and discarded, so that no
//! driver starts with stale ones.

mod device;
mod error;
#[cfg(test)]
pub(crate) mod host;
mod sys;
mod watch;

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use self::device::HEADER;
pub use self::error::TapError;
pub(crate) use self::watch::{Look, Watcher};
use crate::config::TapConfig;

/// The longest frame that a tap hands over is its largest MTU with an Ethernet header and a VLAN tag:
/// 65539 bytes. What is beyond 65535 no port can receive.
const BUFFER: usize = 65_600;
/// The shortest frame: an Ethernet header.
const SHORTEST: usize = 14;
/// Steps that pass between two looks at a tap that stays silent, at most.
const QUIET: u32 = 3;

/// How the tap's interface is, as far as reading and writing tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Up,
    /// It is DOWN: the kernel takes no frame.
    Down,
    /// It does not exist any more.
    Gone,
}

/// What the device's thread and those who look at the interface share.
pub(super) struct Shared {
    /// Its name when it was opened.
    name: String,
    /// One file a queue. The tap belongs to this process as long as they are open.
    queues: Vec<File>,
    state: AtomicU8,
}

impl Shared {
    /// Notes how the interface is, and says so in the log when that is news.
    #[inline]
    fn note(&self, state: State) {
        // Relaxed: the state stands for itself.
        if self.state.load(Ordering::Relaxed) != state as u8 {
            self.changed(state);
        }
    }

    #[cold]
    fn changed(&self, state: State) {
        if self.state.swap(state as u8, Ordering::Relaxed) == state as u8 {
            return;
        }
        let name = &self.name;
        match state {
            State::Up => tracing::info!("tap {name}: up"),
            State::Down => tracing::warn!(
                "tap {name}: down, so what the port sends is dropped (`ip link set {name} up`)"
            ),
            State::Gone => tracing::warn!(
                "tap {name}: its interface was deleted; the link stays down until the model is \
                 made anew"
            ),
        }
    }

    fn is_gone(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::Gone as u8
    }
}

/// One port's end of a tap.
pub(super) struct Tap {
    shared: Arc<Shared>,
    /// Frames have a virtio-net header before them.
    header: bool,
    buffer: Vec<u8>,
    /// The queue to read from, how many frames it may still give, how many all may.
    queue: usize,
    quota: usize,
    left: usize,
    /// Queues that were not asked yet in this turn.
    unasked: usize,
    /// Turns to pass over, and how many the last time.
    skip: u32,
    quiet: u32,
    /// Frames that could not be handed over, in either direction.
    dropped: u64,
}

impl Tap {
    /// Opens the tap.
    pub(super) fn open(config: &TapConfig) -> Result<Self, TapError> {
        Ok(Self {
            shared: Arc::new(Shared {
                name: config.name.clone(),
                queues: device::open(config)?,
                state: AtomicU8::new(State::Up as u8),
            }),
            header: device::has_header(config),
            buffer: vec![0; BUFFER],
            queue: 0,
            quota: 0,
            left: 0,
            unasked: 0,
            skip: 0,
            quiet: 0,
            dropped: 0,
        })
    }

    /// Allows so many frames to come until the next call. A tap that was silent is passed over now
    /// and then, because asking it costs a system call; not if `eager`.
    #[inline]
    pub(super) fn listen(&mut self, frames: usize, eager: bool) {
        if self.skip > 0 && !eager {
            self.skip -= 1;
            return;
        }
        if self.shared.is_gone() {
            return;
        }
        self.left = frames;
        self.unasked = self.shared.queues.len();
        self.quota = (frames / self.unasked.max(1)).max(1);
    }

    /// The next frame, in place of what `frame` held; false if none is there or this turn is over.
    pub(super) fn read(&mut self, frame: &mut Vec<u8>) -> bool {
        while self.left > 0 && self.unasked > 0 {
            let mut header = [0; HEADER];
            let mut queue = &self.shared.queues[self.queue];
            let result = match self.header {
                false => queue.read(&mut self.buffer),
                true => queue
                    .read_vectored(&mut [
                        IoSliceMut::new(&mut header),
                        IoSliceMut::new(&mut self.buffer),
                    ])
                    .map(|bytes| bytes.saturating_sub(HEADER)),
            };
            match result {
                Ok(bytes) => {
                    self.left -= 1;
                    self.quiet = 0;
                    self.quota -= 1;
                    if self.quota == 0 {
                        self.advance();
                    }
                    if bytes < SHORTEST {
                        self.dropped += 1;
                        continue;
                    }
                    frame.clear();
                    frame.extend_from_slice(&self.buffer[..bytes]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.advance(),
                Err(error) => {
                    self.failed(&error);
                    self.advance();
                }
            }
        }
        if self.unasked == 0 && self.left > 0 {
            // Silent from now on, unless the last turn was not.
            self.left = 0;
            self.skip = self.quiet;
            self.quiet = (self.quiet * 2 + 1).min(QUIET);
        }
        false
    }

    /// The next queue's turn.
    fn advance(&mut self) {
        let queues = self.shared.queues.len();
        self.queue = if self.queue + 1 < queues {
            self.queue + 1
        } else {
            0
        };
        self.unasked -= 1;
        self.quota = (self.left / self.unasked.max(1)).max(1);
    }

    /// Hands a frame that the port sent to the kernel, which receives it within this call. One flow
    /// stays with one `queue`, by which the kernel learns the queue of what comes back.
    pub(super) fn write(&mut self, queue: u32, frame: &[u8]) {
        if self.shared.is_gone() {
            self.dropped += 1;
            return;
        }
        let queues = &self.shared.queues;
        let mut queue = &queues[queue as usize % queues.len()];
        let result = match self.header {
            false => queue.write(frame),
            // All zero: the kernel verifies checksums itself.
            true => queue.write_vectored(&[IoSlice::new(&[0; HEADER]), IoSlice::new(frame)]),
        };
        match result {
            Ok(_) => self.shared.note(State::Up),
            Err(error) => {
                self.dropped += 1;
                self.failed(&error);
            }
        }
    }

    /// Anything but a dead or DOWN interface passes by itself: a full queue, no memory.
    #[cold]
    fn failed(&self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EIO) => self.shared.note(State::Down),
            Some(libc::EBADFD | libc::ENODEV | libc::ENXIO) => self.shared.note(State::Gone),
            _ => {}
        }
    }

    /// Frames that could not be handed over.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// What the device's thread waits on when it is idle.
pub(crate) struct Ears {
    waiting: sys::Waiting,
    /// Keeps the descriptors open.
    _taps: Vec<Arc<Shared>>,
}

impl Ears {
    /// `None` without taps.
    pub(super) fn new(taps: Vec<Arc<Shared>>) -> Option<Self> {
        let files = taps.iter().flat_map(|tap| &tap.queues);
        let waiting = sys::Waiting::new(files.map(AsRawFd::as_raw_fd));
        (!taps.is_empty()).then_some(Self {
            waiting,
            _taps: taps,
        })
    }

    /// Waits for a frame, at most so long; whether one is there.
    pub(crate) fn wait(&mut self, most: Duration) -> bool {
        self.waiting.wait(most)
    }
}

#[cfg(test)]
mod tests;
