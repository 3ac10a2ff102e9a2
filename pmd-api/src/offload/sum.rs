//! The Internet checksum (RFC 1071), added up piece by piece.

/// A ones' complement sum of 16-bit words in network byte order, over any number of pieces.
///
/// ```
/// use pmd_api::InternetSum;
///
/// // RFC 1071 §3.
/// let mut sum = InternetSum::default();
/// sum.add(&[0x00, 0x01, 0xf2]);
/// sum.add(&[0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
/// assert_eq!((sum.fold(), sum.checksum()), (0xddf2, 0x220d));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InternetSum {
    /// Far from overflow: a packet adds at most a few hundred thousand numbers of 16 bits.
    sum: u64,
    /// An odd number of bytes was added: the next one is the low half of a word.
    odd: bool,
}

impl InternetSum {
    /// The sum of a pseudo header (RFC 768, 9293, 8200 §8.1): source and destination address in
    /// network byte order (8 bytes for IPv4, 32 for IPv6), protocol, and bytes of L4 header and
    /// data.
    #[inline]
    #[must_use]
    pub fn pseudo_header(addresses: &[u8], protocol: u8, l4_len: u32) -> Self {
        let mut sum = Self::default();
        sum.add(addresses);
        sum.sum += u64::from(protocol) + u64::from(l4_len >> 16) + u64::from(l4_len & 0xFFFF);
        sum
    }

    /// Adds bytes behind those added before. An odd last byte counts as padded with zero unless
    /// more follow.
    ///
    /// Adds 32 bits at a time in the machine's byte order: the folded sum of swapped words is the
    /// swapped sum (RFC 1071 §2B), and so is the sum of words that begin at an odd byte.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum: u64 = words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
        let folded = u16::from_be(fold(sum));
        let folded = if self.odd {
            folded.swap_bytes()
        } else {
            folded
        };
        self.sum += u64::from(folded);
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum, not complemented. Only a sum of zeros gives 0: anything else that is 0 modulo 65535
    /// gives 0xFFFF.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        fold(self.sum)
    }

    /// The checksum: the complement of the sum. 0 where the bytes hold their checksum and it is
    /// right.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

#[inline]
const fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §1, word by word with end-around carry.
    fn by_definition(bytes: &[u8]) -> u16 {
        let mut expected = 0u16;
        for word in bytes.chunks(2) {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = expected.overflowing_add(word);
            expected = sum + u16::from(carry);
        }
        expected
    }

    #[test]
    fn an_odd_byte_is_padded_only_if_it_is_the_last() {
        let mut sum = InternetSum::default();
        sum.add(&[1, 2, 3]);
        assert_eq!(sum.fold(), 0x0102 + 0x0300);
        sum.add(&[]);
        sum.add(&[4]);
        assert_eq!(sum.fold(), 0x0102 + 0x0304);
        assert_eq!(InternetSum::default().checksum(), 0xFFFF);
    }

    /// The IPv4 header that encyclopedias use as example.
    #[test]
    fn a_published_header_agrees() {
        let mut sum = InternetSum::default();
        sum.add(&[0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11]);
        sum.add(&[0, 0, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7]);
        assert_eq!(sum.checksum(), 0xb861);
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_give_the_sum_of_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let mut sum = InternetSum::default();
            pieces.iter().for_each(|piece| sum.add(piece));
            prop_assert_eq!(sum.fold(), by_definition(&pieces.concat()));
        }
    }
}
