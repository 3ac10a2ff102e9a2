//! Completion queue entries: 60 bytes of client data and one word of owner, kind and queue
//! (§2.4), and what Ethernet puts into the client data (§3.4, §3.6).

use bitfield_struct::bitfield;

/// Size of an entry in bytes.
pub const SIZE: usize = 64;
/// 64-bit words of an entry. The last one holds the owner bits.
pub const WORDS: usize = SIZE / 8;

/// Bits of the last dword that are compared to find an entry of ours: queue, kind and owner,
/// without the reserved bits 25-28.
pub const TAIL_MASK: u32 = 0xE1FF_FFFF;
/// Lowest of the owner bits in the last dword.
pub(crate) const OWNER_SHIFT: u32 = 29;
/// `client_type` of completions of the Ethernet device.
pub const CLIENT_MANA: u8 = 1;

/// Dword 15 of an entry.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CqeTail {
    /// Id of the work queue the entry belongs to.
    #[bits(24)]
    pub wq_num: u32,
    /// It is a send queue.
    pub is_sq: bool,
    /// Reserved.
    #[bits(4)]
    pub reserved: u8,
    /// Owner bits, see [`crate::owner`].
    #[bits(3)]
    pub owner: u8,
}

/// Dword 0 of an entry's client data, the same for both directions.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CqeHead {
    /// See [`tx`] and [`rx`].
    #[bits(6)]
    pub cqe_type: u8,
    /// [`CLIENT_MANA`].
    #[bits(2)]
    pub client_type: u8,
    /// The device's own error code.
    #[bits(24)]
    pub vendor_err: u32,
}

/// Types of transmit completions (§3.4).
pub mod tx {
    /// Sent; stands for the suppressed run before it, too.
    pub const OKAY: u8 = 32;
    /// The source MAC is not allowed.
    pub const SA_DROP: u8 = 33;
    /// Longer than the adapter's MTU.
    pub const MTU_DROP: u8 = 34;
    /// The OOB contradicts itself or the queue.
    pub const INVALID_OOB: u8 = 35;
    /// The Ethernet type is not allowed.
    pub const INVALID_ETH_TYPE: u8 = 36;
    /// The headers could not be processed.
    pub const HDR_PROCESSING_ERROR: u8 = 37;
    /// The VF is disabled.
    pub const VF_DISABLED: u8 = 38;
    /// No such vPort.
    pub const VPORT_IDX_OUT_OF_RANGE: u8 = 39;
    /// The vPort is disabled.
    pub const VPORT_DISABLED: u8 = 40;
    /// The packet's VLAN tag is not allowed.
    pub const VLAN_TAGGING_VIOLATION: u8 = 41;
    /// The queue is disabled and must be created anew.
    pub const GDMA_ERR: u8 = 42;

    /// The field's name of a type, if it is one of these.
    #[must_use]
    pub const fn name(cqe_type: u8) -> Option<&'static str> {
        Some(match cqe_type {
            OKAY => "TX_OKAY",
            SA_DROP => "TX_SA_DROP",
            MTU_DROP => "TX_MTU_DROP",
            INVALID_OOB => "TX_INVALID_OOB",
            INVALID_ETH_TYPE => "TX_INVALID_ETH_TYPE",
            HDR_PROCESSING_ERROR => "TX_HDR_PROCESSING_ERROR",
            VF_DISABLED => "TX_VF_DISABLED",
            VPORT_IDX_OUT_OF_RANGE => "TX_VPORT_IDX_OUT_OF_RANGE",
            VPORT_DISABLED => "TX_VPORT_DISABLED",
            VLAN_TAGGING_VIOLATION => "TX_VLAN_TAGGING_VIOLATION",
            GDMA_ERR => "TX_GDMA_ERR",
            _ => return None,
        })
    }
}

/// Types of receive completions (§3.6).
pub mod rx {
    /// One packet.
    pub const OKAY: u8 = 1;
    /// Up to four packets; the list ends at length 0.
    pub const COALESCED_4: u8 = 2;
    /// All packets before it are done; consumes no buffer.
    pub const OBJECT_FENCE: u8 = 3;
    /// The packet was longer than the buffer and is lost; consumes one buffer.
    pub const TRUNCATED: u8 = 4;
    /// Up to eight packets, only where negotiated.
    pub const COALESCED_8: u8 = 7;

    /// The field's name of a type, if it is one of these.
    #[must_use]
    pub const fn name(cqe_type: u8) -> Option<&'static str> {
        Some(match cqe_type {
            OKAY => "RX_OKAY",
            COALESCED_4 => "RX_COALESCED_4",
            OBJECT_FENCE => "RX_OBJECT_FENCE",
            TRUNCATED => "RX_TRUNCATED",
            COALESCED_8 => "RX_COALESCED_8",
            _ => return None,
        })
    }
}

/// Dword 1 of a receive completion: flags shared by all of its packets (§3.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RxFlags {
    /// VLAN id of the tag that was stripped.
    #[bits(12)]
    pub vlan_id: u16,
    /// A tag was stripped.
    pub vlan_present: bool,
    /// The outer IP header checksum is right.
    pub outer_ip_checksum_ok: bool,
    /// The outer IP header checksum is wrong.
    pub outer_ip_checksum_bad: bool,
    /// Reserved.
    #[bits(1)]
    pub reserved0: bool,
    /// See [`crate::hash_type`]; 0 without a hash.
    #[bits(9)]
    pub hash_type: u16,
    /// The IP header checksum is right.
    pub ip_checksum_ok: bool,
    /// The IP header checksum is wrong.
    pub ip_checksum_bad: bool,
    /// The TCP checksum is right.
    pub tcp_checksum_ok: bool,
    /// The TCP checksum is wrong.
    pub tcp_checksum_bad: bool,
    /// The UDP checksum is right.
    pub udp_checksum_ok: bool,
    /// The UDP checksum is wrong.
    pub udp_checksum_bad: bool,
    /// Reserved.
    #[bits(1)]
    pub reserved1: bool,
}

/// An entry as a value: copied out of a ring, or to be written into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cqe {
    /// The 64 bytes.
    pub words: [u64; WORDS],
}

const _: () = assert!(size_of::<Cqe>() == SIZE);
const _: () = assert!(size_of::<CqeHead>() == 4 && size_of::<RxFlags>() == 4);
const _: () = assert!(size_of::<CqeTail>() == 4);

impl Cqe {
    /// Dword `index` (0-15).
    #[inline]
    #[must_use]
    pub const fn dword(&self, index: usize) -> u32 {
        (self.words[(index / 2) & (WORDS - 1)] >> (32 * (index & 1))) as u32
    }

    /// Replaces dword `index` (0-15).
    pub const fn set_dword(&mut self, index: usize, value: u32) {
        let shift = 32 * (index & 1);
        let word = &mut self.words[(index / 2) & (WORDS - 1)];
        *word = *word & !(0xFFFF_FFFF << shift) | (value as u64) << shift;
    }

    /// Type, client and error code.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> CqeHead {
        CqeHead::from_bits(self.dword(0))
    }

    /// Queue, kind and owner.
    #[inline]
    #[must_use]
    pub const fn tail(&self) -> CqeTail {
        CqeTail::from_bits(self.dword(15))
    }

    /// TX: offset in the data at which the device stopped, in bytes.
    #[inline]
    #[must_use]
    pub const fn tx_data_offset(&self) -> u32 {
        self.dword(1)
    }

    /// TX: element of the WQE's list at which the device stopped (0-31).
    #[inline]
    #[must_use]
    pub const fn tx_sgl_offset(&self) -> u8 {
        (self.dword(2) & 0x1F) as u8
    }

    /// TX: position of the WQE in units, 27 bits of a free-running cursor.
    #[inline]
    #[must_use]
    pub const fn tx_wqe_offset(&self) -> u32 {
        self.dword(2) >> 5
    }

    /// RX: the flags shared by all packets.
    #[inline]
    #[must_use]
    pub const fn rx_flags(&self) -> RxFlags {
        RxFlags::from_bits(self.dword(1))
    }

    /// RX types 1, 2 and 4: length and hash of packet `index` (0-3).
    #[inline]
    #[must_use]
    pub const fn rx_packet(&self, index: usize) -> (u32, u32) {
        let at = 2 + 3 * (index & 3);
        (self.dword(at) & 0xFFFF, self.dword(at + 2))
    }

    /// RX type 7: length and hash of packet `index` (0-7).
    #[inline]
    #[must_use]
    pub const fn rx_packet_of_8(&self, index: usize) -> (u32, u32) {
        let at = 2 + 3 * ((index & 7) / 2);
        let lengths = self.dword(at + 1);
        if index & 1 == 0 {
            (lengths & 0xFFFF, self.dword(at))
        } else {
            (lengths >> 16, self.dword(at + 2))
        }
    }

    /// RX: position of the receive WQE in bytes, unmasked.
    #[inline]
    #[must_use]
    pub const fn rx_wqe_offset(&self) -> u32 {
        self.dword(14)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cqe(bytes: [u8; SIZE]) -> Cqe {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap());
        }
        Cqe { words }
    }

    /// §2.4: wq_num 0-23, is_sq 24, owner 29-31.
    #[test]
    fn tail_bits_stand_where_the_reference_says() {
        let tail = CqeTail::new()
            .with_wq_num(0x12_3456)
            .with_is_sq(true)
            .with_owner(5);
        assert_eq!(tail.into_bits(), 0xA112_3456);
        assert_eq!(CqeTail::new().with_owner(1).into_bits(), 1 << OWNER_SHIFT);
        assert_eq!(TAIL_MASK, !CqeTail::new().with_reserved(0xF).into_bits());
    }

    /// §3.4: type 0-5, client 6-7, error 8-31; tx_wqe_offset at byte 8, bits 5-31.
    #[test]
    fn a_transmit_error_is_read() {
        let mut bytes = [0; SIZE];
        bytes[..4].copy_from_slice(&[0x63, 0x78, 0x56, 0x34]); // type 35, client 1
        bytes[4..8].copy_from_slice(&[0x22, 0x11, 0, 0x99]);
        bytes[8..12].copy_from_slice(&[0xE3, 0x01, 0, 0x80]); // sgl offset 3
        bytes[60..].copy_from_slice(&[0x0A, 0, 0, 0x21]);
        let cqe = cqe(bytes);
        assert_eq!(
            (cqe.head().cqe_type(), cqe.head().client_type()),
            (tx::INVALID_OOB, 1)
        );
        assert_eq!(cqe.head().vendor_err(), 0x34_5678);
        assert_eq!(
            (cqe.tx_data_offset(), cqe.tx_sgl_offset()),
            (0x9900_1122, 3)
        );
        assert_eq!(cqe.tx_wqe_offset(), 0x0400_000F);
        assert_eq!(
            (cqe.tail().wq_num(), cqe.tail().is_sq(), cqe.tail().owner()),
            (10, true, 1)
        );
    }

    /// §3.6: flags at byte 4, ppi[i] at 8 + 12*i with the length in dw0 0-15 and the hash in dw2.
    #[test]
    fn a_receive_completion_is_read() {
        let mut bytes = [0; SIZE];
        bytes[0] = 0x42; // type 2, client 1
        bytes[4..8].copy_from_slice(&[0x23, 0x31, 0x02, 0x0A]);
        for i in 0..4u8 {
            let at = 8 + 12 * usize::from(i);
            bytes[at..at + 4].copy_from_slice(&[60 + i, 1, 0xEE, 0xEE]);
            bytes[at + 8..at + 12].copy_from_slice(&[i, 2, 3, 4]);
        }
        bytes[56..60].copy_from_slice(&[0x40, 0, 0, 0]);
        let cqe = cqe(bytes);
        assert_eq!(cqe.head().cqe_type(), rx::COALESCED_4);
        let flags = cqe.rx_flags();
        assert_eq!((flags.vlan_id(), flags.vlan_present()), (0x123, true));
        assert!(flags.outer_ip_checksum_ok() && !flags.outer_ip_checksum_bad());
        assert_eq!(flags.hash_type(), crate::hash_type::TCP_IPV4);
        assert!(flags.ip_checksum_ok() && flags.tcp_checksum_ok() && !flags.tcp_checksum_bad());
        for i in 0..4 {
            assert_eq!(cqe.rx_packet(i), (316 + i as u32, 0x0403_0200 + i as u32));
        }
        assert_eq!(cqe.rx_wqe_offset(), 0x40);
        let bit = |flags: RxFlags| flags.into_bits().trailing_zeros();
        assert_eq!(bit(RxFlags::new().with_outer_ip_checksum_bad(true)), 14);
        assert_eq!(bit(RxFlags::new().with_ip_checksum_ok(true)), 25);
        assert_eq!(bit(RxFlags::new().with_ip_checksum_bad(true)), 26);
        assert_eq!(bit(RxFlags::new().with_tcp_checksum_ok(true)), 27);
        assert_eq!(bit(RxFlags::new().with_tcp_checksum_bad(true)), 28);
        assert_eq!(bit(RxFlags::new().with_udp_checksum_ok(true)), 29);
        assert_eq!(bit(RxFlags::new().with_udp_checksum_bad(true)), 30);
    }

    /// §3.6: 4 × {hash0 u32, len0 u16, len1 u16, hash1 u32} from byte 8.
    #[test]
    fn the_eight_packet_layout_is_read() {
        let mut bytes = [0; SIZE];
        for i in 0..8u8 {
            let at = 8 + 12 * usize::from(i / 2);
            bytes[at + 4 + 2 * usize::from(i % 2)] = 60 + i;
            bytes[at + 8 * usize::from(i % 2)] = i + 1;
        }
        let cqe = cqe(bytes);
        for i in 0..8 {
            assert_eq!(cqe.rx_packet_of_8(i), (60 + i as u32, i as u32 + 1));
        }
    }

    #[test]
    fn dwords_are_replaced_alone() {
        let mut cqe = Cqe {
            words: [u64::MAX; WORDS],
        };
        cqe.set_dword(4, 0);
        cqe.set_dword(7, 0x1234);
        assert_eq!(cqe.words[2], 0xFFFF_FFFF_0000_0000);
        assert_eq!(cqe.words[3], 0x0000_1234_FFFF_FFFF);
    }

    /// uverbs-boundary.md §2 "TX: dword0 = 32 CQE_TX_OKAY", "u32 {wq_num:24,is_sq:1,0:4,owner:3}; the
    /// first lap writes 1".
    #[test]
    fn the_first_completion_seen_under_the_c_driver_is_read() {
        let mut bytes = [0; SIZE];
        bytes[0] = 32;
        bytes[60..].copy_from_slice(&[0x0A, 0, 0, 0x21]);
        let cqe = cqe(bytes);
        assert_eq!(cqe.head().cqe_type(), tx::OKAY);
        let mut written = Cqe::default();
        written.set_dword(0, CqeHead::new().with_cqe_type(tx::OKAY).into_bits());
        let tail = CqeTail::new()
            .with_wq_num(10)
            .with_is_sq(true)
            .with_owner(1);
        written.set_dword(15, tail.into_bits());
        assert_eq!(written, cqe);
    }

    /// §3.4 and §3.6, the tables of types.
    #[test]
    fn every_type_has_a_name() {
        for cqe_type in 0..64 {
            assert_eq!(tx::name(cqe_type).is_some(), (32..=42).contains(&cqe_type));
            let receive = matches!(cqe_type, 1..=4 | 7);
            assert_eq!(rx::name(cqe_type).is_some(), receive);
        }
        assert_eq!(tx::name(41), Some("TX_VLAN_TAGGING_VIOLATION"));
        assert_eq!(rx::name(4), Some("RX_TRUNCATED"));
    }
}
