//! An owner that sleeps until its queue is back.

use std::thread;
use std::time::Duration;

use mana_pmd::{RecoveryConfig, RxInterrupt};
use pmd_api::Wake;

use super::{has_interrupts, learn, suite};
use crate::events::{events_until, is_failed};
use crate::suites::rx_interrupt;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_sleeper_learns",
    "an owner that sleeps learns that its queue does not come back; a kernel without completion \
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
    running.port.set_recovery(RecoveryConfig {
        deadline: Duration::from_millis(80),
        ..RecoveryConfig::default()
    });
    rig.take_away();
    // From here on the queue is wanted: the wait is for its return.
    learn(&mut running);
    let Running {
        mut port,
        mut queues,
        rx_pool,
        tx_pool,
        ..
    } = running;
    let mut queue = queues.rx.remove(0);
    let sleeper = thread::spawn(move || {
        loop {
            match queue.wait(None) {
                Ok(wake) => assert_eq!(wake, Wake::Control),
                Err(error) => return error.to_string(),
            }
        }
    });
    events_until(rig, &mut port, || (), is_failed);
    assert!(sleeper.join().unwrap().contains("removed"));
    port.stop(queues).unwrap();
    port.close().unwrap();
    rig.assert_clean(&[&rx_pool, &tx_pool]);
}
