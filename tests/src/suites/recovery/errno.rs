//! The kernel refuses, once at each operation of a recovery.

use mana_model::Fault;
use mana_pmd::PortEvent;
use pmd_api::{Batch, RxBurst};
use uverbs_abi::Errno;

use super::{assert_moves, events, let_go, recover, suite};
use crate::events::{is_failed, is_recovered};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_errno",
    "whichever operation of a recovery fails, the port says so with the errno, everything made so \
     far is gone, and asking for another recovery or a restart mends it",
    run,
);

fn run(rig: &Rig) {
    let device = rig.device();
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    let mut failed = 0;
    for nth in 1.. {
        assert!(nth < 200, "the rebuild never succeeds");
        rig.take_away();
        // What is left of the old device is no operation of the rebuild.
        let_go(&mut running);
        rig.bring_back();
        let start = device.operations();
        let errno = Errno::ENOMEM;
        device.inject(Fault::FailOperation { nth, errno });
        let events = events(&mut running, |event| {
            is_failed(event) || is_recovered(event)
        });
        let used = device.operations() - start;
        let Some(PortEvent::RecoveryFailed { reason }) = events.last() else {
            assert_moves(&mut running);
            if used >= nth {
                // It hit the opening of the device, which was tried again.
                continue;
            }
            // The order that was not reached is taken by other opens, not by the stop to come.
            rig.spend_operations(start + nth);
            break;
        };
        failed += 1;
        assert!(reason.contains("ENOMEM"), "operation {nth}: {reason}");
        assert_eq!(running.rx_pool.in_use(), 0, "operation {nth}");
        assert_eq!(running.tx_pool.in_use(), 0, "operation {nth}");
        let mut batch = Batch::with_capacity(1);
        assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
        if nth % 2 == 0 {
            running.stop();
            running.start_again();
        } else {
            running.port.recover();
            recover(&mut running);
        }
        assert_moves(&mut running);
    }
    // PD, two MRs, two send queues and two receive queues with CQs, table, RSS QP; in process also a
    // doorbell a queue, and a CQ's.
    assert!(
        failed >= 1 + 2 + 2 * 2 + 2 * 2 + 2,
        "only {failed} failures"
    );
    running.finish();
}
