//! As DTS "port_stats": the driver's counters against the device's.

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "port_stats",
    proves: "packets and bytes of port and queues equal what the device counted, and a restart \
             resets none of them",
    needs: Needs::Model,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(4, 3));
    let mut packets = 0;
    for round in 0..3_u64 {
        for queue in 0..3 {
            let frames = mixture(40 + 10 * queue, 1514);
            packets += frames.len() as u64;
            running.exchange(queue, &frames);
        }
        running.settle();
        let (stats, device) = (running.port.stats(), rig.device().counters());
        assert_eq!(stats.tx_packets, packets, "round {round}");
        assert_eq!(
            (stats.tx_packets, stats.tx_bytes),
            (device.tx_frames, device.tx_bytes)
        );
        assert_eq!(
            (stats.rx_packets, stats.rx_bytes),
            (device.rx_frames, device.rx_bytes)
        );
        assert_eq!((stats.rx_errors, stats.tx_errors), (0, 0));
        assert_eq!((stats.rx_missed, stats.rx_nombuf), (0, 0));
        let port = &running.port;
        let tx: u64 = (0..3).map(|queue| port.tx_queue_stats(queue).packets).sum();
        let rx: u64 = (0..4).map(|queue| port.rx_queue_stats(queue).packets).sum();
        let bytes: u64 = (0..4).map(|queue| port.rx_queue_stats(queue).bytes).sum();
        assert_eq!((tx, rx, bytes), (packets, packets, stats.rx_bytes));
        for queue in 0..3 {
            let sent = port.tx_queue_stats(queue).packets;
            assert_eq!(sent, (round + 1) * (40 + 10 * u64::from(queue)));
        }
        running.restart();
        assert_eq!(running.port.stats(), stats, "a restart resets nothing");
    }
    running.finish();
}
