//! Captures in the classic pcap format, written and read by hand.

/// The bytes of a capture of these frames: little-endian, microseconds, Ethernet.
#[must_use]
pub fn write(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0,
    ];
    for (number, frame) in (0_u32..).zip(frames) {
        let length = (frame.len() as u32).to_le_bytes();
        bytes.extend_from_slice(&(1_700_000_000 + number / 1_000_000).to_le_bytes());
        bytes.extend_from_slice(&(number % 1_000_000).to_le_bytes());
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// The frames of a little-endian capture, whatever its time stamps.
///
/// # Panics
///
/// If it is no whole capture.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| {
        let bytes = bytes[at..].first_chunk().expect("a whole record");
        u32::from_le_bytes(*bytes)
    };
    assert!(
        [0xa1b2_c3d4, 0xa1b2_3c4d].contains(&word(0)),
        "magic {:#x}",
        word(0)
    );
    assert_eq!(word(20), 1, "link type");
    let mut at = 24;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let (captured, original) = (word(at + 8), word(at + 12));
        assert_eq!(captured, original, "a cut frame");
        at += 16;
        frames.push(bytes[at..at + captured as usize].to_vec());
        at += captured as usize;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let frames = crate::packets::mixture(40, 300);
        assert_eq!(read(&write(&frames)), frames);
        assert_eq!(read(&write(&[])), Vec::<Vec<u8>>::new());
    }
}
