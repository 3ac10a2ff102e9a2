//! A guest that writes nonsense: to every register and doorbell, into the shared-memory channel, the
//! rings of the hardware channel, and its own memory map.

use std::os::fd::AsRawFd;

use crate::guest::{
    ANSWER, BAR0, BASE, CONFIG, CQ, Device, EQ, Guest, REQUEST, RQ, SIZE, SQ, field, message,
};

/// Numbers that are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        // Knuth's linear congruential generator of 64 bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0.rotate_right(16)
    }
}

/// The device is as if nothing had been, for this guest and for the next.
pub fn assert_well(guest: &mut Guest) {
    // DESTROY_HWC, which may find nothing, then a channel that works.
    guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
    guest.establish();
    let answer = guest.request(&message(2, 0, 40, 72, &[]));
    assert_eq!((answer.len(), field(&answer, 24)), (72, 0));
}

#[test]
fn nonsense_in_every_register_of_every_width_does_nothing() {
    let device = Device::new("model0,ports=2");
    let mut guest = Guest::start(&device.socket());
    let registers: [u8; 0x100] = guest.read(0);
    let mut dice = Dice(1);
    // Before there is a channel, and with one.
    for _ in 0..2 {
        for width in [1, 2, 3, 4, 8, 16] {
            for offset in 0..0x140 {
                guest.write(offset, &dice.next().to_le_bytes().repeat(2)[..width]);
            }
        }
        assert_eq!(guest.read(0), registers);
        // Beyond the end, and far beyond.
        for offset in [0xFFFF, 0x40_0000 - 1, 0x40_0000, u64::MAX - 3] {
            guest.write(offset, &[0xFF; 8]);
            guest.read::<8>(offset);
        }
        for region in 1..12 {
            let mut bytes = [0; 8];
            // The server refuses regions that do not exist, by an answer that the client does not
            // understand: 9 and above can't be asked for here.
            if region < 9 && region != CONFIG {
                guest.client.region_write(region, 0, &[0xFF; 8]).unwrap();
                guest.client.region_read(region, 0, &mut bytes).unwrap();
                assert_eq!(bytes, [0; 8], "region {region}");
            }
        }
        assert_well(&mut guest);
    }
}

#[test]
fn nonsense_at_every_doorbell_does_nothing() {
    let device = Device::new("model0,ports=2");
    let mut guest = Guest::start(&device.socket());
    let mut dice = Dice(2);
    // Before there is a channel, and with one.
    for _ in 0..2 {
        for page in [0, 1, 2, 1007] {
            let page = guest.doorbells + 4096 * page;
            for offset in (0..4096).step_by(4) {
                let known = matches!(offset, 0 | 0x400 | 0x408 | 0x800 | 0x820 | 0xFF8);
                for _ in 0..if known { 100 } else { 1 } {
                    let mut value = dice.next();
                    if known && value & 1 == 0 {
                        // The id of something that may exist.
                        value &= !0xFF_FFFF;
                    }
                    guest.write(page + offset, &value.to_le_bytes());
                    guest.write(page + offset, &value.to_le_bytes()[..4]);
                }
                if offset % 256 == 0 {
                    for width in [1, 2, 3, 5, 7, 16] {
                        guest.write(page + offset, &[0xA5; 16][..width]);
                    }
                    assert_eq!(guest.read::<8>(page + offset), [0; 8]);
                }
            }
        }
        assert_well(&mut guest);
    }
}

#[test]
fn nonsense_in_the_configuration_space_is_taken_back_by_a_reset() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    let mut fresh = [0; 256];
    guest.client.reset().unwrap();
    guest.client.region_read(CONFIG, 0, &mut fresh).unwrap();
    let mut dice = Dice(3);
    for width in [1, 2, 4, 8] {
        for offset in (0..4200).step_by(width) {
            let bytes = dice.next().to_le_bytes();
            guest
                .client
                .region_write(CONFIG, offset as u64, &bytes[..width])
                .unwrap();
        }
    }
    guest.client.reset().unwrap();
    let mut now = [0; 256];
    guest.client.region_read(CONFIG, 0, &mut now).unwrap();
    assert_eq!(now, fresh);
    guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    assert_well(&mut guest);
}

/// §6.2: status in bits 8-15, direction in bit 7, the device does not own it any more (bit 31).
#[test]
fn messages_of_the_wrong_type_version_or_place_are_refused_at_once() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    let refused = |last: u32, sent: u32| {
        assert_eq!(last & 0xFF, sent & 0xFF | 0x80, "{sent:#x}: {last:#x}");
        assert_ne!(last >> 8 & 0xFF, 0, "{sent:#x}: {last:#x}");
        assert_eq!(last >> 31, 0, "{sent:#x}: {last:#x}");
    };
    let good = Guest::establish_smc([EQ, CQ, RQ, SQ], 0);
    for header in [0x00, 0x03, 0x05, 0x06, 0x07, 0x09, 0x39, 0x0A, 0x81, 0x82] {
        for owner in [0, 1 << 31] {
            let mut smc = good;
            smc[7] = header | owner;
            refused(guest.send_smc(smc), header);
        }
    }
    let outside = BASE + SIZE;
    for queues in [
        [outside, CQ, RQ, SQ],
        [EQ, outside, RQ, SQ],
        [EQ, CQ, BASE - 4096, SQ],
        [EQ, CQ, RQ, 0],
        [!0xFFF, CQ, RQ, SQ],
        [EQ, CQ, RQ, 1 << 63],
    ] {
        refused(guest.send_smc(Guest::establish_smc(queues, 0)), 1);
    }
    for vector in [64, 0xFFFF] {
        refused(
            guest.send_smc(Guest::establish_smc([EQ, CQ, RQ, SQ], vector)),
            1,
        );
    }
    assert_eq!(guest.fired(0), 0);
    guest.establish();
    refused(guest.send_smc(good), 1);
    assert_eq!(
        field(&guest.request(&message(2, 0, 40, 72, &[])), 24),
        0,
        "the first one lives"
    );
    assert_well(&mut guest);
}

#[test]
fn all_queues_in_one_page_harm_the_guest_only() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.poke(EQ, &[0xFF; 4096]);
    assert_eq!(guest.send_smc(Guest::establish_smc([EQ; 4], 0)), 0x81);
    for turn in 1..200 {
        guest.ring(0x400, 32 * turn);
        guest.ring(0x000, 64 * turn);
        guest.ring(0x800, turn);
        guest.ring(0xFF8, turn);
    }
    assert_well(&mut guest);
}

#[test]
fn wqes_and_doorbells_of_the_channel_that_make_no_sense_lead_to_no_answer() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    let request = message(2, 0, 40, 72, &[]);
    for (case, [element, size], header) in [
        (
            "an address that is not mapped",
            [BASE + SIZE - 8, 40],
            [1, 6],
        ),
        ("an address that goes round", [u64::MAX - 8, 40], [1, 6]),
        ("more than a request may have", [REQUEST, 4097], [1, 6]),
        ("a size beyond all bounds", [REQUEST, 0xFFFF_FFFF], [1, 6]),
        ("an OOB of 8 bytes", [REQUEST, 40], [1, 2]),
        ("no element", [REQUEST, 40], [0, 6]),
        (
            "more elements than are handed over",
            [REQUEST, 40],
            [255, 6],
        ),
    ] {
        guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        guest.establish();
        guest.poke(REQUEST, &request);
        guest.poke(ANSWER, &[0; 64]);
        guest.put_wqe(RQ, 0, 8, ANSWER, 4096);
        guest.ring(0x400, 32);
        guest.put_wqe(SQ, 0, 24, element, size as u32);
        guest.poke(SQ + 4, &header);
        guest.ring(0x000, 64);
        assert_eq!(guest.peek(ANSWER, 64), [0; 64], "{case}");
        assert_eq!(device.state("requests"), "0", "{case}");
    }
    // The key stands behind header, OOB and address.
    for key in [0, 2, 0x101, u32::MAX] {
        guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        guest.establish();
        guest.poke(REQUEST, &request);
        guest.put_wqe(SQ, 0, 24, REQUEST, 40);
        guest.poke(SQ + 40, &key.to_le_bytes());
        guest.ring(0x000, 64);
        assert_eq!(device.state("requests"), "0", "another key: {key:#x}");
    }
    for tail in [1, 31, 4097, 8192, u32::MAX] {
        guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        guest.establish();
        guest.ring(0x000, tail);
        assert_eq!(guest.completion(), None, "a doorbell of {tail}");
    }
    assert_well(&mut guest);
}

#[test]
fn a_request_without_a_buffer_for_its_answer_is_done_and_not_answered() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    for (address, size) in [(ANSWER, 71), (BASE + SIZE, 4096), (ANSWER, 0)] {
        guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        guest.establish();
        guest.poke(REQUEST, &message(2, 0, 40, 72, &[]));
        guest.put_wqe(SQ, 0, 24, REQUEST, 40);
        guest.ring(0x000, 64);
        assert!(guest.completion().is_some(), "the request's own");
        assert_eq!(guest.completion(), None, "no receive WQE at all");
        guest.put_wqe(RQ, 0, 8, address, size);
        guest.ring(0x400, 32);
        guest.put_wqe(SQ, 2, 24, REQUEST, 40);
        guest.ring(0x000, 128);
        assert!(guest.completion().is_some(), "the request's own");
        assert_eq!(guest.completion(), None, "{address:#x} {size}");
    }
    assert_well(&mut guest);
}

#[test]
fn memory_that_is_unmapped_under_the_channel_is_not_reached_any_more() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    guest.client.dma_unmap(BASE, SIZE).unwrap();
    guest.put_wqe(RQ, 0, 8, ANSWER, 4096);
    guest.put_wqe(SQ, 0, 24, REQUEST, 40);
    guest.poke(REQUEST, &message(2, 0, 40, 72, &[]));
    guest.ring(0x400, 32);
    guest.ring(0x000, 64);
    device.served.run("reset-request").unwrap();
    assert_eq!((guest.completion(), guest.event()), (None, None));
    guest
        .client
        .dma_map(0, BASE, SIZE, guest.memory.as_raw_fd())
        .unwrap();
    assert_well(&mut guest);
}

/// Without bus mastering the function reaches no memory (PCI command register, bit 2).
#[test]
fn a_function_that_does_not_master_the_bus_reaches_no_memory() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.client.region_write(CONFIG, 4, &[2, 0]).unwrap();
    let smc = Guest::establish_smc([EQ, CQ, RQ, SQ], 0);
    assert_ne!(guest.send_smc(smc) >> 8 & 0xFF, 0);
    guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    guest.establish();
    guest.client.region_write(CONFIG, 4, &[2, 0]).unwrap();
    device.served.run("reset-request").unwrap();
    assert_eq!((guest.event(), guest.fired(0)), (None, 0));
    guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    assert_well(&mut guest);
}

#[test]
fn requests_of_every_type_and_length_are_answered_with_a_status() {
    let device = Device::new("model0,ports=2");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let mut dice = Dice(4);
    let kinds = (0..0x70)
        .chain(0x2_0000..0x2_0010)
        .chain(0x3_0000..0x3_0024);
    for kind in kinds {
        for len in [0, 4, 16, 39, 40, 56, 120, 4096] {
            let mut bytes: Vec<u8> = (0..len).map(|_| dice.next() as u8).collect();
            if let Some(field) = bytes.get_mut(4..8) {
                field.copy_from_slice(&u32::to_le_bytes(kind));
            }
            let answer = guest.request(&bytes);
            assert!(answer.len() >= 32, "{kind:#x} of {len} bytes");
        }
    }
    let mut bytes = [0; 8];
    guest.client.region_read(BAR0, 0, &mut bytes).unwrap();
    assert_well(&mut guest);
}
