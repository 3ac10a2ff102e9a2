//! The data path as the kernel's netdev and a user's process use it: what a packet becomes, who is told,
//! and what queues can't reach.

use mana_model::{GenConfig, LinkConfig};

use super::guest::{MANA, Message, NO_DEVICE};
use super::netdev::{
    ALL, COALESCED_4, COALESCED_8, FENCE, GROUP, LONG, Netdev, OKAY, Queue, RING, STATION, TX_OKAY,
    VPORT, entries, entry_56, frame, oob, short, steering, wqe,
};

#[test]
fn frames_go_round_and_completions_wake_the_event_queue_once_per_arming() {
    let mut netdev = Netdev::new(&[LinkConfig::Loop], |_| ());
    let (mut send, mut receive) = (netdev.queue(VPORT, 1, 0), netdev.queue(VPORT, 2, 1));
    netdev.steer(VPORT, &[&receive], false);
    let addresses = netdev.buffers(&mut receive, 3);
    for len in [60, 1514] {
        netdev.send(&mut send, &frame(STATION, len));
    }
    netdev.step();
    assert_eq!(netdev.types(&mut send), [TX_OKAY; 2]);
    for (address, len) in addresses.iter().zip([60, 1514]) {
        let cqe = netdev.poll(&mut receive).unwrap();
        assert_eq!((cqe[0] & 0xFF, cqe[2]), (OKAY | 1 << 6, len as u32));
        assert_eq!(netdev.read(*address, len), frame(STATION, len));
    }
    // One event each, although two completions came.
    assert_eq!(netdev.guest.function.take_interrupts(), [1, 2]);
    assert_eq!(netdev.event(0), Some((3, send.cq)));
    assert_eq!(netdev.event(1), Some((3, receive.cq)));
    assert_eq!((netdev.event(0), netdev.event(1)), (None, None));
    // Armed again when all is read: silent until the next completion, and without the event queue's
    // arming no interrupt.
    netdev.arm(&send);
    netdev.send(&mut send, &frame(STATION, 60));
    netdev.step();
    assert_eq!(netdev.event(0), Some((3, send.cq)));
    assert_eq!(netdev.guest.function.take_interrupts(), [0_u16; 0]);
    // Events that wait when it is armed fire at once.
    netdev.events[0].head -= 1;
    netdev.arm_events(0);
    assert_eq!(netdev.guest.function.take_interrupts(), [1]);
    // Armed while a completion waits: an event at once.
    netdev.arm(&receive);
    assert_eq!(netdev.event(1), Some((3, receive.cq)));
    netdev.assert_clean();
}

/// As Linux 7.3 does when a service of the device cuts its removal short.
#[test]
fn an_event_queue_that_goes_first_is_told_nothing_any_more_and_nor_is_its_successor() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |_| ());
    let mut send = netdev.queue(VPORT, 1, 0);
    let disable = Message::new(0xD, MANA, 52, 32)
        .u32(40, 4)
        .u32(44, netdev.events[0].id);
    netdev.guest.done(&disable.clone().u32(48, 1));
    assert_eq!(netdev.guest.ask(&disable).status(), 2, "it is gone");
    let (region, ring) = netdev.guest.region(0x8000);
    let create = Message::new(0xC, MANA, 96, 36)
        .u32(40, 4)
        .u32(48, netdev.domain);
    let create = create
        .u32(52, netdev.page)
        .u64(56, region)
        .u32(68, 0x8000)
        .u32(76, 5);
    let id = netdev.guest.done(&create).u32(32);
    netdev.events[0] = super::netdev::Events {
        id,
        ring,
        head: 2048,
    };
    netdev.send(&mut send, &frame(STATION, 60));
    netdev.step();
    assert_eq!(netdev.types(&mut send), [TX_OKAY]);
    assert_eq!(netdev.event(0), None);
    assert!(netdev.guest.function.take_interrupts().is_empty());
    netdev.assert_clean();
}

#[test]
fn a_fence_follows_everything_that_came_before_it() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |_| ());
    let mut queues = [netdev.queue(VPORT, 2, 0), netdev.queue(VPORT, 2, 1)];
    netdev.steer(VPORT, &[&queues[0], &queues[1]], false);
    for queue in &mut queues {
        netdev.buffers(queue, 4);
    }
    for _ in 0..3 {
        netdev
            .guest
            .function
            .hardware_mut()
            .deliver(0, &frame(ALL, 60))
            .unwrap();
    }
    netdev.step();
    let off = steering(VPORT, 2).u32(52, 0);
    netdev.guest.done(&off);
    for queue in &queues {
        let message = Message::new(0x2_0006, MANA, 48, 32).u64(40, queue.handle);
        netdev.guest.done(&message);
    }
    // Frames for a port that is off.
    netdev
        .guest
        .function
        .hardware_mut()
        .deliver(0, &frame(ALL, 60))
        .unwrap();
    netdev.step();
    assert_eq!(netdev.types(&mut queues[0]), [OKAY, OKAY, OKAY, FENCE]);
    assert_eq!(netdev.types(&mut queues[1]), [FENCE]);
    assert_eq!(netdev.guest.function.hardware().counters(0).rx_disabled, 1);
    // The fence woke the second queue.
    assert_eq!(netdev.event(1), Some((3, queues[1].cq)));
    netdev.assert_clean();
}

#[test]
fn the_table_and_the_default_queue_change_while_packets_flow() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |_| ());
    let mut queues = [netdev.queue(VPORT, 2, 0), netdev.queue(VPORT, 2, 1)];
    for queue in &mut queues {
        netdev.buffers(queue, 16);
    }
    let [one, two] = &queues;
    netdev.steer(VPORT, &[one, two], false);
    let table = entries(steering(VPORT, 2).u8(62, 1), &[two]);
    let default = steering(VPORT, 2).u8(60, 1).u64(64, two.handle);
    let both = entries(steering(VPORT, 2).u8(62, 1), &[two, one]);
    let rss_off = steering(VPORT, 2).u32(56, 0);
    let mut received = Vec::new();
    for change in [
        None,
        Some(&table),
        Some(&default),
        Some(&both),
        Some(&rss_off),
    ] {
        if let Some(message) = change {
            netdev.guest.done(message);
        }
        for packet in [entry_56(), frame(ALL, 60)] {
            netdev
                .guest
                .function
                .hardware_mut()
                .deliver(0, &packet)
                .unwrap();
        }
        netdev.step();
        received.push([0, 1].map(|index| {
            let queue: &mut Queue = &mut queues[index];
            std::iter::from_fn(|| netdev.poll(queue))
                .map(|cqe| cqe[4])
                .collect::<Vec<_>>()
        }));
    }
    let hash = 0x51cc_c178;
    let expected = [
        [vec![hash, 0], vec![]],
        [vec![0], vec![hash]],
        [vec![], vec![hash, 0]],
        [vec![], vec![hash, 0]],
        [vec![], vec![0, 0]],
    ];
    assert_eq!(received, expected);
    netdev.assert_clean();
}

#[test]
fn hashes_are_of_the_types_that_version_5_asks_for() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |_| ());
    let mut queue = netdev.queue(VPORT, 2, 0);
    netdev.steer(VPORT, &[&queue], false);
    netdev.buffers(&mut queue, 8);
    let mut found = Vec::new();
    for types in [0b11_1111, 0b00_0001, 0b11_1000, 0] {
        netdev.guest.done(&steering(VPORT, 5).u16(116, types));
        netdev
            .guest
            .function
            .hardware_mut()
            .deliver(0, &entry_56())
            .unwrap();
        netdev.step();
        let cqe = netdev.poll(&mut queue).unwrap();
        found.push((cqe[1] >> 16 & 0x1FF, cqe[4]));
    }
    // UDP_IPV4 is bit 2, IPV4 bit 0.
    let expected = [(4, 0x51cc_c178), (1, 0x323e_8fc2), (0, 0), (4, 0x51cc_c178)];
    assert_eq!(found, expected);
}

#[test]
fn packets_share_completions_where_the_driver_asks_for_it() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |config| {
        config.coalescing = 8;
    });
    let mut queue = netdev.queue(VPORT, 2, 0);
    netdev.steer(VPORT, &[&queue], false);
    netdev.buffers(&mut queue, 64);
    let asked = [
        steering(VPORT, 2).u8(112, 1),
        steering(VPORT, 5).u8(112, 1).u8(118, 1),
        steering(VPORT, 5),
        // Fields of later versions are skipped in earlier ones.
        steering(VPORT, 4).u8(112, 1).u8(118, 1),
    ];
    let mut found = vec![];
    for message in [
        None,
        Some(&asked[0]),
        Some(&asked[1]),
        Some(&asked[2]),
        Some(&asked[3]),
    ] {
        if let Some(message) = message {
            netdev.guest.done(message);
        }
        for _ in 0..8 {
            netdev
                .guest
                .function
                .hardware_mut()
                .deliver(0, &frame(ALL, 60))
                .unwrap();
        }
        netdev.step();
        found.push(netdev.types(&mut queue));
    }
    let expected = [
        vec![OKAY; 8],
        vec![COALESCED_4; 2],
        vec![COALESCED_8],
        vec![OKAY; 8],
        vec![COALESCED_4; 2],
    ];
    assert_eq!(found, expected);
}

/// §3.3: headers alone in the first element, whose size the header repeats; §3.2: a tag beside it.
#[test]
fn a_long_oob_with_several_elements_is_segmented_and_tagged() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: true }], |_| ());
    let mut send = netdev.queue(VPORT, 1, 0);
    let mut headers = frame(STATION, 54);
    headers[12..].fill(0);
    headers[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    headers[22..24].copy_from_slice(&[64, 6]);
    headers[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    headers[46..48].copy_from_slice(&[0x50, 0x18]);
    // The sum of the pseudo-header, its length left out: 10.0.0.1, 10.0.0.2, TCP.
    headers[50..52].copy_from_slice(&0x1409_u16.to_be_bytes());
    let payload: Vec<u8> = (0..2500_u32).map(|byte| byte as u8).collect();
    let [first, second, third] = [(); 3].map(|()| netdev.guest.pages(1));
    netdev.write(first, &headers);
    netdev.write(second, &payload[..1000]);
    netdev.write(third, &payload[1000..]);
    let key = netdev.key;
    let elements = [(first, key, 54), (second, key, 1000), (third, key, 1500)];
    // IPv4, its checksum and TCP's.
    let flags = 1 << 2 | 1 << 4 | 1 << 5;
    let mut long = oob(LONG, &send, flags, 34).to_vec();
    let tag = 1 << 3 | 5 << 16 | 100 << 20;
    long.extend_from_slice(&u32::to_le_bytes(tag));
    long.extend_from_slice(&[0; 12]);
    let mut wqe = wqe(&long, 1 << 11 | 1000 << 16, &elements);
    wqe[3] = 54;
    netdev.post(&mut send, &wqe);
    netdev.step();
    assert_eq!(netdev.types(&mut send), [TX_OKAY]);
    let frames = netdev.guest.function.hardware_mut().take_tx_frames(0);
    let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1058, 1058, 558]);
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame[12..16], [0x81, 0x00, 0xA0, 100], "frame {index}");
        let payload = &payload[1000 * index..2500.min(1000 * (index + 1))];
        assert_eq!(&frame[58..], payload, "frame {index}");
        let checked = mana_model::checksum::sum(&frame[18..38]);
        assert_eq!(mana_model::checksum::fold(checked), 0xFFFF, "frame {index}");
    }
    netdev.assert_clean();
}

#[test]
fn queues_are_rung_on_the_page_of_their_port_and_reach_its_domain_only() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: true }], |_| ());
    // A process has a page and a domain of its own.
    let range = Message::new(0x16, NO_DEVICE, 56, 36)
        .u32(40, 27)
        .u32(44, 1)
        .u32(48, 1);
    let page = netdev.guest.done(&range).u32(32);
    let pd = netdev.guest.done(&Message::new(0x1D, NO_DEVICE, 48, 48));
    let (pd_handle, pd_id) = (pd.u64(32), pd.u32(40));
    let (kernels, kernel_domain) = (netdev.page, netdev.domain);
    netdev.domain = pd_id;
    netdev.configure_sending(VPORT, page);
    let mut send = netdev.queue(VPORT, 1, 0);
    netdev.send(&mut send, &frame(STATION, 60));
    netdev.step();
    assert_eq!(
        netdev.types(&mut send),
        [0_u32; 0],
        "the kernel's page does not ring it"
    );
    // The kernel's key is of another domain.
    netdev.page = page;
    netdev
        .guest
        .function
        .doorbell(page, 0, u64::from(send.wq) | 32 << 32);
    netdev.step();
    assert_eq!(netdev.types(&mut send), [42]);
    let kinds: Vec<_> = netdev
        .guest
        .function
        .hardware()
        .findings()
        .iter()
        .map(|it| it.kind.name())
        .collect();
    assert_eq!(kinds, ["DoorbellQueue", "MemoryDomain"]);
    netdev.destroy(&send);

    // With a region of the process's own domain it works, at the addresses of the process.
    let (region, address) = netdev.guest.region(0x2000);
    let message = Message::new(0x1F, NO_DEVICE, 88, 48)
        .u64(40, pd_handle)
        .u32(48, 2);
    let message = message.u64(56, region).u64(64, 0x7F00_0000_0123).u32(72, 3);
    let reply = netdev.guest.done(&message);
    let (mr, key) = (reply.u64(32), reply.u32(40));
    let mut send = netdev.queue(VPORT, 1, 0);
    netdev.write(address + 0xFF0, &frame(STATION, 60));
    let element = (0x7F00_0000_0123 + 0xFF0, key, 60);
    let bytes = wqe(&short(&send, 0, 0), 0, &[element]);
    netdev.post(&mut send, &bytes);
    netdev.step();
    assert_eq!(netdev.types(&mut send), [TX_OKAY]);
    let sent = netdev.guest.function.hardware_mut().take_tx_frames(0);
    assert_eq!(sent, [frame(STATION, 60)]);

    // The process dies; what its driver leaves is refused in the wrong order, and goes in the right.
    let destroy_pd = Message::new(0x1E, NO_DEVICE, 48, 32).u64(40, pd_handle);
    assert_ne!(netdev.guest.ask(&destroy_pd).status(), 0);
    netdev.destroy(&send);
    netdev
        .guest
        .done(&Message::new(0x20, NO_DEVICE, 48, 32).u64(40, mr));
    netdev.guest.done(&destroy_pd);
    let range = Message::new(0x18, NO_DEVICE, 52, 32)
        .u32(40, 27)
        .u32(44, 1)
        .u32(48, page);
    netdev.guest.done(&range);
    // The port is nobody's until it is configured again.
    (netdev.domain, netdev.page) = (kernel_domain, kernels);
    let (region, _) = netdev.guest.region(RING);
    let (cq_region, _) = netdev.guest.region(RING);
    let create = Message::new(0x2_0004, MANA, 88, 48)
        .u64(40, VPORT)
        .u32(48, 1)
        .u64(56, region)
        .u64(64, cq_region)
        .u32(72, RING as u32)
        .u32(76, RING as u32)
        .u32(84, netdev.events[0].id);
    assert_ne!(netdev.guest.ask(&create).status(), 0);
    netdev.configure_sending(VPORT, kernels);
    netdev.guest.done(&create);
}

#[test]
fn queues_that_are_destroyed_under_traffic_touch_nothing_any_more() {
    let endless = GenConfig::default();
    let mut netdev = Netdev::new(&[LinkConfig::Gen(endless)], |_| ());
    let mut queues = [netdev.queue(VPORT, 2, 0), netdev.queue(VPORT, 2, 1)];
    let [one, two] = &queues;
    netdev.steer(VPORT, &[one, two], false);
    let buffers = queues.each_mut().map(|queue| netdev.buffers(queue, 32));
    netdev.guest.function.step();
    netdev.destroy(&queues[0]);
    // All memory of the first queue is the guest's again.
    let gone = [queues[0].ring, queues[0].cq_ring, buffers[0][31]];
    for address in gone {
        netdev.write(address, &[0x5A; 4096]);
    }
    netdev.step();
    for address in gone {
        assert!(netdev.read(address, 4096).iter().all(|byte| *byte == 0x5A));
    }
    assert!(netdev.types(&mut queues[1]).len() >= 32);
    // Its doorbell is nothing any more, on another page a finding.
    let findings = |netdev: &Netdev| netdev.guest.function.hardware().findings().len();
    let before = findings(&netdev);
    netdev.arm(&queues[0]);
    assert_eq!(findings(&netdev), before);
    netdev.page += 1;
    netdev.arm(&queues[0]);
    assert_eq!(findings(&netdev), before + 1);
    netdev.page -= 1;
    netdev.destroy(&queues[1]);
    netdev.step();
    assert_eq!(netdev.guest.function.hardware().live().work_queues, 0);
}

#[test]
fn rings_and_buffers_that_are_nowhere_stop_their_queue_and_nothing_else() {
    let mut netdev = Netdev::new(&[LinkConfig::Loop], |_| ());
    let mut send = netdev.queue(VPORT, 1, 0);
    let wqe = wqe(&short(&send, 0, 0), 0, &[(0x1000, netdev.key, 60)]);
    netdev.post(&mut send, &wqe);
    netdev.step();
    assert_eq!(netdev.types(&mut send), [42], "the queue is disabled");
    // A ring at an address where nothing is.
    let region = |netdev: &mut Netdev| {
        let message = Message::new(0x19, NO_DEVICE, 72, 40).u64(40, RING);
        let message = message.u32(56, 1).u32(60, 1).u64(64, 0x2000);
        netdev.guest.done(&message).u64(32)
    };
    let [ring, cq_ring] = [(); 2].map(|()| region(&mut netdev));
    let create = Message::new(0x2_0004, MANA, 88, 48)
        .u64(40, VPORT)
        .u32(48, 1);
    let create = create
        .u64(56, ring)
        .u64(64, cq_ring)
        .u32(72, 4096)
        .u32(76, 4096);
    let reply = netdev.guest.done(&create.u32(84, netdev.events[0].id));
    let wq = u64::from(reply.u32(32));
    netdev
        .guest
        .function
        .doorbell(netdev.page, 0, wq | 32 << 32);
    netdev.step();
    let mut working = netdev.queue(VPORT, 1, 1);
    netdev.send(&mut working, &frame(STATION, 60));
    netdev.step();
    assert_eq!(netdev.types(&mut working), [TX_OKAY]);
    let findings = netdev.guest.function.hardware().findings();
    assert!(
        findings
            .iter()
            .any(|finding| finding.kind.name() == "RingMemory")
    );
}

#[test]
fn a_step_ends_soon_whatever_is_handed_over_and_no_queue_starves() {
    let mut netdev = Netdev::new(&[LinkConfig::Sink { capture: false }], |_| ());
    let mut queues = [(); 6].map(|()| netdev.queue(VPORT, 1, 0));
    let address = netdev.guest.pages(10);
    // Eight WQEs of 30 elements, 512 bytes each, of a mebibyte: too long to be sent, but gathered.
    for queue in &mut queues {
        let bytes = wqe(&short(queue, 0, 0), 0, &[(address, netdev.key, 0x8000); 30]);
        for _ in 0..8 {
            netdev.post(queue, &bytes);
        }
    }
    let lengths: Vec<_> = std::iter::repeat_with(|| netdev.guest.function.step())
        .take_while(|moved| *moved > 0)
        .collect();
    // 32 MiB, give or take a packet of 960 KiB.
    assert_eq!(lengths, [35, 13]);
    for queue in &mut queues {
        assert_eq!(netdev.types(queue), [34; 8]);
    }

    // One packet must not become more frames than any driver sends.
    let mut headers = frame(STATION, 54);
    headers[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    headers[16..22].fill(0);
    headers[23] = 6;
    headers[46] = 0x50;
    netdev.write(address, &headers);
    let elements = [(address, netdev.key, 54), (address, netdev.key, 8193)];
    let flags = 1 << 2 | 1 << 4 | 1 << 5;
    let mut bytes = wqe(&short(&queues[0], flags, 34), 1 << 11 | 1 << 16, &elements);
    bytes[3] = 54;
    netdev.post(&mut queues[0], &bytes);
    netdev.step();
    assert_eq!(netdev.types(&mut queues[0]), [37]);
}

/// §6.9: which counter stands where, and which bit asks for it.
#[test]
fn statistics_stand_where_the_driver_reads_them() {
    let mut netdev = Netdev::new(&[LinkConfig::Pair, LinkConfig::Pair], |_| ());
    let mut send = netdev.queue(VPORT, 1, 0);
    let mut receive = netdev.queue(VPORT + 1, 2, 1);
    netdev.steer(VPORT + 1, &[&receive], false);
    netdev.buffers(&mut receive, 6);
    for (destination, len) in [
        (STATION, 60),
        (STATION, 61),
        (ALL, 70),
        (GROUP, 80),
        (GROUP, 81),
        (GROUP, 82),
    ] {
        netdev.send(&mut send, &frame(destination, len));
    }
    netdev.step();
    // No buffer; too long for the adapter; and a port that is off.
    netdev.send(&mut send, &frame(STATION, 60));
    netdev.send(&mut send, &frame(STATION, 9015));
    netdev.step();
    netdev.guest.done(&steering(VPORT + 1, 2).u32(52, 0));
    netdev.send(&mut send, &frame(STATION, 60));
    netdev.step();
    let ask = Message::new(0x2_0002, MANA, 48, 256);
    let all = netdev.guest.done(&ask.clone().u64(40, u64::MAX));
    let counters: Vec<u64> = (0..27).map(|index| all.u64(40 + 8 * index)).collect();
    let expected = [
        1, 1, // no buffer, off
        434, 2, 121, 1, 70, 3, 243, // received: bytes, to one, to all, to a group
        0, 0, 0, 0, 0, 0, 0, 0, 1, 0, // errors: the MTU's
        554, 4, 241, 1, 70, 3, 243, // sent
        0,
    ];
    assert_eq!(counters, expected);
    assert_eq!(all.u64(32), (1 << 27) - 1);
    // Multicast packets have bit 5, and stand behind broadcast ones.
    let one = netdev.guest.done(&ask.u64(40, 1 << 5));
    assert_eq!((one.u64(32), one.u64(40 + 8 * 7)), (1 << 5, 3));
    let others = (0..27).filter(|index| *index != 7);
    assert_eq!(others.map(|index| one.u64(40 + 8 * index)).sum::<u64>(), 0);
    // §6.6: bytes of class 0 of the physical port.
    let phy = netdev
        .guest
        .done(&Message::new(0x2_000C, MANA, 48, 440).u64(40, u64::MAX));
    assert_eq!(
        [56, 64, 184, 192].map(|offset| phy.u64(offset)),
        [6, 8, 434, 554]
    );
    assert_eq!(
        netdev.types(&mut send),
        [32, 32, 32, 32, 32, 32, 32, 34, 32]
    );
}
