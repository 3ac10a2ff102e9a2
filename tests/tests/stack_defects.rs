//! Defects of the driver in C, as an application meets them (reference/mana-hardware.md §8, whose
//! numbers are in the names). What takes ours through the same: `docs/c-pmd-defects.md`. A release of DPDK
//! that mends one fails its test here, which then has to go.

#![forbid(unsafe_code)]

use conformance::packets::{Kind, frame};
use conformance::stack::{Ethdev, Outcome, Stack};
use mana_model::{Fault, FindingKind};
use uverbs_abi::Errno;

/// What the port sends is kept.
const MODEL: &str = "model0,link=sink:keep";
/// Buffers of each pool, where no test says otherwise.
const BUFFERS: i64 = 1000;
/// One segment more than any device of this kind takes.
const TOO_MANY: i64 = 31;

/// The program with its port open; `None` where the test was skipped.
#[track_caller]
fn opened(test: &str, model: &str, options: &str) -> Option<Ethdev> {
    Ethdev::start(&Stack::or_skip(test)?, test, model, options)
}

/// The same with its port started.
#[track_caller]
fn started(test: &str, model: &str, options: &str) -> Option<Ethdev> {
    let mut program = opened(test, model, options)?;
    assert_eq!(program.number("start"), 0);
    Some(program)
}

/// The numbers that the program gave the frames that left since the last call.
#[track_caller]
fn left(program: &Ethdev) -> Vec<u8> {
    let frames = program.model().port(0).take_tx_frames();
    let frames = frames.expect("the model answers");
    frames.iter().map(|frame| frame[14]).collect()
}

/// Ends it and asserts that the model found nothing.
#[track_caller]
fn end_clean(program: Ethdev) -> Outcome {
    let outcome = program.end();
    assert!(outcome.findings.is_empty(), "{outcome:?}");
    assert_eq!(outcome.ended.code, Some(0), "{}", outcome.ended);
    outcome
}

/// The steering shows that there is a hash: it decides where packets arrive.
#[test]
fn defect_1_no_packet_has_the_hash_by_which_it_was_steered() {
    let test = "defect_1_no_packet_has_the_hash_by_which_it_was_steered";
    let Some(mut program) = started(test, MODEL, "queues=4") else {
        return;
    };
    let mut arrived = [0; 4];
    for flow in 0..40 {
        program.deliver(&frame(Kind::UdpV4, flow, flow, 80));
        for (queue, arrived) in arrived.iter_mut().enumerate() {
            let answer = program.ask(&format!("receive {queue}"));
            *arrived += answer.numbers[0];
            assert!(!answer.lines.join(" ").contains("hash"), "{answer:?}");
        }
    }
    assert_eq!(arrived.iter().sum::<i64>(), 40);
    assert!(arrived.iter().all(|&count| count > 0), "{arrived:?}");
    end_clean(program);
}

/// Asserts that a burst of a packet, one that can't be sent and two more is said to be three, and that
/// the application that goes by it loses the second, and has the last while it is sent: both were told
/// the opposite. `lost` are the buffers of the second.
#[track_caller]
fn skips(test: &str, bad: &str, lost: i64) {
    let Some(mut program) = started(test, MODEL, "") else {
        return;
    };
    assert_eq!(program.number(&format!("send p1x1 {bad} p2x1")), 3);
    assert_eq!(left(&program), [0, 2, 3]);
    // Looks for completions.
    assert_eq!(program.number("send"), 0);
    let counted = program.ask("counters").numbers;
    assert_eq!(counted, [0, 0, 3, 0]);
    // The last packet's buffer was freed by both, and is in the pool twice.
    let taken = program.ask("take sent").numbers;
    assert_eq!(taken, [BUFFERS - lost + 1, 1]);
    end_clean(program);
}

#[test]
fn defect_3_a_packet_of_too_many_segments_is_skipped_and_counted_as_sent() {
    skips(
        "defect_3_a_packet_of_too_many_segments_is_skipped_and_counted_as_sent",
        &format!("p1x{TOO_MANY}"),
        TOO_MANY,
    );
}

#[test]
fn defect_23_a_packet_over_memory_of_its_own_is_skipped_and_counted_as_sent() {
    skips(
        "defect_23_a_packet_over_memory_of_its_own_is_skipped_and_counted_as_sent",
        "e1x1",
        1,
    );
}

#[test]
fn defect_23_a_clone_of_another_pools_packet_is_skipped_and_counted_as_sent() {
    skips(
        "defect_23_a_clone_of_another_pools_packet_is_skipped_and_counted_as_sent",
        "c1x1",
        1,
    );
}

/// Sends one packet, which must be lost; what the model found.
#[track_caller]
fn loses(mut program: Ethdev, packet: &str) -> String {
    assert_eq!(program.number(&format!("send {packet}")), 1);
    assert!(left(&program).is_empty());
    assert_eq!(program.number("send"), 0);
    assert_eq!(program.ask("counters").numbers, [0, 0, 0, 1]);
    let findings = program.model().take_findings().expect("the model answers");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].kind, FindingKind::Oob, "{findings:?}");
    end_clean(program);
    findings[0].to_string()
}

/// The program has filled its stack with ones before.
#[test]
fn defect_4_an_oob_has_the_bits_that_the_stack_had() {
    let test = "defect_4_an_oob_has_the_bits_that_the_stack_had";
    let Some(program) = started(test, MODEL, "") else {
        return;
    };
    let finding = loses(program, "v1x1");
    // The long OOB: tag 0x123 and the bits that say so, all others ones.
    let oob = "0xffffffff1230ffff 0xffffffffffffffff";
    assert!(finding.contains(oob), "{finding}");
}

#[test]
fn defect_5_a_port_of_a_high_vport_offset_sends_nothing() {
    let test = "defect_5_a_port_of_a_high_vport_offset_sends_nothing";
    let model = format!("{MODEL},vport-offset=2302");
    let Some(program) = started(test, &model, "") else {
        return;
    };
    let finding = loses(program, "p1x1");
    assert!(finding.contains("not the vPort's offset"), "{finding}");
}

#[test]
fn defect_6_a_burst_that_fills_the_ring_is_the_queues_last() {
    let test = "defect_6_a_burst_that_fills_the_ring_is_the_queues_last";
    let Some(mut program) = started(test, MODEL, "descriptors=128") else {
        return;
    };
    // Two units of the ring each.
    assert_eq!(program.number("send p100x2"), 64);
    assert_eq!(left(&program).len(), 64);
    for _ in 0..5 {
        assert_eq!(program.number("send p1x1"), 0);
    }
    // All have left, none is known to have, and their buffers never come back.
    assert_eq!(program.ask("counters").numbers, [0, 0, 0, 0]);
    assert_eq!(program.number("away"), 128);
    end_clean(program);
}

#[test]
fn defect_6_a_burst_that_ends_with_a_bad_packet_does_not_complete() {
    let test = "defect_6_a_burst_that_ends_with_a_bad_packet_does_not_complete";
    let Some(mut program) = started(test, MODEL, "") else {
        return;
    };
    assert_eq!(program.number(&format!("send p1x1 p1x{TOO_MANY}")), 1);
    assert_eq!(left(&program), [0]);
    assert_eq!(program.number("send"), 0);
    assert_eq!(program.number("away"), 1);
    // Until another burst ends better.
    assert_eq!(program.number("send p1x1"), 1);
    assert_eq!(program.number("send"), 0);
    assert_eq!(program.number("away"), 0);
    end_clean(program);
}

#[test]
fn defect_7_after_an_error_completion_each_is_taken_for_an_earlier_packets() {
    let test = "defect_7_after_an_error_completion_each_is_taken_for_an_earlier_packets";
    let Some(mut program) = started(test, MODEL, "") else {
        return;
    };
    let fault = Fault::TxError {
        port: 0,
        sq: None,
        cqe_type: 33,
        nth: 4,
    };
    program.model().inject(fault).expect("the model takes it");
    assert_eq!(program.number("send p4x1"), 4);
    assert_eq!(left(&program), [0, 1, 2]);
    // All four are done; the driver takes the fourth's completion for the first's.
    assert_eq!(program.number("send"), 0);
    assert_eq!(program.number("away"), 3);
    assert_eq!(program.ask("counters").numbers, [0, 0, 0, 1]);
    // And so on, as long as the queue lives.
    for sent in 1..=5 {
        assert_eq!(program.number("send p1x1"), 1);
        assert_eq!(program.number("send"), 0);
        assert_eq!(program.number("away"), 1);
        let counted = program.ask("counters").numbers;
        assert_eq!(counted, [0, 0, 2 + sent, 1]);
        assert_eq!(left(&program).len(), 1);
    }
    end_clean(program);
}

#[test]
fn defect_8_a_failed_registration_frees_a_receive_buffer_twice() {
    let test = "defect_8_a_failed_registration_frees_a_receive_buffer_twice";
    let Some(mut program) = opened(test, MODEL, "") else {
        return;
    };
    // Behind six that make the queues (reference/uverbs-boundary.md §2).
    let fault = Fault::FailOperation {
        nth: 7,
        errno: Errno::ENOMEM,
    };
    program.model().inject(fault).expect("the model takes it");
    assert_eq!(program.number("start"), -12);
    assert_eq!(program.ask("take received").numbers, [BUFFERS + 1, 1]);
    let outcome = end_clean(program);
    let said = "failed to register RX MR";
    assert!(outcome.ended.stderr.contains(said), "{}", outcome.ended);
}

/// Opens a port of two queues and fails an operation of its start; the program, and how many queue
/// pairs, completion queues and work queues are left.
#[track_caller]
fn start_fails(test: &str, nth: u64) -> Option<(Ethdev, [usize; 3])> {
    let mut program = opened(test, MODEL, "queues=2")?;
    let errno = Errno::ENOMEM;
    let fault = Fault::FailOperation { nth, errno };
    program.model().inject(fault).expect("the model takes it");
    assert_eq!(program.number("start"), -12);
    let objects = program.model().objects().expect("the model answers");
    Some((program, [objects.qps, objects.cqs, objects.wqs]))
}

/// The second send queue has its completion queue.
#[test]
fn defect_12_after_a_start_that_failed_at_a_send_queue_no_start_works() {
    let test = "defect_12_after_a_start_that_failed_at_a_send_queue_no_start_works";
    let Some((mut program, left)) = start_fails(test, 4) else {
        return;
    };
    assert_eq!(left, [1, 2, 0]);
    // EINVAL: the first is started.
    for _ in 0..3 {
        assert_eq!(program.number("start"), -22);
    }
    end_clean(program);
}

/// The second receive queue has its completion queue.
#[test]
fn defect_12_a_start_that_failed_at_a_receive_queue_leaves_all_of_them() {
    let test = "defect_12_a_start_that_failed_at_a_receive_queue_leaves_all_of_them";
    let Some((program, left)) = start_fails(test, 8) else {
        return;
    };
    assert_eq!(left, [0, 2, 1]);
    end_clean(program);
}

#[test]
fn defect_9_after_a_shortage_of_buffers_nothing_is_received_any_more() {
    let test = "defect_9_after_a_shortage_of_buffers_nothing_is_received_any_more";
    let Some(mut program) = started(test, MODEL, "descriptors=128 buffers=256") else {
        return;
    };
    assert_eq!(program.ask("take received").numbers, [128, 0]);
    for seed in 0..128 {
        program.deliver(&frame(Kind::UdpV4, 1, seed, 80));
    }
    assert_eq!(program.number("hold"), 0);
    assert_eq!(program.ask("receive 0").numbers, [128]);
    // Now there are buffers for all descriptors and as many again.
    assert_eq!(program.number("release"), 0);
    for seed in 0..10 {
        program.deliver(&frame(Kind::UdpV4, 1, seed, 80));
        assert_eq!(program.ask("receive 0").numbers, [0]);
    }
    let model = program.model().port(0).counters().expect("the model");
    assert_eq!((model.rx_frames, model.rx_no_buffer), (128, 10));
    end_clean(program);
}

#[test]
fn defect_11_buffers_smaller_than_the_mtu_are_taken_and_its_packets_lost() {
    let test = "defect_11_buffers_smaller_than_the_mtu_are_taken_and_its_packets_lost";
    let Some(mut program) = started(test, MODEL, "room=1024") else {
        return;
    };
    assert_eq!(program.number("mtu"), 1500);
    program.deliver(&frame(Kind::UdpV4, 1, 1, 1514));
    assert_eq!(program.ask("receive 0").numbers, [0]);
    assert_eq!(program.ask("counters").numbers, [0, 1, 0, 0]);
    let model = program.model().port(0).counters().expect("the model");
    assert_eq!(model.rx_truncated, 1);
    end_clean(program);
}

#[test]
fn defect_46_a_tag_put_back_has_lost_its_priority() {
    let test = "defect_46_a_tag_put_back_has_lost_its_priority";
    let Some(mut program) = started(test, MODEL, "strip=0") else {
        return;
    };
    let mut tagged = frame(Kind::UdpV4, 1, 1, 80);
    // Priority 5, may be dropped, VLAN 0x123.
    tagged.splice(12..12, [0x81, 0x00, 0xB1, 0x23]);
    program.deliver(&tagged);
    let answer = program.ask("receive 0");
    assert_eq!(answer.numbers, [1]);
    let (_, bytes) = answer.lines[0].split_once("bytes ").expect("bytes");
    assert_eq!(&bytes[24..36], "810001230800", "{answer:?}");
    end_clean(program);
}
