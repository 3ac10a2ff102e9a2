//! An alternate signal stack for every thread of the program, large enough for a device.
//!
//! A thread's stack comes with the thread (`pthread_create` is ours) and goes with it. The program
//! may ask for an alternate stack of its own, as Rust's runtime does: it is told yes and keeps
//! what it asked for, but signals arrive on ours, because theirs may hold no more than a message.

use std::ffi::{c_int, c_long, c_void};
use std::mem::{self, offset_of};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::state;
use crate::sys::real;

type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C-unwind" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> c_int;
type Altstack = unsafe extern "C" fn(*const libc::stack_t, *mut libc::stack_t) -> c_int;

/// Bytes of a stack, with its record and a page that faults below.
const SIZE: usize = 512 * 1024;
const GUARD: usize = 4096;

/// What stands above a stack.
#[repr(C, align(64))]
struct Record {
    base: *mut u8,
    /// What the program asked for.
    program: libc::stack_t,
    /// What the thread shall run.
    start: Option<Start>,
    argument: *mut c_void,
}

const _: () = assert!(offset_of!(Record, base) == 0);

/// The thread-specific slot that holds the record; 0 before there is one, else the key plus 1.
static KEY: AtomicU32 = AtomicU32::new(0);

fn key() -> Option<libc::pthread_key_t> {
    let known = KEY.load(Ordering::Acquire);
    if known != 0 {
        return Some(known - 1);
    }
    let mut key = 0;
    // SAFETY: the key is a live local; the destructor is this library's, which stays loaded.
    if unsafe { libc::pthread_key_create(&mut key, Some(release)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(key),
        Err(other) => {
            // SAFETY: the key was made right here and nobody else knows it.
            unsafe { libc::pthread_key_delete(key) };
            Some(other - 1)
        }
    }
}

/// The calling thread's record.
fn record() -> Option<*mut Record> {
    let known = KEY.load(Ordering::Acquire);
    if known == 0 {
        return None;
    }
    // SAFETY: the key exists.
    let record = unsafe { libc::pthread_getspecific(known - 1) }.cast::<Record>();
    (!record.is_null()).then_some(record)
}

/// Maps a stack and its record.
fn map() -> Option<*mut Record> {
    // SAFETY: a mapping of its own, at no given address.
    let base = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            0 as c_long,
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1 as c_long,
            0 as c_long,
        )
    };
    if (-4095..0).contains(&base) {
        return None;
    }
    let base: *mut u8 = ptr::with_exposed_provenance_mut(base as usize);
    // SAFETY: the guard is the mapping's first page.
    unsafe { libc::syscall(libc::SYS_mprotect, base, GUARD, libc::PROT_NONE) };
    // SAFETY: the record is the last part of the mapping.
    let record = unsafe { base.add(SIZE - mem::size_of::<Record>()) }.cast::<Record>();
    // SAFETY: fresh memory of this function, aligned because mapping and sizes are.
    unsafe {
        record.write(Record {
            base,
            program: disabled(),
            start: None,
            argument: ptr::null_mut(),
        });
    }
    Some(record)
}

fn unmap(record: *mut Record) {
    // SAFETY: the record is one of `map`, whose mapping nobody uses any more.
    unsafe {
        let base = (*record).base;
        libc::syscall(libc::SYS_munmap, base, SIZE);
    }
}

const fn disabled() -> libc::stack_t {
    libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    }
}

/// Makes the stack the calling thread's, which keeps what it had as the program's own.
fn adopt(record: *mut Record) {
    let Some(key) = key() else {
        return;
    };
    // SAFETY: the record is one of `map`, handed to this thread alone.
    let (base, program) = unsafe { ((*record).base, &raw mut (*record).program) };
    let stack = libc::stack_t {
        // SAFETY: behind the guard, inside the mapping.
        ss_sp: unsafe { base.add(GUARD) }.cast(),
        ss_flags: 0,
        ss_size: SIZE - GUARD - mem::size_of::<Record>(),
    };
    // SAFETY: the stack stays mapped until `release`, which turns it off first.
    unsafe {
        real!(c"sigaltstack" as Altstack)(&stack, program);
        libc::pthread_setspecific(key, record.cast());
    }
}

/// Gives the calling thread a stack if it has none.
pub(crate) fn prepare() {
    if record().is_none()
        && let Some(record) = map()
    {
        adopt(record);
    }
}

/// The end of a thread.
extern "C" fn release(record: *mut c_void) {
    let off = disabled();
    // SAFETY: turns the stack off, which is none that this function runs on.
    unsafe { real!(c"sigaltstack" as Altstack)(&off, ptr::null_mut()) };
    unmap(record.cast());
}

/// `sigaltstack` of the program.
///
/// # Safety
///
/// That of the C function.
pub(crate) unsafe fn sigaltstack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int {
    let Some(record) = record() else {
        // SAFETY: the caller's promise.
        return unsafe { real!(c"sigaltstack" as Altstack)(new, old) };
    };
    // SAFETY: the record is this thread's own.
    let program = unsafe { &mut (*record).program };
    // SAFETY: the caller's pointers are null or point to a stack_t.
    unsafe {
        let before = *program;
        if !new.is_null() {
            *program = if (*new).ss_flags & libc::SS_DISABLE != 0 {
                disabled()
            } else {
                *new
            };
        }
        if !old.is_null() {
            *old = before;
        }
    }
    0
}

/// `pthread_create` of the program.
///
/// # Safety
///
/// That of the C function.
pub(crate) unsafe fn create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let real = real!(c"pthread_create" as Create);
    let record = if state::wanted() { map() } else { None };
    let Some(record) = record else {
        // SAFETY: the caller's promise.
        return unsafe { real(thread, attributes, start, argument) };
    };
    // SAFETY: the record was made right here; the new thread takes it over.
    unsafe {
        (*record).start = Some(start);
        (*record).argument = argument;
    }
    // SAFETY: the caller's promise; `run` takes the record.
    let result = unsafe { real(thread, attributes, run, record.cast()) };
    if result != 0 {
        unmap(record);
    }
    result
}

/// The first function of a thread. Nothing here needs dropping: the program may end its thread by
/// `pthread_exit`, which unwinds through this frame.
unsafe extern "C-unwind" fn run(record: *mut c_void) -> *mut c_void {
    let record = record.cast::<Record>();
    adopt(record);
    // SAFETY: `create` filled the record in for this thread.
    let (start, argument) = unsafe { ((*record).start, (*record).argument) };
    match start {
        // SAFETY: function and argument are what the program gave for this thread.
        Some(start) => unsafe { start(argument) },
        None => ptr::null_mut(),
    }
}
