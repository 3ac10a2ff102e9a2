//! As DTS "port control": start and stop again and again, with packets in flight.

use std::fmt::Debug;

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "restart",
    proves: "start and stop cycles with packets in flight in both directions leave pools and kernel \
             objects as they were",
    needs: Needs::Port,
    prepare: |_| (),
    run: |rig| cycles(rig, 100, || ()),
};

/// The suite with so many cycles, and something that must be equal after each of them. (The first
/// two may fill caches of the process.)
///
/// # Panics
///
/// If something grows.
pub fn cycles<T: PartialEq + Debug>(rig: &Rig, cycles: u32, measure: impl Fn() -> T) {
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    let frames = mixture(24, 1514);
    let mut first = None;
    for cycle in 0..cycles {
        // Some packets are complete, some arrived and were not received, some were not even looked
        // at by the device when the port stops.
        running.send_frames(0, &frames);
        let held = running.poll();
        let mbufs = frames.iter().map(|frame| running.packet(frame)).collect();
        running.send(1, mbufs);
        assert!(running.tx_pool.in_use() > 0, "nothing is in flight");
        running.stop();
        drop(held);
        assert_eq!(
            (running.rx_pool.in_use(), running.tx_pool.in_use()),
            (0, 0),
            "cycle {cycle}"
        );
        if cycle >= 2 {
            let now = (rig.objects(), measure());
            let known = first.get_or_insert_with(|| (rig.objects(), measure()));
            assert_eq!(now, *known, "cycle {cycle}");
        }
        running.start_again();
    }
    running.finish();
}
