//! RSS set anew on a running port where something goes wrong: the kernel refuses, the device goes away,
//! owners are silent, asleep or gone. The port receives as it says, and nothing is left behind.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use conformance::events::{events_until, is_recovered, next_event};
use conformance::packets::{Kind, frame};
use conformance::toeplitz::{VECTOR_KEY, queue_by};
use conformance::{Plan, Rig, Running, suites};
use mana_model::{DeviceConfig, DoorbellMode, Fault, Kernel, LinkConfig};
use mana_pmd::{Error, PortEvent, RxInterrupt};
use pmd_api::{Batch, RxBurst, TxBurst, Wake};
use uverbs_abi::Errno;

const QUEUES: usize = 4;

fn table(order: &[u16]) -> [u16; 64] {
    std::array::from_fn(|entry| order[entry % order.len()])
}

fn rig(kernel: Kernel) -> Rig {
    let mut device = DeviceConfig::new(kernel);
    device.ports[0].link = LinkConfig::Sink { capture: true };
    Rig::model(device, DoorbellMode::Stepped)
}

/// On a machine whose device can go and come back.
fn with_neighbour(kernel: Kernel) -> Rig {
    let machine = suites::with_neighbour(DeviceConfig::new(kernel));
    Rig::machine(machine, DoorbellMode::Polled)
}

/// Every frame arrives where the port says.
fn assert_receives(running: &mut Running<'_>) {
    let (table, key) = (running.port.rss_table().unwrap(), running.port.rss_key());
    for flow in 0..40 {
        for kind in [Kind::TcpV4, Kind::UdpV6, Kind::IcmpV4] {
            let bytes = frame(kind, flow, flow, 90);
            running.rig.device().deliver(&bytes);
            let received = running.receive(1);
            assert_eq!(received[0].queue, queue_by(&table, &key, &bytes));
        }
    }
    assert_eq!(running.rx_pool.in_use(), posted(running));
}

fn posted(running: &Running<'_>) -> u32 {
    running
        .queues
        .rx
        .iter()
        .map(mana_pmd::RxQueue::posted)
        .sum()
}

/// Every frame leaves.
fn assert_sends(running: &mut Running<'_>) {
    let frames: Vec<_> = (0..8)
        .map(|flow| frame(Kind::UdpV4, flow, flow, 90))
        .collect();
    running.rig.device().take_tx_frames();
    running.send_frames(0, &frames);
    running.settle();
    assert_eq!(running.rig.device().take_tx_frames(), frames);
}

/// Drives the port until it tells something, with owners that poll.
fn told(running: &mut Running<'_>) -> PortEvent {
    let (port, queues) = (&mut running.port, &mut running.queues);
    let mut event = None;
    let there = running.rig.until(|| {
        queues.rx.iter_mut().for_each(mana_pmd::RxQueue::give_way);
        queues.tx.iter_mut().map(TxBurst::reclaim).for_each(drop);
        event = port.next_event().unwrap();
        event.is_some()
    });
    assert!(there, "nothing is told");
    event.unwrap()
}

/// What became of a change of which an operation failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcomes {
    refused: u64,
    as_before: u64,
    changed: u64,
    silent: u64,
}

/// Changes the table while `order` makes operations fail, and tells in `outcomes` how that ended. The
/// port must receive as it says, or after one more change.
fn change_failing(kernel: Kernel, faults: &[u64], errno: Errno, outcomes: &mut Outcomes) {
    let rig = rig(kernel);
    let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
    assert_receives(&mut running);
    let before = running.port.rss_table().unwrap();
    let begun = rig.device().operations();
    for &nth in faults {
        rig.device().inject(Fault::FailOperation { nth, errno });
    }
    let wanted = table(&[2, 0]);
    let mut destroys = false;
    match running.port.set_rss_table(&wanted) {
        Err(error) => {
            assert!(error.to_string().contains(errno.name().unwrap()), "{error}");
            assert!(!running.port.is_rss_changing());
            outcomes.refused += 1;
        }
        Ok(()) => match told(&mut running) {
            PortEvent::RssChanged { .. } => {
                assert_eq!(running.port.rss_table(), Some(wanted));
                outcomes.changed += 1;
            }
            PortEvent::RssChangeFailed {
                reason, receives, ..
            } => {
                assert!(reason.contains(errno.name().unwrap()), "{reason}");
                destroys = reason.contains("destroy");
                if receives {
                    outcomes.as_before += 1;
                } else {
                    outcomes.silent += 1;
                }
                assert_eq!(running.port.rss_table(), Some(before));
                assert_sends(&mut running);
                if !receives && !destroys {
                    // Tried again.
                    running.port.set_rss_table(&wanted).unwrap();
                    let event = told(&mut running);
                    assert!(matches!(event, PortEvent::RssChanged { .. }), "{event}");
                }
            }
            event => panic!("{event}"),
        },
    }
    assert!(rig.device().findings().is_empty());
    if destroys {
        // What the kernel would not destroy it may still use: that stays, and close works.
        drop(running.queues);
        let _ = running.port.close();
        assert!(rig.device().findings().is_empty());
        return;
    }
    assert_receives(&mut running);
    assert_sends(&mut running);
    // What is left of the orders is nobody's.
    while faults
        .iter()
        .any(|nth| rig.device().operations() < begun + nth)
    {
        let _ = mana_pmd::Port::open(&rig.system, &rig.selector);
    }
    running.port.set_rss_table(&table(&[3, 2, 1, 0])).unwrap();
    let event = told(&mut running);
    assert!(matches!(event, PortEvent::RssChanged { .. }), "{event}");
    assert_receives(&mut running);
    running.finish();
}

#[test]
fn whichever_operation_of_a_change_fails_the_port_receives_as_before_or_says_that_it_does_not() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        for errno in [Errno::ENOMEM, Errno::EINVAL] {
            let mut outcomes = Outcomes::default();
            let mut nth = 1;
            while outcomes.changed == 0 {
                change_failing(kernel, &[nth], errno, &mut outcomes);
                nth += 1;
                assert!(nth < 200, "a change never succeeds");
            }
            // Two work queues with their CQs are made beside the old ones.
            assert_eq!(outcomes.refused, 4, "{outcomes:?}");
            // Destroyed: 4 queues with CQs, table, queue pair; made: table, queue pair; in process also
            // the doorbells of 2 queues.
            let rest = outcomes.as_before + outcomes.silent;
            assert!(rest >= 4 * 2 + 2 + 2, "{outcomes:?}");
            assert!(outcomes.as_before >= 4, "{outcomes:?}");
        }
    }
}

#[test]
fn where_the_port_can_not_receive_as_before_either_it_says_so_sends_and_can_be_asked_again() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        let mut outcomes = Outcomes::default();
        // 4 operations prepare, 10 take the old side apart. Then the new table fails, the queues made
        // for it go by 4 operations, and the first completion queue as before fails; or the new
        // queue pair fails, and its table goes, too.
        for faults in [[15, 20], [16, 22]] {
            change_failing(kernel, &faults, Errno::ENOMEM, &mut outcomes);
        }
        assert_eq!(outcomes.silent, 2, "{outcomes:?}");
    }
}

#[test]
fn a_port_that_receives_nothing_any_more_is_made_anew_by_recover_or_closed() {
    for recovers in [true, false] {
        let rig = rig(Kernel::V7_3);
        let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
        running.port.set_rss_table(&table(&[1])).unwrap();
        // The old side is taken apart by 10 operations, the new one, without its table, by 2.
        for nth in [11, 14] {
            let errno = Errno::ENOMEM;
            rig.device().inject(Fault::FailOperation { nth, errno });
        }
        let event = told(&mut running);
        let PortEvent::RssChangeFailed {
            receives: false, ..
        } = event
        else {
            panic!("{event}");
        };
        assert_eq!(running.rx_pool.in_use(), 0);
        assert_sends(&mut running);
        if recovers {
            running.port.recover();
            let event = told(&mut running);
            assert!(matches!(event, PortEvent::Recovered { .. }), "{event}");
            assert_receives(&mut running);
            assert_sends(&mut running);
        }
        running.finish();
    }
}

#[test]
fn a_device_that_goes_away_during_a_change_comes_back_with_it() {
    for kernel in Kernel::ALL {
        for owners_call_first in [false, true] {
            let rig = with_neighbour(kernel);
            let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
            let wanted = table(&[3, 1]);
            running.port.set_rss_table(&wanted).unwrap();
            rig.take_away();
            if owners_call_first {
                // The port finds out by the change.
                running
                    .queues
                    .rx
                    .iter_mut()
                    .for_each(mana_pmd::RxQueue::give_way);
            }
            rig.bring_back();
            // The change has all that it waits for before the recovery has.
            let (port, rx, tx) = (
                &mut running.port,
                &mut running.queues.rx,
                &mut running.queues.tx,
            );
            let give_rx = || rx.iter_mut().for_each(mana_pmd::RxQueue::give_way);
            let events = events_until(&rig, port, give_rx, |event| {
                *event == PortEvent::DeviceRemoved
            });
            assert_eq!(events.len(), 1, "{events:?}");
            let give_tx = || tx.iter_mut().for_each(mana_pmd::TxQueue::give_way);
            let events = events_until(&rig, port, give_tx, is_recovered);
            assert_eq!(events[0], PortEvent::Recovering, "{events:?}");
            assert_eq!(events.len(), 2, "{events:?}");
            assert_eq!(running.port.rss_table(), Some(wanted));
            assert!(!running.port.is_rss_changing());
            let frames: Vec<_> = (0..30)
                .map(|flow| frame(Kind::UdpV4, flow, flow, 90))
                .collect();
            for (queue, bytes) in running.exchange(0, &frames) {
                assert_eq!(queue, queue_by(&wanted, &VECTOR_KEY, &bytes));
            }
            running.finish();
        }
    }
}

/// The kernel says `EIO` where the device is gone, and the port may hear it by its change first.
#[test]
fn a_change_that_meets_the_end_of_the_device_is_finished_by_the_recovery() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        let (mut recovered, mut nth) = (0, 1);
        loop {
            let rig = rig(kernel);
            let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
            let (wanted, before) = (table(&[2, 0]), running.port.rss_table());
            rig.device().deliver(&frame(Kind::UdpV4, 1, 1, 90));
            assert!(rig.until(|| running.queues.rx.iter().any(|queue| queue.waiting() > 0)));
            let errno = Errno::EIO;
            rig.device().inject(Fault::FailOperation { nth, errno });
            nth += 1;
            if let Err(error) = running.port.set_rss_table(&wanted) {
                assert!(error.to_string().contains("EIO"), "{error}");
                assert_eq!(running.port.rss_table(), before);
                running.receive(1);
                running.finish();
                continue;
            }
            let event = told(&mut running);
            if matches!(event, PortEvent::RssChanged { .. }) {
                break;
            }
            assert_eq!(event, PortEvent::DeviceRemoved);
            assert_eq!(told(&mut running), PortEvent::Recovering);
            let PortEvent::Recovered { lost } = told(&mut running) else {
                panic!("not recovered");
            };
            assert_eq!((lost.rx, running.port.stats().rx_errors), (1, 1));
            assert_eq!(running.port.rss_table(), Some(wanted));
            assert!(!running.port.is_rss_changing());
            assert_receives(&mut running);
            assert_sends(&mut running);
            running.finish();
            recovered += 1;
        }
        // Queue pair, table, 4 work queues and 4 CQs go; table and queue pair come.
        assert!(recovered >= 12, "{recovered}");
    }
}

#[test]
fn a_silent_owner_is_named_and_the_port_receives_as_before_until_he_calls_or_goes() {
    for goes in [false, true] {
        let rig = rig(Kernel::V7_3);
        let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
        let wanted = table(&[0, 1]);
        running.port.set_rss_table(&wanted).unwrap();
        for queue in &mut running.queues.rx[..3] {
            queue.give_way();
        }
        let named = PortEvent::WaitingForQueue {
            queues: vec!["rx 3".to_owned()],
        };
        events_until(&rig, &mut running.port, || (), |event| *event == named);
        assert!(running.port.is_rss_changing());
        assert_sends(&mut running);
        // Another change on top of it; the last one counts.
        let other = table(&[1, 0]);
        running.port.set_rss_table(&other).unwrap();
        match goes {
            true => drop(running.queues.rx.pop()),
            false => running.queues.rx[3].give_way(),
        }
        let event = next_event(&mut running.port);
        assert!(
            matches!(event, Some(PortEvent::RssChanged { .. })),
            "{event:?}"
        );
        assert_eq!(running.port.rss_table(), Some(other));
        assert_receives(&mut running);
        running.finish();
    }
}

#[test]
fn a_change_needs_nobody_where_all_receive_queues_were_dropped() {
    let rig = rig(Kernel::V6_12);
    let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
    running.queues.rx.clear();
    running.port.set_rss_table(&table(&[2])).unwrap();
    assert!(!running.port.is_rss_changing());
    let event = running.port.next_event().unwrap();
    assert!(
        matches!(event, Some(PortEvent::RssChanged { lost: 0, .. })),
        "{event:?}"
    );
    assert_sends(&mut running);
    running.finish();
}

#[test]
fn owners_asleep_give_way_and_are_woken_by_their_queue_when_it_is_in_the_table_again() {
    let rig = with_neighbour(Kernel::V7_3);
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::queues(2, 1)
    };
    let mut running = Running::start(&rig, &plan);
    let sleepers = running.queues.rx.drain(..).map(|mut queue| {
        thread::spawn(move || {
            let mut batch = Batch::with_capacity(32);
            loop {
                match queue.wait(None) {
                    Ok(Wake::Packets) if queue.rx_burst(&mut batch) > 0 => return (queue, batch),
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let sleepers: Vec<_> = sleepers.collect();
    // In turn each is left out, and in the end neither.
    for order in [&[0][..], &[1], &[1, 0]] {
        running.port.set_rss_table(&table(order)).unwrap();
        let changed = |event: &PortEvent| matches!(event, PortEvent::RssChanged { .. });
        events_until(&rig, &mut running.port, || (), changed);
    }
    let wanted = running.port.rss_table().unwrap();
    for queue in 0..2 {
        let flow = (0..99).find(|flow| {
            let bytes = frame(Kind::UdpV4, *flow, *flow, 90);
            queue_by(&wanted, &VECTOR_KEY, &bytes) == queue
        });
        let flow = flow.expect("some flow goes there");
        running.send_frames(0, &[frame(Kind::UdpV4, flow, flow, 90)]);
    }
    for sleeper in sleepers {
        let (queue, batch) = sleeper.join().unwrap();
        assert_eq!(batch.len(), 1);
        running.queues.rx.push(queue);
    }
    running.settle();
    running.finish();
}

#[test]
fn a_sleeper_is_told_that_its_port_receives_nothing_any_more() {
    let rig = rig(Kernel::V7_3);
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::queues(1, 1)
    };
    let mut running = Running::start(&rig, &plan);
    let mut queue = running.queues.rx.remove(0);
    running.port.set_rss_key(&[7; 40]).unwrap();
    let sleeper = thread::spawn(move || {
        loop {
            match queue.wait(Some(Duration::from_secs(60))) {
                Ok(Wake::Control) => {}
                Ok(wake) => panic!("{wake:?}"),
                Err(error) => return (error.to_string(), queue),
            }
        }
    });
    // As above, with one queue: 4 operations, and 2.
    for nth in [5, 8] {
        let errno = Errno::ENOMEM;
        rig.device().inject(Fault::FailOperation { nth, errno });
    }
    let failed = |event: &PortEvent| {
        matches!(
            event,
            PortEvent::RssChangeFailed {
                receives: false,
                ..
            }
        )
    };
    events_until(&rig, &mut running.port, || (), failed);
    let (told, queue) = sleeper.join().unwrap();
    assert!(told.contains("has failed"), "{told}");
    running.queues.rx.push(queue);
    running.finish();
}

#[test]
fn changes_under_traffic_on_threads_lose_no_buffer_and_break_no_rule() {
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.ports[0].link = LinkConfig::Loop;
    let rig = Rig::model(device, DoorbellMode::Polled);
    let mut running = Running::start(&rig, &Plan::queues(QUEUES, 1));
    let queues = std::mem::take(&mut running.queues);
    let (mut receivers, mut senders) = (queues.rx, queues.tx);
    let frames: Vec<_> = (0..32)
        .map(|flow| frame(Kind::UdpV4, flow, flow, 90))
        .collect();
    let stop = AtomicBool::new(false);
    let (mut changes, mut lost) = (0, 0);
    thread::scope(|scope| {
        for queue in &mut receivers {
            let stop = &stop;
            scope.spawn(move || {
                let mut batch = Batch::with_capacity(32);
                while !stop.load(Ordering::Relaxed) {
                    if queue.rx_burst(&mut batch) == 0 {
                        thread::yield_now();
                    }
                    batch.clear();
                }
            });
        }
        let (stop_sending, pool, frames) = (&stop, &running.tx_pool, &frames);
        let sender = &mut senders[0];
        scope.spawn(move || {
            let mut batch = Batch::with_capacity(32);
            let mut next = frames.iter().cycle();
            while !stop_sending.load(Ordering::Relaxed) {
                while batch.room() > 0
                    && let Some(mut mbuf) = pool.alloc()
                {
                    mbuf.extend_from_slice(next.next().unwrap()).unwrap();
                    batch.push(mbuf).unwrap();
                }
                let _ = sender.tx_burst(&mut batch);
                sender.reclaim();
                thread::yield_now();
            }
        });
        for order in [&[3, 2, 1, 0][..], &[1], &[2, 3], &[0, 1, 2, 3]].repeat(5) {
            running.port.set_rss_table(&table(order)).unwrap();
            let changed = |event: &PortEvent| matches!(event, PortEvent::RssChanged { .. });
            let events = events_until(&rig, &mut running.port, || (), changed);
            if let Some(PortEvent::RssChanged { lost: some, .. }) = events.last() {
                lost += some;
            }
            changes += 1;
            let before = running.port.stats().rx_packets;
            assert!(rig.until(|| running.port.stats().rx_packets > before));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!((changes, running.port.stats().rx_errors), (20, lost));
    running.queues.rx = receivers;
    running.queues.tx = senders;
    running.settle();
    running.finish();
}

#[test]
fn without_a_configuration_there_is_no_table_to_set() {
    let rig = rig(Kernel::V7_3);
    let mut port = rig.open();
    let error = port.set_rss_table(&[0; 64]);
    assert!(matches!(error, Err(Error::NotConfigured)), "{error:?}");
    assert_eq!(port.rss_table(), None);
    port.close().unwrap();
}
