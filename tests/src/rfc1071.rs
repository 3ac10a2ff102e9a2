//! The judge of checksums: RFC 1071 over whole frames, written from the RFCs alone.

/// The ones' complement sum of 16-bit words, an odd last byte padded with zero.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(pair[0]) * 256 + u64::from(low);
    }
    while sum > 0xFFFF {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    sum as u16
}

/// Verifies every checksum of an untagged frame: the IPv4 header's, and the TCP or UDP one with its
/// pseudo header.
///
/// # Errors
///
/// Which one is wrong.
///
/// # Panics
///
/// If the frame is shorter than its headers say.
pub fn verify(frame: &[u8]) -> Result<(), &'static str> {
    let ip = &frame[14..];
    let (pseudo, protocol, l4) = match (frame[12], frame[13]) {
        (0x08, 0x00) => {
            let header = usize::from(ip[0] & 15) * 4;
            if sum(&ip[..header]) != 0xFFFF {
                return Err("IPv4 header checksum");
            }
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (ip[12..20].to_vec(), ip[9], &ip[header..length])
        }
        (0x86, 0xDD) => {
            let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (ip[8..40].to_vec(), ip[6], &ip[40..40 + length])
        }
        _ => return Err("not IP"),
    };
    let name = match protocol {
        6 => "TCP checksum",
        17 => "UDP checksum",
        _ => return Ok(()),
    };
    if protocol == 17 && l4[6..8] == [0, 0] {
        return Err("no UDP checksum");
    }
    let mut covered = pseudo;
    covered.extend_from_slice(&(l4.len() as u32).to_be_bytes());
    covered.extend_from_slice(&[0, 0, 0, protocol]);
    covered.extend_from_slice(l4);
    if sum(&covered) == 0xFFFF {
        Ok(())
    } else {
        Err(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 §3.
    #[test]
    fn the_rfcs_example_comes_out() {
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
        assert_eq!(sum(&[0x01]), 0x0100);
    }

    /// The header that textbooks compute, with its checksum 0xb861.
    #[test]
    fn a_known_header_is_right_and_every_flipped_bit_wrong() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8,
            0, 0xc7,
        ];
        assert_eq!(sum(&header), 0xFFFF);
        for bit in 0..160 {
            let mut wrong = header;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&wrong), 0xFFFF, "bit {bit}");
        }
    }
}
