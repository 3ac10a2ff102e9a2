//! One open uverbs node.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use uverbs_abi::ids::RDMA_VERBS_IOCTL;
use uverbs_abi::{Attribute, Call, DoorbellKind, Errno, Transport};

use super::ioctl::Command;
use crate::fd::last_errno;

/// A uverbs node of the kernel.
pub(super) struct LinuxTransport {
    /// Mapped by the first doorbell that is asked for: there is no page before GET_CONTEXT.
    page: Mutex<Option<DoorbellPage>>,
    fd: OwnedFd,
}

impl LinuxTransport {
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
        // SAFETY: `path` is a string that ends with a zero and lives during the call.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(last_errno());
        }
        Ok(Self {
            page: Mutex::new(None),
            // SAFETY: the descriptor was opened right here and nobody else has it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
        })
    }
}

// SAFETY: the doorbell page is mapped by this value alone and unmapped only when it is dropped; the
// kernel keeps the mapping valid when the device goes (it puts a dummy page there,
// reference/mana-hardware.md §4.4). Offsets of doorbells are multiples of 8 and inside the page.
// `doorbell` and `open` let the kernel touch nothing else.
unsafe impl Transport for LinuxTransport {
    unsafe fn invoke(&self, call: Call, attributes: &mut [Attribute<'_>]) -> Result<(), Errno> {
        let mut command = Command::lower(call, attributes)?;
        let request = libc::c_ulong::from(RDMA_VERBS_IOCTL);
        // SAFETY: the command is a header with the attributes that it says it has. The addresses
        // in it are those of `attributes`, exclusively borrowed for writes where the kernel writes,
        // and those that the caller promises to keep alive.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), request, command.as_mut_ptr()) };
        if result < 0 {
            return Err(last_errno());
        }
        // SAFETY: the ioctl has just succeeded.
        unsafe { command.write_back(attributes) };
        Ok(())
    }

    fn doorbell(&self, kind: DoorbellKind, _queue_id: u32) -> Result<NonNull<u64>, Errno> {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match &mut *page {
            Some(page) => page,
            none => none.insert(DoorbellPage::map(&self.fd)?),
        };
        Ok(page.cell(kind))
    }
}

/// The context's doorbell page (reference/mana-hardware.md §4.4).
struct DoorbellPage {
    base: NonNull<u64>,
    len: usize,
}

// SAFETY: the value owns the mapping and reads or writes nothing in it; addresses may be handed
// to any thread.
unsafe impl Send for DoorbellPage {}

impl DoorbellPage {
    fn map(fd: &OwnedFd) -> Result<Self, Errno> {
        // SAFETY: sysconf reads a constant of the system.
        let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        // SAFETY: no address is asked for, so that no existing mapping is replaced.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let base = NonNull::new(base.cast()).ok_or(Errno::EFAULT)?;
        Ok(Self { base, len })
    }

    fn cell(&self, kind: DoorbellKind) -> NonNull<u64> {
        debug_assert!(kind.offset() + size_of::<u64>() <= self.len);
        // SAFETY: registers lie in the first 4 KiB of the page, and no page is smaller.
        unsafe { self.base.byte_add(kind.offset()) }
    }
}

impl Drop for DoorbellPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, is owned by this value, and
        // cells are promised only as long as the transport lives.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A plain file stands for the node: its first page is what a store must reach.
    #[test]
    fn doorbells_are_the_three_registers_of_the_page_at_offset_0() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("uverbs0");
        fs::write(&path, [0; 8192]).unwrap();
        let transport = LinuxTransport::open(&path).unwrap();
        for (kind, value) in [
            (DoorbellKind::Send, 0x1111_u64),
            (DoorbellKind::Receive, 0x2222),
            (DoorbellKind::Completion, 0x3333),
        ] {
            let cell = transport.doorbell(kind, 5).unwrap();
            // All queues share the cell of their kind.
            assert_eq!(transport.doorbell(kind, 6).unwrap(), cell);
            // SAFETY: the transport promises an aligned cell that is valid for atomic stores.
            let cell = unsafe { AtomicU64::from_ptr(cell.as_ptr()) };
            cell.store(value, Ordering::Release);
        }
        drop(transport);
        let bytes = fs::read(&path).unwrap();
        // Offsets of reference/mana-hardware.md §2.7.
        for (offset, value) in [(0x000, 0x1111_u64), (0x400, 0x2222), (0x800, 0x3333)] {
            assert_eq!(bytes[offset..offset + 8], value.to_ne_bytes());
        }
    }

    #[test]
    fn a_page_that_cannot_be_mapped_is_an_error() {
        // A socket has no pages.
        let (socket, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let transport = LinuxTransport {
            page: Mutex::new(None),
            fd: socket.into(),
        };
        let error = transport.doorbell(DoorbellKind::Send, 0).unwrap_err();
        assert_eq!(error, Errno::ENODEV);
    }

    #[test]
    fn the_node_is_closed_on_exec() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("uverbs0");
        fs::write(&path, "").unwrap();
        let transport = LinuxTransport::open(&path).unwrap();
        // SAFETY: F_GETFD touches no memory.
        let flags = unsafe { libc::fcntl(transport.fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
