//! A device that does not come back.

use std::time::{Duration, Instant};

use mana_pmd::{Error, PortEvent, RecoveryConfig};

use super::{assert_moves, close, poll_all, recover, suite};
use crate::events::{events_until, is_failed};
use crate::packets::mixture;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_stays_away",
    "a device that stays away fails the recovery in time, even with a silent owner, and closing \
     works; one that comes later is taken when that is asked for",
    run,
);

fn run(rig: &Rig) {
    for silent in [false, true] {
        let mut running = Running::start(rig, &Plan::queues(1, 1));
        running.send_frames(0, &mixture(8, 600));
        running.port.set_recovery(RecoveryConfig {
            deadline: Duration::from_millis(150),
            ..RecoveryConfig::default()
        });
        let start = Instant::now();
        rig.take_away();
        let queues = &mut running.queues;
        let owners = || {
            if !silent {
                poll_all(queues);
            }
        };
        let events = events_until(rig, &mut running.port, owners, is_failed);
        assert!(start.elapsed() >= Duration::from_millis(150));
        let Some(PortEvent::RecoveryFailed { reason }) = events.last() else {
            unreachable!()
        };
        let expected = "did not come back within 150ms";
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(running.port.next_event().unwrap(), None);
        let waited = PortEvent::WaitingForQueue {
            queues: vec!["rx 0".to_owned(), "tx 0".to_owned()],
        };
        assert_eq!(events.contains(&waited), silent, "{events:?}");
        if silent {
            running.port.set_recovery(RecoveryConfig::default());
            rig.bring_back();
            running.port.recover();
            recover(&mut running);
            assert_moves(&mut running);
            running.finish();
        } else {
            running.stop();
            let error = running.port.start().unwrap_err();
            assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
            close(running);
            rig.assert_clean(&[]);
            rig.bring_back();
        }
    }
}
