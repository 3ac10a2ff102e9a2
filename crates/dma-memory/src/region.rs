//! The region: one mapping, and the ladder of pages it is tried on.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::hugepages::Machine;
use crate::mapping::{self, Advice, Mapping};
use crate::page::{HUGE_2M, HugePages, PageKind};
use crate::{MemoryError, check_memlock, numa, smaps};

/// How a region is to be backed.
#[derive(Clone, Debug, Default)]
pub struct RegionOptions {
    /// Which pages to try.
    pub huge: HugePages,
    /// The only NUMA node whose memory may be used; `None` leaves it to the kernel.
    pub numa_node: Option<u32>,
}

/// One mapping that a device can be given: zeroed, populated, never moved, unmapped on drop.
///
/// Private regions (all but hugetlb) are not inherited by a forked child.
pub struct Region {
    name: String,
    mapping: Mapping,
    fd: Option<OwnedFd>,
    kind: PageKind,
    page_size: usize,
    numa_node: Option<u32>,
    steps_down: Vec<String>,
    /// Whether [`crate::Segment`]s may be cut from it.
    divisible: bool,
    /// Keeps memory that was not mapped here. Dropped after `mapping`, which then is only a range.
    owner: Option<Box<dyn Any + Send + Sync>>,
}

impl Region {
    /// Maps and populates `len` bytes, rounded up to whole pages of the kind that is got. The name
    /// appears in errors, in the log and, for hugetlb pages, in `/proc/self/maps`.
    ///
    /// # Errors
    /// The error of the last kind that [`RegionOptions::huge`] allows, or a NUMA node or a length
    /// that cannot be. Nothing stays mapped.
    pub fn allocate(
        name: &str,
        len: usize,
        options: &RegionOptions,
    ) -> Result<Region, MemoryError> {
        if len == 0 || len > isize::MAX as usize {
            return Err(MemoryError::Length {
                name: name.to_owned(),
                len,
            });
        }
        if let Some(node) = options.numa_node {
            numa::check(node)?;
        }
        let attempt = Attempt {
            name,
            len,
            node: options.numa_node,
        };
        let mut steps_down = Vec::new();
        let (preferred, last) = options.huge.ladder();
        for &kind in preferred {
            match attempt.map(kind) {
                Ok(mapped) => return attempt.finish(kind, mapped, steps_down),
                Err(error) => steps_down.push(format!("{kind}: {error}")),
            }
        }
        attempt.finish(last, attempt.map(last)?, steps_down)
    }

    /// A region of memory that is there already, of any alignment and kind: the `len` bytes at `base`.
    /// It is indivisible and [read only](Region::is_read_only). `owner` is dropped with the region.
    ///
    /// Its pages are inherited by a forked child as those of `owner` are.
    ///
    /// # Errors
    /// [`MemoryError::Length`] if `len` is 0 or beyond `isize::MAX`.
    ///
    /// # Safety
    /// The bytes are initialised, and valid to be read by this process and by a device, until `owner`
    /// is dropped.
    pub unsafe fn adopt(
        name: &str,
        base: NonNull<u8>,
        len: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Region, MemoryError> {
        if len == 0 || len > isize::MAX as usize {
            return Err(MemoryError::Length {
                name: name.to_owned(),
                len,
            });
        }
        Ok(Region {
            name: name.to_owned(),
            mapping: Mapping::of_another(base, len),
            fd: None,
            kind: PageKind::Base,
            page_size: mapping::base_page(),
            numa_node: None,
            steps_down: Vec::new(),
            divisible: false,
            owner: Some(owner),
        })
    }

    /// Whether no device may write to it, whatever it is registered for: memory that somebody else
    /// may hold references to.
    pub fn is_read_only(&self) -> bool {
        self.owner.is_some()
    }

    /// The name it was allocated under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address of the first byte: a multiple of [`Region::page_size`], but in a region that was
    /// [adopted](Region::adopt).
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    /// Length in bytes, never 0: whole pages, but in a region that was adopted.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// What really backs the region.
    pub fn page_kind(&self) -> PageKind {
        self.kind
    }

    /// Size in bytes of the pages that really back the region.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// The memfd of a hugetlb region, sealed against a change of its size; `None` for others.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Gives the region to one owner for good: no [`crate::Segment`] can be cut from it any more. For
    /// packet buffers, whose bytes are lent out as slices: rings laid over them would let a device
    /// write where a slice is borrowed.
    #[must_use]
    pub fn indivisible(mut self) -> Region {
        self.divisible = false;
        self
    }

    pub(crate) fn is_divisible(&self) -> bool {
        self.divisible
    }

    /// The NUMA node the region is bound to, if one was asked for.
    pub fn numa_node(&self) -> Option<u32> {
        self.numa_node
    }

    /// The kinds of pages that were tried and not got, each with its reason.
    pub fn steps_down(&self) -> &[String] {
        &self.steps_down
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("name", &self.name)
            .field("base", &self.base())
            .field("len", &self.len())
            .field("pages", &self.kind)
            .field("numa_node", &self.numa_node)
            .finish_non_exhaustive()
    }
}

/// What one region asks for, on every rung of its ladder.
struct Attempt<'a> {
    name: &'a str,
    len: usize,
    node: Option<u32>,
}

impl Attempt<'_> {
    fn map(&self, kind: PageKind) -> Result<(Mapping, Option<OwnedFd>), MemoryError> {
        match kind {
            PageKind::Huge1G | PageKind::Huge2M => self.hugetlb(kind.bytes()),
            PageKind::TransparentHuge => match Machine::here().transparent_off() {
                Some(error) => Err(error),
                None => self.private(HUGE_2M, Advice::HugePages),
            },
            PageKind::Base => self.private(mapping::base_page(), Advice::NoHugePages),
        }
    }

    fn hugetlb(&self, page: usize) -> Result<(Mapping, Option<OwnedFd>), MemoryError> {
        let len = self.round_up(page)?;
        let refused = |operation, source| self.refused_hugetlb(operation, len, page, source);
        let fd = mapping::hugetlb_file(self.name, len, page)
            .map_err(|(operation, source)| refused(operation, source))?;
        let mapping = Mapping::shared(&fd, len).map_err(|source| refused("mmap", source))?;
        self.bind(&mapping)?;
        // EFAULT stands for the SIGBUS that a first touch would have been.
        mapping
            .advise(Advice::PopulateWrite)
            .map_err(|source| refused("madvise(MADV_POPULATE_WRITE)", source))?;
        Ok((mapping, Some(fd)))
    }

    fn private(
        &self,
        align: usize,
        pages: Advice,
    ) -> Result<(Mapping, Option<OwnedFd>), MemoryError> {
        let len = self.round_up(align)?;
        let mapping = Mapping::private(len, align, mapping::base_page())
            .map_err(|source| self.refused("mmap", len, source))?;
        self.bind(&mapping)?;
        mapping
            .advise(Advice::DontFork)
            .map_err(|source| self.refused("madvise(MADV_DONTFORK)", len, source))?;
        // A kernel built without transparent huge pages refuses this; it then gives base pages,
        // and smaps says so.
        let _ = mapping.advise(pages);
        mapping
            .advise(Advice::PopulateWrite)
            .map_err(|source| self.refused("madvise(MADV_POPULATE_WRITE)", len, source))?;
        Ok((mapping, None))
    }

    fn bind(&self, mapping: &Mapping) -> Result<(), MemoryError> {
        let Some(node) = self.node else { return Ok(()) };
        match mapping.bind(node) {
            // A kernel without NUMA has one node, and `numa::check` has let only that one pass.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && node == 0 => Ok(()),
            result => result.map_err(|source| self.refused("mbind", mapping.len(), source)),
        }
    }

    fn round_up(&self, page: usize) -> Result<usize, MemoryError> {
        self.len
            .checked_next_multiple_of(page)
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or_else(|| MemoryError::Length {
                name: self.name.to_owned(),
                len: self.len,
            })
    }

    fn refused_hugetlb(
        &self,
        operation: &'static str,
        len: usize,
        page: usize,
        source: io::Error,
    ) -> MemoryError {
        match source.raw_os_error() {
            Some(libc::ENOMEM | libc::EFAULT | libc::ENODEV | libc::ENOENT | libc::ENOSPC) => {
                Machine::here()
                    .explain_hugetlb(len, page, self.node, source)
                    .unwrap_or_else(|source| self.refused(operation, len, source))
            }
            _ => self.refused(operation, len, source),
        }
    }

    fn refused(&self, operation: &'static str, len: usize, source: io::Error) -> MemoryError {
        let name = self.name.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => MemoryError::Permission {
                name,
                operation,
                source,
            },
            // What mmap answers when the process has called mlockall(MCL_FUTURE).
            Some(libc::EAGAIN) => check_memlock(len).err().unwrap_or(MemoryError::System {
                name,
                operation,
                len,
                source,
            }),
            _ => MemoryError::System {
                name,
                operation,
                len,
                source,
            },
        }
    }

    /// Reads back what the kernel gave, says what was stepped over, and hands out the region.
    fn finish(
        &self,
        wanted: PageKind,
        (mapping, fd): (Mapping, Option<OwnedFd>),
        mut steps_down: Vec<String>,
    ) -> Result<Region, MemoryError> {
        let len = mapping.len();
        let backing = smaps::backing(mapping.base().addr().get())
            .map_err(|source| self.refused("read of /proc/self/smaps", len, source))?
            .unwrap_or_default();
        let (kind, page_size) = match wanted {
            PageKind::TransparentHuge if backing.anon_huge == len => (wanted, wanted.bytes()),
            PageKind::TransparentHuge => {
                steps_down.push(format!(
                    "{wanted}: the kernel had them for {} of {} KiB (memory is fragmented, or \
                     prctl(PR_SET_THP_DISABLE) is set)",
                    backing.anon_huge >> 10,
                    len >> 10
                ));
                (PageKind::Base, backing.kernel_page)
            }
            _ => (wanted, backing.kernel_page),
        };
        for step in &steps_down {
            tracing::info!(region = self.name, "stepped down from {step}");
        }
        tracing::debug!(region = self.name, len, pages = %kind, node = ?self.node, "region mapped");
        Ok(Region {
            name: self.name.to_owned(),
            mapping,
            fd,
            kind,
            page_size,
            numa_node: self.node,
            steps_down,
            divisible: true,
            owner: None,
        })
    }
}
