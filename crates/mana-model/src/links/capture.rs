//! A file that gets what a port sends, or all its frames.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::ModelError;
use crate::pcap;

/// Longest time that a frame stays out of the file while others follow.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Files that are in use, by device and inode: one may have several names.
pub(super) struct Files {
    replayed: HashSet<(u64, u64)>,
    written: HashSet<(u64, u64)>,
}

impl Files {
    pub(super) fn replayed<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        Self {
            replayed: paths.filter_map(identity).collect(),
            written: HashSet::new(),
        }
    }
}

/// `None` where there is no such file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// A capture that is being written. Dropping it flushes.
pub(super) struct Capture {
    path: PathBuf,
    /// `None` after the file system refused: a full disk must not stop the machine.
    writer: Option<pcap::Writer>,
    /// Time since the epoch when the links' time began.
    epoch: Duration,
    /// The links' time: of the last tick, and of the last flush.
    now: Duration,
    flushed: Duration,
    /// Frames were written since the last flush.
    dirty: bool,
    /// Frames were written since the last tick.
    busy: bool,
}

impl Capture {
    /// Creates the file, unless it is one of `files`: creating would empty it. It is one of them from
    /// then on.
    pub(super) fn create(path: &Path, files: &mut Files) -> Result<Self, ModelError> {
        let error = |cause| ModelError::Capture {
            path: path.to_owned(),
            cause,
        };
        let own = identity(path);
        if own.is_some_and(|own| files.replayed.contains(&own)) {
            return Err(error(
                "is replayed, so it can't be written (name another file as tx= or capture=)".into(),
            ));
        }
        if own.is_some_and(|own| files.written.contains(&own)) {
            let path = path.to_owned();
            return Err(ModelError::SharedCapture { path });
        }
        let writer = pcap::Writer::create(path)
            .map_err(|cause| error(format!("can't be written: {cause}")))?;
        files.written.extend(identity(path));
        Ok(Self {
            path: path.to_owned(),
            writer: Some(writer),
            epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            now: Duration::ZERO,
            flushed: Duration::ZERO,
            dirty: false,
            busy: false,
        })
    }

    /// Appends a frame, with the time of the last tick.
    #[inline]
    pub(super) fn write(&mut self, frame: &[u8]) {
        let time = self.epoch + self.now;
        self.attempt(|writer| writer.write(time, frame));
        (self.dirty, self.busy) = (true, true);
    }

    /// Whether every frame is in the file, or never will be.
    pub(super) fn is_flushed(&self) -> bool {
        !self.dirty
    }

    /// Lets time pass until `now`. Hands everything to the file system when nothing was written
    /// since the last tick, at latest after a second.
    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        let busy = std::mem::take(&mut self.busy);
        if self.dirty && (!busy || now.saturating_sub(self.flushed) >= FLUSH_EVERY) {
            self.attempt(pcap::Writer::flush);
            self.flushed = now;
            self.dirty = false;
        }
    }

    /// Does something with the file. After an error the capture ends, and the log says so once.
    fn attempt(&mut self, act: impl FnOnce(&mut pcap::Writer) -> std::io::Result<()>) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = act(writer)
        {
            let path = self.path.display();
            tracing::error!("{path}: {error}; frames from here on are missing in the capture");
            self.writer = None;
        }
    }
}
