//! The Internet checksum (RFC 1071).

/// The ones' complement sum of 16-bit words in network byte order, folded below 2^32; an odd last
/// byte is padded with zero. Sums of up to 2^31 parts may be added before [`fold`].
///
/// Adds 32 bits at a time in the machine's byte order: the folded sum of swapped words is the
/// swapped sum (RFC 1071 §2B).
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_ne_bytes(last));
    u64::from(u16::from_be(fold(sum)))
}

/// Folds a sum to 16 bits. Only a sum of zeros gives 0: anything else that is 0 modulo 65535 gives
/// 0xFFFF.
#[inline]
#[must_use]
pub const fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `bytes`, whose checksum field is zero; 0 if the field is there and right.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The sum of a pseudo-header: source and destination address in network byte order (8 bytes for
/// IPv4, 32 for IPv6), protocol, and L4 length in bytes.
#[inline]
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u32) -> u64 {
    sum(addresses) + u64::from(protocol) + u64::from(length >> 16) + u64::from(length & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2, its complement 220d.
    #[test]
    fn the_example_of_the_rfc_agrees() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!((fold(sum(&bytes)), checksum(&bytes)), (0xddf2, 0x220d));
    }

    /// The IPv4 header that encyclopedias use as example: checksum b861.
    #[test]
    fn a_published_header_agrees() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00,
            0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert_eq!(checksum(&header), 0);
    }

    /// First packet of Wireshark's sample capture dns.cap: IPv4, UDP, a query for google.com.
    #[test]
    fn a_captured_udp_packet_agrees() {
        let packet: [u8; 56] = [
            0x45, 0x00, 0x00, 0x38, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x65, 0x47, 0xc0, 0xa8,
            0xaa, 0x08, 0xc0, 0xa8, 0xaa, 0x14, // IPv4
            0x80, 0x1b, 0x00, 0x35, 0x00, 0x24, 0x85, 0xed, // UDP
            0x10, 0x32, 0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x67,
            0x6f, 0x6f, 0x67, 0x6c, 0x65, 0x03, 0x63, 0x6f, 0x6d, 0x00, 0x00, 0x10, 0x00, 0x01,
        ];
        assert_eq!(checksum(&packet[..20]), 0);
        let pseudo = pseudo_header(&packet[12..20], 17, 36);
        assert_eq!(fold(pseudo + sum(&packet[20..])), 0xFFFF);
        let mut blank = packet;
        blank[26..28].fill(0);
        assert_eq!(!fold(pseudo + sum(&blank[20..])), 0x85ed);
    }

    /// First packet of Wireshark's sample capture http.cap: IPv4, TCP, a SYN with options.
    #[test]
    fn a_captured_tcp_packet_agrees() {
        let packet: [u8; 48] = [
            0x45, 0x00, 0x00, 0x30, 0x0f, 0x41, 0x40, 0x00, 0x80, 0x06, 0x91, 0xeb, 0x91, 0xfe,
            0xa0, 0xed, 0x41, 0xd0, 0xe4, 0xdf, // IPv4
            0x0d, 0x2c, 0x00, 0x50, 0x38, 0xaf, 0xfe, 0x13, 0x00, 0x00, 0x00, 0x00, 0x70, 0x02,
            0x22, 0x38, 0xc3, 0x0c, 0x00, 0x00, // TCP
            0x02, 0x04, 0x05, 0xb4, 0x01, 0x01, 0x04, 0x02, // options
        ];
        assert_eq!(checksum(&packet[..20]), 0);
        let pseudo = pseudo_header(&packet[12..20], 6, 28);
        assert_eq!(fold(pseudo + sum(&packet[20..])), 0xFFFF);
    }

    #[test]
    fn an_odd_byte_is_padded_with_zero() {
        assert_eq!(sum(&[1, 2, 3]), 0x0102 + 0x0300);
        assert_eq!(sum(&[1]), 0x0100);
        assert_eq!(sum(&[]), 0);
    }

    proptest! {
        /// RFC 1071 §1, word by word with end-around carry.
        #[test]
        fn wide_addition_gives_the_sum_of_words(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut expected = 0u16;
            for word in bytes.chunks(2) {
                let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
                let (sum, carry) = expected.overflowing_add(word);
                expected = sum + u16::from(carry);
            }
            prop_assert_eq!(fold(sum(&bytes)), expected);
        }
    }
}
