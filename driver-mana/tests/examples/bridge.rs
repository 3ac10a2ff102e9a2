use crate::support::{Replayed, frames, until};

#[path = "../../examples/bridge.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use example::common::{Arguments, Machine};

fn bridged(option: &str) -> Replayed {
    let replayed = Replayed::new([frames(3000, 1514, 1), frames(2000, 1514, 2)]);
    let words = replayed.devices().chain([option.to_owned()]);
    let arguments = Arguments::parse(words, &example::OPTIONS).unwrap().unwrap();
    let machine = Machine::new(&arguments).unwrap();
    let model = machine.model().unwrap();
    until(
        |stop| example::run(&arguments, &machine, stop).unwrap(),
        || replayed.all_sent(model),
    );
    assert_eq!(model.objects(), mana_model::ObjectCounts::default());
    assert_eq!(machine.finish(), []);
    replayed
}

#[test]
fn the_bridge_delivers_every_frame_once_in_order_and_with_its_tag() {
    bridged("--queues=1").assert_unchanged();
}

#[test]
fn with_two_queues_every_frame_arrives_once() {
    for (mut sent, mut received) in bridged("--queues=2").both_ways() {
        sent.sort();
        received.sort();
        assert!(sent == received);
    }
}
