//! SIGSEGV and SIGBUS as the program has them: its handlers are kept here and called for its own
//! faults. (SIGBUS is no doorbell's, but memory's that was given to the device and whose file
//! became shorter.)

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::on_fault;
use crate::sys::real;
use crate::{gate, stacks, sys};

type Sigaction = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;

/// What the program wants to happen, reached with the gate held.
struct Wish(UnsafeCell<mem::MaybeUninit<libc::sigaction>>);

// SAFETY: reached with the gate held only.
unsafe impl Sync for Wish {}

impl Wish {
    const fn none() -> Self {
        Self(UnsafeCell::new(mem::MaybeUninit::zeroed()))
    }
}

/// The signals that the handler takes, and what the program wants of each.
static WISHES: [(c_int, Wish); 2] = [(libc::SIGSEGV, Wish::none()), (libc::SIGBUS, Wish::none())];
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// The process in which it is installed. A child of `vfork` runs in this memory, but has handlers of
/// its own to set before it becomes another program.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// What the program wants of a signal that the handler takes.
fn wish(signal: c_int) -> Option<*mut libc::sigaction> {
    let mut wishes = WISHES.iter();
    let (_, wish) = wishes.find(|(number, _)| *number == signal)?;
    Some(wish.0.get().cast())
}

/// The same, where the program sets or asks for it.
fn wish_here(signal: c_int) -> Option<*mut libc::sigaction> {
    let wish = wish(signal).filter(|_| INSTALLED.load(Ordering::Acquire))?;
    (PROCESS.load(Ordering::Acquire) == sys::process()).then_some(wish)
}

/// In a forked child, whose memory is its own.
pub(crate) extern "C" fn after_fork() {
    PROCESS.store(sys::process(), Ordering::Release);
}

/// Installs the handler, once; what the program has installed before becomes its wish. The caller
/// holds the gate.
pub(crate) fn install() {
    stacks::prepare();
    if INSTALLED.load(Ordering::Acquire) {
        return;
    }
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
    // SAFETY: a sigaction is plain numbers, for which zero bytes are a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // Without SA_NODEFER a fault of the device's own would end the process without a word.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: fills and empties a set of this function.
    unsafe {
        libc::sigfillset(&mut action.sa_mask);
        for (signal, _) in &WISHES {
            libc::sigdelset(&mut action.sa_mask, *signal);
        }
    }
    let real = real!(c"sigaction" as Sigaction);
    for (signal, wish) in &WISHES {
        // SAFETY: the handler is this library's, which stays loaded; the gate is held, so the wish is
        // this thread's to write.
        if unsafe { real(*signal, &action, wish.0.get().cast()) } != 0 {
            sys::fatal(format_args!("no handler can be installed for faults"));
        }
    }
    PROCESS.store(sys::process(), Ordering::Release);
    INSTALLED.store(true, Ordering::Release);
}

/// `sigaction` of the program.
///
/// # Safety
///
/// That of the C function.
pub(crate) unsafe fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    if let Some(wish) = wish_here(signal) {
        let _held = gate::enter();
        // SAFETY: the gate is held; the wish was filled in by `install`; the caller's pointers are
        // null or point to a sigaction.
        unsafe {
            let before = *wish;
            if !new.is_null() {
                *wish = *new;
            }
            if !old.is_null() {
                *old = before;
            }
        }
        return 0;
    }
    let real = real!(c"sigaction" as Sigaction);
    if new.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { real(signal, new, old) };
    }
    // A handler may ring doorbells, too, so it must not run with the fault blocked.
    // SAFETY: the caller's pointer is to a sigaction.
    let mut action = unsafe { *new };
    // SAFETY: changes a set of this function.
    unsafe { libc::sigdelset(&mut action.sa_mask, libc::SIGSEGV) };
    // SAFETY: the caller's promise.
    unsafe { real(signal, &action, old) }
}

/// `signal` of the program, for faults; `None` for others. `flags` are those that this form of the
/// function implies.
pub(crate) fn signal(signal: c_int, handler: usize, flags: c_int) -> Option<usize> {
    wish_here(signal)?;
    // SAFETY: a sigaction is plain numbers, for which zero bytes are a value.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = handler;
    new.sa_flags = flags;
    let mut old = new;
    // SAFETY: both structures are live locals.
    unsafe { sigaction(signal, &new, &mut old) };
    Some(old.sa_sigaction)
}

/// The signals that the program wants blocked, without the one that doorbells need.
///
/// # Safety
///
/// `set` is null or points to a signal set.
pub(crate) unsafe fn without_fault(
    how: c_int,
    set: *const libc::sigset_t,
) -> Option<libc::sigset_t> {
    if set.is_null() || how == libc::SIG_UNBLOCK {
        return None;
    }
    // SAFETY: the caller's pointer is to a set.
    let mut set = unsafe { *set };
    // SAFETY: changes a set of this function.
    unsafe { libc::sigdelset(&mut set, libc::SIGSEGV) };
    Some(set)
}

/// Does with a foreign fault what the program wants.
///
/// # Safety
///
/// The arguments are those of a handler that the kernel has called.
pub(super) unsafe fn deliver(
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    let Some(wish) = wish(signal) else {
        return;
    };
    let wish = {
        let _held = gate::enter_in_handler();
        // SAFETY: the gate is held; the wish was filled in by `install`.
        unsafe {
            let now = *wish;
            if now.sa_flags & libc::SA_RESETHAND != 0 {
                (*wish).sa_sigaction = libc::SIG_DFL;
            }
            now
        }
    };
    // SAFETY: the kernel's siginfo.
    let sent = unsafe { (*info).si_code } <= 0;
    match wish.sa_sigaction {
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: a sigaction is plain numbers, for which zero bytes are a value: the default.
            let default: libc::sigaction = unsafe { mem::zeroed() };
            // SAFETY: the structure is a live local. A real fault comes again when this handler
            // returns; a signal that was sent is sent again.
            unsafe {
                real!(c"sigaction" as Sigaction)(signal, &default, ptr::null_mut());
                if sent {
                    let thread = libc::syscall(libc::SYS_gettid);
                    libc::syscall(libc::SYS_tgkill, sys::process(), thread, signal);
                }
            }
        }
        handler => {
            // SAFETY: the kernel's context.
            let mut mask = unsafe { (*context).uc_sigmask };
            for other in 1..64 {
                // SAFETY: reads a set of this function and changes another.
                unsafe {
                    if libc::sigismember(&wish.sa_mask, other) == 1 {
                        libc::sigaddset(&mut mask, other);
                    }
                }
            }
            // SAFETY: sets of this function; the handler is the program's, called as it asked for.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigprocmask,
                    libc::SIG_SETMASK,
                    &raw const mask,
                    ptr::null_mut::<u64>(),
                    8,
                );
                if wish.sa_flags & libc::SA_SIGINFO != 0 {
                    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                        mem::transmute(handler);
                    handler(signal, info, context.cast());
                } else {
                    let handler: extern "C" fn(c_int) = mem::transmute(handler);
                    handler(signal);
                }
            }
        }
    }
}
