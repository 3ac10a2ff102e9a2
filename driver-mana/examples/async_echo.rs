//! Sends every packet back to where it came from, with tokio: a task for each receive queue, and one
//! that drives the port.
//!
//! ```sh
//! cargo run --release -p mana-pmd --example async_echo -- --duration 5
//! ```
//!
//! A task without packets takes no CPU time, and other tasks of the application run on the same
//! thread.

#![forbid(unsafe_code)]

pub(crate) mod common;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Arguments, BURST, Error, Machine, Options};
use mana_pmd::tokio_rx::{AsyncRxQueue, next_event};
use mana_pmd::{Port, Queues, RxQueue, TxBurst, TxQueue};
use pmd_api::{Batch, Mbuf};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

pub(crate) const OPTIONS: Options = Options {
    name: "async_echo",
    models: &["model0,link=gen:pps=20000"],
    own: &[],
};

/// How often a task looks whether the program shall end.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    common::main(&OPTIONS, run)
}

pub(crate) fn run(
    arguments: &Arguments,
    machine: &Machine,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let [mut port] = machine.open()?;
    let pool = common::pool(arguments, 1)?;
    let queues = common::start_with(&mut port, arguments, &pool, true)?;
    println!("ready");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let queues = tasks.block_on(&runtime, async {
        thread_of_tasks(&mut port, queues, stop).await
    })?;
    common::stop(port, queues)
}

/// Echoes on all queues until `stop` is set, and returns them.
async fn thread_of_tasks(
    port: &mut Port,
    queues: Queues,
    stop: &AtomicBool,
) -> Result<Queues, Error> {
    // Tasks may not borrow from here, so they end by a flag of their own.
    let end = std::rc::Rc::new(AtomicBool::new(false));
    let pairs = queues.rx.into_iter().zip(queues.tx);
    let echoes: Vec<_> = pairs
        .map(|(rx, tx)| tokio::task::spawn_local(echo(rx, tx, end.clone())))
        .collect();
    let driven = drive(port, stop).await;
    end.store(true, Ordering::Relaxed);
    let mut all = Queues::default();
    for echo in echoes {
        let (rx, tx) = echo.await??;
        all.rx.push(rx);
        all.tx.push(tx);
    }
    driven.map(|()| all)
}

/// Sends back what comes on one queue.
async fn echo(
    rx: RxQueue,
    mut tx: TxQueue,
    end: std::rc::Rc<AtomicBool>,
) -> Result<(RxQueue, TxQueue), Error> {
    let mut rx = AsyncRxQueue::new(rx).map_err(|refused| refused.error)?;
    let mut batch = Batch::with_capacity(BURST);
    while !end.load(Ordering::Relaxed) {
        // Cancelling loses nothing: a packet is in the batch, or in the ring.
        if let Ok(received) = timeout(LOOK, rx.rx(&mut batch)).await {
            received?;
        }
        for packet in &mut batch {
            turn_round(packet);
        }
        // A queue that the port wants is given up by this, too. A ring that stays full, as while its
        // device is away, costs the rest of the burst.
        for _ in 0..100 {
            tx.reclaim();
            drop(tx.tx_burst(&mut batch));
            if batch.is_empty() {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        batch.clear();
    }
    common::drain(&mut tx, &mut batch);
    Ok((rx.into_inner(), tx))
}

/// Swaps the two MAC addresses.
fn turn_round(packet: &mut Mbuf) {
    common::keep_tag(packet);
    if let Some(bytes) = packet.data_mut().filter(|bytes| bytes.len() >= 12) {
        let (to, from) = bytes.split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
    }
}

/// Prints what happens to the port, and lets it recover, until `stop` is set.
async fn drive(port: &mut Port, stop: &AtomicBool) -> Result<(), Error> {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(event) = timeout(LOOK, next_event(port)).await {
            println!("{}", event?);
        }
    }
    Ok(())
}
