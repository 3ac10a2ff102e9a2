//! Framing, GET_CONTEXT, queries.

use uverbs_abi::ids::{attr, method, object};
use uverbs_abi::{Attribute, Call, Errno, Value, wire};

use super::program::Program;
use super::{in_each_kernel, model};
use crate::config::{Kernel, Limits};

/// P-1 of reference/uverbs-boundary.md §2: QUERY_DEVICE with nothing but its number.
fn probe(program: &Program) -> Result<(), Errno> {
    program.call(
        object::DEVICE,
        method::DEVICE_INVOKE_WRITE,
        &mut [Attribute::new(attr::WRITE_CMD, Value::Const(1))],
    )
}

#[test]
fn probing_tells_the_right_driver_id_by_enospc_and_a_wrong_one_by_einval() {
    for id in [19, 20] {
        in_each_kernel(&format!(",driver-id={id},netlink=off"), |_, model| {
            let mut program = Program::open(model, "mana_0");
            program.driver_id = 39 - id;
            assert_eq!(probe(&program), Err(Errno::EINVAL));
            program.driver_id = id;
            assert_eq!(probe(&program), Err(Errno::ENOSPC));
            assert!(program.get_context().is_ok());
        });
    }
}

#[test]
fn a_wrong_driver_id_is_einval_on_every_call() {
    in_each_kernel("", |_, model| {
        let mut program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        program.driver_id = 39 - program.driver_id;
        assert_eq!(program.alloc_pd(), Err(Errno::EINVAL));
        assert_eq!(program.query_device(), Err(Errno::EINVAL));
        assert_eq!(program.query_port(1), Err(Errno::EINVAL));
        assert_eq!(program.destroy(object::PD, pd), Err(Errno::EINVAL));
        assert_eq!(program.call(99, 99, &mut []), Err(Errno::EINVAL));
    });
}

#[test]
fn unknown_objects_methods_and_commands_are_refused() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        assert_eq!(program.call(99, 0, &mut []), Err(Errno::EPROTONOSUPPORT));
        assert_eq!(
            program.call(object::DEVICE, 99, &mut []),
            Err(Errno::EPROTONOSUPPORT)
        );
        let pd = program.alloc_pd().unwrap();
        let mut unknown = [
            Attribute::new(0, Value::Handle(pd)),
            Attribute::new(77, Value::Const(0)),
        ];
        assert_eq!(
            program.call(object::PD, method::PD_DESTROY, &mut unknown),
            Err(Errno::EPROTONOSUPPORT)
        );
        unknown[1].mandatory = false;
        assert_eq!(
            program.call(object::PD, method::PD_DESTROY, &mut unknown),
            Ok(())
        );
        // MODIFY_QP, which raw packet QPs do not have.
        assert_eq!(
            program.write::<wire::AllocPdResp>(26, &[0; 8]),
            Err(Errno::EOPNOTSUPP)
        );
    });
}

#[test]
fn nothing_works_before_get_context_and_it_works_once() {
    in_each_kernel("", |kernel, model| {
        let program = Program::open(model, "mana_0");
        assert_eq!(program.alloc_pd(), Err(Errno::EINVAL));
        assert_eq!(program.query_device(), Err(Errno::EINVAL));
        assert_eq!(program.query_port(1), Err(Errno::EINVAL));
        assert_eq!(program.async_file().err(), Some(Errno::EINVAL));
        let doorbell = program
            .transport
            .doorbell(uverbs_abi::DoorbellKind::Send, 1);
        assert_eq!(doorbell, Err(Errno::EINVAL));
        let vectors = Limits::of(kernel).comp_vectors;
        assert_eq!(program.get_context(), Ok(vectors));
        assert_eq!(program.get_context(), Err(Errno::EINVAL));
        assert!(program.async_file().is_ok());
    });
}

#[test]
fn get_context_may_ask_for_the_vectors_alone() {
    let model = model(Kernel::V6_12, "");
    let program = Program::open(&model, "mana_0");
    let mut vectors = [0; 4];
    let mut attributes = [Attribute::new(0, Value::Out(&mut vectors))];
    let call = program.call(object::DEVICE, method::DEVICE_GET_CONTEXT, &mut attributes);
    assert_eq!(call, Ok(()));
    assert_eq!(vectors, [16, 0, 0, 0]);
}

/// Table of reference/mana-hardware.md §1.3 and §4.7.
#[test]
fn the_device_answers_as_its_kernel_does() {
    for (kernel, name, vendor, part, caps, ports, depth) in [
        (Kernel::V6_12, "mana_0", 0, 0, 0, 3, 8192),
        (Kernel::V7_3, "manae_0", 0x1414, 2, 4, 3, 2048),
        (Kernel::V7_3, "mana_0", 0x1414, 3, 0, 1, 2048),
        (Kernel::V5_15Azure, "mana_0", 0, 0, 0, 3, 256),
    ] {
        let model = model(kernel, ",ports=3");
        let program = Program::open(&model, name);
        program.get_context().unwrap();
        let answer = program.query_device().unwrap();
        let base = answer.base;
        assert_eq!((base.vendor_id, base.vendor_part_id), (vendor, part));
        assert_eq!(answer.raw_packet_caps, caps);
        assert_eq!(base.phys_port_cnt, ports);
        assert_eq!((base.max_qp_wr, base.max_cqe), (depth, depth));
        assert_eq!((base.max_sge, base.max_mr_size), (15, u64::MAX));
        assert_eq!((answer.response_length, answer.comp_mask), (304, 0));
    }
}

#[test]
fn query_device_checks_its_request_and_tells_what_there_is_room_for() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let ex = 0x8000_0001;
        assert_eq!(
            program.write::<wire::ExQueryDeviceResp>(ex, &[1, 0, 0, 0, 0, 0, 0, 0]),
            Err(Errno::EINVAL)
        );
        // What a request lacks is zero.
        let short: wire::ExQueryDeviceResp = program.write(ex, &[0; 4]).unwrap();
        assert_eq!(short, program.query_device().unwrap());
        // 176 bytes end before response_length.
        let base: wire::QueryDeviceResp = program.write(ex, &[0; 8]).unwrap();
        assert_eq!(base, short.base);
        let legacy: wire::QueryDeviceResp = program.write(1, &[0; 8]).unwrap();
        assert_eq!(legacy, program.query_device().unwrap().base);
    });
}

#[test]
fn absurd_limits_are_reported_as_they_are() {
    let mut device = crate::DeviceConfig::new(Kernel::V7_3);
    device.limits.max_qp_wr = u32::MAX;
    device.limits.max_sge = 0;
    device.limits.comp_vectors = 0;
    let model = super::machine(vec![device]);
    let program = Program::open(&model, "manae_0");
    assert_eq!(program.get_context(), Ok(0));
    let base = program.query_device().unwrap().base;
    assert_eq!((base.max_qp_wr, base.max_sge), (u32::MAX, 0));
}

#[test]
fn query_port_shows_the_netdevs_state_where_the_kernel_tells_it() {
    in_each_kernel(",ports=2", |kernel, model| {
        let program = Program::start(model);
        assert_eq!(program.query_port(0), Err(Errno::EINVAL));
        assert_eq!(program.query_port(3), Err(Errno::EINVAL));
        if kernel == Kernel::V5_15Azure {
            let nothing = program.query_port(2).unwrap();
            assert_eq!((nothing.state, nothing.link_layer), (0, 1));
            return;
        }
        let down = program.query_port(2).unwrap();
        assert_eq!((down.state, down.link_layer, down.active_mtu), (1, 2, 3));
        model.port(1).set_netdev_up(true).unwrap();
        assert_eq!(program.query_port(2).unwrap().state, 4);
        assert_eq!(program.query_port(1).unwrap().state, 1);
    });
}

#[test]
fn a_call_of_another_context_needs_its_own_get_context() {
    let model = model(Kernel::V6_12, "");
    let _first = Program::start(&model);
    let second = Program::open(&model, "mana_0");
    assert_eq!(second.alloc_pd(), Err(Errno::EINVAL));
    let call = Call {
        driver_id: 20,
        object: object::DEVICE,
        method: method::DEVICE_GET_CONTEXT,
    };
    // SAFETY: the call names no memory.
    assert_eq!(unsafe { second.transport.invoke(call, &mut []) }, Ok(()));
    assert!(second.alloc_pd().is_ok());
}
