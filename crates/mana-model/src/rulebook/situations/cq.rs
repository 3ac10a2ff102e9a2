//! Completion queues (reference/mana-hardware.md §4.1, §4.2, §4.9).

use uverbs_abi::ids::attr;
use uverbs_abi::wire;
use zerocopy::IntoBytes;

use super::super::memory::PAGE;
use super::super::program::{Program, number};
use super::super::request::{Answer, Argument, Refused, Request};
use super::super::{Recorder, RulebookError};
use super::{object, some};

/// Handle, the granted entries, and whether the driver answered a number.
fn told(answer: &Answer) -> String {
    let id = some(answer.number(attr::UHW_OUT, 0));
    format!("{} cqid={id}", object(answer, &[attr::CQ_RESP_CQE]))
}

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let limits = recorder.limits;
    let create = |p: &Program, request: Request| p.run(request).map(|answer| told(&answer));
    let without_size = |answer: &Answer| {
        let id = some(answer.number(attr::UHW_OUT, 0));
        format!("{} cqid={id}", object(answer, &[]))
    };
    let mut cq = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("CQ CREATE", situation, act)
    };
    for entries in [0, 1, 63, 64, 65, 96, 100, 128, 192, 256, 1024] {
        cq(&format!("of {entries} entries"), &|p| {
            create(p, p.create_cq(entries)?)
        })?;
    }
    for (name, entries) in [
        ("as many entries as there may be", limits.max_cqe),
        ("one entry more than there may be", limits.max_cqe + 1),
        ("2^26 entries", 1 << 26),
        ("2^31 entries", 1 << 31),
        ("2^32 - 1 entries", u32::MAX),
    ] {
        cq(&format!("of {name}"), &|p| {
            let answer = p.run(p.create_cq(entries)?)?;
            Ok(without_size(&answer))
        })?;
    }
    for (name, vector) in [
        ("the last vector", limits.comp_vectors - 1),
        ("one vector too high", limits.comp_vectors),
        ("vector 2^31", 1 << 31),
        ("vector 2^32 - 1", u32::MAX),
    ] {
        cq(&format!("with {name}"), &|p| {
            create(
                p,
                p.create_cq(64)?.with(attr::CQ_COMP_VECTOR, number(vector)),
            )
        })?;
    }
    for flags in [0, 1, 2, 3, 4, 1 << 31] {
        cq(&format!("with flags {flags:#x}"), &|p| {
            create(p, p.create_cq(64)?.with(attr::CQ_FLAGS, number(flags)))
        })?;
    }
    cq("with flags in 8 bytes", &|p| {
        create(
            p,
            p.create_cq(64)?
                .with(attr::CQ_FLAGS, Argument::In(vec![0; 8])),
        )
    })?;
    rings(recorder)?;
    files(recorder)?;
    driver_data(recorder)
}

fn rings(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut cq = |situation: &str, ring: &dyn Fn(&Program) -> Result<u64, Refused>| {
        recorder.try_it("CQ CREATE", situation, |p| {
            let request = p.create_cq_at(64, ring(p)?);
            p.run(request).map(|answer| told(&answer))
        })
    };
    cq("with a ring at address 0", &|_| Ok(0))?;
    cq("with a ring 8 bytes into a page", &|p| {
        Ok(p.memory(2 * PAGE)? + 8)
    })?;
    cq("with a ring 64 bytes into a page", &|p| {
        Ok(p.memory(2 * PAGE)? + 64)
    })?;
    cq("with a ring at an address of the kernel", &|_| {
        Ok(0xFFFF_8880_0000_0000)
    })?;
    cq("with a ring at the end of addresses", &|_| {
        Ok(u64::MAX - 4095)
    })?;
    cq("with a ring without rights", &|p| {
        p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_NONE))
    })?;
    cq("with a ring that can only be read", &|p| {
        p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_READ))
    })?;
    cq("with the ring of another CQ", &|p| {
        let ring = p.memory(PAGE)?;
        p.given("CQ CREATE", p.create_cq_at(64, ring))?;
        Ok(ring)
    })
}

fn files(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut cq = |situation: &str, act: &dyn Fn(&Program, Request) -> Result<Answer, Refused>| {
        recorder.try_it("CQ CREATE", situation, |p| {
            let request = p.create_cq(64)?;
            act(p, request).map(|answer| told(&answer))
        })
    };
    cq("with a completion channel", &|p, request| {
        let file = p.keep(p.channel()?);
        p.run(request.with(attr::CQ_COMP_CHANNEL, file))
    })?;
    cq(
        "with descriptor -1 for a completion channel",
        &|p, request| p.run(request.with(attr::CQ_COMP_CHANNEL, Argument::Fd(-1))),
    )?;
    cq(
        "with a closed descriptor for a completion channel",
        &|p, request| p.run(request.with(attr::CQ_COMP_CHANNEL, Argument::Fd(1000))),
    )?;
    cq(
        "with a file of events for a completion channel",
        &|p, request| {
            let file = p.keep(p.async_events()?);
            p.run(request.with(attr::CQ_COMP_CHANNEL, file))
        },
    )?;
    cq(
        "with standard input for a completion channel",
        &|p, request| p.run(request.with(attr::CQ_COMP_CHANNEL, Argument::Fd(0))),
    )?;
    cq("with a file of events", &|p, request| {
        let file = p.keep(p.async_events()?);
        p.run(request.with(attr::CQ_EVENT_FD, file))
    })?;
    cq(
        "with a closed descriptor for a file of events",
        &|p, request| p.run(request.with(attr::CQ_EVENT_FD, Argument::Fd(1000))),
    )?;
    cq(
        "with a completion channel for a file of events",
        &|p, request| {
            let file = p.keep(p.channel()?);
            p.run(request.with(attr::CQ_EVENT_FD, file))
        },
    )?;
    let system = recorder.system;
    let device = recorder.device.clone();
    let other = Program::start(system, &device)?;
    let channel = other.channel();
    let events = other.async_events();
    let program = Program::start(system, &device)?;
    let try_with = |id, fd: Result<std::os::fd::OwnedFd, Refused>| {
        let file = program.keep(fd?);
        let request = program.create_cq(64)?;
        let answer = program.run(request.with(id, file))?;
        Ok(told(&answer))
    };
    let outcome = try_with(attr::CQ_COMP_CHANNEL, channel);
    recorder.line(
        "CQ CREATE",
        "with the completion channel of another context",
        outcome,
    );
    let outcome = try_with(attr::CQ_EVENT_FD, events);
    recorder.line(
        "CQ CREATE",
        "with the file of events of another context",
        outcome,
    );
    Ok(())
}

fn driver_data(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut cq = |situation: &str, act: &dyn Fn(&Program) -> Result<Request, Refused>| {
        recorder.try_it("CQ CREATE", situation, |p| {
            p.run(act(p)?).map(|answer| told(&answer))
        })
    };
    let driver = |p: &Program, flags: u16| -> Result<wire::CreateCq, Refused> {
        Ok(wire::CreateCq {
            buf_addr: p.memory(PAGE)?,
            flags,
            ..wire::CreateCq::default()
        })
    };
    cq("without driver data", &|p| {
        Ok(p.create_cq(64)?.without(attr::UHW_IN))
    })?;
    for bytes in [4, 7, 8, 10, 12, 16, 24] {
        cq(&format!("with driver data of {bytes} bytes"), &|p| {
            let mut data = driver(p, 0)?.as_bytes().to_vec();
            data.resize(bytes, 0);
            Ok(p.create_cq(64)?.with(attr::UHW_IN, Argument::In(data)))
        })?;
    }
    cq("with driver data of 24 bytes, the last not zero", &|p| {
        let mut data = driver(p, 0)?.as_bytes().to_vec();
        data.resize(24, 0);
        data[23] = 1;
        Ok(p.create_cq(64)?.with(attr::UHW_IN, Argument::In(data)))
    })?;
    for flags in [1, 2, 0x8000] {
        cq(&format!("with the driver's flags {flags:#x}"), &|p| {
            let data = driver(p, flags)?.as_bytes().to_vec();
            Ok(p.create_cq(64)?.with(attr::UHW_IN, Argument::In(data)))
        })?;
    }
    cq("with the driver's first reserved word 1", &|p| {
        let mut data = driver(p, 0)?.as_bytes().to_vec();
        data[10] = 1;
        Ok(p.create_cq(64)?.with(attr::UHW_IN, Argument::In(data)))
    })?;
    cq("with the driver's last reserved word 1", &|p| {
        let mut data = driver(p, 0)?.as_bytes().to_vec();
        data[12] = 1;
        Ok(p.create_cq(64)?.with(attr::UHW_IN, Argument::In(data)))
    })?;
    cq("without room for the driver's answer", &|p| {
        Ok(p.create_cq(64)?.without(attr::UHW_OUT))
    })?;
    for room in [4, 16] {
        cq(
            &format!("with room of {room} bytes for the driver's answer"),
            &|p| Ok(p.create_cq(64)?.with(attr::UHW_OUT, Argument::Out(room))),
        )?;
    }
    Ok(())
}
