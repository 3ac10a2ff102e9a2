//! The judge of segmentation: whether frames are what RFC 9293, 791 and 8200 make of one TCP packet
//! that is too long for the wire. Written from these alone.

use crate::rfc1071;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Where the headers of an untagged frame lie, by what they say themselves.
struct Layout {
    v6: bool,
    tcp: usize,
    payload: usize,
}

impl Layout {
    /// The frame must be IP with TCP behind any extension headers of IPv6.
    fn of(frame: &[u8]) -> Self {
        let v6 = frame[12..14] == [0x86, 0xDD];
        let (mut next, mut tcp) = if v6 {
            (frame[20], 54)
        } else {
            (frame[23], 14 + usize::from(frame[14] & 15) * 4)
        };
        while v6 && matches!(next, 0 | 43 | 60) {
            next = frame[tcp];
            tcp += 8 * (1 + usize::from(frame[tcp + 1]));
        }
        assert_eq!(next, 6, "no TCP");
        let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        Self { v6, tcp, payload }
    }
}

/// Puts the payload of `frames` together again and returns it, after it has held each frame against
/// `whole`, the packet they were cut from: sizes of `mss` bytes but for the last, lengths, sequence
/// numbers, identifications, flags and checksums; every other byte of the headers is as it was.
///
/// # Panics
///
/// If a frame is not as it must be.
#[must_use]
pub fn reassemble(whole: &[u8], frames: &[Vec<u8>], mss: usize) -> Vec<u8> {
    let Layout { v6, tcp, payload } = Layout::of(whole);
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let sequence = |frame: &[u8]| {
        let bytes = &frame[tcp + 4..tcp + 8];
        bytes
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
    };
    let mut bytes = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let (first, last) = (index == 0, index + 1 == frames.len());
        let cut = frame.len() - payload;
        assert!(
            cut == mss || last && (1..mss).contains(&cut),
            "{cut} bytes in frame {index}"
        );
        assert_eq!(rfc1071::verify(frame), Ok(()), "frame {index}");
        let expected = sequence(whole).wrapping_add(bytes.len() as u32);
        assert_eq!(
            sequence(frame),
            expected,
            "sequence number of frame {index}"
        );
        if v6 {
            assert_eq!(
                usize::from(word(frame, 18)),
                frame.len() - 54,
                "frame {index}"
            );
        } else {
            assert_eq!(
                usize::from(word(frame, 16)),
                frame.len() - 14,
                "frame {index}"
            );
            let id = word(whole, 18).wrapping_add(index as u16);
            assert_eq!(word(frame, 18), id, "identification of frame {index}");
        }
        let mut flags = whole[tcp + 13];
        if !last {
            flags &= !(FIN | PSH);
        }
        if !first {
            flags &= !CWR;
        }
        assert_eq!(frame[tcp + 13], flags, "flags of frame {index}");
        // What was judged above apart, nothing may differ.
        let judged: &[usize] = match v6 {
            true => &[18, 19],
            false => &[16, 17, 18, 19, 24, 25],
        };
        for at in 0..payload {
            let in_tcp = at.wrapping_sub(tcp);
            if !judged.contains(&at) && !matches!(in_tcp, 4..=7 | 13 | 16 | 17) {
                assert_eq!(frame[at], whole[at], "byte {at} of frame {index}");
            }
        }
        bytes.extend_from_slice(&frame[payload..]);
    }
    bytes
}
