//! Configure, start, stop and close in every order, and who owns what meanwhile.

use crate::support::{assert_no_findings, config, device, device_up, machine, open_one, pool};
use dma_memory::{HugePages, RegionOptions};
use mana_model::Fault;
use mana_model::config::{DeviceConfig, Kernel};
use mana_pmd::{Error, Port, Queues, RxBurst, Selector, TxBurst};
use pmd_api::Batch;

/// Sends `count` packets of 60 bytes on the first queue and receives what the loop brings back.
fn exchange(model: &mana_model::Model, queues: &mut Queues, pool: &pmd_api::Pool, count: usize) {
    let mut batch = Batch::with_capacity(64);
    pool.alloc_bulk(&mut batch, count).unwrap();
    for mbuf in batch.as_mut_slice() {
        mbuf.append(60).unwrap().fill(0x5a);
    }
    assert_eq!(queues.tx[0].tx_burst(&mut batch).sent, count);
    model.step();
    let mut received = 0;
    for queue in &mut queues.rx {
        received += queue.rx_burst(&mut batch);
    }
    assert_eq!(received, count);
    queues.tx[0].reclaim();
}

#[test]
fn packets_flow_from_start_to_stop_on_every_kernel_and_queue_count() {
    for kernel in Kernel::ALL {
        for (rx, tx) in [(1, 1), (4, 3), (2, 5), (64, 1)] {
            let model = machine(vec![device(kernel, 1)]);
            let pool = pool(8192);
            let mut port = open_one(&model);
            port.configure(config(rx, tx, &pool)).unwrap();
            let mut queues = port.start().unwrap();
            assert_eq!((queues.rx.len(), queues.tx.len()), (rx, tx));
            exchange(&model, &mut queues, &pool, 10);
            port.stop(queues).unwrap();
            assert_eq!(pool.in_use(), 0);
            assert_eq!((port.stats().tx_packets, port.stats().rx_packets), (10, 10));
            port.close().unwrap();
            assert_eq!(model.objects(), Default::default());
            assert_no_findings(&model);
        }
    }
}

#[test]
fn what_comes_out_of_order_is_refused_and_changes_nothing() {
    let model = machine(vec![device(Kernel::V7_3, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    let opened = model.objects();
    assert!(matches!(port.start(), Err(Error::NotConfigured)));
    assert!(matches!(
        port.stop(Queues::default()),
        Err(Error::NotStarted)
    ));
    port.configure(config(2, 2, &pool)).unwrap();
    assert!(matches!(
        port.configure(config(3, 2, &pool)),
        Err(Error::RxQueues { .. })
    ));
    assert_eq!(model.objects(), opened, "nothing is made before start");

    let queues = port.start().unwrap();
    assert_eq!(
        queues.rx.len(),
        2,
        "the refused configuration did not replace the good one"
    );
    assert!(port.is_started());
    assert!(matches!(port.start(), Err(Error::Started)));
    assert!(matches!(
        port.configure(config(1, 1, &pool)),
        Err(Error::Started)
    ));
    port.stop(queues).unwrap();
    assert!(matches!(
        port.stop(Queues::default()),
        Err(Error::NotStarted)
    ));
    assert_eq!(model.objects(), opened);

    port.configure(config(4, 1, &pool)).unwrap();
    let queues = port.start().unwrap();
    assert_eq!((queues.rx.len(), queues.tx.len()), (4, 1));
    port.stop(queues).unwrap();
    port.close().unwrap();
    assert_no_findings(&model);
}

#[test]
fn dropped_queues_count_as_returned() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(2, 2, &pool)).unwrap();
    let mut queues = port.start().unwrap();
    queues.rx.pop();
    queues.tx.clear();
    port.stop(queues).unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn outstanding_queues_are_named_and_stop_can_be_called_again() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(2, 2, &pool)).unwrap();
    let mut queues = port.start().unwrap();
    let (rx, tx) = (queues.rx.remove(1), queues.tx.remove(0));
    let error = port.stop(queues).unwrap_err();
    assert!(
        matches!(&error, Error::QueuesOutstanding { queues } if *queues == ["rx 1", "tx 0"]),
        "{error}"
    );
    assert!(port.is_started());
    drop(rx);
    let error = port.stop(Queues::default()).unwrap_err();
    assert!(
        error.to_string().contains("tx 0") && !error.to_string().contains("rx"),
        "{error}"
    );
    port.stop(Queues {
        rx: vec![],
        tx: vec![tx],
    })
    .unwrap();
    assert_eq!(pool.in_use(), 0);
    let queues = port.start().unwrap();
    port.stop(queues).unwrap();
}

#[test]
fn queues_of_another_port_go_home_and_this_port_stays_started() {
    let model = machine(vec![device(Kernel::V6_12, 2)]);
    let pool = pool(1024);
    let mut ports = Port::open(&model.system(), &Selector::default()).unwrap();
    for port in &mut ports {
        port.configure(config(1, 1, &pool)).unwrap();
    }
    let first = ports[0].start().unwrap();
    let second = ports[1].start().unwrap();
    let error = ports[0].stop(second).unwrap_err();
    assert!(
        matches!(&error, Error::ForeignQueues { queues } if *queues == ["rx 0", "tx 0"]),
        "{error}"
    );
    assert!(ports[0].is_started());
    ports[1].stop(Queues::default()).unwrap();
    ports[0].stop(first).unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn queues_outlive_their_port_and_the_last_one_takes_the_device_down() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 1)]);
        let pool = pool(1024);
        let mut port = open_one(&model);
        port.configure(config(2, 1, &pool)).unwrap();
        let mut queues = port.start().unwrap();
        assert!(matches!(port.close(), Err(Error::QueuesOutstanding { .. })));
        exchange(&model, &mut queues, &pool, 5);
        drop(queues.tx);
        drop(queues.rx.pop());
        assert_eq!(model.objects().contexts, 1);
        drop(queues.rx);
        assert_eq!(model.objects(), Default::default());
        assert_eq!(pool.in_use(), 0);
        assert_no_findings(&model);
    }
}

#[test]
fn queues_are_used_and_dropped_in_other_threads() {
    let model = machine(vec![device(Kernel::V7_3, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(2, 2, &pool)).unwrap();
    let Queues { rx, tx } = port.start().unwrap();
    // Joined one by one: the end of a scope would not wait for what rests in a thread's records.
    let receivers = rx
        .into_iter()
        .map(|mut queue| std::thread::spawn(move || queue.rx_burst(&mut Batch::with_capacity(8))));
    let senders = tx.into_iter().map(|mut queue| {
        std::thread::spawn(move || queue.tx_burst(&mut Batch::with_capacity(8)).sent)
    });
    for thread in receivers.chain(senders).collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    port.stop(Queues::default()).unwrap();
    assert_eq!(pool.in_use(), 0);
    assert_eq!(model.objects().qps, 0);
}

#[test]
fn ports_queues_and_errors_may_go_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Port>();
    send::<Queues>();
    send::<Error>();
    sync::<Error>();
}

#[test]
fn a_started_port_is_closed_or_dropped_after_its_queues_were() {
    for close in [true, false] {
        let model = machine(vec![device(Kernel::V7_3, 1)]);
        let pool = pool(1024);
        let mut port = open_one(&model);
        port.configure(config(2, 1, &pool)).unwrap();
        drop(port.start().unwrap());
        if close {
            port.close().unwrap()
        } else {
            drop(port)
        }
        assert_eq!(model.objects(), Default::default());
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn forgotten_queues_leak_and_keep_their_port_started() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(1, 1, &pool)).unwrap();
    std::mem::forget(port.start().unwrap());
    assert!(matches!(
        port.stop(Queues::default()),
        Err(Error::QueuesOutstanding { .. })
    ));
    drop(port);
    assert_eq!(model.objects().contexts, 1);
    assert_eq!(pool.in_use(), 64);
    model.step();
    assert_no_findings(&model);
}

#[test]
fn pools_stay_registered_although_their_handles_are_gone() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let mut port = open_one(&model);
    port.configure(config(1, 1, &pool(1024))).unwrap();
    let mut queues = port.start().unwrap();
    let extra = pool(1024);
    drop(port);
    let mut batch = Batch::with_capacity(8);
    extra.alloc_bulk(&mut batch, 1).unwrap();
    batch.as_mut_slice()[0].append(60).unwrap().fill(1);
    let outcome = queues.tx[0].tx_burst(&mut batch);
    assert!(
        outcome.rejected.is_some(),
        "a pool the port does not know has no key"
    );
    model.port(0).deliver(&[0x77; 60]);
    model.step();
    let mut batch = Batch::with_capacity(8);
    assert_eq!(queues.rx[0].rx_burst(&mut batch), 1);
    drop(queues);
    assert_eq!(
        batch.as_slice()[0].data(),
        [0x77; 60],
        "a packet outlives port, queue and pool"
    );
    assert_no_findings(&model);
}

#[test]
fn the_ports_of_a_device_run_at_the_same_time_and_send_from_each_others_pools() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 2)]);
        let (first_pool, second_pool) = (pool(1024), pool(1024));
        let mut ports = Port::open(&model.system(), &Selector::default()).unwrap();
        let with_tx_pool = |own, other: &pmd_api::Pool| mana_pmd::PortConfig {
            tx_pools: vec![other.clone()],
            ..config(2, 2, own)
        };
        ports[0]
            .configure(with_tx_pool(&first_pool, &second_pool))
            .unwrap();
        ports[1]
            .configure(with_tx_pool(&second_pool, &first_pool))
            .unwrap();
        let mut first = ports[0].start().unwrap();
        let mut second = ports[1].start().unwrap();
        assert_eq!(model.objects().mrs, 4);
        exchange(&model, &mut first, &second_pool, 8);
        exchange(&model, &mut second, &first_pool, 8);
        ports[1].stop(second).unwrap();
        exchange(&model, &mut first, &first_pool, 8);
        ports[0].stop(first).unwrap();
        assert_eq!((first_pool.in_use(), second_pool.in_use()), (0, 0));
        assert_no_findings(&model);
    }
}

#[test]
fn statistics_go_on_over_stop_and_start() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(1, 2, &pool)).unwrap();
    for round in 1..=3 {
        let mut queues = port.start().unwrap();
        exchange(&model, &mut queues, &pool, 4);
        assert_eq!(port.stats().rx_packets, 4 * round);
        port.stop(queues).unwrap();
        let stats = port.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes), (4 * round, 240 * round));
        assert_eq!((stats.rx_packets, stats.rx_bytes), (4 * round, 240 * round));
        assert_eq!(port.tx_queue_stats(0).packets, 4 * round);
        assert_eq!(port.tx_queue_stats(1).packets, 0);
        assert_eq!(port.rx_queue_stats(7), Default::default());
    }
}

#[test]
fn failed_and_lost_packets_are_errors_and_not_counted_as_packets() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    port.configure(config(1, 1, &pool)).unwrap();
    let mut queues = port.start().unwrap();
    let mut batch = Batch::with_capacity(8);
    pool.alloc_bulk(&mut batch, 4).unwrap();
    for mbuf in batch.as_mut_slice() {
        mbuf.append(60).unwrap().fill(0x5a);
    }
    model.inject(Fault::TxError {
        port: 0,
        sq: None,
        cqe_type: 33,
        nth: 2,
    });
    model.inject(Fault::RxTruncated { port: 0, nth: 3 });
    assert_eq!(queues.tx[0].tx_burst(&mut batch).sent, 4);
    model.step();
    queues.tx[0].reclaim();
    assert_eq!(queues.rx[0].rx_burst(&mut batch), 2);
    port.stop(queues).unwrap();
    let stats = port.stats();
    assert_eq!(
        (stats.tx_packets, stats.tx_errors, stats.tx_bytes),
        (3, 1, 180)
    );
    assert_eq!(
        (stats.rx_packets, stats.rx_errors, stats.rx_bytes),
        (2, 1, 120)
    );
    drop(batch);
    assert_eq!(pool.in_use(), 0);
}

/// One at a time, so that there always seems to be room for as many simple packets.
#[test]
fn sending_packets_of_many_segments_goes_on_without_reclaiming() {
    let model = machine(vec![device(Kernel::default(), 1)]);
    let pool = pool(4096);
    let mut port = open_one(&model);
    port.configure(config(1, 1, &pool)).unwrap();
    let mut queues = port.start().unwrap();
    for (sent, segments) in (2..=30).cycle().take(600).enumerate() {
        let mut one = Batch::with_capacity(1);
        let mut packet = pool.alloc().unwrap();
        packet.extend_from_slice(&[0; 60]).unwrap();
        for _ in 1..segments {
            let mut segment = pool.alloc().unwrap();
            segment.extend_from_slice(&[1]).unwrap();
            packet.chain(segment).unwrap();
        }
        one.push(packet).unwrap();
        if queues.tx[0].tx_burst(&mut one).sent == 0 {
            model.step();
            assert_eq!(
                queues.tx[0].tx_burst(&mut one).sent,
                1,
                "after {sent} packets"
            );
        }
        queues.rx[0].rx_burst(&mut Batch::with_capacity(64));
    }
    port.stop(queues).unwrap();
    assert_eq!(pool.in_use(), 0);
    assert_no_findings(&model);
}

#[test]
fn received_packets_carry_the_ports_number() {
    let model = machine(vec![device(Kernel::V6_12, 2)]);
    let pool = pool(1024);
    let mut ports = Port::open(&model.system(), &Selector::default()).unwrap();
    ports[0].set_id(7);
    for (index, expected) in [(0, 7), (1, 1)] {
        ports[index].configure(config(1, 1, &pool)).unwrap();
        let mut queues = ports[index].start().unwrap();
        model.port(index).deliver(&[1; 60]);
        model.step();
        let mut batch = Batch::with_capacity(8);
        assert_eq!(queues.rx[0].rx_burst(&mut batch), 1);
        assert_eq!(batch.as_slice()[0].port(), expected);
        ports[index].stop(queues).unwrap();
    }
}

#[test]
fn a_netdev_that_is_up_is_one_error_on_every_kernel_and_taking_it_down_mends_it() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device_up(kernel)]);
        let pool = pool(1024);
        let mac = model.port(0).mac();
        let mut port = crate::support::open(&model.system(), &format!("mac={mac}"))
            .unwrap()
            .remove(0);
        let opened = model.objects();
        port.configure(config(1, 1, &pool)).unwrap();
        let error = port.start().unwrap_err();
        let name = model.port(0).netdev();
        assert!(
            matches!(&error, Error::NetdevUp { netdev, master: None, .. } if *netdev == name),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("sudo ip link set {name} down")),
            "{error}"
        );
        assert_eq!(model.objects(), opened);
        model.port(0).set_netdev_up(false).unwrap();
        let queues = port.start().unwrap();
        assert!(
            model.port(0).set_netdev_up(true).is_err(),
            "the driver owns the vPort now"
        );
        port.stop(queues).unwrap();
        model.port(0).set_netdev_up(true).unwrap();
    }
}

#[test]
fn a_port_that_another_program_started_is_in_use() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 1)]);
        let pool = pool(1024);
        let (mut one, mut other) = (open_one(&model), open_one(&model));
        one.configure(config(1, 1, &pool)).unwrap();
        other.configure(config(1, 1, &pool)).unwrap();
        let queues = one.start().unwrap();
        let error = other.start().unwrap_err();
        assert!(matches!(error, Error::VportInUse { .. }), "{error}");
        one.stop(queues).unwrap();
        let queues = other.start().unwrap();
        other.stop(queues).unwrap();
    }
}

#[test]
fn huge_pages_that_do_not_exist_fail_the_start_and_the_next_one_works() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    let opened = model.objects();
    let impossible = RegionOptions {
        huge: HugePages::Require1G,
        numa_node: Some(4095),
    };
    port.configure(mana_pmd::PortConfig {
        memory: impossible,
        ..config(2, 2, &pool)
    })
    .unwrap();
    let error = port.start().unwrap_err();
    assert!(matches!(error, Error::Memory(_)), "{error}");
    assert_eq!(model.objects(), opened);
    assert_eq!(pool.in_use(), 0);
    port.configure(config(2, 2, &pool)).unwrap();
    let queues = port.start().unwrap();
    port.stop(queues).unwrap();
}

#[test]
fn rings_step_off_a_numa_node_that_the_machine_lacks() {
    let device = DeviceConfig {
        numa_node: Some(4095),
        ..device(Kernel::V6_12, 1)
    };
    let model = machine(vec![device]);
    let pool = pool(1024);
    let mut port = open_one(&model);
    assert_eq!(port.info().numa_node, Some(4095));
    port.configure(config(1, 1, &pool)).unwrap();
    let queues = port.start().unwrap();
    port.stop(queues).unwrap();
}

#[test]
fn queue_ids_beyond_ten_bits_and_vport_offsets_beyond_eight_are_taken() {
    for kernel in Kernel::ALL {
        let device = DeviceConfig {
            vport_offset: 300,
            first_queue_id: 1 << 20,
            first_cq_id: 1 << 21,
            ..device(kernel, 1)
        };
        let model = machine(vec![device]);
        let pool = pool(1024);
        let mut port = open_one(&model);
        port.configure(config(2, 2, &pool)).unwrap();
        let mut queues = port.start().unwrap();
        exchange(&model, &mut queues, &pool, 9);
        port.stop(queues).unwrap();
        assert_no_findings(&model);
    }
}
