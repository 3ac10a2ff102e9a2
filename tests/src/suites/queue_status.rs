//! What queues are at: descriptors, packets that wait, variants. DTS has no suite of that.

use mana_pmd::{Link, RxDescriptor, TxDescriptor};
use pmd_api::{Batch, RxBurst, Support, TxBurst};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "queue_status",
    proves: "queues tell how many packets wait, what each descriptor is at and which burst they run, \
             through arrival, bursts that end within a completion, and refills; the link is unknown \
             while the netdev is DOWN, and single queues are not started or stopped by this kernel",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    assert_eq!(running.port.link(), Link::Unknown);
    assert_eq!(running.port.link().to_string(), "unknown, assumed up");
    let can = running.port.capabilities();
    assert_eq!(can.queue_start_stop, Support::NotByKernel);
    assert_eq!(can.rx_completion_of_8, Support::NotByKernel);

    let depth = running.queues.rx[0].depth();
    for arriving in [0, 1, 5, 40, 64] {
        for seed in 0..arriving {
            rig.device().deliver(&frame(Kind::UdpV4, 1, seed, 100));
        }
        assert!(rig.until(|| running.queues.rx[0].waiting() == arriving));
        let rx = &mut running.queues.rx[0];
        let mut left = arriving;
        while left > 0 {
            statuses(rx, left);
            let mut batch = Batch::with_capacity(3);
            left -= rx.rx_burst(&mut batch) as u32;
            assert_eq!(rx.waiting(), left);
        }
        statuses(rx, 0);
        // As a sleeper does: nothing is due, but bursts of nothing refill what is missing.
        assert_eq!(rx.descriptor_status(depth), None);
        assert!(
            rx.burst_variant().contains("one buffer"),
            "{}",
            rx.burst_variant()
        );
        let missing = depth - rx.posted();
        for seed in 0..missing {
            rig.device().deliver(&frame(Kind::UdpV4, 1, seed, 100));
        }
        running.receive(missing as usize);
        while running.queues.rx[0].posted() < depth {
            rig.device().deliver(&frame(Kind::UdpV4, 1, 0, 100));
            running.receive(1);
        }
    }
    transmit(&mut running);
    running.finish();
}

/// Every descriptor is at what it must be, `waiting` packets being there.
fn statuses(rx: &mana_pmd::RxQueue, waiting: u32) {
    for offset in 0..rx.depth() {
        let expected = match offset {
            _ if offset < waiting => RxDescriptor::Done,
            _ if offset < rx.posted() => RxDescriptor::Available,
            _ => RxDescriptor::Unavailable,
        };
        assert_eq!(rx.descriptor_status(offset), Some(expected), "{offset}");
    }
}

fn transmit(running: &mut Running<'_>) {
    let bytes = frame(Kind::UdpV4, 1, 1, 100);
    let mut batch = Batch::with_capacity(5);
    while batch.room() > 0 {
        let _ = batch.push(running.packet(&bytes));
    }
    let rig = running.rig;
    let tx = &mut running.queues.tx[0];
    tx.reclaim();
    assert_eq!(
        (tx.in_flight(), tx.descriptor_status(0)),
        (0, Some(TxDescriptor::Done))
    );
    assert_eq!(tx.tx_burst(&mut batch).sent, 5);
    let seen = [0, 4, 5, 63].map(|offset| tx.descriptor_status(offset));
    let (full, done) = (Some(TxDescriptor::Full), Some(TxDescriptor::Done));
    assert_eq!(seen, [full, full, done, done]);
    assert_eq!(tx.descriptor_status(64), None);
    assert!(rig.until(|| {
        tx.reclaim();
        tx.in_flight() == 0
    }));
    assert_eq!(tx.descriptor_status(0), done);
}
