//! A device that goes away again while everything is being made anew.

use std::time::Instant;

use mana_model::Fault;
use mana_pmd::Error;

use super::{assert_moves, events, let_go, recover, suite};
use crate::events::{PATIENCE, is_failed, is_recovered, next_event};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_removed_again",
    "a device that goes away again with any operation of a recovery or of a start leaves nothing \
     half made, and the port recovers when it is back",
    run,
);

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(1, 1));
    for nth in 1.. {
        assert!(nth < 200, "the rebuild never succeeds");
        rig.take_away();
        let_go(&mut running);
        rig.bring_back();
        let start = rig.device().operations();
        rig.device().inject(Fault::RemoveAt { device: 0, nth });
        let (mut came, time) = (false, Instant::now());
        while !came && !rig.is_away() {
            let event = next_event(&mut running.port);
            super::poll_all(&mut running.queues);
            rig.advance();
            assert!(!event.as_ref().is_some_and(is_failed), "{nth}: {event:?}");
            assert!(time.elapsed() < PATIENCE, "{nth}: {:?}", running.port);
            came = event.as_ref().is_some_and(is_recovered);
        }
        if came && !rig.is_away() {
            // The order goes to others' opens.
            rig.spend_operations(start + nth);
        }
        let last = came && rig.device().operations() >= start + nth;
        if rig.is_away() {
            rig.bring_back();
            recover(&mut running);
        }
        assert_moves(&mut running);
        if last {
            break;
        }
    }
    for nth in 1.. {
        assert!(nth < 200, "no start ever succeeds");
        running.stop();
        rig.device().inject(Fault::RemoveAt { device: 0, nth });
        let start = rig.device().operations();
        let done = match running.port.start() {
            Ok(queues) => {
                running.queues = queues;
                rig.spend_operations(start + nth);
                true
            }
            Err(Error::DeviceRemoved { .. }) => false,
            Err(error) => panic!("{nth}: {error}"),
        };
        rig.bring_back();
        let over = events(&mut running, |event| {
            is_recovered(event) || is_failed(event)
        });
        assert!(over.last().is_some_and(is_recovered), "{nth}: {over:?}");
        if done {
            break;
        }
        running.start_again();
        assert_moves(&mut running);
    }
    assert_moves(&mut running);
    running.finish();
}
