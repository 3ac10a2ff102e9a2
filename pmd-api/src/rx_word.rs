//! The receive word: what a device found out about a packet, kept raw and decoded on demand.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-11 | id of the VLAN tag that was stripped |
//! | 12 | a tag was stripped |
//! | 13, 14 | outer IP header checksum right, wrong |
//! | 16-24 | what the RSS hash covers, one bit, see [`HashType`] |
//! | 25, 26 | IP header checksum right, wrong |
//! | 27, 28 | TCP checksum right, wrong |
//! | 29, 30 | UDP checksum right, wrong |
//!
//! Other bits are ignored.

/// What a device says of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Not checked, or the packet has none.
    Unknown,
    /// Checked and right.
    Good,
    /// Checked and wrong.
    Bad,
}

impl Checksum {
    const fn of(good: bool, bad: bool) -> Self {
        match (good, bad) {
            (_, true) => Self::Bad,
            (true, false) => Self::Good,
            (false, false) => Self::Unknown,
        }
    }
}

bitflags::bitflags! {
    /// What an RSS hash was computed over. A packet has one bit; masks serve to ask.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HashType: u16 {
        /// IPv4 addresses.
        const IPV4 = 1 << 0;
        /// IPv4 addresses and TCP ports.
        const TCP_IPV4 = 1 << 1;
        /// IPv4 addresses and UDP ports.
        const UDP_IPV4 = 1 << 2;
        /// IPv6 addresses.
        const IPV6 = 1 << 3;
        /// IPv6 addresses and TCP ports.
        const TCP_IPV6 = 1 << 4;
        /// IPv6 addresses and UDP ports.
        const UDP_IPV6 = 1 << 5;
        /// IPv6 addresses, extension headers considered.
        const IPV6_EX = 1 << 6;
        /// IPv6 addresses and TCP ports, extension headers considered.
        const TCP_IPV6_EX = 1 << 7;
        /// IPv6 addresses and UDP ports, extension headers considered.
        const UDP_IPV6_EX = 1 << 8;
    }
}

/// A receive word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RxWord(pub u32);

impl RxWord {
    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// Id of the VLAN tag that was stripped from the packet.
    #[must_use]
    pub const fn vlan(self) -> Option<u16> {
        if self.bit(12) { Some((self.0 & 0xFFF) as u16) } else { None }
    }

    /// What the hash covers; empty without a hash.
    #[must_use]
    pub const fn hash_type(self) -> HashType {
        HashType::from_bits_truncate((self.0 >> 16 & 0x1FF) as u16)
    }

    /// The IPv4 header checksum.
    #[must_use]
    pub const fn ip_checksum(self) -> Checksum {
        Checksum::of(self.bit(25), self.bit(26))
    }

    /// The outer IPv4 header checksum of a tunnel packet.
    #[must_use]
    pub const fn outer_ip_checksum(self) -> Checksum {
        Checksum::of(self.bit(13), self.bit(14))
    }

    /// The TCP or UDP checksum.
    #[must_use]
    pub const fn l4_checksum(self) -> Checksum {
        Checksum::of(self.bit(27) || self.bit(29), self.bit(28) || self.bit(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// reference/mana-hardware.md §3.6.
    #[test]
    fn the_word_is_decoded() {
        let word = RxWord(0x0A02_3123);
        assert_eq!(word.vlan(), Some(0x123));
        assert_eq!(word.hash_type(), HashType::TCP_IPV4);
        assert_eq!((word.ip_checksum(), word.l4_checksum()), (Checksum::Good, Checksum::Good));
        assert_eq!(word.outer_ip_checksum(), Checksum::Good);
        assert_eq!(RxWord(1 << 26 | 1 << 30).ip_checksum(), Checksum::Bad);
        assert_eq!(RxWord(1 << 27 | 1 << 30).l4_checksum(), Checksum::Bad);
        assert_eq!(RxWord(1 << 29).l4_checksum(), Checksum::Good);
        let none = RxWord(0x8000_8FFF);
        assert_eq!((none.vlan(), none.hash_type()), (None, HashType::empty()));
        assert_eq!((none.ip_checksum(), none.l4_checksum()), (Checksum::Unknown, Checksum::Unknown));
    }
}
