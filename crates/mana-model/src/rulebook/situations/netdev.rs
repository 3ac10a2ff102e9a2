//! The netdev of a port and its queues in userspace (reference/mana-hardware.md §4.5, §4.9).

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use uverbs_abi::Errno;
use uverbs_abi::ids::object;
use zerocopy::FromBytes;

use super::super::program::Program;
use super::super::request::Refused;
use super::super::{Recorder, RulebookError};
use super::context;

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let surroundings = recorder.surroundings;
    let up = |up| surroundings.set_netdev_up(0, up);
    let done = |result: Result<(), Errno>| result.map(|()| String::new()).map_err(Refused::Here);
    let (system, device) = (recorder.system, recorder.device.clone());

    let program = Program::start(system, &device)?;
    let events = program.async_events();
    let outcome = done(up(true));
    recorder.line("netdev UP", "without a raw QP", outcome);
    let outcome = events.as_ref().map_or_else(
        |_| Err(Refused::Before("ASYNC_EVENT ALLOC", Errno::EBADF)),
        |events| Ok(events_of(events, surroundings.patience())),
    );
    recorder.line("netdev UP", "its events", outcome);
    let outcome = program.run(program.query_port(1));
    recorder.line(
        "QUERY_PORT",
        "1, whose netdev is UP",
        outcome.map(|answer| context::told(&answer)),
    );
    let outcome = program.pd().and_then(|pd| {
        let request = program.create_raw_qp(pd, program.cq()?, program.raw()?);
        program.run(request).map(|_| String::new())
    });
    recorder.line("QP CREATE to send", "while the netdev is UP", outcome);
    let outcome = program.pd().and_then(|pd| {
        let table = program.table(&[program.wq(pd)?])?;
        let request = program.create_rss_qp(pd, table, Program::rss());
        program.run(request).map(|_| String::new())
    });
    // On old kernels it takes the netdev's steering: close the context before the netdev works on.
    recorder.line("QP CREATE for reception", "while the netdev is UP", outcome);
    drop(program);
    let outcome = done(up(false));
    recorder.line("netdev DOWN", "after it was UP", outcome);

    let program = Program::start(system, &device)?;
    let events = program.async_events();
    let outcome = done(surroundings.set_netdev_up(1, true));
    recorder.line("netdev UP", "of the second port", outcome);
    let outcome = events.map(|events| events_of(&events, surroundings.patience()));
    recorder.line("netdev UP", "its events, of the second port", outcome);
    let _down = surroundings.set_netdev_up(1, false);
    let sender = program.pd().and_then(|pd| Ok((pd, program.sender(pd)?.1)));
    let outcome = sender.and_then(|sender| done(up(true)).map(|_| sender));
    let _down = up(false);
    let text = outcome.map(|_| String::new());
    recorder.line("netdev UP", "while there is a raw QP", text);

    let program = {
        drop(program);
        Program::start(system, &device)?
    };
    let outcome = program.pd().and_then(|pd| {
        let (_, raw) = program.sender(pd)?;
        let table = program.table(&[program.wq(pd)?])?;
        program.given(
            "QP CREATE",
            program.create_rss_qp(pd, table, Program::rss()),
        )?;
        program.given("QP DESTROY", program.destroy(object::QP, raw))?;
        done(up(true))
    });
    let _down = up(false);
    recorder.line(
        "netdev UP",
        "while there is an RSS QP without a raw one",
        outcome,
    );
    drop(program);
    let outcome = done(up(true));
    recorder.line("netdev UP", "after the context was closed", outcome);
    let _down = up(false);
    Ok(())
}

/// The types of the events that come, each within `patience` of the one before.
pub(super) fn events_of(events: &OwnedFd, patience: Duration) -> String {
    let mut kinds = Vec::new();
    while let Some(kind) = next(events, patience) {
        kinds.push(kind.to_string());
    }
    match kinds.is_empty() {
        true => "none".to_owned(),
        false => kinds.join(" "),
    }
}

/// The type of the next event; none where none comes, or the file has ended.
fn next(events: &OwnedFd, patience: Duration) -> Option<u32> {
    let mut poll = libc::pollfd {
        fd: events.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: poll reads and writes exactly one pollfd, which is a live local.
    let ready = unsafe { libc::poll(&mut poll, 1, patience) };
    if ready != 1 || poll.revents & libc::POLLIN == 0 {
        return None;
    }
    let mut record = [0_u8; size_of::<uverbs_abi::wire::AsyncEvent>()];
    // SAFETY: the kernel writes at most so many bytes into a live local.
    let got = unsafe { libc::read(events.as_raw_fd(), record.as_mut_ptr().cast(), record.len()) };
    let whole = usize::try_from(got).is_ok_and(|got| got == record.len());
    let event = uverbs_abi::wire::AsyncEvent::read_from_bytes(&record).ok();
    event.filter(|_| whole).map(|event| event.event_type)
}
