//! How buffers go home.

use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, fence};

use super::depot::Depot;
use super::{Body, Lines, thread};
use crate::meta::{Handle, Line, Origin, SINGLE};

/// Drops an mbuf: each of its segments goes home, unless clones still refer to its buffer.
///
/// # Safety
/// The caller owns the mbuf whose first line this is, and gives it up.
#[inline]
pub(crate) unsafe fn drop_one(first: Handle) {
    // SAFETY: owned by the caller, so its pool is alive.
    let line = unsafe { first.line() };
    if line.is_simple() {
        // The last accesses of clones that are gone come before the reuse of the buffer.
        fence(Ordering::Acquire);
        // SAFETY: simple and the caller's: as free memory is.
        unsafe { put(first, line.origin.get().pool()) }
    } else {
        // SAFETY: the caller's promise, passed on.
        unsafe { drop_segments(first) }
    }
}

/// Drops many mbufs: neighbours that are simple and of one pool go home together.
///
/// # Safety
/// The caller owns the mbufs whose first lines these are, and gives them up.
pub(crate) unsafe fn drop_all(mut mbufs: &[Handle]) {
    while let Some((&first, others)) = mbufs.split_first() {
        // SAFETY: owned by the caller, so its pool is alive.
        let line = unsafe { first.line() };
        if !line.is_simple() {
            // SAFETY: the caller's promise, passed on.
            unsafe { drop_segments(first) };
            mbufs = others;
            continue;
        }
        let origin = line.origin.get();
        let like_it = |mbuf: &&Handle| {
            // SAFETY: as above.
            unsafe { mbuf.line() }.is_simple_of(origin)
        };
        let run = 1 + others.iter().take_while(like_it).count();
        let (run, rest) = mbufs.split_at(run);
        fence(Ordering::Acquire);
        // SAFETY: simple, the caller's, and of one pool.
        unsafe { put_many(run, thread::record(origin.pool())) };
        mbufs = rest;
    }
}

/// Sends lines home that all keep the invariant of free memory and are of the pool with this id;
/// looks at none of them. The thread claims a cache record if it has none.
///
/// # Safety
/// The caller owns the lines, which are as said, and gives them up.
#[inline]
pub(crate) unsafe fn recycle(lines: &[Handle], pool: u32) {
    let Some(&first) = lines.first() else { return };
    // SAFETY: the lines are not home, so their pool is alive.
    let record = unsafe { thread::claimed_record(pool, || Lines::depot_of(first)) };
    // SAFETY: the caller's promise.
    unsafe { put_many(lines, record) }
}

/// Lines that [`recycle_chains`] sends home at a time.
const TOGETHER: usize = 64;

/// Sends all lines of chains home whose first lines these are. The thread claims a cache record if it
/// has none.
///
/// # Safety
/// The caller owns the chains and gives them up. Every line in them is unshared, has its own buffer
/// and is of the pool with this id.
#[inline(never)]
pub(crate) unsafe fn recycle_chains(chains: &[Handle], pool: u32) {
    let mut lines = [const { MaybeUninit::uninit() }; TOGETHER];
    let mut count = 0;
    for &first in chains {
        let mut next = Some(first);
        // SAFETY: owned by the caller, and not home before the lines collected are.
        let segments = unsafe { &first.line().head };
        // As free memory has it. Behind the first line it is so already.
        segments.store(SINGLE, Ordering::Relaxed);
        while let Some(line) = next {
            // SAFETY: as above: the segments of a chain belong to the owner of the first one.
            next = unsafe { line.line() }.next.take();
            lines[count % TOGETHER].write(line);
            count += 1;
            if count == TOGETHER {
                // SAFETY: initialised, one by one; the caller's promise for the rest.
                unsafe { recycle(lines.assume_init_ref(), pool) };
                count = 0;
            }
        }
    }
    // SAFETY: as above.
    unsafe { recycle(lines[..count].assume_init_ref(), pool) };
}

/// # Safety
/// As for [`recycle`]; the record is this thread's in that pool, found a moment ago.
#[inline]
unsafe fn put_many(lines: &[Handle], record: Option<thread::RecordPointer>) {
    let Some(&first) = lines.first() else { return };
    match record {
        // SAFETY: this thread's record; nothing of the user's runs meanwhile. The lines are handed
        // over and keep their pool alive.
        Some(record) => unsafe { record.as_ref().put(lines, || Lines::depot_of(first)) },
        // SAFETY: as above.
        None => unsafe { Depot::put(Lines::depot_of(first), lines) },
    }
}

/// # Safety
/// The caller owns the line, which is as free memory is and of the pool with this id, and gives it
/// up.
#[inline]
unsafe fn put(line: Handle, pool: u32) {
    let record = thread::record(pool);
    if let Some(record) = record {
        // SAFETY: this thread's record; nothing of the user's runs meanwhile.
        if unsafe { record.as_ref().push(line) } {
            return;
        }
    }
    // SAFETY: the caller's promise; `push` did nothing.
    unsafe { put_many(&[line], record) }
}

/// # Safety
/// As for [`drop_one`].
#[cold]
#[inline(never)]
unsafe fn drop_segments(first: Handle) {
    let mut next = Some(first);
    while let Some(segment) = next {
        // SAFETY: the segments of a chain belong to the owner of the first one.
        let line = unsafe { segment.line() };
        // As free memory is, before others may free it.
        next = line.next.take();
        line.set_segments(1);
        line.pkt_len.set(line.data_len.get());
        let mut buffer = segment;
        if line.origin.get().is_clone() {
            // SAFETY: owned by the caller.
            buffer = unsafe { drop_clone(segment) };
        }
        // SAFETY: this segment's reference keeps the pool of the buffer alive.
        let owner = unsafe { buffer.line() };
        let origin = owner.origin.get();
        if !owner.drop_reference() {
            continue;
        }
        if origin.is_external() {
            // SAFETY: no reference is left, so the line is ours.
            unsafe { release_external(buffer) };
        } else {
            // SAFETY: no reference is left, so the line is ours. Its mbuf was dropped, and made it
            // as free memory is, before it gave up its reference; or just now, above.
            unsafe { put(buffer, origin.pool()) };
        }
    }
}

/// Gives a clone's line its own buffer back and sends it home. Returns the line whose buffer it
/// referred to, with the reference that the clone had.
///
/// # Safety
/// The caller owns the line, a clone without next, and gives it up.
unsafe fn drop_clone(clone: Handle) -> Handle {
    // SAFETY: owned by the caller, so its pool is alive until it is put home below.
    let (line, depot) = unsafe { (clone.line(), Lines::depot_of(clone)) };
    // SAFETY: as above.
    let body = unsafe { depot.as_ref() }.body();
    let owner = body
        .lines
        .owner_of(clone)
        .expect("a clone's line has an owner of its buffer");
    body.lines.set_owner(clone, None);
    restore(clone, line, body);
    // SAFETY: its own buffer, empty, one segment; nobody refers to a buffer that was never shared:
    // clones of the clone count in the owner's line.
    unsafe { put(clone, body.id) };
    owner
}

/// Gives a line its own buffer back, empty.
fn restore(handle: Handle, line: &Line, body: &Body) {
    line.address.set(body.own_buffer(handle));
    line.origin.set(Origin::own(body.id, body.length));
    line.data_off.set(crate::HEADROOM as u16);
    line.data_len.set(0);
    line.pkt_len.set(0);
}

/// Sends a line home that referred to external memory, and then tells the memory's owner.
///
/// # Safety
/// The caller owns the line, which refers to external memory and to which no reference is left, and
/// gives it up.
unsafe fn release_external(handle: Handle) {
    // SAFETY: owned by the caller, so its pool is alive until it is put home below.
    let (line, depot) = unsafe { (handle.line(), Lines::depot_of(handle)) };
    // SAFETY: as above.
    let body = unsafe { depot.as_ref() }.body();
    // SAFETY: noted when the line was made to refer to it, and taken only here, once.
    let memory = unsafe { body.lines.take_external(handle) };
    let (start, len) = (line.address.get().addr(), line.origin.get().length());
    restore(handle, line, body);
    // SAFETY: its own buffer, empty, one segment, one reference; the caller's.
    unsafe { put(handle, body.id) };
    // Last: this runs the user's code.
    memory.release(start, len);
}
