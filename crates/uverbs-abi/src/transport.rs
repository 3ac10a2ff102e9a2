//! One open uverbs context: method calls with typed attributes, and doorbells.

use std::os::fd::{OwnedFd, RawFd};
use std::ptr::NonNull;

use crate::Errno;

/// The method that is called, and in whose driver's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The kernel's driver id of the device (`RDMA_DRIVER_MANA` is 20 upstream, 19 in one Azure
    /// backport); a wrong one is answered with `EINVAL` (reference/mana-hardware.md §5.4).
    pub driver_id: u32,
    /// Object id, see [`crate::ids::object`].
    pub object: u16,
    /// Method id, see [`crate::ids::method`].
    pub method: u16,
}

/// One attribute of a call. An unknown attribute is refused only where it is `mandatory`.
#[derive(Debug)]
pub struct Attribute<'a> {
    /// Attribute id, see [`crate::ids::attr`].
    pub id: u16,
    /// Whether the kernel must know it (flag `UVERBS_ATTR_F_MANDATORY`).
    pub mandatory: bool,
    /// What it carries.
    pub value: Value<'a>,
}

impl<'a> Attribute<'a> {
    /// An attribute the kernel must know.
    #[must_use]
    pub const fn new(id: u16, value: Value<'a>) -> Self {
        Self {
            id,
            mandatory: true,
            value,
        }
    }

    /// An attribute an older kernel may ignore.
    #[must_use]
    pub const fn optional(id: u16, value: Value<'a>) -> Self {
        Self {
            id,
            mandatory: false,
            value,
        }
    }
}

/// The content of an attribute, by direction and kind (reference/mana-hardware.md §5.1).
#[derive(Debug)]
pub enum Value<'a> {
    /// Bytes for the kernel: inline in the attribute up to 8 bytes, behind a pointer above.
    In(&'a [u8]),
    /// Bytes from the kernel. It writes at most this many and zero-fills the rest.
    Out(&'a mut [u8]),
    /// A constant of 8 bytes (enumerations, command numbers).
    Const(u64),
    /// An object that exists.
    Handle(u32),
    /// An object that the call creates; its handle is written here.
    NewHandle(u32),
    /// A file descriptor handed to the kernel, which the caller keeps open.
    Fd(RawFd),
    /// A file descriptor that the call creates, close-on-exec.
    NewFd(Option<OwnedFd>),
}

/// Which register of the doorbell page (offsets: reference/mana-hardware.md §2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DoorbellKind {
    /// Send queue, offset 0x000.
    Send,
    /// Receive queue, offset 0x400.
    Receive,
    /// Completion queue, offset 0x800.
    Completion,
}

impl DoorbellKind {
    /// Offset of the register inside the doorbell page, in bytes.
    #[must_use]
    pub const fn offset(self) -> usize {
        match self {
            Self::Send => 0x000,
            Self::Receive => 0x400,
            Self::Completion => 0x800,
        }
    }
}

/// One open uverbs context (one file descriptor of `/dev/infiniband/uverbsN` on Linux).
///
/// Dropping it closes the context; the kernel then destroys every object that is left.
///
/// # Safety
///
/// An implementation promises that
/// * the cell that [`Transport::doorbell`] returns is 8-byte aligned and valid for 64-bit atomic
///   stores from any thread for as long as the transport is not dropped, whatever happens to the
///   device;
/// * no method but [`Transport::invoke`] lets anything touch memory of the process that the
///   implementation does not own.
pub unsafe trait Transport: Send + Sync {
    /// Calls one method. On success the outputs in `attributes` are filled in.
    ///
    /// # Errors
    ///
    /// The kernel's error number; nothing was created then.
    ///
    /// # Safety
    ///
    /// Attributes may carry addresses (ring buffers in driver data, the start of a memory region)
    /// which the device will read and write from now on. All memory they name must be mapped, must
    /// not be reached through any Rust reference, and must stay so until the object that uses it
    /// was destroyed successfully or the context is closed.
    unsafe fn invoke(&self, call: Call, attributes: &mut [Attribute<'_>]) -> Result<(), Errno>;

    /// The doorbell register for queue `queue_id`. Hardware has one cell a kind for all queues of a
    /// context; a device model that polls gives each queue a cell of its own.
    ///
    /// # Errors
    ///
    /// `mmap`'s error number where the page can't be mapped.
    fn doorbell(&self, kind: DoorbellKind, queue_id: u32) -> Result<NonNull<u64>, Errno>;
}
