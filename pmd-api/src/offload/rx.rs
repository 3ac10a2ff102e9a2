//! The receive word: what the device found out about a packet.

/// What the device says of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// Verified, and right.
    Good,
    /// Verified, and wrong.
    Bad,
    /// Not verified, or there is none.
    Unknown,
}

/// Over which fields of a packet its RSS hash was computed (NDIS's types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HashType {
    /// IPv4 addresses.
    Ipv4 = 0,
    /// IPv4 addresses and TCP ports.
    TcpIpv4 = 1,
    /// IPv4 addresses and UDP ports.
    UdpIpv4 = 2,
    /// IPv6 addresses.
    Ipv6 = 3,
    /// IPv6 addresses and TCP ports.
    TcpIpv6 = 4,
    /// IPv6 addresses and UDP ports.
    UdpIpv6 = 5,
    /// IPv6 addresses, those in extension headers included.
    Ipv6Ex = 6,
    /// The same and TCP ports.
    TcpIpv6Ex = 7,
    /// The same and UDP ports.
    UdpIpv6Ex = 8,
}

impl HashType {
    const ALL: [HashType; 9] = [
        Self::Ipv4,
        Self::TcpIpv4,
        Self::UdpIpv4,
        Self::Ipv6,
        Self::TcpIpv6,
        Self::UdpIpv6,
        Self::Ipv6Ex,
        Self::TcpIpv6Ex,
        Self::UdpIpv6Ex,
    ];

    /// Whether TCP or UDP ports were hashed.
    pub fn has_ports(self) -> bool {
        !matches!(self, Self::Ipv4 | Self::Ipv6 | Self::Ipv6Ex)
    }
}

/// The receive word of a packet, kept as the driver stored it and decoded when asked.
///
/// | Bits | |
/// |---|---|
/// | 0-11, 12 | id of a VLAN tag that was stripped; there was one |
/// | 13, 14 | outer IP header checksum right, wrong |
/// | 16-24 | hash type, one bit of [`HashType`]; none: no hash |
/// | 25, 26 | IP header checksum right, wrong |
/// | 27, 28 | TCP checksum right, wrong |
/// | 29, 30 | UDP checksum right, wrong |
///
/// The others are ignored. (The flags of a MANA receive completion: `mana-hardware.md` §3.6.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct RxWord(u32);

pub(crate) const VLAN_ID: u32 = 0xFFF;
/// Bit of the receive word that says that a VLAN tag was stripped.
pub const VLAN_PRESENT: u32 = 1 << 12;
const OUTER_IP: (u32, u32) = (1 << 13, 1 << 14);
const HASH_SHIFT: u32 = 16;
const IP: (u32, u32) = (1 << 25, 1 << 26);
const L4: (u32, u32) = (1 << 27 | 1 << 29, 1 << 28 | 1 << 30);

impl RxWord {
    /// A word as a driver stores it.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word as a driver stores it.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Id of the VLAN tag that the device stripped off. Priority and DEI are not delivered.
    #[inline]
    pub fn vlan(self) -> Option<u16> {
        (self.0 & VLAN_PRESENT != 0).then_some((self.0 & VLAN_ID) as u16)
    }

    /// Over what the hash was computed; `None` if there is no hash.
    #[inline]
    pub fn hash_type(self) -> Option<HashType> {
        let bits = self.0 >> HASH_SHIFT & 0x1FF;
        if bits == 0 {
            return None;
        }
        HashType::ALL.get(bits.trailing_zeros() as usize).copied()
    }

    /// The IPv4 header's checksum: the inner one's, if the packet is encapsulated.
    #[inline]
    pub fn ip_checksum(self) -> Checksum {
        self.verdict(IP)
    }

    /// The outer IPv4 header's checksum, if the packet is encapsulated.
    #[inline]
    pub fn outer_ip_checksum(self) -> Checksum {
        self.verdict(OUTER_IP)
    }

    /// The TCP or UDP checksum.
    #[inline]
    pub fn l4_checksum(self) -> Checksum {
        self.verdict(L4)
    }

    #[inline]
    fn verdict(self, (good, bad): (u32, u32)) -> Checksum {
        if self.0 & bad != 0 {
            Checksum::Bad
        } else if self.0 & good != 0 {
            Checksum::Good
        } else {
            Checksum::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hash_type_bit_of_the_receive_word_has_its_meaning() {
        use HashType::*;
        let types = [
            Ipv4, TcpIpv4, UdpIpv4, Ipv6, TcpIpv6, UdpIpv6, Ipv6Ex, TcpIpv6Ex, UdpIpv6Ex,
        ];
        for (bit, hash_type) in types.into_iter().enumerate() {
            assert_eq!(
                RxWord::from_bits(1 << (16 + bit)).hash_type(),
                Some(hash_type)
            );
            assert_eq!(hash_type as usize, bit);
            // L3 mask: bits 0, 3, 6 (§3.7).
            assert_eq!(hash_type.has_ports(), ![0, 3, 6].contains(&bit));
        }
        assert_eq!(RxWord::from_bits(!(0x1FF << 16)).hash_type(), None);
    }

    #[test]
    fn a_vlan_id_counts_only_with_the_bit_that_says_so() {
        assert_eq!(RxWord::from_bits(0x1ABC).vlan(), Some(0xABC));
        assert_eq!(RxWord::from_bits(0x0ABC).vlan(), None);
        assert_eq!(RxWord::from_bits(0xFFFF_EFFF).vlan(), None);
    }

    #[test]
    fn checksum_bits_are_told_apart() {
        use Checksum::*;
        let verdicts = |bits| {
            let word = RxWord::from_bits(bits);
            (
                word.ip_checksum(),
                word.l4_checksum(),
                word.outer_ip_checksum(),
            )
        };
        assert_eq!(verdicts(0), (Unknown, Unknown, Unknown));
        assert_eq!(verdicts(0x0200_0000), (Good, Unknown, Unknown));
        assert_eq!(verdicts(0x0400_0000), (Bad, Unknown, Unknown));
        assert_eq!(verdicts(0x0800_0000), (Unknown, Good, Unknown));
        assert_eq!(verdicts(0x1000_0000), (Unknown, Bad, Unknown));
        assert_eq!(verdicts(0x2000_0000), (Unknown, Good, Unknown));
        assert_eq!(verdicts(0x4000_0000), (Unknown, Bad, Unknown));
        assert_eq!(verdicts(0x0000_2000), (Unknown, Unknown, Good));
        assert_eq!(verdicts(0x0000_4000), (Unknown, Unknown, Bad));
        // Both said: not to be trusted.
        assert_eq!(verdicts(0x0600_0000), (Bad, Unknown, Unknown));
        assert_eq!(verdicts(0x8000_8000), (Unknown, Unknown, Unknown));
    }
}
