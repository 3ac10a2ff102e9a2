//! Doorbells: the page is mapped for reading only, a store to it faults, and the handler hands what
//! the instruction stores to the device, lets the device do everything that follows, and goes on
//! behind the instruction. So no doorbell is lost, whatever the number of queues and threads, and
//! the device needs no thread (reference/uverbs-boundary.md §6).
//!
//! Other faults are the program's: they go to the handler that it has installed, or to the
//! system's default.

#[cfg(target_arch = "x86_64")]
mod handler;
mod program;

#[cfg(target_arch = "x86_64")]
pub(crate) use handler::on_fault;
pub(crate) use program::{after_fork, install, sigaction, signal, without_fault};

/// Elsewhere `mana model exec` refuses before this could be installed.
#[cfg(not(target_arch = "x86_64"))]
extern "C" fn on_fault(
    _signal: std::ffi::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut std::ffi::c_void,
) {
    crate::sys::fatal(format_args!(
        "doorbells are trapped on x86-64 only: use --doorbell step"
    ));
}
