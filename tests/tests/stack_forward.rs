//! Packets through DPDK's testpmd and ours, counted and read where they leave the model.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::stack::{Column, Outcome, Session, Stack, Stats, Stream, tcpdump};
use conformance::{capture, packets, rfc1071, situations};
use mana_model::PortCounters;
use mana_model::control::Client;

/// Packets of a burst: what the driver in C has sent and not yet counted on a queue when it stops,
/// because it counts at completion (reference/mana-hardware.md §8 no. 39).
const BURST: u64 = 32;
/// Packets that are enough where there is no end of them.
const MANY: u64 = 2_000;

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

/// Runs a testpmd until the model has sent so many frames, and stops it. Captures are whole then.
#[track_caller]
fn until(
    stack: &Stack,
    column: Column,
    model: &str,
    app: &str,
    sent: u64,
) -> (Outcome, PortCounters) {
    let files = Files::new();
    let socket = files.path("control");
    let options = [
        format!("--vdev={model}"),
        format!("--control={}", socket.display()),
    ];
    // What comes before forwarding begins would be dropped.
    let app = format!("--auto-start --no-flush-rx --total-num-mbufs=16384 {app}");
    let session = Session::start_with(stack, column, &options, "DEVICE", &app);
    let mut session = session.on_its_libraries(stack);
    let client = Client::wait_for(&socket, Duration::from_secs(60)).expect("the model listens");
    let counters = || client.port(0).counters().expect("the model answers");
    session.wait_while("frames", || counters().tx_frames < sent);
    let counters = counters();
    (session.stop(), counters)
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
    let (outcome, _) = until(stack, column, &model, &app, MANY);
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
    let (outcome, counted) = until(stack, column, &model, &app, COUNT);
    let stats = outcome.clean();
    assert_eq!((counted.rx_frames, counted.tx_frames), (COUNT, COUNT));
    assert_eq!(frames(&file).len() as u64, 2 * COUNT);
    assert_eq!((stats.rx, stats.rx_dropped), (COUNT, 0), "{stats:?}");
    assert_eq!(stats.tx_dropped, 0, "{stats:?}");
    assert_sent(column, &stats, COUNT);
    format!("{COUNT} of {COUNT}")
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
    let (outcome, _) = until(stack, column, &model, &app, MANY);
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

/// Replays frames from `in.pcap` of the folder into its `out.pcap`; what left, in order.
fn replayed(
    stack: &Stack,
    column: Column,
    files: &Files,
    given: &[Vec<u8>],
    app: &str,
) -> Vec<Vec<u8>> {
    let (from, to) = (files.path("in.pcap"), files.path("out.pcap"));
    fs::write(&from, capture::write(given)).expect("the capture can be written");
    let model = format!("model0,link=pcap:rx={}:tx={}", from.display(), to.display());
    let (outcome, _) = until(stack, column, &model, app, given.len() as u64);
    let stats = outcome.clean();
    assert_eq!(stats.rx, given.len() as u64, "{stats:?}");
    let left = frames(&to);
    assert_sent(column, &stats, left.len() as u64);
    left
}

fn swaps_macs(stack: &Stack, column: Column, descriptors: u32) -> String {
    let given = packets::mixture(5_000, 1_500);
    let app = format!("--forward-mode=macswap --txd={descriptors} --rxd={descriptors}");
    let left = replayed(stack, column, &Files::new(), &given, &app);
    let swapped = given.iter().map(|frame| {
        let mut frame = frame.clone();
        let (to, from) = frame[..12].split_at_mut(6);
        to.swap_with_slice(from);
        frame
    });
    assert!(left.iter().eq(swapped.collect::<Vec<_>>().iter()));
    format!("{} of {} as they should be", left.len(), given.len())
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
    let files = Files::new();
    let app = "--forward-mode=csum --tx-offloads=0xe";
    let left = replayed(stack, column, &files, &given, app);
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
    let all = given.len();
    let v4 = given.iter().filter(|frame| frame[12] == 0x08).count();
    let verdict = |name: &str| Verdict::of(&tcpdump(stack, "-vv", &files.path(name)));
    let (right, wrong) = (verdict("out.pcap"), verdict("in.pcap"));
    let expected = [(all, 0, 0), (0, all, v4)].map(|(right, wrong, wrong_headers)| Verdict {
        right,
        wrong,
        wrong_headers,
    });
    assert_eq!([right, wrong], expected);
    format!("{} of {all} right, also by tcpdump", left.len())
}

/// What tcpdump says of checksums.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Frames whose TCP or UDP checksum is right.
    right: usize,
    /// Frames whose TCP or UDP checksum is wrong.
    wrong: usize,
    /// Frames whose IPv4 header's is wrong. Of right ones it says nothing.
    wrong_headers: usize,
}

impl Verdict {
    /// Of what it prints with `-vv`.
    fn of(text: &str) -> Self {
        let count = |words: [&str; 2]| words.iter().map(|word| text.matches(word).count()).sum();
        Self {
            right: count(["(correct)", "[udp sum ok]"]),
            wrong: count(["(incorrect", "[bad udp cksum"]),
            wrong_headers: text.matches(", bad cksum ").count(),
        }
    }
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
    let (outcome, _) = until(stack, column, &model, &app, MANY / 10);
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

situations! {
    counts_in_txonly_on_one_queue_what_left = |stack, column| sends(stack, column, 1);
    counts_in_txonly_on_two_queues_what_left = |stack, column| sends(stack, column, 2);
    counts_in_txonly_on_four_queues_what_left = |stack, column| sends(stack, column, 4);
    counts_in_txonly_on_eight_queues_what_left = |stack, column| sends(stack, column, 8);
    forwards_all_of_a_generator_by_macswap_on_one_queue = |stack, column| receives(stack, column, 1);
    forwards_all_of_a_generator_by_macswap_on_two_queues = |stack, column| receives(stack, column, 2);
    forwards_all_of_a_generator_by_macswap_on_four_queues = |stack, column| receives(stack, column, 4);
    forwards_all_of_a_generator_by_macswap_on_eight_queues = |stack, column| receives(stack, column, 8);
    loses_nothing_in_io_through_a_loop_on_one_queue = |stack, column| circulates(stack, column, 1);
    loses_nothing_in_io_through_a_loop_on_two_queues = |stack, column| circulates(stack, column, 2);
    loses_nothing_in_io_through_a_loop_on_four_queues = |stack, column| circulates(stack, column, 4);
    loses_nothing_in_io_through_a_loop_on_eight_queues = |stack, column| circulates(stack, column, 8);
    swaps_macs_byte_by_byte_with_128_descriptors = |stack, column| swaps_macs(stack, column, 128);
    swaps_macs_byte_by_byte_with_1024_descriptors
    lets_the_device_compute_ip_udp_and_tcp_checksums
    sends_64_bytes = |stack, column| {
        sends_segments(stack, column, "--txpkts=64", 64)
    };
    sends_1514_bytes = |stack, column| {
        sends_segments(stack, column, "--txpkts=1514", 1514)
    };
    sends_9000_bytes_of_one_segment = |stack, column| {
        sends_segments(stack, column, "--mbuf-size=9344 --total-num-mbufs=4096 --txpkts=9000", 9000)
    };
    sends_9000_bytes_of_six_segments = |stack, column| {
        sends_segments(stack, column, "--txpkts=1500,1500,1500,1500,1500,1500", 9000)
    };
    sends_segments_of_many_lengths = |stack, column| {
        sends_segments(stack, column, "--txpkts=42,1,7,300,64,86", 500)
    };
}
