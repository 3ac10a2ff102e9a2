//! Contexts and what the device says about itself (reference/mana-hardware.md §4.2, §4.7).

use uverbs_abi::ids::{attr, object};
use uverbs_abi::wire;

use super::super::program::Program;
use super::super::request::{Argument, Refused, Request};
use super::super::{Recorder, RulebookError};
use super::{hex, read, some};

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    before(recorder)?;
    let mut context = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("GET_CONTEXT", situation, act)
    };
    context("a second time", &|p| {
        p.run(p.get_context()).map(|_| String::new())
    })?;
    let mut events = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("ASYNC_EVENT ALLOC", situation, act)
    };
    events("once", &|p| p.run(p.async_file()).map(|_| String::new()))?;
    events("twice", &|p| {
        let _first = p.async_events()?;
        p.run(p.async_file()).map(|_| String::new())
    })?;
    let mut channel = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("CREATE_COMP_CHANNEL", situation, act)
    };
    channel("once", &|p| {
        p.run(p.create_comp_channel()).map(|_| String::new())
    })?;
    device(recorder)?;
    port(recorder)
}

/// Everything that needs a context.
fn before(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    type Make = fn(&Program) -> Result<Request, Refused>;
    let calls: &[(&str, Make)] = &[
        ("GET_CONTEXT", |p| Ok(p.get_context())),
        ("GET_CONTEXT without its answers", |p| {
            let request = p.get_context().without(attr::CONTEXT_NUM_COMP_VECTORS);
            Ok(request.without(attr::CONTEXT_CORE_SUPPORT))
        }),
        ("GET_CONTEXT with room of 2 bytes for the vectors", |p| {
            Ok(p.get_context()
                .with(attr::CONTEXT_NUM_COMP_VECTORS, Argument::Out(2)))
        }),
        ("GET_CONTEXT with driver data out", |p| {
            Ok(p.get_context().with(attr::UHW_OUT, Argument::Out(8)))
        }),
        ("GET_CONTEXT with driver data in", |p| {
            Ok(p.get_context().with(attr::UHW_IN, Argument::In(vec![0; 8])))
        }),
        ("QUERY_DEVICE without bytes", |p| {
            let request = p.write(1, &[], 0);
            Ok(request.without(attr::CORE_IN).without(attr::CORE_OUT))
        }),
        ("EX QUERY_DEVICE", |p| Ok(p.query_device())),
        ("QUERY_PORT", |p| Ok(p.query_port(1))),
        ("ALLOC_PD", |p| Ok(p.alloc_pd())),
        ("ASYNC_EVENT ALLOC", |p| Ok(p.async_file())),
        ("CREATE_COMP_CHANNEL", |p| Ok(p.create_comp_channel())),
        ("CQ CREATE", |p| p.create_cq(64)),
        ("PD DESTROY", |p| Ok(p.destroy(object::PD, 0))),
    ];
    for (name, make) in calls {
        let program = Program::open(recorder.system, &recorder.device)?;
        let outcome = make(&program).and_then(|request| program.run(request));
        recorder.line("before GET_CONTEXT", name, outcome.map(|_| String::new()));
    }
    let program = Program::open(recorder.system, &recorder.device)?;
    let outcome = program.map_doorbells();
    recorder.line("before GET_CONTEXT", "the doorbell page", outcome);
    let program = Program::start(recorder.system, &recorder.device)?;
    let outcome = program.map_doorbells();
    recorder.line("doorbell page", "mapped", outcome);
    Ok(())
}

fn device(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut query = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("EX QUERY_DEVICE", situation, act)
    };
    let command = uverbs_abi::ids::write_cmd::EX_QUERY_DEVICE;
    query("whole", &|p| {
        let answer = p.run(p.query_device())?;
        let told = read::<wire::ExQueryDeviceResp>(answer.bytes(attr::CORE_OUT));
        Ok(told.map_or_else(String::new, |told| {
            let (base, vectors) = (told.base, p.limits.comp_vectors);
            format!(
                "length={} vendor={:#x} part={} raw_packet={} pages={:#x} mr_size={:#x} sge={} \
                 ports={} vectors={}",
                told.response_length,
                base.vendor_id,
                base.vendor_part_id,
                told.raw_packet_caps,
                base.page_size_cap,
                base.max_mr_size,
                base.max_sge,
                base.phys_port_cnt,
                some(Some(vectors)),
            )
        }))
    })?;
    for room in [184, 192, 400] {
        query(&format!("with room of {room} bytes"), &|p| {
            let answer = p.run(p.write(command, &[0; 8], room))?;
            let length = answer.number(attr::CORE_OUT, 180).unwrap_or_default();
            Ok(format!("length={length}"))
        })?;
    }
    query("with a comp_mask", &|p| {
        p.run(p.write(command, &[1, 0, 0, 0, 0, 0, 0, 0], 304))
            .map(|_| String::new())
    })?;
    query("with a reserved word", &|p| {
        p.run(p.write(command, &[0, 0, 0, 0, 1, 0, 0, 0], 304))
            .map(|_| String::new())
    })?;
    Ok(())
}

fn port(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut query = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("QUERY_PORT", situation, act)
    };
    for port in [0, 3, 255, 256, 257, 1 << 32] {
        query(&format!("{port} of 2"), &|p| {
            p.run(p.query_port(port)).map(|_| String::new())
        })?;
    }
    for port in [1, 2] {
        query(&format!("{port}, whose netdev is DOWN"), &|p| {
            p.run(p.query_port(port)).map(|answer| told(&answer))
        })?;
    }
    query("with room of 40 bytes", &|p| {
        let request = p.query_port(1).with(attr::PORT_RESP, Argument::Out(40));
        p.run(request).map(|_| String::new())
    })?;
    Ok(())
}

/// What a port says, all of it.
pub(super) fn told(answer: &super::super::request::Answer) -> String {
    hex(answer.bytes(attr::PORT_RESP))
}
