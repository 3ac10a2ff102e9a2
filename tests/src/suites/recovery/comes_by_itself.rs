//! A reset as the kernel makes one: nobody of the test brings the device back.

use std::time::Duration;

use mana_model::After;
use mana_pmd::PortEvent;

use super::suite;
use super::workers::Load;
use crate::events::is_recovered;
use crate::{Rig, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "recovery_comes_by_itself",
    "a device that is reset under load and comes back by itself some time later is found without \
     anybody's help, at once and after some time",
    run,
);

fn run(rig: &Rig) {
    let mut load = Load::start(rig);
    for after in [
        After::Time(Duration::from_millis(30)),
        After::Steps(0),
        After::Time(Duration::from_millis(1)),
    ] {
        load.moves();
        rig.device().reset(0, after);
        let events = load.events_until(is_recovered);
        let removed = |event: &&PortEvent| **event == PortEvent::DeviceRemoved;
        assert_eq!(events.iter().filter(removed).count(), 1, "{events:?}");
    }
    load.finish();
}
