//! Histograms of queues: burst sizes, packets in the ring, time to completion.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use conformance::packets::{Kind, frame};
use conformance::{Plan, Rig, Running};
use mana_model::{DeviceConfig, DoorbellMode, Kernel, LinkConfig};
use mana_pmd::{QueueHistograms, RxBurst, TxBurst};
use pmd_api::{Batch, Histogram};

/// Frames that are sent go nowhere.
fn rig() -> Rig {
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.ports[0].link = LinkConfig::Sink { capture: false };
    Rig::model(device, DoorbellMode::Stepped)
}

/// A histogram of these values.
fn of(values: &[u64]) -> Histogram {
    let mut counts = [0; Histogram::BUCKETS];
    for &value in values {
        counts[Histogram::bucket(value)] += 1;
    }
    let max = values.iter().copied().max().unwrap_or(0);
    Histogram::new(counts, values.iter().sum(), max)
}

/// One burst of so many packets; the device does nothing.
fn send(running: &mut Running<'_>, packets: usize) {
    let mut batch = Batch::with_capacity(32);
    for _ in 0..packets {
        batch.push(running.packet(&[0; 60])).unwrap();
    }
    assert_eq!(running.queues.tx[0].tx_burst(&mut batch).sent, packets);
}

fn deliver(rig: &Rig, packets: u32) {
    for seed in 0..packets {
        rig.device().deliver(&frame(Kind::UdpV4, 1, seed, 80));
    }
    rig.advance();
}

fn receive(running: &mut Running<'_>, most: usize) -> usize {
    running.queues.rx[0].rx_burst(&mut Batch::with_capacity(most))
}

#[test]
fn nothing_is_counted_unless_asked_for() {
    let rig = rig();
    let mut running = Running::start(&rig, &Plan::default());
    let names = running.port.xstats().len();
    send(&mut running, 4);
    deliver(&rig, 20);
    (0..20).for_each(|_| assert!(receive(&mut running, 1) == 1));
    running.settle();
    assert!(!running.port.has_histograms());
    assert_eq!(running.port.rx_histograms(0), QueueHistograms::default());
    assert_eq!(running.port.tx_histograms(0), QueueHistograms::default());
    assert_eq!(running.port.xstats().len(), names);
    running.finish();
}

#[test]
fn what_is_received_is_counted_by_burst_and_by_what_had_arrived() {
    let rig = rig();
    let mut running = Running::start(&rig, &Plan::default());
    running.port.set_histograms(true);
    deliver(&rig, 40);
    // The sixteenth looks: two of its own, and eight behind it.
    for _ in 0..16 {
        assert_eq!(receive(&mut running, 2), 2);
    }
    assert_eq!(receive(&mut running, 32), 8);
    assert_eq!(receive(&mut running, 32), 0);
    let sizes: Vec<u64> = std::iter::repeat_n(2, 16).chain([8, 0]).collect();
    let told = running.port.rx_histograms(0);
    assert_eq!((told.burst, told.ring), (of(&sizes), of(&[10])));
    assert_eq!(told.completion_ns, Histogram::default());
    let xstats = running.port.xstats();
    for (name, value) in [
        ("rx_q0_burst_packets_count", 18),
        ("rx_q0_burst_packets_p50", 3),
        ("rx_q0_burst_packets_p99", 8),
        ("rx_q0_burst_packets_max", 8),
        ("rx_q0_ring_packets_max", 10),
        ("tx_q0_completion_ns_count", 0),
    ] {
        let stat = xstats.iter().find(|stat| stat.name == name);
        let stat = stat.unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(stat.value, value, "{name}");
        assert_eq!(stat.is_gauge(), !name.ends_with("count"));
    }
    // Off again, and on after another start: it goes on from there.
    running.port.set_histograms(false);
    assert_eq!(receive(&mut running, 32), 0);
    assert_eq!(running.port.rx_histograms(0).burst, of(&sizes));
    running.port.set_histograms(true);
    running.restart();
    assert_eq!(receive(&mut running, 32), 0);
    assert_eq!(running.port.rx_histograms(0).burst.count(), 19);
    running.stop();
    assert_eq!(running.port.rx_histograms(0).burst.count(), 19);
    running.start_again();
    running.finish();
}

#[test]
fn what_is_sent_is_counted_by_burst_by_what_is_in_flight_and_by_its_time() {
    let rig = rig();
    let mut running = Running::start(&rig, &Plan::default());
    running.port.set_histograms(true);
    let start = Instant::now();
    send(&mut running, 5);
    send(&mut running, 1);
    send(&mut running, 16);
    std::thread::sleep(Duration::from_millis(3));
    // The device is done, and nobody has looked yet.
    rig.advance();
    let told = running.port.tx_histograms(0);
    assert_eq!(told.burst, of(&[5, 1, 16]));
    assert_eq!(told.ring, of(&[5, 6, 22]));
    assert_eq!(told.completion_ns.count(), 0);
    assert_eq!(running.queues.tx[0].reclaim(), 22);
    // Of the three bursts the first was timed.
    let told = running.port.tx_histograms(0).completion_ns;
    assert_eq!(told.count(), 1);
    assert!(told.max() >= 3_000_000, "{} ns", told.max());
    assert!(u128::from(told.max()) <= start.elapsed().as_nanos());
    // A burst that finds completions counts them as well, and times its own next.
    send(&mut running, 32);
    send(&mut running, 32);
    rig.advance();
    send(&mut running, 32);
    assert_eq!(running.port.tx_histograms(0).completion_ns.count(), 2);
    // What was sent while it was on and is found when it is on again is none of them.
    running.port.set_histograms(false);
    rig.advance();
    running.port.set_histograms(true);
    running.settle();
    assert_eq!(running.port.tx_histograms(0).completion_ns.count(), 2);
    running.finish();
}
