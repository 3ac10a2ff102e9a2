//! Bytes of reference/uverbs-boundary.md §2, N1 to N3.

use super::*;

fn machine() -> Vec<Device> {
    vec![Device {
        index: 0,
        name: "mana_0".to_owned(),
        node: "uverbs0".to_owned(),
        ports: 2,
        driver_id: Some(20),
    }]
}

/// The process's id in the messages' headers differs from run to run.
fn asked(request: &[u8], devices: &[Device]) -> Vec<u8> {
    let mut datagrams = answers(request, devices);
    assert_eq!(datagrams.len(), 1);
    let mut bytes = datagrams.remove(0);
    let mut at = 0;
    while at < bytes.len() {
        bytes[at + 12..at + 16].fill(0);
        at += (u32_at(&bytes, at).unwrap() as usize).next_multiple_of(4);
    }
    bytes
}

#[rustfmt::skip]
const DUMP: [u8; 16] = [16, 0, 0, 0, 0x01, 0x14, 0x01, 0x03, 7, 0, 0, 0, 0, 0, 0, 0];

#[rustfmt::skip]
const CHARDEV: [u8; 36] = [
    36, 0, 0, 0, 0x0f, 0x14, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0,
    8, 0, 1, 0, 0, 0, 0, 0,
    11, 0, 69, 0, b'u', b'v', b'e', b'r', b'b', b's', 0, 0,
];

#[test]
fn a_dump_is_one_datagram_of_the_devices_and_the_end() {
    #[rustfmt::skip]
    assert_eq!(asked(&DUMP, &machine()), [
        72 - 8, 0, 0, 0, 0x01, 0x14, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 1, 0, 0, 0, 0, 0,
        11, 0, 2, 0, b'm', b'a', b'n', b'a', b'_', b'0', 0, 0,
        8, 0, 3, 0, 2, 0, 0, 0,
        12, 0, 6, 0, 1, 0, 0, 0xFE, 0xFF, 0x3A, 0x0D, 0,
        5, 0, 14, 0, 1, 0, 0, 0,
        20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
}

#[test]
fn a_node_is_told_with_device_number_abi_name_and_driver_id() {
    #[rustfmt::skip]
    assert_eq!(asked(&CHARDEV, &machine()), [
        60, 0, 0, 0, 0x0f, 0x14, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        12, 0, 72, 0, 3, 1, 0, 0, 0, 0, 0, 0,
        12, 0, 71, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        12, 0, 70, 0, b'u', b'v', b'e', b'r', b'b', b's', b'0', 0,
        8, 0, 73, 0, 20, 0, 0, 0,
    ]);
    let mut machine = machine();
    machine[0].driver_id = None;
    assert_eq!(asked(&CHARDEV, &machine).len(), 52, "netlink=off");
}

#[test]
fn copies_on_fork_are_promised() {
    let mut request = DUMP;
    request[4..8].copy_from_slice(&[0x06, 0x14, 1, 0]);
    #[rustfmt::skip]
    assert_eq!(asked(&request, &machine()), [
        24, 0, 0, 0, 0x06, 0x14, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        5, 0, 93, 0, 1, 0, 0, 0,
    ]);
}

#[test]
fn what_is_not_there_is_an_error_message() {
    let mut other_device = CHARDEV;
    other_device[20] = 9;
    let mut other_kind = CHARDEV;
    other_kind[28] = b'x';
    let mut other_command = DUMP;
    other_command[4] = 5;
    for (request, errno) in [
        (&other_device[..], libc::ENODEV),
        (&other_kind[..], libc::ENODEV),
        (&other_command[..], libc::EOPNOTSUPP),
    ] {
        let answer = asked(request, &machine());
        assert_eq!(u16_at(&answer, 4), Some(KIND_ERROR));
        assert_eq!(u32_at(&answer, 16), Some((-errno) as u32));
    }
}

#[test]
fn truncated_and_lying_requests_are_no_panic() {
    for end in 0..CHARDEV.len() {
        assert!(answers(&CHARDEV[..end], &machine()).len() <= 1);
    }
    for at in 0..CHARDEV.len() {
        for value in 0..=u8::MAX {
            let mut bytes = CHARDEV;
            bytes[at] = value;
            assert!(answers(&bytes, &machine()).len() <= 3);
        }
    }
}
