//! Rings go round: owner phases, cursors, and the CQ doorbell that is due every few laps
//! (reference/mana-hardware.md §2.8).

use super::{Needs, Suite};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "ring_laps",
    proves: "over many laps of every ring, with a completion for each packet, nothing is lost and \
             completion queues are acknowledged in time",
    needs: Needs::Loop,
    prepare: |_| (),
    run,
};

/// The device calls an acknowledgement overdue after 8.
const LAPS: u32 = 40;

fn run(rig: &Rig) {
    let plan = Plan::default();
    let mut running = Running::start(rig, &plan);
    let mut sent = 0;
    let mut received = 0;
    while sent < LAPS * plan.depth {
        // A burst of one packet has a completion of its own, and arrives in one of its own.
        let count = 1 + u32::from(sent % 5 == 4);
        for _ in 0..count {
            let packet = running.packet(&frame(Kind::UdpV4, 1, sent, 60));
            running.send(0, vec![packet]);
            sent += 1;
        }
        for one in running.receive(count as usize) {
            assert_eq!(seed_of(one.mbuf.data()), received);
            received += 1;
        }
        running.reclaim();
    }
    running.settle();
    assert_eq!(running.port.stats().tx_packets, u64::from(sent));
    running.finish();
}
