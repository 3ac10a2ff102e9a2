//! Work queues, indirection tables and the RSS QP (reference/mana-hardware.md §4.6).

use uverbs_abi::ids::{attr, object, write_cmd};
use uverbs_abi::wire;
use zerocopy::IntoBytes;

use super::super::memory::PAGE;
use super::super::program::{Program, number};
use super::super::request::{Answer, Argument, Refused, Request};
use super::super::{Recorder, RulebookError};
use super::{object as told, rss};

const PAGE_BYTES: u32 = PAGE as u32;

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    work_queues(recorder)?;
    tables(recorder)?;
    rss_data(recorder)?;
    rss_objects(recorder)
}

fn work_queues(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let answers = [
        attr::WQ_RESP_MAX_WR,
        attr::WQ_RESP_MAX_SGE,
        attr::WQ_RESP_WQ_NUM,
    ];
    let mut wq = |situation: &str, act: &dyn Fn(&Program, u32) -> Result<Request, Refused>| {
        recorder.try_it("WQ CREATE", situation, |p| {
            let request = act(p, p.pd()?)?;
            p.run(request).map(|answer| told(&answer, &answers))
        })
    };
    wq("of a page", &|p, pd| p.create_wq(pd, p.cq()?))?;
    for bytes in [0, 32, 100, 2048, 6144, 8192, 12_288, 1 << 20] {
        wq(&format!("with a ring of {bytes} bytes"), &|p, pd| {
            let ring = p.memory(1 << 20)?;
            Ok(p.create_wq_at(pd, p.cq()?, ring, bytes))
        })?;
    }
    wq("with a ring 8 bytes into a page", &|p, pd| {
        let ring = p.memory(2 * PAGE)? + 8;
        Ok(p.create_wq_at(pd, p.cq()?, ring, PAGE_BYTES))
    })?;
    wq("with a ring at address 0", &|p, pd| {
        Ok(p.create_wq_at(pd, p.cq()?, 0, PAGE_BYTES))
    })?;
    wq("with a ring without rights", &|p, pd| {
        let ring = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_NONE))?;
        Ok(p.create_wq_at(pd, p.cq()?, ring, PAGE_BYTES))
    })?;
    wq("with a ring that ends beyond its memory", &|p, pd| {
        let ring = p.memory_of(2 * PAGE, |memory| memory.protect(PAGE, libc::PROT_NONE))?;
        Ok(p.create_wq_at(pd, p.cq()?, ring, 2 * PAGE_BYTES))
    })?;
    wq("with a ring that can only be read", &|p, pd| {
        let ring = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_READ))?;
        Ok(p.create_wq_at(pd, p.cq()?, ring, PAGE_BYTES))
    })?;
    for kind in [1, 2, 1 << 32] {
        wq(&format!("of type {kind}"), &|p, pd| {
            let request = p.create_wq(pd, p.cq()?)?;
            Ok(request.with(attr::WQ_TYPE, Argument::Const(kind)))
        })?;
    }
    for flags in [1, 2, 4, 8, 16, 1 << 31] {
        wq(&format!("with flags {flags:#x}"), &|p, pd| {
            let request = p.create_wq(pd, p.cq()?)?;
            Ok(request.with(attr::WQ_FLAGS, number(flags)))
        })?;
    }
    for (id, name) in [
        (attr::WQ_MAX_WR, "work requests"),
        (attr::WQ_MAX_SGE, "segments"),
    ] {
        for most in [0, 2, 1 << 20, u32::MAX] {
            wq(&format!("of {most} {name}"), &|p, pd| {
                let request = p.create_wq(pd, p.cq()?)?;
                Ok(request.with(id, number(most)))
            })?;
        }
    }
    wq("without a PD", &|p, pd| {
        Ok(p.create_wq(pd, p.cq()?)?.without(attr::WQ_PD))
    })?;
    // Without a CQ it is not tried: Linux 6.12 writes through an error pointer then.
    wq("of a PD that is not there", &|p, _| {
        p.create_wq(99, p.cq()?)
    })?;
    wq("of a CQ that is not there", &|p, pd| p.create_wq(pd, 99))?;
    wq("of a CQ instead of a PD", &|p, _| {
        p.create_wq(p.cq()?, p.cq()?)
    })?;
    wq("of a PD instead of a CQ", &|p, pd| p.create_wq(pd, pd))?;
    wq("of the CQ of another", &|p, pd| {
        let cq = p.cq()?;
        p.given("WQ CREATE", p.create_wq(pd, cq)?)?;
        p.create_wq(pd, cq)
    })?;
    wq(
        "with a completion channel for a file of events",
        &|p, pd| {
            let channel = p.keep(p.channel()?);
            Ok(p.create_wq(pd, p.cq()?)?.with(attr::WQ_EVENT_FD, channel))
        },
    )?;
    wq("without driver data", &|p, pd| {
        Ok(p.create_wq(pd, p.cq()?)?.without(attr::UHW_IN))
    })?;
    for bytes in [8, 12, 16, 24] {
        wq(&format!("with driver data of {bytes} bytes"), &|p, pd| {
            let driver = wire::CreateWq {
                wq_buf_addr: p.memory(PAGE)?,
                wq_buf_size: PAGE_BYTES,
                reserved: 0,
            };
            let mut data = driver.as_bytes().to_vec();
            data.resize(bytes, 0);
            Ok(p.create_wq(pd, p.cq()?)?
                .with(attr::UHW_IN, Argument::In(data)))
        })?;
    }
    for (name, at, bytes) in [("reserved word", 12, 16), ("byte beyond", 20, 24)] {
        wq(
            &format!("with driver data whose {name} is not zero"),
            &|p, pd| {
                let driver = wire::CreateWq {
                    wq_buf_addr: p.memory(PAGE)?,
                    wq_buf_size: PAGE_BYTES,
                    reserved: 0,
                };
                let mut data = driver.as_bytes().to_vec();
                data.resize(bytes, 0);
                data[at] = 1;
                Ok(p.create_wq(pd, p.cq()?)?
                    .with(attr::UHW_IN, Argument::In(data)))
            },
        )?;
    }
    Ok(())
}

/// Handle and lengths of a table's answer.
fn table_told(answer: &Answer) -> String {
    super::hex(answer.bytes(attr::CORE_OUT))
}

fn tables(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut table = |situation: &str, act: &dyn Fn(&Program, u32) -> Result<Request, Refused>| {
        recorder.try_it("EX CREATE_RWQ_IND_TBL", situation, |p| {
            let request = act(p, p.pd()?)?;
            p.run(request).map(|answer| table_told(&answer))
        })
    };
    for count in [1, 2, 4] {
        table(&format!("of {count}"), &|p, pd| {
            let wqs = (0..count)
                .map(|_| p.wq(pd))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(p.create_table(wqs.len().ilog2(), &wqs))
        })?;
    }
    table("of 128, one work queue again and again", &|p, pd| {
        Ok(p.create_table(7, &[p.wq(pd)?; 128]))
    })?;
    for log in [14, 32, u32::MAX] {
        table(&format!("whose logarithm is {log}"), &|p, pd| {
            Ok(p.create_table(log, &[p.wq(pd)?]))
        })?;
    }
    table("with fewer handles than announced", &|p, pd| {
        Ok(p.create_table(2, &[p.wq(pd)?; 2]))
    })?;
    table("with more handles than announced", &|p, pd| {
        Ok(p.create_table(0, &[p.wq(pd)?; 3]))
    })?;
    table("with a comp_mask", &|p, pd| {
        let words = [1, 0, p.wq(pd)?, 0];
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        Ok(p.write(write_cmd::EX_CREATE_RWQ_IND_TBL, &bytes, 16))
    })?;
    table("of a work queue that is not there", &|p, _| {
        Ok(p.create_table(0, &[99]))
    })?;
    table("of a CQ instead of a work queue", &|p, _| {
        Ok(p.create_table(0, &[p.cq()?]))
    })?;
    table("of two, one of them not there", &|p, pd| {
        Ok(p.create_table(1, &[p.wq(pd)?, 99]))
    })?;
    table("of work queues of two PDs", &|p, pd| {
        let other = p.pd()?;
        Ok(p.create_table(1, &[p.wq(pd)?, p.wq(other)?]))
    })?;
    table("of a work queue that stands in another", &|p, pd| {
        let wq = p.wq(pd)?;
        p.table(&[wq])?;
        Ok(p.create_table(0, &[wq]))
    })
}

/// One PD with a raw QP, and a table of so many work queues.
fn ready(p: &Program, queues: usize) -> Result<(u32, u32), Refused> {
    let pd = p.pd()?;
    p.sender(pd)?;
    let wqs = (0..queues)
        .map(|_| p.wq(pd))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((pd, p.table(&wqs)?))
}

fn rss_data(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut qp = |situation: &str, act: &dyn Fn(&Program, Request) -> Result<Request, Refused>| {
        recorder.try_it("QP CREATE for reception", situation, |p| {
            let (pd, table) = ready(p, 1)?;
            let request = act(p, p.create_rss_qp(pd, table, Program::rss()))?;
            p.run(request).map(|answer| rss(&answer))
        })
    };
    type Change = fn(&mut wire::CreateQpRss);
    let changes: &[(&str, Change)] = &[
        ("in full", |_| ()),
        ("with no fields to hash", |rss| rss.rx_hash_fields_mask = 0),
        ("with all fields to hash", |rss| {
            rss.rx_hash_fields_mask = u64::MAX
        }),
        ("with hash function 0", |rss| rss.rx_hash_function = 0),
        ("with hash function 2", |rss| rss.rx_hash_function = 2),
        ("without a key", |rss| rss.rx_hash_key_len = 0),
        ("with a key of 39 bytes", |rss| rss.rx_hash_key_len = 39),
        ("with a key of 41 bytes", |rss| rss.rx_hash_key_len = 41),
        ("with a key of 2^32 - 1 bytes", |rss| {
            rss.rx_hash_key_len = u32::MAX
        }),
        ("with a reserved byte", |rss| rss.reserved[0] = 1),
        ("on port 0", |rss| rss.port = 0),
        ("on port 2", |rss| rss.port = 2),
        ("on port 3 of 2", |rss| rss.port = 3),
        ("on port 2^32 - 1", |rss| rss.port = u32::MAX),
    ];
    for (situation, change) in changes {
        let mut driver = Program::rss();
        change(&mut driver);
        let data = driver.as_bytes().to_vec();
        qp(situation, &|_, request| {
            Ok(request.with(attr::UHW_IN, Argument::In(data.clone())))
        })?;
    }
    qp("without driver data", &|_, request| {
        Ok(request.without(attr::UHW_IN))
    })?;
    for bytes in [60, 63, 64, 72] {
        qp(
            &format!("with driver data of {bytes} bytes"),
            &|_, request| {
                let mut data = Program::rss().as_bytes().to_vec();
                data.resize(bytes, 0);
                Ok(request.with(attr::UHW_IN, Argument::In(data)))
            },
        )?;
    }
    qp(
        "with driver data of 72 bytes, the last not zero",
        &|_, request| {
            let mut data = Program::rss().as_bytes().to_vec();
            data.resize(72, 0);
            data[71] = 1;
            Ok(request.with(attr::UHW_IN, Argument::In(data)))
        },
    )?;
    qp("without room for the driver's answer", &|_, request| {
        Ok(request.without(attr::UHW_OUT))
    })?;
    // Linux 6.12 writes the whole answer whatever room there is, so that there is never less.
    for room in [520, 528] {
        qp(
            &format!("with room of {room} bytes for the driver's answer"),
            &|_, request| Ok(request.with(attr::UHW_OUT, Argument::Out(room))),
        )?;
    }
    type Cap = fn(&mut wire::QpCap);
    let caps: &[(&str, Cap)] = &[
        ("with a send work request", |cap| cap.max_send_wr = 1),
        ("with a receive work request", |cap| cap.max_recv_wr = 1),
        ("with a segment to send", |cap| cap.max_send_sge = 1),
        ("with a segment to receive", |cap| cap.max_recv_sge = 1),
        ("with inline data", |cap| cap.max_inline_data = 1),
    ];
    for (situation, change) in caps {
        let mut cap = wire::QpCap::default();
        change(&mut cap);
        let cap = cap.as_bytes().to_vec();
        qp(situation, &|_, request| {
            Ok(request.with(attr::QP_CAP, Argument::In(cap.clone())))
        })?;
    }
    for kind in [0xFF, 1 << 32] {
        qp(&format!("of type {kind:#x}"), &|_, request| {
            Ok(request.with(attr::QP_TYPE, Argument::Const(kind)))
        })?;
    }
    Ok(())
}

fn rss_objects(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut qp = |situation: &str, act: &dyn Fn(&Program) -> Result<Request, Refused>| {
        recorder.try_it("QP CREATE for reception", situation, |p| {
            p.run(act(p)?).map(|answer| rss(&answer))
        })
    };
    for queues in [1, 2, 4, 64] {
        qp(&format!("of a table of {queues}"), &|p| {
            let (pd, table) = ready(p, queues)?;
            Ok(p.create_rss_qp(pd, table, Program::rss()))
        })?;
    }
    qp("of a table of 128, one work queue again and again", &|p| {
        let (pd, _) = ready(p, 1)?;
        let table = p.table(&[p.wq(pd)?; 128])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("of a table that has a work queue twice", &|p| {
        let (pd, _) = ready(p, 1)?;
        let table = p.table(&[p.wq(pd)?; 2])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("of two work queues that share a CQ", &|p| {
        let (pd, _) = ready(p, 1)?;
        let cq = p.cq()?;
        let mut wqs = Vec::new();
        for _ in 0..2 {
            wqs.push(p.given("WQ CREATE", p.create_wq(pd, cq)?)?.handle);
        }
        Ok(p.create_rss_qp(pd, p.table(&wqs)?, Program::rss()))
    })?;
    qp("of a work queue with the CQ of a raw QP", &|p| {
        let pd = p.pd()?;
        let (cq, _) = p.sender(pd)?;
        let wq = p.given("WQ CREATE", p.create_wq(pd, cq)?)?.handle;
        Ok(p.create_rss_qp(pd, p.table(&[wq])?, Program::rss()))
    })?;
    qp("of a table that is not there", &|p| {
        let (pd, _) = ready(p, 1)?;
        Ok(p.create_rss_qp(pd, 99, Program::rss()))
    })?;
    qp("of a PD instead of a table", &|p| {
        let (pd, _) = ready(p, 1)?;
        Ok(p.create_rss_qp(pd, pd, Program::rss()))
    })?;
    qp("of a PD that is not there", &|p| {
        let (_, table) = ready(p, 1)?;
        Ok(p.create_rss_qp(99, table, Program::rss()))
    })?;
    qp("of a table and a CQ to send", &|p| {
        let (pd, table) = ready(p, 1)?;
        let request = p.create_rss_qp(pd, table, Program::rss());
        Ok(request.with(attr::QP_SEND_CQ, Argument::Handle(p.cq()?)))
    })?;
    qp("of a table and a CQ to receive", &|p| {
        let (pd, table) = ready(p, 1)?;
        let request = p.create_rss_qp(pd, table, Program::rss());
        Ok(request.with(attr::QP_RECV_CQ, Argument::Handle(p.cq()?)))
    })?;
    qp("without a raw QP", &|p| {
        let pd = p.pd()?;
        let table = p.table(&[p.wq(pd)?])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("on another PD than the raw QP", &|p| {
        ready(p, 1)?;
        let pd = p.pd()?;
        let table = p.table(&[p.wq(pd)?])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("after the raw QP was destroyed", &|p| {
        let pd = p.pd()?;
        let (_, raw) = p.sender(pd)?;
        p.given("QP DESTROY", p.destroy(object::QP, raw))?;
        let table = p.table(&[p.wq(pd)?])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("with work queues of another PD", &|p| {
        let (pd, _) = ready(p, 1)?;
        let other = p.pd()?;
        Ok(p.create_rss_qp(pd, p.table(&[p.wq(other)?])?, Program::rss()))
    })?;
    qp("a second one on the PD", &|p| {
        let (pd, table) = ready(p, 1)?;
        p.given("QP CREATE", p.create_rss_qp(pd, table, Program::rss()))?;
        let table = p.table(&[p.wq(pd)?])?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("a second one of the same table", &|p| {
        let (pd, table) = ready(p, 1)?;
        p.given("QP CREATE", p.create_rss_qp(pd, table, Program::rss()))?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("again of the same table", &|p| {
        let (pd, table) = ready(p, 1)?;
        let first = p.given("QP CREATE", p.create_rss_qp(pd, table, Program::rss()))?;
        p.given("QP DESTROY", p.destroy(object::QP, first.handle))?;
        Ok(p.create_rss_qp(pd, table, Program::rss()))
    })?;
    qp("again of other work queues", &|p| {
        let (pd, table) = ready(p, 1)?;
        let first = p.given("QP CREATE", p.create_rss_qp(pd, table, Program::rss()))?;
        p.given("QP DESTROY", p.destroy(object::QP, first.handle))?;
        Ok(p.create_rss_qp(pd, p.table(&[p.wq(pd)?])?, Program::rss()))
    })?;
    for bytes in [2048, 6144] {
        qp(
            &format!("of a work queue with a ring of {bytes} bytes"),
            &|p| {
                let (pd, _) = ready(p, 1)?;
                let request = p.create_wq_at(pd, p.cq()?, p.memory(2 * PAGE)?, bytes);
                let wq = p.given("WQ CREATE", request)?.handle;
                Ok(p.create_rss_qp(pd, p.table(&[wq])?, Program::rss()))
            },
        )?;
    }
    for entries in [32, 96] {
        qp(
            &format!("of a work queue with a CQ of {entries} entries"),
            &|p| {
                let (pd, _) = ready(p, 1)?;
                let cq = p.given("CQ CREATE", p.create_cq(entries)?)?.handle;
                let wq = p.given("WQ CREATE", p.create_wq(pd, cq)?)?.handle;
                Ok(p.create_rss_qp(pd, p.table(&[wq])?, Program::rss()))
            },
        )?;
    }
    Ok(())
}
