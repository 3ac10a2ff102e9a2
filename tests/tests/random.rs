//! Random traffic against a queue in memory: whatever order bursts, polls and restarts come in, a
//! looping port is a FIFO.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use conformance::packets::{Kind, frame};
use conformance::{Plan, Rig, Running};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};
use pmd_api::{Batch, Mbuf, RxBurst, TxBurst, TxFlags, TxOffload};
use proptest::collection::vec;
use proptest::prelude::*;

/// Packets on their way at most: the receive ring of 64 must have a buffer for each, and the driver
/// refills it in steps of a quarter.
const WINDOW: usize = 48;

#[derive(Debug, Clone)]
enum Action {
    /// Offers a burst of packets, each with a size and a number of segments.
    Send(Vec<(usize, usize)>),
    /// Lets the device work.
    Step,
    /// Receives at most so many packets.
    Receive(usize),
    /// Reclaims sent buffers.
    Reclaim,
    /// Stops and starts: what is on its way is lost.
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let packet = (60..3000_usize, 1..=15_usize);
    let action = prop_oneof![
        6 => vec(packet, 1..=40).prop_map(Action::Send),
        6 => Just(Action::Step),
        6 => (1..=40_usize).prop_map(Action::Receive),
        2 => Just(Action::Reclaim),
        1 => Just(Action::Restart),
    ];
    vec(action, 1..120)
}

/// A packet of so many segments; every third is tagged, which takes the long OOB and is invisible
/// behind the loop, where the tag is stripped.
fn packet(running: &Running<'_>, seed: u32, size: usize, segments: usize) -> (Mbuf, Vec<u8>) {
    let bytes = frame(Kind::UdpV4, 3, seed, size);
    let mut pieces = bytes.chunks(size.div_ceil(segments));
    let mut mbuf = running.packet(pieces.next().expect("a first piece"));
    for piece in pieces {
        mbuf.chain(running.packet(piece)).expect("a chain");
    }
    if seed.is_multiple_of(3) {
        mbuf.set_tx_offload(TxOffload {
            flags: TxFlags::VLAN,
            vlan_tci: (seed & 0xFFF) as u16,
            ..TxOffload::default()
        })
        .expect("a tag");
    }
    (mbuf, bytes)
}

fn run(kernel: Kernel, actions: &[Action]) {
    let rig = Rig::model(DeviceConfig::new(kernel), DoorbellMode::Stepped);
    let plan = Plan {
        packet: 4096,
        spare: 2048,
        ..Plan::default()
    };
    let mut running = Running::start(&rig, &plan);
    let mut expected: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
    let mut seed = 0;
    for action in actions {
        match action {
            Action::Send(sizes) => {
                let mut batch = Batch::with_capacity(sizes.len());
                let mut offered = VecDeque::new();
                for &(size, segments) in sizes.iter().take(WINDOW - expected.len()) {
                    let (mbuf, bytes) = packet(&running, seed, size, segments);
                    batch.push(mbuf).expect("room");
                    offered.push_back((seed, bytes));
                    seed += 1;
                }
                let count = batch.len();
                let outcome = running.queues.tx[0].tx_burst(&mut batch);
                assert!(outcome.rejected.is_none());
                assert_eq!(outcome.sent + batch.len(), count);
                for (left, (_, bytes)) in batch.iter().zip(offered.iter().skip(outcome.sent)) {
                    assert!(left.to_vec() == *bytes, "the tail moved");
                }
                expected.extend(offered.drain(..outcome.sent));
            }
            Action::Step => rig.advance(),
            Action::Receive(most) => {
                let mut batch = Batch::with_capacity(*most);
                running.queues.rx[0].rx_burst(&mut batch);
                for mbuf in &batch {
                    let (seed, bytes) = expected.pop_front().expect("a packet out of nowhere");
                    assert!(
                        mbuf.to_vec() == bytes,
                        "packet {seed} changed or is missing"
                    );
                    let tag = seed.is_multiple_of(3).then_some((seed & 0xFFF) as u16);
                    assert_eq!(mbuf.vlan(), tag);
                }
            }
            Action::Reclaim => {
                running.reclaim();
            }
            Action::Restart => {
                running.restart();
                expected.clear();
                // What the device had sent but not delivered still arrives.
                rig.advance();
                running.poll();
                rig.advance();
                running.poll();
            }
        }
    }
    running.settle();
    let rest = running.receive(expected.len());
    for (one, (seed, bytes)) in rest.iter().zip(&expected) {
        assert!(one.mbuf.to_vec() == *bytes, "packet {seed} changed");
    }
    drop(rest);
    running.finish();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_looping_port_is_a_fifo_whatever_comes_in_which_order(actions in actions()) {
        for kernel in Kernel::ALL {
            run(kernel, &actions);
        }
    }
}
