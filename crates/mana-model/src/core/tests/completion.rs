//! Owner bits, arming, and the laps of a completion queue (reference/mana-hardware.md §2.6, §2.8).

use super::*;

/// A capturing bench, a send queue, and the segment of a packet.
fn sender() -> (Bench, Queue, Segment) {
    let mut bench = Bench::capturing();
    let queue = bench.sender();
    let segment = (bench.put(0, &plain_frame(60)), bench.key, 60);
    (bench, queue, segment)
}

fn complete(bench: &mut Bench, queue: &mut Queue, segment: Segment, count: usize) {
    for _ in 0..count {
        queue.post(&queue.short_wqe(0, 0, segment));
    }
    bench.send(queue);
}

/// Rings the CQ's doorbell with what the driver has read.
fn tell(bench: &mut Bench, queue: &Queue, arm: bool) {
    let value = queue.cq_value(arm);
    bench
        .device
        .doorbell(CONTEXT, DoorbellKind::Completion, queue.ids.cq_id, value);
}

#[test]
fn owner_bits_are_the_lap_modulo_eight() {
    let (mut bench, mut queue, segment) = sender();
    for lap in 1..=17u32 {
        for _ in 0..4 {
            complete(&mut bench, &mut queue, segment, 64);
            let owners: Vec<_> = std::iter::from_fn(|| queue.poll())
                .map(|cqe| cqe[15] >> 29)
                .collect();
            assert_eq!(owners, [lap % 8; 64]);
        }
        tell(&mut bench, &queue, false);
    }
    bench.assert_clean();
}

#[test]
fn a_cq_is_born_armed_and_fires_once() {
    let (mut bench, mut queue, segment) = sender();
    assert_eq!(bench.device.take_cq_events(), []);
    complete(&mut bench, &mut queue, segment, 3);
    assert_eq!(bench.device.take_cq_events(), [queue.ids.cq_id]);
    complete(&mut bench, &mut queue, segment, 3);
    assert_eq!(bench.device.take_cq_events(), []);
}

#[test]
fn an_armed_cq_fires_with_the_next_completion_and_an_unarmed_one_does_not() {
    let (mut bench, mut queue, segment) = sender();
    complete(&mut bench, &mut queue, segment, 1);
    bench.device.take_cq_events();
    for arm in [true, false, true] {
        queue.types();
        tell(&mut bench, &queue, arm);
        assert_eq!(bench.device.take_cq_events(), []);
        complete(&mut bench, &mut queue, segment, 2);
        let expected = if arm { vec![queue.ids.cq_id] } else { vec![] };
        assert_eq!(bench.device.take_cq_events(), expected);
    }
    // An unarmed doorbell takes the arm back.
    queue.types();
    tell(&mut bench, &queue, true);
    tell(&mut bench, &queue, false);
    complete(&mut bench, &mut queue, segment, 1);
    assert_eq!(bench.device.take_cq_events(), []);
    bench.assert_clean();
}

#[test]
fn arming_with_entries_unread_fires_at_once() {
    let (mut bench, mut queue, segment) = sender();
    complete(&mut bench, &mut queue, segment, 3);
    bench.device.take_cq_events();
    queue.poll();
    tell(&mut bench, &queue, true);
    assert_eq!(bench.device.take_cq_events(), [queue.ids.cq_id]);
    queue.types();
    complete(&mut bench, &mut queue, segment, 1);
    assert_eq!(bench.device.take_cq_events(), [], "the arm is spent");
}

#[test]
fn eight_laps_without_a_doorbell_are_a_finding_and_fewer_are_not() {
    let (mut bench, mut queue, segment) = sender();
    for _ in 0..8 * 4 {
        complete(&mut bench, &mut queue, segment, 64);
        queue.types();
    }
    bench.assert_clean();
    complete(&mut bench, &mut queue, segment, 1);
    assert_eq!(bench.kinds(), [FindingKind::CqDoorbellOverdue]);
}

#[test]
fn a_consumer_ahead_of_the_device_or_beyond_eight_laps_is_a_finding() {
    for tail in [256 + 3, 8 * 256, 255] {
        let (mut bench, mut queue, segment) = sender();
        complete(&mut bench, &mut queue, segment, 2);
        let value = u64::from(queue.ids.cq_id) | tail << 32;
        bench
            .device
            .doorbell(CONTEXT, DoorbellKind::Completion, queue.ids.cq_id, value);
        assert_eq!(bench.kinds(), [FindingKind::CqAhead], "{tail}");
    }
}

/// §2.8: "n > count → overflow; OpenVMM notes that real hardware then does not notify."
#[test]
fn a_consumer_more_than_a_ring_behind_has_lost_entries() {
    let (mut bench, mut queue, segment) = sender();
    complete(&mut bench, &mut queue, segment, 1);
    bench.device.take_cq_events();
    for _ in 0..4 {
        complete(&mut bench, &mut queue, segment, 64);
    }
    // 257 entries were written, none was read.
    tell(&mut bench, &queue, true);
    assert_eq!(bench.kinds(), [FindingKind::CqOverflow]);
    assert_eq!(bench.device.take_cq_events(), []);
}

#[test]
fn a_garbled_completion_keeps_queue_and_owner() {
    let (mut bench, mut queue, segment) = sender();
    let fault = crate::faults::Fault::GarbageCqe { port: 0, nth: 2 };
    bench.device.inject(0, &fault);
    complete(&mut bench, &mut queue, segment, 3);
    // `poll` checks queue, kind and owner.
    let cqes: Vec<_> = std::iter::from_fn(|| queue.poll()).collect();
    assert_eq!(cqes.len(), 3);
    assert_ne!(cqes[1][..15], cqes[0][..15]);
    assert_eq!((cqes[0][0], cqes[2][0]), (0x60, 0x60));
}

#[test]
fn a_lost_completion_leaves_no_gap() {
    let (mut bench, mut queue, segment) = sender();
    let fault = crate::faults::Fault::LostCqe { port: 0, nth: 2 };
    bench.device.inject(0, &fault);
    complete(&mut bench, &mut queue, segment, 3);
    let cqes: Vec<_> = std::iter::from_fn(|| queue.poll()).collect();
    // Position 1 is not told.
    let positions: Vec<_> = cqes.iter().map(|cqe| cqe[2]).collect();
    assert_eq!(positions, [0, 64]);
    assert_eq!(bench.device.counters(0).tx_frames, 3);
    bench.assert_clean();
}
