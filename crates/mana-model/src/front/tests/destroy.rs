//! Destroys, busy objects, closing, leaks.

use uverbs_abi::Errno;
use uverbs_abi::ids::object;

use super::in_each_kernel;
use super::program::Program;
use crate::model::ObjectCounts;

/// All objects of a port with two receive queues, in the order of their creation.
fn start(program: &Program) -> Vec<(u16, u32)> {
    let (pd, cq, raw) = program.sender();
    let mr = program.reg_mr(pd, program.memory(4096).address(), 4096, 1);
    let cqs = [program.cq(), program.cq()];
    let wqs = cqs.map(|cq| program.wq(pd, cq));
    let table = program.create_table(1, &wqs).unwrap();
    let (rss, _) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
    vec![
        (object::PD, pd),
        (object::CQ, cq),
        (object::QP, raw),
        (object::MR, mr.unwrap().mr_handle),
        (object::CQ, cqs[0]),
        (object::CQ, cqs[1]),
        (object::WQ, wqs[0]),
        (object::WQ, wqs[1]),
        (object::RWQ_IND_TBL, table),
        (object::QP, rss),
    ]
}

#[test]
fn objects_in_use_are_ebusy_and_the_reverse_order_works() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let objects = start(&program);
        let everything = ObjectCounts {
            contexts: 1,
            pds: 1,
            mrs: 1,
            cqs: 3,
            qps: 2,
            wqs: 2,
            tables: 1,
        };
        assert_eq!(model.objects(), everything);
        for (kind, handle) in &objects {
            if ![object::QP, object::MR].contains(kind) {
                let answer = program.destroy(*kind, *handle);
                assert_eq!(answer, Err(Errno::EBUSY), "object {kind}");
            }
        }
        assert_eq!(model.objects(), everything);
        for (kind, handle) in objects.iter().rev() {
            let answer = program.destroy(*kind, *handle).unwrap();
            assert!(answer.iter().all(|&byte| byte == 0));
        }
        let nothing = ObjectCounts {
            contexts: 1,
            ..ObjectCounts::default()
        };
        assert_eq!(model.objects(), nothing);
    });
}

#[test]
fn closing_the_context_destroys_what_is_left() {
    in_each_kernel("", |_, model| {
        for _ in 0..3 {
            let program = Program::start(model);
            let (_channel, _events) = (program.channel(), program.async_file());
            start(&program);
            drop(program);
            assert_eq!(model.objects(), ObjectCounts::default());
            assert_eq!(model.step(), 0);
        }
    });
}

#[test]
fn handles_are_a_contexts_own_and_of_one_kind() {
    in_each_kernel("", |_, model| {
        let (one, two) = (Program::start(model), Program::start(model));
        let pd = one.alloc_pd().unwrap();
        assert_eq!(two.destroy(object::PD, pd), Err(Errno::ENOENT));
        assert_eq!(one.destroy(object::CQ, pd), Err(Errno::EINVAL));
        assert_eq!(one.destroy(object::MR, pd), Err(Errno::EINVAL));
        assert_eq!(one.destroy(object::PD, pd), Ok(vec![]));
        assert_eq!(one.destroy(object::PD, pd), Err(Errno::ENOENT));
    });
}

#[test]
fn closing_one_context_leaves_the_other_alone() {
    in_each_kernel(",ports=2", |_, model| {
        let one = Program::start(model);
        start(&one);
        let two = Program::start(model);
        let (pd, cq) = (two.alloc_pd().unwrap(), two.cq());
        let mut spec = two.raw_spec(pd, cq);
        spec.port = 2;
        let (qp, _) = two.create_raw_qp(spec).unwrap();
        drop(one);
        let left = ObjectCounts {
            contexts: 1,
            pds: 1,
            cqs: 1,
            qps: 1,
            ..ObjectCounts::default()
        };
        assert_eq!(model.objects(), left);
        assert_eq!(two.destroy(object::QP, qp), Ok(vec![0; 4]));
    });
}

#[test]
fn event_files_do_not_pile_up() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        drop((program.channel(), program.async_file()));
        let before = files();
        for _ in 0..100 {
            drop((program.channel(), program.async_file()));
        }
        // Other tests open files in this process at the same time, but not a hundred.
        assert!(files() < before + 50, "{before} became {}", files());
    });
}
