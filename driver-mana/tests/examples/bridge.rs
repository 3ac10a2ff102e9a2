use std::path::Path;
use std::time::Duration;

use mana_model::pcap;

use crate::support::{frames, until};

#[path = "../../examples/bridge.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use example::common::{Arguments, Machine};

fn capture(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = pcap::Writer::create(path).unwrap();
    for frame in frames {
        writer.write(Duration::ZERO, frame).unwrap();
    }
    writer.flush().unwrap();
}

/// Replays a capture into each port; what comes out is captured again.
fn bridged(queues: usize) -> [[Vec<Vec<u8>>; 2]; 2] {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let sent = [frames(3000, 1514, 1), frames(2000, 1514, 2)];
    let mut words = vec![format!("--queues={queues}")];
    for (port, frames) in sent.iter().enumerate() {
        let (rx, tx) = (file(&format!("rx{port}")), file(&format!("tx{port}")));
        capture(&rx, frames);
        let (rx, tx) = (rx.display(), tx.display());
        words.push(format!("--vdev=model{port},link=pcap:rx={rx}:tx={tx}"));
    }
    let arguments = Arguments::parse(words, &example::OPTIONS).unwrap().unwrap();
    let machine = Machine::new(&arguments).unwrap();
    let model = machine.model().unwrap();
    until(
        |stop| example::run(&arguments, &machine, stop).unwrap(),
        || (0..2).all(|port| model.port(port).counters().tx_frames == sent[1 - port].len() as u64),
    );
    assert!(model.drained());
    assert_eq!(machine.finish(), []);
    let received = [1, 0].map(|port| pcap::read(&file(&format!("tx{port}"))).unwrap());
    [sent, received]
}

#[test]
fn the_bridge_delivers_every_frame_once_in_order_and_with_its_tag() {
    let [sent, received] = bridged(1);
    for (sent, received) in sent.iter().zip(received) {
        assert_eq!(sent.len(), received.len());
        for (number, (sent, received)) in sent.iter().zip(received).enumerate() {
            assert_eq!(*sent, received, "frame {number}");
        }
    }
}

#[test]
fn with_two_queues_every_frame_arrives_once() {
    let [sent, received] = bridged(2);
    for (mut sent, mut received) in sent.into_iter().zip(received) {
        sent.sort();
        received.sort();
        assert!(sent == received);
    }
}
