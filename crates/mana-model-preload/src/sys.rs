//! The system below the interposed functions: calls straight into the kernel, by the C library's
//! `syscall`, which sets `errno`, and the C library's own functions, which stand behind ours in the
//! order of symbols.

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) fn errno() -> c_int {
    // SAFETY: the C library gives every thread a place for it.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: the C library gives every thread a place for it.
    unsafe { *libc::__errno_location() = value }
}

/// A C function that fails.
pub(crate) fn fail(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}

/// The C library's function of a name that we interpose, found at its first use: constructors of
/// other libraries call before any of ours ran.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Its address. A program without it can't have called it: the process ends.
    pub(crate) fn address(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a string that ends with a zero; RTLD_NEXT asks for the symbol behind
        // this library's own.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            fatal(format_args!("the C library has no {:?}", self.name));
        }
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// The real function of a name, as a function pointer of the type that is asked for.
macro_rules! real {
    ($name:literal as $kind:ty) => {{
        static REAL: $crate::sys::Real = $crate::sys::Real::new($name);
        let address = REAL.address();
        #[allow(unused_unsafe, reason = "most users call it inside an unsafe block")]
        // SAFETY: the C library's function of this name has this type.
        let function = unsafe { std::mem::transmute::<*mut std::ffi::c_void, $kind>(address) };
        function
    }};
}
pub(crate) use real;

/// Says why, and ends the process with a core where those are kept.
pub(crate) fn fatal(why: std::fmt::Arguments<'_>) -> ! {
    say(format_args!("mana model: {why}\n"));
    // SAFETY: abort takes nothing and does not return.
    unsafe { libc::abort() }
}

/// Writes a line to standard error without allocating, up to 512 bytes.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut buffer = [0_u8; 512];
    let mut rest = &mut buffer[..];
    // A longer text is cut.
    let _cut = rest.write_fmt(line);
    let left = rest.len();
    let written = &buffer[..buffer.len() - left];
    // SAFETY: the buffer is valid for reads of its length.
    unsafe {
        libc::syscall(
            libc::SYS_write,
            libc::STDERR_FILENO,
            written.as_ptr(),
            written.len(),
        )
    };
}

/// The process's id, asked each time: after `vfork` the child runs in this memory.
pub(crate) fn process() -> c_int {
    // SAFETY: getpid takes nothing.
    unsafe { libc::syscall(libc::SYS_getpid) as c_int }
}

/// A number of this thread, not 0: the address of its control block.
pub(crate) fn thread() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let pointer: usize;
        // SAFETY: reads the first word of the thread's control block, which the ABI makes a
        // pointer to itself (System V ABI for x86-64, thread-local storage).
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly));
        }
        pointer
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: gettid takes nothing.
        unsafe { libc::syscall(libc::SYS_gettid) as usize }
    }
}
