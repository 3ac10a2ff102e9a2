//! The kernel refuses: once at each operation of a start.

use mana_model::Fault;
use uverbs_abi::Errno;

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "errno_at_every_operation",
    proves: "whichever operation of start fails, the error keeps its errno, everything made so far \
             is gone, and the next start works",
    needs: Needs::Model,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    let device = rig.device();
    for errno in [Errno::ENOMEM, Errno::EINVAL] {
        let mut running = Running::start(rig, &Plan::queues(4, 3));
        running.stop();
        let before = device.objects();
        let mut failed = 0;
        for nth in 1.. {
            assert!(nth < 1000, "start never succeeds");
            device.inject(Fault::FailOperation { nth, errno });
            let operations = device.operations();
            match running.port.start() {
                Err(error) => {
                    failed += 1;
                    let told = error.to_string();
                    let name = errno.name().expect("a known errno");
                    assert!(told.contains(name), "operation {nth}: {told}");
                    assert!(!running.port.is_started());
                    assert_eq!(device.objects(), before, "operation {nth}");
                    assert_eq!((running.rx_pool.in_use(), running.tx_pool.in_use()), (0, 0));
                }
                Ok(queues) => {
                    let used = device.operations() - operations;
                    assert_eq!(failed, used, "an operation was not reached");
                    running.queues = queues;
                    break;
                }
            }
        }
        // 3 send queues with CQs, 4 receive queues with CQs, table, RSS QP, PD, two MRs; in process
        // also a doorbell a queue.
        assert!(
            failed >= 3 * 2 + 4 * 2 + 2 + 1 + 2,
            "only {failed} operations"
        );
        // The order that start did not reach is taken by an open, not by the stop to come.
        let _ = mana_pmd::Port::open(&rig.system, &rig.selector);
        let frames = mixture(64, 1000);
        assert_eq!(running.exchange(0, &frames).len(), frames.len());
        running.finish();
    }
}
