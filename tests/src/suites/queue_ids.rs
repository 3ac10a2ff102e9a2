//! Queue ids above 1023 leave the doorbell's page and count in the OOB's frame.

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "queue_ids",
    proves: "queues whose ids have more than 10 bits send and receive",
    needs: Needs::Model,
    prepare: |device| {
        device.first_queue_id = 0x3FE;
        device.first_cq_id = 0x7_FFFE;
    },
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(4, 4));
    for queue in 0..4 {
        let frames = mixture(100, 1514);
        let mut back: Vec<_> = running
            .exchange(queue, &frames)
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        let mut frames = frames;
        frames.sort();
        back.sort();
        assert!(frames == back, "packets changed");
    }
    assert_eq!(rig.device().counters().tx_errors, 0);
    running.finish();
}
