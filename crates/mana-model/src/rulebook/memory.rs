//! Memory that situations hand to the device: whole pages, mapped for this alone.

use std::io;
use std::ptr::{self, NonNull};

use uverbs_abi::Errno;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// Pages that are zero and stay mapped as long as the value.
pub(super) struct Memory {
    base: NonNull<libc::c_void>,
    bytes: usize,
}

impl Memory {
    pub(super) fn map(bytes: usize) -> Result<Self, Errno> {
        let bytes = bytes.max(1).next_multiple_of(PAGE);
        // SAFETY: no address is asked for, so that no existing mapping is replaced.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(base) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED => Ok(Self { base, bytes }),
            _ => Err(last_errno()),
        }
    }

    /// Takes rights away from the pages that begin at byte `from`: `libc::PROT_READ` or
    /// `libc::PROT_NONE` is what is left.
    pub(super) fn protect(&self, from: usize, rights: libc::c_int) -> Result<(), Errno> {
        assert!(from < self.bytes && from.is_multiple_of(PAGE));
        // SAFETY: inside this value's own mapping, to which there are no references.
        let changed = unsafe {
            let start = self.base.byte_add(from).as_ptr();
            libc::mprotect(start, self.bytes - from, rights)
        };
        if changed == 0 {
            Ok(())
        } else {
            Err(last_errno())
        }
    }

    pub(super) fn address(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length and is owned by this value.
        unsafe { libc::munmap(self.base.as_ptr(), self.bytes) };
    }
}

fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
