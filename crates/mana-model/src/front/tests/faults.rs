//! Failures on demand.

use std::fs::File;
use std::io::Read;

use uverbs_abi::ids::object;
use uverbs_abi::{DoorbellKind, Errno, wire};
use zerocopy::FromBytes;

use super::program::Program;
use super::{in_each_kernel, model};
use crate::config::Kernel;
use crate::faults::Fault;
use crate::model::ObjectCounts;

/// How many of them destroy an object.
const DESTROYED: u64 = 8;

/// Control operations of a start and stop, each of which may fail.
fn start_and_stop(program: &Program) -> Result<(), Errno> {
    program.get_context()?;
    program.query_device()?;
    program.query_port(1)?;
    let pd = program.alloc_pd()?;
    let mr = program.reg_mr(pd, program.memory(4096).address(), 4096, 1)?;
    let (cq, _) = program.create_cq(program.cq_spec(64))?;
    let (raw, ids) = program.create_raw_qp(program.raw_spec(pd, cq))?;
    program.transport.doorbell(DoorbellKind::Send, ids.sqid)?;
    let (rx_cq, _) = program.create_cq(program.cq_spec(64))?;
    let wq = program.create_wq(pd, rx_cq, program.memory(4096).address(), 4096)?;
    let table = program.create_table(0, &[wq])?;
    let (rss, ids) = program.create_rss_qp(program.rss_spec(pd, table))?;
    let queue = ids.entries[0].wqid;
    program.transport.doorbell(DoorbellKind::Receive, queue)?;
    for (kind, handle) in [
        (object::QP, raw),
        (object::CQ, cq),
        (object::QP, rss),
        (object::RWQ_IND_TBL, table),
        (object::WQ, wq),
        (object::CQ, rx_cq),
        (object::MR, mr.mr_handle),
        (object::PD, pd),
    ] {
        program.destroy(kind, handle)?;
    }
    Ok(())
}

fn open(model: &crate::Model, kernel: Kernel) -> Program {
    Program::open(
        model,
        match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => "mana_0",
            Kernel::V7_3 => "manae_0",
        },
    )
}

#[test]
fn every_operation_can_be_made_to_fail_and_nothing_is_left() {
    in_each_kernel("", |kernel, model| {
        assert_eq!(start_and_stop(&open(model, kernel)), Ok(()));
        let operations = model.operations();
        assert_eq!(operations, 21);
        for nth in 1..=operations {
            model.inject(Fault::FailOperation {
                nth,
                errno: Errno::ENOBUFS,
            });
            let before = model.operations();
            let program = open(model, kernel);
            assert_eq!(start_and_stop(&program), Err(Errno::ENOBUFS));
            assert_eq!(model.operations(), before + nth);
            drop(program);
            assert_eq!(model.objects(), ObjectCounts::default());
        }
        assert_eq!(start_and_stop(&open(model, kernel)), Ok(()));
    });
}

#[test]
fn a_device_can_go_with_every_operation_and_nothing_is_left() {
    in_each_kernel("", |kernel, model| {
        for nth in 1..=21 {
            model.inject(Fault::RemoveAt { device: 0, nth });
            let before = model.operations();
            let program = open(model, kernel);
            // What was created can be destroyed afterwards all the same.
            let destroying = nth > 21 - DESTROYED;
            let ended = if destroying {
                (Ok(()), before + 21)
            } else {
                (Err(Errno::EIO), before + nth)
            };
            assert_eq!(
                (start_and_stop(&program), model.operations()),
                ended,
                "{nth}"
            );
            drop(program);
            assert_eq!(model.objects(), ObjectCounts::default());
            model.restore(0).unwrap();
        }
        // The order is spent.
        assert_eq!(start_and_stop(&open(model, kernel)), Ok(()));
    });
}

#[test]
fn a_failed_operation_has_no_effect() {
    let model = model(Kernel::V7_3, "");
    let program = Program::start(&model);
    let pd = program.alloc_pd().unwrap();
    let fail = || {
        model.inject(Fault::FailOperation {
            nth: 1,
            errno: Errno::ENOMEM,
        });
    };
    fail();
    assert_eq!(program.alloc_pd(), Err(Errno::ENOMEM));
    fail();
    assert_eq!(program.destroy(object::PD, pd), Err(Errno::ENOMEM));
    assert_eq!(model.objects().pds, 1);
    assert_eq!(program.destroy(object::PD, pd), Ok(vec![]));
}

#[test]
fn a_fatal_device_tells_it_and_answers_eio_from_then_on() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let events = program.async_file().unwrap();
        let (_, cq, _) = program.sender();
        model.inject(Fault::DeviceFatal { device: 0 });
        let mut record = [0; 16];
        File::from(events).read_exact(&mut record).unwrap();
        let record = wire::AsyncEvent::read_from_bytes(&record).unwrap();
        assert_eq!((record.element, record.event_type), (0, 8));
        assert_eq!(program.alloc_pd(), Err(Errno::EIO));
        assert_eq!(program.destroy(object::CQ, cq), Ok(vec![0; 8]));
        assert_eq!(program.destroy(object::CQ, cq), Err(Errno::ENOENT));
        let doorbell = program.transport.doorbell(DoorbellKind::Send, 1);
        assert_eq!(doorbell, Err(Errno::EIO));
        let left = ObjectCounts {
            contexts: 1,
            ..ObjectCounts::default()
        };
        assert_eq!(model.objects(), left);
        drop(program);
        assert_eq!(model.objects(), ObjectCounts::default());
    });
}

#[test]
fn doorbells_of_a_fatal_device_go_nowhere_and_stay_valid() {
    let model = model(Kernel::V6_12, "");
    let program = Program::start(&model);
    let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
    let (_, ids) = program.create_raw_qp(program.raw_spec(pd, cq)).unwrap();
    let register = program.transport.doorbell(DoorbellKind::Send, ids.sqid);
    let register = register.unwrap();
    model.inject(Fault::DeviceFatal { device: 0 });
    // SAFETY: the transport keeps the register valid as long as it lives.
    let cell = unsafe { std::sync::atomic::AtomicU64::from_ptr(register.as_ptr()) };
    cell.store(
        u64::from(ids.sqid) | 32 << 32,
        std::sync::atomic::Ordering::Release,
    );
    assert_eq!(model.step(), 0);
    assert!(model.findings().is_empty());
}

#[test]
fn netdev_changes_are_port_events_on_7_3_only() {
    in_each_kernel(",ports=2", |kernel, model| {
        let program = Program::start(model);
        let events = program.async_file().unwrap();
        model.port(1).set_netdev_up(true).unwrap();
        model.port(1).set_netdev_up(true).unwrap();
        model.port(1).set_netdev_up(false).unwrap();
        drop(program);
        let mut records = Vec::new();
        File::from(events).read_to_end(&mut records).unwrap();
        let records: Vec<_> = records
            .chunks(16)
            .map(|record| wire::AsyncEvent::read_from_bytes(record).unwrap())
            .map(|record| (record.element, record.event_type))
            .collect();
        match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => assert_eq!(records, []),
            Kernel::V7_3 => assert_eq!(records, [(2, 9), (2, 10)]),
        }
    });
}
