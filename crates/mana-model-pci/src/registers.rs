//! BAR0: the registers, the shared-memory channel and the doorbell pages
//! (reference/mana-hardware.md §6.1, §2.7).

use crate::limits::{DOORBELL_PAGE, DOORBELL_PAGES};
use crate::smc::{self, Channel};

/// Where the shared-memory channel is.
pub(crate) const CHANNEL: u64 = 0x100;
/// Where the doorbell pages begin.
pub(crate) const DOORBELLS: u64 = 0x1_0000;

/// Version 1.0.1, as micro, minor, major.
const VERSION: [u8; 4] = [1, 0, 0, 1];

/// What stands at an offset of BAR0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A register, or nothing.
    Register,
    /// The shared-memory channel, at this byte of it.
    Channel(usize),
    /// A doorbell page and the offset in it.
    Doorbell(u32, u32),
}

/// What stands at `offset`.
pub(crate) fn place(offset: u64) -> Place {
    let pages = DOORBELLS..DOORBELLS + u64::from(DOORBELL_PAGES) * u64::from(DOORBELL_PAGE);
    if pages.contains(&offset) {
        let at = offset - DOORBELLS;
        let page = at / u64::from(DOORBELL_PAGE);
        return Place::Doorbell(page as u32, (at % u64::from(DOORBELL_PAGE)) as u32);
    }
    match offset.checked_sub(CHANNEL).map(usize::try_from) {
        Some(Ok(at)) if at < smc::SIZE => Place::Channel(at),
        _ => Place::Register,
    }
}

/// Reads registers and channel; zeros where there is nothing. Doorbells read as zero.
pub(crate) fn read(channel: &Channel, offset: u64, bytes: &mut [u8]) {
    for (byte, behind) in bytes.iter_mut().zip(0..) {
        let at = offset.saturating_add(behind);
        *byte = match place(at) {
            Place::Channel(at) => channel.bytes()[at],
            Place::Register => register(at),
            Place::Doorbell(..) => 0,
        };
    }
}

fn register(at: u64) -> u8 {
    let of = |value: u64, first: u64| value.to_le_bytes()[(at - first) as usize];
    match at {
        0x00..0x04 => VERSION[at as usize],
        0x08..0x10 => of(DOORBELLS, 0x08),
        0x10..0x14 => of(u64::from(DOORBELL_PAGE), 0x10),
        0x18..0x20 => of(CHANNEL, 0x18),
        0x20..0x22 => of(smc::SIZE as u64, 0x20),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_space::BAR0_SIZE;

    fn read_le(offset: u64, len: usize) -> u64 {
        let mut bytes = [0; 8];
        read(&Channel::default(), offset, &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    }

    /// §6.1, and what Linux reads of it (reference/kernel-in-a-vm.md §5): 0x10 in 4 bytes, 0x8 and
    /// 0x18 in 8.
    #[test]
    fn registers_tell_where_everything_is() {
        assert_eq!(read_le(0x00, 2), 1, "micro version");
        assert_eq!(read_le(0x03, 1), 1, "major version");
        let (pages, size) = (read_le(0x08, 8), read_le(0x10, 4));
        assert!(size >= 4096 && size == size & 0xFFFF);
        assert!(pages.is_multiple_of(4096) && pages + 1008 * size <= BAR0_SIZE);
        let channel = read_le(0x18, 8);
        assert!(channel.is_multiple_of(4) && channel + 32 <= pages);
        assert_eq!(read_le(0x20, 2), 32);
        assert_eq!(place(pages + 5 * 4096 + 0x800), Place::Doorbell(5, 0x800));
        assert_eq!(place(channel + 31), Place::Channel(31));
    }

    #[test]
    fn every_offset_and_width_reads_something() {
        for offset in (0..0x200).chain([0xFFFF, BAR0_SIZE - 1, BAR0_SIZE, u64::MAX]) {
            for len in [1, 2, 3, 4, 8, 64] {
                read(&Channel::default(), offset, &mut vec![0xEE; len]);
            }
        }
        assert_eq!(read_le(0x1F, 8), 0x20 << 8, "across two registers");
    }
}
