//! The Toeplitz hash of receive side scaling.
//!
//! The hash of an input is the exclusive or of one 32-bit window of the key for each bit of the
//! input that is set, the window beginning at that bit's position.

/// Bytes of a key (reference/mana-hardware.md §3.8).
pub const KEY: usize = 40;

/// The key of Microsoft's RSS verification suite.
pub const VERIFICATION_KEY: [u8; KEY] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Most bytes that are hashed: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;

/// A key, unrolled: what each value of each input byte contributes.
#[derive(Debug, Clone)]
pub struct Toeplitz {
    tables: Box<[[u32; 256]; MAX_INPUT]>,
}

impl Toeplitz {
    /// Unrolls `key` (36 KiB).
    #[must_use]
    pub fn new(key: &[u8; KEY]) -> Self {
        let bit = |index: usize| u32::from(key[index / 8] >> (7 - index % 8) & 1);
        // The 32 key bits from bit `index` on.
        let window = |index: usize| (0..32).fold(0, |window, i| window << 1 | bit(index + i));
        let mut tables = Box::new([[0; 256]; MAX_INPUT]);
        for (position, table) in tables.iter_mut().enumerate() {
            let windows: [u32; 8] = std::array::from_fn(|i| window(8 * position + i));
            // A value is one without its lowest bit, and that bit.
            for value in 1..table.len() {
                let lowest = value.trailing_zeros() as usize;
                table[value] = table[value & (value - 1)] ^ windows[7 - lowest];
            }
        }
        Self { tables }
    }

    /// The hash of `input`: source and destination address, then source and destination port, in
    /// network byte order. Bytes beyond the 36th have no key and don't count.
    #[inline]
    #[must_use]
    pub fn hash(&self, input: &[u8]) -> u32 {
        let bytes = self.tables.iter().zip(input);
        bytes.fold(0, |hash, (table, byte)| hash ^ table[usize::from(*byte)])
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// An address and a port.
    type End = (&'static str, u16);

    /// The published vectors of Microsoft's RSS verification suite: (destination, port), (source,
    /// port), hash over addresses, hash over addresses and ports.
    #[test]
    fn the_verification_suite_agrees() {
        let toeplitz = Toeplitz::new(&VERIFICATION_KEY);
        let v4: [(End, End, u32, u32); 5] = [
            (
                ("161.142.100.80", 1766),
                ("66.9.149.187", 2794),
                0x323e8fc2,
                0x51ccc178,
            ),
            (
                ("65.69.140.83", 4739),
                ("199.92.111.2", 14230),
                0xd718262a,
                0xc626b0ea,
            ),
            (
                ("12.22.207.184", 38024),
                ("24.19.198.95", 12898),
                0xd2d0a5de,
                0x5c2b394a,
            ),
            (
                ("209.142.163.6", 2217),
                ("38.27.205.30", 48228),
                0x82989176,
                0xafc7327f,
            ),
            (
                ("202.188.127.2", 1303),
                ("153.39.163.191", 44251),
                0x5d1809c5,
                0x10e828a2,
            ),
        ];
        for ((to, to_port), (from, from_port), addresses, ports) in v4 {
            let octets = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
            let mut input = [octets(from), octets(to)].concat();
            assert_eq!(toeplitz.hash(&input), addresses);
            input.extend([from_port.to_be_bytes(), to_port.to_be_bytes()].concat());
            assert_eq!(toeplitz.hash(&input), ports);
        }
        let v6: [(End, End, u32, u32); 3] = [
            (
                ("3ffe:2501:200:3::1", 1766),
                ("3ffe:2501:200:1fff::7", 2794),
                0x2cc18cd5,
                0x40207d3d,
            ),
            (
                ("ff02::1", 4739),
                ("3ffe:501:8::260:97ff:fe40:efab", 14230),
                0x0f0c461c,
                0xdde51bbf,
            ),
            (
                ("fe80::200:f8ff:fe21:67cf", 38024),
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                0x4b61e985,
                0x02d1feef,
            ),
        ];
        for ((to, to_port), (from, from_port), addresses, ports) in v6 {
            let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            let mut input = [octets(from), octets(to)].concat();
            assert_eq!(toeplitz.hash(&input), addresses);
            input.extend([from_port.to_be_bytes(), to_port.to_be_bytes()].concat());
            assert_eq!(toeplitz.hash(&input), ports);
        }
    }

    #[test]
    fn bytes_beyond_the_key_do_not_count() {
        let toeplitz = Toeplitz::new(&VERIFICATION_KEY);
        assert_eq!(toeplitz.hash(&[1; 36]), toeplitz.hash(&[1; 50]));
        assert_eq!(toeplitz.hash(&[]), 0);
    }

    proptest! {
        /// The definition, bit by bit: shift the key left and take its upper 32 bits.
        #[test]
        fn unrolling_does_not_change_the_hash(
            key in prop::collection::vec(any::<u8>(), 40),
            input in prop::collection::vec(any::<u8>(), 0..=36),
        ) {
            let (mut expected, mut window) = (0, u32::from_be_bytes(key[..4].try_into().unwrap()));
            for (position, byte) in input.iter().enumerate() {
                for bit in (0..8).rev() {
                    if byte >> bit & 1 != 0 {
                        expected ^= window;
                    }
                    window = window << 1 | u32::from(key[position + 4] >> bit & 1);
                }
            }
            prop_assert_eq!(Toeplitz::new(&key.try_into().unwrap()).hash(&input), expected);
        }
    }
}
