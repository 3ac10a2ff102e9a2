use std::sync::atomic::AtomicBool;

use dma_memory::{HugePages, RegionOptions};
use pmd_api::{Mbuf, Pool, PoolConfig};

#[path = "../../examples/pipeline.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;

use crate::support::{Replayed, frames, until};
use example::common::{Arguments, Machine};
use example::{OPTIONS, split_packet};

fn pool(buffers: u32, data_room: u32) -> Pool {
    Pool::new(PoolConfig {
        buffers,
        data_room,
        cache: 0,
        memory: RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        },
        ..PoolConfig::default()
    })
    .unwrap()
}

/// Replays captures of frames up to `longest` bytes through the example.
fn forwarded(longest: usize, options: &[&str]) -> Replayed {
    let replayed = Replayed::new([frames(1500, longest, 3), frames(1000, longest, 4)]);
    let words = options.iter().map(|word| (*word).to_owned());
    let words = words.chain(replayed.devices());
    let arguments = Arguments::parse(words, &OPTIONS).unwrap().unwrap();
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
fn whole_packets_arrive_unchanged_in_order_and_with_their_tags() {
    forwarded(1514, &[]).assert_unchanged();
}

#[test]
fn packets_cut_into_many_segments_arrive_unchanged_in_order_and_with_their_tags() {
    forwarded(1514, &["--split=64"]).assert_unchanged();
    forwarded(1514, &["--split=1"]).assert_unchanged();
    forwarded(9014, &["--split=512", "--mbuf-size=9728"]).assert_unchanged();
}

#[test]
fn the_segments_have_the_size_asked_for_and_are_views_of_the_same_bytes() {
    let (data, views) = (pool(1, 9728), pool(29, 129));
    for (len, bytes, expected) in [
        (1514, 512, vec![512, 512, 490]),
        (1024, 512, vec![512, 512]),
        (512, 512, vec![512]),
        (60, 512, vec![60]),
        (60, usize::MAX, vec![60]),
        (1500, 50, vec![50; 30]),
        // The thirtieth takes the rest.
        (1514, 50, [vec![50; 29], vec![64]].concat()),
        (9014, 1, [vec![1; 29], vec![8985]].concat()),
    ] {
        let mut packet = data.alloc().unwrap();
        let whole: Vec<u8> = (0..len).map(|at| at as u8).collect();
        packet.extend_from_slice(&whole).unwrap();
        let address = packet.data_address();
        split_packet(&mut packet, bytes, &views).unwrap();
        let lengths: Vec<usize> = packet.iter().map(|segment| segment.data_len()).collect();
        assert_eq!(lengths, expected, "{len} bytes by {bytes}");
        assert_eq!(packet.to_vec(), whole);
        let mut at = address;
        for segment in &packet {
            assert_eq!(
                (segment.data_address(), segment.buffer_pool()),
                (at, data.id())
            );
            at += segment.data_len() as u64;
        }
        drop(packet);
        assert_eq!((data.in_use(), views.in_use()), (0, 0));
    }
}

#[test]
fn too_few_views_make_fewer_segments_and_no_other_packet() {
    let (data, views) = (pool(1, 2176), pool(2, 129));
    let mut packet: Mbuf = data.alloc().unwrap();
    packet.extend_from_slice(&[7; 1000]).unwrap();
    assert!(split_packet(&mut packet, 100, &views).is_err());
    let lengths: Vec<usize> = packet.iter().map(|segment| segment.data_len()).collect();
    assert_eq!(lengths, [800, 100, 100]);
    drop(packet);
    assert_eq!((data.in_use(), views.in_use()), (0, 0));
}

#[test]
fn segments_of_no_bytes_are_refused() {
    let words = ["--split=0".to_owned()];
    let arguments = Arguments::parse(words, &OPTIONS).unwrap().unwrap();
    let machine = Machine::new(&arguments).unwrap();
    let error = example::run(&arguments, &machine, &AtomicBool::new(true)).unwrap_err();
    assert!(error.to_string().contains("at least one byte"), "{error}");
}
