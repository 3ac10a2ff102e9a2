//! From a frame to buffers and a completion (reference/mana-hardware.md §3.5-§3.8).

use super::*;
use crate::config::GenConfig;
use crate::faults::Fault;

/// Types of §3.6.
const OKAY: u32 = 1;
const COALESCED_4: u32 = 2;
const TRUNCATED: u32 = 4;
/// Bits of dword 1 (§3.6).
const VLAN: u32 = 1 << 12;
const IP_OK: u32 = 1 << 25;
const IP_BAD: u32 = 1 << 26;
const TCP_OK: u32 = 1 << 27;
const TCP_BAD: u32 = 1 << 28;
const UDP_OK: u32 = 1 << 29;
const UDP_BAD: u32 = 1 << 30;
/// Hash types where dword 1 has them (§3.7).
const HASH_IPV4: u32 = 1 << 16;
const HASH_TCP_IPV4: u32 = 2 << 16;
const HASH_UDP_IPV4: u32 = 4 << 16;

/// The lengths and hashes of a completion.
fn packets(cqe: &Dwords) -> Vec<(u32, u32)> {
    let all = (0..4).map(|index| (cqe[2 + 3 * index], cqe[4 + 3 * index]));
    all.filter(|(len, _)| *len != 0).collect()
}

/// DNS from an address of the RSS verification suite, so that its hash is published.
fn published() -> Vec<u8> {
    let mut frame = DNS.to_vec();
    frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
    frame[34..38].copy_from_slice(&[0x0A, 0xEA, 0x06, 0xE6]);
    // No checksum, so that only the IP header's has to be made right.
    frame[40..42].fill(0);
    frame[24..26].copy_from_slice(&[0x5d, 0x12]);
    frame
}

#[test]
fn a_packet_fills_the_oldest_buffer_and_its_completion_has_every_field() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receiver(3);
    for index in 0..3u32 {
        bench.deliver(&[&DNS]);
        let at = 2048 * u64::from(index);
        assert_eq!(bench.payload(at, 71), [&DNS[..], &[0]].concat());
        let cqe = queue.poll().unwrap();
        let mut expected = [0; 16];
        expected[0] = 0x41; // type 1, client 1
        expected[1] = HASH_UDP_IPV4 | IP_OK | UDP_OK;
        expected[2] = 70;
        expected[4] = cqe[4];
        expected[14] = 32 * index; // bytes
        expected[15] = 0x2000_1403; // owner 1, queue
        assert_eq!(cqe, expected);
        assert_eq!(queue.poll(), None);
    }
    bench.assert_clean();
    let counters = bench.device.counters(0);
    assert_eq!((counters.rx_frames, counters.rx_bytes), (3, 210));
}

/// The first vector of the RSS verification suite: 51ccc178 with ports, 323e8fc2 without.
#[test]
fn the_published_hash_picks_the_queue_of_the_table() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queues = bench.receivers(64, false);
    for queue in &mut queues {
        queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
        queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
        bench.ring(queue);
    }
    let whole = published();
    let mut fragment = whole.clone();
    fragment[20] = 0x20; // more fragments
    fragment[24..26].copy_from_slice(&[0x7d, 0x12]);
    let arp = plain_frame(60);
    bench.deliver(&[&whole, &fragment, &arp]);
    let mut found = Vec::new();
    for (index, queue) in queues.iter_mut().enumerate() {
        found.extend(std::iter::from_fn(|| queue.poll()).map(|cqe| (index, cqe[1], cqe[4])));
    }
    let expected = [
        (0x323e_8fc2 % 64, HASH_IPV4 | IP_OK, 0x323e_8fc2),
        (0x51cc_c178 % 64, HASH_UDP_IPV4 | IP_OK, 0x51cc_c178),
        (63, 0, 0), // the default queue
    ];
    assert_eq!(found, expected);
    bench.assert_clean();
}

#[test]
fn without_rss_everything_goes_to_the_default_queue_without_a_hash() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receiver(1);
    bench.device.configure_vport_rx(
        0,
        Some(Steering {
            table: [queue.ids.wq_id; 64],
            rss: false,
            default: queue.ids.wq_id,
            key: VERIFICATION_KEY,
            coalescing: 1,
            hash_types: ALL_HASHES,
        }),
    );
    bench.deliver(&[&DNS]);
    let cqe = queue.poll().unwrap();
    assert_eq!((cqe[1], cqe[4]), (IP_OK | UDP_OK, 0));
}

#[test]
fn checksums_are_judged_by_what_the_packet_holds() {
    let changed = |packet: &[u8], at: &[(usize, u8)]| {
        let mut frame = packet.to_vec();
        for (at, value) in at {
            frame[*at] = *value;
        }
        frame
    };
    let padded = [&HTTP[..], &[0xAB; 7]].concat();
    let cases = [
        (DNS.to_vec(), HASH_UDP_IPV4 | IP_OK | UDP_OK),
        (HTTP.to_vec(), HASH_TCP_IPV4 | IP_OK | TCP_OK),
        (padded, HASH_TCP_IPV4 | IP_OK | TCP_OK),
        (changed(&DNS, &[(69, 2)]), HASH_UDP_IPV4 | IP_OK | UDP_BAD),
        (changed(&HTTP, &[(61, 9)]), HASH_TCP_IPV4 | IP_OK | TCP_BAD),
        (changed(&HTTP, &[(22, 1)]), HASH_TCP_IPV4 | IP_BAD),
        // A UDP checksum of zero is none.
        (changed(&DNS, &[(40, 0), (41, 0)]), HASH_UDP_IPV4 | IP_OK),
        (plain_frame(60), 0),
    ];
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receiver(8);
    for (frame, expected) in cases {
        bench.deliver(&[&frame]);
        assert_eq!(queue.poll().unwrap()[1], expected, "{frame:02x?}");
    }
    bench.assert_clean();
}

#[test]
fn a_vlan_tag_is_stripped_and_its_id_told() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receiver(2);
    let tagged = [&DNS[..12], &[0x81, 0x00, 0xB1, 0x23], &DNS[12..]].concat();
    bench.deliver(&[&tagged]);
    let cqe = queue.poll().unwrap();
    assert_eq!(cqe[1], 0x123 | VLAN | HASH_UDP_IPV4 | IP_OK | UDP_OK);
    assert_eq!((cqe[2], bench.payload(0, 70)), (70, DNS.to_vec()));
}

#[test]
fn a_frame_that_waits_for_its_buffer_keeps_its_tag() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rx.pcap");
    let tagged = [&DNS[..12], &[0x81, 0x00, 0xB1, 0x23], &DNS[12..]].concat();
    let mut writer = crate::pcap::Writer::create(&path).unwrap();
    for _ in 0..2 {
        writer.write(std::time::Duration::ZERO, &tagged).unwrap();
    }
    drop(writer);
    let mut bench = Bench::new(LinkConfig::Pcap {
        rx: Some(path),
        tx: None,
        pps: None,
    });
    let mut queue = bench.receiver(0);
    for _ in 0..2 {
        for _ in 0..3 {
            bench.run();
            assert_eq!(queue.poll(), None);
        }
        queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
        bench.ring(&queue);
        bench.run();
        let cqe = queue.poll().unwrap();
        assert_eq!((cqe[1] & 0x1FFF, cqe[2]), (0x123 | VLAN, 70));
    }
    assert!(bench.links.drained() && bench.device.idle());
    assert_eq!(bench.device.counters(0).rx_no_buffer, 0);
}

#[test]
fn up_to_four_packets_of_the_same_flags_share_a_completion() {
    for (most, expected) in [
        (4, vec![4, 2, 1, 1]),
        (2, vec![2, 2, 2, 1, 1]),
        (1, vec![1; 8]),
    ] {
        let mut bench = Bench::with(&[LinkConfig::Sink { capture: false }], |config| {
            config.coalescing = most;
        });
        let mut queue = bench.receivers(1, true).remove(0);
        for _ in 0..8 {
            queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
        }
        bench.ring(&queue);
        let sizes = [60, 61, 62, 63, 64, 65];
        let frames: Vec<_> = sizes.into_iter().map(plain_frame).collect();
        let mut list: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        list.extend([&DNS[..], &HTTP[..]]);
        bench.deliver(&list);
        let mut lengths = Vec::new();
        for count in expected {
            let cqe = queue.poll().unwrap();
            let packets = packets(&cqe);
            assert_eq!(packets.len(), count);
            let cqe_type = if count == 1 { OKAY } else { COALESCED_4 };
            assert_eq!(cqe[0], cqe_type | 0x40);
            lengths.extend(packets.iter().map(|(len, _)| *len));
            // §2.2: the position of the last WQE, as bytes.
            assert_eq!(cqe[14], 32 * (lengths.len() as u32 - 1));
        }
        assert_eq!(lengths, [60, 61, 62, 63, 64, 65, 70, 62]);
        assert_eq!(queue.poll(), None);
    }
}

/// §3.6: "48 B = 4 × 12 B, each covering two packets: {hash0 u32, len0 u16, len1 u16, hash1 u32}".
#[test]
fn up_to_eight_packets_share_a_completion_of_type_7_where_that_is_negotiated() {
    let mut bench = Bench::with(&[LinkConfig::Sink { capture: false }], |config| {
        config.coalescing = 8;
    });
    let mut queue = bench.receivers(1, true).remove(0);
    for _ in 0..12 {
        queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
    }
    bench.ring(&queue);
    let whole = published();
    let frames: Vec<_> = (0..11)
        .map(|more| [&whole[..], &[0; 10][..more % 10]].concat())
        .collect();
    let list: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    bench.deliver(&list);
    let cqe = queue.poll().unwrap();
    let (length, hash) = (whole.len() as u32, 0x51cc_c178);
    assert_eq!((cqe[0], cqe[14]), (0x40 | 7, 32 * 7));
    for pair in 0..4 {
        let first = length + 2 * pair;
        let at = 2 + 3 * pair as usize;
        assert_eq!(cqe[at..at + 3], [hash, first | ((first + 1) << 16), hash]);
    }
    // An odd number: the last place is empty.
    let cqe = queue.poll().unwrap();
    let expected = [
        0x40 | 7,
        HASH_UDP_IPV4 | IP_OK,
        hash,
        (length + 8) | ((length + 9) << 16),
        hash,
        hash,
        length,
        0,
    ];
    assert_eq!(cqe[..8], expected);
    // A single one needs no list.
    bench.deliver(&[&whole]);
    let cqe = queue.poll().unwrap();
    assert_eq!((cqe[0], cqe[2], cqe[4]), (0x40 | 1, length, hash));
    assert_eq!(queue.poll(), None);
}

#[test]
fn a_packet_is_scattered_over_its_segments_around_ring_and_page_ends() {
    for segments in [1u32, 2, 3, 14, 15] {
        let mut bench = Bench::new(LinkConfig::Sink { capture: false });
        let mut queue = bench.receivers(1, false).remove(0);
        let frame = plain_frame(4000);
        let size = 4000u32.div_ceil(segments);
        let list: Vec<_> = (0..segments)
            .map(|index| (ADDRESS + 3000 + u64::from(index * size), bench.key, size))
            .collect();
        while queue.written < 3 * RING {
            queue.post(&receive_wqe(&list));
            bench.ring(&queue);
            bench.put(3000, &[0xEE; 4000]);
            bench.deliver(&[&frame]);
            assert_eq!(queue.types(), [OKAY]);
            assert_eq!(bench.payload(3000, 4000), frame);
        }
        bench.assert_clean();
    }
}

#[test]
fn a_packet_beyond_its_buffers_is_lost_with_one_wqe() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receivers(1, true).remove(0);
    let two = [(ADDRESS, bench.key, 40), (ADDRESS + 100, bench.key, 24)];
    for _ in 0..4 {
        queue.post(&receive_wqe(&two));
    }
    bench.ring(&queue);
    let frames = [64, 64, 65, 64].map(plain_frame);
    bench.deliver(&frames.each_ref().map(Vec::as_slice));
    assert_eq!(queue.types(), [COALESCED_4, TRUNCATED, OKAY]);
    // Behind the second segment nothing was written.
    assert_eq!(bench.payload(124, 8), [0; 8]);
    assert_eq!(bench.device.counters(0).rx_truncated, 1);
    bench.assert_clean();
}

#[test]
fn truncation_can_be_ordered() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let mut queue = bench.receiver(3);
    bench
        .device
        .inject(0, &Fault::RxTruncated { port: 0, nth: 2 });
    bench.deliver(&[&DNS, &DNS, &DNS]);
    assert_eq!(queue.types(), [OKAY, TRUNCATED, OKAY]);
    bench.assert_clean();
}

#[test]
fn without_a_buffer_frames_of_a_wire_are_counted_and_lost() {
    let mut bench = Bench::new(LinkConfig::Loop);
    let mut queue = bench.receiver(2);
    bench.deliver(&[&DNS[..]; 5]);
    assert_eq!(queue.types(), [OKAY, OKAY]);
    assert_eq!(bench.device.counters(0).rx_no_buffer, 3);
    bench.assert_clean();
}

#[test]
fn a_generator_without_rate_waits_for_buffers() {
    let count = Some(100);
    let mut bench = Bench::new(LinkConfig::Gen(GenConfig {
        count,
        ..GenConfig::default()
    }));
    let mut queue = bench.receiver(0);
    let mut received = 0;
    while received < 100 {
        for _ in 0..7 {
            queue.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
        }
        bench.ring(&queue);
        bench.run();
        let types = queue.types();
        assert!(types.iter().all(|cqe_type| *cqe_type == OKAY) && !types.is_empty());
        received += types.len();
    }
    assert_eq!(bench.device.counters(0).rx_frames, 100);
    assert_eq!(bench.device.counters(0).rx_no_buffer, 0);
    assert!(bench.links.drained());
    bench.assert_clean();
}

#[test]
fn a_queue_that_is_gone_receives_nothing_even_from_an_endless_source() {
    let mut bench = Bench::new(LinkConfig::Gen(GenConfig::default()));
    let queue = bench.receiver(2);
    let id = queue.ids.wq_id;
    bench.device.destroy_receive_queue(id);
    for _ in 0..3 {
        bench.device.step(&mut bench.links, 0);
    }
    // Its place is taken by a queue that the table does not name.
    let mut successor = bench.queue(0, DoorbellKind::Receive);
    successor.post(&receive_wqe(&[(ADDRESS, bench.key, 2048)]));
    bench.ring(&successor);
    bench.device.step(&mut bench.links, 0);
    assert_eq!(successor.poll(), None);
    assert_eq!(bench.device.counters(0).rx_frames, 0);
}

#[test]
fn memory_that_may_not_be_written_is_left_alone() {
    let mut bench = Bench::new(LinkConfig::Sink { capture: false });
    let space = DmaSpace::Shuffled(bench.memory.clone());
    let read_only = bench.device.mrs.add(bench.pd, ADDRESS, 0, space);
    let mut queue = bench.receivers(1, false).remove(0);
    queue.post(&receive_wqe(&[(ADDRESS, read_only, 2048)]));
    queue.post(&receive_wqe(&[(ADDRESS + RING - 32, bench.key, 64)]));
    bench.ring(&queue);
    bench.deliver(&[&DNS, &DNS]);
    let expected = [FindingKind::MemoryAccess, FindingKind::MemoryBounds];
    assert_eq!(bench.kinds(), expected);
    assert_eq!(bench.payload(0, 64), [0; 64]);
    assert_eq!(bench.payload(RING - 32, 32), [0; 32]);
    assert_eq!(queue.types(), [TRUNCATED, TRUNCATED]);
}

#[test]
fn frames_that_come_while_reception_is_off_are_counted() {
    let mut bench = Bench::new(LinkConfig::Loop);
    let mut queue = bench.receiver(2);
    bench.deliver(&[&DNS]);
    bench.device.configure_vport_rx(0, None);
    bench.deliver(&[&DNS, &DNS]);
    assert_eq!(bench.device.counters(0).rx_disabled, 2);
    assert_eq!(queue.types(), [OKAY]);
}

#[test]
fn a_frame_longer_than_a_completion_can_count_is_truncated() {
    let mut bench = Bench::with(&[LinkConfig::Loop], |config| {
        config.ports[0].adapter_mtu = 65_535;
    });
    let mut queue = bench.receivers(1, false).remove(0);
    // Fifteen segments over the same memory, 16 KiB each: buffer enough.
    queue.post(&receive_wqe(&[(ADDRESS, bench.key, RING as u32); 15]));
    bench.ring(&queue);
    bench.deliver(&[&plain_frame(65_536)]);
    assert_eq!(queue.types(), [TRUNCATED]);
}
