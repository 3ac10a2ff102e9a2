//! WQs, indirection tables, RSS QPs: the table of reference/mana-hardware.md §4.6, row by row.

use uverbs_abi::Errno;
use uverbs_abi::ids::object;

use super::in_each_kernel;
use super::program::{Program, RssSpec};
use crate::config::Kernel;

/// `count` WQs with a CQ each.
fn wqs(program: &Program, pd: u32, count: usize) -> Vec<u32> {
    (0..count).map(|_| program.wq(pd, program.cq())).collect()
}

#[test]
fn the_rss_qp_brings_the_ids_of_all_queues_in_table_order() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, ..) = program.sender();
        let mut wqs = wqs(&program, pd, 4);
        wqs.reverse();
        let table = program.create_table(2, &wqs).unwrap();
        let (_, answer) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
        assert_eq!(answer.num_entries, 4);
        let (used, rest) = answer.entries.split_at(4);
        assert!(rest.iter().all(|entry| (entry.cqid, entry.wqid) == (0, 0)));
        for ids in [
            used.iter().map(|entry| entry.cqid).collect::<Vec<_>>(),
            used.iter().map(|entry| entry.wqid).collect(),
        ] {
            let mut different = ids.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), 4, "{ids:?}");
        }
    });
}

#[test]
fn key_function_port_and_capabilities_are_checked() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, ..) = program.sender();
        let table = program.create_table(0, &wqs(&program, pd, 1)).unwrap();
        let spec = program.rss_spec(pd, table);
        let with = |change: &dyn Fn(&mut RssSpec)| {
            let mut spec = spec;
            change(&mut spec);
            program.create_rss_qp(spec).map(|_| ())
        };
        for (change, errno) in [
            (
                &(|spec: &mut RssSpec| spec.key_length = 41) as &dyn Fn(&mut RssSpec),
                Errno::EINVAL,
            ),
            (&|spec| spec.function = 0, Errno::EINVAL),
            (&|spec| spec.port = 0, Errno::EINVAL),
            (&|spec| spec.port = 2, Errno::EINVAL),
            // It has no CQ to send.
            (&|spec| spec.cap.max_send_wr = 1, Errno::ENOENT),
            (&|spec| spec.cap.max_recv_wr = 1, Errno::EINVAL),
            (&|spec| spec.cap.max_recv_sge = 1, Errno::EINVAL),
            (&|spec| spec.table = 99, Errno::ENOENT),
            (&|spec| spec.table = pd, Errno::EINVAL),
            (&|spec| spec.pd = 99, Errno::ENOENT),
        ] {
            assert_eq!(with(change), Err(errno));
        }
        // No key at all stands for a random one.
        assert_eq!(with(&|spec| spec.key_length = 0), Ok(()));
    });
}

#[test]
fn reception_needs_a_raw_qp_on_pd_and_port_on_7_3_only() {
    in_each_kernel(",ports=2", |kernel, model| {
        let program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        let table = program.create_table(0, &wqs(&program, pd, 1)).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        match kernel {
            // The device refuses it, for which the port is nobody's.
            Kernel::V6_12 | Kernel::V5_15Azure => assert_eq!(answer.err(), Some(Errno::EPROTO)),
            Kernel::V7_3 => assert_eq!(answer.err(), Some(Errno::EINVAL)),
        }
        let (sender, ..) = program.sender();
        let table = program.create_table(0, &wqs(&program, pd, 1)).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => assert!(answer.is_ok()),
            Kernel::V7_3 => assert_eq!(answer.err(), Some(Errno::EINVAL)),
        }
        let table = program.create_table(0, &wqs(&program, sender, 1)).unwrap();
        let mut spec = program.rss_spec(sender, table);
        if kernel == Kernel::V7_3 {
            spec.port = 2;
            assert_eq!(program.create_rss_qp(spec).err(), Some(Errno::EINVAL));
            spec.port = 1;
        }
        assert!(program.create_rss_qp(spec).is_ok());
    });
}

#[test]
fn a_second_rss_qp_is_ebusy_on_7_3_and_overwrites_elsewhere() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let (pd, ..) = program.sender();
        let tables = [(); 2].map(|()| program.create_table(0, &wqs(&program, pd, 1)).unwrap());
        assert!(
            program
                .create_rss_qp(program.rss_spec(pd, tables[0]))
                .is_ok()
        );
        let second = program.create_rss_qp(program.rss_spec(pd, tables[1]));
        match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => assert!(second.is_ok()),
            Kernel::V7_3 => assert_eq!(second.err(), Some(Errno::EBUSY)),
        }
    });
}

#[test]
fn a_table_may_have_64_entries_at_the_rss_qp_and_more_before() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, ..) = program.sender();
        let all = wqs(&program, pd, 65);
        let mut many = all.clone();
        many.extend_from_slice(&all[..63]);
        let table = program.create_table(7, &many).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        assert_eq!(answer.err(), Some(Errno::EINVAL));
        let table = program.create_table(6, &all[..64]).unwrap();
        let (_, answer) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
        assert_eq!(answer.num_entries, 64);
    });
}

#[test]
fn tables_name_work_queues_that_exist() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, cq, _) = program.sender();
        let wq = program.wq(pd, program.cq());
        assert_eq!(program.create_table(14, &[wq]), Err(Errno::EINVAL));
        assert_eq!(program.create_table(2, &[wq, wq]), Err(Errno::ENOSPC));
        assert_eq!(program.create_table(0, &[99]), Err(Errno::ENOENT));
        assert_eq!(program.create_table(0, &[cq]), Err(Errno::EINVAL));
        assert_eq!(model.objects().tables, 0);
    });
}

#[test]
fn a_work_queue_stands_in_a_table_once_and_serves_once() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, ..) = program.sender();
        let wqs = wqs(&program, pd, 2);
        // The second time its ring is used up, and the failure does not give it back.
        let table = program.create_table(1, &[wqs[0], wqs[0]]).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        assert_eq!(answer.err(), Some(Errno::EPROTO));
        let table = program.create_table(0, &[wqs[1]]).unwrap();
        let (qp, _) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
        program.destroy(object::QP, qp).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        assert_eq!(answer.err(), Some(Errno::EPROTO));
    });
}

#[test]
fn work_queues_do_not_share_a_cq() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, sending, _) = program.sender();
        let cq = program.cq();
        let wqs = [program.wq(pd, cq), program.wq(pd, cq)];
        let table = program.create_table(1, &wqs).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        assert_eq!(answer.err(), Some(Errno::EPROTO));
        let table = program.create_table(0, &[program.wq(pd, sending)]).unwrap();
        let answer = program.create_rss_qp(program.rss_spec(pd, table));
        assert_eq!(answer.err(), Some(Errno::EPROTO));
        assert_eq!(model.objects().qps, 1);
    });
}

#[test]
fn create_wq_checks_its_objects_and_ring() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, cq, _) = program.sender();
        let ring = program.memory(4096).address();
        assert_eq!(program.create_wq(99, cq, ring, 4096), Err(Errno::ENOENT));
        assert_eq!(program.create_wq(pd, 99, ring, 4096), Err(Errno::ENOENT));
        assert_eq!(program.create_wq(cq, pd, ring, 4096), Err(Errno::EINVAL));
        assert_eq!(
            program.create_wq(pd, cq, ring + 8, 4096),
            Err(Errno::EINVAL)
        );
        assert_eq!(program.create_wq(pd, cq, ring, 0), Err(Errno::EINVAL));
    });
}

#[test]
fn the_rss_qp_of_7_3_keeps_the_vport_after_the_last_raw_qp() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let (pd, _, raw) = program.sender();
        let table = program.create_table(0, &wqs(&program, pd, 1)).unwrap();
        let (rss, _) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
        program.destroy(object::QP, raw).unwrap();
        let up = model.port(0).set_netdev_up(true);
        match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => assert_eq!(up, Ok(())),
            Kernel::V7_3 => assert_eq!(up, Err(Errno::EBUSY)),
        }
        program.destroy(object::QP, rss).unwrap();
        assert_eq!(model.port(0).set_netdev_up(true), Ok(()));
    });
}
