//! Two ports wired to each other: packets cross over, and buffers of one port's pool leave through
//! the other.

#![forbid(unsafe_code)]

use conformance::Plan;
use conformance::packets::mixture;
use mana_model::{DoorbellMode, Kernel, Model, ModelConfig, ObjectCounts, parse_device};
use mana_pmd::{Port, PortConfig, Queues, RxQueueConfig, Selector, TxQueueConfig};
use pmd_api::{Batch, Pool, RxBurst, TxBurst};

/// Two models of one port each, or one of two.
fn machine(kernel: Kernel, devices: usize) -> Model {
    let kernel = kernel.name();
    let devices = match devices {
        1 => vec![format!("model0,ports=2,link=pair,kernel={kernel}")],
        _ => vec![
            format!("model0,link=pair,kernel={kernel}"),
            format!("model1,link=pair,kernel={kernel}"),
        ],
    };
    let devices = devices.iter().map(|text| parse_device(text));
    Model::new(ModelConfig {
        devices: devices.collect::<Result<_, _>>().expect("devices"),
        doorbells: DoorbellMode::Stepped,
    })
    .expect("a machine")
}

fn start(port: &mut Port, receive: &Pool, send: &[Pool]) -> Queues {
    port.configure(PortConfig {
        rx: vec![RxQueueConfig {
            depth: 64,
            pool: receive.clone(),
        }],
        tx: vec![TxQueueConfig { depth: 64 }],
        tx_pools: send.to_vec(),
        ..PortConfig::default()
    })
    .expect("a good configuration");
    port.start().expect("the port starts")
}

/// Sends all of the batch and lets the device carry it over.
fn send(model: &Model, queues: &mut Queues, batch: &mut Batch) {
    let outcome = queues.tx[0].tx_burst(batch);
    assert!(outcome.rejected.is_none(), "{outcome:?}");
    assert!(batch.is_empty());
    model.step();
    queues.tx[0].reclaim();
}

#[test]
fn packets_cross_over_and_are_forwarded_out_of_the_other_ports_pool() {
    for (kernel, devices) in [
        (Kernel::V6_12, 1),
        (Kernel::V6_12, 2),
        (Kernel::V7_3, 1),
        (Kernel::V7_3, 2),
    ] {
        let model = machine(kernel, devices);
        let mut ports = Port::open(&model.system(), &Selector::default()).expect("two ports");
        let [left, right] = &mut ports[..] else {
            panic!("two ports");
        };
        let plan = Plan {
            spare: 256,
            ..Plan::default()
        };
        let (own, left_pool, right_pool) =
            (plan.pool("own"), plan.pool("left"), plan.pool("right"));
        // Each may send what the other received.
        let mut left_queues = start(left, &left_pool, &[own.clone(), right_pool.clone()]);
        let mut right_queues = start(right, &right_pool, std::slice::from_ref(&left_pool));

        let mut batch = Batch::with_capacity(32);
        for frames in mixture(320, 1514).chunks(32) {
            for bytes in frames {
                let mut mbuf = own.alloc().expect("a buffer");
                mbuf.extend_from_slice(bytes).expect("room");
                batch.push(mbuf).expect("room");
            }
            // Left to right; out of right's buffers through left, so back to right; and again out
            // of right's buffers, now through right, to left.
            send(&model, &mut left_queues, &mut batch);
            assert_eq!(right_queues.rx[0].rx_burst(&mut batch), frames.len());
            assert!(batch.iter().all(|mbuf| mbuf.port() == 1));
            send(&model, &mut left_queues, &mut batch);
            assert_eq!(right_queues.rx[0].rx_burst(&mut batch), frames.len());
            send(&model, &mut right_queues, &mut batch);
            assert_eq!(left_queues.rx[0].rx_burst(&mut batch), frames.len());
            for (mbuf, bytes) in batch.iter().zip(frames) {
                assert!(mbuf.to_vec() == *bytes, "a packet changed");
                assert_eq!((mbuf.port(), mbuf.buffer_pool()), (0, left_pool.id()));
            }
            batch.clear();
        }
        left.stop(left_queues).expect("left stops");
        right.stop(right_queues).expect("right stops");
        drop(ports);
        for pool in [&own, &left_pool, &right_pool] {
            assert_eq!(pool.in_use(), 0, "{}", pool.name());
        }
        assert_eq!(model.objects(), ObjectCounts::default());
        assert!(model.findings().is_empty(), "{:?}", model.findings());
    }
}
