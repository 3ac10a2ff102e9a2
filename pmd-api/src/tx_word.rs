//! The transmit word: what the device shall do to a packet, with the meanings of DPDK's flags.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | insert a VLAN tag |
//! | 1 | segment (TSO) |
//! | 2, 3 | the packet is IPv4, IPv6 |
//! | 4 | compute the IPv4 header checksum |
//! | 5, 6 | compute the TCP, UDP checksum |
//! | 8-23 | VLAN tag control information |
//! | 24-30 | length of the Ethernet header, bytes |
//! | 32-41 | offset of the TCP or UDP header, bytes |
//! | 42-55 | MSS, bytes |
//! | 56-63 | length of the TCP or UDP header, bytes |
//!
//! Bits 2-6 and 32-41 stand where hardware wants them, so a driver only has to OR them in.

bitflags::bitflags! {
    /// Requests in a transmit word.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct TxFlags: u64 {
        /// Insert the tag (`RTE_MBUF_F_TX_VLAN`).
        const VLAN = 1 << 0;
        /// Segment the packet (`RTE_MBUF_F_TX_TCP_SEG`).
        const TSO = 1 << 1;
        /// The packet is IPv4 (`RTE_MBUF_F_TX_IPV4`).
        const IPV4 = 1 << 2;
        /// The packet is IPv6 (`RTE_MBUF_F_TX_IPV6`).
        const IPV6 = 1 << 3;
        /// Compute the IPv4 header checksum (`RTE_MBUF_F_TX_IP_CKSUM`).
        const IP_CHECKSUM = 1 << 4;
        /// Compute the TCP checksum (`RTE_MBUF_F_TX_TCP_CKSUM`).
        const TCP_CHECKSUM = 1 << 5;
        /// Compute the UDP checksum (`RTE_MBUF_F_TX_UDP_CKSUM`).
        const UDP_CHECKSUM = 1 << 6;
    }
}

/// What the device shall do to a packet. Lengths are those of the headers in the packet; a checksum
/// needs the IP version and the lengths up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxOffload {
    /// The requests.
    pub flags: TxFlags,
    /// Tag control information: priority (3 bits), drop eligible (1), VLAN id (12).
    pub vlan_tci: u16,
    /// Length of the Ethernet header in bytes, at most 127.
    pub l2_len: u8,
    /// Length of the IP header and its extensions in bytes; with `l2_len` at most 1023.
    pub l3_len: u16,
    /// Length of the TCP or UDP header in bytes.
    pub l4_len: u8,
    /// Payload bytes of a segment, at most 16383.
    pub mss: u16,
}

/// A length that its field can't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value} bytes, the most is {max}")]
pub struct OffloadTooLong {
    /// Which length.
    pub field: &'static str,
    /// Its value.
    pub value: u32,
    /// What fits.
    pub max: u32,
}

/// A transmit word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxWord(pub(crate) u64);

impl TxWord {
    /// Bits of every request and length; others are zero.
    const USED: u64 = !(1 << 7 | 1 << 31);

    /// The bits of the word.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The requests.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> TxFlags {
        TxFlags::from_bits_truncate(self.0)
    }

    /// Tag control information.
    #[inline]
    #[must_use]
    pub const fn vlan_tci(self) -> u16 {
        (self.0 >> 8) as u16
    }

    /// Length of the Ethernet header in bytes.
    #[must_use]
    pub const fn l2_len(self) -> u8 {
        (self.0 >> 24 & 0x7F) as u8
    }

    /// Offset of the TCP or UDP header in bytes.
    #[must_use]
    pub const fn l4_offset(self) -> u16 {
        (self.0 >> 32 & 0x3FF) as u16
    }

    /// Payload bytes of a segment.
    #[must_use]
    pub const fn mss(self) -> u16 {
        (self.0 >> 42 & 0x3FFF) as u16
    }

    /// Length of the TCP or UDP header in bytes.
    #[must_use]
    pub const fn l4_len(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The word, taken apart.
    #[must_use]
    pub const fn offload(self) -> TxOffload {
        TxOffload {
            flags: self.flags(),
            vlan_tci: self.vlan_tci(),
            l2_len: self.l2_len(),
            l3_len: self.l4_offset().saturating_sub(self.l2_len() as u16),
            l4_len: self.l4_len(),
            mss: self.mss(),
        }
    }
}

impl TryFrom<TxOffload> for TxWord {
    type Error = OffloadTooLong;

    fn try_from(offload: TxOffload) -> Result<Self, OffloadTooLong> {
        let check = |field, value: u32, max| {
            if value > max { Err(OffloadTooLong { field, value, max }) } else { Ok(u64::from(value)) }
        };
        let l2 = check("l2_len", offload.l2_len.into(), 127)?;
        let l4_offset =
            check("l2_len + l3_len", u32::from(offload.l2_len) + u32::from(offload.l3_len), 1023)?;
        let mss = check("the MSS", offload.mss.into(), 16_383)?;
        let word = offload.flags.bits()
            | u64::from(offload.vlan_tci) << 8
            | l2 << 24
            | l4_offset << 32
            | mss << 42
            | u64::from(offload.l4_len) << 56;
        debug_assert_eq!(word & !Self::USED, 0);
        Ok(Self(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_bits() {
        let offload = TxOffload {
            flags: TxFlags::VLAN | TxFlags::IPV4 | TxFlags::IP_CHECKSUM | TxFlags::TCP_CHECKSUM,
            vlan_tci: 0xA123,
            l2_len: 14,
            l3_len: 20,
            l4_len: 32,
            mss: 1448,
        };
        let word = TxWord::try_from(offload).unwrap();
        assert_eq!(word.bits(), 0x35 | 0xA123 << 8 | 14 << 24 | 34 << 32 | 1448 << 42 | 32 << 56);
        assert_eq!(word.offload(), offload);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let refused = |offload: TxOffload| TxWord::try_from(offload).unwrap_err().field;
        let none = TxOffload::default();
        assert_eq!(refused(TxOffload { l2_len: 128, ..none }), "l2_len");
        assert_eq!(refused(TxOffload { l2_len: 24, l3_len: 1000, ..none }), "l2_len + l3_len");
        assert_eq!(refused(TxOffload { mss: 16_384, ..none }), "the MSS");
    }
}
