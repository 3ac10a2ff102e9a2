//! Calls that are wrong in themselves (reference/mana-hardware.md §5.1).

use uverbs_abi::ids::{attr, object, write_cmd};

use super::super::program::{Program, number};
use super::super::request::{Argument, Refused};
use super::super::{Recorder, RulebookError};
use super::object as told;

const FREE: u16 = 0x300;

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut call = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("any call", situation, act)
    };
    call("of object 13, without attributes", &|p| {
        p.run(p.request(13, 0)).map(|_| String::new())
    })?;
    call("of object 0x7fff", &|p| {
        p.run(p.request(0x7FFF, 0)).map(|_| String::new())
    })?;
    call("of a CQ's method 100", &|p| {
        p.run(p.request(object::CQ, 100)).map(|_| String::new())
    })?;
    for driver in [0, 19, 21] {
        call(&format!("in the name of driver {driver}"), &|p| {
            let mut request = p.alloc_pd();
            request.call.driver_id = driver;
            p.run(request).map(|_| String::new())
        })?;
    }
    call("with an attribute that is unknown and mandatory", &|p| {
        let request = p.create_cq(64)?;
        let answer = p.run(request.with(FREE, Argument::Const(0)))?;
        Ok(told(&answer, &[]))
    })?;
    call("with an attribute that is unknown and optional", &|p| {
        let request = p.create_cq(64)?;
        let answer = p.run(request.with_optional(FREE, Argument::Const(0)))?;
        Ok(told(&answer, &[]))
    })?;
    for id in [
        attr::CQ_HANDLE,
        attr::CQ_CQE,
        attr::CQ_USER_HANDLE,
        attr::CQ_COMP_VECTOR,
        attr::CQ_RESP_CQE,
    ] {
        call(&format!("CQ CREATE without attribute {id}"), &|p| {
            let answer = p.run(p.create_cq(64)?.without(id))?;
            Ok(told(&answer, &[]))
        })?;
        call(&format!("CQ CREATE with attribute {id} twice"), &|p| {
            let answer = p.run(p.create_cq(64)?.twice(id))?;
            Ok(told(&answer, &[]))
        })?;
    }
    for bytes in [0, 3, 5, 8, 16] {
        call(
            &format!("CQ CREATE with the number of CQEs in {bytes} bytes"),
            &|p| {
                let mut number = vec![0; bytes];
                if let Some(first) = number.first_mut() {
                    *first = 64;
                }
                let answer = p.run(p.create_cq(64)?.with(attr::CQ_CQE, Argument::In(number)))?;
                Ok(told(&answer, &[]))
            },
        )?;
    }
    for room in [0, 3, 5, 8, 16] {
        call(
            &format!("CQ CREATE with room of {room} bytes for the number of CQEs"),
            &|p| {
                let answer = p.run(
                    p.create_cq(64)?
                        .with(attr::CQ_RESP_CQE, Argument::Out(room)),
                )?;
                Ok(told(&answer, &[attr::CQ_RESP_CQE]))
            },
        )?;
    }
    call("PD DESTROY without a handle", &|p| {
        let request = p.destroy(object::PD, 0).without(attr::DESTROY_HANDLE);
        p.run(request).map(|_| String::new())
    })?;
    call("CQ DESTROY without room for its answer", &|p| {
        let request = p.destroy(object::CQ, p.cq()?).without(attr::DESTROY_RESP);
        p.run(request).map(|_| String::new())
    })?;
    for room in [4, 12] {
        call(
            &format!("CQ DESTROY with room of {room} bytes for its answer"),
            &|p| {
                let request = p.destroy(object::CQ, p.cq()?);
                let answer = p.run(request.with(attr::DESTROY_RESP, Argument::Out(room)))?;
                Ok(super::hex(answer.bytes(attr::DESTROY_RESP)))
            },
        )?;
    }
    call("QP CREATE with capabilities of 16 bytes", &|p| {
        let pd = p.pd()?;
        let request = p.create_raw_qp(pd, p.cq()?, p.raw()?);
        p.run(request.with(attr::QP_CAP, Argument::In(vec![0; 16])))
            .map(|answer| told(&answer, &[]))
    })?;
    call("QP CREATE with its type in 4 bytes", &|p| {
        let pd = p.pd()?;
        let request = p.create_raw_qp(pd, p.cq()?, p.raw()?);
        p.run(request.with(attr::QP_TYPE, number(8)))
            .map(|answer| told(&answer, &[attr::QP_RESP_CAP, attr::QP_RESP_QP_NUM]))
    })?;
    write_commands(recorder)
}

fn write_commands(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut call = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("INVOKE_WRITE", situation, act)
    };
    for command in [9_999, 0x40, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0063] {
        call(&format!("of the unknown command {command:#x}"), &|p| {
            p.run(p.write(command, &[0; 8], 8)).map(|_| String::new())
        })?;
    }
    call("of a command above 32 bits", &|p| {
        let request = p.write(0, &[0; 8], 4);
        let command = Argument::Const(1 << 32 | u64::from(write_cmd::ALLOC_PD));
        p.run(request.with(attr::WRITE_CMD, command))
            .map(|_| String::new())
    })?;
    call("without a command", &|p| {
        p.run(p.alloc_pd().without(attr::WRITE_CMD))
            .map(|_| String::new())
    })?;
    for (name, command, request, room) in [
        ("QUERY_DEVICE", write_cmd::QUERY_DEVICE, 8, 176),
        ("EX QUERY_DEVICE", write_cmd::EX_QUERY_DEVICE, 8, 304),
        ("ALLOC_PD", write_cmd::ALLOC_PD, 8, 4),
        ("REG_MR", write_cmd::REG_MR, 40, 12),
        ("CREATE_COMP_CHANNEL", write_cmd::CREATE_COMP_CHANNEL, 8, 4),
        (
            "EX CREATE_RWQ_IND_TBL",
            write_cmd::EX_CREATE_RWQ_IND_TBL,
            8,
            16,
        ),
    ] {
        let shapes: [(&str, usize, usize); 4] = [
            ("without bytes", 0, 0),
            ("with a request 4 bytes short", request - 4, room),
            ("with room 4 bytes short", request, room - 4),
            ("without room", request, 0),
        ];
        for (shape, request, room) in shapes {
            call(&format!("of {name} {shape}"), &|p| {
                let mut call = p.write(command, &vec![0; request], room);
                if request == 0 {
                    call = call.without(attr::CORE_IN);
                }
                if room == 0 {
                    call = call.without(attr::CORE_OUT);
                }
                p.run(call).map(|_| String::new())
            })?;
        }
    }
    for (request, room) in [(8, 8), (12, 4), (16, 4)] {
        call(
            &format!("of ALLOC_PD with {request} bytes and room of {room}"),
            &|p| {
                let answer = p.run(p.write(write_cmd::ALLOC_PD, &vec![0; request], room))?;
                Ok(super::hex(answer.bytes(attr::CORE_OUT)))
            },
        )?;
    }
    Ok(())
}
