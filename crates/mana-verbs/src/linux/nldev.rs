//! Messages of NETLINK_RDMA's device client (reference/mana-hardware.md §5.4,
//! reference/uverbs-boundary.md §2 "Netlink"): pure reading and writing of bytes.

use uverbs_abi::ids::nldev::{
    ATTR_CHARDEV_TYPE, ATTR_DEV_INDEX, ATTR_DEV_NAME, ATTR_UVERBS_DRIVER_ID, CLIENT, CMD_GET,
    CMD_GET_CHARDEV,
};

/// `NLM_F_REQUEST`.
const F_REQUEST: u16 = 1;
/// `NLM_F_DUMP`.
const F_DUMP: u16 = 0x300;
/// `NLMSG_ERROR`.
const KIND_ERROR: u16 = 2;
/// `NLMSG_DONE`.
const KIND_DONE: u16 = 3;
/// Bits of an attribute's type that are its number.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `nlattr`.
const ATTR_HEADER: usize = 4;

/// Asks for all devices.
pub(super) fn get_devices(sequence: u32) -> Vec<u8> {
    request(CMD_GET, F_REQUEST | F_DUMP, sequence, &[])
}

/// Asks for the uverbs node of device `index`.
pub(super) fn get_chardev(sequence: u32, index: u32) -> Vec<u8> {
    let mut attributes = Vec::new();
    push_attribute(&mut attributes, ATTR_DEV_INDEX, &index.to_ne_bytes());
    push_attribute(&mut attributes, ATTR_CHARDEV_TYPE, b"uverbs\0");
    request(CMD_GET_CHARDEV, F_REQUEST, sequence, &attributes)
}

fn request(command: u16, flags: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + attributes.len());
    message.extend(((HEADER + attributes.len()) as u32).to_ne_bytes());
    message.extend((CLIENT << 10 | command).to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // The sender's port: the kernel knows it.
    message.extend(0u32.to_ne_bytes());
    message.extend(attributes);
    message
}

fn push_attribute(to: &mut Vec<u8>, id: u16, value: &[u8]) {
    to.extend(((ATTR_HEADER + value.len()) as u16).to_ne_bytes());
    to.extend(id.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// One message of a datagram, as far as it concerns us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The end of a dump.
    Done,
    /// The kernel refuses (or acknowledges: the same message with number 0).
    Error,
    /// A device, or its uverbs node: whichever attributes are there.
    Device {
        index: Option<u32>,
        name: Option<&'a str>,
        driver_id: Option<u32>,
    },
}

/// The messages of a datagram that answer request `sequence`. A malformed one ends the list.
pub(super) fn answers(datagram: &[u8], sequence: u32) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let length = u32_at(rest, 0)? as usize;
            let body = rest.get(HEADER..length)?;
            let (kind, seen) = (u16_at(rest, 4)?, u32_at(rest, 8)?);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if seen != sequence {
                continue;
            }
            if kind == KIND_DONE {
                return Some(Answer::Done);
            } else if kind == KIND_ERROR {
                return Some(Answer::Error);
            } else if kind >> 10 == CLIENT {
                return Some(device(body));
            }
        }
    })
}

fn device(body: &[u8]) -> Answer<'_> {
    let (mut index, mut name, mut driver_id) = (None, None, None);
    for (id, value) in attributes(body) {
        match id {
            ATTR_DEV_INDEX => index = u32_at(value, 0),
            ATTR_DEV_NAME => {
                name = std::str::from_utf8(value)
                    .ok()
                    .map(|name| name.trim_end_matches('\0'));
            }
            ATTR_UVERBS_DRIVER_ID => driver_id = u32_at(value, 0),
            _ => {}
        }
    }
    Answer::Device {
        index,
        name,
        driver_id,
    }
}

/// Number and value of each attribute. A malformed one ends the list.
fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let id = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(ATTR_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((id, value))
    })
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Messages written by hand from reference/uverbs-boundary.md §2 (N2, N3); little-endian.
#[cfg(all(test, target_endian = "little"))]
pub(super) mod tests {
    use super::*;

    /// N2's answer for `mana_0`: index 3, name, port count, node GUID, node type; then DONE.
    #[rustfmt::skip]
    pub(crate) const DEVICES: [u8; 92] = [
        72, 0, 0, 0, 0x01, 0x14, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 1, 0, 3, 0, 0, 0,
        11, 0, 2, 0, b'm', b'a', b'n', b'a', b'_', b'0', 0, 0,
        8, 0, 3, 0, 1, 0, 0, 0,
        12, 0, 6, 0, 1, 2, 3, 4, 5, 6, 7, 8,
        // A number without padding bits behind it, with the "nested" flag set in its type.
        5, 0, 14, 0x80, 1, 0, 0, 0,
        8, 0, 50, 0, 0, 0, 0, 0,
        20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// N3's answer: CHARDEV, CHARDEV_ABI, CHARDEV_NAME, UVERBS_DRIVER_ID 20.
    #[rustfmt::skip]
    pub(crate) const CHARDEV: [u8; 60] = [
        60, 0, 0, 0, 0x0f, 0x14, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        12, 0, 72, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0,
        12, 0, 71, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        12, 0, 70, 0, b'u', b'v', b'e', b'r', b'b', b's', b'0', 0,
        8, 0, 73, 0, 20, 0, 0, 0,
    ];

    #[test]
    fn requests_are_the_bytes_that_libibverbs_sends() {
        assert_eq!(
            get_devices(7),
            [16, 0, 0, 0, 0x01, 0x14, 0x01, 0x03, 7, 0, 0, 0, 0, 0, 0, 0]
        );
        #[rustfmt::skip]
        assert_eq!(get_chardev(8, 3), [
            36, 0, 0, 0, 0x0f, 0x14, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 1, 0, 3, 0, 0, 0,
            11, 0, 69, 0, b'u', b'v', b'e', b'r', b'b', b's', 0, 0,
        ]);
    }

    #[test]
    fn a_dump_gives_index_and_name_and_then_its_end() {
        let device = Answer::Device {
            index: Some(3),
            name: Some("mana_0"),
            driver_id: None,
        };
        assert!(answers(&DEVICES, 7).eq([device, Answer::Done]));
    }

    #[test]
    fn a_character_device_gives_the_driver_id() {
        let device = Answer::Device {
            index: None,
            name: None,
            driver_id: Some(20),
        };
        assert!(answers(&CHARDEV, 8).eq([device]));
    }

    #[test]
    fn answers_to_other_requests_are_passed_over() {
        assert_eq!(answers(&DEVICES, 8).count(), 0);
        let both = [&DEVICES[..72], &CHARDEV[..]].concat();
        assert_eq!(answers(&both, 8).count(), 1);
    }

    #[test]
    fn truncated_and_lying_messages_end_the_list_without_a_panic() {
        for end in 0..DEVICES.len() {
            assert!(answers(&DEVICES[..end], 7).count() <= 1);
        }
        // Every byte of message and attribute headers, with every value.
        for at in 0..DEVICES.len() {
            for value in 0..=u8::MAX {
                let mut bytes = DEVICES;
                bytes[at] = value;
                assert!(answers(&bytes, 7).count() <= 8);
            }
        }
    }
}
