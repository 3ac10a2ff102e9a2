//! Debian's unmodified dpdk-testpmd on the real mana.ko and mana_ib.ko, as far as `mana conformance --suite
//! kernel` goes for ours: a test for each of those suites. What is known to be wrong with the driver in C is held
//! as well (docs/c-pmd-defects.md), and stands in the cell that each test writes.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use conformance::guest::{ADDRESS, Dpdk, Testpmd, run, wait_until};
use conformance::matrix;
use conformance::packets::{Kind, frame, mixture, seed_of};
use conformance::stack::{Ethdev, Stats, cell};
use conformance::toeplitz::{VECTOR_KEY, queue};
use mana_model::{LinkConfig, ObjectCounts};

/// What the device may see when the kernel's driver goes under a running port: the driver in C registers
/// memory as it needs it, after its queues, and the kernel destroys what is left of a program in reverse, so the
/// memory goes first.
const AT_REMOVAL: &[&str] = &["unknown memory key"];

/// Of one that reported that it is.
const SKIPPED: &str = "skipped";

/// Runs one, unless it is skipped, and writes its cell in the row of the suite. `known` are findings besides
/// those that the driver in C always has.
fn item(test: &str, suite: &str, run: fn(&Dpdk) -> String, known: &[&str]) {
    let Some(dpdk) = Dpdk::or_skip(test) else {
        return;
    };
    let column = dpdk.column();
    cell(suite, column, "FAILED");
    let text = run(&dpdk);
    dpdk.assert_clean(known);
    match text.as_str() {
        SKIPPED => cell(suite, column, SKIPPED),
        text => matrix::cell(suite, column, text),
    }
}

/// A test for each suite.
macro_rules! items {
    ($($test:ident $suite:literal $run:ident $known:expr;)*) => {
        $(
            #[test]
            fn $test() {
                item(stringify!($test), $suite, $run, $known);
            }
        )*
    };
}

items! {
    starts_and_stops_and_counts_nothing "smoke" smoke &[];
    sends_every_byte_of_every_size_in_order "loopback" loopback &[];
    starts_again_and_keeps_memory_registered "restart" restart &[];
    receives_on_the_queues_of_the_published_hash "kernel_forwarding" forwarding &[];
    sleeps_until_a_packet_comes_on_as_many_queues_as_vectors "kernel_interrupts" interrupts &[];
    does_not_tell_what_it_missed "kernel_missed" missed &[];
    is_refused_while_the_netdev_is_up "kernel_netdev_up" netdev_up &[];
    tells_of_an_unloaded_driver "kernel_unload" unload AT_REMOVAL;
    does_not_recover_from_a_reset "kernel_reset_request" reset_request AT_REMOVAL;
}

/// Frames of many flows, told apart.
fn flows(count: u32, size: usize) -> Vec<Vec<u8>> {
    let kind = |seed: u32| Kind::ALL[seed as usize % Kind::ALL.len()];
    (0..count)
        .map(|seed| frame(kind(seed), seed * 7, seed, size))
        .collect()
}

/// What macswap makes of a frame.
fn swapped(frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..]].concat()
}

/// Frames go through as they are, but for their MACs; on several queues in any order.
#[track_caller]
fn assert_moves(dpdk: &Dpdk) {
    let frames = flows(64, 300);
    let mut sent = dpdk.forwarded(&frames);
    let mut wanted: Vec<Vec<u8>> = frames.iter().map(|frame| swapped(frame)).collect();
    sent.sort();
    wanted.sort();
    assert!(sent == wanted, "frames changed on their way");
}

/// Quits; nothing is said to be wrong.
#[track_caller]
fn quit(testpmd: Testpmd) -> String {
    let ended = testpmd.quit();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.stdout
}

fn smoke(dpdk: &Dpdk) -> String {
    let mut libraries = Vec::new();
    for queues in [1, 64] {
        let app = format!("--rxq={queues} --txq={queues} --rxd=64 --txd=64");
        let mut testpmd = dpdk.testpmd(&app);
        libraries = testpmd.libraries().to_vec();
        let objects = dpdk.objects();
        assert_eq!((objects.pds, objects.wqs), (1, 2 * queues));
        let stats = testpmd.ask("show port stats 0");
        for word in [
            "RX-packets",
            "RX-missed",
            "RX-errors",
            "TX-packets",
            "TX-errors",
        ] {
            let number = stats.split_once(&format!("{word}:")).expect(word).1;
            let number = number.split_whitespace().next();
            assert_eq!(number, Some("0"), "{word}: {stats}");
        }
        testpmd.ask("port stop 0");
        assert_eq!(dpdk.objects().wqs, 0);
        quit(testpmd);
        assert_eq!(dpdk.objects(), ObjectCounts::default());
    }
    let release = &dpdk.guest.release;
    matrix::describe(dpdk.column(), release, &libraries.join(", "));
    let (code, stdout, stderr) = dpdk.testpmd_ends("--total-num-mbufs=2048 --rxq=2 --txq=3");
    let refused = stderr.contains("Only support equal number of rx/tx queues");
    assert!(code == 1 && refused, "{code}: {stdout}{stderr}");
    "passed; as many queues each way only (defect 37)".to_owned()
}

fn loopback(dpdk: &Dpdk) -> String {
    let sizes = (60..=300).chain([
        1499, 1500, 1513, 1514, 1515, 2047, 2048, 4095, 4096, 8999, 9000,
    ]);
    let frames: Vec<Vec<u8>> = sizes
        .enumerate()
        .map(|(seed, size)| frame(Kind::UdpV4, 1, seed as u32, size))
        .collect();
    let mut testpmd =
        dpdk.testpmd("--mbuf-size=9344 --total-num-mbufs=2048 --forward-mode=macswap");
    testpmd.ask("start");
    // As many as have buffers.
    for some in frames.chunks(128) {
        let sent = dpdk.forwarded(some);
        for (sent, frame) in sent.iter().zip(some) {
            assert!(*sent == swapped(frame), "{} bytes changed", frame.len());
        }
    }
    testpmd.ask("stop");
    quit(testpmd);
    let mut testpmd = dpdk.testpmd("--rxq=4 --txq=4 --forward-mode=macswap");
    testpmd.ask("start");
    for some in mixture(256, 1500).chunks(128) {
        let mut sent = dpdk.forwarded(some);
        let mut wanted: Vec<Vec<u8>> = some.iter().map(|frame| swapped(frame)).collect();
        sent.sort();
        wanted.sort();
        assert!(sent == wanted, "frames changed on their way");
    }
    testpmd.ask("stop");
    quit(testpmd);
    "passed".to_owned()
}

fn restart(dpdk: &Dpdk) -> String {
    let mut testpmd = dpdk.testpmd("--rxq=2 --txq=2 --forward-mode=macswap");
    for _ in 0..5 {
        testpmd.ask("start");
        assert_moves(dpdk);
        testpmd.ask("stop");
        testpmd.ask("port stop 0");
        let objects = dpdk.objects();
        assert_eq!((objects.wqs, objects.qps, objects.pds), (0, 0, 1));
        assert!(objects.mrs > 0, "{objects:?}");
        let started = testpmd.ask("port start 0");
        assert!(started.contains("Done"), "{started}");
    }
    quit(testpmd);
    "passed; memory stays registered when the port stops (defect 13)".to_owned()
}

fn forwarding(dpdk: &Dpdk) -> String {
    const QUEUES: usize = 4;
    const ROUNDS: usize = 5;
    let app = format!("--rxq={QUEUES} --txq={QUEUES} --forward-mode=macswap");
    let mut testpmd = dpdk.testpmd(&app);
    // Its driver takes a key between stop and start only.
    testpmd.ask("port stop 0");
    let key: String = VECTOR_KEY
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    testpmd.ask(&format!("port config 0 rss-hash-key ipv4 {key}"));
    let told = testpmd.ask("show port 0 rss-hash key").to_lowercase();
    assert!(told.contains(&key), "{told}");
    testpmd.ask("port start 0");
    testpmd.ask("start");
    let frames = flows(128, 200);
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for sent in dpdk.forwarded(&frames) {
            let seed = seed_of(&sent);
            let frame = frames.get(seed as usize).expect("a frame that arrived");
            assert!(sent == swapped(frame), "frame {seed} changed");
            *seen.entry(seed).or_default() += 1;
        }
    }
    assert!(seen.values().all(|times| *times == ROUNDS), "{seen:?}");
    let told = testpmd.ask("stop");
    let stats = Stats::read(&told).unwrap_or_else(|| panic!("no statistics: {told}"));
    let mut wanted = [0; QUEUES];
    for frame in &frames {
        wanted[queue(&VECTOR_KEY, frame, QUEUES)] += ROUNDS as u64;
    }
    let received: Vec<u64> = stats.streams.iter().map(|stream| stream.rx).collect();
    assert_eq!(received, wanted, "frames of each queue");
    assert!(wanted.iter().all(|frames| *frames > 0), "{wanted:?}");
    quit(testpmd);
    "passed".to_owned()
}

/// Sleeps until a packet wakes it that comes when it sleeps, and receives it; the queue.
#[track_caller]
fn wake(dpdk: &Dpdk, program: &mut Ethdev, flow: u32) -> usize {
    let packet = frame(Kind::UdpV4, flow, flow, 90);
    program.type_line("sleep 20000");
    program.wait_for_sleep();
    dpdk.deliver(&packet);
    let answer = program.answer("an end of the sleep");
    assert_eq!(answer.numbers[0], 1, "flow {flow}: {answer:?}");
    let queue = answer
        .lines
        .last()
        .and_then(|line| line.strip_prefix("queue "));
    let queue: usize = queue
        .and_then(|number| number.parse().ok())
        .expect("its number");
    // Takes the event.
    assert_eq!(program.number(&format!("disarm {queue}")), 0);
    let answer = program.ask(&format!("receive {queue}"));
    assert_eq!(answer.numbers, [1], "flow {flow}: {answer:?}");
    assert!(
        answer.lines[0].starts_with("packet 90 bytes "),
        "{answer:?}"
    );
    assert_eq!(program.number(&format!("arm {queue}")), 0);
    queue
}

fn interrupts(dpdk: &Dpdk) -> String {
    let test = "sleeps_until_a_packet_comes_on_as_many_queues_as_vectors";
    let Some(mut program) = dpdk.ethdev(test, "queues=2 interrupts=1") else {
        return SKIPPED.to_owned();
    };
    assert_eq!(program.number("start"), 0);
    for queue in 0..2 {
        assert_eq!(program.number(&format!("arm {queue}")), 0);
    }
    let mut woken = [0; 2];
    for flow in 0..40 {
        if flow % 10 == 0 {
            let answer = program.ask("sleep 50");
            assert_eq!(answer.numbers[0], 0, "nothing came: {answer:?}");
        }
        woken[wake(dpdk, &mut program, flow)] += 1;
    }
    assert!(woken.iter().all(|times| *times > 0), "{woken:?}");
    assert_eq!(program.number("stop"), 0);
    let outcome = program.end();
    assert_eq!(outcome.ended.code, Some(0), "{}", outcome.ended);
    // A guest of two CPUs has two vectors.
    let program = dpdk.ethdev(test, "queues=4 interrupts=1");
    let mut program = program.expect("it was compiled");
    assert_eq!(program.number("start"), -22);
    let outcome = program.end();
    let said = "failed to create rx cq queue 2";
    assert!(outcome.ended.stderr.contains(said), "{}", outcome.ended);
    "fails: more queues than vectors are refused (defect 52); with as many each packet wakes its queue"
        .to_owned()
}

/// What the kernel tells of packets for which there was no buffer.
fn discarded(netdev: &str) -> u64 {
    let told = run(&format!("ethtool -S {netdev}"));
    let line = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("hc_rx_discards_no_wqe: "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{told}"))
}

fn missed(dpdk: &Dpdk) -> String {
    let other = dpdk.netdev(1);
    run(&format!("ip link set {other} up"));
    let (told, counted) = (discarded(&other), dpdk.counters());
    let mut testpmd = dpdk.testpmd("--rxd=256 --txd=256 --forward-mode=macswap");
    let frames = flows(400, 120);
    for frame in &frames {
        dpdk.deliver(frame);
    }
    let count = || dpdk.counters().rx_no_buffer - counted.rx_no_buffer;
    wait_until("all frames", || {
        dpdk.counters().rx_frames - counted.rx_frames + count() == 400
    });
    let lost = count();
    assert!(lost > 0, "no shortage");
    // Kernels ask the device every two seconds.
    wait_until("the kernel's count", || discarded(&other) - told == lost);
    testpmd.ask("start");
    wait_until("those with buffers", || {
        dpdk.counters().tx_frames - counted.tx_frames == 400 - lost
    });
    let stats = testpmd.ask("show port stats 0");
    let silent = stats.contains(&format!("RX-packets: {}", 400 - lost))
        && stats.contains("RX-missed: 0 ")
        && stats.contains("RX-errors: 0");
    assert!(silent, "{lost} lost: {stats}");
    dpdk.set_wire(&LinkConfig::Sink { capture: true });
    assert_moves(dpdk);
    testpmd.ask("stop");
    quit(testpmd);
    run(&format!("ip link set {other} down"));
    "fails: packets that found no buffer are not told (defect 39), ethtool has them exactly"
        .to_owned()
}

fn netdev_up(dpdk: &Dpdk) -> String {
    let netdev = dpdk.netdev(0);
    // The kernels name it differently.
    let (number, name) = match dpdk.guest.is_6() {
        true => (19, "No such device"),
        false => (16, "Device or resource busy"),
    };
    let app = "--rxq=2 --txq=2 --forward-mode=macswap --disable-device-start";
    let mut testpmd = dpdk.testpmd(app);
    run(&format!("ip link set {netdev} up"));
    for time in 1..=3 {
        let refused = testpmd.ask("port start 0");
        let whole = refused.contains(&format!("Fail to start port 0: {name}"))
            && refused.contains(&format!("failed to start tx queues -{number}"));
        assert!(whole, "{refused}");
        assert_eq!(dpdk.completion_queues(), time);
    }
    run(&format!("ip link set {netdev} down"));
    let started = testpmd.ask("port start 0");
    assert!(!started.contains("Fail to start"), "{started}");
    testpmd.ask("start");
    assert_moves(dpdk);
    testpmd.ask("stop");
    quit(testpmd);
    assert_eq!(dpdk.completion_queues(), 0);
    format!(
        "passed: errno {number}, without what mends it; each refusal leaks a completion queue (defect 12)"
    )
}

/// Starts a testpmd through whose port packets circulate.
#[track_caller]
fn circulating(dpdk: &Dpdk) -> Testpmd {
    dpdk.set_wire(&LinkConfig::Loop);
    let before = dpdk.counters().tx_frames;
    let mut testpmd = dpdk.testpmd("--rxq=2 --txq=2 --forward-mode=io");
    testpmd.ask("start tx_first");
    wait_until("packets", || dpdk.counters().tx_frames > before + 1000);
    testpmd
}

/// The port is told to be gone and is taken away, and the program goes on.
#[track_caller]
fn assert_detached(dpdk: &Dpdk, mut testpmd: Testpmd) {
    testpmd.wait_for("Port 0: device removal event");
    testpmd.wait_for("Now total ports is 0");
    wait_until("nothing left", || dpdk.objects() == ObjectCounts::default());
    let shown = testpmd.ask("show port summary all");
    assert!(shown.contains("Number of available ports: 0"), "{shown}");
    quit(testpmd);
}

/// A testpmd of its own moves packets.
#[track_caller]
fn assert_another_moves(dpdk: &Dpdk) {
    dpdk.set_wire(&LinkConfig::Sink { capture: true });
    let mut testpmd = dpdk.testpmd("--rxq=2 --txq=2 --forward-mode=macswap");
    testpmd.ask("start");
    assert_moves(dpdk);
    testpmd.ask("stop");
    quit(testpmd);
}

fn unload(dpdk: &Dpdk) -> String {
    let testpmd = circulating(dpdk);
    let driver = |file: &str| run(&format!("echo {ADDRESS} >/sys/bus/pci/drivers/mana/{file}"));
    driver("unbind");
    assert_detached(dpdk, testpmd);
    driver("bind");
    dpdk.wait_for_device();
    assert_another_moves(dpdk);
    "passed: the port is detached, another process has the device when it is back".to_owned()
}

fn reset_request(dpdk: &Dpdk) -> String {
    let mut testpmd = circulating(dpdk);
    let before = dpdk.counters().tx_frames;
    dpdk.request_reset();
    if dpdk.guest.is_6() {
        wait_until("packets after it", || {
            dpdk.counters().tx_frames > before + 1000
        });
        testpmd.ask("stop");
        quit(testpmd);
        return "not applicable: this kernel ignores the request, packets go on".to_owned();
    }
    assert_detached(dpdk, testpmd);
    dpdk.wait_for_device();
    assert_another_moves(dpdk);
    "fails: told as a removal and detached, 24.11 does not recover; another process has the device after it"
        .to_owned()
}
