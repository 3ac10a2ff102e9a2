//! Packets through DPDK's testpmd and ours, counted and read where they leave the model.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use conformance::stack::{Column, Outcome, Session, Stack, Stats, Stream};
use conformance::{capture, packets, rfc1071, situations};

/// Packets of a burst: what the driver in C has sent and not yet counted on a queue when it stops,
/// because it counts at completion (reference/mana-hardware.md §8 no. 39).
const BURST: u64 = 32;
/// Bytes of a capture that the model may not have written yet when nothing moves any more.
const UNWRITTEN: u64 = 8 * 1024;
/// How long what remains of a source may take when all but that was seen: some hundred packets.
const REMAINS: Duration = Duration::from_millis(500);
/// Bytes of a capture's head, and beside each frame.
const HEAD: u64 = 24;
const RECORD: u64 = 16;

/// Files of one run.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs a testpmd until the capture `file` has `size` bytes.
#[track_caller]
fn until(stack: &Stack, column: Column, model: &str, app: &str, file: &Path, size: u64) -> Session {
    let app = format!("--auto-start --total-num-mbufs=16384 {app}");
    let mut session = Session::start(stack, column, model, "DEVICE", &app).on_its_libraries(stack);
    let end = Instant::now() + Duration::from_secs(30);
    let length = || fs::metadata(file).map_or(0, |metadata| metadata.len());
    while length() < size {
        let written = length();
        let late = Instant::now() > end || session.has_ended();
        if late {
            let said = session.stop();
            panic!("{written} of {size} bytes left the model: {}", said.ended);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    session
}

/// As [`until`], with nothing more to come: waits for the rest of `size` that was not written.
#[track_caller]
fn drained(
    stack: &Stack,
    column: Column,
    model: &str,
    app: &str,
    file: &Path,
    size: u64,
) -> Outcome {
    // What comes before forwarding begins would be dropped.
    let app = format!("--no-flush-rx {app}");
    let session = until(stack, column, model, &app, file, size - UNWRITTEN);
    std::thread::sleep(REMAINS);
    session.stop()
}

fn frames(file: &Path) -> Vec<Vec<u8>> {
    capture::read(&fs::read(file).expect("a capture"))
}

/// Asserts that what the testpmd says it has sent is what left.
#[track_caller]
fn assert_sent(column: Column, stats: &Stats, left: u64) {
    // The streams count what the driver took, the ports what was completed.
    let taken = stats.sum().tx;
    if column.is_ours() || stats.streams.len() > 1 {
        assert_eq!(taken, left, "{stats:?}");
    }
    let queues = stats.streams.len().max(1) as u64;
    let uncounted = if column.is_ours() { 0 } else { BURST * queues };
    assert!(
        stats.tx <= left && left <= stats.tx + uncounted,
        "{left} left: {stats:?}"
    );
}

fn sends(stack: &Stack, column: Column, queues: u32) -> String {
    let files = Files::new();
    let file = files.path("sent.pcap");
    let model = format!("model0,link=pcap:tx={}", file.display());
    let app = format!("--forward-mode=txonly --txq={queues} --rxq={queues} --txd=128 --rxd=128");
    let outcome = until(stack, column, &model, &app, &file, 100_000).stop();
    let stats = outcome.clean();
    let left = frames(&file).len() as u64;
    assert_sent(column, &stats, left);
    assert_eq!(stats.rx, 0);
    if queues > 1 {
        assert!(
            stats.streams.iter().all(|stream| stream.tx > 0),
            "{stats:?}"
        );
    }
    format!("{left} left, {} counted", stats.tx)
}

fn counts_in_txonly_on_one_queue_what_left(stack: &Stack, column: Column) -> String {
    sends(stack, column, 1)
}

fn counts_in_txonly_on_two_queues_what_left(stack: &Stack, column: Column) -> String {
    sends(stack, column, 2)
}

fn counts_in_txonly_on_four_queues_what_left(stack: &Stack, column: Column) -> String {
    sends(stack, column, 4)
}

fn counts_in_txonly_on_eight_queues_what_left(stack: &Stack, column: Column) -> String {
    sends(stack, column, 8)
}

/// A generator's frames, all of which the port has buffers for.
fn receives(stack: &Stack, column: Column, queues: u32) -> String {
    const COUNT: u64 = 20_000;
    let files = Files::new();
    let file = files.path("all.pcap");
    let model = format!(
        "model0,link=gen:count={COUNT}:size=60:flows=64,capture={}",
        file.display()
    );
    let app = format!("--forward-mode=macswap --txq={queues} --rxq={queues} --txd=256 --rxd=256");
    let size = HEAD + 2 * COUNT * (RECORD + 60);
    let outcome = drained(stack, column, &model, &app, &file, size);
    let stats = outcome.clean();
    assert_eq!(frames(&file).len() as u64, 2 * COUNT);
    assert_eq!((stats.rx, stats.rx_dropped), (COUNT, 0), "{stats:?}");
    assert_eq!(stats.tx_dropped, 0, "{stats:?}");
    assert_sent(column, &stats, COUNT);
    format!("{COUNT} of {COUNT}")
}

fn forwards_all_of_a_generator_by_macswap_on_one_queue(stack: &Stack, column: Column) -> String {
    receives(stack, column, 1)
}

fn forwards_all_of_a_generator_by_macswap_on_two_queues(stack: &Stack, column: Column) -> String {
    receives(stack, column, 2)
}

fn forwards_all_of_a_generator_by_macswap_on_four_queues(stack: &Stack, column: Column) -> String {
    receives(stack, column, 4)
}

fn forwards_all_of_a_generator_by_macswap_on_eight_queues(stack: &Stack, column: Column) -> String {
    receives(stack, column, 8)
}

/// What is in flight when forwarding stops has left and come back, but was not received.
fn circulates(stack: &Stack, column: Column, queues: u32) -> String {
    let files = Files::new();
    let file = files.path("both.pcap");
    let model = format!("model0,link=loop,capture={}", file.display());
    let app = format!(
        "--forward-mode=io --tx-first --txonly-multi-flow --txq={queues} --rxq={queues} --txd=128 \
         --rxd=128"
    );
    let outcome = until(stack, column, &model, &app, &file, 100_000).stop();
    let stats = outcome.clean();
    // Each frame leaves and comes back.
    let both = frames(&file).len() as u64;
    assert_eq!(both % 2, 0, "{stats:?}");
    assert_sent(column, &stats, both / 2);
    let Stream { rx, dropped, .. } = stats.sum();
    assert_eq!((dropped, stats.rx_dropped), (0, 0), "{stats:?}");
    let flying = both / 2 - rx;
    assert_eq!(flying, BURST * u64::from(queues), "{stats:?}");
    format!("{rx} round, 0 lost")
}

fn loses_nothing_in_io_through_a_loop_on_one_queue(stack: &Stack, column: Column) -> String {
    circulates(stack, column, 1)
}

fn loses_nothing_in_io_through_a_loop_on_two_queues(stack: &Stack, column: Column) -> String {
    circulates(stack, column, 2)
}

fn loses_nothing_in_io_through_a_loop_on_four_queues(stack: &Stack, column: Column) -> String {
    circulates(stack, column, 4)
}

fn loses_nothing_in_io_through_a_loop_on_eight_queues(stack: &Stack, column: Column) -> String {
    circulates(stack, column, 8)
}

/// Replays a mixture of frames; what left, in order.
fn replayed(stack: &Stack, column: Column, given: &[Vec<u8>], app: &str) -> Vec<Vec<u8>> {
    let files = Files::new();
    let (from, to) = (files.path("in.pcap"), files.path("out.pcap"));
    fs::write(&from, capture::write(given)).expect("the capture can be written");
    let model = format!("model0,link=pcap:rx={}:tx={}", from.display(), to.display());
    let bytes: usize = given.iter().map(Vec::len).sum();
    let size = HEAD + bytes as u64 + RECORD * given.len() as u64;
    let outcome = drained(stack, column, &model, app, &to, size);
    let stats = outcome.clean();
    assert_eq!(stats.rx, given.len() as u64, "{stats:?}");
    let left = frames(&to);
    assert_sent(column, &stats, left.len() as u64);
    left
}

fn swaps_macs(stack: &Stack, column: Column, descriptors: u32) -> String {
    let given = packets::mixture(5_000, 1_500);
    let app = format!("--forward-mode=macswap --txd={descriptors} --rxd={descriptors}");
    let left = replayed(stack, column, &given, &app);
    let swapped = given.iter().map(|frame| {
        let mut frame = frame.clone();
        let (to, from) = frame[..12].split_at_mut(6);
        to.swap_with_slice(from);
        frame
    });
    assert!(left.iter().eq(swapped.collect::<Vec<_>>().iter()));
    format!("{} of {} as they should be", left.len(), given.len())
}

fn swaps_macs_byte_by_byte_with_128_descriptors(stack: &Stack, column: Column) -> String {
    swaps_macs(stack, column, 128)
}

fn swaps_macs_byte_by_byte_with_1024_descriptors(stack: &Stack, column: Column) -> String {
    if column == Column::OursRdmaCore44 {
        // Before rdma-core 49 libmana makes rings of 256 entries at most.
        let app = "--auto-start --total-num-mbufs=4096 --txd=1024 --rxd=1024";
        let ended = Session::start(stack, column, "model0", "DEVICE", app)
            .end()
            .ended;
        assert_eq!(ended.code, Some(1), "{ended}");
        let text = "rdma-core 49 or later makes deeper rings, and so does provider=uverbs";
        assert!(ended.stderr.contains(text), "{ended}");
        return "exit 1, names what to do".to_owned();
    }
    swaps_macs(stack, column, 1024)
}

/// The device computes what the frames came without.
fn lets_the_device_compute_ip_udp_and_tcp_checksums(stack: &Stack, column: Column) -> String {
    let given: Vec<Vec<u8>> = (0..2_000)
        .map(|number| {
            let kind = packets::Kind::TRANSPORT[number as usize % 4];
            let mut frame = packets::frame(kind, number % 50, number, 80 + number as usize % 1_400);
            spoil(&mut frame);
            frame
        })
        .collect();
    assert!(given.iter().all(|frame| rfc1071::verify(frame).is_err()));
    let left = replayed(
        stack,
        column,
        &given,
        "--forward-mode=csum --tx-offloads=0xe",
    );
    assert_eq!(left.len(), given.len());
    for (number, frame) in left.iter().enumerate() {
        assert_eq!(rfc1071::verify(frame), Ok(()), "frame {number}");
        // Nothing but MACs and checksums changed.
        let (mut frame, mut wanted) = (frame.clone(), given[number].clone());
        for frame in [&mut frame, &mut wanted] {
            clear(frame);
        }
        assert_eq!(frame[12..], wanted[12..], "frame {number}");
    }
    format!("{} of {} right", left.len(), given.len())
}

/// The places of a frame's checksums: that of its IPv4 header, and that of UDP or TCP.
fn checksums(frame: &[u8]) -> (Option<usize>, usize) {
    let (v4, protocol, l4) = match frame[12] {
        0x08 => (Some(24), frame[23], 34),
        _ => (None, frame[20], 54),
    };
    (v4, l4 + if protocol == 17 { 6 } else { 16 })
}

fn spoil(frame: &mut [u8]) {
    let (v4, l4) = checksums(frame);
    for at in v4.into_iter().chain([l4]) {
        frame[at] ^= 0x5A;
        frame[at + 1] ^= 0xA5;
    }
}

fn clear(frame: &mut [u8]) {
    let (v4, l4) = checksums(frame);
    for at in v4.into_iter().chain([l4]) {
        frame[at..at + 2].fill(0);
    }
}

/// txonly's frames of these segments: their length, their checksums.
fn sends_segments(stack: &Stack, column: Column, options: &str, length: usize) -> String {
    let files = Files::new();
    let file = files.path("sent.pcap");
    let model = format!("model0,link=pcap:tx={}", file.display());
    let app = format!("--forward-mode=txonly {options}");
    let size = 100 * length as u64;
    let outcome = until(stack, column, &model, &app, &file, size).stop();
    let stats = outcome.clean();
    let left = frames(&file);
    assert_sent(column, &stats, left.len() as u64);
    for (number, frame) in left.iter().enumerate() {
        assert_eq!(frame.len(), length, "frame {number}");
        // testpmd computes the one of IPv4 and leaves UDP without.
        assert_eq!(rfc1071::sum(&frame[14..34]), 0xFFFF, "frame {number}");
    }
    format!("{} of {length} bytes", left.len())
}

fn sends_64_bytes(stack: &Stack, column: Column) -> String {
    sends_segments(stack, column, "--txpkts=64", 64)
}

fn sends_1514_bytes(stack: &Stack, column: Column) -> String {
    sends_segments(stack, column, "--txpkts=1514", 1514)
}

fn sends_9000_bytes_of_one_segment(stack: &Stack, column: Column) -> String {
    sends_segments(
        stack,
        column,
        "--mbuf-size=9344 --total-num-mbufs=4096 --txpkts=9000",
        9000,
    )
}

fn sends_9000_bytes_of_six_segments(stack: &Stack, column: Column) -> String {
    sends_segments(
        stack,
        column,
        "--txpkts=1500,1500,1500,1500,1500,1500",
        9000,
    )
}

fn sends_segments_of_many_lengths(stack: &Stack, column: Column) -> String {
    sends_segments(stack, column, "--txpkts=42,1,7,300,64,86", 500)
}

situations! {
    counts_in_txonly_on_one_queue_what_left
    counts_in_txonly_on_two_queues_what_left
    counts_in_txonly_on_four_queues_what_left
    counts_in_txonly_on_eight_queues_what_left
    forwards_all_of_a_generator_by_macswap_on_one_queue
    forwards_all_of_a_generator_by_macswap_on_two_queues
    forwards_all_of_a_generator_by_macswap_on_four_queues
    forwards_all_of_a_generator_by_macswap_on_eight_queues
    loses_nothing_in_io_through_a_loop_on_one_queue
    loses_nothing_in_io_through_a_loop_on_two_queues
    loses_nothing_in_io_through_a_loop_on_four_queues
    loses_nothing_in_io_through_a_loop_on_eight_queues
    swaps_macs_byte_by_byte_with_128_descriptors
    swaps_macs_byte_by_byte_with_1024_descriptors
    lets_the_device_compute_ip_udp_and_tcp_checksums
    sends_64_bytes
    sends_1514_bytes
    sends_9000_bytes_of_one_segment
    sends_9000_bytes_of_six_segments
    sends_segments_of_many_lengths
}
