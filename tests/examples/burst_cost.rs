//! What a packet costs the driver: `burst_cost tx N` sends N packets of 60 bytes, `burst_cost rx N`
//! receives them, in bursts of 32 on rings of 256.
//!
//! The device is stepped between the bursts, so that all of the driver's work, and nothing else, is
//! in `timed_tx_burst` and `timed_rx_burst`. `cargo xtask test` runs it under callgrind. Prints
//! `packets N`.

#![forbid(unsafe_code)]

use std::hint::black_box;

use conformance::{Plan, Rig, Running};
use mana_model::config::GenConfig;
use mana_model::{DeviceConfig, DoorbellMode, Kernel, LinkConfig};
use mana_pmd::{RxQueue, TxQueue};
use pmd_api::{Batch, RxBurst, TxBurst};

const BURST: usize = 32;
const FRAME: usize = 60;

fn main() -> Result<(), String> {
    let usage = "usage: burst_cost tx|rx PACKETS";
    let mut arguments = std::env::args().skip(1);
    let direction = arguments.next().ok_or(usage)?;
    let packets = arguments.next().and_then(|n| n.parse().ok());
    let packets: usize = packets.filter(|&n| n > 0).ok_or(usage)?;
    let (link, measure): (_, fn(Running<'_>, usize) -> usize) = match direction.as_str() {
        "tx" => (LinkConfig::Sink { capture: false }, transmit),
        "rx" => (LinkConfig::Gen(GenConfig::default()), receive),
        _ => return Err(usage.to_owned()),
    };
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.ports[0].link = link;
    let rig = Rig::model(device, DoorbellMode::Stepped);
    let plan = Plan {
        depth: 256,
        spare: 1024,
        cache: 250,
        ..Plan::default()
    };
    let moved = measure(Running::start(&rig, &plan), packets);
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

fn transmit(mut running: Running<'_>, packets: usize) -> usize {
    let mut batch = Batch::with_capacity(BURST);
    let mut sent = 0;
    while sent < packets {
        running
            .tx_pool
            .alloc_bulk(&mut batch, BURST)
            .expect("sent buffers come home");
        for mbuf in &mut batch {
            mbuf.extend_from_slice(&[0; FRAME]).expect("room");
        }
        let queue = &mut running.queues.tx[0];
        while !batch.is_empty() {
            sent += timed_tx_burst(queue, &mut batch);
            running.rig.advance();
        }
    }
    running.finish();
    sent
}

fn receive(mut running: Running<'_>, packets: usize) -> usize {
    let mut batch = Batch::with_capacity(BURST);
    let mut received = 0;
    while received < packets {
        running.rig.advance();
        received += timed_rx_burst(&mut running.queues.rx[0], &mut batch);
        batch.clear();
    }
    running.finish();
    received
}
