//! A capture that is delivered once.

use std::path::Path;
use std::vec::IntoIter;

use crate::error::ModelError;
use crate::pcap;

/// The frames of a file that are left.
pub(super) struct Replay {
    frames: IntoIter<Vec<u8>>,
}

impl Replay {
    /// Reads the whole file, so that nothing can go wrong later.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let frames = pcap::read(path).map_err(|error| ModelError::Capture {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Self {
            frames: frames.into_iter(),
        })
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.frames.len() == 0
    }

    /// The next frame; false after the last.
    #[inline]
    pub(super) fn next(&mut self, frame: &mut Vec<u8>) -> bool {
        let next = self.frames.next();
        let some = next.is_some();
        if let Some(next) = next {
            *frame = next;
        }
        some
    }
}
