//! A capture file in the classic pcap format, which tcpdump and Wireshark read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The magic number of a file whose time stamps count nanoseconds, and its version, 2.4
/// (draft-ietf-opsawg-pcap).
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
/// The longest packet that a reader must expect.
const SNAP_LENGTH: u32 = 262_144;
const ETHERNET: u32 = 1;

/// An open capture file.
pub struct Capture {
    path: PathBuf,
    file: BufWriter<File>,
    packets: u64,
}

impl Capture {
    /// Creates the file with its header; what it held before is gone.
    ///
    /// # Errors
    ///
    /// A file that can't be written.
    pub fn create(path: &Path) -> io::Result<Capture> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC.to_le_bytes())?;
        for part in VERSION {
            file.write_all(&part.to_le_bytes())?;
        }
        // Two reserved words, 0.
        for word in [0, 0, SNAP_LENGTH, ETHERNET] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.flush()?;
        Ok(Capture {
            path: path.to_owned(),
            file,
            packets: 0,
        })
    }

    /// Appends frames with one time stamp, and hands them to the kernel, so that a reader may follow.
    ///
    /// # Errors
    ///
    /// A disk that is full, and the like.
    pub fn write(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        for frame in frames {
            let length = frame.len() as u32;
            let seconds = now.as_secs() as u32;
            for word in [seconds, now.subsec_nanos(), length, length] {
                self.file.write_all(&word.to_le_bytes())?;
            }
            self.file.write_all(frame)?;
            self.packets += 1;
        }
        self.file.flush()
    }

    /// How many packets it holds.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
