//! The one lock around everything that is shared here: model, descriptors and doorbell pages.
//!
//! Its holder has all signals blocked but those of faults, so no handler of the program runs on
//! top of it and waits for what it interrupted. A fault while the gate is held is the device
//! touching memory that the program gave it and then took away: named, and the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::heap::HEAP;
use crate::sys;

static OWNER: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the kernel's signal set.
const SET: usize = 8;

/// The gate, held.
pub(crate) struct Held {
    /// The signal mask to come back to.
    mask: Option<u64>,
}

/// Waits for the gate.
pub(crate) fn enter() -> Held {
    let mut old = 0_u64;
    let all = !(bit(libc::SIGSEGV) | bit(libc::SIGBUS) | bit(libc::SIGILL) | bit(libc::SIGFPE));
    // SAFETY: both sets have the kernel's size and live during the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut old,
            SET,
        )
    };
    lock();
    Held { mask: Some(old) }
}

/// Waits for the gate in the fault handler, which runs with all signals blocked.
pub(crate) fn enter_in_handler() -> Held {
    lock();
    Held { mask: None }
}

/// Whether this thread holds it.
pub(crate) fn held_here() -> bool {
    OWNER.load(Ordering::Relaxed) == sys::thread()
}

fn lock() {
    let me = sys::thread();
    let mut turns = 0_u32;
    // Acquire pairs with the release of the holder before.
    while OWNER
        .compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(64) {
            // SAFETY: sched_yield takes nothing.
            unsafe { libc::syscall(libc::SYS_sched_yield) };
        } else {
            std::hint::spin_loop();
        }
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Drop for Held {
    fn drop(&mut self) {
        OWNER.store(0, Ordering::Release);
        if let Some(mask) = self.mask {
            // SAFETY: the set has the kernel's size and lives during the call.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigprocmask,
                    libc::SIG_SETMASK,
                    &raw const mask,
                    std::ptr::null_mut::<u64>(),
                    SET,
                )
            };
        }
    }
}

/// Before a fork: nobody else is inside while the process is copied.
pub(crate) extern "C" fn before_fork() {
    lock();
    HEAP.lock();
}

/// After a fork, on both sides: the thread that forked is the one that is left.
pub(crate) extern "C" fn after_fork() {
    HEAP.unlock();
    OWNER.store(0, Ordering::Release);
}
