//! An owner that sleeps until packets come.

use std::thread;
use std::time::Duration;

use mana_pmd::{PortEvent, RecoveryConfig, RxInterrupt};
use pmd_api::{Batch, InterruptError, RxBurst, Wake};

use super::{has_interrupts, recover, suite};
use crate::events::PATIENCE;
use crate::packets::mixture;
use crate::suites::rx_interrupt;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_sleeper",
    "an owner that sleeps in a wait gives its queue up and is woken by packets afterwards, on a \
     device that went away and where only the port wanted its queues; a kernel without completion \
     events refuses with the reason",
    run,
);

fn run(rig: &Rig) {
    if !has_interrupts(rig) {
        return rx_interrupt::refused(rig);
    }
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    // However busy the machine is: the owner must not be waited for.
    running.port.set_recovery(RecoveryConfig {
        grace: PATIENCE,
        ..RecoveryConfig::default()
    });
    let mut queue = running.queues.rx.remove(0);
    let sleeper = thread::spawn(move || {
        let mut batch = Batch::with_capacity(32);
        loop {
            match queue.wait(None) {
                Ok(Wake::Packets) if queue.rx_burst(&mut batch) > 0 => return (queue, batch.len()),
                Ok(_) => {}
                // Told as soon as the kernel says so, before the port knows.
                Err(InterruptError::DeviceRemoved { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    for reset in [true, false] {
        // Most likely it sleeps by then; where it does not, it gives the queue up all the same.
        thread::sleep(Duration::from_millis(20));
        if reset {
            rig.take_away();
            rig.bring_back();
        } else {
            running.port.recover();
        }
        let events = recover(&mut running);
        let waits = |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { .. });
        assert!(!events.iter().any(waits), "{events:?}");
    }
    running.send_frames(0, &mixture(1, 100));
    while !sleeper.is_finished() {
        rig.advance();
    }
    let (queue, received) = sleeper.join().unwrap();
    assert_eq!(received, 1);
    running.queues.rx.push(queue);
    running.finish();
}
