//! As LISA's "send only" run of testpmd: nothing needs to be behind the port.

use mana_model::LinkConfig;
use pmd_api::Mbuf;

use super::{Needs, Suite};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "send_only",
    proves: "packets of every kind and size, of one segment or several, sent on several queues are \
             all completed without an error, are counted with their bytes, and their buffers come \
             home",
    needs: Needs::Port,
    prepare: |device| device.ports[0].link = LinkConfig::Sink { capture: false },
    run,
};

const QUEUES: usize = 2;
const PACKETS: u32 = 400;

fn run(rig: &Rig) {
    let largest = rig.largest_frame();
    let plan = Plan {
        packet: 9014,
        spare: 256,
        ..Plan::queues(1, QUEUES)
    };
    let mut running = Running::start(rig, &plan);
    let most = running.port.info().max_tx_segments;
    let mut sent = [(0, 0); QUEUES];
    for number in 0..PACKETS {
        let kind = Kind::ALL[number as usize % Kind::ALL.len()];
        let size = 80 + number as usize * 97 % (largest - 79);
        let queue = number as usize % QUEUES;
        let whole = frame(kind, number, number, size);
        let packet = cut(&running, &whole, 1 + number % most.min(8));
        running.send(queue, vec![packet]);
        running.reclaim();
        sent[queue].0 += 1;
        sent[queue].1 += size as u64;
    }
    running.settle();
    assert_eq!(running.tx_pool.in_use(), 0, "buffers of sent packets");
    for (queue, expected) in (0..).zip(sent) {
        let stats = running.port.tx_queue_stats(queue);
        assert_eq!((stats.packets, stats.bytes), expected, "queue {queue}");
        assert_eq!((stats.errors, stats.rejected), (0, 0), "queue {queue}");
    }
    running.finish();
}

/// `bytes` in so many segments.
fn cut(running: &Running<'_>, bytes: &[u8], segments: u32) -> Mbuf {
    let mut pieces = bytes.chunks(bytes.len().div_ceil(segments as usize));
    let mut packet = running.packet(pieces.next().expect("a first piece"));
    for piece in pieces {
        packet.chain(running.packet(piece)).expect("a chain");
    }
    packet
}
