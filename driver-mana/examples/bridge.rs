//! A bridge of two ports: what comes in through one goes out through the other, VLAN tags kept.
//!
//! ```sh
//! cargo run --release -p mana-pmd --example bridge -- --duration 5
//! ```
//!
//! One thread for each queue serves both directions. It learns no addresses. Note that MANA sends
//! only frames with its own source address: between Azure's virtual machines there is nothing to
//! bridge, between the device model's taps there is.

#![forbid(unsafe_code)]

pub(crate) mod common;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Arguments, BURST, Error, Machine, Options};
use mana_pmd::{Queues, RxBurst, RxQueue, TxBurst, TxQueue};
use pmd_api::Batch;

pub(crate) const OPTIONS: Options = Options {
    name: "bridge",
    models: &["model0,ports=2,link=gen"],
    own: &[],
};

fn main() -> ExitCode {
    common::main(&OPTIONS, run)
}

pub(crate) fn run(
    arguments: &Arguments,
    machine: &Machine,
    stop: &AtomicBool,
) -> Result<(), Error> {
    // Both ports receive into one pool and so may send each other's packets.
    let [mut a, mut b] = machine.open()?;
    let pool = common::pool(arguments, 2)?;
    let queues = [
        common::start(&mut a, arguments, &pool)?,
        common::start(&mut b, arguments, &pool)?,
    ];
    println!("ready");
    let [of_a, of_b] = bridge(queues, stop);
    common::stop(a, of_a)?;
    common::stop(b, of_b)
}

/// Forwards between two ports until `stop` is set, one thread for each queue; returns the queues.
fn bridge([a, b]: [Queues; 2], stop: &AtomicBool) -> [Queues; 2] {
    let rx = a.rx.into_iter().zip(b.rx);
    let tx = a.tx.into_iter().zip(b.tx);
    let lanes = rx.zip(tx).map(|((rx_a, rx_b), (tx_a, tx_b))| Lane {
        rx: [rx_a, rx_b],
        tx: [tx_a, tx_b],
    });
    let mut queues = [Queues::default(), Queues::default()];
    thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .map(|lane| scope.spawn(|| lane.forward(stop)))
            .collect();
        for thread in threads {
            let lane = thread.join().expect("a forwarding thread does not panic");
            for (port, (rx, tx)) in queues.iter_mut().zip(lane.rx.into_iter().zip(lane.tx)) {
                port.rx.push(rx);
                port.tx.push(tx);
            }
        }
    });
    queues
}

/// A queue of each direction of both ports.
struct Lane {
    rx: [RxQueue; 2],
    tx: [TxQueue; 2],
}

impl Lane {
    fn forward(mut self, stop: &AtomicBool) -> Self {
        let mut batches = [Batch::with_capacity(BURST), Batch::with_capacity(BURST)];
        while !stop.load(Ordering::Relaxed) {
            let mut idle = true;
            for (from, batch) in batches.iter_mut().enumerate() {
                // What the ring did not take is still there, and leaves so much less room.
                let left = batch.len();
                idle &= self.rx[from].rx_burst(batch) == 0;
                for packet in &mut batch.as_mut_slice()[left..] {
                    common::keep_tag(packet);
                }
                let tx = &mut self.tx[1 - from];
                // A packet that can never be sent leaves the batch; the port counts it as an error.
                drop(tx.tx_burst(batch));
            }
            if idle {
                // Buffers of what was sent go home, and the other threads of this core get it.
                for tx in &mut self.tx {
                    tx.reclaim();
                }
                common::rest();
            }
        }
        for (from, batch) in batches.iter_mut().enumerate() {
            common::drain(&mut self.tx[1 - from], batch);
        }
        self
    }
}
