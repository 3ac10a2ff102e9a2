use mana_model::pcap;

use crate::support::{frames, until};

#[path = "../../examples/async_echo.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use example::common::{Arguments, Machine};

#[test]
fn tasks_of_tokio_send_back_every_frame_with_its_addresses_swapped_and_its_tag() {
    let sent = frames(2000, 1514, 3);
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
    let mut writer = pcap::Writer::create(&input).unwrap();
    for frame in &sent {
        writer.write(std::time::Duration::ZERO, frame).unwrap();
    }
    writer.flush().unwrap();
    let device = format!(
        "--vdev=model0,link=pcap:rx={}:tx={}",
        input.display(),
        output.display()
    );
    let words = [device, "--queues=2".to_owned()];
    let arguments = Arguments::parse(words, &example::OPTIONS).unwrap().unwrap();
    let machine = Machine::new(&arguments).unwrap();
    let model = machine.model().unwrap();
    until(
        |stop| example::run(&arguments, &machine, stop).unwrap(),
        || model.port(0).counters().tx_frames >= sent.len() as u64,
    );
    assert_eq!(model.objects(), mana_model::ObjectCounts::default());
    assert_eq!(machine.finish(), []);
    let turned = sent.into_iter().map(|mut frame| {
        let (to, from) = frame.split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
        frame
    });
    let (mut turned, mut came) = (turned.collect::<Vec<_>>(), pcap::read(&output).unwrap());
    turned.sort();
    came.sort();
    assert!(turned == came);
}
