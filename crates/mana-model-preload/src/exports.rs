//! The symbols that stand before the C library's, and those of `mana_model.h`. Functions that are variadic in C take their
//! optional argument always: the calling conventions of x86-64 and aarch64 Linux pass it in the
//! same register, and whoever does not give it does not have it read.
//!
//! Functions in which a thread may be cancelled are `C-unwind` and hold nothing that needs dropping
//! while they wait.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

use crate::sys::{self, real};
use crate::{control, files, netlink, report, stacks, state, trap};

type Open = unsafe extern "C-unwind" fn(*const c_char, c_int, ...) -> c_int;
type OpenAt = unsafe extern "C-unwind" fn(c_int, *const c_char, c_int, ...) -> c_int;
type Close = unsafe extern "C-unwind" fn(c_int) -> c_int;
type Ioctl = unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int;
type Stat = unsafe extern "C" fn(*const c_char, *mut c_void) -> c_int;
type Xstat = unsafe extern "C" fn(c_int, *const c_char, *mut c_void) -> c_int;
type Socket = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;
type Bind = unsafe extern "C" fn(c_int, *const c_void, libc::socklen_t) -> c_int;
type GetName = unsafe extern "C" fn(c_int, *mut c_void, *mut libc::socklen_t) -> c_int;
type SetOption = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, libc::socklen_t) -> c_int;
type SendMsg = unsafe extern "C-unwind" fn(c_int, *const libc::msghdr, c_int) -> isize;
type ReceiveMsg = unsafe extern "C-unwind" fn(c_int, *mut libc::msghdr, c_int) -> isize;
type Send = unsafe extern "C-unwind" fn(c_int, *const c_void, usize, c_int) -> isize;
type SendTo = unsafe extern "C-unwind" fn(
    c_int,
    *const c_void,
    usize,
    c_int,
    *const c_void,
    libc::socklen_t,
) -> isize;
type ReceiveFrom = unsafe extern "C-unwind" fn(
    c_int,
    *mut c_void,
    usize,
    c_int,
    *mut c_void,
    *mut libc::socklen_t,
) -> isize;
type Mask = unsafe extern "C" fn(c_int, *const libc::sigset_t, *mut libc::sigset_t) -> c_int;
type Signal = unsafe extern "C" fn(c_int, usize) -> usize;

/// Called by the dynamic loader before the program (System V ABI, "Initialization and Termination
/// Functions").
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = report::loaded;

macro_rules! opens {
    ($($name:ident: $c:literal,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            // SAFETY: the program's arguments are those of the C function.
            match unsafe { files::open(path, flags) } {
                Some(fd) => fd,
                // SAFETY: as above.
                None => unsafe { real!($c as Open)(path, flags, mode) },
            }
        }
    )*};
}

opens! {
    open: c"open",
    open64: c"open64",
    __open_2: c"__open_2",
    __open64_2: c"__open64_2",
}

macro_rules! opens_at {
    ($($name:ident: $c:literal,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(
            folder: c_int,
            path: *const c_char,
            flags: c_int,
            mode: c_uint,
        ) -> c_int {
            // Paths of nodes are absolute, so the folder does not matter.
            // SAFETY: the program's arguments are those of the C function.
            match unsafe { files::open(path, flags) } {
                Some(fd) => fd,
                // SAFETY: as above.
                None => unsafe { real!($c as OpenAt)(folder, path, flags, mode) },
            }
        }
    )*};
}

opens_at! {
    openat: c"openat",
    openat64: c"openat64",
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    files::close(fd);
    // SAFETY: the program's argument is that of the C function.
    unsafe { real!(c"close" as Close)(fd) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the program promises to the kernel what the model asks for.
    match unsafe { files::ioctl(fd, request, argument) } {
        Some(answer) => answer,
        // SAFETY: the program's arguments are those of the C function.
        None => unsafe { real!(c"ioctl" as Ioctl)(fd, request, argument) },
    }
}

macro_rules! stats {
    ($($name:ident: $c:literal,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, status: *mut c_void) -> c_int {
            // SAFETY: the program's arguments are those of the C function.
            match unsafe { files::stat(path, status) } {
                Some(answer) => answer,
                // SAFETY: as above.
                None => unsafe { real!($c as Stat)(path, status) },
            }
        }
    )*};
}

stats! {
    stat: c"stat",
    stat64: c"stat64",
}

macro_rules! xstats {
    ($($name:ident: $c:literal,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(version: c_int, path: *const c_char, status: *mut c_void) -> c_int {
            // SAFETY: the program's arguments are those of the C function.
            match unsafe { files::stat(path, status) } {
                Some(answer) => answer,
                // SAFETY: as above.
                None => unsafe { real!($c as Xstat)(version, path, status) },
            }
        }
    )*};
}

xstats! {
    __xstat: c"__xstat",
    __xstat64: c"__xstat64",
}

macro_rules! maps {
    ($($name:ident,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            address: *mut c_void,
            length: usize,
            protection: c_int,
            flags: c_int,
            fd: c_int,
            offset: i64,
        ) -> *mut c_void {
            // SAFETY: the program's arguments are those of the C function.
            if let Some(page) = unsafe { files::mmap(address, length, flags, fd, offset) } {
                return page;
            }
            // Straight into the kernel: allocators call this before anything can be looked up.
            // SAFETY: as above.
            let result = unsafe {
                libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, offset)
            };
            std::ptr::with_exposed_provenance_mut(result as usize)
        }
    )*};
}

maps! { mmap, mmap64, }

#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, length: usize) -> c_int {
    files::munmap(address, length);
    // SAFETY: the program's arguments are those of the C function.
    unsafe { libc::syscall(libc::SYS_munmap, address, length) as c_int }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    match netlink::socket(domain, kind, protocol) {
        Some(fd) => fd,
        // SAFETY: the program's arguments are those of the C function.
        None => unsafe { real!(c"socket" as Socket)(domain, kind, protocol) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const c_void, length: libc::socklen_t) -> c_int {
    if netlink::is_socket(fd) {
        return 0;
    }
    // SAFETY: the program's arguments are those of the C function.
    unsafe { real!(c"bind" as Bind)(fd, address, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getsockname(
    fd: c_int,
    address: *mut c_void,
    length: *mut libc::socklen_t,
) -> c_int {
    if netlink::is_socket(fd) {
        // SAFETY: the program's arguments are those of the C function.
        unsafe { netlink::fill_address(address, length, sys::process() as u32) };
        return 0;
    }
    // SAFETY: as above.
    unsafe { real!(c"getsockname" as GetName)(fd, address, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> c_int {
    if netlink::takes_option(fd, level) {
        return 0;
    }
    // SAFETY: the program's arguments are those of the C function.
    unsafe { real!(c"setsockopt" as SetOption)(fd, level, name, value, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendmsg(
    fd: c_int,
    message: *const libc::msghdr,
    flags: c_int,
) -> isize {
    if state::is_ours(fd) && !message.is_null() {
        // SAFETY: the program's message names that many pieces.
        let pieces = unsafe {
            match (*message).msg_iovlen {
                0 => &[][..],
                count => std::slice::from_raw_parts((*message).msg_iov, count),
            }
        };
        // SAFETY: the pieces are the program's, readable.
        if let Some(sent) = unsafe { netlink::send(fd, pieces) } {
            return sent;
        }
    }
    // SAFETY: the program's arguments are those of the C function.
    unsafe { real!(c"sendmsg" as SendMsg)(fd, message, flags) }
}

/// One piece to a netlink socket.
///
/// # Safety
///
/// The bytes are readable.
unsafe fn send_piece(fd: c_int, bytes: *const c_void, length: usize) -> Option<isize> {
    let piece = libc::iovec {
        iov_base: bytes.cast_mut(),
        iov_len: length,
    };
    // SAFETY: the caller's promise.
    unsafe { netlink::send(fd, &[piece]) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn send(
    fd: c_int,
    bytes: *const c_void,
    length: usize,
    flags: c_int,
) -> isize {
    // SAFETY: the program's arguments are those of the C function.
    match unsafe { send_piece(fd, bytes, length) } {
        Some(sent) => sent,
        // SAFETY: as above.
        None => unsafe { real!(c"send" as Send)(fd, bytes, length, flags) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sendto(
    fd: c_int,
    bytes: *const c_void,
    length: usize,
    flags: c_int,
    address: *const c_void,
    address_length: libc::socklen_t,
) -> isize {
    // SAFETY: the program's arguments are those of the C function.
    match unsafe { send_piece(fd, bytes, length) } {
        Some(sent) => sent,
        // SAFETY: as above.
        None => unsafe {
            real!(c"sendto" as SendTo)(fd, bytes, length, flags, address, address_length)
        },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) -> isize {
    let netlink = netlink::is_socket(fd) && !message.is_null();
    let mut room = 0;
    if netlink {
        // SAFETY: the message is the program's.
        room = unsafe { (*message).msg_namelen };
    }
    // SAFETY: the program's arguments are those of the C function.
    let received = unsafe { real!(c"recvmsg" as ReceiveMsg)(fd, message, flags) };
    if netlink && received >= 0 {
        // SAFETY: the message is the program's, whose address has `room` bytes.
        unsafe {
            (*message).msg_namelen = room;
            netlink::fill_address((*message).msg_name, &raw mut (*message).msg_namelen, 0);
        }
    }
    received
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn recvfrom(
    fd: c_int,
    bytes: *mut c_void,
    length: usize,
    flags: c_int,
    address: *mut c_void,
    address_length: *mut libc::socklen_t,
) -> isize {
    let netlink = netlink::is_socket(fd) && !address_length.is_null();
    let mut room = 0;
    if netlink {
        // SAFETY: the length is the program's.
        room = unsafe { *address_length };
    }
    let real = real!(c"recvfrom" as ReceiveFrom);
    // SAFETY: the program's arguments are those of the C function.
    let received = unsafe { real(fd, bytes, length, flags, address, address_length) };
    if netlink && received >= 0 {
        // SAFETY: the address is the program's and has `room` bytes.
        unsafe {
            *address_length = room;
            netlink::fill_address(address, address_length, 0);
        }
    }
    received
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the program's arguments are those of the C function.
    unsafe { trap::sigaction(signal, new, old) }
}

macro_rules! signals {
    ($($name:ident: $c:literal, $flags:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(number: c_int, handler: usize) -> usize {
            match trap::signal(number, handler, $flags) {
                Some(before) => before,
                // SAFETY: the program's arguments are those of the C function.
                None => unsafe { real!($c as Signal)(number, handler) },
            }
        }
    )*};
}

signals! {
    signal: c"signal", libc::SA_RESTART;
    bsd_signal: c"bsd_signal", libc::SA_RESTART;
    ssignal: c"ssignal", libc::SA_RESTART;
    sysv_signal: c"sysv_signal", libc::SA_RESETHAND | libc::SA_NODEFER;
    __sysv_signal: c"__sysv_signal", libc::SA_RESETHAND | libc::SA_NODEFER;
}

macro_rules! masks {
    ($($name:ident: $c:literal,)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            how: c_int,
            set: *const libc::sigset_t,
            old: *mut libc::sigset_t,
        ) -> c_int {
            let real = real!($c as Mask);
            // SAFETY: the program's arguments are those of the C function.
            unsafe {
                match trap::without_fault(how, set) {
                    Some(less) => real(how, &less, old),
                    None => real(how, set, old),
                }
            }
        }
    )*};
}

masks! {
    sigprocmask: c"sigprocmask",
    pthread_sigmask: c"pthread_sigmask",
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaltstack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int {
    // SAFETY: the program's arguments are those of the C function.
    unsafe { stacks::sigaltstack(new, old) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the program's arguments are those of the C function.
    unsafe { stacks::create(thread, attributes, start, argument) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mana_model_control(
    command: *const c_char,
    answer: *mut c_char,
    size: usize,
) -> c_long {
    // SAFETY: the program's arguments are those of the C function.
    unsafe { control::command(command, answer, size) }
}

#[unsafe(no_mangle)]
extern "C" fn mana_model_step() -> c_long {
    control::step()
}
