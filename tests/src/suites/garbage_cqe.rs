//! The device is not trusted: completions of nonsense are counted and harm nothing.

use mana_model::Fault;

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "garbage_cqe",
    proves: "a completion of nonsense, of either direction, does not crash the driver, is counted, \
             and all buffers are home after stop",
    needs: Needs::Model,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    for nth in 1..=24 {
        let mut running = Running::start(rig, &Plan::default());
        rig.device().inject(Fault::GarbageCqe { port: 0, nth });
        let mut back = 0;
        for frames in mixture(96, 1000).chunks(8) {
            let mbufs = frames.iter().map(|frame| running.packet(frame)).collect();
            running.send(0, mbufs);
            rig.advance();
            back += running.poll().len();
            running.reclaim();
        }
        // One receive completion carries at most 4 packets; the others must come.
        let came = rig.until(|| {
            back += running.poll().len();
            running.reclaim();
            back >= 92
        });
        let port = &running.port;
        let (tx, rx) = (port.tx_queue_stats(0), port.rx_queue_stats(0));
        let counted = tx.bad_completions + rx.bad_completions;
        assert!(
            counted > 0,
            "completion {nth} was not counted: {tx:?} {rx:?}"
        );
        assert!(came, "only {back} packets came");
        running.finish();
    }
}
