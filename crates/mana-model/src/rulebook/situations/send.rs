//! Raw packet QPs (reference/mana-hardware.md §4.5).

use uverbs_abi::ids::{attr, object};
use uverbs_abi::wire;
use zerocopy::IntoBytes;

use super::super::memory::PAGE;
use super::super::program::{Program, number};
use super::super::request::{Answer, Argument, Refused, Request};
use super::super::{Recorder, RulebookError};
use super::{object as object_told, some};

/// `IB_QP_CREATE_*` and the like: the attribute that only some QPs have.
const QP_FLAGS: u16 = 10;
const QP_SRQ: u16 = 3;

fn told(answer: &Answer) -> String {
    let number = |at| some(answer.number(attr::UHW_OUT, at));
    let room = answer.bytes(attr::UHW_OUT).len();
    let reserved = answer.bytes(attr::UHW_OUT).get(12..16).unwrap_or_default();
    format!(
        "{} room={room} sqid={} cqid={} reserved={}",
        object_told(answer, &[attr::QP_RESP_CAP, attr::QP_RESP_QP_NUM]),
        number(0),
        number(4),
        super::hex(reserved)
    )
}

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    caps(recorder)?;
    objects(recorder)?;
    data(recorder)?;
    vports(recorder)
}

fn caps(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let most = recorder.limits.max_qp_wr;
    let mut qp = |situation: &str, cap: wire::QpCap, cap_told: bool| {
        recorder.try_it("QP CREATE to send", situation, |p| {
            let pd = p.pd()?;
            let request = p.create_raw_qp(pd, p.cq()?, p.raw()?);
            let cap = Argument::In(cap.as_bytes().to_vec());
            let answer = p.run(request.with(attr::QP_CAP, cap))?;
            Ok(match cap_told {
                true => told(&answer),
                false => object_told(&answer, &[]),
            })
        })
    };
    let cap = wire::QpCap {
        max_send_wr: 64,
        max_send_sge: 15,
        ..wire::QpCap::default()
    };
    for max_send_wr in [0, 1, 63, 64] {
        qp(
            &format!("with {max_send_wr} work requests"),
            wire::QpCap { max_send_wr, ..cap },
            true,
        )?;
    }
    for (name, max_send_wr) in [
        ("as many work requests as there may be", most),
        ("one work request more than there may be", most + 1),
        ("2^32 - 1 work requests", u32::MAX),
    ] {
        qp(
            &format!("with {name}"),
            wire::QpCap { max_send_wr, ..cap },
            false,
        )?;
    }
    for max_send_sge in [0, 1, 16, 30, 31, u32::MAX] {
        qp(
            &format!("with {max_send_sge} segments"),
            wire::QpCap {
                max_send_sge,
                ..cap
            },
            true,
        )?;
    }
    for max_recv_wr in [1, 1 << 20] {
        qp(
            &format!("with {max_recv_wr} receive work requests"),
            wire::QpCap { max_recv_wr, ..cap },
            true,
        )?;
    }
    for max_recv_sge in [1, 1 << 20] {
        qp(
            &format!("with {max_recv_sge} receive segments"),
            wire::QpCap {
                max_recv_sge,
                ..cap
            },
            true,
        )?;
    }
    qp(
        "with inline data",
        wire::QpCap {
            max_inline_data: 64,
            ..cap
        },
        true,
    )
}

fn objects(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut qp = |situation: &str, act: &dyn Fn(&Program, u32) -> Result<Request, Refused>| {
        recorder.try_it("QP CREATE to send", situation, |p| {
            let request = act(p, p.pd()?)?;
            p.run(request).map(|answer| told(&answer))
        })
    };
    let raw = |p: &Program, pd| Ok::<_, Refused>(p.create_raw_qp(pd, p.cq()?, p.raw()?));
    for kind in [0xFF, 10, 1 << 32] {
        qp(&format!("of type {kind:#x}"), &|p, pd| {
            Ok(raw(p, pd)?.with(attr::QP_TYPE, Argument::Const(kind)))
        })?;
    }
    qp(
        "without a PD",
        &|p, pd| Ok(raw(p, pd)?.without(attr::QP_PD)),
    )?;
    qp("without a CQ", &|p, pd| {
        let request = raw(p, pd)?.without(attr::QP_SEND_CQ);
        Ok(request.without(attr::QP_RECV_CQ))
    })?;
    qp("without a CQ to send", &|p, pd| {
        Ok(raw(p, pd)?.without(attr::QP_SEND_CQ))
    })?;
    qp("without a CQ to receive", &|p, pd| {
        Ok(raw(p, pd)?.without(attr::QP_RECV_CQ))
    })?;
    qp("with another CQ to receive", &|p, pd| {
        Ok(raw(p, pd)?.with(attr::QP_RECV_CQ, Argument::Handle(p.cq()?)))
    })?;
    for (name, id) in [
        ("to send", attr::QP_SEND_CQ),
        ("to receive", attr::QP_RECV_CQ),
    ] {
        qp(&format!("with a CQ {name} that is not there"), &|p, pd| {
            Ok(raw(p, pd)?.with(id, Argument::Handle(99)))
        })?;
        qp(&format!("with a PD for a CQ {name}"), &|p, pd| {
            Ok(raw(p, pd)?.with(id, Argument::Handle(pd)))
        })?;
    }
    qp("of a PD that is not there", &|p, _| raw(p, 99))?;
    qp("of a CQ instead of a PD", &|p, _| raw(p, p.cq()?))?;
    qp("with a shared receive queue that is not there", &|p, pd| {
        Ok(raw(p, pd)?.with(QP_SRQ, Argument::Handle(99)))
    })?;
    for flags in [0, 1, 2, 8, 1 << 31] {
        qp(&format!("with flags {flags:#x}"), &|p, pd| {
            Ok(raw(p, pd)?.with(QP_FLAGS, number(flags)))
        })?;
    }
    qp("with the CQ of another raw QP", &|p, pd| {
        let (cq, _) = p.sender(pd)?;
        Ok(p.create_raw_qp(pd, cq, p.raw()?))
    })?;
    qp("with the CQ of a raw QP that was destroyed", &|p, pd| {
        p.sender(pd)?;
        let (cq, other) = p.sender(pd)?;
        p.given("QP DESTROY", p.destroy(object::QP, other))?;
        Ok(p.create_raw_qp(pd, cq, p.raw()?))
    })?;
    qp("with the CQ of a work queue without an RSS QP", &|p, pd| {
        let cq = p.cq()?;
        p.given("WQ CREATE", p.create_wq(pd, cq)?)?;
        Ok(p.create_raw_qp(pd, cq, p.raw()?))
    })?;
    for entries in [32, 96] {
        qp(&format!("with a CQ of {entries} entries"), &|p, pd| {
            let cq = p.given("CQ CREATE", p.create_cq(entries)?)?.handle;
            Ok(p.create_raw_qp(pd, cq, p.raw()?))
        })?;
    }
    qp("with a CQ for the RNIC", &|p, pd| {
        let driver = wire::CreateCq {
            buf_addr: p.memory(PAGE)?,
            flags: 1,
            ..wire::CreateCq::default()
        };
        let data = Argument::In(driver.as_bytes().to_vec());
        let request = p.create_cq(64)?.with(attr::UHW_IN, data);
        let cq = p.given("CQ CREATE", request)?.handle;
        Ok(p.create_raw_qp(pd, cq, p.raw()?))
    })
}

fn data(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    type Change = fn(&Program, &mut wire::CreateQp) -> Result<(), Refused>;
    let changes: &[(&str, Change)] = &[
        ("on port 0", |_, raw| {
            raw.port = 0;
            Ok(())
        }),
        ("on port 2", |_, raw| {
            raw.port = 2;
            Ok(())
        }),
        ("on port 3 of 2", |_, raw| {
            raw.port = 3;
            Ok(())
        }),
        ("on port 2^32 - 1", |_, raw| {
            raw.port = u32::MAX;
            Ok(())
        }),
        ("with a ring of no bytes", |_, raw| {
            raw.sq_buf_size = 0;
            Ok(())
        }),
        ("with a ring of 100 bytes", |_, raw| {
            raw.sq_buf_size = 100;
            Ok(())
        }),
        ("with a ring of 2048 bytes", |_, raw| {
            raw.sq_buf_size = 2048;
            Ok(())
        }),
        ("with a ring of 6144 bytes", |p, raw| {
            (raw.sq_buf_addr, raw.sq_buf_size) = (p.memory(8192)?, 6144);
            Ok(())
        }),
        ("with a ring of 12288 bytes", |p, raw| {
            (raw.sq_buf_addr, raw.sq_buf_size) = (p.memory(12_288)?, 12_288);
            Ok(())
        }),
        ("with a ring of 1 MiB", |p, raw| {
            (raw.sq_buf_addr, raw.sq_buf_size) = (p.memory(1 << 20)?, 1 << 20);
            Ok(())
        }),
        ("with a ring 8 bytes into a page", |p, raw| {
            raw.sq_buf_addr = p.memory(2 * PAGE)? + 8;
            Ok(())
        }),
        ("with a ring at address 0", |_, raw| {
            raw.sq_buf_addr = 0;
            Ok(())
        }),
        ("with a ring without rights", |p, raw| {
            raw.sq_buf_addr = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_NONE))?;
            Ok(())
        }),
        ("with a ring that can only be read", |p, raw| {
            raw.sq_buf_addr = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_READ))?;
            Ok(())
        }),
    ];
    for (situation, change) in changes {
        recorder.try_it("QP CREATE to send", situation, |p| {
            let mut driver = p.raw()?;
            change(p, &mut driver)?;
            let pd = p.pd()?;
            let answer = p.run(p.create_raw_qp(pd, p.cq()?, driver))?;
            Ok(told(&answer))
        })?;
    }
    let mut qp = |situation: &str, change: &dyn Fn(Request, Vec<u8>) -> Request| {
        recorder.try_it("QP CREATE to send", situation, |p| {
            let (pd, driver) = (p.pd()?, p.raw()?);
            let request = p.create_raw_qp(pd, p.cq()?, driver);
            let answer = p.run(change(request, driver.as_bytes().to_vec()))?;
            Ok(told(&answer))
        })
    };
    qp("without driver data", &|request, _| {
        request.without(attr::UHW_IN)
    })?;
    for bytes in [8, 12, 16, 24] {
        qp(
            &format!("with driver data of {bytes} bytes"),
            &|request, mut data| {
                data.resize(bytes, 0);
                request.with(attr::UHW_IN, Argument::In(data))
            },
        )?;
    }
    qp(
        "with driver data of 24 bytes, the last not zero",
        &|request, mut data| {
            data.resize(24, 0);
            data[23] = 1;
            request.with(attr::UHW_IN, Argument::In(data))
        },
    )?;
    qp("without room for the driver's answer", &|request, _| {
        request.without(attr::UHW_OUT)
    })?;
    // Linux 6.12 writes the whole answer whatever room there is, so that there is never less.
    for room in [16, 24] {
        qp(
            &format!("with room of {room} bytes for the driver's answer"),
            &|request, _| request.with(attr::UHW_OUT, Argument::Out(room)),
        )?;
    }
    Ok(())
}

fn vports(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut qp = |situation: &str, act: &dyn Fn(&Program) -> Result<Request, Refused>| {
        recorder.try_it("QP CREATE to send", situation, |p| {
            p.run(act(p)?).map(|answer| told(&answer))
        })
    };
    let on_port = |p: &Program, pd, port| {
        let driver = wire::CreateQp { port, ..p.raw()? };
        Ok::<_, Refused>(p.create_raw_qp(pd, p.cq()?, driver))
    };
    qp("a second one on PD and port", &|p| {
        let pd = p.pd()?;
        p.sender(pd)?;
        on_port(p, pd, 1)
    })?;
    qp("on a port that another PD has", &|p| {
        let (first, second) = (p.pd()?, p.pd()?);
        p.sender(first)?;
        on_port(p, second, 1)
    })?;
    qp("on a port that another PD had", &|p| {
        let (first, second) = (p.pd()?, p.pd()?);
        let (_, raw) = p.sender(first)?;
        p.given("QP DESTROY", p.destroy(object::QP, raw))?;
        on_port(p, second, 1)
    })?;
    qp("on the second port of a PD that has the first", &|p| {
        let pd = p.pd()?;
        p.sender(pd)?;
        on_port(p, pd, 2)
    })?;
    qp("on the second port of a PD that had the first", &|p| {
        let pd = p.pd()?;
        let (_, raw) = p.sender(pd)?;
        p.given("QP DESTROY", p.destroy(object::QP, raw))?;
        on_port(p, pd, 2)
    })?;
    qp("on the second port by another PD", &|p| {
        let (first, second) = (p.pd()?, p.pd()?);
        p.sender(first)?;
        on_port(p, second, 2)
    })?;
    qp("on a port where another was refused", &|p| {
        let pd = p.pd()?;
        let driver = wire::CreateQp {
            sq_buf_addr: 0,
            ..p.raw()?
        };
        // Its failure is told elsewhere.
        let _refused = p.run(p.create_raw_qp(pd, p.cq()?, driver));
        let other = p.pd()?;
        on_port(p, other, 1)
    })?;
    let (system, device) = (recorder.system, recorder.device.clone());
    let first = Program::start(system, &device)?;
    let taken = first.pd().and_then(|pd| first.sender(pd));
    let second = Program::start(system, &device)?;
    let outcome = taken.and_then(|_| {
        let pd = second.pd()?;
        let request = on_port(&second, pd, 1)?;
        second.run(request).map(|answer| told(&answer))
    });
    recorder.line(
        "QP CREATE to send",
        "on a port that another context has",
        outcome,
    );
    drop(first);
    let outcome = second.pd().and_then(|pd| {
        let request = on_port(&second, pd, 1)?;
        second.run(request).map(|answer| told(&answer))
    });
    recorder.line(
        "QP CREATE to send",
        "on a port that a closed context had",
        outcome,
    );
    Ok(())
}
