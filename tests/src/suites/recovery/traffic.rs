//! A reset between two bursts.

use mana_pmd::PortEvent;
use pmd_api::{Batch, TxBurst};
use uverbs_abi::IbDevice;

use super::{assert_moves, learn, recover, suite};
use crate::packets::{Kind, frame, mixture};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_traffic",
    "a reset under traffic is survived by the same handles and counters, under another ib name and \
     uverbs number where the kernel gives them; no frame is counted twice or not at all, and no buffer is lost",
    run,
);

fn device(running: &Running<'_>) -> IbDevice {
    let devices = running.rig.system.ib_devices().expect("devices");
    let name = &running.port.info().ib_device;
    let device = devices.into_iter().find(|device| device.name == *name);
    device.expect("the port's device is there")
}

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    assert_moves(&mut running);
    let (old, before) = (device(&running), running.port.stats());
    running.send_frames(1, &mixture(24, 600));
    rig.take_away();
    // The device takes nothing any more, so this is lost for sure.
    let lone = running.packet(&frame(Kind::UdpV4, 1, 1, 80));
    running.send(0, vec![lone]);
    let sent = running.port.stats();
    learn(&mut running);
    let mut batch = Batch::with_capacity(4);
    batch.push(running.packet(&[0; 60])).unwrap();
    for queue in &mut running.queues.tx {
        let outcome = queue.tx_burst(&mut batch);
        assert_eq!((outcome.sent, batch.len(), queue.in_flight()), (0, 1, 0));
    }
    drop(batch);
    rig.bring_back();
    let events = recover(&mut running);
    let [PortEvent::Recovering, PortEvent::Recovered { lost }] = events[..] else {
        panic!("{events:?}");
    };
    assert!(lost.tx >= 1, "{lost:?}");
    let after = running.port.stats();
    assert_eq!(
        after.tx_packets + after.tx_errors,
        sent.tx_packets + sent.tx_errors
    );
    assert_eq!(after.tx_errors, before.tx_errors + lost.tx);
    assert_eq!(after.rx_errors, before.rx_errors + lost.rx);
    let new = device(&running);
    if rig.changes_names() {
        let other = new.name != old.name && new.node != old.node;
        assert!(other, "{old:?} {new:?}");
    }
    // All that is in use is posted.
    assert_eq!(running.rx_pool.in_use(), 2 * 64);
    assert_eq!(running.tx_pool.in_use(), 0);
    assert_moves(&mut running);
    assert_eq!(running.port.stats().tx_packets, after.tx_packets + 40);
    running.finish();
}
