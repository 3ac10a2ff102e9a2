//! An errno at every single control operation, one after the other.

use crate::support::{assert_no_findings, config, device, machine, open_one, pool};
use std::io::Write;

use dma_memory::HugePages;
use mana_model::config::Kernel;
use mana_model::{Fault, Model};
use mana_pmd::{Error, Port, Selector};
use pmd_api::Pool;
use uverbs_abi::Errno;

const ERRNOS: [Errno; 3] = [Errno::ENOMEM, Errno::EINVAL, Errno::EBUSY];

fn fail(model: &Model, nth: u64, errno: Errno) {
    model.inject(Fault::FailOperation { nth, errno });
}

/// Two pools, two queues each way: every kind of object more than once.
fn ready(model: &Model) -> (Port, Pool, Pool) {
    let (rx_pool, tx_pool) = (pool(1024), pool(1024));
    let mut port = open_one(model);
    let config = mana_pmd::PortConfig {
        tx_pools: vec![tx_pool.clone()],
        ..config(2, 2, &rx_pool)
    };
    port.configure(config).unwrap();
    (port, rx_pool, tx_pool)
}

/// Control operations of one start and one stop.
fn operations(kernel: Kernel) -> (u64, u64) {
    let model = machine(vec![device(kernel, 1)]);
    let (mut port, _rx, _tx) = ready(&model);
    let before = model.operations();
    let queues = port.start().unwrap();
    let started = model.operations();
    port.stop(queues).unwrap();
    (started - before, model.operations() - started)
}

#[test]
fn an_errno_at_every_operation_of_start_undoes_everything_and_the_next_start_works() {
    for kernel in Kernel::ALL {
        let (count, _) = operations(kernel);
        assert!(
            count >= 1 + 2 + 4 * 2 + 2 + 8,
            "{count} operations can't be all"
        );
        let model = machine(vec![device(kernel, 1)]);
        let (mut port, rx_pool, tx_pool) = ready(&model);
        let opened = model.objects();
        for errno in ERRNOS {
            for nth in 1..=count {
                fail(&model, nth, errno);
                let error = port.start().map(|_| ()).expect_err("an operation failed");
                let told = error.to_string();
                assert!(
                    told.contains(errno.name().unwrap()),
                    "operation {nth}: {told}"
                );
                assert!(!port.is_started());
                assert_eq!(model.objects(), opened, "operation {nth} with {errno}");
                assert_eq!(
                    (rx_pool.in_use(), tx_pool.in_use()),
                    (0, 0),
                    "operation {nth}"
                );
                let queues = port.start().unwrap();
                port.stop(queues).unwrap();
            }
        }
        port.close().unwrap();
        assert_eq!(model.objects(), Default::default());
        assert_no_findings(&model);
    }
}

/// What could not be destroyed is kept; stop and close return all the same.
#[test]
fn an_errno_at_every_operation_of_stop_is_told_and_the_port_is_stopped() {
    for kernel in Kernel::ALL {
        let (_, count) = operations(kernel);
        assert!(
            count > 2 * 2 + 2 + 2 * 2 + 2,
            "{count} operations can't be all"
        );
        for nth in 1..=count {
            let model = machine(vec![device(kernel, 1)]);
            let (mut port, rx_pool, tx_pool) = ready(&model);
            let queues = port.start().unwrap();
            fail(&model, nth, Errno::EBUSY);
            let result = port.stop(queues);
            // The protection domain goes last, where nothing but the log can tell.
            assert_eq!(result.is_err(), nth < count, "operation {nth}: {result:?}");
            assert!(
                matches!(result, Ok(()) | Err(Error::Verbs(_))),
                "operation {nth}"
            );
            assert!(!port.is_started());
            model.step();
            port.close().unwrap();
            assert_eq!(model.objects().contexts, 0, "operation {nth}");
            // Only receive buffers that the device may still write are kept.
            assert!(matches!(rx_pool.in_use(), 0 | 128), "operation {nth}");
            assert_eq!(tx_pool.in_use(), 0, "operation {nth}");
            assert_no_findings(&model);
        }
    }
}

#[test]
fn an_errno_at_every_operation_of_open_leaves_no_context_and_the_next_open_works() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 1)]);
        let before = model.operations();
        drop(open_one(&model));
        let count = model.operations() - before;
        for nth in 1..=count {
            fail(&model, nth, Errno::ENOMEM);
            match Port::open(&model.system(), &Selector::default()) {
                // An optional query, or the RNIC's context, which is not needed.
                Ok(ports) => drop(ports),
                Err(error) => {
                    assert!(
                        matches!(error, Error::NoUsablePort { .. }),
                        "{nth}: {error}"
                    );
                    assert!(error.to_string().contains("ENOMEM"), "{nth}: {error}");
                }
            }
            assert_eq!(model.objects(), Default::default(), "operation {nth}");
            drop(open_one(&model));
        }
    }
}

#[test]
fn a_device_that_goes_away_lets_stop_and_close_return() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 1)]);
        let (mut port, _rx, _tx) = ready(&model);
        let queues = port.start().unwrap();
        model.inject(Fault::DeviceFatal { device: 0 });
        model.step();
        port.stop(queues).unwrap();
        let error = port.start().unwrap_err();
        assert!(matches!(error, Error::DeviceRemoved { .. }), "{error}");
        port.close().unwrap();
        assert_eq!(model.objects().contexts, 0);
    }
}

/// Real exhaustion: the rings want a huge page when none is free any more.
#[test]
fn hugepages_that_run_out_midway_through_start_leave_nothing_behind() {
    let free = "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages";
    let free = std::fs::read_to_string(free).unwrap_or_default();
    if !["", "0"].contains(&free.trim()) {
        skip("hugepages_that_run_out_midway_through_start_leave_nothing_behind\tfree 1 GiB pages");
        return;
    }
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 1)]);
        let pool = pool(1024);
        let mut port = open_one(&model);
        let before = model.objects();
        let mut starved = config(2, 2, &pool);
        starved.memory.huge = HugePages::Require1G;
        port.configure(starved).unwrap();
        let error = port.start().unwrap_err().to_string();
        assert!(error.contains("huge"), "{error}");
        assert_eq!((model.objects(), pool.in_use()), (before, 0));
        port.configure(config(2, 2, &pool)).unwrap();
        let queues = port.start().unwrap();
        port.stop(queues).unwrap();
        assert_eq!((model.objects(), pool.in_use()), (before, 0));
    }
}

/// Reports a test that can't run here, as `cargo xtask test` wants it.
fn skip(line: &str) {
    match std::env::var_os("MANA_SKIPPED_FILE") {
        Some(file) => {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(file);
            writeln!(file.unwrap(), "{line}").unwrap();
        }
        None => eprintln!("skipped: {line}"),
    }
}
