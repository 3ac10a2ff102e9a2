//! Looking at a tap's interface now and then: it may be renamed, get another MTU, go DOWN, be moved
//! into another namespace or be deleted while the port runs, and the kernel tells none of that
//! through the tap itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::device::inside;
use super::sys::{self, Interfaces};
use super::{Shared, State};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// How an interface was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) name: String,
    /// In bytes, without the Ethernet header.
    pub(crate) mtu: u32,
    /// UP and ready to carry frames.
    pub(crate) carrier: bool,
}

/// A thread that looks at the taps of a machine, and what it saw. Dropping it stops the thread, so
/// that no tap is open any more afterwards.
pub(crate) struct Watcher {
    board: Arc<Board>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The last look at each port's tap, with the port's number.
struct Board {
    looks: Mutex<Vec<(usize, Look)>>,
    /// Something changed since it was read.
    news: AtomicBool,
}

impl Board {
    fn looks(&self) -> MutexGuard<'_, Vec<(usize, Look)>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin(&self, port: usize, look: Look) {
        let mut looks = self.looks();
        match looks.iter_mut().find(|(other, _)| *other == port) {
            Some((_, old)) if *old == look => return,
            Some((_, old)) => *old = look,
            None => looks.push((port, look)),
        }
        // Release: whoever sees this finds the look, which the lock orders anyway.
        self.news.store(true, Ordering::Release);
    }
}

impl Watcher {
    /// Looks at the taps of these ports, and from then on again and again.
    pub(in crate::links) fn start(taps: Vec<(usize, Arc<Shared>)>) -> Self {
        let board = Arc::new(Board {
            looks: Mutex::new(Vec::new()),
            news: AtomicBool::new(false),
        });
        let (stop, stopped) = mpsc::channel();
        look_at(&taps, &board);
        let thread = thread::spawn({
            let board = Arc::clone(&board);
            move || {
                while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    look_at(&taps, &board);
                }
            }
        });
        Self {
            board,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What is known of all taps, if that changed since the last call.
    #[inline]
    pub(crate) fn news(&self) -> Option<Vec<(usize, Look)>> {
        // Read before it is taken back: the flag is rarely set.
        if !self.board.news.load(Ordering::Acquire) {
            return None;
        }
        let looks = self.board.looks();
        self.board.news.store(false, Ordering::Relaxed);
        Some(looks.clone())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the thread that looks at taps panicked; its message is above");
        }
    }
}

fn look_at(taps: &[(usize, Arc<Shared>)], board: &Board) {
    for (port, tap) in taps {
        match look(tap) {
            Ok((look, up)) => {
                tap.note(if up { State::Up } else { State::Down });
                board.pin(*port, look);
            }
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                tap.note(State::Gone);
                let known = board.looks().iter().find(|(of, _)| of == port).cloned();
                if let Some((port, look)) = known {
                    let carrier = false;
                    board.pin(port, Look { carrier, ..look });
                }
            }
            // It was renamed or moved meanwhile: the next look will find it.
            Err(_) => {}
        }
    }
}

/// Looks at a tap wherever it lies now; also whether it is UP. Nothing of this stays in its
/// namespace, which would otherwise live on after it is deleted.
fn look(tap: &Shared) -> io::Result<(Look, bool)> {
    let Some(tun) = tap.queues.first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let ask = || {
        let name = sys::name(tun)?;
        let interfaces = Interfaces::here()?;
        let flags = interfaces.flags(&name)?;
        let (up, carrier) = (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0);
        let mtu = interfaces.mtu(&name)?;
        let carrier = up && carrier;
        Ok((Look { name, mtu, carrier }, up))
    };
    match sys::namespace(tun) {
        Ok(namespace) => {
            let (namespace, here) = identity(namespace)?;
            match here {
                true => ask(),
                false => inside(namespace.as_fd(), ask)?,
            }
        }
        // A kernel that can't tell, or does not want to: it will be where it was made.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOTTY)) => ask(),
        Err(error) => Err(error),
    }
}

/// A namespace, and whether it is the one of this thread.
fn identity(namespace: OwnedFd) -> io::Result<(File, bool)> {
    let namespace = File::from(namespace);
    let (its, ours) = (
        namespace.metadata()?,
        fs::metadata("/proc/thread-self/ns/net")?,
    );
    let here = (its.dev(), its.ino()) == (ours.dev(), ours.ino());
    Ok((namespace, here))
}
