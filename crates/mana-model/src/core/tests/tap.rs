//! Frames of a tap at the receive queues: who waits, and who is lost.

use std::thread;

use super::*;
use crate::config::TapConfig;
use crate::links::tap::host::{Raw, frame, in_own_namespace, is_ours};

/// CQE_RX_OKAY.
const OKAY: u32 = 1;
/// Long enough for a frame's patience to be over.
const LATER: std::time::Duration = std::time::Duration::from_millis(120);

/// A port at a tap without IPv6, so that the kernel sends nothing of its own.
fn bench() -> (Bench, Raw) {
    // A namespace's own tree; the default of interfaces to come.
    let silent = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    assert!(silent.is_ok() || !std::path::Path::new("/proc/sys/net/ipv6").exists());
    let bench = Bench::new(LinkConfig::Tap(TapConfig::new("t0")));
    (bench, Raw::on("t0"))
}

impl Bench {
    fn turn(&mut self) {
        self.links.listen(64, true);
        self.run();
    }

    /// Posts a buffer of 2048 bytes.
    fn post(&mut self, queue: &mut Queue) {
        queue.post(&receive_wqe(&[(ADDRESS, self.key, 2048)]));
        self.ring(queue);
    }

    /// Posts a buffer and returns the number of the frame that comes into it.
    fn receive_one(&mut self, queue: &mut Queue) -> u8 {
        self.post(queue);
        self.turn();
        assert_eq!(queue.types(), [OKAY]);
        let bytes = self.payload(0, 60);
        assert!(is_ours(&bytes));
        bytes[17]
    }
}

#[test]
fn frames_wait_a_moment_for_buffers_and_come_in_order() {
    in_own_namespace("frames_wait_a_moment_for_buffers_and_come_in_order", || {
        let (mut bench, host) = bench();
        let mut queue = bench.receiver(0);
        for number in 0..40 {
            host.send(&frame(number, 60));
        }
        bench.turn();
        for expected in 0..40 {
            assert_eq!(bench.receive_one(&mut queue), expected);
        }
        let counters = bench.device.counters(0);
        assert_eq!((counters.rx_frames, counters.rx_no_buffer), (40, 0));
        bench.assert_clean();
    });
}

#[test]
fn frames_that_nobody_serves_are_lost_and_new_ones_come_when_somebody_does() {
    in_own_namespace(
        "frames_that_nobody_serves_are_lost_and_new_ones_come_when_somebody_does",
        || {
            let (mut bench, host) = bench();
            let mut queue = bench.receiver(0);
            for number in 0..5 {
                host.send(&frame(number, 60));
            }
            bench.turn();
            assert_eq!(bench.device.counters(0).rx_no_buffer, 0);
            thread::sleep(LATER);
            bench.turn();
            assert_eq!(bench.device.counters(0).rx_no_buffer, 5);
            // Whoever comes after that waits no more: the queue is dead as long as it is dry.
            host.send(&frame(5, 60));
            bench.turn();
            assert_eq!(bench.device.counters(0).rx_no_buffer, 6);
            host.send(&frame(6, 60));
            assert_eq!(bench.receive_one(&mut queue), 6);
            // And then it is alive again.
            host.send(&frame(7, 60));
            bench.turn();
            assert_eq!(bench.device.counters(0).rx_no_buffer, 6);
            assert_eq!(bench.receive_one(&mut queue), 7);
            bench.assert_clean();
        },
    );
}

#[test]
fn while_reception_is_off_frames_are_read_and_lost() {
    in_own_namespace("while_reception_is_off_frames_are_read_and_lost", || {
        let (mut bench, host) = bench();
        for number in 0..3 {
            host.send(&frame(number, 60));
        }
        bench.turn();
        assert_eq!(bench.device.counters(0).rx_disabled, 3);
        let mut queue = bench.receiver(0);
        host.send(&frame(3, 60));
        bench.turn();
        // Held when its queue goes: lost, and it stops nobody.
        bench.device.destroy_receive_queue(queue.ids.wq_id);
        bench.turn();
        assert_eq!(bench.device.counters(0).rx_disabled, 4);
        queue = bench.receiver(0);
        host.send(&frame(4, 60));
        assert_eq!(bench.receive_one(&mut queue), 4);
        bench.assert_clean();
    });
}

#[test]
fn what_a_port_sends_arrives_at_the_host() {
    in_own_namespace("what_a_port_sends_arrives_at_the_host", || {
        let (mut bench, host) = bench();
        let mut queue = bench.sender();
        for number in 0..20 {
            let address = bench.put(64, &frame(number, 75));
            queue.post(&queue.short_wqe(0, 0, (address, bench.key, 75)));
            bench.send(&queue);
            assert_eq!(host.receive(), Some(frame(number, 75)), "{number}");
        }
        assert_eq!(bench.device.counters(0).tx_frames, 20);
        assert_eq!(bench.links.dropped(0), 0);
    });
}
