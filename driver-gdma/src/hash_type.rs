//! RSS hash types of receive completions, NDIS numbering, one bit a completion (§3.7).

/// IPv4 addresses.
pub const IPV4: u16 = 1 << 0;
/// IPv4 addresses and TCP ports.
pub const TCP_IPV4: u16 = 1 << 1;
/// IPv4 addresses and UDP ports.
pub const UDP_IPV4: u16 = 1 << 2;
/// IPv6 addresses.
pub const IPV6: u16 = 1 << 3;
/// IPv6 addresses and TCP ports.
pub const TCP_IPV6: u16 = 1 << 4;
/// IPv6 addresses and UDP ports.
pub const UDP_IPV6: u16 = 1 << 5;
/// IPv6 addresses, extension headers considered.
pub const IPV6_EX: u16 = 1 << 6;
/// IPv6 addresses and TCP ports, extension headers considered.
pub const TCP_IPV6_EX: u16 = 1 << 7;
/// IPv6 addresses and UDP ports, extension headers considered.
pub const UDP_IPV6_EX: u16 = 1 << 8;
/// Types that cover addresses only. Test with `&`: a completion carries one bit.
pub const L3: u16 = IPV4 | IPV6 | IPV6_EX;
/// Types that cover addresses and ports.
pub const L4: u16 = TCP_IPV4 | UDP_IPV4 | TCP_IPV6 | UDP_IPV6 | TCP_IPV6_EX | UDP_IPV6_EX;

const _: () = assert!(L3 == 0b0_0100_1001 && L4 == 0b1_1011_0110 && L3 | L4 == 0x1FF);

#[cfg(test)]
mod tests {
    use super::*;

    /// §3.7: "Bit | Type", row by row.
    #[test]
    fn bits_are_numbered_as_ndis_does() {
        let rows = [
            (0, IPV4),
            (1, TCP_IPV4),
            (2, UDP_IPV4),
            (3, IPV6),
            (4, TCP_IPV6),
            (5, UDP_IPV6),
            (6, IPV6_EX),
            (7, TCP_IPV6_EX),
            (8, UDP_IPV6_EX),
        ];
        for (bit, hash_type) in rows {
            assert_eq!(hash_type, 1 << bit);
        }
    }
}
