//! Objects go in the reverse order, and only by those who have them (reference/mana-hardware.md
//! §4.2).

use uverbs_abi::ids::{attr, object};

use super::super::program::Program;
use super::super::request::{Refused, Request};
use super::super::{Recorder, RulebookError};
use super::hex;

/// What there is of a port that runs.
struct Running {
    pd: u32,
    mr: u32,
    sender: (u32, u32),
    cq: u32,
    wq: u32,
    table: u32,
    rss: u32,
}

fn running(p: &Program) -> Result<Running, Refused> {
    let pd = p.pd()?;
    let mr = p.given("REG_MR", p.reg_mr(p.mr(pd)?))?;
    let sender = p.sender(pd)?;
    let cq = p.cq()?;
    let wq = p.given("WQ CREATE", p.create_wq(pd, cq)?)?.handle;
    let table = p.table(&[wq])?;
    let rss = p.given("QP CREATE", p.create_rss_qp(pd, table, Program::rss()))?;
    Ok(Running {
        pd,
        mr: mr.number(attr::CORE_OUT, 0).unwrap_or_default(),
        sender,
        cq,
        wq,
        table,
        rss: rss.handle,
    })
}

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut destroy =
        |situation: &str, act: &dyn Fn(&Program, Running) -> Result<Request, Refused>| {
            recorder.try_it("DESTROY", situation, |p| {
                let request = act(p, running(p)?)?;
                let answer = p.run(request)?;
                Ok(hex(answer.bytes(attr::DESTROY_RESP)))
            })
        };
    destroy("the PD of everything", &|p, all| {
        Ok(p.destroy(object::PD, all.pd))
    })?;
    destroy("an MR", &|p, all| Ok(p.destroy(object::MR, all.mr)))?;
    destroy("the CQ of a raw QP", &|p, all| {
        Ok(p.destroy(object::CQ, all.sender.0))
    })?;
    destroy("the CQ of a work queue", &|p, all| {
        Ok(p.destroy(object::CQ, all.cq))
    })?;
    destroy("a work queue of a table", &|p, all| {
        Ok(p.destroy(object::WQ, all.wq))
    })?;
    destroy("the table of an RSS QP", &|p, all| {
        Ok(p.destroy(object::RWQ_IND_TBL, all.table))
    })?;
    destroy("the raw QP before the RSS QP", &|p, all| {
        Ok(p.destroy(object::QP, all.sender.1))
    })?;
    destroy("the RSS QP", &|p, all| Ok(p.destroy(object::QP, all.rss)))?;
    destroy("an object that is not there", &|p, _| {
        Ok(p.destroy(object::CQ, 99))
    })?;
    destroy("object 2^32 - 1", &|p, _| {
        Ok(p.destroy(object::CQ, u32::MAX))
    })?;
    destroy("an object a second time", &|p, all| {
        p.given("QP DESTROY", p.destroy(object::QP, all.rss))?;
        Ok(p.destroy(object::QP, all.rss))
    })?;
    for (name, kind) in [
        ("PD", object::PD),
        ("MR", object::MR),
        ("CQ", object::CQ),
        ("WQ", object::WQ),
        ("table", object::RWQ_IND_TBL),
        ("QP", object::QP),
    ] {
        destroy(&format!("a {name} that is another object"), &|p, all| {
            let other = if kind == object::PD { all.mr } else { all.pd };
            Ok(p.destroy(kind, other))
        })?;
    }
    destroy("the whole, as it must be", &|p, all| {
        for (kind, handle) in [
            (object::QP, all.sender.1),
            (object::CQ, all.sender.0),
            (object::QP, all.rss),
            (object::RWQ_IND_TBL, all.table),
            (object::WQ, all.wq),
            (object::CQ, all.cq),
            (object::MR, all.mr),
        ] {
            p.given("DESTROY", p.destroy(kind, handle))?;
        }
        Ok(p.destroy(object::PD, all.pd))
    })?;
    strangers(recorder)
}

/// Objects of another context.
fn strangers(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let (system, device) = (recorder.system, recorder.device.clone());
    let owner = Program::start(system, &device)?;
    // Their numbers are above those that the stranger's objects get.
    let theirs = (0..8).map(|_| owner.cq()).last();
    let theirs = theirs.unwrap_or(Ok(0));
    let stranger = Program::start(system, &device)?;
    let outcome = theirs.and_then(|cq| {
        let answer = stranger.run(stranger.destroy(object::CQ, cq))?;
        Ok(hex(answer.bytes(attr::DESTROY_RESP)))
    });
    recorder.line("DESTROY", "an object of another context", outcome);
    Ok(())
}
