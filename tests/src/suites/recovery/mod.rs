//! A device that is reset, comes back under other names, or does not: the port recovers or says why
//! not, and its owners' queue handles stay what they are.

pub(super) mod both_ports;
pub(super) mod comes_by_itself;
pub(super) mod dropped_handles;
pub(super) mod errno;
pub(super) mod forgotten_handle;
pub(super) mod in_a_row;
pub(super) mod removed_again;
pub(super) mod restart;
pub(super) mod silent_owner;
pub(super) mod sleeper;
pub(super) mod sleeper_learns;
pub(super) mod stays_away;
pub(super) mod traffic;
pub(super) mod tx_stuck;
pub(super) mod vport_taken;
pub(super) mod workers;

use std::time::Instant;

use mana_pmd::{PortEvent, Queues};
use pmd_api::{Batch, RxBurst, Support, TxBurst};

use super::{Needs, Suite};
use crate::events::{PATIENCE, events_until, is_recovered, next_event};
use crate::packets::mixture;
use crate::{Rig, Running};

/// A suite of this folder.
const fn suite(name: &'static str, proves: &'static str, run: fn(&Rig)) -> Suite {
    Suite {
        name,
        proves,
        needs: Needs::Neighbour,
        prepare: |_| (),
        run,
    }
}

/// What owners do all the time.
fn poll_all(queues: &mut Queues) {
    let mut batch = Batch::with_capacity(32);
    for queue in &mut queues.rx {
        queue.rx_burst(&mut batch);
    }
    for queue in &mut queues.tx {
        queue.reclaim();
    }
}

/// Drives until an event comes that `last` takes, with owners that poll.
fn events(running: &mut Running<'_>, last: impl Fn(&PortEvent) -> bool) -> Vec<PortEvent> {
    let queues = &mut running.queues;
    events_until(running.rig, &mut running.port, || poll_all(queues), last)
}

/// Drives until the port has recovered, with owners that poll.
fn recover(running: &mut Running<'_>) -> Vec<PortEvent> {
    events(running, is_recovered)
}

/// Drives until the port knows that its device is gone. Its queues' owners do nothing.
fn learn(running: &mut Running<'_>) -> Vec<PortEvent> {
    let gone = |event: &PortEvent| *event == PortEvent::DeviceRemoved;
    events_until(running.rig, &mut running.port, || (), gone)
}

/// Drives, with owners that poll, until nothing of the process has anything to do with the device
/// that went away.
fn let_go(running: &mut Running<'_>) {
    let start = Instant::now();
    while running.rig.objects().contexts > 0 {
        poll_all(&mut running.queues);
        // What is told until then does not matter.
        let _told = next_event(&mut running.port);
        assert!(start.elapsed() < PATIENCE, "{:?}", running.port);
    }
}

/// Packets move, on the first transmit queue.
fn assert_moves(running: &mut Running<'_>) {
    let frames = mixture(40, 1000);
    assert_eq!(running.exchange(0, &frames).len(), frames.len());
}

/// Whether queues can wake their owners on this kernel.
fn has_interrupts(rig: &Rig) -> bool {
    let port = rig.open();
    let support = port.capabilities().rx_interrupt;
    port.close().expect("a port that was only opened");
    support == Support::Yes
}

/// Stops and closes a port whose device may be gone, and asserts that all buffers are home.
fn close(running: Running<'_>) {
    let Running {
        mut port,
        queues,
        rx_pool,
        tx_pool,
        ..
    } = running;
    if port.is_started() {
        port.stop(queues).expect("the port stops");
    }
    port.close().expect("the port closes");
    assert_eq!((rx_pool.in_use(), tx_pool.in_use()), (0, 0));
}
