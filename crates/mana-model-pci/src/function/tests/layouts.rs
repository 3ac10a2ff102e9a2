//! Where fields stand in requests and answers (reference/kernel-in-a-vm.md §7, reference/mana-hardware.md
//! §6.5-§6.7): the offsets here are the reference's.

use mana_model::LinkConfig;

use super::guest::{Guest, MANA, MANA_IB, Message, NO_DEVICE, Reply};

const UNSUPPORTED: u32 = 0xFFFF_FFFF;
const MORE_ENTRIES: u32 = 0x105;
const SINK: LinkConfig = LinkConfig::Sink { capture: false };

fn guest() -> Guest {
    Guest::new(&[SINK, SINK], |config| config.vport_offset = 255)
}

fn dwords(reply: &Reply, offsets: &[usize]) -> Vec<u32> {
    offsets.iter().map(|offset| reply.u32(*offset)).collect()
}

#[test]
fn a_header_is_echoed_byte_by_byte() {
    let mut guest = guest();
    let message = Message::new(0x2, 0x0001_0002, 40, 72).versions(3, 7);
    let mut answer = Vec::new();
    guest.function.request(&message.0, &mut answer);
    let expected = [
        0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0x77, 0, 72, 0, 0, 0, // type, version, id, size
        2, 0, 1, 0, 0x71, 0xAC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // device, activity, status
    ];
    assert_eq!(answer[..32], expected);
}

#[test]
fn answers_are_as_long_as_the_driver_has_room_for() {
    let mut guest = guest();
    for (room, len) in [
        (0, 32),
        (31, 32),
        (33, 33),
        (72, 72),
        (80, 80),
        (4096, 4096),
        (u32::MAX, 4096),
    ] {
        let reply = guest.ask(&Message::new(0x2, NO_DEVICE, 40, room));
        assert_eq!((reply.status(), reply.0.len()), (0, len));
        assert_eq!(reply.0.get(68).copied().unwrap_or(64), 64, "MSI-X vectors");
        assert!(
            reply.0.iter().skip(72).all(|byte| *byte == 0),
            "what is not known is zero"
        );
    }
}

#[test]
fn the_function_describes_itself() {
    let mut guest = guest();
    let version = |least, most| {
        let message = Message::new(0x1, NO_DEVICE, 640, 72);
        message.u64(40, least).u64(48, most).u64(56, u64::MAX)
    };
    let reply = guest.done(&version(1, 1));
    assert_eq!(
        [32, 40, 48, 56, 64].map(|offset| reply.u64(offset)),
        [1, 0, 0, 0, 0]
    );
    guest.done(&version(0, u64::MAX));
    for (least, most) in [(2, 3), (0, 0), (2, 1)] {
        assert_eq!(guest.ask(&version(least, most)).status(), 1);
    }

    let reply = guest.done(&Message::new(0x2, NO_DEVICE, 40, 72));
    let resources = dwords(&reply, &[32, 36, 40, 44, 48, 52, 68]);
    assert_eq!(resources, [0, 1024, 1024, 8192, 256, 1008, 64]);

    let list = Message::new(0x3, NO_DEVICE, 40, 296);
    let reply = guest.done(&list);
    assert_eq!(dwords(&reply, &[32, 40, 44, 48]), [2, 2, 3, 0]);
    guest.function.set_rnic(false);
    let reply = guest.done(&list);
    assert_eq!(dwords(&reply, &[32, 40, 44, 48]), [1, 2, 0, 0]);
    assert_ne!(guest.ask(&Message::new(0x4, MANA_IB, 40, 44)).status(), 0);

    let reply = guest.done(&Message::new(0x54, NO_DEVICE, 48, 40).u32(40, 12_345));
    assert_eq!(reply.u32(32), 12_345);
}

#[test]
fn an_answer_has_the_fields_of_its_version() {
    let mut guest = guest();
    let ask = |version| Message::new(0x2_0001, MANA, 88, 80).versions(1, version);
    let mut told = Vec::new();
    for version in 1..=5 {
        let reply = guest.done(&ask(version));
        assert_eq!(
            (reply.u16(64), reply.u32(68)),
            (2, 64),
            "vPorts and event queues"
        );
        told.push((reply.u16(8), reply.u16(72), reply.u32(76)));
    }
    let expected = [
        (1, 0, 0),
        (2, 9014, 0),
        (3, 9014, 0),
        (4, 9014, 200_000),
        (4, 9014, 200_000),
    ];
    assert_eq!(told, expected);
}

#[test]
fn vports_tell_who_they_are() {
    let mut guest = guest();
    let [domain, _, page] = guest.register(MANA);
    for port in [0, 1] {
        let reply = guest.done(&Message::new(0x2_0008, MANA, 44, 64).u32(40, port));
        assert_eq!(dwords(&reply, &[32, 36, 40, 44]), [64, 64, 64, 0]);
        assert_eq!(reply.0[48..56], [0x00, 0x0D, 0x3A, 0, 0, port as u8, 0, 0]);
        assert_eq!(reply.u64(56), 0x77 + u64::from(port));
        let message = Message::new(0x2_0003, MANA, 56, 36).u64(40, 0x77 + u64::from(port));
        let reply = guest.done(&message.u32(48, domain).u32(52, page));
        // Offset 255 fits the short OOB, 256 does not.
        assert_eq!(
            (reply.u16(32), reply.0[34]),
            (255 + port as u16, (port == 0).into())
        );
    }
    for port in [2, u32::MAX] {
        let reply = guest.ask(&Message::new(0x2_0008, MANA, 44, 64).u32(40, port));
        assert_ne!(reply.status(), 0);
        assert_eq!(reply.u64(56), 0);
    }
}

#[test]
fn links_are_as_fast_as_they_are_held_to() {
    let mut guest = guest();
    let ask = Message::new(0x2_000A, MANA, 48, 48)
        .versions(1, 2)
        .u64(40, 0x78);
    let speeds = |reply: &Reply| (reply.u32(32), reply.0[36], reply.u32(40));
    assert_eq!(speeds(&guest.done(&ask)), (200_000, 0, 200_000));
    let clamp = |enable, speed| {
        let message = Message::new(0x2_000B, MANA, 56, 40).u64(40, 0x78);
        message.u32(48, enable).u32(52, speed)
    };
    guest.done(&clamp(1, 10_000));
    assert_eq!(speeds(&guest.done(&ask)), (200_000, 0, 10_000));
    assert_ne!(guest.ask(&clamp(1, 0)).status(), 0);
    guest.done(&clamp(0, 0));
    assert_eq!(speeds(&guest.done(&ask)), (200_000, 0, 200_000));
}

#[test]
fn dma_regions_come_in_several_messages() {
    let mut guest = guest();
    // 2048 pages that begin at byte 0x64, of which the first message holds 504.
    let create = Message::new(0x19, NO_DEVICE, 4096, 40)
        .u64(40, 0x7F_F000)
        .u32(48, 0x64)
        .u32(56, 2048)
        .u32(60, 504);
    let reply = guest.ask(&create);
    assert_eq!(reply.status(), MORE_ENTRIES);
    let region = reply.u64(32);
    let more = |count: u32| {
        let message = Message::new(0x1A, NO_DEVICE, 56 + 8 * count as usize, 32);
        message.u64(40, region).u32(48, count)
    };
    let pd = guest.done(&Message::new(0x1D, NO_DEVICE, 48, 48)).u64(32);
    let register = Message::new(0x1F, NO_DEVICE, 88, 48).u64(40, pd).u32(48, 2);
    let register = register.u64(56, region).u32(72, 3);
    assert_eq!(guest.ask(&register).status(), 1, "it is not whole");
    for _ in 0..3 {
        assert_eq!(guest.ask(&more(505)).status(), MORE_ENTRIES);
    }
    assert_eq!(guest.ask(&more(30)).status(), 1, "one too many");
    guest.done(&more(29));
    let reply = guest.done(&register);
    assert_eq!(reply.u32(40), reply.u32(44), "local and remote key");
    // The region is taken over: its handle is no more.
    let destroy = Message::new(0x1B, NO_DEVICE, 48, 32).u64(40, region);
    assert_eq!(guest.ask(&destroy).status(), 2);
    guest.done(&Message::new(0x20, NO_DEVICE, 48, 32).u64(40, reply.u64(32)));
    guest.done(&Message::new(0x1E, NO_DEVICE, 48, 32).u64(40, pd));
    assert!(guest.function.is_empty());
}

#[test]
fn dma_regions_are_what_they_say_they_are() {
    let mut guest = guest();
    let create = |length, offset, page_type, count: u32, list: u32, address| {
        let message = Message::new(0x19, NO_DEVICE, 64 + 16, 40).u64(40, length);
        let message = message.u32(48, offset).u32(52, page_type).u32(56, count);
        message.u32(60, list).u64(64, address).u64(72, address)
    };
    let right = [
        create(0x1000, 0, 0, 1, 1, 0x1000),
        create(0x1000, 1, 0, 2, 2, 0x1000),
        create(0x20_0000, 0, 9, 1, 1, 0x20_0000),
        create(1, 0, 18, 1, 1, 0),
    ];
    for message in &right {
        let region = guest.done(message).u64(32);
        guest.done(&Message::new(0x1B, NO_DEVICE, 48, 32).u64(40, region));
    }
    let wrong = [
        create(0, 0, 0, 0, 0, 0x1000),                 // no bytes
        create(0x1001, 0, 0, 1, 1, 0x1000),            // too few pages
        create(0x1000, 0, 0, 2, 2, 0x1000),            // too many
        create(0x1000, 0, 0, 1, 2, 0x1000),            // more addresses than pages
        create(0x1000, 0x1000, 0, 2, 2, 0x1000),       // begins behind the first page
        create(0x1000, 0, 0, 1, 1, 0x1001),            // not aligned
        create(0x20_0000, 0, 9, 1, 1, 0x1000),         // not to the size of a page
        create(0x1000, 0, 20, 1, 1, 0),                // no such page
        create(0x3000, 0, 0, 3, 3, 0x1000),            // addresses behind the message
        create(u64::MAX, u32::MAX, 0, u32::MAX, 1, 0), // overflow
        create(1 << 60, 0, 19, 1 << 29, 1, 0),         // more than there may be
    ];
    for message in &wrong {
        let reply = guest.ask(message);
        assert!([1, 3].contains(&reply.status()), "{:x?}", message.0);
    }
    assert!(guest.function.is_empty());
}

#[test]
fn memory_of_the_device_is_registered_in_parts() {
    let mut guest = guest();
    let allocate = |length| Message::new(0x60, NO_DEVICE, 56, 40).u64(40, length);
    let memory = guest.done(&allocate(0x2001)).u64(32);
    let pd = guest.done(&Message::new(0x1D, NO_DEVICE, 48, 48)).u64(32);
    let register = |memory, offset, length| {
        let message = Message::new(0x1F, NO_DEVICE, 88, 48).versions(2, 1);
        let message = message
            .u64(40, pd)
            .u32(48, 5)
            .u64(56, memory)
            .u64(64, offset);
        message.u32(72, 3).u64(80, length)
    };
    let region = guest.done(&register(memory, 0xFFF, 0x1002)).u64(32);
    for (handle, offset, length, status) in [
        (memory, 0, 0x2002, 1),
        (memory, 0x2001, 0, 1),
        (memory, u64::MAX, 2, 1),
        (region, 0, 1, 2),
    ] {
        assert_eq!(
            guest.ask(&register(handle, offset, length)).status(),
            status
        );
    }
    assert_eq!(
        guest.ask(&allocate(0xF_E000)).status(),
        3,
        "a mebibyte in all"
    );
    assert_eq!(guest.ask(&allocate(0)).status(), 1);
    let free = Message::new(0x61, NO_DEVICE, 48, 32).u64(40, memory);
    assert_eq!(guest.ask(&free).status(), 4);
    guest.done(&Message::new(0x20, NO_DEVICE, 48, 32).u64(40, region));
    guest.done(&free);
    assert_eq!(guest.ask(&free).status(), 2);
    guest.done(&Message::new(0x1E, NO_DEVICE, 48, 32).u64(40, pd));
    assert!(guest.function.is_empty());
}

#[test]
fn doorbell_pages_are_neighbours_from_an_aligned_first() {
    let mut guest = guest();
    let [_, _, first] = guest.register(MANA);
    assert_eq!(first, 1, "page 0 is the hardware channel's");
    let allocate = |count, alignment| {
        let message = Message::new(0x16, NO_DEVICE, 56, 36).u32(40, 27);
        message.u32(44, count).u32(48, alignment)
    };
    assert_eq!(guest.done(&allocate(1, 16)).u32(32), 16);
    assert_eq!(guest.done(&allocate(2, 1)).u32(32), 2);
    let free = |count, first| {
        let message = Message::new(0x18, NO_DEVICE, 52, 32).u32(40, 27);
        message.u32(44, count).u32(48, first)
    };
    assert_eq!(guest.ask(&free(1, 1)).status(), 4, "the device's own");
    assert_eq!(
        guest.ask(&free(1, 2)).status(),
        2,
        "half of what was allocated"
    );
    guest.done(&free(2, 2));
    guest.done(&free(1, 16));
    assert_eq!(guest.ask(&allocate(1008, 1)).status(), 3);
    assert_eq!(
        guest.ask(&allocate(1, 1).u32(40, 28)).status(),
        1,
        "another resource"
    );
    guest.done(&Message::new(0x5, MANA, 40, 32));
    assert!(guest.function.is_empty());
}

#[test]
fn what_finds_no_room_leaves_nothing_behind() {
    let mut guest = guest();
    let create = Message::new(0x1D, NO_DEVICE, 48, 48);
    let domains: Vec<u64> = (0..4096).map(|_| guest.done(&create).u64(32)).collect();
    assert_eq!(guest.ask(&create).status(), 3);
    let register = Message::new(0x4, MANA, 40, 44);
    assert_eq!(guest.ask(&register).status(), 3);
    for domain in &domains {
        guest.done(&Message::new(0x1E, NO_DEVICE, 48, 32).u64(40, *domain));
    }
    assert!(guest.function.is_empty());
    // All pages but the hardware channel's.
    let pages = Message::new(0x16, NO_DEVICE, 56, 36)
        .u32(40, 27)
        .u32(44, 1007);
    let first = guest.done(&pages).u32(32);
    assert_eq!(guest.ask(&register).status(), 3);
    let free = Message::new(0x18, NO_DEVICE, 52, 32)
        .u32(40, 27)
        .u32(44, 1007);
    guest.done(&free.u32(48, first));
    assert!(guest.function.is_empty());
    guest.done(&register);
}

#[test]
fn moderation_is_echoed_from_version_3_on() {
    let mut guest = guest();
    let [domain, _, page] = guest.register(MANA);
    let (region, _) = guest.region(0x8000);
    let events = Message::new(0xC, MANA, 96, 36)
        .u32(40, 4)
        .u32(48, domain)
        .u32(52, page);
    let events = events.u64(56, region).u32(68, 0x8000).u32(76, 63);
    let events = guest.done(&events).u32(32);
    let message = Message::new(0x2_0003, MANA, 56, 36).u64(40, 0x77);
    guest.done(&message.u32(48, domain).u32(52, page));
    for (version, answer_version, expected) in [(3, 2, [7, 9]), (2, 2, [0, 0]), (3, 1, [0, 0])] {
        let [ring, cq_ring] = [(); 2].map(|()| guest.region(4096).0);
        let message = Message::new(0x2_0004, MANA, 96, 56).versions(version, answer_version);
        let message = message
            .u64(40, 0x77)
            .u32(48, 1)
            .u64(56, ring)
            .u64(64, cq_ring);
        let message = message.u32(72, 4096).u32(76, 4096).u32(84, events);
        let reply = guest.done(&message.u8(89, 1).u16(90, 7).u16(92, 9));
        assert_eq!([reply.u16(48), reply.u16(50)], expected);
        assert_eq!(reply.0[52], 0, "it is not enabled");
        assert_ne!(reply.u64(40), u64::MAX);
        assert!(reply.u32(36) < 8192);
    }
}

#[test]
fn the_rnic_has_room_for_the_rings_that_its_capabilities_promise() {
    let mut guest = guest();
    for (version, size) in [(3, 104), (4, 112)] {
        let message = Message::new(0x3_0001, MANA_IB, 40, size).versions(1, version);
        let reply = guest.done(&message);
        assert_eq!(reply.u16(8), version);
        assert_eq!(dwords(&reply, &[44, 48, 52, 56]), [1024, 1024, 16384, 4096]);
        // §6.7: they define the work requests of a queue, 512 and 256 bytes each.
        assert_eq!((reply.u32(76) / 512, reply.u32(84) / 256), (16384, 16384));
        assert_eq!(dwords(&reply, &[92, 96]), [30, 15]);
    }
}

#[test]
fn what_is_not_known_is_unsupported_and_what_is_cut_is_refused() {
    let mut guest = guest();
    for kind in [
        0,
        6,
        11,
        0x51,
        0x62,
        0xFFFF,
        0x2_0009,
        0x2_7801,
        0x3_000C,
        0x4_0001,
        u32::MAX,
    ] {
        let reply = guest.ask(&Message::new(kind, MANA, 4096, 4096));
        assert_eq!(reply.status(), UNSUPPORTED, "{kind:#x}");
    }
    for kind in super::super::kinds::KINDS {
        for version in 0..=9 {
            let size = kind.size(version);
            assert!((40..=4096).contains(&size));
            if size > 40 {
                let message = Message::new(kind.number, MANA, size - 1, 64).versions(version, 1);
                assert_eq!(
                    guest.ask(&message).status(),
                    1,
                    "{} of version {version}",
                    kind.name
                );
            }
        }
    }
    assert!(guest.function.is_empty());
    // What has no whole header has no answer but a header.
    for message in [&[][..], &[0; 39], &[0xFF; 40], &[0; 4096]] {
        let mut answer = vec![1; 7];
        guest.function.request(message, &mut answer);
        let answer = Reply(answer);
        assert_eq!(
            (answer.0.len(), answer.u32(12), answer.status()),
            (32, 32, 1)
        );
    }
}
