//! The hardware channel over vfio-user, byte by byte.

use crate::guest::{ANSWER, CQ, Device, EQ, Guest, REQUEST, RQ, SQ, field, message};

/// reference/mana-hardware.md §6.3, the table of events, and reference/kernel-in-a-vm.md §8 no. 9:
/// the driver takes 5 events an interrupt and arms again.
#[test]
fn a_driver_that_establishes_the_channel_is_told_of_it_by_events() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    assert_eq!(guest.fired(0), 0);
    let smc = Guest::establish_smc([EQ, CQ, RQ, SQ], 0);
    assert_eq!(guest.send_smc(smc), 0x81);
    assert_eq!(guest.fired(0), 1, "an EQ is born armed, and fires once");
    let mut events = Vec::new();
    while let Some(event) = guest.event() {
        events.push(event);
        if events.len() % 5 == 0 {
            guest.arm_events();
            assert_eq!(guest.fired(0), 1, "events wait: it fires at once");
        }
    }
    assert_eq!(events.len(), 11);
    assert_eq!(events[0], (129, 0), "EQ 0, doorbell page 0");
    assert_eq!(events[10], (131, 0));
    let data: Vec<(u32, u32)> = events[1..10]
        .iter()
        .map(|(kind, value)| {
            assert_eq!(*kind, 130);
            (value >> 24, value & 0xFF_FFFF)
        })
        .collect();
    let kinds: Vec<u32> = data.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((data[3].1, data[4].1, data[5].1), (1, 4096, 4096));
    assert!(
        data[6].1 > data[0].1,
        "the CQ's id is below the number of CQs"
    );
    guest.arm_events();
    assert_eq!(guest.fired(0), 0, "nothing waits");
    assert_eq!(guest.event(), None);
}

#[test]
fn interrupts_are_raised_by_the_arming_rules_only() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    device.served.run("event 133 0x2000000").unwrap();
    assert_eq!(guest.fired(0), 1, "armed");
    device.served.run("reset-request").unwrap();
    assert_eq!(guest.fired(0), 0, "not armed again yet");
    assert_eq!(guest.event(), Some((133, 0x200_0000)));
    assert_eq!(guest.event(), Some((135, 0)), "§6.8: RESET_REQUEST");
    guest.arm_events();
    assert_eq!(guest.fired(0), 0, "the driver has seen them all");
    device.served.run("reset-request").unwrap();
    assert_eq!(guest.fired(0), 1);
    guest.arm_events();
    assert_eq!(guest.fired(0), 1, "it has not seen the last one");
    device.served.run("reset-request").unwrap();
    assert_eq!(guest.fired(0), 0, "that firing disarmed it");
}

/// §6.4 and §6.5 no. 1 and 10.
#[test]
fn requests_are_answered_in_the_drivers_buffers() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let mut verify = message(1, 0, 640, 72, &[(40, 1), (48, 1), (96, 0x10)]);
    // hwc_msg_id of the request.
    verify[10..12].copy_from_slice(&[0x34, 0x12]);
    let answer = guest.request(&verify);
    assert_eq!(answer.len(), 72);
    assert_eq!(field(&answer, 4), 1, "the type");
    assert_eq!(
        answer[8..12],
        [1, 0, 0x34, 0x12],
        "version, the request's number"
    );
    assert_eq!(field(&answer, 12), 72, "its size");
    assert_eq!(field(&answer, 20), 0x5A5A, "the activity");
    assert_eq!(field(&answer, 24), 0, "the status");
    assert_eq!(field(&answer, 32), 1, "protocol version 1");
    // More than the rings have room for at once.
    for _ in 0..300 {
        assert_eq!(field(&guest.request(&verify), 24), 0);
    }
    assert_eq!(device.state("requests"), "301");
}

#[test]
fn the_test_event_of_the_channels_own_queue_comes() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    guest.poke(REQUEST, &message(10, 1, 44, 32, &[(40, 0)]));
    guest.put_wqe(RQ, 0, 8, ANSWER, 4096);
    guest.ring(0x400, 32);
    guest.put_wqe(SQ, 0, 24, REQUEST, 44);
    guest.ring(0x000, 64);
    let mut events = Vec::new();
    while let Some(event) = guest.event() {
        events.push(event);
    }
    events.sort_unstable();
    assert_eq!(
        events,
        [(3, 0), (64, 0)],
        "a completion on CQ 0, and the test"
    );
    assert_eq!(guest.fired(0), 1);
    // The driver reads both completions and arms: no event without a completion behind it.
    assert!(guest.completion().is_some() && guest.completion().is_some());
    guest.arm_completions();
    guest.arm_events();
    assert_eq!((guest.event(), guest.fired(0)), (None, 0));
}

#[test]
fn an_unknown_request_is_told_to_be_unsupported() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let answer = guest.request(&message(0x7777, 0, 40, 32, &[]));
    assert_eq!((answer.len(), field(&answer, 24)), (32, 0xFFFF_FFFF));
}

#[test]
fn destroy_ends_everything_and_the_channel_can_be_established_again() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    for _ in 0..3 {
        guest.establish();
        assert_eq!(field(&guest.request(&message(29, 0, 48, 48, &[])), 24), 0);
        assert_eq!(device.state("empty"), "no", "CREATE_PD");
        // §6.2: "DESTROY_HWC | 2 | 0 | only the last dword is written".
        let header = guest.channel + 28;
        guest.write(header, &[2, 0, 0, 0]);
        assert_eq!(guest.read(header), [0x82, 0, 0, 0]);
        assert_eq!(device.state("empty"), "yes");
        assert_eq!(device.state("established"), "no");
        assert_eq!(
            device.served.run("reset-request").unwrap_err().errno.0,
            11,
            "nobody would hear it"
        );
    }
}

/// §2.7: doorbells have 64 bits; those of 32 bits are others, at other offsets, and not had.
#[test]
fn half_a_doorbell_is_none() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    guest.poke(REQUEST, &message(2, 0, 40, 72, &[]));
    guest.put_wqe(RQ, 0, 8, ANSWER, 4096);
    guest.put_wqe(SQ, 0, 24, REQUEST, 40);
    let page = guest.doorbells;
    for (offset, bytes) in [
        (0x400, [0; 4]),
        (0x404, [32, 0, 0, 0]),
        (0x000, [0; 4]),
        (0x004, [64, 0, 0, 0]),
    ] {
        guest.write(page + offset, &bytes);
    }
    assert_eq!(
        (guest.completion(), device.state("requests")),
        (None, "0".into())
    );
    guest.ring(0x400, 32);
    guest.ring(0x000, 64);
    assert_eq!(device.state("requests"), "1");
}
