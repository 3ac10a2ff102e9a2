//! The device goes away under its contexts (reference/mana-hardware.md §4.9).

use std::time::{Duration, Instant};

use uverbs_abi::ids::object;

use super::super::program::Program;
use super::super::request::{Refused, Request};
use super::super::{Recorder, RulebookError};
use super::netdev::events_of;

/// How often it is looked whether the device is back, and for how long.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let (system, device) = (recorder.system, recorder.device.clone());
    let patience = recorder.surroundings.patience();
    let program = Program::start(system, &device)?;
    let events = program.async_events();
    let objects = program.pd().and_then(|pd| {
        let (cq, qp) = program.sender(pd)?;
        Ok((pd, cq, qp))
    });
    let removed = recorder.surroundings.remove();
    let outcome = removed.map(|()| String::new()).map_err(Refused::Here);
    recorder.line("removal", "with objects", outcome);
    let outcome = events.map(|events| events_of(&events, patience));
    recorder.line("after removal", "events", outcome);
    let (pd, cq, qp) = objects.as_ref().copied().unwrap_or_default();
    type Make = fn(&Program, (u32, u32, u32)) -> Result<Request, Refused>;
    let calls: &[(&str, Make)] = &[
        ("GET_CONTEXT", |p, _| Ok(p.get_context())),
        ("EX QUERY_DEVICE", |p, _| Ok(p.query_device())),
        ("QUERY_PORT", |p, _| Ok(p.query_port(1))),
        ("ALLOC_PD", |p, _| Ok(p.alloc_pd())),
        ("REG_MR", |p, (pd, ..)| Ok(p.reg_mr(p.mr(pd)?))),
        ("ASYNC_EVENT ALLOC", |p, _| Ok(p.async_file())),
        ("CREATE_COMP_CHANNEL", |p, _| Ok(p.create_comp_channel())),
        ("CQ CREATE", |p, _| p.create_cq(64)),
        ("QP DESTROY", |p, (.., qp)| Ok(p.destroy(object::QP, qp))),
        ("CQ DESTROY", |p, (_, cq, _)| Ok(p.destroy(object::CQ, cq))),
        ("PD DESTROY", |p, (pd, ..)| Ok(p.destroy(object::PD, pd))),
        ("a call of object 0x7fff", |p, _| Ok(p.request(0x7FFF, 0))),
        ("a call in the name of driver 0", |p, _| {
            let mut request = p.alloc_pd();
            request.call.driver_id = 0;
            Ok(request)
        }),
    ];
    for (name, make) in calls {
        let outcome = make(&program, (pd, cq, qp)).and_then(|request| program.run(request));
        recorder.line("after removal", name, outcome.map(|_| String::new()));
    }
    recorder.line(
        "after removal",
        "the doorbell page",
        program.map_doorbells(),
    );
    let outcome = match system.open(&device) {
        Ok(_) => Ok(String::new()),
        Err(error) => Err(Refused::Here(error.errno)),
    };
    recorder.line("after removal", "opening the node", outcome);
    drop(program);
    let restored = recorder.surroundings.restore();
    let outcome = restored.map(|()| String::new()).map_err(Refused::Here);
    recorder.line("return", "of the device", outcome);
    let start = Instant::now();
    while let Err(error) = recorder.find_again() {
        if start.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::sleep(LOOK);
    }
    recorder.try_it("return", "a raw QP", |p| {
        let pd = p.pd()?;
        p.sender(pd).map(|_| String::new())
    })
}
