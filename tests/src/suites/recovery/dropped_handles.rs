//! Owners that are gone.

use super::{learn, recover, suite};
use crate::packets::{Kind, frame, mixture};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_dropped_handles",
    "handles that are dropped before, during or after the loss of the device keep nobody waiting",
    run,
);

fn run(rig: &Rig) {
    for dropped in 0..3 {
        let mut running = Running::start(rig, &Plan::queues(2, 2));
        running.send_frames(1, &mixture(8, 600));
        let drop_some = |running: &mut Running<'_>, when| {
            if when == dropped {
                running.queues.rx.pop();
                running.queues.tx.pop();
            }
        };
        drop_some(&mut running, 0);
        rig.take_away();
        drop_some(&mut running, 1);
        learn(&mut running);
        drop_some(&mut running, 2);
        rig.bring_back();
        recover(&mut running);
        let one = running.packet(&frame(Kind::UdpV4, 1, 1, 80));
        running.send(0, vec![one]);
        running.settle();
        running.finish();
    }
}
