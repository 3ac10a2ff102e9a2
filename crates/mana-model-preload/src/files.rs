//! The uverbs node as the program has it: open, stat, ioctl, mmap, munmap and close. Each answers
//! `None` where the call is none of ours, which then goes on to the C library.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::gate::{self, Held};
use crate::state::{self, Open, PAGE};
use crate::{report, sys, trap};

const PREFIX: &[u8] = b"/dev/infiniband/";
/// What stands in for a node: a character device with a number, for `fstat`.
const STAND_IN: &CStr = c"/dev/null";

/// Runs something of the model's with the gate held. A panic ends the process: it must not cross
/// into C.
pub(crate) fn inside<T>(run: impl FnOnce(&Held) -> T) -> T {
    let held = gate::enter();
    match catch_unwind(AssertUnwindSafe(|| run(&held))) {
        Ok(value) => value,
        Err(_) => sys::fatal(format_args!(
            "the device model panicked; its message is above"
        )),
    }
}

/// The name of the uverbs node at `path`.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero.
unsafe fn node_name<'a>(path: *const c_char) -> Option<&'a str> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(path) }
        .to_bytes()
        .strip_prefix(PREFIX)?;
    let number = name.strip_prefix(b"uverbs")?;
    let known = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    (known && state::wanted())
        .then(|| std::str::from_utf8(name).ok())
        .flatten()
}

/// # Safety
///
/// As [`node_name`].
pub(crate) unsafe fn open(path: *const c_char, flags: c_int) -> Option<c_int> {
    // SAFETY: the caller's promise.
    let name = unsafe { node_name(path) }?;
    Some(inside(|held| {
        let node = match state::state(held).model.open_node(name) {
            Ok(node) => node,
            Err(errno) => return sys::fail(errno.0),
        };
        // SAFETY: the path is a string that ends with a zero.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                STAND_IN.as_ptr(),
                libc::O_RDWR | flags & (libc::O_CLOEXEC | libc::O_NONBLOCK),
                0,
            )
        } as c_int;
        if fd < 0 {
            return fd;
        }
        if state::enter(held, fd, Open::Node(Arc::new(node))).is_err() {
            // SAFETY: the descriptor was opened right here.
            unsafe { libc::syscall(libc::SYS_close, fd) };
            return sys::fail(libc::EMFILE);
        }
        fd
    }))
}

/// # Safety
///
/// As [`node_name`], and `status` takes a `struct stat`.
pub(crate) unsafe fn stat(path: *const c_char, status: *mut c_void) -> Option<c_int> {
    // SAFETY: the caller's promise.
    let name = unsafe { node_name(path) }?;
    let known = inside(|held| {
        let devices = state::state(held).model.system().ib_devices();
        devices.is_ok_and(|devices| devices.iter().any(|device| device.node == name))
    });
    if !known {
        return Some(sys::fail(libc::ENOENT));
    }
    // SAFETY: the caller's buffer takes a struct stat, whose layout is the kernel's on this
    // architecture.
    let result = unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            libc::AT_FDCWD,
            STAND_IN.as_ptr(),
            status,
            0,
        )
    };
    Some(result as c_int)
}

/// # Safety
///
/// That of [`mana_model::Node::ioctl`], of the program that makes the call.
pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> Option<c_int> {
    if !state::is_ours(fd) {
        return None;
    }
    inside(|held| {
        let Some(Open::Node(node)) = state::find(held, fd) else {
            return None;
        };
        // SAFETY: the caller's promise.
        Some(
            match unsafe { node.ioctl(request as u32, argument.cast()) } {
                Ok(()) => 0,
                Err(errno) => sys::fail(errno.0),
            },
        )
    })
}

/// # Safety
///
/// That of the system call: with `MAP_FIXED` the range at `address` is replaced.
pub(crate) unsafe fn mmap(
    address: *mut c_void,
    length: usize,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> Option<*mut c_void> {
    if fd < 0 || !state::is_ours(fd) {
        return None;
    }
    inside(|held| {
        let Some(Open::Node(node)) = state::find(held, fd) else {
            return None;
        };
        // The kernel's rules (reference/mana-hardware.md §4.4).
        if offset != 0 || length != PAGE || flags & libc::MAP_SHARED == 0 {
            sys::set_errno(libc::EINVAL);
            return Some(libc::MAP_FAILED);
        }
        if let Err(errno) = node.map_doorbells() {
            sys::set_errno(errno.0);
            return Some(libc::MAP_FAILED);
        }
        let trapped = state::state(held).trapped();
        let protection = if trapped {
            trap::install();
            libc::PROT_READ
        } else {
            libc::PROT_READ | libc::PROT_WRITE
        };
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | flags & libc::MAP_FIXED;
        // SAFETY: the caller's promise about a fixed address; else nothing is replaced.
        let base = unsafe {
            libc::syscall(
                libc::SYS_mmap,
                address,
                length,
                protection,
                flags,
                -1 as c_long,
                0 as c_long,
            )
        };
        if base == -1 {
            return Some(libc::MAP_FAILED);
        }
        let page = std::ptr::with_exposed_provenance_mut::<c_void>(base as usize);
        if !trapped {
            // SAFETY: the page was mapped right here; the program stores whole doorbells to it, and
            // `munmap` takes the node's pages away only together with the node.
            unsafe { node.watch_page(page.cast()) };
        }
        if !state::map_page(held, base as usize, Arc::clone(node)) {
            // SAFETY: the page was mapped right here.
            unsafe { libc::syscall(libc::SYS_munmap, page, length) };
            sys::set_errno(libc::ENOMEM);
            return Some(libc::MAP_FAILED);
        }
        Some(page)
    })
}

/// Forgets the doorbell pages in a range that is about to be unmapped.
pub(crate) fn munmap(address: *mut c_void, length: usize) {
    let (start, length) = (address.addr(), length.next_multiple_of(PAGE));
    while let Some(base) = state::page_inside(start, length) {
        inside(|held| {
            if let Some(node) = state::unmap_page(held, base) {
                node.forget_page();
            }
        });
    }
}

/// Forgets a descriptor that is about to be closed. Once nothing of it is left, the context closes.
pub(crate) fn close(fd: c_int) {
    // Whoever holds the gate closes a descriptor of this library: an entry of that number is of one
    // that was closed behind our back.
    if !state::is_ours(fd) || gate::held_here() {
        return;
    }
    inside(|held| {
        let Some(open) = state::leave(held, fd) else {
            return;
        };
        let was_node = matches!(open, Open::Node(_));
        drop(open);
        if was_node {
            report::write(held);
        }
    });
}
