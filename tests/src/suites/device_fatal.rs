//! The device goes away under a running port.

use std::time::Duration;

use mana_model::Fault;
use mana_pmd::{Error, PortEvent, RxInterrupt};
use pmd_api::{Batch, RxBurst, Support, TxBurst, Wake};

use super::{Needs, Suite};
use crate::packets::{Kind, frame, mixture};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "device_fatal",
    proves: "a device that goes away under traffic is told once as an event; bursts go on and move \
             nothing, starting again is refused with the cause, stopping and closing work, and all \
             buffers come home",
    needs: Needs::Model,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    // The model's device stays away, so this is all there can be on one.
    let events = {
        let port = rig.open();
        let support = port.capabilities().rx_interrupt;
        port.close().expect("a port that was only opened");
        support == Support::Yes
    };
    let plan = Plan {
        rx_interrupts: events,
        ..Plan::queues(2, 2)
    };
    let mut running = Running::start(rig, &plan);
    assert_eq!(running.port.next_event().unwrap(), None);
    // Packets received, completed and not reclaimed, and not even looked at by the device.
    running.send_frames(0, &mixture(24, 1514));
    let held = running.poll();
    let frame = frame(Kind::UdpV4, 1, 1, 80);
    running.send(1, vec![running.packet(&frame)]);
    assert!(running.tx_pool.in_use() > 0 && running.rx_pool.in_use() > 0);

    rig.device().inject(Fault::DeviceFatal { device: 0 });
    rig.advance();
    assert_eq!(
        running.port.next_event().unwrap(),
        Some(PortEvent::DeviceRemoved)
    );
    assert_eq!(running.port.next_event().unwrap(), None);

    // What arrived before may still be received; then nothing moves, and nothing is lost.
    drop(running.poll());
    let mut batch = Batch::with_capacity(4);
    for _ in 0..1000 {
        assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
        rig.advance();
    }
    batch.push(running.packet(&frame)).expect("room");
    for queue in &mut running.queues.tx {
        let outcome = queue.tx_burst(&mut batch);
        assert_eq!((outcome.sent, batch.len()), (0, 1));
        assert!(outcome.rejected.is_none());
        queue.reclaim();
    }
    batch.clear();
    if events {
        // The port has asked for the queue and would wake its owner with the device's return.
        let moment = Some(Duration::from_millis(5));
        let waited = running.queues.rx[1].wait(moment).expect("waiting goes on");
        assert_eq!(waited, Wake::Control);
        let waited = running.queues.rx[1].wait(moment).expect("waiting goes on");
        assert_eq!(waited, Wake::Timeout);
    }

    let Running {
        mut port,
        queues,
        rx_pool,
        tx_pool,
        ..
    } = running;
    port.stop(queues).expect("the port stops");
    let error = port.start().expect_err("there is no device");
    assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
    port.close().expect("the port closes");
    drop(held);
    rig.assert_clean(&[&rx_pool, &tx_pool]);
}
