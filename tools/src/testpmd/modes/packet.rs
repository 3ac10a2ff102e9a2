//! Where things stand in a received frame, and how its checksums follow a change.

/// What the Ethernet type of a VLAN tag is: 802.1Q, and 802.1ad for an outer one.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Tags that are skipped. The device takes off one more before.
const MAX_TAGS: usize = 2;
/// Where the Ethernet type stands.
const ETHER_TYPE: usize = 12;

/// The Ethernet type behind the frame's VLAN tags, and where that packet begins.
pub fn behind_tags(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETHER_TYPE;
    for _ in 0..=MAX_TAGS {
        let ether_type = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        if !TAGS.contains(&ether_type) {
            return Some((ether_type, at + 2));
        }
        at += 4;
    }
    None
}

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
    fn tags_are_skipped_up_to_two_and_a_frame_may_end_anywhere() {
        let mut frame = vec![0; 12];
        assert_eq!(behind_tags(&frame), None);
        frame.extend([0x08, 0x00]);
        assert_eq!(behind_tags(&frame), Some((0x0800, 14)));
        frame.truncate(12);
        frame.extend([0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2, 0x86]);
        assert_eq!(behind_tags(&frame), None);
        frame.push(0xdd);
        assert_eq!(behind_tags(&frame), Some((0x86dd, 22)));
        frame.truncate(20);
        frame.extend([0x81, 0x00, 0, 3, 0x08, 0x00]);
        assert_eq!(behind_tags(&frame), None);
    }

    #[test]
    fn a_checksum_follows_a_word_as_in_rfc_1624s_example() {
        // Section 4: the checksum DD2F, a field that goes from 5555 to 3285, and the result 0000.
        assert_eq!(follow(0xdd2f, 0x5555, 0x3285), 0x0000);
    }
}
