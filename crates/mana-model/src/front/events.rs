//! Event files: the pipes behind completion channels and asynchronous event files. The program
//! holds the reading end, so that `read`, `poll` and `O_NONBLOCK` work on it as on the kernel's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use uverbs_abi::Errno;

/// The writing end of an event file.
#[derive(Debug)]
pub(crate) struct EventFile {
    writer: File,
    /// Device and inode, the same for both ends and every duplicate.
    identity: (u64, u64),
}

/// Converts where the kernel would have answered with the number.
fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno)
}

impl EventFile {
    /// A file and the end for the program, both close-on-exec.
    pub(crate) fn create() -> Result<(OwnedFd, Self), Errno> {
        let (reader, writer) = io::pipe().map_err(|error| errno(&error))?;
        let writer = File::from(OwnedFd::from(writer));
        // SAFETY: F_SETFL takes an integer and touches no memory; the fd is open, `writer` owns it.
        let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        if set < 0 {
            return Err(errno(&io::Error::last_os_error()));
        }
        let metadata = writer.metadata().map_err(|error| errno(&error))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok((OwnedFd::from(reader), Self { writer, identity }))
    }

    /// Whether `fd` of the program is (a duplicate of) the reading end.
    pub(crate) fn is(&self, fd: RawFd) -> bool {
        // SAFETY: a stat structure is plain numbers, for which zero bytes are a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: fstat writes one stat structure to the pointer, which is a live local of that
        // type; whatever number `fd` is, a wrong one is answered with EBADF.
        let found = unsafe { libc::fstat(fd, &mut stat) } == 0;
        found && self.identity == (stat.st_dev, stat.st_ino)
    }

    /// Whether the program has closed every reading end.
    pub(crate) fn abandoned(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.writer.as_raw_fd(),
            events: 0,
            revents: 0,
        };
        // SAFETY: poll reads and writes exactly one pollfd, which is a live local; timeout 0
        // returns at once.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        ready == 1 && poll.revents & libc::POLLERR != 0
    }

    /// Appends a record; tells whether it went in. The pipe holds 64 KiB: a program that never
    /// reads loses events beyond. Records are below PIPE_BUF, so they go in whole or not at all.
    pub(crate) fn post(&self, record: &[u8]) -> bool {
        // Looking first keeps a program that does not ignore SIGPIPE alive.
        !self.abandoned() && (&self.writer).write_all(record).is_ok()
    }

    /// Takes back all records equal to `record` that the program has not read; returns how many.
    /// Others keep their order.
    pub(crate) fn withdraw(&self, record: &[u8]) -> u32 {
        // Its own file description of the same pipe: reading must not block although the
        // program's end may.
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let Ok(mut reader) = reader else {
            return 0;
        };
        let mut pending = Vec::new();
        // Ends with WouldBlock when the pipe is empty; what was read until then counts.
        let _would_block = reader.read_to_end(&mut pending);
        let mut withdrawn = 0;
        for other in pending.chunks(record.len()) {
            if other == record {
                withdrawn += 1;
            } else {
                self.post(other);
            }
        }
        withdrawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_reads_whole_records_from_its_end() {
        let (fd, file) = EventFile::create().unwrap();
        assert!(file.post(&[1; 8]) && file.post(&[2; 8]));
        let mut records = [0; 16];
        File::from(fd).read_exact(&mut records).unwrap();
        assert_eq!(records[..8], [1; 8]);
        assert_eq!(records[8..], [2; 8]);
    }

    #[test]
    fn a_file_is_known_by_any_duplicate_of_its_end_and_by_no_other() {
        let (fd, file) = EventFile::create().unwrap();
        let (other, _other_file) = EventFile::create().unwrap();
        let duplicate = fd.try_clone().unwrap();
        assert!(file.is(fd.as_raw_fd()) && file.is(duplicate.as_raw_fd()));
        assert!(!file.is(other.as_raw_fd()) && !file.is(-1));
    }

    #[test]
    fn an_abandoned_file_takes_no_record() {
        let (fd, file) = EventFile::create().unwrap();
        assert!(!file.abandoned());
        drop(fd);
        assert!(file.abandoned());
        assert!(!file.post(&[1; 8]));
    }

    #[test]
    fn withdrawn_records_are_counted_and_the_others_stay_in_order() {
        let (fd, file) = EventFile::create().unwrap();
        for value in [1, 2, 1, 3] {
            assert!(file.post(&[value; 8]));
        }
        assert_eq!(file.withdraw(&[1; 8]), 2);
        let mut rest = [0; 16];
        File::from(fd).read_exact(&mut rest).unwrap();
        assert_eq!((rest[0], rest[8]), (2, 3));
        assert_eq!(file.withdraw(&[1; 8]), 0);
    }
}
