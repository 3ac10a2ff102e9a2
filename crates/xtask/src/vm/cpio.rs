//! An archive of cpio in its format "newc", as the kernel unpacks it at boot
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;

/// An archive that is being written. Parents of everything are made as they are needed; what comes
/// twice is written once, the first time.
pub struct Archive<W> {
    out: W,
    entries: u32,
    made: HashSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// Begins one.
    pub fn new(out: W) -> Self {
        Self {
            out,
            entries: 0,
            made: HashSet::new(),
        }
    }

    /// A folder.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER, &[])
    }

    /// A link to `target`.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK, target.as_bytes())
    }

    /// A file with these permissions.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | (permissions & 0o7777), bytes)
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<W> {
        self.write("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        if path.is_empty() || !self.made.insert(PathBuf::from(path)) {
            return Ok(());
        }
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.entry(parent, FOLDER, &[])?;
        }
        self.write(path, mode, bytes)
    }

    fn write(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let large = |_| io::Error::new(io::ErrorKind::FileTooLarge, path.to_owned());
        let size = u32::try_from(bytes.len()).map_err(large)?;
        let name = u32::try_from(path.len() + 1).map_err(large)?;
        self.entries += 1;
        // Inode, mode, user, group, links, time, size, two devices, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        let mut head = b"070701".to_vec();
        for field in fields {
            write!(head, "{field:08x}")?;
        }
        head.extend_from_slice(path.as_bytes());
        head.push(0);
        pad(&mut head);
        self.out.write_all(&head)?;
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..padding(bytes.len())])
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len() + padding(bytes.len()), 0);
}

/// Everything begins at a multiple of four bytes.
fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_parents_padding_and_an_end() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b", 0o755, b"hello").unwrap();
        archive.folder("a").unwrap();
        archive.link("a/c", "b").unwrap();
        let bytes = archive.finish().unwrap();
        let head = |number: u32, mode: &str, size: u32, name: u32| {
            format!(
                "070701{number:08x}{mode}{:08x}{:08x}{:08x}{:08x}{size:08x}{}{name:08x}{:08x}",
                0,
                0,
                1,
                0,
                "0".repeat(32),
                0
            )
        };
        // Heads are 110 bytes; with name and padding 112, 116, 116, 124.
        let expected = [
            head(1, "000041ed", 0, 2) + "a\0",
            head(2, "000081ed", 5, 4) + "a/b\0\0\0hello\0\0\0",
            head(3, "0000a1ff", 1, 4) + "a/c\0\0\0b\0\0\0",
            head(4, "00000000", 0, 11) + "TRAILER!!!\0\0\0\0",
        ];
        assert_eq!(String::from_utf8(bytes).unwrap(), expected.concat());
    }
}
