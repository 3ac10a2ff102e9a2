//! Segmentation (reference/mana-hardware.md §3.3).

use super::*;

/// Types of §3.4.
const OKAY: u32 = 32;
const MTU_DROP: u32 = 34;
const INVALID_OOB: u32 = 35;
const HDR_PROCESSING_ERROR: u32 = 37;
const GDMA_ERR: u32 = 42;
/// Bits of the OOB's first byte (§3.1).
const IPV4: u8 = 1 << 2;
const IP_CHECKSUM: u8 = 1 << 4;
const TCP_CHECKSUM: u8 = 1 << 5;
const SUPPRESS: u8 = 1 << 7;
/// Of the IPv4 header.
const UDP_PROTOCOL: u8 = 17;

/// The header of a WQE of [`wqe`] with what §2.3 and §3.3 say of segmentation: `last_vbytes`,
/// `client_oob_in_sgl` and `client_data_unit`.
fn segmented(mut wqe: Vec<u8>, header: u8, mss: u16) -> Vec<u8> {
    wqe[3] = header;
    wqe[5] |= 1 << 3;
    wqe[6..8].copy_from_slice(&mss.to_le_bytes());
    wqe
}

/// The SYN of http.cap as what a driver hands over: no lengths, no checksums, 8 bytes of payload
/// more, the sum of the pseudo-header without a length in the checksum field.
fn to_be_cut() -> Vec<u8> {
    let mut packet = HTTP.to_vec();
    packet.extend(*b"payload!");
    packet[16..18].fill(0);
    packet[24..26].fill(0);
    // 91fe + a0ed + 41d0 + e4df + 6, folded.
    packet[50..52].copy_from_slice(&[0x59, 0xa2]);
    packet[47] = 0x99; // CWR, ACK, PSH, FIN
    packet
}

const SEGMENTED: u8 = IPV4 | IP_CHECKSUM | TCP_CHECKSUM;

/// §3.3 "TSO in the Linux driver"; the checksums were computed elsewhere, from RFC 1071 alone.
#[test]
fn a_packet_is_cut_into_frames_with_headers_of_their_own() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let packet = to_be_cut();
    let address = bench.put(0, &packet);
    let segments = [
        (address, bench.key, 62),
        (address + 62, bench.key, 3),
        (address + 65, bench.key, 5),
    ];
    let plain = wqe(&queue.short_oob(SEGMENTED, 34), &segments);
    queue.post(&segmented(plain, 62, 3));
    let frames = bench.send(&queue);
    assert_eq!(queue.types(), [OKAY]);
    let payloads: Vec<_> = frames.iter().map(|frame| &frame[62..]).collect();
    assert_eq!(payloads, [&b"pay"[..], b"loa", b"d!"]);
    let flags: Vec<_> = frames.iter().map(|frame| frame[47]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
    let ids: Vec<_> = frames.iter().map(|frame| frame[18..20].to_vec()).collect();
    assert_eq!(ids, [[0x0f, 0x41], [0x0f, 0x42], [0x0f, 0x43]]);
    let sequence: Vec<_> = frames.iter().map(|frame| frame[38..42].to_vec()).collect();
    assert_eq!(
        sequence,
        [
            [0x38, 0xaf, 0xfe, 0x13],
            [0x38, 0xaf, 0xfe, 0x16],
            [0x38, 0xaf, 0xfe, 0x19]
        ]
    );
    let lengths: Vec<_> = frames.iter().map(|frame| frame[16..18].to_vec()).collect();
    assert_eq!(lengths, [[0, 51], [0, 51], [0, 50]]);
    let field = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let checksums: Vec<_> = frames
        .iter()
        .map(|frame| (field(frame, 24), field(frame, 50)))
        .collect();
    assert_eq!(
        checksums,
        [(0x91e8, 0xd919), (0x91e7, 0xf588), (0x91e7, 0x5ecc)]
    );
    bench.assert_clean();
}

/// §3.3 "Violations": the queue stops.
#[test]
fn a_segmentation_that_breaks_the_rules_stops_the_queue() {
    let packet = to_be_cut();
    for (sizes, header, mss) in [
        (&[70][..], 70, 3),
        (&[62, 8], 61, 3),
        (&[61, 9], 62, 3),
        (&[62, 8], 62, 0),
        (&[256, 8], 0, 3),
    ] {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let address = bench.put(0, &packet);
        let segments: Vec<Segment> = sizes
            .iter()
            .map(|size| (address, bench.key, *size))
            .collect();
        let plain = wqe(&queue.short_oob(SEGMENTED | SUPPRESS, 34), &segments);
        queue.post(&segmented(plain.clone(), header, mss));
        queue.post(&segmented(plain, 62, 3));
        assert!(bench.send(&queue).is_empty());
        assert_eq!(queue.types(), [GDMA_ERR], "{sizes:?}");
        assert_eq!(bench.kinds(), [FindingKind::Segmentation]);
    }
}

#[test]
fn a_segmentation_that_does_not_fit_the_packet_is_a_finding() {
    let spoil = |at: usize, value: u8| {
        let mut packet = to_be_cut();
        packet[at] = value;
        packet
    };
    let cases = [
        (spoil(17, 56), SEGMENTED, 34),
        (spoil(23, UDP_PROTOCOL), SEGMENTED, 34),
        (spoil(46, 0x60), SEGMENTED, 34),
        (spoil(20, 0x20), SEGMENTED, 34),
        (spoil(13, 0x06), SEGMENTED, 34),
        (spoil(14, 0x46), SEGMENTED, 34),
        (to_be_cut(), SEGMENTED, 38),
        (to_be_cut(), IPV4 | TCP_CHECKSUM, 34),
        (to_be_cut(), IPV4 | IP_CHECKSUM, 34),
        (to_be_cut(), IP_CHECKSUM | TCP_CHECKSUM, 34),
        (to_be_cut(), SEGMENTED | 1 << 3, 34),
    ];
    for (number, (packet, flags, trans_off)) in cases.into_iter().enumerate() {
        let mut bench = Bench::capturing();
        let mut queue = bench.sender();
        let address = bench.put(0, &packet);
        let segments = [(address, bench.key, 62), (address + 62, bench.key, 8)];
        let plain = wqe(&queue.short_oob(flags, trans_off), &segments);
        queue.post(&segmented(plain, 62, 3));
        assert!(bench.send(&queue).is_empty());
        assert_eq!(queue.types(), [HDR_PROCESSING_ERROR], "case {number}");
        assert_eq!(bench.kinds(), [FindingKind::Segmentation], "case {number}");
    }
    // An MSS alone means nothing.
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let address = bench.put(0, &to_be_cut());
    let mut plain = queue.short_wqe(0, 0, (address, bench.key, 70));
    plain[6] = 9;
    queue.post(&plain);
    assert!(bench.send(&queue).is_empty());
    assert_eq!(queue.types(), [INVALID_OOB]);
    assert_eq!(bench.kinds(), [FindingKind::Segmentation]);
}

#[test]
fn frames_cut_beyond_the_adapters_mtu_are_dropped() {
    let mut bench = Bench::capturing();
    let mut queue = bench.sender();
    let mut packet = to_be_cut();
    packet.resize(62 + 9000, 7);
    let address = bench.put(0, &packet);
    let segments = [(address, bench.key, 62), (address + 62, bench.key, 9000)];
    for (mss, types) in [(8953, MTU_DROP), (8952, OKAY)] {
        let plain = wqe(&queue.short_oob(SEGMENTED, 34), &segments);
        queue.post(&segmented(plain, 62, mss));
        let lengths: Vec<_> = bench.send(&queue).iter().map(Vec::len).collect();
        assert_eq!(queue.types(), [types]);
        assert!(types != OKAY || lengths == [9014, 62 + 48]);
    }
    bench.assert_clean();
}
