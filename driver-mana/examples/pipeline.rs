//! Two ports joined by three threads: one receives, one works on the packets, one sends.
//!
//! ```sh
//! cargo run --release -p mana-pmd --example pipeline -- --split=512 --duration 5
//! ```
//!
//! Packets go from thread to thread in bursts, through channels: a send costs a lock and perhaps a
//! wake-up, which 32 packets share. A fixed number of bursts goes round, so there is a bound on what
//! is between the threads, and a full ring at the end makes the receiving thread wait at the
//! beginning. With `--split=BYTES` the worker cuts every packet into segments of that size, without
//! copying: the segments are views of the buffer that the device wrote.

#![forbid(unsafe_code)]

pub(crate) mod common;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use common::{Arguments, BURST, Error, Machine, Options};
use mana_pmd::{Queues, RxBurst, RxQueue, TxBurst, TxQueue};
use pmd_api::{Batch, HEADROOM, Mbuf, MbufError, Pool, PoolConfig};

pub(crate) const OPTIONS: Options = Options {
    name: "pipeline",
    models: &["model0,ports=2,link=gen:size=1514"],
    own: &[(
        "split",
        "bytes of a segment of sent packets, at most 30 segments (no split)",
    )],
};

/// Bursts that go round.
const BURSTS: usize = 16;
/// Segments of a packet that MANA takes.
const SEGMENTS: usize = 30;

fn main() -> ExitCode {
    common::main(&OPTIONS, run)
}

pub(crate) fn run(
    arguments: &Arguments,
    machine: &Machine,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let split = match arguments.own_number("split")? {
        Some(0) => return Err("--split=0: a segment has at least one byte".into()),
        bytes => bytes.unwrap_or(usize::MAX),
    };
    let [mut a, mut b] = machine.open()?;
    let pool = common::pool(arguments, 2)?;
    // A view needs metadata of its own, and no memory for data.
    let views = Pool::new(PoolConfig {
        name: "views".to_owned(),
        buffers: if split == usize::MAX {
            1024
        } else {
            pool.capacity() * SEGMENTS as u32
        },
        data_room: HEADROOM as u32 + 1,
        ..PoolConfig::default()
    })?;
    let queues = [
        common::start(&mut a, arguments, &pool)?,
        common::start(&mut b, arguments, &pool)?,
    ];
    println!("ready");
    let [of_a, of_b] = pipeline(queues, split, &views, stop);
    common::stop(a, of_a)?;
    common::stop(b, of_b)
}

/// Packets from one port, on their way to the other.
struct Burst {
    from: usize,
    queue: usize,
    packets: Batch,
}

/// Forwards both ways until `stop` is set; returns the queues.
fn pipeline([a, b]: [Queues; 2], split: usize, views: &Pool, stop: &AtomicBool) -> [Queues; 2] {
    // No sender ever waits: each channel has room for all bursts there are.
    let (to_receiver, empty) = sync_channel(BURSTS);
    let (to_worker, received) = sync_channel(BURSTS);
    let (to_sender, worked) = sync_channel(BURSTS);
    for _ in 0..BURSTS {
        let packets = Batch::with_capacity(BURST);
        to_receiver.send(packets).expect("the other end is below");
    }
    let (rx, tx) = ([a.rx, b.rx], [a.tx, b.tx]);
    // The receiving thread ends when it is told to and drops its channel; that ends the others, one
    // after the other, when they have worked off what is in theirs.
    let (rx, tx) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(rx, empty, to_worker, stop));
        scope.spawn(|| work(received, to_sender, split, views));
        let sender = scope.spawn(|| send(tx, worked, to_receiver, stop));
        let (rx, tx) = (receiver.join(), sender.join());
        (rx.expect("receiver"), tx.expect("sender"))
    });
    let ([rx_a, rx_b], [tx_a, tx_b]) = (rx, tx);
    [Queues { rx: rx_a, tx: tx_a }, Queues { rx: rx_b, tx: tx_b }]
}

/// The first thread: fills empty bursts.
fn receive(
    mut rx: [Vec<RxQueue>; 2],
    empty: Receiver<Batch>,
    to_worker: SyncSender<Burst>,
    stop: &AtomicBool,
) -> [Vec<RxQueue>; 2] {
    let Ok(mut packets) = empty.recv() else {
        return rx;
    };
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for from in 0..rx.len() {
            for queue in 0..rx[from].len() {
                if rx[from][queue].rx_burst(&mut packets) == 0 {
                    continue;
                }
                idle = false;
                let burst = Burst {
                    from,
                    queue,
                    packets,
                };
                // Waits here while all bursts are on their way: backpressure.
                match to_worker.send(burst).map(|()| empty.recv()) {
                    Ok(Ok(next)) => packets = next,
                    // The others have ended, which they do by themselves only in a panic.
                    _ => return rx,
                }
            }
        }
        if idle {
            common::rest();
        }
    }
    rx
}

/// The second thread: what an application does with packets.
fn work(received: Receiver<Burst>, to_sender: SyncSender<Burst>, split: usize, views: &Pool) {
    for mut burst in received {
        for packet in &mut burst.packets {
            common::keep_tag(packet);
            // Without a free view the packet goes out in fewer segments.
            let _ = split_packet(packet, split, views);
        }
        if to_sender.send(burst).is_err() {
            return;
        }
    }
}

/// Cuts a packet into segments of `bytes` bytes; the thirtieth takes the rest. If `views` has not
/// enough buffers the packet has larger segments at the front, and nothing is lost.
pub(crate) fn split_packet(packet: &mut Mbuf, bytes: usize, views: &Pool) -> Result<(), MbufError> {
    let cuts = (bytes..packet.packet_len()).step_by(bytes);
    let mut tail: Option<Mbuf> = None;
    let mut done = Ok(());
    // From the back, so that every cut is in the first segment and every chain has one.
    for at in cuts.take(SEGMENTS - 1).rev() {
        match packet.split_off(at, views) {
            Ok(mut segment) => {
                if let Some(tail) = tail.take() {
                    segment.chain(tail).map_err(|(_, error)| error)?;
                }
                tail = Some(segment);
            }
            Err(error) => {
                done = Err(error);
                break;
            }
        }
    }
    if let Some(tail) = tail {
        packet.chain(tail).map_err(|(_, error)| error)?;
    }
    done
}

/// The third thread: sends bursts and returns them empty.
fn send(
    mut tx: [Vec<TxQueue>; 2],
    worked: Receiver<Burst>,
    to_receiver: SyncSender<Batch>,
    stop: &AtomicBool,
) -> [Vec<TxQueue>; 2] {
    let mut stuck = false;
    for burst in worked {
        let (tx, mut packets) = (&mut tx[1 - burst.from][burst.queue], burst.packets);
        while !packets.is_empty() && !stop.load(Ordering::Relaxed) {
            // A packet that can never be sent leaves the batch; the port counts it as an error.
            if tx.tx_burst(&mut packets).sent == 0 {
                common::rest();
            }
        }
        stuck = stuck || !packets.is_empty() && !common::drain(tx, &mut packets);
        packets.clear();
        // The receiving thread may have ended.
        let _ = to_receiver.send(packets);
    }
    for tx in tx.iter_mut().flatten() {
        stuck = stuck || !common::drain(tx, &mut Batch::with_capacity(0));
    }
    tx
}
