//! The kernel's driver is taken from the device under a running port.

use mana_pmd::{Error, PortEvent};
use pmd_api::{Batch, RxBurst, TxBurst};

use super::{assert_moves, events, suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "kernel_unload",
    "unbinding the kernel's driver under traffic is told as DEVICE_FATAL; bursts go on and move \
     nothing, starting again is refused with the cause, stopping and closing work, all buffers come \
     home, and the port is there again when the driver is",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    assert_moves(&mut running);
    running.send_frames(1, &mixture(24, 1000));
    rig.device().remove(0);
    events(&mut running, |event| *event == PortEvent::DeviceRemoved);
    let mut batch = Batch::with_capacity(4);
    batch.push(running.packet(&[0; 60])).expect("room");
    for queue in &mut running.queues.tx {
        assert_eq!((queue.tx_burst(&mut batch).sent, batch.len()), (0, 1));
    }
    batch.clear();
    // What arrived before may still be received; then nothing moves.
    while !running.poll().is_empty() {}
    for queue in &mut running.queues.rx {
        assert_eq!(queue.rx_burst(&mut batch), 0);
    }
    running.stop();
    let error = running.port.start().expect_err("there is no device");
    assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
    let Running {
        port,
        rx_pool,
        tx_pool,
        ..
    } = running;
    port.close().expect("the port closes");
    assert_eq!((rx_pool.in_use(), tx_pool.in_use()), (0, 0));

    rig.device().restore(0);
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    assert_moves(&mut running);
    running.finish();
}
