//! The packet that is sent: as that of `tools/bench/c_pmd.c`.

/// Ethernet, IPv4 and UDP between two addresses of the benchmarking network (RFC 2544). The checksum
/// of the IPv4 header is left out, that of UDP is the pseudo header's, as a device that computes
/// both wants to find them.
pub fn frame(size: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..size).map(|index| index as u8).collect();
    let (ip, udp) = (size as u16 - 14, size as u16 - 34);
    frame[..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1]);
    frame[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
    put(&mut frame, 16, ip);
    frame[18..24].copy_from_slice(&[0, 0, 0, 0, 64, 17]);
    put(&mut frame, 24, 0);
    frame[26..34].copy_from_slice(&[198, 18, 0, 1, 198, 19, 0, 1]);
    frame[34..38].copy_from_slice(&[0x10, 0, 0, 9]);
    put(&mut frame, 38, udp);
    let addresses = frame[26..34].chunks(2);
    let sum: u32 = addresses
        .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
        .sum();
    let sum = sum + 17 + u32::from(udp);
    put(&mut frame, 40, (sum + (sum >> 16)) as u16);
    frame
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_the_sum_of_the_pseudo_header_are_right() {
        for size in [60, 1514, 9014] {
            let frame = frame(size);
            assert_eq!(frame.len(), size);
            assert_eq!(
                usize::from(frame[16]) << 8 | usize::from(frame[17]),
                size - 14
            );
            // RFC 768, by another way: over all fields one after the other.
            let mut sum = 0xC612_u32 + 1 + 0xC613 + 1 + 17 + size as u32 - 34;
            while sum >> 16 != 0 {
                sum = (sum & 0xFFFF) + (sum >> 16);
            }
            assert_eq!(frame[40..42], (sum as u16).to_be_bytes());
        }
    }
}
