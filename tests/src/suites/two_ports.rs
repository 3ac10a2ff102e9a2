//! Two ports of one function, which share a context, start and stop on two threads at the same time,
//! with rings on a NUMA node each: what one is given, the other does not get.

use std::path::Path;
use std::thread;

use dma_memory::{HugePages, RegionOptions};
use mana_model::PortConfig as ModelPort;
use mana_pmd::{Port, PortConfig, Queues, Selector};
use pmd_api::{Batch, Pool, RxBurst, TxBurst};

use super::{Needs, Suite};
use crate::{Plan, Rig};

/// Starts of each port, not one after the other's.
const ROUNDS: usize = 40;
/// Packets that go round afterwards.
const PACKETS: usize = 32;

pub(super) const SUITE: Suite = Suite {
    name: "two_ports",
    proves: "two ports of one function that start and stop at the same time, with rings on \
             different NUMA nodes, get what they asked for, work, and leave nothing behind",
    needs: Needs::Model,
    prepare: |device| device.ports.push(ModelPort::default()),
    run,
};

fn run(rig: &Rig) {
    let all = Selector {
        provider: rig.selector.provider,
        ..Selector::default()
    };
    let mut ports = Port::open(&rig.system, &all).expect("both ports open");
    assert_eq!(ports.len(), 2, "{ports:?}");
    let plan = Plan::queues(4, 4);
    let pools = ["first", "second"].map(|name| plan.pool(name));
    // The machine's first node where there are nodes, and wherever the kernel likes.
    let first = Path::new("/sys/devices/system/node/node0").exists();
    let nodes = [first.then_some(0), None];
    let opened = rig.objects();
    thread::scope(|scope| {
        for ((port, pool), node) in ports.iter_mut().zip(&pools).zip(nodes) {
            port.configure(config(&plan, pool, node))
                .expect("it is configured");
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let queues = port
                        .start()
                        .unwrap_or_else(|error| panic!("{round}: {error}"));
                    port.stop(queues)
                        .unwrap_or_else(|error| panic!("{round}: {error}"));
                }
            });
        }
    });
    assert_eq!(rig.objects(), opened, "objects leak");
    let mut queues: Vec<Queues> = ports
        .iter_mut()
        .map(|port| port.start().expect("it starts"))
        .collect();
    for (queues, pool) in queues.iter_mut().zip(&pools) {
        exchange(rig, queues, pool);
    }
    for (port, queues) in ports.iter_mut().zip(queues) {
        port.stop(queues).expect("it stops");
    }
    drop(ports);
    rig.assert_clean(&[&pools[0], &pools[1]]);
}

fn config(plan: &Plan, pool: &Pool, numa_node: Option<u32>) -> PortConfig {
    PortConfig {
        memory: RegionOptions {
            huge: HugePages::Never,
            numa_node,
        },
        ..plan.config(pool, pool)
    }
}

/// Sends packets on each queue and receives as many.
fn exchange(rig: &Rig, queues: &mut Queues, pool: &Pool) {
    let mut batch = Batch::with_capacity(PACKETS);
    let mut expected = 0;
    for tx in &mut queues.tx {
        pool.alloc_bulk(&mut batch, PACKETS / 4).expect("buffers");
        for mbuf in batch.as_mut_slice() {
            mbuf.append(60).expect("room").fill(0x5A);
        }
        expected += tx.tx_burst(&mut batch).sent;
        assert!(batch.is_empty());
    }
    let mut received = 0;
    let all = rig.until(|| {
        for rx in &mut queues.rx {
            received += rx.rx_burst(&mut batch);
            batch.clear();
        }
        for tx in &mut queues.tx {
            tx.reclaim();
        }
        received == expected
    });
    assert!(all, "{received} of {expected}: {}", rig.trouble());
}
