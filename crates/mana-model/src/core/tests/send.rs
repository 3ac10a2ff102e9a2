//! From a WQE to a frame (reference/mana-hardware.md §2.3, §3.1-§3.4).

use super::*;
use crate::faults::Fault;

/// Types of §3.4.
const OKAY: u32 = 32;
const MTU_DROP: u32 = 34;
const INVALID_OOB: u32 = 35;
const HDR_PROCESSING_ERROR: u32 = 37;
const VPORT_IDX_OUT_OF_RANGE: u32 = 39;
const GDMA_ERR: u32 = 42;
/// Bits of the OOB's first byte (§3.1).
const LONG: u8 = 1;
const IPV4: u8 = 1 << 2;
const IP_CHECKSUM: u8 = 1 << 4;
const TCP_CHECKSUM: u8 = 1 << 5;
const UDP_CHECKSUM: u8 = 1 << 6;
const SUPPRESS: u8 = 1 << 7;

/// §3.2: the long OOB with these flags and dwords 2 and 3, short offset 0.
fn long_oob(queue: &Queue, flags: u8, dw2: u32, dw3: u32) -> Vec<u8> {
    let mut oob = queue.short_oob(LONG | flags, 0);
    oob[7] = 0;
    [oob, concat(dw2, dw3), [0; 8]].concat()
}

#[test]
fn a_packet_leaves_as_it_is_and_its_completion_says_where_its_wqe_stood() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let frame = plain_frame(60);
    let address = bench.put(100, &frame);
    for unit in 0..3 {
        queue.post(&queue.short_wqe(0, 0, (address, bench.key, 60)));
        assert_eq!(bench.send(&queue), [&frame[..]]);
        let mut expected = [0; 16];
        expected[0] = 0x60; // type 32, client 1
        expected[2] = unit << 5;
        expected[15] = 0x2100_1403; // owner 1, is_sq, queue
        assert_eq!(queue.poll(), Some(expected));
    }
    assert_eq!(queue.poll(), None);
    bench.assert_clean();
}

#[test]
fn nothing_is_sent_before_the_doorbell_and_nothing_behind_it() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let address = bench.put(0, &plain_frame(60));
    for _ in 0..3 {
        queue.post(&queue.short_wqe(0, 0, (address, bench.key, 60)));
    }
    bench.run();
    assert!(bench.links.take_frames(0).is_empty());
    bench.ring_at(&queue, 64);
    bench.run();
    assert_eq!(bench.links.take_frames(0).len(), 2);
    assert_eq!(queue.types(), [OKAY, OKAY]);
}

#[test]
fn a_suppressed_run_is_completed_by_the_packet_behind_it() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let address = bench.put(0, &plain_frame(60));
    for flags in [SUPPRESS, SUPPRESS, 0, SUPPRESS] {
        queue.post(&queue.short_wqe(flags, 0, (address, bench.key, 60)));
    }
    assert_eq!(bench.send(&queue).len(), 4);
    let cqe = queue.poll().unwrap();
    assert_eq!((cqe[0] & 0x3F, cqe[2] >> 5), (OKAY, 2));
    assert_eq!(queue.poll(), None);
    bench.assert_clean();
}

#[test]
fn up_to_thirty_segments_are_gathered_around_the_ends_of_pages_and_of_the_ring() {
    for segments in [1, 2, 3, 4, 29, 30] {
        for long in [false, true] {
            let mut bench = Bench::capturing();
            let mut queue = bench.sender();
            let frame = plain_frame(4096);
            // The page border is inside one of the segments.
            let address = bench.put(3000, &frame);
            let size = 4096 / segments;
            let list: Vec<_> = (0..segments)
                .map(|index| {
                    let last = index + 1 == segments;
                    let bytes = if last { 4096 - index * size } else { size };
                    (address + u64::from(index * size), bench.key, bytes)
                })
                .collect();
            let oob = match long {
                false => queue.short_oob(0, 0).to_vec(),
                true => long_oob(&queue, 0, 0, 7 << 16),
            };
            // Three times around the ring of 512 units.
            let mut units = 0;
            while units < 3 * 512 {
                queue.post(&wqe(&oob, &list));
                assert_eq!(
                    bench.send(&queue),
                    [&frame[..]],
                    "{segments} {long} {units}"
                );
                assert_eq!(queue.types(), [OKAY]);
                units = queue.written / 32;
            }
            bench.assert_clean();
        }
    }
}

#[test]
fn a_vlan_tag_is_inserted_with_priority_and_drop_bit() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let frame = plain_frame(60);
    let segment = (bench.put(0, &frame), bench.key, 60);
    // inject, pcp 5, dei, id 0x123
    let dw2 = 1 << 3 | 5 << 16 | 1 << 19 | 0x123 << 20;
    queue.post(&wqe(&long_oob(&queue, 0, dw2, 7 << 16), &[segment]));
    // The offset in the short field alone, as Linux and DPDK do it.
    let mut oob = long_oob(&queue, 0, dw2, 0);
    oob[7] = 7;
    queue.post(&wqe(&oob, &[segment]));
    let expected = [&frame[..12], &[0x81, 0x00, 0xB1, 0x23], &frame[12..]].concat();
    assert_eq!(bench.send(&queue), [expected.clone(), expected]);
    bench.assert_clean();
}

#[test]
fn vport_offsets_above_255_want_the_long_format() {
    let mut bench = Bench::with(&[LinkConfig::Sink { capture: true }], |config| {
        config.vport_offset = 0x307;
    });
    let mut queue = bench.sender();
    let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
    queue.post(&wqe(&long_oob(&queue, 0, 0, 0x307 << 16), &[segment]));
    // What fits in the short field is 7, which is another port's offset.
    queue.post(&queue.short_wqe(0, 0, segment));
    queue.post(&wqe(&long_oob(&queue, 0, 0, 7 << 16), &[segment]));
    assert_eq!(bench.send(&queue).len(), 1);
    assert_eq!(
        queue.types(),
        [OKAY, VPORT_IDX_OUT_OF_RANGE, VPORT_IDX_OUT_OF_RANGE]
    );
    assert_eq!(bench.kinds(), [FindingKind::Oob]);
}

/// The two captured packets with the checksums that their senders gave them: blanked or replaced
/// by what a driver leaves there (§3.3), the device must find the same.
#[test]
fn checksums_become_those_of_captured_packets() {
    let cases: [(&[u8], u8, usize, u16); 2] = [
        (&DNS, UDP_CHECKSUM, 40, 0xd5a3),
        (&HTTP, TCP_CHECKSUM, 50, 0x59be),
    ];
    for (packet, l4, field, pseudo_sum) in cases {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        // The sum of the pseudo-header, by hand: addresses, protocol, length.
        let words = packet[26..34]
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum = words.sum::<u32>() + u32::from(packet[23]) + packet.len() as u32 - 34;
        let sum = (sum & 0xFFFF) + (sum >> 16);
        assert_eq!(sum, u32::from(pseudo_sum));
        let mut blank = packet.to_vec();
        blank[24..26].fill(0xEE);
        blank[field..field + 2].copy_from_slice(&pseudo_sum.to_be_bytes());
        // Padding behind the IP packet does not count.
        blank.extend([0xAA; 5]);
        let segment = (bench.put(0, &blank), bench.key, blank.len() as u32);
        let mut expected = packet.to_vec();
        expected.extend([0xAA; 5]);
        queue.post(&queue.short_wqe(IPV4 | IP_CHECKSUM | l4, 34, segment));
        assert_eq!(bench.send(&queue), [expected]);
        queue.post(&queue.short_wqe(IPV4 | l4, 34, segment));
        let sent = bench.send(&queue).remove(0);
        assert_eq!(
            (&sent[24..26], &sent[field..field + 2]),
            (&[0xEE; 2][..], &packet[field..field + 2])
        );
        bench.assert_clean();
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ffff() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let mut packet = DNS;
    packet[40..42].copy_from_slice(&[0xd5, 0xa3]);
    // What the first payload word lacks so that all words sum up to ffff: its checksum 85ed less.
    let word = u32::from(packet[42]) << 8 | u32::from(packet[43]);
    let word = word + 0x85ed;
    let word = (word & 0xFFFF) + (word >> 16);
    packet[42..44].copy_from_slice(&(word as u16).to_be_bytes());
    let segment = (bench.put(0, &packet), bench.key, 70);
    queue.post(&queue.short_wqe(IPV4 | UDP_CHECKSUM, 34, segment));
    assert_eq!(bench.send(&queue)[0][40..42], [0xFF, 0xFF]);
    bench.assert_clean();
}

#[test]
fn a_checksum_request_that_does_not_fit_the_packet_is_a_finding() {
    let arp = plain_frame(70);
    let cases: [(&[u8], u8, u16); 6] = [
        (&DNS, IPV4 | TCP_CHECKSUM, 34),
        (&HTTP, IPV4 | UDP_CHECKSUM, 34),
        (&HTTP, IPV4 | TCP_CHECKSUM, 38),
        (&HTTP, TCP_CHECKSUM, 34),
        (&HTTP, 1 << 3 | TCP_CHECKSUM, 34),
        (&arp, IPV4 | IP_CHECKSUM, 34),
    ];
    for (packet, flags, trans_off) in cases {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, packet), bench.key, packet.len() as u32);
        queue.post(&queue.short_wqe(flags | SUPPRESS, trans_off, segment));
        assert!(bench.send(&queue).is_empty());
        assert_eq!(queue.types(), [HDR_PROCESSING_ERROR], "{flags:#x}");
        assert_eq!(bench.kinds(), [FindingKind::Offload]);
    }
}

/// The driver in C leaves there what was on its stack (§8 no. 4), and its packets are sent.
#[test]
fn a_wrong_offset_of_udp_is_a_finding_and_the_checksum_right_all_the_same() {
    let send = |trans_off| {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, &DNS), bench.key, DNS.len() as u32);
        queue.post(&queue.short_wqe(IPV4 | UDP_CHECKSUM, trans_off, segment));
        (bench.send(&queue).remove(0), bench.kinds())
    };
    let (right, findings) = send(34);
    assert_eq!(findings, []);
    assert_eq!(send(0), (right.clone(), vec![]));
    assert_eq!(send(0x343), (right, vec![FindingKind::Offload]));
}

#[test]
fn an_oob_that_contradicts_its_queue_or_itself_is_invalid() {
    let change = |what: fn(&mut Vec<u8>)| {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
        let mut bytes = wqe(&long_oob(&queue, SUPPRESS, 0, 7 << 16), &[segment]);
        what(&mut bytes);
        queue.post(&bytes);
        let sent = bench.send(&queue).len();
        (sent, queue.types(), bench.kinds())
    };
    let (oob, reserved) = (FindingKind::Oob, FindingKind::WqeReserved);
    assert_eq!(change(|_| {}), (1, vec![], vec![]));
    for (what, kind) in [
        (change(|wqe| wqe[8] &= !LONG), oob),      // format against size
        (change(|wqe| wqe[9] ^= 1), oob),          // vcq_num
        (change(|wqe| wqe[13] ^= 4), oob),         // vsq_frame
        (change(|wqe| wqe[16] |= 1), reserved),    // is_encap
        (change(|wqe| wqe[17] |= 1), reserved),    // dw2 bit 8
        (change(|wqe| wqe[23] |= 0x80), reserved), // dw3 bit 31
        (change(|wqe| wqe[24] |= 1), reserved),    // dw4
    ] {
        assert_eq!(what, (0, vec![INVALID_OOB], vec![kind]));
    }
    // Bits of the header that Ethernet leaves zero: told, and the packet goes out (§2.3).
    for what in [
        change(|wqe| wqe[0] |= 1),
        change(|wqe| wqe[5] |= 0x10),
        change(|wqe| wqe[7] |= 0x40),
    ] {
        assert_eq!(what, (1, vec![], vec![reserved]));
    }
}

#[test]
fn a_wqe_that_can_not_be_stops_its_queue() {
    let change = |what: fn(&mut Vec<u8>)| {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
        let mut bytes = queue.short_wqe(0, 0, segment);
        what(&mut bytes);
        queue.post(&bytes);
        queue.post(&queue.short_wqe(0, 0, segment));
        let sent = bench.send(&queue).len();
        (sent, queue.types(), bench.kinds())
    };
    let stopped = (0, vec![GDMA_ERR], vec![FindingKind::WqeFormat]);
    assert_eq!(change(|wqe| wqe[4] = 0), stopped); // no segment
    assert_eq!(change(|wqe| wqe[4] = 31), stopped); // more than 30
    assert_eq!(change(|wqe| wqe[4] = 30), stopped); // beyond the doorbell
    assert_eq!(change(|wqe| wqe[5] = 7), stopped); // 28 bytes of OOB
    assert_eq!(change(|wqe| wqe[5] = 0), stopped);
}

#[test]
fn memory_that_the_queue_may_not_reach_stops_it_with_the_evidence() {
    type Change = fn(&mut Bench, &mut Segment);
    let cases: [(Change, FindingKind); 8] = [
        (|_, segment| segment.1 ^= 1, FindingKind::MemoryKey),
        (|_, segment| segment.1 = 0, FindingKind::MemoryKey),
        (|_, segment| segment.1 = u32::MAX, FindingKind::MemoryKey),
        (
            |_, segment| segment.0 = ADDRESS - 1,
            FindingKind::MemoryBounds,
        ),
        (
            |_, segment| segment.0 = ADDRESS + RING - 59,
            FindingKind::MemoryBounds,
        ),
        (|_, segment| segment.0 = u64::MAX, FindingKind::MemoryBounds),
        (|_, segment| segment.2 = 0, FindingKind::EmptyElement),
        (
            |bench, segment| {
                let other = bench.device.create_pd();
                let space = DmaSpace::Shuffled(bench.memory.clone());
                segment.1 = bench.device.mrs.add(other, ADDRESS, 1, space);
            },
            FindingKind::MemoryDomain,
        ),
    ];
    for (change, kind) in cases {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let good = (bench.put(0, &plain_frame(60)), bench.key, 60);
        let mut bad = good;
        change(&mut bench, &mut bad);
        for segment in [good, bad, good] {
            queue.post(&queue.short_wqe(SUPPRESS, 0, segment));
        }
        assert_eq!(bench.send(&queue).len(), 1, "{kind:?}");
        let cqe = queue.poll().unwrap();
        assert_eq!((cqe[0] & 0x3F, cqe[2] >> 5), (GDMA_ERR, 1));
        assert_eq!(bench.kinds(), [kind]);
        let evidence = bench.device.findings()[0].evidence.clone();
        assert!(evidence.contains(&format!("{:#x}", bad.0)), "{evidence}");
    }
}

#[test]
fn a_region_that_is_gone_can_not_be_reached_by_its_key() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let space = DmaSpace::Shuffled(bench.memory.clone());
    let key = bench.device.mrs.add(bench.pd, ADDRESS, 1, space);
    bench.device.mrs.remove(key);
    let space = DmaSpace::Shuffled(bench.memory.clone());
    let successor = bench.device.mrs.add(bench.pd, ADDRESS, 1, space);
    assert_ne!(key, successor);
    queue.post(&queue.short_wqe(0, 0, (ADDRESS, key, 60)));
    assert!(bench.send(&queue).is_empty());
    assert_eq!(bench.kinds(), [FindingKind::MemoryKey]);
}

#[test]
fn frames_beyond_the_adapters_mtu_and_below_a_header_are_dropped() {
    let mut bench = Bench::with(&[LinkConfig::Sink { capture: true }], |config| {
        config.ports[0].adapter_mtu = 1514;
    });
    let mut queue = bench.sender();
    let address = bench.put(0, &plain_frame(2000));
    for size in [1514, 1515, 13, 14] {
        queue.post(&queue.short_wqe(SUPPRESS, 0, (address, bench.key, size)));
    }
    let lengths: Vec<_> = bench.send(&queue).iter().map(Vec::len).collect();
    assert_eq!(lengths, [1514, 14]);
    assert_eq!(queue.types(), [MTU_DROP, HDR_PROCESSING_ERROR]);
}

#[test]
fn every_error_can_be_ordered_and_ignores_suppression() {
    for cqe_type in 33..=42 {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
        let order = |nth, sq| Fault::TxError {
            port: 0,
            sq,
            cqe_type,
            nth,
        };
        bench.device.inject(0, &order(1, Some(0xBAD)));
        bench.device.inject(0, &order(3, None));
        for flags in [SUPPRESS, SUPPRESS, SUPPRESS, SUPPRESS, 0] {
            queue.post(&queue.short_wqe(flags, 0, segment));
        }
        let sent = bench.send(&queue).len();
        let cqe = queue.poll().unwrap();
        assert_eq!((cqe[0] & 0x3F, cqe[2] >> 5), (cqe_type.into(), 2));
        if cqe_type == 42 {
            assert_eq!((sent, queue.types()), (2, vec![]), "the queue is disabled");
        } else {
            assert_eq!((sent, queue.types()), (4, vec![OKAY]));
        }
        let counters = bench.device.counters(0);
        assert_eq!((counters.tx_frames, counters.tx_errors), (sent as u64, 1));
        bench.assert_clean();
    }
}

#[test]
fn doorbells_are_for_queues_of_the_context_and_for_room_in_the_ring() {
    type Ring = fn(&mut Bench, &Queue);
    let cases: [(Ring, FindingKind); 8] = [
        (
            |bench, queue| bench.ring_at(queue, 33),
            FindingKind::DoorbellCursor,
        ),
        (
            |bench, queue| bench.ring_at(queue, RING as u32 + 64),
            FindingKind::DoorbellCursor,
        ),
        (
            |bench, queue| bench.ring_at(queue, 0),
            FindingKind::DoorbellCursor,
        ),
        (
            |bench, queue| bench.ring_at(queue, 32u32.wrapping_neg()),
            FindingKind::DoorbellCursor,
        ),
        (
            |bench, queue| {
                bench
                    .device
                    .doorbell(CONTEXT, queue.kind, 0x1403, 1 << 24 | 0x1403 | 96 << 32)
            },
            FindingKind::DoorbellReserved,
        ),
        (
            |bench, queue| {
                bench
                    .device
                    .doorbell(CONTEXT + 1, queue.kind, 0x1403, 0x1403 | 96 << 32)
            },
            FindingKind::DoorbellQueue,
        ),
        (
            |bench, queue| {
                bench
                    .device
                    .doorbell(CONTEXT, queue.kind, 0x1404, 0x1404 | 96 << 32)
            },
            FindingKind::DoorbellQueue,
        ),
        (
            |bench, _| {
                bench
                    .device
                    .doorbell(CONTEXT, DoorbellKind::Receive, 0x1403, 0x1403 | 96 << 32)
            },
            FindingKind::DoorbellQueue,
        ),
    ];
    for (ring, kind) in cases {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
        for _ in 0..3 {
            queue.post(&queue.short_wqe(0, 0, segment));
        }
        bench.ring_at(&queue, 64);
        bench.assert_clean();
        ring(&mut bench, &queue);
        assert_eq!(bench.kinds(), [kind]);
        assert!(bench.device.findings()[0].queue.is_some());
    }
}

#[test]
fn a_full_wire_holds_the_work_in_the_ring_and_loses_none() {
    let mut bench = Bench::with(&[LinkConfig::Pair, LinkConfig::Pair], |_| {});
    let mut queue = bench.sender();
    let mut waiting = 0;
    while bench.links.can_send(0) {
        bench.links.send(0, 0, &[0; 60]);
        waiting += 1;
    }
    let address = bench.put(0, &plain_frame(60));
    for _ in 0..200 {
        queue.post(&queue.short_wqe(0, 0, (address, bench.key, 60)));
    }
    bench.ring(&queue);
    bench.device.step(&mut bench.links, 0);
    assert_eq!(bench.device.counters(0).tx_frames, 0);
    assert!(!bench.device.idle());
    // Port 1 is closed: what arrives there is counted.
    bench.run();
    assert_eq!(bench.device.counters(0).tx_frames, 200);
    assert_eq!(bench.device.counters(1).rx_disabled, waiting + 200);
    assert!(bench.device.idle());
    bench.assert_clean();
}

#[test]
fn queues_take_turns() {
    let mut bench = Bench::capturing();
    let mut queues = [bench.sender(), bench.sender()];
    let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
    for queue in &mut queues {
        for _ in 0..200 {
            queue.post(&queue.short_wqe(0, 0, segment));
        }
        bench.ring(queue);
    }
    bench.device.step(&mut bench.links, 0);
    let sent = queues.each_mut().map(|queue| queue.types().len());
    assert!(
        sent[0] == sent[1] && (1..200).contains(&sent[0]),
        "{sent:?}"
    );
    bench.run();
    assert_eq!(bench.links.take_frames(0).len(), 400);
    bench.assert_clean();
}

#[test]
fn a_vport_that_was_not_given_to_the_domain_sends_nothing() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
    bench.device.release_vport_tx(0);
    queue.post(&queue.short_wqe(SUPPRESS, 0, segment));
    assert!(bench.send(&queue).is_empty());
    assert_eq!(queue.types(), [40]);
    assert_eq!(bench.kinds(), [FindingKind::VPort]);
}

#[test]
fn rings_must_be_powers_of_two_of_at_least_a_page() {
    let mut bench = Bench::capturing();
    let mut region = |pages| {
        let space = DmaSpace::Shuffled(Shuffled::new(pages));
        bench.device.add_region(space)
    };
    let (one, other, odd) = (region(1), region(1), region(3));
    for (ring, cq_ring) in [(odd, one), (one, odd), (one, one)] {
        let (device, pd) = (&mut bench.device, bench.pd);
        let refused = device.create_send_queue(0, CONTEXT, pd, ring, cq_ring);
        assert_eq!(refused, None);
    }
    // The regions are as they were.
    let (device, pd) = (&mut bench.device, bench.pd);
    assert!(
        device
            .create_receive_queue(0, CONTEXT, pd, one, other)
            .is_some()
    );
    assert_eq!(device.create_send_queue(0, CONTEXT, pd, one, odd), None);
}
