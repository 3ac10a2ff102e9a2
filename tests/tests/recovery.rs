//! A device that is reset, comes back under another name, or does not: the port recovers or says why
//! not, and its owners' queue handles stay what they are.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::comeback::{Comeback, events_until, next_event};
use conformance::packets::{Kind, frame, mixture};
use conformance::{Plan, Rig, Running};
use mana_model::{DeviceConfig, DoorbellMode, Fault, Kernel};
use mana_pmd::{Error, Port, PortEvent, Queues, RecoveryConfig, RxInterrupt, Selector};
use pmd_api::{Batch, InterruptError, RxBurst, TxBurst, Wake};
use uverbs_abi::Errno;

fn is_recovered(event: &PortEvent) -> bool {
    matches!(event, PortEvent::Recovered { .. })
}

fn is_failed(event: &PortEvent) -> bool {
    matches!(event, PortEvent::RecoveryFailed { .. })
}

/// What owners do all the time.
fn poll_all(queues: &mut Queues) {
    let mut batch = Batch::with_capacity(32);
    for queue in &mut queues.rx {
        queue.rx_burst(&mut batch);
    }
    for queue in &mut queues.tx {
        queue.reclaim();
    }
}

/// Drives until the port has recovered, with owners that poll.
fn recover(running: &mut Running<'_>) -> Vec<PortEvent> {
    let queues = &mut running.queues;
    events_until(&mut running.port, || poll_all(queues), is_recovered)
}

fn assert_moves(running: &mut Running<'_>) {
    let frames = mixture(40, 1000);
    assert_eq!(running.exchange(0, &frames).len(), frames.len());
}

#[test]
fn a_reset_under_traffic_is_survived_by_the_same_handles_and_counters_and_no_buffer_is_lost() {
    for kernel in Kernel::ALL {
        let machine = Comeback::new(kernel, 1);
        let rig = machine.rig(0);
        let mut running = Running::start(&rig, &Plan::queues(2, 2));
        assert_moves(&mut running);
        let (name, before) = (running.port.info().ib_device.clone(), running.port.stats());
        running.send_frames(1, &mixture(24, 600));
        machine.take_away();
        // The device takes nothing any more, so this is lost for sure.
        let lone = running.packet(&frame(Kind::UdpV4, 1, 1, 80));
        running.send(0, vec![lone]);
        let sent = running.port.stats();
        let queues = &mut running.queues;
        let away = |event: &PortEvent| *event == PortEvent::DeviceRemoved;
        events_until(&mut running.port, || (), away);
        let mut batch = Batch::with_capacity(4);
        batch.push(running.tx_pool.alloc().unwrap()).unwrap();
        batch.as_mut_slice()[0].extend_from_slice(&[0; 60]).unwrap();
        for queue in &mut queues.tx {
            let outcome = queue.tx_burst(&mut batch);
            assert_eq!((outcome.sent, batch.len(), queue.in_flight()), (0, 1, 0));
        }
        drop(batch);
        machine.bring_back();
        let events = recover(&mut running);
        let [PortEvent::Recovering, PortEvent::Recovered { lost }] = events[..] else {
            panic!("{events:?}");
        };
        assert!(lost.tx >= 1, "{lost:?}");
        // Not a frame is counted twice or not at all.
        let after = running.port.stats();
        assert_eq!(
            after.tx_packets + after.tx_errors,
            sent.tx_packets + sent.tx_errors
        );
        assert_eq!(after.tx_errors, before.tx_errors + lost.tx);
        assert_eq!(after.rx_errors, before.rx_errors + lost.rx);
        assert_ne!(running.port.info().ib_device, name);
        // All that is in use is posted, and the old device's objects are gone.
        assert_eq!(running.rx_pool.in_use(), 2 * 64);
        assert_eq!(running.tx_pool.in_use(), 0);
        assert_moves(&mut running);
        assert_eq!(running.port.stats().tx_packets, after.tx_packets + 40);
        running.finish();
        machine.assert_clean();
    }
}

#[test]
fn a_silent_owner_is_named_blocks_nothing_and_lets_the_port_recover_when_it_calls() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let mut running = Running::start(&rig, &Plan::queues(2, 1));
    machine.take_away();
    machine.bring_back();
    let waiting = |names: &'static [&'static str]| move |event: &PortEvent| matches!(event, PortEvent::WaitingForQueue { queues } if queues == names);
    let events = events_until(&mut running.port, || (), waiting(&["rx 0", "rx 1", "tx 0"]));
    assert_eq!(
        events[..2],
        [PortEvent::DeviceRemoved, PortEvent::Recovering],
        "a silent owner keeps no event back"
    );
    // Everything else goes on: statistics, configuration, the next question.
    assert_eq!(running.port.next_event().unwrap(), None);
    assert!(running.port.is_started());
    let mut batch = Batch::with_capacity(1);
    assert_eq!(running.queues.rx[1].rx_burst(&mut batch), 0);
    running.queues.tx[0].reclaim();
    events_until(&mut running.port, || (), waiting(&["rx 0"]));
    assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
    let events = events_until(&mut running.port, || (), is_recovered);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_moves(&mut running);
    running.finish();
    machine.assert_clean();
}

#[test]
fn an_owner_that_sleeps_in_a_wait_gives_its_queue_up_and_is_woken_by_packets_afterwards() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::default()
    };
    let mut running = Running::start(&rig, &plan);
    let mut queue = running.queues.rx.remove(0);
    let sleeper = thread::spawn(move || {
        let mut batch = Batch::with_capacity(32);
        loop {
            match queue.wait(None) {
                Ok(Wake::Packets) if queue.rx_burst(&mut batch) > 0 => return (queue, batch.len()),
                Ok(_) => {}
                // Told as soon as the kernel says so, before the port knows.
                Err(InterruptError::DeviceRemoved { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    // Twice: on a device that goes away, and where only the gate can wake the owner.
    for reset in [true, false] {
        thread::sleep(Duration::from_millis(20));
        if reset {
            machine.take_away();
            machine.bring_back();
        } else {
            running.port.recover();
        }
        let events = recover(&mut running);
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, PortEvent::WaitingForQueue { .. })),
            "{events:?}"
        );
    }
    running.send_frames(0, &mixture(1, 100));
    let (queue, received) = sleeper.join().unwrap();
    assert_eq!(received, 1);
    running.queues.rx.push(queue);
    running.finish();
    machine.assert_clean();
}

#[test]
fn a_sleeper_learns_that_its_queue_does_not_come_back() {
    let machine = Comeback::new(Kernel::V6_12, 1);
    let rig = machine.rig(0);
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::default()
    };
    let mut running = Running::start(&rig, &plan);
    running.port.set_recovery(RecoveryConfig {
        deadline: Duration::from_millis(80),
        ..RecoveryConfig::default()
    });
    machine.take_away();
    let mut queue = running.queues.rx.remove(0);
    let mut port = running.port;
    // From here on the queue is wanted: the wait is for its return.
    events_until(&mut port, || (), |event| *event == PortEvent::DeviceRemoved);
    let sleeper = thread::spawn(move || {
        loop {
            match queue.wait(None) {
                Ok(wake) => assert_eq!(wake, Wake::Control),
                Err(error) => return error.to_string(),
            }
        }
    });
    events_until(&mut port, || (), is_failed);
    assert!(sleeper.join().unwrap().contains("removed"));
    port.stop(running.queues).unwrap();
    port.close().unwrap();
    machine.assert_clean();
}

#[test]
fn handles_dropped_before_during_or_after_the_loss_keep_nobody_waiting() {
    for dropped in 0..3 {
        let machine = Comeback::new(Kernel::V6_12, 1);
        let rig = machine.rig(0);
        let mut running = Running::start(&rig, &Plan::queues(2, 2));
        running.send_frames(1, &mixture(8, 600));
        let drop_some = |running: &mut Running<'_>, when| {
            if when == dropped {
                running.queues.rx.pop();
                running.queues.tx.pop();
            }
        };
        drop_some(&mut running, 0);
        machine.take_away();
        drop_some(&mut running, 1);
        let away = |event: &PortEvent| *event == PortEvent::DeviceRemoved;
        events_until(&mut running.port, || (), away);
        drop_some(&mut running, 2);
        machine.bring_back();
        let events = recover(&mut running);
        assert!(is_recovered(events.last().unwrap()));
        let one = running.packet(&frame(Kind::UdpV4, 1, 1, 80));
        running.send(0, vec![one]);
        running.settle();
        running.finish();
        machine.assert_clean();
    }
}

#[test]
fn a_forgotten_handle_is_waited_for_and_the_port_closes_all_the_same() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let mut running = Running::start(&rig, &Plan::default());
    std::mem::forget(running.queues.tx.remove(0));
    machine.take_away();
    machine.bring_back();
    let queues = &mut running.queues;
    let named = PortEvent::WaitingForQueue {
        queues: vec!["tx 0".to_owned()],
    };
    let events = events_until(
        &mut running.port,
        || poll_all(queues),
        |event| *event == named,
    );
    assert!(!events.iter().any(is_recovered), "{events:?}");
    let error = running.port.stop(running.queues).unwrap_err();
    assert!(matches!(error, Error::QueuesOutstanding { .. }), "{error}");
    let error = running.port.close().unwrap_err();
    assert!(matches!(error, Error::QueuesOutstanding { .. }), "{error}");
}

#[test]
fn a_device_that_goes_between_start_and_stop_is_found_again_by_the_next_start() {
    for kernel in Kernel::ALL {
        let machine = Comeback::new(kernel, 1);
        let rig = machine.rig(0);
        let mut running = Running::start(&rig, &Plan::queues(2, 2));
        // Gone while it runs, stopped before anybody looked.
        machine.take_away();
        running.stop();
        let error = running.port.start().unwrap_err();
        assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
        machine.bring_back();
        let events = events_until(&mut running.port, || (), is_recovered);
        assert_eq!(events[0], PortEvent::DeviceRemoved);
        running.start_again();
        assert_moves(&mut running);
        // Gone while it runs, stopped in the middle of the recovery; started before it is over.
        machine.take_away();
        assert_eq!(
            next_event(&mut running.port),
            Some(PortEvent::DeviceRemoved)
        );
        running.stop();
        machine.bring_back();
        running.start_again();
        assert_moves(&mut running);
        let events = events_until(&mut running.port, || (), is_recovered);
        assert!(events.len() <= 2, "{events:?}");
        assert_moves(&mut running);
        // Gone and back while it is stopped: the start or the events before it tell.
        running.stop();
        machine.take_away();
        machine.bring_back();
        let mut done = false;
        for _ in 0..3 {
            match running.port.start() {
                Ok(queues) => {
                    running.queues = queues;
                    done = true;
                    break;
                }
                Err(Error::DeviceRemoved { .. }) => {
                    events_until(&mut running.port, || (), is_recovered);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(done);
        assert_moves(&mut running);
        running.finish();
        machine.assert_clean();
    }
}

#[test]
fn resets_in_a_row_are_survived_also_where_the_owners_saw_none_of_them() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let mut running = Running::start(&rig, &Plan::queues(1, 2));
    for silent in [true, false, true] {
        for _ in 0..2 {
            machine.take_away();
            let seen = running.port.next_event().unwrap();
            assert_eq!(seen, Some(PortEvent::DeviceRemoved));
            machine.bring_back();
            if silent {
                let back = |event: &PortEvent| *event == PortEvent::Recovering;
                events_until(&mut running.port, || (), back);
            } else {
                recover(&mut running);
            }
        }
        if silent {
            recover(&mut running);
        }
        assert_moves(&mut running);
    }
    running.finish();
    machine.assert_clean();
}

#[test]
fn an_errno_at_every_operation_of_the_rebuild_is_told_and_recovering_again_or_closing_works() {
    for kernel in Kernel::ALL {
        let machine = Comeback::new(kernel, 1);
        let rig = machine.rig(0);
        let mut running = Running::start(&rig, &Plan::queues(2, 2));
        let mut failed = 0;
        for nth in 1.. {
            assert!(nth < 200, "the rebuild never succeeds");
            machine.take_away();
            let errno = Errno::ENOMEM;
            machine.bring_back_with(|model| model.inject(Fault::FailOperation { nth, errno }));
            let queues = &mut running.queues;
            let over = |event: &PortEvent| is_failed(event) || is_recovered(event);
            let events = events_until(&mut running.port, || poll_all(queues), over);
            let used = machine.model().operations();
            let Some(PortEvent::RecoveryFailed { reason }) = events.last() else {
                assert_moves(&mut running);
                if used >= nth {
                    // It hit the opening of the device, which was tried again.
                    continue;
                }
                // The order that was not reached is taken by other opens, not by the stop to come.
                machine.spend_operations(nth);
                break;
            };
            failed += 1;
            assert!(reason.contains("ENOMEM"), "operation {nth}: {reason}");
            assert_eq!(running.rx_pool.in_use(), 0, "operation {nth}");
            assert_eq!(running.tx_pool.in_use(), 0, "operation {nth}");
            let mut batch = Batch::with_capacity(1);
            assert_eq!(running.queues.rx[0].rx_burst(&mut batch), 0);
            if nth % 2 == 0 {
                running.stop();
                running.start_again();
            } else {
                running.port.recover();
                recover(&mut running);
            }
            assert_moves(&mut running);
        }
        // PD, two MRs, two send queues and two receive queues with CQs and doorbells, table, RSS QP.
        assert!(
            failed >= 1 + 2 + 2 * 2 + 2 * 2 + 2 + 8,
            "only {failed} failures"
        );
        running.finish();
        machine.assert_clean();
    }
}

#[test]
fn a_device_that_goes_again_in_the_middle_of_the_rebuild_or_of_a_start_is_tried_again() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let mut running = Running::start(&rig, &Plan::queues(2, 2));
    let errno = Errno::EIO;
    for nth in 1..40 {
        machine.take_away();
        machine.bring_back_with(|model| model.inject(Fault::FailOperation { nth, errno }));
        let over = |event: &PortEvent| is_failed(event) || is_recovered(event);
        let queues = &mut running.queues;
        let events = events_until(&mut running.port, || poll_all(queues), over);
        assert!(events.last().is_some_and(is_recovered), "{nth}: {events:?}");
        machine.spend_operations(nth);
        assert_moves(&mut running);
    }
    for nth in 1..40 {
        running.stop();
        machine.model().inject(Fault::FailOperation { nth, errno });
        match running.port.start() {
            Ok(queues) => {
                running.queues = queues;
                let seen = machine.model().operations();
                machine.spend_operations(seen + nth);
            }
            Err(Error::DeviceRemoved { .. }) => running.start_again(),
            Err(error) => panic!("{nth}: {error}"),
        }
        assert_moves(&mut running);
    }
    running.finish();
    machine.assert_clean();
}

#[test]
fn a_device_that_stays_away_fails_the_recovery_in_time_even_with_a_silent_owner() {
    for silent in [false, true] {
        let machine = Comeback::new(Kernel::V6_12, 1);
        let rig = machine.rig(0);
        let mut running = Running::start(&rig, &Plan::queues(1, 1));
        running.send_frames(0, &mixture(8, 600));
        running.port.set_recovery(RecoveryConfig {
            deadline: Duration::from_millis(150),
            ..RecoveryConfig::default()
        });
        let start = Instant::now();
        machine.take_away();
        let queues = &mut running.queues;
        let owners = || {
            if !silent {
                poll_all(queues);
            }
        };
        let events = events_until(&mut running.port, owners, is_failed);
        assert!(start.elapsed() >= Duration::from_millis(150));
        let PortEvent::RecoveryFailed { reason } = events.last().unwrap() else {
            unreachable!()
        };
        assert!(
            reason.contains("did not come back within 150ms"),
            "{reason}"
        );
        assert_eq!(running.port.next_event().unwrap(), None);
        let waited = PortEvent::WaitingForQueue {
            queues: vec!["rx 0".to_owned(), "tx 0".to_owned()],
        };
        assert_eq!(events.contains(&waited), silent, "{events:?}");
        let Running {
            mut port,
            queues,
            rx_pool,
            tx_pool,
            ..
        } = running;
        port.stop(queues).unwrap();
        port.close().unwrap();
        assert_eq!((rx_pool.in_use(), tx_pool.in_use()), (0, 0));
        machine.assert_clean();
    }
}

#[test]
fn both_ports_of_a_function_recover_on_one_context() {
    for kernel in [Kernel::V6_12, Kernel::V7_3] {
        let machine = Comeback::new(kernel, 2);
        let ports = Port::open(&machine.system(), &Selector::default()).unwrap();
        let plan = Plan::queues(2, 2);
        let rigs = [machine.rig(0), machine.rig(1)];
        let mut both: Vec<Running<'_>> = rigs
            .iter()
            .zip(ports)
            .map(|(rig, port)| Running::start_port(rig, &plan, port))
            .collect();
        assert_eq!(machine.model().objects().contexts, 1);
        for _ in 0..3 {
            for running in &mut both {
                running.send_frames(1, &mixture(8, 600));
            }
            machine.take_away();
            machine.bring_back();
            let start = Instant::now();
            let mut recovered = [false; 2];
            while recovered != [true; 2] {
                for (running, recovered) in both.iter_mut().zip(&mut recovered) {
                    poll_all(&mut running.queues);
                    *recovered |= next_event(&mut running.port)
                        .as_ref()
                        .is_some_and(is_recovered);
                }
                assert!(start.elapsed() < Duration::from_secs(60), "{recovered:?}");
            }
            assert_eq!(machine.model().objects().contexts, 1);
            for running in &mut both {
                assert_eq!(running.rx_pool.in_use(), 2 * 64);
                assert_eq!(running.tx_pool.in_use(), 0);
                assert_moves(running);
            }
        }
        both.into_iter().for_each(Running::finish);
        machine.assert_clean();
    }
}

#[test]
fn a_vport_that_the_kernel_took_is_waited_for() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let mut running = Running::start(&rig, &Plan::default());
    machine.take_away();
    machine.bring_back_with(|model| {
        // The other device of this machine comes first.
        model.port(1).set_netdev_up(true).unwrap();
    });
    let queues = &mut running.queues;
    let back = |event: &PortEvent| *event == PortEvent::Recovering;
    events_until(&mut running.port, || poll_all(queues), back);
    for _ in 0..50 {
        poll_all(&mut running.queues);
        let event = next_event(&mut running.port);
        assert!(
            !event
                .as_ref()
                .is_some_and(|event| is_recovered(event) || is_failed(event))
        );
    }
    machine.model().port(1).set_netdev_up(false).unwrap();
    recover(&mut running);
    assert_moves(&mut running);
    running.finish();
    machine.assert_clean();
}

#[test]
fn a_queue_whose_packets_never_complete_is_told_once_and_recovery_mends_it() {
    // Stepped: the device does nothing unless it is asked to.
    let rig = Rig::model(DeviceConfig::new(Kernel::V7_3), DoorbellMode::Stepped);
    let mut running = Running::start(&rig, &Plan::queues(1, 2));
    running.port.set_recovery(RecoveryConfig {
        tx_timeout: Some(Duration::from_millis(60)),
        ..RecoveryConfig::default()
    });
    let packets = (0..5).map(|n| running.packet(&frame(Kind::UdpV4, 1, n, 80)));
    let packets = packets.collect();
    running.send(1, packets);
    let queues = &mut running.queues;
    let events = events_until(&mut running.port, || poll_all(queues), |_| true);
    let [
        PortEvent::TxStuck {
            queue: 1,
            in_flight: 5,
            age,
        },
    ] = events[..]
    else {
        panic!("{events:?}");
    };
    assert!(age >= Duration::from_millis(60));
    for _ in 0..200 {
        poll_all(&mut running.queues);
        assert_eq!(next_event(&mut running.port), None, "told once");
    }
    running.port.recover();
    let events = recover(&mut running);
    let Some(PortEvent::Recovered { lost }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((lost.tx, running.tx_pool.in_use()), (5, 0));
    assert_eq!(running.port.tx_queue_stats(1).errors, 5);
    assert_moves(&mut running);
    running.finish();
}

/// Workers in threads of their own, a thread that drives the port, and resets at any time.
#[test]
fn workers_that_know_of_nothing_go_on_through_resets() {
    let machine = Comeback::new(Kernel::V7_3, 1);
    let rig = machine.rig(0);
    let plan = Plan {
        spare: 512,
        ..Plan::queues(1, 1)
    };
    let mut running = Running::start(&rig, &plan);
    let queues = std::mem::take(&mut running.queues);
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for mut queue in queues.tx {
        let (stop, pool) = (Arc::clone(&stop), running.tx_pool.clone());
        workers.push(thread::spawn(move || {
            let mut batch = Batch::with_capacity(8);
            while !stop.load(Ordering::Relaxed) {
                while batch.room() > 0 {
                    let Some(mut mbuf) = pool.alloc() else { break };
                    mbuf.extend_from_slice(&frame(Kind::UdpV4, 1, 1, 80))
                        .unwrap();
                    batch.push(mbuf).unwrap();
                }
                assert!(queue.tx_burst(&mut batch).rejected.is_none());
                queue.reclaim();
                thread::yield_now();
            }
            Queues {
                tx: vec![queue],
                ..Queues::default()
            }
        }));
    }
    for mut queue in queues.rx {
        let stop = Arc::clone(&stop);
        workers.push(thread::spawn(move || {
            let mut batch = Batch::with_capacity(32);
            while !stop.load(Ordering::Relaxed) {
                queue.rx_burst(&mut batch);
                batch.clear();
                thread::yield_now();
            }
            Queues {
                rx: vec![queue],
                ..Queues::default()
            }
        }));
    }
    for _ in 0..8 {
        let before = running.port.stats();
        let start = Instant::now();
        while running.port.stats().rx_packets < before.rx_packets + 100 {
            assert_eq!(next_event(&mut running.port), None);
            assert!(start.elapsed() < Duration::from_secs(60), "nothing moves");
        }
        machine.take_away();
        thread::sleep(Duration::from_millis(2));
        machine.bring_back();
        events_until(&mut running.port, || (), is_recovered);
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        let Queues { rx, tx } = worker.join().unwrap();
        running.queues.rx.extend(rx);
        running.queues.tx.extend(tx);
    }
    running.finish();
    machine.assert_clean();
}
