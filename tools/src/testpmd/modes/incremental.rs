//! Checksums that follow a change of what they cover.

/// The checksum of a packet one of whose words changes from `old` to `new` (RFC 1624, equation 3).
pub fn follow(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// As [`follow`], for each word of an address.
pub fn follow_address(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    old.chunks_exact(2)
        .zip(new.chunks_exact(2))
        .fold(checksum, |sum, (old, new)| {
            follow(sum, words(old), words(new))
        })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The bytes that `text` writes in hexadecimal, with blanks wherever they help.
    pub fn bytes(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    /// The Internet checksum (RFC 1071) over `parts`, of which only the last may be odd. 0 where
    /// they contain a valid one.
    pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
        let mut sum = 0u64;
        for word in parts.iter().flat_map(|part| part.chunks(2)) {
            sum += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_checksum_follows_a_word_as_in_rfc_1624s_example() {
        // Section 4: the checksum DD2F, a field that goes from 5555 to 3285, and the result 0000.
        assert_eq!(follow(0xdd2f, 0x5555, 0x3285), 0x0000);
    }
}
