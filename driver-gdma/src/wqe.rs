//! Work queue elements: header and scatter-gather elements (§2.3).
//!
//! ```text
//! byte 0        8               8+oob                       rounded up to 32
//! | header 8 B  | OOB 8 or 24 B | SGE[0] 16 B | SGE[1] … | padding |
//! ```

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Basic unit of work queues in bytes: WQEs are aligned to it and padded to it (§2.1).
pub const UNIT: usize = 32;
/// Size of the header in bytes.
pub const HEADER: usize = 8;
/// Size of a scatter-gather element in bytes.
pub const SGE: usize = 16;
/// Largest send WQE in bytes.
pub const MAX_SEND_WQE: usize = 512;
/// Largest receive WQE in bytes.
pub const MAX_RECEIVE_WQE: usize = 256;
/// Elements of a send WQE: what fits beside a long OOB, and what all public drivers use.
pub const MAX_TX_SGES: usize = (MAX_SEND_WQE - HEADER - 24) / SGE;
/// Elements of a receive WQE.
pub const MAX_RX_SGES: usize = (MAX_RECEIVE_WQE - HEADER - 8) / SGE;

const _: () = assert!(MAX_TX_SGES == 30 && MAX_RX_SGES == 15);

/// Size of a WQE in units: header, OOB and elements, rounded up. An empty list takes the room of
/// one element.
#[inline]
#[must_use]
pub const fn units(oob_bytes: usize, sges: usize) -> u32 {
    let sges = if sges == 0 { 1 } else { sges };
    (HEADER + oob_bytes + SGE * sges).div_ceil(UNIT) as u32
}

/// The first 8 bytes of a WQE ("DMA OOB").
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct WqeHeader {
    /// Zero.
    #[bits(24)]
    pub reserved0: u32,
    /// With `client_oob_in_sgl`: size of the first element (§3.3).
    pub last_vbytes: u8,
    /// Number of valid elements.
    pub num_sge: u8,
    /// Size of the inline OOB in dwords: 2 or 6.
    #[bits(3)]
    pub inline_oob_size_div4: u8,
    /// The first element carries the packet's headers (TSO).
    pub client_oob_in_sgl: bool,
    /// RNIC; zero for Ethernet.
    pub consume_credit: bool,
    /// RNIC; zero for Ethernet.
    pub fence: bool,
    /// Zero.
    #[bits(2)]
    pub reserved1: u8,
    /// TSO: MSS. Zero otherwise and on receive queues.
    #[bits(14)]
    pub client_data_unit: u16,
    /// RNIC; zero for Ethernet.
    pub check_sn: bool,
    /// The list holds data instead of elements; zero for Ethernet.
    pub sgl_direct: bool,
}

impl WqeHeader {
    /// Header of a WQE with `sges` elements behind an OOB of `oob_bytes` (8 or 24).
    #[inline]
    #[must_use]
    pub const fn plain(oob_bytes: usize, sges: usize) -> Self {
        Self::new()
            .with_num_sge((sges & 0xFF) as u8)
            .with_inline_oob_size_div4(((oob_bytes / 4) & 7) as u8)
    }
}

/// A scatter-gather element.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Sge {
    /// Address by which the memory was registered.
    pub address: u64,
    /// Key of the registration.
    pub key: u32,
    /// Bytes.
    pub size: u32,
}

const _: () = assert!(size_of::<Sge>() == SGE && size_of::<WqeHeader>() == HEADER);

impl Sge {
    /// The element as it stands in the ring.
    #[inline]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        [self.address, self.key as u64 | (self.size as u64) << 32]
    }

    /// The element that stands in the ring as `words`.
    #[inline]
    #[must_use]
    pub const fn from_words([address, rest]: [u64; 2]) -> Self {
        Self {
            address,
            key: rest as u32,
            size: (rest >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.3: dw0 24-31 last_vbytes; dw1 0-7 num_sge, 8-10 OOB dwords, 11 client_oob_in_sgl,
    /// 16-29 client_data_unit.
    #[test]
    fn header_bits_stand_where_the_reference_says() {
        assert_eq!(
            WqeHeader::plain(8, 1).into_bits().to_le_bytes(),
            [0, 0, 0, 0, 1, 2, 0, 0]
        );
        assert_eq!(
            WqeHeader::plain(24, 30).into_bits().to_le_bytes(),
            [0, 0, 0, 0, 30, 6, 0, 0]
        );
        let tso = WqeHeader::plain(8, 2)
            .with_last_vbytes(0x36)
            .with_client_oob_in_sgl(true)
            .with_client_data_unit(1448);
        assert_eq!(
            tso.into_bits().to_le_bytes(),
            [0, 0, 0, 0x36, 2, 0x0A, 0xA8, 0x05]
        );
        assert_eq!(WqeHeader::new().with_check_sn(true).into_bits(), 1 << 62);
        assert_eq!(WqeHeader::new().with_sgl_direct(true).into_bits(), 1 << 63);
        assert_eq!(
            WqeHeader::new().with_consume_credit(true).into_bits(),
            1 << 44
        );
        assert_eq!(WqeHeader::new().with_fence(true).into_bits(), 1 << 45);
    }

    /// §2.3: u64 address, u32 mem_key, u32 size.
    #[test]
    fn an_element_is_address_key_size() {
        let sge = Sge {
            address: 0x0123_4567_89AB_CDEF,
            key: 0x1122_3344,
            size: 0x3C,
        };
        let bytes = [
            0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01, 0x44, 0x33, 0x22, 0x11, 0x3C, 0, 0, 0,
        ];
        assert_eq!(sge.as_bytes(), bytes);
        assert_eq!(Sge::from_words(sge.words()), sge);
        assert_eq!(
            [sge.words()[0].to_le_bytes(), sge.words()[1].to_le_bytes()].concat(),
            bytes
        );
    }

    /// §2.3 "WQE size = align32(8 + oob + 16*max(1,num_sge))", §9.2 for the figures.
    #[test]
    fn sizes_are_rounded_up_to_units() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 30].map(|n| units(8, n)),
            [1, 1, 2, 2, 3, 3, 16]
        );
        assert_eq!([0, 1, 2, 3, 30].map(|n| units(24, n)), [2, 2, 2, 3, 16]);
    }
}
