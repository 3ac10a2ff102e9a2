//! Raw-packet send queues: the table of reference/mana-hardware.md §4.5, row by row.

use uverbs_abi::Errno;
use uverbs_abi::ids::object;

use super::in_each_kernel;
use super::program::{Program, RawSpec};
use crate::config::Kernel;

#[test]
fn a_raw_qp_brings_the_ids_and_the_vport_offset() {
    in_each_kernel(",ports=2", |_, model| {
        let program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let cq = program.cq();
            program.create_raw_qp(program.raw_spec(pd, cq)).unwrap().1
        });
        assert_ne!(first.sqid, second.sqid);
        assert_ne!(first.cqid, second.cqid);
        assert_eq!((first.tx_vp_offset, second.tx_vp_offset), (1, 1));
        assert_eq!((first.reserved, second.reserved), (0, 0));
        let (other_pd, cq) = (program.alloc_pd().unwrap(), program.cq());
        let mut spec = program.raw_spec(other_pd, cq);
        spec.port = 2;
        assert_eq!(program.create_raw_qp(spec).unwrap().1.tx_vp_offset, 2);
    });
}

#[test]
fn limits_port_and_alignment_are_checked() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
        let spec = program.raw_spec(pd, cq);
        let with = |change: &dyn Fn(&mut RawSpec)| {
            let mut spec = spec;
            change(&mut spec);
            program.create_raw_qp(spec).map(|_| ())
        };
        let most = match kernel {
            Kernel::V6_12 => 8192,
            Kernel::V7_3 => 2048,
            Kernel::V5_15Azure => 256,
        };
        for (change, errno) in [
            (
                &(|spec: &mut RawSpec| spec.port = 0) as &dyn Fn(&mut RawSpec),
                Errno::EINVAL,
            ),
            (&|spec| spec.port = 2, Errno::EINVAL),
            (&|spec| spec.max_wr = most + 1, Errno::EINVAL),
            (&|spec| spec.max_sge = 31, Errno::EINVAL),
            (&|spec| spec.address += 32, Errno::EINVAL),
            (&|spec| spec.bytes = 0, Errno::EINVAL),
            (&|spec| spec.pd = 99, Errno::ENOENT),
            (&|spec| spec.cq = 99, Errno::ENOENT),
            // A handle of another kind.
            (&|spec| spec.pd = cq, Errno::EINVAL),
            // What only the device refuses: no power of two.
            (&|spec| spec.bytes = 4096 - 32, Errno::EPROTO),
        ] {
            assert_eq!(with(change), Err(errno));
        }
        // Each failure gave everything back.
        assert_eq!(model.objects().qps, 0);
        assert_eq!(model.port(0).set_netdev_up(true), Ok(()));
        assert_eq!(model.port(0).set_netdev_up(false), Ok(()));
        assert_eq!(
            with(&|spec| (spec.max_wr, spec.max_sge) = (most, 30)),
            Ok(())
        );
    });
}

#[test]
fn a_vport_of_the_netdev_is_ebusy_on_7_3_and_enodev_elsewhere() {
    in_each_kernel(",netdev=up", |kernel, model| {
        let program = Program::start(model);
        let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
        let spec = program.raw_spec(pd, cq);
        let expected = match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => Errno::ENODEV,
            Kernel::V7_3 => Errno::EBUSY,
        };
        assert_eq!(program.create_raw_qp(spec).err(), Some(expected));
        model.port(0).set_netdev_up(false).unwrap();
        assert!(program.create_raw_qp(spec).is_ok());
    });
}

#[test]
fn a_vport_of_another_pd_is_ebusy_on_7_3_and_enodev_elsewhere() {
    in_each_kernel("", |kernel, model| {
        let expected = match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => Errno::ENODEV,
            Kernel::V7_3 => Errno::EBUSY,
        };
        let program = Program::start(model);
        let (_, _, qp) = program.sender();
        let other = Program::start(model);
        for program in [&program, &other] {
            let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
            let spec = program.raw_spec(pd, cq);
            assert_eq!(program.create_raw_qp(spec).err(), Some(expected));
        }
        program.destroy(object::QP, qp).unwrap();
        other.sender();
    });
}

#[test]
fn the_netdev_can_not_come_up_while_a_raw_qp_exists() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, _, first) = program.sender();
        let cq = program.cq();
        let (second, _) = program.create_raw_qp(program.raw_spec(pd, cq)).unwrap();
        assert_eq!(model.port(0).set_netdev_up(true), Err(Errno::EBUSY));
        program.destroy(object::QP, first).unwrap();
        assert_eq!(model.port(0).set_netdev_up(true), Err(Errno::EBUSY));
        program.destroy(object::QP, second).unwrap();
        assert_eq!(model.port(0).set_netdev_up(true), Ok(()));
    });
}

#[test]
fn a_pd_on_a_second_port_is_einval_on_7_3_and_not_configured_elsewhere() {
    in_each_kernel(",ports=2", |kernel, model| {
        let program = Program::start(model);
        let (pd, _, _) = program.sender();
        let cq = program.cq();
        let mut spec = program.raw_spec(pd, cq);
        spec.port = 2;
        let answer = program.create_raw_qp(spec);
        match kernel {
            // mana_ib does not look, but port 2 was never configured.
            Kernel::V6_12 | Kernel::V5_15Azure => {
                assert_eq!(answer.err(), Some(Errno::EPROTO));
                assert_eq!(model.port(1).set_netdev_up(true), Ok(()));
            }
            Kernel::V7_3 => assert_eq!(answer.err(), Some(Errno::EINVAL)),
        }
    });
}

#[test]
fn a_cq_serves_one_queue_and_only_once() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let (pd, cq, qp) = program.sender();
        let spec = program.raw_spec(pd, cq);
        // Its ring was used up with the queue (§4.2).
        assert_eq!(program.create_raw_qp(spec).err(), Some(Errno::EPROTO));
        program.destroy(object::QP, qp).unwrap();
        assert_eq!(program.create_raw_qp(spec).err(), Some(Errno::EPROTO));
        assert_eq!(program.destroy(object::CQ, cq), Ok(vec![0; 8]));
    });
}

#[test]
fn an_rnic_cq_is_useless_for_ethernet_on_6_12() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        let mut spec = program.cq_spec(64);
        spec.flags = 1;
        let (cq, _) = program.create_cq(spec).unwrap();
        let answer = program.create_raw_qp(program.raw_spec(pd, cq)).map(|_| ());
        let expected = match kernel {
            Kernel::V6_12 => Err(Errno::EPROTO),
            Kernel::V7_3 | Kernel::V5_15Azure => Ok(()),
        };
        assert_eq!(answer, expected);
    });
}

#[test]
fn a_cq_the_device_can_not_use_is_refused_with_the_queue() {
    // 96 entries are no power of two, 32 less than a page (§4.3).
    for entries in [96, 32] {
        in_each_kernel("", |_, model| {
            let program = Program::start(model);
            let pd = program.alloc_pd().unwrap();
            let (cq, _) = program.create_cq(program.cq_spec(entries)).unwrap();
            let answer = program.create_raw_qp(program.raw_spec(pd, cq));
            assert_eq!(answer.err(), Some(Errno::EPROTO));
        });
    }
}

#[test]
fn only_the_ethernet_device_of_7_3_takes_raw_packet_queues() {
    let model = super::model(Kernel::V7_3, "");
    let program = Program::open(&model, "mana_0");
    program.get_context().unwrap();
    let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
    let raw = program.create_raw_qp(program.raw_spec(pd, cq));
    assert_eq!(raw.err(), Some(Errno::EINVAL));
    let ring = program.memory(4096).address();
    let wq = program.create_wq(pd, cq, ring, 4096);
    assert_eq!(wq.err(), Some(Errno::EOPNOTSUPP));
    assert_eq!(program.create_table(0, &[0]), Err(Errno::EOPNOTSUPP));
}
