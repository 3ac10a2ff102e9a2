//! The device goes away under a running port and comes
//! back as another ib device.

use mana_model::After;
use mana_pmd::{Port, PortEvent};

use super::{Needs, Suite};
use crate::packets::mixture;
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "device_reset",
    proves: "a device that goes away is no port's any more, and as soon as it is back the same \
             selector finds its port under the new names and packets move, also after a reset while \
             nobody had it open",
    needs: Needs::Model,
    prepare: |_| (),
    run,
};

fn run(rig: &Rig) {
    let mac = rig.info().mac;
    let mut running = Running::start(rig, &Plan::default());
    let frames = mixture(24, 1514);
    assert_eq!(running.exchange(0, &frames).len(), frames.len());
    rig.device().remove(0);
    let mut told = None;
    assert!(rig.until(|| {
        told = running.port.next_event().expect("events can be read");
        told.is_some()
    }));
    assert_eq!(told, Some(PortEvent::DeviceRemoved));
    running.finish();
    let away = Port::open(&rig.system, &rig.selector);
    assert!(away.is_err(), "{away:?}");

    rig.device().restore(0);
    assert_moves(rig);
    // With nobody there to see it go.
    rig.device().reset(0, After::Steps(0));
    assert_moves(rig);
    assert_eq!(rig.info().mac, mac);
    rig.assert_clean(&[]);
}

fn assert_moves(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    let frames = mixture(40, 1000);
    assert_eq!(running.exchange(1, &frames).len(), frames.len());
    running.finish();
}
