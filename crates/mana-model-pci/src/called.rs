//! Guest memory that is reached by system calls: a file that its owner may cut short at any moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::fstatfs;

use crate::memory::{SHORTER, invalid, is_long_enough};

/// The file system of huge pages (linux/magic.h): it has no calls to write.
const HUGETLBFS: i64 = 0x9584_58F6;

/// A piece of a file.
pub(crate) struct Called {
    file: File,
    offset: u64,
}

impl Called {
    /// `size` bytes of `file` from `offset` on, which are there now.
    pub(crate) fn new(file: File, offset: u64, size: u64) -> io::Result<Self> {
        if !is_long_enough(&file, offset, size) {
            return Err(invalid(SHORTER));
        }
        if fstatfs(&file)?.f_type as i64 == HUGETLBFS {
            return Err(invalid(
                "huge pages in a file that may be cut short: give the machine a \
                 memory-backend-memfd, which is sealed against it",
            ));
        }
        Ok(Self { file, offset })
    }

    /// Reads from `offset` on; `None` behind the end of the file.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        let at = self.offset + offset as u64;
        self.file.read_exact_at(bytes, at).ok()
    }

    /// Writes from `offset` on; `None` if the file does not reach so far, which does not grow by it.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        let at = self.offset + offset as u64;
        // A file that is cut short between these grows again by what is written: no harm to anybody but
        // its owner.
        if !is_long_enough(&self.file, at, bytes.len() as u64) {
            return None;
        }
        self.file.write_all_at(bytes, at).ok()
    }
}
