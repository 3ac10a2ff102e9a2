//! What must hold on the real mana.ko and mana_ib.ko, whatever carries the frames: needs no more of
//! the device than a wire that loops, and of the machine what its administrator can do. `--suite
//! kernel` is these, and `smoke`, `loopback` and `restart`.

pub(super) mod forwarding;
pub(super) mod interrupts;
pub(super) mod missed;
pub(super) mod netdev_up;
pub(super) mod reset_request;
pub(super) mod unload;

use mana_pmd::PortEvent;
use pmd_api::{Batch, RxBurst, Support, TxBurst};

use super::{Needs, Suite};
use crate::events::events_until;
use crate::packets::{Kind, frame};
use crate::{Rig, Running};

/// A suite of this folder.
const fn suite(name: &'static str, proves: &'static str, run: fn(&Rig)) -> Suite {
    Suite {
        name,
        proves,
        needs: Needs::Steering,
        prepare: |_| (),
        run,
    }
}

/// Frames that are told apart, of many flows.
fn flows(count: u32, size: usize) -> Vec<Vec<u8>> {
    let kind = |seed: u32| Kind::ALL[seed as usize % Kind::ALL.len()];
    (0..count)
        .map(|seed| frame(kind(seed), seed * 7, seed, size))
        .collect()
}

/// Packets go round the wire and come back as they were.
fn assert_moves(running: &mut Running<'_>) {
    let sent = flows(64, 300);
    let mut back: Vec<Vec<u8>> = running
        .exchange(0, &sent)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let mut sent = sent;
    sent.sort();
    back.sort();
    assert!(sent == back, "packets changed on their way");
}

/// Whether queues can wake their owners on this kernel.
fn has_interrupts(rig: &Rig) -> bool {
    let port = rig.open();
    let support = port.capabilities().rx_interrupt;
    port.close().expect("a port that was only opened");
    support == Support::Yes
}

/// Drives until an event comes that `last` takes, with owners that poll.
fn events(running: &mut Running<'_>, last: impl Fn(&PortEvent) -> bool) -> Vec<PortEvent> {
    let (rig, queues) = (running.rig, &mut running.queues);
    let mut batch = Batch::with_capacity(32);
    let poll = || {
        for queue in &mut queues.rx {
            queue.rx_burst(&mut batch);
        }
        for queue in &mut queues.tx {
            queue.reclaim();
        }
        batch.clear();
    };
    events_until(rig, &mut running.port, poll, last)
}
