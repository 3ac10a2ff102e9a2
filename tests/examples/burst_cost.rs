//! What a packet costs the driver: `burst_cost tx N` sends N packets of 60 bytes, `burst_cost rx N`
//! receives them, and so on for the other [`CASES`], on rings of 256.
//!
//! The device is stepped between the bursts, so that all of the driver's work, and nothing else, is
//! in the functions `timed_…_burst`. `cargo xtask test` runs it under callgrind. Prints `packets N`,
//! the packets that really went; for empty polls, these.

#![forbid(unsafe_code)]

use std::hint::black_box;

use conformance::{Plan, Rig, Running};
use mana_model::config::GenConfig;
use mana_model::{DeviceConfig, DoorbellMode, Kernel, LinkConfig};
use mana_pmd::{RxQueue, TxQueue};
use pmd_api::{Batch, RxBurst, TxBurst, TxFlags, TxOffload};

const BURST: usize = 32;
const FRAME: usize = 60;

/// One figure.
struct Case {
    name: &'static str,
    /// Packets of a burst.
    burst: usize,
    /// Segments of a packet sent.
    segments: usize,
    /// The device is to insert a VLAN tag into each packet sent.
    vlan: bool,
    /// Packets of a completion received.
    coalescing: u8,
    measure: fn(&mut Running<'_>, &Case, usize) -> usize,
}

const BASE: Case = Case {
    name: "",
    burst: BURST,
    segments: 1,
    vlan: false,
    coalescing: 1,
    measure: transmit,
};

const CASES: [Case; 11] = [
    Case { name: "tx", ..BASE },
    Case {
        name: "rx",
        measure: receive,
        ..BASE
    },
    Case {
        name: "rx-coalesced",
        coalescing: 4,
        measure: receive,
        ..BASE
    },
    Case {
        name: "forward",
        measure: forward,
        ..BASE
    },
    Case {
        name: "tx-segments",
        segments: 2,
        ..BASE
    },
    Case {
        name: "tx-segments-4",
        segments: 4,
        ..BASE
    },
    Case {
        name: "tx-vlan",
        vlan: true,
        ..BASE
    },
    Case {
        name: "tx-1",
        burst: 1,
        ..BASE
    },
    Case {
        name: "rx-1",
        burst: 1,
        measure: receive,
        ..BASE
    },
    Case {
        name: "forward-1",
        burst: 1,
        measure: forward,
        ..BASE
    },
    Case {
        name: "rx-empty",
        measure: poll,
        ..BASE
    },
];

fn main() -> Result<(), String> {
    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    let usage = format!("usage: burst_cost {} PACKETS", names.join("|"));
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().ok_or(&usage)?;
    let case = CASES
        .iter()
        .find(|known| known.name == case)
        .ok_or(&usage)?;
    let packets = arguments.next().and_then(|n| n.parse().ok());
    let packets: usize = packets.filter(|&n| n > 0).ok_or(&usage)?;
    let mut device = DeviceConfig::new(Kernel::V7_3);
    // Sends as much as there are buffers for, and takes what is sent.
    device.ports[0].link = LinkConfig::Gen(GenConfig::default());
    if case.name.starts_with("tx") || case.name == "rx-empty" {
        device.ports[0].link = LinkConfig::Sink { capture: false };
    }
    device.coalescing = case.coalescing;
    let rig = Rig::model(device, DoorbellMode::Stepped);
    let plan = Plan {
        depth: 256,
        spare: 1024,
        cache: 250,
        ..Plan::default()
    };
    let mut running = Running::start(&rig, &plan);
    let moved = (case.measure)(&mut running, case, packets);
    running.finish();
    println!("packets {moved}");
    Ok(())
}

/// Everything the driver does to send a burst, completions of earlier bursts included.
#[inline(never)]
fn timed_tx_burst(queue: &mut TxQueue, batch: &mut Batch) -> usize {
    black_box(queue.tx_burst(batch).sent)
}

/// Everything the driver does to receive a burst, refilling the ring included.
#[inline(never)]
fn timed_rx_burst(queue: &mut RxQueue, batch: &mut Batch) -> usize {
    black_box(queue.rx_burst(batch))
}

/// Both, on the same packets.
#[inline(never)]
fn timed_forward_burst(rx: &mut RxQueue, tx: &mut TxQueue, batch: &mut Batch) -> usize {
    rx.rx_burst(batch);
    black_box(tx.tx_burst(batch).sent)
}

fn transmit(running: &mut Running<'_>, case: &Case, packets: usize) -> usize {
    let mut batch = Batch::with_capacity(case.burst);
    let mut offload = TxOffload::default();
    if case.vlan {
        offload.flags = TxFlags::VLAN;
        offload.vlan_tci = 5;
    }
    let mut sent = 0;
    while sent < packets {
        running
            .tx_pool
            .alloc_bulk(&mut batch, case.burst)
            .expect("sent buffers come home");
        for mbuf in &mut batch {
            mbuf.extend_from_slice(&[0; FRAME]).expect("room");
            for _ in 1..case.segments {
                let mut next = running.tx_pool.alloc().expect("a buffer");
                next.extend_from_slice(&[0; FRAME]).expect("room");
                mbuf.chain(next).expect("few segments");
            }
            mbuf.set_tx_offload(offload).expect("a tag");
        }
        let queue = &mut running.queues.tx[0];
        while !batch.is_empty() {
            sent += timed_tx_burst(queue, &mut batch);
            running.rig.advance();
        }
    }
    sent
}

fn receive(running: &mut Running<'_>, case: &Case, packets: usize) -> usize {
    let mut batch = Batch::with_capacity(case.burst);
    let mut received = 0;
    while received < packets {
        running.rig.advance();
        received += timed_rx_burst(&mut running.queues.rx[0], &mut batch);
        batch.clear();
    }
    received
}

fn forward(running: &mut Running<'_>, case: &Case, packets: usize) -> usize {
    let mut batch = Batch::with_capacity(case.burst);
    let mut sent = 0;
    while sent < packets {
        running.rig.advance();
        let queues = &mut running.queues;
        sent += timed_forward_burst(&mut queues.rx[0], &mut queues.tx[0], &mut batch);
        assert!(batch.is_empty(), "a ring that is stepped has room");
    }
    sent
}

fn poll(running: &mut Running<'_>, case: &Case, polls: usize) -> usize {
    let mut batch = Batch::with_capacity(case.burst);
    for _ in 0..polls {
        assert_eq!(timed_rx_burst(&mut running.queues.rx[0], &mut batch), 0);
    }
    polls
}
