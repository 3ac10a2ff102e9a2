//! MSI-X: the eventfds by which the client is told that a vector fires.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// The vectors of a function.
pub(crate) struct Interrupts {
    vectors: Vec<Vector>,
}

/// One vector.
#[derive(Default)]
struct Vector {
    /// Nobody listens without one.
    listener: Option<File>,
    /// It fired while nobody listened.
    pending: bool,
}

impl Interrupts {
    pub(crate) fn new(vectors: u16) -> Self {
        Self {
            vectors: (0..vectors).map(|_| Vector::default()).collect(),
        }
    }

    /// Lets a vector fire: now, or once somebody listens. One that does not exist is nobody's.
    pub(crate) fn raise(&mut self, vector: u16) {
        if let Some(vector) = self.vectors.get_mut(usize::from(vector)) {
            vector.pending = true;
            vector.tell();
        }
    }

    /// Lets `file` be told of a vector, or nobody.
    pub(crate) fn listen(&mut self, vector: u16, file: Option<File>) -> io::Result<()> {
        // A counter that is full must not hold the device up.
        if let Some(file) = &file {
            let flags = fcntl_getfl(file)?;
            fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
        }
        let vector = self.vectors.get_mut(usize::from(vector));
        let vector = vector.ok_or(io::ErrorKind::InvalidInput)?;
        vector.listener = file;
        vector.tell();
        Ok(())
    }

    /// Whether somebody listens to a vector.
    pub(crate) fn is_heard(&self, vector: u16) -> bool {
        let vector = self.vectors.get(usize::from(vector));
        vector.is_some_and(|vector| vector.listener.is_some())
    }

    /// Nobody listens any more.
    pub(crate) fn silence(&mut self) {
        for vector in &mut self.vectors {
            vector.listener = None;
        }
    }

    /// Forgets what fired while nobody listened.
    pub(crate) fn reset(&mut self) {
        for vector in &mut self.vectors {
            vector.pending = false;
        }
    }
}

impl Vector {
    fn tell(&mut self) {
        if let Some(listener) = self.listener.as_mut().filter(|_| self.pending) {
            self.pending = false;
            // A counter that is full has told it already; a client that is gone hears nothing.
            let _told = listener.write(&1_u64.to_ne_bytes());
        }
    }
}
