//! Bursts of one packet, which have a way of their own, among others, which have not.

use mana_model::Model;
use mana_model::config::{Kernel, LinkConfig};
use mana_pmd::Queues;
use pmd_api::{Batch, Mbuf, Pool, Reject, TxBurst, TxFlags, TxOffload, TxOutcome};

use crate::support::{assert_no_findings, config, device, machine, open_one, pool};

/// A machine whose port keeps what is sent.
fn keeping() -> Model {
    let mut device = device(Kernel::default(), 1);
    device.ports[0].link = LinkConfig::Sink { capture: true };
    machine(vec![device])
}

fn packet(pool: &Pool, number: u8) -> Mbuf {
    let mut packet = pool.alloc().unwrap();
    packet.extend_from_slice(&[number; 60]).unwrap();
    packet
}

fn send(queues: &mut Queues, packets: Vec<Mbuf>) -> (TxOutcome, usize) {
    let mut batch = Batch::with_capacity(packets.len());
    assert!(batch.fill_from(packets).next().is_none());
    let outcome = queues.tx[0].tx_burst(&mut batch);
    (outcome, batch.len())
}

#[test]
fn all_kinds_of_packets_are_sent_in_their_order() {
    let (model, pool, other) = (keeping(), pool(1024), pool(256));
    let mut port = open_one(&model);
    let mut config = config(1, 1, &pool);
    config.tx_pools = vec![other.clone()];
    port.configure(config).unwrap();
    let mut queues = port.start().unwrap();
    let mut kept = Vec::new();
    let (mut number, mut lengths, mut tags) = (0, Vec::new(), 0);
    for turn in 0..300_usize {
        let mut sent = Vec::new();
        for _ in 0..1 + usize::from(turn % 5 == 4) * 2 {
            let mut packet = packet(if turn % 11 == 10 { &other } else { &pool }, number);
            number = number.wrapping_add(1);
            let mut length = 60;
            match turn % 7 {
                2 => {
                    let mut segment = pool.alloc().unwrap();
                    segment.extend_from_slice(&[number; 9]).unwrap();
                    packet.chain(segment).unwrap();
                    length += 9;
                }
                4 => kept.push(packet.clone_shared(&pool).unwrap()),
                6 => {
                    let offload = TxOffload {
                        flags: TxFlags::VLAN,
                        vlan_tci: 5,
                        ..TxOffload::default()
                    };
                    packet.set_tx_word(offload.word().unwrap());
                    length += 4;
                    tags += 4;
                }
                _ => {}
            }
            lengths.push(length);
            sent.push(packet);
        }
        let count = sent.len();
        let (outcome, left) = send(&mut queues, sent);
        assert_eq!((outcome.sent, left), (count, 0), "turn {turn}");
        assert!(outcome.rejected.is_none());
        if turn % 9 == 8 {
            port.set_histograms(turn % 2 == 0);
        }
        model.step();
    }
    let frames = model.port(0).take_tx_frames();
    let (numbers, sizes): (Vec<u8>, Vec<usize>) =
        frames.iter().map(|frame| (frame[0], frame.len())).unzip();
    let expected: Vec<u8> = (0..frames.len()).map(|n| n as u8).collect();
    assert_eq!((numbers, sizes), (expected, lengths));
    let stats = port.stats();
    assert_eq!(stats.tx_packets, frames.len() as u64);
    let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
    assert_eq!(stats.tx_bytes, bytes - tags, "the tags are the device's");
    port.stop(queues).unwrap();
    drop(kept);
    assert_eq!((pool.in_use(), other.in_use()), (0, 0));
    assert_no_findings(&model);
}

#[test]
fn a_full_ring_keeps_the_packet_and_an_empty_one_is_rejected() {
    let (model, pool) = (keeping(), pool(1024));
    let mut port = open_one(&model);
    port.configure(config(1, 1, &pool)).unwrap();
    let mut queues = port.start().unwrap();
    for turn in 0..3 {
        for number in 0..64 {
            assert_eq!(send(&mut queues, vec![packet(&pool, number)]).0.sent, 1);
        }
        let (outcome, left) = send(&mut queues, vec![packet(&pool, 64)]);
        assert_eq!((outcome.sent, left), (0, 1), "turn {turn}");
        model.step();
        let (outcome, left) = send(&mut queues, vec![pool.alloc().unwrap()]);
        assert_eq!((outcome.sent, left), (0, 0));
        assert_eq!(outcome.rejected.unwrap().1, Reject::Empty);
    }
    let frames = model.port(0).take_tx_frames();
    assert_eq!(frames.len(), 3 * 64);
    port.stop(queues).unwrap();
    assert_eq!(pool.in_use(), 0);
    assert_no_findings(&model);
}
