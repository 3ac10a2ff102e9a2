//! The driver in C sleeps until a packet comes: DPDK's receive interrupts on the model.

#![forbid(unsafe_code)]

use conformance::packets::{Kind, frame};
use conformance::stack::{Column, Ethdev, Stack, cell};

const QUEUES: i64 = 4;
/// Milliseconds in which nothing comes.
const NOTHING: i64 = 50;

/// Sleeps for [`NOTHING`], and asserts that it was a sleep: no queue woke it, and no CPU was kept
/// busy.
#[track_caller]
fn sleep_over_nothing(program: &mut Ethdev) {
    let answer = program.ask(&format!("sleep {NOTHING}"));
    let [woken, wall, cpu] = answer.numbers[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(woken, 0, "{answer:?}");
    assert!(wall >= NOTHING * 1000 && cpu < wall / 2, "{answer:?}");
}

/// Lets a packet wake it out of a sleep without end; the queue.
#[track_caller]
fn wake(program: &mut Ethdev, frame: &[u8]) -> i64 {
    program.type_line("sleep -1");
    program.wait_for_sleep();
    program.deliver(frame);
    woken(program)
}

/// The queue that ended a sleep.
#[track_caller]
fn woken(program: &mut Ethdev) -> i64 {
    let answer = program.answer("an end of the sleep");
    assert_eq!(answer.numbers[0], 1, "{answer:?}");
    let queue = answer.lines.last().expect("the queue");
    let queue = queue.strip_prefix("queue ").and_then(|n| n.parse().ok());
    queue.expect("its number")
}

/// Receives the only packet that is there, which must be `frame`.
#[track_caller]
fn receive(program: &mut Ethdev, queue: i64, frame: &[u8]) {
    let answer = program.ask(&format!("receive {queue}"));
    assert_eq!(answer.numbers, [1], "{answer:?}");
    let bytes: String = frame[..18].iter().map(|b| format!("{b:02x}")).collect();
    let expected = format!("packet {} bytes {bytes}", frame.len());
    assert_eq!(answer.lines, [expected]);
}

#[test]
fn the_driver_in_c_is_woken_by_packets_that_it_asked_for_and_by_nothing_else() {
    let test = "the_driver_in_c_is_woken_by_packets_that_it_asked_for_and_by_nothing_else";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let options = format!("queues={QUEUES} interrupts=1");
    let Some(mut program) = Ethdev::start(&stack, test, "model0,link=sink", &options) else {
        return;
    };
    assert_eq!(program.number("start"), 0);
    sleep_over_nothing(&mut program);
    for queue in 0..QUEUES {
        assert_eq!(program.number(&format!("arm {queue}")), 0);
    }
    sleep_over_nothing(&mut program);

    let mut woken_by = [0; QUEUES as usize];
    for flow in 0..60 {
        let packet = frame(Kind::UdpV4, flow, flow, 80);
        let queue = wake(&mut program, &packet);
        woken_by[queue as usize] += 1;
        // Takes the event.
        assert_eq!(program.number(&format!("disarm {queue}")), 0);
        receive(&mut program, queue, &packet);
        assert_eq!(program.number(&format!("arm {queue}")), 0);
    }
    assert!(woken_by.iter().all(|&count| count > 0), "{woken_by:?}");
    sleep_over_nothing(&mut program);

    // Every queue is armed once: the first packet of a flow takes that, the second wakes nobody.
    let packet = frame(Kind::UdpV4, 7, 100, 80);
    let queue = wake(&mut program, &packet);
    assert_eq!(program.number(&format!("disarm {queue}")), 0);
    receive(&mut program, queue, &packet);
    let packet = frame(Kind::UdpV4, 7, 101, 80);
    program.deliver(&packet);
    sleep_over_nothing(&mut program);
    // It is there, and arming with it there is no sleep.
    assert_eq!(program.number(&format!("arm {queue}")), 0);
    program.type_line("sleep -1");
    assert_eq!(woken(&mut program), queue);
    assert_eq!(program.number(&format!("disarm {queue}")), 0);
    receive(&mut program, queue, &packet);

    let counted = program.ask("counters").numbers;
    assert_eq!(counted, [62, 0, 0, 0]);
    let model = program.model().port(0).counters().expect("the model");
    assert_eq!((model.rx_frames, model.rx_no_buffer), (62, 0));
    assert_eq!(program.number("stop"), 0);
    let outcome = program.end();
    assert!(outcome.findings.is_empty(), "{outcome:?}");
    assert_eq!(outcome.ended.code, Some(0), "{}", outcome.ended);
    let row = "sleeps until a packet comes";
    cell(row, Column::DpdkRdmaCore56.name(), "62 of 62 packets");
}
