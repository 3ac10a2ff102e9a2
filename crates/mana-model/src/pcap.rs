//! Captures in the classic pcap format: a header of 24 bytes, then 16 bytes before each packet.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

/// Magic of a file with microseconds, in the writer's byte order.
const MAGIC_MICROSECONDS: u32 = 0xA1B2_C3D4;
/// Magic of a file with nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xA1B2_3C4D;
/// Version 2.4, minor in the upper half.
const VERSION: u32 = 2 | 4 << 16;
/// Link type of Ethernet frames.
const ETHERNET: u32 = 1;
/// Snapshot length that is written: no frame is cut.
const SNAP: u32 = 262_144;
/// Bytes of the file's header.
const FILE_HEADER: usize = 24;
/// Bytes before each packet.
const PACKET_HEADER: usize = 16;
/// Lengths that a frame can have: an Ethernet header, and what a completion can count
/// (reference/mana-hardware.md §3.6).
const FRAME: std::ops::RangeInclusive<u32> = 14..=65_535;

/// Why a file is no capture that can be replayed. Offsets are bytes from the file's start.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Read(#[from] io::Error),
    /// It does not begin with a magic number of the classic format.
    #[error(
        "is no pcap file: the magic at byte 0 is {0:#010x} (pcapng: convert it with `editcap -F pcap`)"
    )]
    Magic(u32),
    /// Its packets are no Ethernet frames.
    #[error("holds packets of link type {0} (byte 20), not Ethernet frames (1)")]
    LinkType(u32),
    /// It ends in the middle of something.
    #[error("is truncated: {what} at byte {offset} wants {wanted} bytes, {left} are left")]
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Its size.
        wanted: usize,
        /// What the file has.
        left: usize,
    },
    /// A packet was cut when it was captured, so it can't be replayed.
    #[error(
        "packet at byte {offset} was captured with {captured} of its {length} bytes (capture with `-s 0`)"
    )]
    Cut {
        /// Where its header begins.
        offset: usize,
        /// Bytes in the file.
        captured: u32,
        /// Bytes on the wire.
        length: u32,
    },
    /// A packet that no port can receive.
    #[error("packet at byte {offset} claims {length} bytes, a frame has 14 to 65535")]
    Length {
        /// Where its header begins.
        offset: usize,
        /// What it claims.
        length: u32,
    },
}

/// All frames of a capture, in order.
///
/// # Errors
///
/// What is wrong with the file, and where.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, PcapError> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// All frames of a capture in memory, in order. Both byte orders; time stamps of either unit are
/// passed over.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let input = Input::open(bytes)?;
    let (mut frames, mut offset) = (Vec::new(), FILE_HEADER);
    while offset < bytes.len() {
        let header = input.take("a packet's header", offset, PACKET_HEADER)?;
        let (captured, length) = (input.number(header, 8), input.number(header, 12));
        if captured < length {
            return Err(PcapError::Cut {
                offset,
                captured,
                length,
            });
        }
        if !FRAME.contains(&captured) {
            return Err(PcapError::Length {
                offset,
                length: captured,
            });
        }
        let frame = input.take("a packet", offset + PACKET_HEADER, captured as usize)?;
        frames.push(frame.to_vec());
        offset += PACKET_HEADER + captured as usize;
    }
    Ok(frames)
}

/// A capture whose header was read.
struct Input<'a> {
    bytes: &'a [u8],
    /// Written on a machine of the other byte order.
    swapped: bool,
}

impl<'a> Input<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, PcapError> {
        let native = Self {
            bytes,
            swapped: false,
        };
        let magic = native.number(native.take("the magic", 0, 4)?, 0);
        let known = |magic| matches!(magic, MAGIC_MICROSECONDS | MAGIC_NANOSECONDS);
        let swapped = !known(magic);
        if swapped && !known(magic.swap_bytes()) {
            return Err(PcapError::Magic(magic));
        }
        let input = Self { bytes, swapped };
        let header = input.take("the file's header", 0, FILE_HEADER)?;
        // The upper half of the field holds the length of the frame check sequences.
        let link_type = input.number(header, 20) & 0xFFFF;
        if link_type != ETHERNET {
            return Err(PcapError::LinkType(link_type));
        }
        Ok(input)
    }

    /// `wanted` bytes at `offset`.
    fn take(
        &self,
        what: &'static str,
        offset: usize,
        wanted: usize,
    ) -> Result<&'a [u8], PcapError> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        rest.get(..wanted).ok_or(PcapError::Truncated {
            what,
            offset,
            wanted,
            left: rest.len(),
        })
    }

    /// The 32-bit number at `at` of a header.
    fn number(&self, header: &[u8], at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&header[at..at + 4]);
        match self.swapped {
            false => u32::from_le_bytes(bytes),
            true => u32::from_be_bytes(bytes),
        }
    }
}

/// Writes a capture: little-endian, nanosecond time stamps. Dropping it flushes, but then nobody
/// learns of errors.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    /// Creates or empties the file and writes its header, so that it is a valid capture from now on.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        for word in [MAGIC_NANOSECONDS, VERSION, 0, 0, SNAP, ETHERNET] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.flush()?;
        Ok(Self { file })
    }

    /// Appends a frame with the time since the Unix epoch, of which the format keeps 32 bits of
    /// seconds.
    ///
    /// # Errors
    ///
    /// What the file system says; the capture then ends before or inside this frame.
    pub fn write(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        let length = frame.len() as u32;
        let mut header = [0; PACKET_HEADER];
        let words = [time.as_secs() as u32, time.subsec_nanos(), length, length];
        for (bytes, word) in header.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        self.file.write_all(&header)?;
        self.file.write_all(frame)
    }

    /// Hands everything to the file system.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Header and one packet as a little-endian machine writes them with microseconds, by hand.
    #[rustfmt::skip]
    const LITTLE: [u8; 54] = [
        0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
        0x10, 0, 0, 0, 0x20, 0, 0, 0, 14, 0, 0, 0, 14, 0, 0, 0,
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    ];
    /// The same by a big-endian machine with nanoseconds and a frame check sequence length.
    #[rustfmt::skip]
    const BIG: [u8; 54] = [
        0xA1, 0xB2, 0x3C, 0x4D, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x40, 0, 0, 1,
        0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 14, 0, 0, 0, 14,
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    ];

    fn with_magic(file: [u8; 54], magic: [u8; 4]) -> Vec<u8> {
        let mut bytes = file.to_vec();
        bytes[..4].copy_from_slice(&magic);
        bytes
    }

    #[test]
    fn both_byte_orders_and_both_units_are_read() {
        let files = [
            LITTLE.to_vec(),
            with_magic(LITTLE, [0x4D, 0x3C, 0xB2, 0xA1]),
            BIG.to_vec(),
            with_magic(BIG, [0xA1, 0xB2, 0xC3, 0xD4]),
        ];
        for file in files {
            assert_eq!(parse(&file).unwrap(), [LITTLE[40..].to_vec()]);
        }
        assert!(parse(&LITTLE[..24]).unwrap().is_empty());
    }

    #[test]
    fn a_written_capture_has_the_bytes_of_the_format() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::create(file.path()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap().len(), 24);
        writer
            .write(Duration::new(0x10, 0x20), &LITTLE[40..])
            .unwrap();
        writer.flush().unwrap();
        let expected = with_magic(LITTLE, [0x4D, 0x3C, 0xB2, 0xA1]);
        assert_eq!(std::fs::read(file.path()).unwrap(), expected);
        assert_eq!(read(file.path()).unwrap(), [LITTLE[40..].to_vec()]);
    }

    #[test]
    fn a_file_cut_anywhere_but_between_packets_is_refused_with_the_place() {
        for len in 0..LITTLE.len() {
            let (what, offset, wanted) = match len {
                0..4 => ("the magic", 0, 4),
                4..24 => ("the file's header", 0, 24),
                24 => continue,
                25..40 => ("a packet's header", 24, 16),
                _ => ("a packet", 40, 14),
            };
            let expected = format!(
                "is truncated: {what} at byte {offset} wants {wanted} bytes, {} are left",
                len - offset
            );
            assert_eq!(parse(&LITTLE[..len]).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn other_formats_and_packets_that_were_cut_are_refused_with_the_place() {
        let changed = |at: usize, value| {
            let mut bytes = LITTLE.to_vec();
            bytes[at] = value;
            parse(&bytes).unwrap_err().to_string()
        };
        let pcapng = with_magic(LITTLE, [0x0A, 0x0D, 0x0D, 0x0A]);
        let error = parse(&pcapng).unwrap_err().to_string();
        assert!(
            error.contains("0x0a0d0d0a") && error.contains("editcap"),
            "{error}"
        );
        assert!(changed(20, 113).contains("link type 113"));
        assert!(changed(36, 60).contains("at byte 24 was captured with 14 of its 60 bytes"));
        assert!(changed(34, 1).contains("at byte 24 claims 65550 bytes"));
        let mut short = LITTLE.to_vec();
        (short[32], short[36]) = (13, 13);
        let error = parse(&short).unwrap_err().to_string();
        assert!(error.contains("at byte 24 claims 13 bytes"), "{error}");
        let missing = read(Path::new("/nonexistent.pcap")).unwrap_err();
        assert!(missing.to_string().starts_with("can't be read: "));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 24..200)) {
            bytes[..24].copy_from_slice(&LITTLE[..24]);
            if let Ok(frames) = parse(&bytes) {
                let total: usize = frames.iter().map(|frame| 16 + frame.len()).sum();
                prop_assert_eq!(24 + total, bytes.len());
            }
        }
    }
}
