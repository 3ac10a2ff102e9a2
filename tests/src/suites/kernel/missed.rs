//! Packets that found no buffer, as `ethtool -S` of the function's other netdev tells them.

use std::time::{Duration, Instant};

use pmd_api::Mbuf;

use super::super::two_ports;
use super::{Needs, flows};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = Suite {
    name: "kernel_missed",
    proves: "packets for which no buffer was posted are told as missed, exactly, while the netdev of \
             the function's other port is UP, and the port goes on when buffers are back",
    needs: Needs::Steering,
    prepare: two_ports,
    run,
};

/// More than the kernel's statistics are old.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(rig: &Rig) {
    rig.device().set_netdev_up(1, true);
    let mut running = Running::start(rig, &Plan::default());
    if !rig.has_netdevs() {
        running.port.refresh_missed();
        assert_eq!(running.port.missed(), None, "nobody can tell here");
        running.finish();
        rig.device().set_netdev_up(1, false);
        return;
    }
    running.port.refresh_missed();
    let before = running
        .port
        .missed()
        .expect("the other netdev is UP")
        .packets;
    // The pool is empty, the ring is full: so many packets come, and no more.
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| running.rx_pool.alloc()).collect();
    let sent = 400;
    for some in flows(sent, 120).chunks(16) {
        running.send_frames(0, some);
        held.extend(running.poll().into_iter().map(|one| one.mbuf));
    }
    running.settle();
    let lost = |running: &Running<'_>| u64::from(sent) - running.port.stats().rx_packets;
    let start = Instant::now();
    loop {
        held.extend(running.poll().into_iter().map(|one| one.mbuf));
        running.port.refresh_missed();
        let missed = running.port.missed().expect("it is still UP").packets - before;
        if missed > 0 && missed == lost(&running) {
            break;
        }
        let waited = start.elapsed();
        assert!(
            waited < PATIENCE,
            "{missed} missed, {} lost",
            lost(&running)
        );
        rig.advance();
    }
    assert_eq!(running.port.stats().rx_missed, before + lost(&running));
    drop(held);
    running.poll();
    super::assert_moves(&mut running);
    running.finish();
    rig.device().set_netdev_up(1, false);
}
