//! The PCI configuration space of a MANA virtual function (reference/mana-hardware.md §1.1).
//!
//! Behind QEMU the guest sees most registers through QEMU's own copy (BARs, MSI-X); what reaches the
//! function is what it acts on: bus mastering and the function level reset.

use crate::limits::VECTORS;

/// Bytes.
pub(crate) const SIZE: usize = 4096;

const VENDOR: u16 = 0x1414;
const VIRTUAL_FUNCTION: u16 = 0x00BA;
/// Ethernet controller.
const CLASS: [u8; 3] = [0x00, 0x00, 0x02];

const COMMAND: usize = 0x04;
const BUS_MASTER: u16 = 1 << 2;
/// Memory space, bus master, SERR, interrupts disabled.
const COMMAND_BITS: u16 = 1 << 1 | BUS_MASTER | 1 << 8 | 1 << 10;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Where the base address registers begin: 0 and 1 are BAR0, 4 and 5 are BAR4.
const BARS: usize = 0x10;
/// A 64-bit register of memory that must not be prefetched.
const MEMORY_64: u8 = 0b100;

/// The PCI Express capability.
const EXPRESS: usize = 0x40;
const EXPRESS_ENDPOINT: u16 = 0x0002;
/// Role-based error reporting, function level reset.
const EXPRESS_CAPABILITIES: u32 = 1 << 15 | 1 << 28;
const EXPRESS_CONTROL: usize = EXPRESS + 8;
const FUNCTION_RESET: u16 = 1 << 15;
/// 8 GT/s and 16 lanes, which the bus of a virtual machine does not have either.
const EXPRESS_LINK: u16 = 0x0103;

/// The MSI-X capability; table and pending bits are in BAR4.
const MSIX: usize = 0x80;
const MSIX_TABLE: u32 = 4;
const MSIX_PENDING: u32 = 0x800 | 4;
const MSIX_CONTROL_BITS: u16 = 0xC000;

/// BAR0: registers and doorbells.
pub(crate) const BAR0_SIZE: u64 = 4 << 20;
/// BAR4: where the MSI-X table would be. Clients keep the table themselves.
pub(crate) const BAR4_SIZE: u64 = 4096;

/// What a write asks the function to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// Bus mastering was turned on or off.
    Mastering(bool),
    /// A function level reset.
    Reset,
}

/// The registers.
pub(crate) struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    /// Bits that can be written.
    writable: Box<[u8; SIZE]>,
}

impl ConfigSpace {
    /// As they are after power on.
    pub(crate) fn new() -> Self {
        let mut space = Self {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
        };
        space.put(0x00, &VENDOR.to_le_bytes());
        space.put(0x02, &VIRTUAL_FUNCTION.to_le_bytes());
        space.put(0x06, &STATUS_CAPABILITIES.to_le_bytes());
        space.put(0x09, &CLASS);
        space.put(0x2C, &VENDOR.to_le_bytes());
        space.put(0x34, &[EXPRESS as u8]);
        space.allow(COMMAND, &COMMAND_BITS.to_le_bytes());
        // Cache line size and interrupt line: kept for whoever writes them.
        space.allow(0x0C, &[0xFF]);
        space.allow(0x3C, &[0xFF]);
        for (bar, size) in [(0, BAR0_SIZE), (4, BAR4_SIZE)] {
            space.put(BARS + 4 * bar, &[MEMORY_64]);
            space.allow(BARS + 4 * bar, &(!(size - 1)).to_le_bytes());
        }
        space.put(EXPRESS, &[0x10, MSIX as u8]);
        space.put(EXPRESS + 2, &EXPRESS_ENDPOINT.to_le_bytes());
        space.put(EXPRESS + 4, &EXPRESS_CAPABILITIES.to_le_bytes());
        space.allow(EXPRESS_CONTROL, &0x7FFF_u16.to_le_bytes());
        space.put(EXPRESS + 0x0C, &EXPRESS_LINK.to_le_bytes());
        space.put(EXPRESS + 0x12, &EXPRESS_LINK.to_le_bytes());
        space.put(MSIX, &[0x11, 0]);
        space.put(MSIX + 2, &(VECTORS - 1).to_le_bytes());
        space.put(MSIX + 4, &MSIX_TABLE.to_le_bytes());
        space.put(MSIX + 8, &MSIX_PENDING.to_le_bytes());
        space.allow(MSIX + 2, &MSIX_CONTROL_BITS.to_le_bytes());
        space
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    /// Reads; zeros where there is nothing.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) {
        for (byte, behind) in bytes.iter_mut().zip(0..) {
            let at = usize::try_from(offset.saturating_add(behind)).unwrap_or(SIZE);
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes what can be written.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Asked {
        let before = self.is_mastering();
        let mut reset = false;
        for (byte, behind) in bytes.iter().zip(0..) {
            let at = offset.checked_add(behind).map(usize::try_from);
            let Some(Ok(at)) = at.filter(|at| at.as_ref().is_ok_and(|at| *at < SIZE)) else {
                break;
            };
            let bits = self.writable[at];
            self.bytes[at] = self.bytes[at] & !bits | byte & bits;
            reset |= at == EXPRESS_CONTROL + 1 && byte & (FUNCTION_RESET >> 8) as u8 != 0;
        }
        match (reset, self.is_mastering()) {
            (true, _) => Asked::Reset,
            (false, now) if now != before => Asked::Mastering(now),
            _ => Asked::Nothing,
        }
    }

    /// Whether the function may reach memory.
    pub(crate) fn is_mastering(&self) -> bool {
        self.bytes[COMMAND] & BUS_MASTER as u8 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(space: &ConfigSpace, offset: u64) -> [u8; N] {
        let mut bytes = [0xEE; N];
        space.read(offset, &mut bytes);
        bytes
    }

    /// §1.1: vendor 0x1414, device 0x00ba; §6.11: MSI-X.
    #[test]
    fn it_is_a_mana_virtual_function_with_msix() {
        let space = ConfigSpace::new();
        assert_eq!(read(&space, 0), [0x14, 0x14, 0xBA, 0x00]);
        assert_eq!(read(&space, 8), [0, 0, 0, 2], "an Ethernet controller");
        let mut at = read::<1>(&space, 0x34)[0];
        let mut found = Vec::new();
        while at != 0 {
            let [id, next] = read(&space, u64::from(at));
            found.push(id);
            at = next;
        }
        assert_eq!(found, [0x10, 0x11]);
        assert_eq!(read(&space, 0x82), [63, 0], "64 vectors");
    }

    #[test]
    fn bars_tell_their_sizes_as_drivers_ask() {
        let mut space = ConfigSpace::new();
        for (at, low) in [(0x10, 0xFFC0_0004_u32), (0x20, 0xFFFF_F004)] {
            space.write(at, &[0xFF; 8]);
            assert_eq!(u32::from_le_bytes(read(&space, at)), low);
            assert_eq!(read(&space, at + 4), [0xFF; 4]);
        }
        space.write(0x18, &[0xFF; 8]);
        assert_eq!(read(&space, 0x18), [0; 8], "no such registers");
    }

    #[test]
    fn writes_ask_for_mastering_and_reset() {
        let mut space = ConfigSpace::new();
        assert_eq!(space.write(4, &[6, 0]), Asked::Mastering(true));
        assert_eq!(space.write(4, &[6, 4]), Asked::Nothing);
        assert_eq!(space.write(5, &[0]), Asked::Nothing);
        assert_eq!(space.write(4, &[2, 0]), Asked::Mastering(false));
        assert_eq!(space.write(0x48, &[0x10, 0xA8]), Asked::Reset);
        assert_eq!(read(&space, 0x48), [0x10, 0x28], "the bit reads as zero");
        assert_eq!(space.write(0x49, &[0x80]), Asked::Reset);
    }

    #[test]
    fn nothing_else_can_be_written_and_nothing_lies_outside() {
        let mut space = ConfigSpace::new();
        space.write(0, &[0xFF; 4]);
        assert_eq!(read(&space, 0), [0x14, 0x14, 0xBA, 0x00]);
        space.write(4094, &[0xFF; 16]);
        space.write(u64::MAX, &[0xFF; 4]);
        assert_eq!(read(&space, 4094), [0; 8]);
        assert_eq!(read(&space, u64::MAX), [0; 4]);
    }
}
