//! What the kernel says about a mapping: `/proc/self/smaps`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// The lines of one mapping that tell its pages, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backing {
    /// `KernelPageSize`.
    pub(crate) kernel_page: usize,
    /// `AnonHugePages`: how much of the mapping lies in transparent huge pages.
    pub(crate) anon_huge: usize,
}

/// The backing of the mapping that holds `address`, `None` where there is none.
pub(crate) fn backing(address: usize) -> io::Result<Option<Backing>> {
    find(BufReader::new(File::open("/proc/self/smaps")?), address)
}

fn find(smaps: impl BufRead, address: usize) -> io::Result<Option<Backing>> {
    let mut found: Option<Backing> = None;
    for line in smaps.lines() {
        let line = line?;
        let Some(first) = line.split_ascii_whitespace().next() else {
            continue;
        };
        if let Some(range) = range(first) {
            if found.is_some() {
                break;
            }
            found = range.contains(&address).then(Backing::default);
        } else if let Some(backing) = &mut found {
            match first {
                "KernelPageSize:" => backing.kernel_page = kib(&line),
                "AnonHugePages:" => backing.anon_huge = kib(&line),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// `7f00-8f00` as a range; `None` for a line that does not start a mapping.
fn range(text: &str) -> Option<std::ops::Range<usize>> {
    let (start, end) = text.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// `Name:   2048 kB` in bytes.
fn kib(line: &str) -> usize {
    line.split_ascii_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<usize>().ok())
        .map_or(0, |number| number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                4096 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac sd hg 
7f0000400000-7f0000800000 rw-s 00000000 00:10 1026 /memfd:pool (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
AnonHugePages:         0 kB
";

    fn at(address: usize) -> Option<Backing> {
        find(SMAPS.as_bytes(), address).unwrap()
    }

    #[test]
    fn the_mapping_is_found_by_any_of_its_addresses() {
        let first = Backing {
            kernel_page: 4 << 10,
            anon_huge: 2 << 20,
        };
        let second = Backing {
            kernel_page: 2 << 20,
            anon_huge: 0,
        };
        assert_eq!(at(0x7f00_0000_0000), Some(first));
        assert_eq!(at(0x7f00_003f_ffff), Some(first));
        assert_eq!(at(0x7f00_0040_0000), Some(second));
        assert_eq!(at(0x7f00_0080_0000), None);
        assert_eq!(at(0), None);
    }
}
