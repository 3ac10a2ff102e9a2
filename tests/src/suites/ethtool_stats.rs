//! As the former DTS's suite of that name: extended statistics add up to what happened, counted by the device.

use std::time::{Duration, Instant};

use mana_model::{DeviceConfig, Fault, LinkConfig, PortConfig};
use pmd_api::Mbuf;
use uverbs_abi::SystemKind;

use super::{Needs, Suite};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "ethtool_stats",
    proves: "statistics by name tell bursts, doorbells, completions, error types, empty rings and \
             packets that found no buffer as they happened, and keep names and order",
    needs: Needs::Model,
    prepare,
    run,
};

/// A second port, which the kernel has: its netdev is UP and tells the function's counters.
fn prepare(device: &mut DeviceConfig) {
    let mac = |last| format!("00:0d:3a:0e:57:{last:02x}").parse();
    device.ports[0].mac = mac(1).ok();
    device.ports.push(PortConfig {
        mac: mac(2).ok(),
        netdev_up: true,
        link: LinkConfig::Sink { capture: false },
        ..PortConfig::default()
    });
}

/// The value of a statistic.
fn value(running: &Running<'_>, name: &str) -> u64 {
    let list = running.port.xstats();
    let found = list.iter().find(|one| one.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).value
}

fn run(rig: &Rig) {
    let mut running = Running::start(rig, &Plan::default());
    names(&running);
    traffic(&mut running);
    errors(&mut running);
    shortage(&mut running);
    running.finish();
}

/// DPDK's names come first, each name is there once, and a restart changes none.
fn names(running: &Running<'_>) {
    let names: Vec<String> = running.port.xstats().into_iter().map(|x| x.name).collect();
    let first = [
        "rx_good_packets",
        "tx_good_packets",
        "rx_good_bytes",
        "tx_good_bytes",
        "rx_missed_errors",
        "rx_errors",
        "tx_errors",
        "rx_mbuf_allocation_errors",
        "rx_q0_packets",
        "rx_q0_bytes",
        "rx_q0_errors",
        "tx_q0_packets",
    ];
    assert_eq!(names[..first.len()], first);
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), names.len());
}

fn traffic(running: &mut Running<'_>) {
    // Of one flow, so that the device may report them together.
    let frames: Vec<Vec<u8>> = (0..20)
        .map(|seed| frame(Kind::UdpV4, 1, seed, 100))
        .collect();
    running.exchange(0, &frames);
    running.settle();
    let device = running.rig.device().counters();
    assert_eq!(value(running, "tx_good_packets"), device.tx_frames);
    assert_eq!(value(running, "rx_good_bytes"), device.rx_bytes);
    assert_eq!(value(running, "rx_q0_packets"), 20);
    assert_eq!(value(running, "tx_q0_doorbells"), 1, "a doorbell a burst");
    assert_eq!(value(running, "tx_q0_bursts"), 1);
    let bursts = value(running, "rx_q0_bursts");
    assert!(bursts > value(running, "rx_q0_empty_bursts"));
    // Four packets a completion, eight, or one where the kernel does not ask for more.
    let completions = value(running, "rx_q0_completions");
    assert!(
        matches!(completions, 3 | 5 | 20),
        "{completions} completions"
    );
    let before = running.port.xstats();
    running.restart();
    for (before, after) in before.into_iter().zip(running.port.xstats()) {
        // Filling the new ring rang once.
        let rung = u64::from(before.name == "rx_q0_doorbells");
        assert_eq!(after.value, before.value + rung, "{}", before.name);
        assert_eq!(after.name, before.name);
    }
}

/// Errors are told by the type of their completion.
fn errors(running: &mut Running<'_>) {
    for (cqe_type, name) in [
        (33, "tx_sa_drop_errors"),
        (34, "tx_mtu_drop_errors"),
        (41, "tx_vlan_tagging_violation_errors"),
    ] {
        running.rig.device().inject(Fault::TxError {
            port: 0,
            sq: None,
            cqe_type,
            nth: 1,
        });
        let failing = running.packet(&frame(Kind::UdpV4, 1, 1, 100));
        running.send(0, vec![failing]);
        running.settle();
        assert_eq!(value(running, name), 1, "{name}");
    }
    assert_eq!(value(running, "tx_errors"), 3);
    running
        .rig
        .device()
        .inject(Fault::RxTruncated { port: 0, nth: 1 });
    let lost = running.packet(&frame(Kind::UdpV4, 1, 1, 100));
    running.send(0, vec![lost]);
    let rig = running.rig;
    let truncated = rig.until(|| {
        running.poll();
        value(running, "rx_q0_truncated_packets") == 1
    });
    assert!(truncated, "it is not told");
}

/// Linux 7 asks the device every two seconds only: what it tells is as old at most.
const STALE: Duration = Duration::from_secs(3);

/// A pool without buffers: the ring runs empty, and the kernel's counter tells what was lost.
fn shortage(running: &mut Running<'_>) {
    let told = running.rig.has_netdevs();
    if told && running.rig.system.kind() != SystemKind::Model {
        let start = Instant::now();
        running.rig.until(|| start.elapsed() > STALE);
    }
    running.port.refresh_missed();
    let known = running.port.missed().map_or(0, |missed| missed.packets);
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| running.rx_pool.alloc()).collect();
    let before = running.rig.device().counters();
    let frames: Vec<Vec<u8>> = (0..200)
        .map(|seed| frame(Kind::UdpV4, seed, seed, 100))
        .collect();
    let rig = running.rig;
    rig.device().deliver_all(&frames);
    rig.rest(|| held.extend(running.poll().into_iter().map(|one| one.mbuf)));
    let lost = running.rig.device().counters().rx_no_buffer - before.rx_no_buffer;
    assert!(lost > 0, "no shortage");
    assert!(value(running, "rx_q0_ring_empty_events") > 0);
    assert_eq!(value(running, "rx_q0_refill_deficit"), 64);
    assert_eq!(value(running, "rx_q0_refill_deficit_max"), 64);
    running.port.refresh_missed();
    if told {
        let packets = |running: &Running<'_>| {
            let missed = running.port.missed();
            missed.expect("the other netdev is UP and tells").packets - known
        };
        rig.until(|| {
            running.port.refresh_missed();
            packets(running) == lost
        });
        assert_eq!(packets(running), lost);
        assert_eq!(value(running, "rx_missed_errors"), known + lost);
        assert_eq!(running.port.stats().rx_missed, known + lost);
    } else {
        assert_eq!(running.port.missed(), None, "nobody can tell here");
    }
    drop(held);
    running.poll();
    assert_eq!(value(running, "rx_q0_refill_deficit"), 0);
}
