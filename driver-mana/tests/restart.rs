//! Many starts leak nothing. Alone in its program, because it counts what the process has.

use std::fs;

use dma_memory::{HugePages, RegionOptions};
use mana_model::Model;
use mana_model::config::{DeviceConfig, DoorbellMode, Kernel, ModelConfig};
use mana_pmd::{Port, PortConfig, RxQueueConfig, Selector, TxQueueConfig};
use pmd_api::{Pool, PoolConfig};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

#[test]
fn a_hundred_starts_leave_descriptors_mappings_and_pools_as_they_were() {
    for kernel in Kernel::ALL {
        let model = Model::new(ModelConfig {
            devices: vec![DeviceConfig::new(kernel)],
            doorbells: DoorbellMode::Stepped,
        })
        .unwrap();
        let memory = RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        };
        let pool = PoolConfig {
            buffers: 1024,
            cache: 0,
            memory: memory.clone(),
            ..PoolConfig::default()
        };
        let pool = Pool::new(pool).unwrap();
        let config = PortConfig {
            rx: vec![
                RxQueueConfig {
                    depth: 64,
                    pool: pool.clone()
                };
                2
            ],
            tx: vec![TxQueueConfig { depth: 64 }; 3],
            memory,
            ..PortConfig::default()
        };
        let cycle = |starts: usize| {
            let mut port = Port::open(&model.system(), &Selector::default())
                .unwrap()
                .remove(0);
            for _ in 0..starts {
                port.configure(config.clone()).unwrap();
                let queues = port.start().unwrap();
                port.stop(queues).unwrap();
            }
            port.close().unwrap();
        };
        cycle(1);
        let before = (descriptors(), mappings(), model.objects(), pool.in_use());
        (0..20).for_each(|_| cycle(5));
        let after = (descriptors(), mappings(), model.objects(), pool.in_use());
        assert_eq!(before.0, after.0, "descriptors");
        // The allocator may map more for itself, by far less than one a start.
        assert!(
            after.1 < before.1 + 10,
            "mappings: {} to {}",
            before.1,
            after.1
        );
        assert_eq!((before.2, before.3), (after.2, after.3));
        assert!(model.findings().is_empty(), "{:?}", model.findings());
    }
}
