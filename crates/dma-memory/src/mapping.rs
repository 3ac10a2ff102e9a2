//! One mapping: the system calls, and nothing that decides.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use libc::{c_int, c_ulong, c_void};

/// `MPOL_BIND` of linux/mempolicy.h: allocate on the given nodes only.
const MPOL_BIND: c_int = 2;
/// Nodes that the mask handed to `mbind` can name.
const MAX_NODES: usize = 1024;

/// An address range this process owns, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Whole range reserved, guard pages included: what is unmapped. Nothing of a range that is
    /// another's.
    reserved: Option<(NonNull<u8>, usize)>,
}

// SAFETY: the mapping is an address range; it belongs to the process, not to a thread, and this
// type hands out no reference into it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` only gives the address and changes nothing.
unsafe impl Sync for Mapping {}

fn checked(address: *mut c_void) -> io::Result<NonNull<u8>> {
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

impl Mapping {
    /// A range that somebody else mapped and will unmap.
    pub(crate) fn of_another(base: NonNull<u8>, len: usize) -> Mapping {
        Mapping {
            base,
            len,
            reserved: None,
        }
    }

    /// Maps `len` bytes of the memfd `fd`, shared. Not populated; a multiple of the page size.
    pub(crate) fn shared(fd: &OwnedFd, len: usize) -> io::Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use; the
        // descriptor is open for the length of the call.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let base = checked(address)?;
        Ok(Mapping {
            base,
            len,
            reserved: Some((base, len)),
        })
    }

    /// Maps `len` bytes of private anonymous memory at a multiple of `align` (a power of two), an
    /// inaccessible page before and after it. Not populated.
    ///
    /// The guards keep the kernel from merging two regions into one line of smaps, whose numbers
    /// would then be a mixture, and turn an overrun by software into a fault.
    pub(crate) fn private(len: usize, align: usize, page: usize) -> io::Result<Mapping> {
        let too_long = || io::Error::from_raw_os_error(libc::ENOMEM);
        let slack = align.max(page) + 2 * page;
        let whole = len.checked_add(slack).ok_or_else(too_long)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let start = checked(address)?;
        let offset = (start.as_ptr().addr() + page).next_multiple_of(align) - start.as_ptr().addr();
        // SAFETY: page <= offset <= align + page, so offset + len + page <= whole: in the mapping.
        let base = unsafe { start.add(offset) };
        // Owned from here on, so that an error below unmaps it.
        let mapping = Mapping {
            base,
            len,
            reserved: Some((start, whole)),
        };
        // SAFETY: the range is the inner part of the mapping made above, which nobody else knows;
        // MAP_FIXED replaces only those pages.
        let address = unsafe {
            libc::mmap(
                base.as_ptr().cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        checked(address)?;
        Ok(mapping)
    }

    /// Address of the first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Usable bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives advice about the whole range.
    pub(crate) fn advise(&self, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::HugePages => libc::MADV_HUGEPAGE,
            Advice::NoHugePages => libc::MADV_NOHUGEPAGE,
            Advice::DontFork => libc::MADV_DONTFORK,
            Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
        };
        loop {
            // SAFETY: the range is this mapping's own, and no advice of the list discards its
            // content.
            let result = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Binds the range to one NUMA node. Works only before the range is populated.
    pub(crate) fn bind(&self, node: u32) -> io::Result<()> {
        const BITS: usize = c_ulong::BITS as usize;
        let mut mask = [0 as c_ulong; MAX_NODES / BITS];
        let word = mask
            .get_mut(node as usize / BITS)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word = 1 << (node as usize % BITS);
        // SAFETY: the range is this mapping's own; the mask lives across the call and holds
        // MAX_NODES bits (the kernel reads one bit less than it is told).
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.as_ptr(),
                self.len,
                MPOL_BIND,
                mask.as_ptr(),
                MAX_NODES + 1,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let Some((start, len)) = self.reserved else {
            return;
        };
        // SAFETY: exactly the range this value mapped; whoever holds its address promised (by
        // keeping the region) not to use it any more.
        let result = unsafe { libc::munmap(start.as_ptr().cast(), len) };
        if result != 0 {
            let error = io::Error::last_os_error();
            tracing::error!(address = ?start, len, %error, "a memory region could not be unmapped");
        }
    }
}

/// Advice to the kernel about a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Advice {
    HugePages,
    NoHugePages,
    /// A child gets no copy: what the device writes after a fork stays visible to the parent.
    DontFork,
    /// Back every page now. An error instead of a SIGBUS at the first touch.
    PopulateWrite,
}

/// A memfd of `len` bytes in hugetlb pages of `page` bytes, whose size nobody can change.
pub(crate) fn hugetlb_file(
    name: &str,
    len: usize,
    page: usize,
) -> Result<OwnedFd, (&'static str, io::Error)> {
    // The kernel takes at most 249 bytes, and no NUL.
    let name: Vec<u8> = name.bytes().filter(|&byte| byte != 0).take(200).collect();
    let name = CString::new(name).unwrap_or_default();
    let size_flag = page.ilog2() << libc::MFD_HUGE_SHIFT;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_HUGETLB | size_flag;
    // SAFETY: the name is a string that ends in NUL and lives across the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(("memfd_create", io::Error::last_os_error()));
    }
    // SAFETY: memfd_create has just returned this descriptor; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = libc::off_t::try_from(len)
        .map_err(|_| ("ftruncate", io::Error::from_raw_os_error(libc::EFBIG)))?;
    // SAFETY: a call with plain numbers on a descriptor this function owns.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), size) } != 0 {
        return Err(("ftruncate", io::Error::last_os_error()));
    }
    // A process the descriptor is shared with could otherwise cut the pages from under the device.
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a call with plain numbers on a descriptor this function owns.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(("fcntl(F_ADD_SEALS)", io::Error::last_os_error()));
    }
    Ok(fd)
}

/// The kernel's base page size in bytes.
pub(crate) fn base_page() -> usize {
    // SAFETY: sysconf has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(crate::page::BASE)
}
