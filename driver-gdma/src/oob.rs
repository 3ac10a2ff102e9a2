//! Ethernet transmit OOBs, short (8 B) and long (24 B) (§3.1, §3.2).

use bitfield_struct::bitfield;

/// Size of the short OOB in bytes.
pub const SHORT: usize = 8;
/// Size of the long OOB in bytes.
pub const LONG: usize = 24;
/// Largest vPort offset of the short OOB's 8-bit field (§3.2).
pub const MAX_SHORT_VPORT_OFFSET: u32 = 255;
/// Bits of the short OOB that request offloads: IP version, checksums, transport offset. They stand
/// where `pmd-api`'s transmit word has them, so a driver only has to OR them in.
pub const OFFLOAD_MASK: u64 = 0x7C | 0x3FF << 32;
/// The bit that suppresses the completion of a successful send.
pub const SUPPRESS: u64 = 1 << 7;

/// The first 8 bytes of every transmit OOB.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ShortOob {
    /// 0 for the short format, 1 for the long one.
    #[bits(2)]
    pub pkt_fmt: u8,
    /// The packet is IPv4 (wanted with every checksum request).
    pub is_outer_ipv4: bool,
    /// The packet is IPv6.
    pub is_outer_ipv6: bool,
    /// Compute the IPv4 header checksum.
    pub comp_iphdr_csum: bool,
    /// Compute the TCP checksum.
    pub comp_tcp_csum: bool,
    /// Compute the UDP checksum.
    pub comp_udp_csum: bool,
    /// No CQE if the send succeeds.
    pub suppress_txcqe_gen: bool,
    /// Id of the CQ for the completion.
    #[bits(24)]
    pub vcq_num: u32,
    /// Offset of the TCP or UDP header from the packet's start, in bytes.
    #[bits(10)]
    pub trans_off: u16,
    /// Bits 10-23 of the send queue's id.
    #[bits(14)]
    pub vsq_frame: u16,
    /// The vPort offset where it fits in 8 bits.
    pub short_vp_offset: u8,
}

/// Dwords 2 and 3 of the long OOB.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct LongOobTail {
    /// Tunnel; zero, no public driver uses it.
    pub is_encap: bool,
    /// Tunnel; zero.
    pub inner_is_ipv6: bool,
    /// Tunnel; zero.
    pub inner_tcp_opt: bool,
    /// Insert a VLAN tag.
    pub inject_vlan_pri_tag: bool,
    /// Zero.
    #[bits(12)]
    pub reserved0: u16,
    /// Priority of the tag.
    #[bits(3)]
    pub pcp: u8,
    /// Drop eligible.
    pub dei: bool,
    /// VLAN id.
    #[bits(12)]
    pub vlan_id: u16,
    /// Tunnel; zero.
    #[bits(10)]
    pub inner_frame_offset: u16,
    /// Tunnel; zero.
    #[bits(6)]
    pub inner_ip_rel_offset: u8,
    /// The vPort offset.
    #[bits(12)]
    pub long_vp_offset: u16,
    /// Zero.
    #[bits(4)]
    pub reserved1: u8,
}

/// The long OOB. Its last 8 bytes are reserved and zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongOob {
    /// Dwords 0 and 1, with `pkt_fmt` 1.
    pub short: ShortOob,
    /// Dwords 2 and 3.
    pub tail: LongOobTail,
}

const _: () = assert!(size_of::<ShortOob>() == SHORT && size_of::<LongOobTail>() == 8);
const _: () = assert!(size_of::<LongOob>() + 8 == LONG);

impl LongOob {
    /// The OOB as it stands in the ring.
    #[inline]
    #[must_use]
    pub const fn words(self) -> [u64; 3] {
        [self.short.into_bits(), self.tail.into_bits(), 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §3.1, field by field.
    #[test]
    fn short_bits_stand_where_the_reference_says() {
        let bit = |oob: ShortOob| oob.into_bits();
        let new = ShortOob::new;
        assert_eq!(bit(new().with_pkt_fmt(1)), 1);
        assert_eq!(bit(new().with_is_outer_ipv4(true)), 1 << 2);
        assert_eq!(bit(new().with_is_outer_ipv6(true)), 1 << 3);
        assert_eq!(bit(new().with_comp_iphdr_csum(true)), 1 << 4);
        assert_eq!(bit(new().with_comp_tcp_csum(true)), 1 << 5);
        assert_eq!(bit(new().with_comp_udp_csum(true)), 1 << 6);
        assert_eq!(bit(new().with_suppress_txcqe_gen(true)), 1 << 7);
        assert_eq!(bit(new().with_vcq_num(0xABCDEF)), 0xABCD_EF00);
        assert_eq!(bit(new().with_trans_off(0x3FF)), 0x3FF << 32);
        assert_eq!(bit(new().with_vsq_frame(0x3FFF)), 0x3FFF << 42);
        assert_eq!(bit(new().with_short_vp_offset(0xFF)), 0xFF << 56);
        // An IPv4/TCP packet with both checksums, transport header at 34, CQ 0x12345, SQ id 0x1403
        // (frame 5), offset 7, suppressed.
        let oob = new()
            .with_is_outer_ipv4(true)
            .with_comp_iphdr_csum(true)
            .with_comp_tcp_csum(true)
            .with_suppress_txcqe_gen(true)
            .with_vcq_num(0x12345)
            .with_trans_off(34)
            .with_vsq_frame(0x1403 >> 10)
            .with_short_vp_offset(7);
        assert_eq!(
            bit(oob).to_le_bytes(),
            [0xB4, 0x45, 0x23, 0x01, 0x22, 0x14, 0x00, 0x07]
        );
    }

    /// §3.1: offloads are requested by dword 0 bits 2-6 and dword 1 bits 0-9; suppression is dword 0
    /// bit 7; short_vp_offset is 8 bits wide.
    #[test]
    fn masks_cover_the_fields_they_are_for() {
        assert_eq!(OFFLOAD_MASK, 0x0000_03FF_0000_007C);
        assert_eq!(SUPPRESS, 0x80);
        assert_eq!(MAX_SHORT_VPORT_OFFSET, 0xFF);
    }

    /// §3.2, field by field.
    #[test]
    fn long_bits_stand_where_the_reference_says() {
        let new = LongOobTail::new;
        assert_eq!(new().with_is_encap(true).into_bits(), 1);
        assert_eq!(new().with_inner_is_ipv6(true).into_bits(), 2);
        assert_eq!(new().with_inner_tcp_opt(true).into_bits(), 4);
        assert_eq!(new().with_inject_vlan_pri_tag(true).into_bits(), 8);
        assert_eq!(new().with_pcp(7).into_bits(), 7 << 16);
        assert_eq!(new().with_dei(true).into_bits(), 1 << 19);
        assert_eq!(new().with_vlan_id(0xFFF).into_bits(), 0xFFF << 20);
        assert_eq!(
            new().with_inner_frame_offset(0x3FF).into_bits(),
            0x3FF << 32
        );
        assert_eq!(new().with_inner_ip_rel_offset(0x3F).into_bits(), 0x3F << 42);
        assert_eq!(new().with_long_vp_offset(0xFFF).into_bits(), 0xFFF << 48);
        let tail = new()
            .with_inject_vlan_pri_tag(true)
            .with_pcp(5)
            .with_dei(true)
            .with_vlan_id(0x123)
            .with_long_vp_offset(0x2A5);
        let bytes = tail.into_bits().to_le_bytes();
        assert_eq!(bytes, [0x08, 0x00, 0x3D, 0x12, 0x00, 0x00, 0xA5, 0x02]);
        let oob = LongOob {
            short: ShortOob::new().with_pkt_fmt(1),
            tail,
        };
        assert_eq!(oob.words()[2], 0);
    }
}
