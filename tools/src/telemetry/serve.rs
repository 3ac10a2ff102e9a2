//! A thread that waits for descriptors and ends when its owner is dropped.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The owner's end.
#[derive(Debug)]
pub struct Thread {
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end.
pub struct Life(UnixStream);

impl Thread {
    /// Starts `body`, bound to `cpu` as far as that can be had: forwarding cores have theirs to
    /// themselves.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub fn start(
        name: &str,
        cpu: Option<u32>,
        body: impl FnOnce(Life) + Send + 'static,
    ) -> io::Result<Thread> {
        let (alive, life) = UnixStream::pair()?;
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            if let Some(cpu) = cpu {
                bind_to(cpu);
            }
            body(Life(life));
        })?;
        Ok(Thread {
            alive: Some(alive),
            thread: Some(thread),
        })
    }
}

fn bind_to(cpu: u32) {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!("telemetry is not bound to CPU {cpu}: {error}");
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of telemetry panicked");
        }
    }
}

impl Life {
    /// Waits until one of `descriptors` can be read or is at its end; which of them. None when it is
    /// time to end.
    pub fn wait(&self, descriptors: &[BorrowedFd<'_>]) -> Option<Vec<bool>> {
        let own = PollFd::new(&self.0, PollFlags::IN);
        let others = descriptors
            .iter()
            .map(|one| PollFd::new(one, PollFlags::IN));
        let mut all: Vec<PollFd<'_>> = std::iter::once(own).chain(others).collect();
        loop {
            match poll(&mut all, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!("telemetry ends: {error}");
                    return None;
                }
                Ok(_) if !all[0].revents().is_empty() => return None,
                Ok(_) => {
                    return Some(
                        all[1..]
                            .iter()
                            .map(|one| !one.revents().is_empty())
                            .collect(),
                    );
                }
            }
        }
    }
}
