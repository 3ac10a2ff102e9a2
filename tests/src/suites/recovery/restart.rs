//! A device that goes away around a stop.

use mana_pmd::{Error, PortEvent};

use super::{assert_moves, learn, suite};
use crate::events::{events_until, is_recovered};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_restart",
    "a device that goes away between start and stop, or while the port is stopped, is found again \
     by the next start",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    // Gone while it runs, stopped before anybody looked.
    rig.take_away();
    running.stop();
    let error = running.port.start().unwrap_err();
    assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
    rig.bring_back();
    let events = events_until(rig, &mut running.port, || (), is_recovered);
    assert_eq!(events[0], PortEvent::DeviceRemoved);
    running.start_again();
    assert_moves(&mut running);
    // Gone while it runs, stopped in the middle of the recovery; started before it is over.
    rig.take_away();
    learn(&mut running);
    running.stop();
    rig.bring_back();
    running.start_again();
    assert_moves(&mut running);
    let events = events_until(rig, &mut running.port, || (), is_recovered);
    assert!(events.len() <= 2, "{events:?}");
    assert_moves(&mut running);
    // Gone and back while it is stopped: the start or the events before it tell.
    running.stop();
    rig.take_away();
    rig.bring_back();
    let mut done = false;
    for _ in 0..3 {
        match running.port.start() {
            Ok(queues) => {
                running.queues = queues;
                done = true;
                break;
            }
            Err(Error::DeviceRemoved { .. }) => {
                events_until(rig, &mut running.port, || (), is_recovered);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(done);
    assert_moves(&mut running);
    running.finish();
}
