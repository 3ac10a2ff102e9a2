//! The transmit word: what the device is asked to do with a packet.

bitflags::bitflags! {
    /// Offloads asked for, with the meanings of DPDK's `RTE_MBUF_F_TX_*`.
    ///
    /// A checksum needs [`IPV4`](Self::IPV4) or [`IPV6`](Self::IPV6), and the header lengths of
    /// [`TxOffload`]. For a TCP or UDP checksum the packet's checksum field must hold the sum of
    /// the pseudo header. [`TxBurst::tx_prepare`](crate::TxBurst::tx_prepare) writes all that the
    /// device wants to find; [`Mbuf::prepare_checksums`](crate::Mbuf::prepare_checksums) alone does
    /// for checksums.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct TxFlags: u8 {
        /// Insert a VLAN tag ([`TxOffload::vlan_tci`]).
        const VLAN = 1 << 0;
        /// Cut a TCP packet into packets of [`TxOffload::mss`] bytes of payload, each with its own
        /// headers and checksums: those of TCP and IPv4 need not be asked for.
        const TSO = 1 << 1;
        /// The packet is IPv4.
        const IPV4 = 1 << 2;
        /// The packet is IPv6.
        const IPV6 = 1 << 3;
        /// Compute the IPv4 header checksum.
        const IPV4_CHECKSUM = 1 << 4;
        /// Compute the TCP checksum.
        const TCP_CHECKSUM = 1 << 5;
        /// Compute the UDP checksum.
        const UDP_CHECKSUM = 1 << 6;
    }
}

/// Offloads asked for a packet, and the header lengths they need. The default asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TxOffload {
    /// What is asked for.
    pub flags: TxFlags,
    /// Tag to insert: VLAN id in bits 0-11, DEI in bit 12, priority in bits 13-15.
    pub vlan_tci: u16,
    /// Bytes before the IP header, at most 127. A tag that the device inserts does not count.
    pub l2_len: u16,
    /// Bytes of the IP header and its options or extension headers. At most 1023 together with
    /// `l2_len`.
    pub l3_len: u16,
    /// Bytes of the TCP or UDP header, at most 255. Needed for TSO only.
    pub l4_len: u16,
    /// Payload bytes of each packet that TSO makes, 1 to 16383.
    pub mss: u16,
}

/// An offload request that cannot be expressed or makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// More bytes before the IP header than can be told.
    #[error("l2_len of {0} bytes, at most 127")]
    L2Len(u16),
    /// TCP or UDP header too far from the start.
    #[error("TCP or UDP header at byte {0} (l2_len + l3_len), at most 1023")]
    TransportOffset(u32),
    /// TCP or UDP header too long.
    #[error("l4_len of {0} bytes, at most 255")]
    L4Len(u16),
    /// No TCP header has this length.
    #[error("l4_len of {0} bytes; for TSO it is the TCP header's, 20 to 60 in steps of 4")]
    TcpHeader(u16),
    /// Segments too large, or none at all.
    #[error("MSS of {0} bytes; TSO cuts into 1 to 16383")]
    Mss(u16),
    /// A checksum or TSO is asked for, of a packet that is neither or both.
    #[error("a checksum or TSO needs exactly one of IPV4 and IPV6")]
    IpVersion,
    /// Both TCP and UDP, or an IPv4 header checksum of an IPv6 packet.
    #[error("the checksums asked for exclude each other")]
    Conflict,
}

/// The transmit word of a packet.
///
/// | Bits | |
/// |---|---|
/// | 0-6 | [`TxFlags`] |
/// | 8-23 | VLAN tag to insert |
/// | 24-30 | bytes before the IP header |
/// | 32-41 | bytes before the TCP or UDP header |
/// | 42-55 | MSS |
/// | 56-63 | bytes of the TCP or UDP header |
///
/// The others are 0. (Bits 2-6 and 32-41 are where MANA's short OOB has them: `mana-hardware.md`
/// §3.1.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct TxWord(u64);

const VLAN_TCI: u32 = 8;
const L2_LEN: u32 = 24;
const TRANSPORT: u32 = 32;
const MSS: u32 = 42;
const L4_LEN: u32 = 56;

impl TxWord {
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word as a driver reads it.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is asked for.
    #[inline]
    pub fn flags(self) -> TxFlags {
        TxFlags::from_bits_truncate(self.0 as u8)
    }

    /// VLAN tag to insert, if that is asked for.
    #[inline]
    pub fn vlan_tci(self) -> Option<u16> {
        self.flags()
            .contains(TxFlags::VLAN)
            .then_some((self.0 >> VLAN_TCI) as u16)
    }

    /// Bytes before the TCP or UDP header.
    #[inline]
    pub fn transport_offset(self) -> u16 {
        (self.0 >> TRANSPORT) as u16 & 0x3FF
    }

    /// Bytes of the TCP or UDP header.
    #[inline]
    pub fn l4_len(self) -> u16 {
        (self.0 >> L4_LEN) as u16
    }

    /// Payload bytes of each packet that TSO makes.
    #[inline]
    pub fn mss(self) -> u16 {
        (self.0 >> MSS) as u16 & 0x3FFF
    }

    /// The request it stands for.
    pub fn offload(self) -> TxOffload {
        let l2_len = (self.0 >> L2_LEN) as u16 & 0x7F;
        TxOffload {
            flags: self.flags(),
            vlan_tci: (self.0 >> VLAN_TCI) as u16,
            l2_len,
            l3_len: self.transport_offset() - l2_len,
            l4_len: self.l4_len(),
            mss: self.mss(),
        }
    }
}

impl TxOffload {
    /// The word that says so.
    ///
    /// # Errors
    /// A length that is too large, or flags that contradict each other.
    #[inline]
    pub fn word(self) -> Result<TxWord, OffloadError> {
        let Self {
            flags,
            vlan_tci,
            l2_len,
            l3_len,
            l4_len,
            mss,
        } = self;
        let transport = u32::from(l2_len) + u32::from(l3_len);
        if l2_len > 0x7F {
            return Err(OffloadError::L2Len(l2_len));
        }
        if transport > 0x3FF {
            return Err(OffloadError::TransportOffset(transport));
        }
        if l4_len > 0xFF {
            return Err(OffloadError::L4Len(l4_len));
        }
        let tso = flags.contains(TxFlags::TSO);
        if mss > 0x3FFF || tso && mss == 0 {
            return Err(OffloadError::Mss(mss));
        }
        if tso && (!(20..=60).contains(&l4_len) || !l4_len.is_multiple_of(4)) {
            return Err(OffloadError::TcpHeader(l4_len));
        }
        self.check_flags()?;
        let flags = flags & TxFlags::all();
        Ok(TxWord(
            u64::from(flags.bits())
                | u64::from(vlan_tci) << VLAN_TCI
                | u64::from(l2_len) << L2_LEN
                | u64::from(transport) << TRANSPORT
                | u64::from(mss) << MSS
                | u64::from(l4_len) << L4_LEN,
        ))
    }

    fn check_flags(self) -> Result<(), OffloadError> {
        let flags = self.flags;
        let tcp = TxFlags::TCP_CHECKSUM | TxFlags::TSO;
        let l4 = tcp | TxFlags::UDP_CHECKSUM;
        let versions = TxFlags::IPV4 | TxFlags::IPV6;
        if flags.contains(versions)
            || flags.intersects(l4 | TxFlags::IPV4_CHECKSUM) && !flags.intersects(versions)
        {
            return Err(OffloadError::IpVersion);
        }
        if flags.contains(TxFlags::UDP_CHECKSUM) && flags.intersects(tcp)
            || flags.contains(TxFlags::IPV4_CHECKSUM | TxFlags::IPV6)
        {
            return Err(OffloadError::Conflict);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: TxOffload = TxOffload {
        flags: TxFlags::VLAN
            .union(TxFlags::IPV4)
            .union(TxFlags::IPV4_CHECKSUM)
            .union(TxFlags::TCP_CHECKSUM),
        vlan_tci: 0xB123,
        l2_len: 14,
        l3_len: 20,
        l4_len: 32,
        mss: 1460,
    };

    #[test]
    fn the_transmit_word_has_its_fields_where_the_table_says() {
        // 1 + 4 + 0x10 + 0x20 | tci << 8 | 14 << 24 | 34 << 32 | 1460 << 42 | 32 << 56
        assert_eq!(FULL.word().unwrap().bits(), 0x2016_D022_0EB1_2335);
        let word = FULL.word().unwrap();
        assert_eq!(word.offload(), FULL);
        assert_eq!(word.vlan_tci(), Some(0xB123));
        assert_eq!(word.transport_offset(), 34);
        assert_eq!(TxOffload::default().word().unwrap().bits(), 0);
    }

    #[test]
    fn the_largest_lengths_fit_and_larger_ones_are_refused() {
        let largest = TxOffload {
            l2_len: 127,
            l3_len: 896,
            l4_len: 255,
            mss: 16383,
            ..TxOffload::default()
        };
        assert_eq!(largest.word().unwrap().offload(), largest);
        let refused = |change: fn(&mut TxOffload)| {
            let mut offload = largest;
            change(&mut offload);
            offload.word().unwrap_err()
        };
        assert_eq!(refused(|o| o.l2_len = 128), OffloadError::L2Len(128));
        assert_eq!(
            refused(|o| o.l3_len = 897),
            OffloadError::TransportOffset(1024)
        );
        assert_eq!(refused(|o| o.l4_len = 256), OffloadError::L4Len(256));
        assert_eq!(refused(|o| o.mss = 16384), OffloadError::Mss(16384));
    }

    #[test]
    fn segmentation_wants_a_tcp_header_and_a_size() {
        let good = TxOffload {
            flags: TxFlags::TSO | TxFlags::IPV6,
            l2_len: 14,
            l3_len: 40,
            l4_len: 60,
            mss: 1,
            ..TxOffload::default()
        };
        let word = good.word().unwrap();
        assert_eq!((word.l4_len(), word.mss()), (60, 1));
        let refused = |change: fn(&mut TxOffload)| {
            let mut offload = good;
            change(&mut offload);
            offload.word().unwrap_err()
        };
        assert_eq!(refused(|o| o.mss = 0), OffloadError::Mss(0));
        for l4_len in [0, 8, 16, 22, 64] {
            let error = TxOffload { l4_len, ..good }.word().unwrap_err();
            assert_eq!(error, OffloadError::TcpHeader(l4_len));
        }
        assert_eq!(refused(|o| o.flags = TxFlags::TSO), OffloadError::IpVersion);
        assert_eq!(
            refused(|o| o.flags |= TxFlags::UDP_CHECKSUM),
            OffloadError::Conflict
        );
    }

    #[test]
    fn contradicting_requests_are_refused() {
        let word = |flags| {
            TxOffload {
                flags,
                ..TxOffload::default()
            }
            .word()
        };
        let (v4, v6) = (TxFlags::IPV4, TxFlags::IPV6);
        assert_eq!(word(TxFlags::TCP_CHECKSUM), Err(OffloadError::IpVersion));
        assert_eq!(word(TxFlags::IPV4_CHECKSUM), Err(OffloadError::IpVersion));
        assert_eq!(word(v4 | v6), Err(OffloadError::IpVersion));
        assert_eq!(
            word(v4 | TxFlags::TCP_CHECKSUM | TxFlags::UDP_CHECKSUM),
            Err(OffloadError::Conflict)
        );
        assert_eq!(
            word(v6 | TxFlags::IPV4_CHECKSUM),
            Err(OffloadError::Conflict)
        );
        assert!(word(v6 | TxFlags::UDP_CHECKSUM).is_ok());
        assert!(word(v4).is_ok());
    }
}
