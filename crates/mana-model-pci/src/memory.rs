//! The guest's memory, as far as the client has mapped it for DMA. All unsafe code of this crate is
//! here.
//!
//! The memory is shared with a guest that may change it at any moment, and it goes away when the
//! client says so. No Rust reference into it is made but to an atomic, for one access: words are
//! loaded and stored, bytes are copied by them, and each access holds the lock that unmapping waits
//! for.
//!
//! An access behind the end of a file that was cut short after it was mapped would be a SIGBUS, the end of
//! the server for all. So only files that can't be cut short are mapped: those sealed against it, as
//! QEMU's `memory-backend-memfd` is, and those that take the seal now. All others are reached by
//! system calls ([`Called`]), which is slower and fails where the file ends.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mana_model::hardware::BusMemory;
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};

use crate::called::Called;

/// Most stretches that a client may map: a machine has a few.
const MOST: usize = 4096;

/// Stretches begin and end with pages, so no word lies in two.
const PAGE: u64 = 4096;

/// What a client allows with a stretch of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Guest memory by the addresses of the guest's bus.
#[derive(Default)]
pub(crate) struct GuestMemory {
    /// By address; none overlap.
    stretches: RwLock<Vec<Stretch>>,
    /// Whether the function may reach it: the bus master bit of its command register.
    mastering: AtomicBool,
}

/// One stretch.
struct Stretch {
    address: u64,
    size: u64,
    access: Access,
    /// None where the client handed no file over: then nothing of it can be reached.
    way: Option<Way>,
}

/// How a stretch is reached.
enum Way {
    Mapped(Map),
    Called(Called),
}

impl Way {
    /// To `size` bytes of `file` from `offset` on.
    fn new(file: File, offset: u64, size: u64, access: Access) -> io::Result<Self> {
        // Before its length is looked at: after that it must stay.
        match is_sealed(&file) {
            true => Map::new(&file, offset, size, access).map(Way::Mapped),
            false => Called::new(file, offset, size).map(Way::Called),
        }
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        match self {
            Way::Mapped(map) => {
                map.read(offset, bytes);
                Some(())
            }
            Way::Called(file) => file.read(offset, bytes),
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        match self {
            Way::Mapped(map) => {
                map.write(offset, bytes);
                Some(())
            }
            Way::Called(file) => file.write(offset, bytes),
        }
    }

    fn load(&self, offset: usize) -> Option<u64> {
        match self {
            Way::Mapped(map) => Some(map.word(offset).load(Ordering::Relaxed)),
            Way::Called(file) => {
                let mut word = [0; 8];
                file.read(offset, &mut word)?;
                Some(u64::from_ne_bytes(word))
            }
        }
    }

    /// Stores a word, after all that was stored before if it is the last.
    fn store(&self, offset: usize, word: u64, last: bool) -> Option<()> {
        match self {
            Way::Mapped(map) => {
                // Release: who sees the last word, which holds the owner, sees all others and the
                // payload that was copied before.
                let order = match last {
                    true => Ordering::Release,
                    false => Ordering::Relaxed,
                };
                map.word(offset).store(word, order);
                Some(())
            }
            // One call after the other.
            Way::Called(file) => file.write(offset, &word.to_ne_bytes()),
        }
    }
}

/// Whether nobody can cut the file short, from now on if not before.
fn is_sealed(file: &File) -> bool {
    let sealed = || fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    sealed() || fcntl_add_seals(file, SealFlags::SHRINK).is_ok() && sealed()
}

impl Stretch {
    fn end(&self) -> u64 {
        self.address + self.size
    }
}

impl GuestMemory {
    /// Maps `size` bytes of `file` from byte `offset` on at the bus's `address`.
    pub(crate) fn map(
        &self,
        address: u64,
        size: u64,
        file: Option<File>,
        offset: u64,
        access: Access,
    ) -> io::Result<()> {
        if [address, size, offset].iter().any(|it| it % PAGE != 0) {
            return Err(invalid("a stretch that is not made of pages"));
        }
        let end = address.checked_add(size).filter(|_| size > 0);
        let end = end.ok_or_else(|| invalid("a stretch that is empty or goes round"))?;
        let way = match file {
            Some(file) => Some(Way::new(file, offset, size, access)?),
            None => None,
        };
        let mut stretches = self.all_mut();
        let at = stretches.partition_point(|other| other.address < address);
        let free = at == 0 || stretches[at - 1].end() <= address;
        let free = free && stretches.get(at).is_none_or(|next| end <= next.address);
        if !free {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        if stretches.len() == MOST {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        stretches.insert(
            at,
            Stretch {
                address,
                size,
                access,
                way,
            },
        );
        Ok(())
    }

    /// Unmaps whatever lies inside; on return nobody reaches it any more.
    pub(crate) fn unmap(&self, address: u64, size: u64) -> io::Result<()> {
        let end = address.saturating_add(size);
        let mut stretches = self.all_mut();
        let inside = |it: &Stretch| it.address >= address && it.end() <= end;
        let touched = |it: &Stretch| it.address < end && it.end() > address;
        if stretches.iter().any(|it| touched(it) && !inside(it)) {
            return Err(invalid("a part of a stretch can't be unmapped"));
        }
        stretches.retain(|it| !inside(it));
        Ok(())
    }

    /// Unmaps everything, and lets nothing be reached until [`GuestMemory::set_mastering`].
    pub(crate) fn clear(&self) {
        self.set_mastering(false);
        self.all_mut().clear();
    }

    /// Whether the function may reach memory at all. On return, after `false`, it does not.
    pub(crate) fn set_mastering(&self, on: bool) {
        // Under the lock, so that accesses that began before have ended.
        let _none_runs = self.all_mut();
        self.mastering.store(on, Ordering::Relaxed);
    }

    /// Number of stretches.
    pub(crate) fn stretches(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> RwLockReadGuard<'_, Vec<Stretch>> {
        self.stretches
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> RwLockWriteGuard<'_, Vec<Stretch>> {
        self.stretches
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `access` on the `len` bytes at `address`, piece by piece where they lie in neighbouring
    /// stretches. `None`, and nothing was done, unless all are there and `allowed`; or `access` failed.
    #[inline]
    fn with(
        &self,
        address: u64,
        len: usize,
        allowed: impl Fn(Access) -> bool,
        mut access: impl FnMut(&Way, usize, std::ops::Range<usize>) -> Option<()>,
    ) -> Option<()> {
        let stretches = self.all();
        if !self.mastering.load(Ordering::Relaxed) {
            return None;
        }
        let end = address.checked_add(len as u64)?;
        let first = stretches
            .partition_point(|it| it.address <= address)
            .checked_sub(1)?;
        // Looked at before anything is done, then done.
        for act in [false, true] {
            let mut at = address;
            for stretch in &stretches[first..] {
                if at < stretch.address || at > stretch.end() || !allowed(stretch.access) {
                    return None;
                }
                let way = stretch.way.as_ref()?;
                let until = end.min(stretch.end());
                if act {
                    let done = (at - address) as usize;
                    let now = (until - at) as usize;
                    access(way, (at - stretch.address) as usize, done..done + now)?;
                }
                at = until;
                if at == end {
                    break;
                }
            }
            if at != end {
                return None;
            }
        }
        Some(())
    }
}

impl BusMemory for GuestMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let len = bytes.len();
        self.with(
            address,
            len,
            |access| access.read,
            |way, offset, part| way.read(offset, &mut bytes[part]),
        )
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let allowed = |access: Access| access.write;
        self.with(address, bytes.len(), allowed, |way, offset, part| {
            way.write(offset, &bytes[part])
        })
    }

    fn load(&self, address: u64) -> Option<u64> {
        let mut word = 0;
        let aligned = address.is_multiple_of(8);
        let allowed = |access: Access| access.read && aligned;
        self.with(address, 8, allowed, |way, offset, _| {
            word = way.load(offset)?;
            Some(())
        })?;
        Some(word)
    }

    fn store_entry(&self, address: u64, words: &[u64]) -> Option<()> {
        let last = words.len().checked_sub(1)?;
        let aligned = address.is_multiple_of(8);
        let allowed = |access: Access| access.write && aligned;
        let len = size_of_val(words);
        self.with(address, len, allowed, |way, offset, part| {
            for (place, index) in (part.start / 8..part.end / 8).enumerate() {
                way.store(offset + 8 * place, words[index], index == last)?;
            }
            Some(())
        })
    }
}

/// A piece of a file, mapped and shared.
struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value and is reached by atomics only, from any thread.
unsafe impl Send for Map {}
// SAFETY: as above; nothing is reached otherwise than by atomics, so sharing is no race.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `size` bytes of `file` from `offset` on. The file must be that long, and stay so: what is
    /// behind its end would be a fault at the first access.
    fn new(file: &File, offset: u64, size: u64, access: Access) -> io::Result<Self> {
        if !is_long_enough(file, offset, size) {
            return Err(invalid(SHORTER));
        }
        let (Ok(len), Ok(from)) = (usize::try_from(size), libc::off_t::try_from(offset)) else {
            return Err(invalid("a stretch that is too long"));
        };
        let protection = match (access.read, access.write) {
            (_, true) => libc::PROT_READ | libc::PROT_WRITE,
            (true, false) => libc::PROT_READ,
            (false, false) => libc::PROT_NONE,
        };
        // SAFETY: a new mapping of a file at a place that the kernel chooses touches no memory that
        // exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                from,
            )
        };
        match NonNull::new(base.cast()).filter(|_| base != libc::MAP_FAILED) {
            Some(base) => Ok(Self { base, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    ///
    /// If it is not inside.
    #[inline]
    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len);
        // SAFETY: the byte is inside the mapping, which lives as long as the value that is borrowed.
        // Of this process only this file reaches it, by atomics; what the guest does meanwhile is as
        // if another thread did it by atomics.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }

    /// The word at `offset`, a multiple of 8.
    ///
    /// # Panics
    ///
    /// If it is not inside or not aligned.
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.len && self.len - offset >= 8);
        // SAFETY: the word is inside the mapping, which lives as long as the value that is borrowed
        // and begins with a page, so the word is aligned. It is reached as `byte` says; accesses of
        // both widths to one place are ordered by the lock of the device, of which there is one.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// Copies bytes from `offset` on, in words where it can.
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let head = (offset.next_multiple_of(8) - offset).min(bytes.len());
        let (first, rest) = bytes.split_at_mut(head);
        for (byte, at) in first.iter_mut().zip(offset..) {
            *byte = self.byte(at).load(Ordering::Relaxed);
        }
        let mut at = offset + head;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word(at).load(Ordering::Relaxed).to_ne_bytes());
            at += 8;
        }
        for (byte, at) in words.into_remainder().iter_mut().zip(at..) {
            *byte = self.byte(at).load(Ordering::Relaxed);
        }
    }

    /// Copies bytes to `offset`, in words where it can.
    fn write(&self, offset: usize, bytes: &[u8]) {
        let head = (offset.next_multiple_of(8) - offset).min(bytes.len());
        let (first, rest) = bytes.split_at(head);
        for (byte, at) in first.iter().zip(offset..) {
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
        let mut at = offset + head;
        let words = rest.chunks_exact(8);
        let last = words.remainder();
        for word in words {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            self.word(at).store(word, Ordering::Relaxed);
            at += 8;
        }
        for (byte, at) in last.iter().zip(at..) {
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length and belongs to this value, from
        // which nobody borrows any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Whether a file has `size` bytes from `offset` on.
pub(crate) fn is_long_enough(file: &File, offset: u64, size: u64) -> bool {
    let len = file.metadata().map_or(0, |file| file.size());
    offset.checked_add(size).is_some_and(|end| end <= len)
}

pub(crate) const SHORTER: &str = "a file that is shorter than what is mapped of it";

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
