//! The shared-memory channel: 32 bytes by which driver and device hand each other a message
//! (reference/mana-hardware.md §6.2).

/// Bytes.
pub(crate) const SIZE: usize = 32;
/// Where the last dword begins: its write hands the channel over.
const HEADER: usize = 28;

const ESTABLISH: u8 = 1;
const DESTROY: u8 = 2;
const REPORT_TIMEOUT: u8 = 4;

/// Status of a message that was carried out.
pub(crate) const OK: u8 = 0;
/// Of one that makes no sense.
pub(crate) const INVALID: u8 = 1;
/// Of one that can't be had now.
pub(crate) const REFUSED: u8 = 2;

/// The last dword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    kind: u8,
    version: u8,
    response: bool,
    reset: bool,
}

impl Header {
    fn read(bytes: &[u8; SIZE]) -> Self {
        Self {
            kind: bytes[HEADER] & 7,
            version: bytes[HEADER] >> 3 & 7,
            response: bytes[HEADER] & 0x80 != 0,
            reset: bytes[HEADER + 3] & 1 != 0,
        }
    }
}

/// Where a driver has put the queues of its hardware channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Addresses of the pages.
    pub(crate) eq: u64,
    pub(crate) cq: u64,
    pub(crate) rq: u64,
    pub(crate) sq: u64,
    /// MSI-X vector of the EQ.
    pub(crate) vector: u16,
}

impl Queues {
    /// Four page numbers: 48 bits each, the high nibbles of all behind them.
    fn read(bytes: &[u8; SIZE]) -> Self {
        let nibbles = u16::from_le_bytes([bytes[24], bytes[25]]);
        let address = |index: usize| {
            let mut page = [0; 8];
            page[..6].copy_from_slice(&bytes[6 * index..6 * index + 6]);
            page[6] = (nibbles >> (4 * index) & 0xF) as u8;
            u64::from_le_bytes(page) << 12
        };
        Self {
            eq: address(0),
            cq: address(1),
            rq: address(2),
            sq: address(3),
            vector: u16::from_le_bytes([bytes[26], bytes[27]]),
        }
    }
}

/// A message of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// Sets the hardware channel up.
    Establish(Queues),
    /// Takes it down; whether the function is to be reset as well.
    Destroy { reset: bool },
    /// Tells that an answer did not come: tails of RQ and SQ, ids of CQ and EQ.
    Timeout([u32; 4]),
    /// None of these.
    Unknown { kind: u8, version: u8 },
}

/// The channel.
#[derive(Debug, Default, Clone)]
pub(crate) struct Channel {
    bytes: [u8; SIZE],
}

impl Channel {
    /// As the driver reads it.
    pub(crate) fn bytes(&self) -> &[u8; SIZE] {
        &self.bytes
    }

    /// Writes; a message if the channel is the device's thereby, which then owes a
    /// [`Channel::answer`]. The write of the last byte hands it over, whatever it says of the owner:
    /// Linux leaves that bit to the device.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Option<Message> {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        let header = Header::read(&self.bytes);
        let handed = at < SIZE && at + bytes.len() >= SIZE;
        handed.then(|| match (header.kind, header.version, header.response) {
            (ESTABLISH, 0, false) => Message::Establish(Queues::read(&self.bytes)),
            (DESTROY, 0, false) => Message::Destroy {
                reset: header.reset,
            },
            (REPORT_TIMEOUT, 0 | 1, false) => {
                let dword = |at: usize| {
                    let bytes = self.bytes[4 * at..4 * at + 4].try_into();
                    bytes.map_or(0, u32::from_le_bytes)
                };
                Message::Timeout([dword(0), dword(1), dword(2), dword(3)])
            }
            (kind, version, _) => Message::Unknown { kind, version },
        })
    }

    /// Hands the channel back with a status: type and version stay the message's.
    pub(crate) fn answer(&mut self, status: u8) {
        self.bytes[HEADER] |= 0x80;
        self.bytes[HEADER + 1] = status;
        self.bytes[HEADER + 2] = 0;
        self.bytes[HEADER + 3] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §6.2 by hand: EQ at 0x1_2345_6789_A000, whose page number is 0x1_2345_6789_A.
    fn establish() -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0..6].copy_from_slice(&[0x9A, 0x78, 0x56, 0x34, 0x12, 0x00]);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0]);
        bytes[12..18].copy_from_slice(&[3, 0, 0, 0, 0, 0]);
        bytes[18..24].copy_from_slice(&[0, 0, 0, 0, 0, 0xF0]);
        // High nibbles: EQ 0, CQ 1, RQ 0, SQ 0xF.
        bytes[24..26].copy_from_slice(&[0x10, 0xF0]);
        bytes[26..28].copy_from_slice(&[5, 0]);
        bytes[28..32].copy_from_slice(&[0x01, 0, 0, 0]);
        bytes
    }

    #[test]
    fn addresses_of_the_queues_have_52_bits_of_page_number() {
        let mut channel = Channel::default();
        let queues = Queues {
            eq: 0x0001_2345_6789_A000,
            cq: 0x1000_0000_0000_2000,
            rq: 0x3000,
            sq: 0xFF00_0000_0000_0000,
            vector: 5,
        };
        assert_eq!(
            channel.write(0, &establish()),
            Some(Message::Establish(queues))
        );
    }

    /// §6.2: "write 8 dwords in ascending order - the write of the last one hands ownership over";
    /// "check same type, version ≤ sent, direction=1, status=0".
    #[test]
    fn the_last_dword_hands_the_channel_over_and_the_answer_hands_it_back() {
        let mut channel = Channel::default();
        for (index, dword) in establish().chunks(4).enumerate() {
            let message = channel.write(4 * index, dword);
            assert_eq!(message.is_some(), index == 7, "dword {index}");
        }
        assert_eq!(channel.bytes()[28..], [0x01, 0, 0, 0]);
        channel.answer(OK);
        assert_eq!(channel.bytes()[28..], [0x81, 0, 0, 0]);
        assert_eq!(
            channel.write(28, &[0x02, 0, 0, 0x81]),
            Some(Message::Destroy { reset: true })
        );
        channel.answer(REFUSED);
        assert_eq!(channel.bytes()[28..], [0x82, 2, 0, 0]);
    }

    #[test]
    fn messages_of_wrong_type_version_and_direction_are_told_apart() {
        let send = |header: [u8; 4]| Channel::default().write(28, &header);
        // Whoever claims to be the owner: the last byte hands it over.
        let destroy = Some(Message::Destroy { reset: false });
        assert_eq!(send([0x02, 0, 0, 0x80]), destroy);
        assert_eq!(send([0x02, 0, 0, 0]), destroy);
        for (header, kind, version) in [
            ([0x00, 0, 0, 0x80], 0, 0),
            ([0x03, 0, 0, 0x80], 3, 0),
            ([0x07, 0, 0, 0x80], 7, 0),
            ([0x09, 0, 0, 0x80], 1, 1),
            ([0x3A, 0, 0, 0x80], 2, 7),
            ([0x81, 0, 0, 0x80], 1, 0),
        ] {
            assert_eq!(send(header), Some(Message::Unknown { kind, version }));
        }
        assert_eq!(send([0x0C, 0, 0, 0x80]), Some(Message::Timeout([0; 4])));
    }

    #[test]
    fn writes_of_any_offset_and_length_stay_inside() {
        for at in 0..40 {
            for len in 0..40 {
                let mut channel = Channel::default();
                let message = channel.write(at, &vec![0xFF; len]);
                assert_eq!(message.is_some(), at + len >= 32 && at < 32, "{at} {len}");
            }
        }
    }
}
