//! The device's thread beside a program.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use uverbs_abi::DoorbellKind;

use super::end_to_end::{Sender, frame, send_wqe, sender};
use super::program::Program;
use crate::config::{DeviceConfig, DoorbellMode, Kernel, LinkConfig, ModelConfig, parse_device};
use crate::links::tap::host;
use crate::model::Model;

fn polled() -> Model {
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.ports[0].link = LinkConfig::Sink { capture: false };
    Model::new(ModelConfig {
        devices: vec![device],
        doorbells: DoorbellMode::Polled,
    })
    .expect("a valid machine")
}

/// Sends `count` packets through a ring of 128 and a CQ of 64, `burst` a doorbell, each with a CQE
/// of its own.
fn send(program: &Program, queue: &Sender, count: u32, burst: u32) {
    let doorbells = [
        (DoorbellKind::Send, queue.sq_id),
        (DoorbellKind::Completion, queue.cq_id),
    ]
    .map(|(kind, id)| program.register(kind, id));
    let wqe = send_wqe(queue, queue.data.address(), 60);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut done = 0;
    while done < count {
        let head = (done + burst).min(count);
        for index in done..head {
            for (word, value) in wqe.into_iter().enumerate() {
                queue.ring.store((index as usize % 128) * 4 + word, value);
            }
        }
        let tail = u64::from(head.wrapping_mul(32));
        let value = u64::from(queue.sq_id) | tail << 32;
        doorbells[0].store(value, Ordering::Release);
        while done < head {
            let owner = u64::from((1 + done / 64) & 7);
            let last = queue.cq_ring.load((done as usize % 64) * 8 + 7);
            if last >> 61 == owner {
                done += 1;
            } else {
                assert!(Instant::now() < deadline, "packet {done} never completes");
                std::thread::yield_now();
            }
        }
        let head = u64::from((64 + done) % 512);
        let value = u64::from(queue.cq_id) | head << 32;
        doorbells[1].store(value, Ordering::Release);
    }
}

#[test]
fn a_polled_device_completes_every_packet() {
    let model = polled();
    let runner = model.run();
    let program = Program::start(&model);
    let (_, queue) = sender(&program);
    queue.data.store_bytes(0, &frame(&model, 60));
    send(&program, &queue, 20_000, 32);
    assert_eq!(model.port(0).counters().tx_frames, 20_000);
    drop(runner);
    assert_eq!(model.findings(), []);
    assert!(!model.undecided().is_empty());
}

#[test]
fn nothing_moves_after_the_runner_is_dropped() {
    let model = polled();
    let program = Program::start(&model);
    let (_, queue) = sender(&program);
    queue.data.store_bytes(0, &frame(&model, 60));
    drop(model.run());
    let wqe = send_wqe(&queue, queue.data.address(), 60);
    for (word, value) in wqe.into_iter().enumerate() {
        queue.ring.store(word, value);
    }
    let value = u64::from(queue.sq_id) | 32 << 32;
    program.doorbell(DoorbellKind::Send, queue.sq_id, value);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(model.port(0).counters().tx_frames, 0);
    assert_eq!(model.step(), 1);
}

#[test]
fn control_calls_get_through_while_the_device_is_busy() {
    let mut device = DeviceConfig::new(Kernel::V6_12);
    // Always something to deliver, never a buffer for it.
    device.ports[0].link = LinkConfig::Gen(crate::config::GenConfig::default());
    let model = Model::new(ModelConfig {
        devices: vec![device],
        doorbells: DoorbellMode::Polled,
    })
    .expect("a valid machine");
    let _runner = model.run();
    let start = Instant::now();
    for _ in 0..1000 {
        let program = Program::start(&model);
        program.alloc_pd().unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(model.objects(), crate::model::ObjectCounts::default());
}

#[test]
fn memory_is_untouched_after_a_context_closed_under_load() {
    let model = polled();
    let _runner = model.run();
    for _ in 0..50 {
        let program = Program::start(&model);
        let (_, queue) = sender(&program);
        queue.data.store_bytes(0, &frame(&model, 60));
        send(&program, &queue, 64, 64);
        // Closes, then frees rings and data: with a use after that this test dies under a
        // memory checker.
        drop(program);
    }
    assert_eq!(model.objects(), crate::model::ObjectCounts::default());
}

#[test]
fn a_polled_device_serves_its_tap_beside_its_send_queue() {
    let test = "a_polled_device_serves_its_tap_beside_its_send_queue";
    host::in_own_namespace(test, || {
        let model = Model::new(ModelConfig {
            devices: vec![parse_device("model0,link=tap:t0:mtu=4000").unwrap()],
            doorbells: DoorbellMode::Polled,
        });
        let model = model.unwrap();
        let runner = model.run();
        let wire = host::Raw::on("t0");
        let program = Program::start(&model);
        let (_, queue) = sender(&program);
        let sent = frame(&model, 60);
        queue.data.store_bytes(0, &sent);
        send(&program, &queue, 2000, 32);
        let received = std::iter::from_fn(|| wire.receive());
        assert!(received.take(2000).all(|frame| frame == sent));
        assert_eq!(wire.receive(), None);
        // An idle device: nothing is posted, so what comes is read and counted.
        let before = model.port(0).counters().rx_disabled;
        for number in 0..50 {
            wire.send(&host::frame(number, 60));
        }
        host::until(|| model.port(0).counters().rx_disabled >= before + 50);
        let counters = model.port(0).counters();
        assert_eq!((counters.tx_frames, counters.link_dropped), (2000, 0));

        let ib = &model.system().ib_devices().unwrap()[0];
        let netdev = || model.system().netdevs(ib).unwrap().remove(0);
        assert_eq!((&*netdev().name, netdev().mtu), ("t0", 4000));
        assert_eq!((netdev().up, netdev().carrier), (false, Some(true)));
        assert_eq!(program.query_port(1).unwrap().active_mtu, 4);
        host::set_mtu("t0", 1500);
        host::until(|| netdev().mtu == 1500);
        assert_eq!(program.query_port(1).unwrap().active_mtu, 3);
        // The model goes on without its tap.
        host::delete("t0");
        host::until(|| netdev().carrier == Some(false));
        drop(program);
        let program = Program::start(&model);
        send(&program, &sender(&program).1, 64, 32);
        assert_eq!(model.port(0).counters().link_dropped, 64);
        assert_eq!(model.port(0).netdev(), "t0");
        drop(runner);
        assert_eq!(model.findings(), []);
    });
}
