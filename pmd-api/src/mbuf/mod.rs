//! Packet buffers.

mod chain;
mod clone;
mod copy;
#[cfg(all(test, not(mana_loom)))]
mod model;
mod packet;
#[cfg(all(test, not(mana_loom)))]
mod tests;

pub use chain::{SegmentRef, Segments, SegmentsMut};

use std::mem::ManuallyDrop;
use std::slice;
use std::sync::atomic::Ordering;

use crate::meta::{Handle, Line, REFERENCES};
use crate::pool::{self, Lines};
use crate::{HEADROOM, PoolId};

/// An owned packet: one segment, or a chain of them. 8 bytes; dropping it sends its buffers home.
///
/// The data of a segment lies in a buffer between a headroom and a tailroom:
/// [`prepend`](Mbuf::prepend) and [`adj`](Mbuf::adj) move its start, [`append`](Mbuf::append) and
/// [`trim`](Mbuf::trim) its end.
#[repr(transparent)]
pub struct Mbuf(Handle);

// SAFETY: the owner of an mbuf has its line, save for the reference count, which is atomic, and
// its data: exclusively or, with clones, to read. The way home is made for any thread.
unsafe impl Send for Mbuf {}
// SAFETY: through a shared borrow the line and the data are only read.
unsafe impl Sync for Mbuf {}

const _: () = assert!(size_of::<Option<Mbuf>>() == 8);

/// Why an operation on an mbuf was refused. The mbuf is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MbufError {
    /// Not enough room before the data.
    #[error("{wanted} bytes to prepend, headroom of {headroom}")]
    Headroom {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes there are.
        headroom: usize,
    },
    /// Not enough room behind the data.
    #[error("{wanted} bytes to append, tailroom of {tailroom}; chain another mbuf")]
    Tailroom {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes there are.
        tailroom: usize,
    },
    /// The segment has fewer bytes than are to be cut off.
    #[error("{wanted} bytes to cut off a segment of {len}")]
    TooShort {
        /// Bytes to cut off.
        wanted: usize,
        /// Bytes of the segment.
        len: usize,
    },
    /// Others refer to the buffer, or it is external memory; it can only be read.
    #[error("the buffer is shared with clones or external memory; copy the packet to write")]
    Shared,
    /// A packet has at most 65535 segments.
    #[error("{segments} segments, at most 65535 can be chained")]
    TooManySegments {
        /// Segments the chain would have.
        segments: usize,
    },
    /// A buffer has at most 65534 clones.
    #[error("the buffer has 65534 clones already")]
    TooManyClones,
    /// No such piece of external memory can be a segment.
    #[error("bytes {start}..{end} of {len}; a segment lies within and has at most 65535")]
    Piece {
        /// First byte.
        start: usize,
        /// Behind the last one.
        end: usize,
        /// Bytes of the memory.
        len: usize,
    },
    /// The pool does not have the free buffers that are needed.
    #[error("no buffer is free; give the pool more buffers")]
    PoolExhausted,
}

impl Mbuf {
    /// # Safety
    /// The line is the caller's: a free one, or one whose mbuf was taken apart.
    #[inline]
    pub(crate) unsafe fn from_handle(handle: Handle) -> Self {
        Self(handle)
    }

    /// Takes the mbuf apart; it is not dropped.
    #[inline]
    pub(crate) fn into_handle(self) -> Handle {
        ManuallyDrop::new(self).0
    }

    /// The first line. A copy, which means nothing by itself.
    #[inline]
    pub(crate) fn handle(&self) -> Handle {
        self.0
    }

    #[inline]
    pub(crate) fn line(&self) -> &Line {
        // SAFETY: the line is this mbuf's, so its pool is alive. Cells of it are written only by
        // methods that borrow the mbuf exclusively.
        unsafe { self.0.line() }
    }

    /// The bytes of the first segment.
    #[inline]
    pub fn data(&self) -> &[u8] {
        line_data(self.line())
    }

    /// The bytes of the first segment, to write; `None` if the buffer is shared with clones.
    #[inline]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        if self.is_shared() {
            return None;
        }
        Some(self.exclusive_data())
    }

    /// The bytes of the first segment, whose buffer the caller knows not to be shared.
    #[inline]
    fn exclusive_data(&mut self) -> &mut [u8] {
        let line = self.line();
        // SAFETY: offset and length lie within the buffer; its memory is initialised (the region
        // was mapped zeroed) and stays mapped while the mbuf is out. No other reference to it
        // exists (checked by the caller), and this one borrows the mbuf exclusively, so none can be
        // made.
        unsafe { slice::from_raw_parts_mut(line.data(), line.data_len.get() as usize) }
    }

    /// Bytes of the first segment.
    #[inline]
    pub fn data_len(&self) -> usize {
        self.line().data_len.get() as usize
    }

    /// Bytes of all segments.
    #[inline]
    pub fn packet_len(&self) -> usize {
        self.line().pkt_len.get() as usize
    }

    /// Number of segments, at least 1.
    #[inline]
    pub fn segments(&self) -> usize {
        self.line().segments() as usize
    }

    /// Bytes that can be prepended.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.line().data_off.get())
    }

    /// Bytes that can be appended: those behind the data of the last segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        tailroom(self.last().line())
    }

    /// The port the packet came in through; 65535 if it was not received.
    #[inline]
    pub fn port(&self) -> u16 {
        self.line().port.get()
    }

    /// Sets the port.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        self.line().port.set(port);
    }

    /// A word that is the application's. Receiving, allocating and dropping leave it as it is.
    #[inline]
    pub fn app_word(&self) -> u64 {
        self.line().app.get()
    }

    /// Sets the application's word.
    #[inline]
    pub fn set_app_word(&mut self, word: u64) {
        self.line().app.set(word);
    }

    /// Whether others, clones or what this is a clone of, refer to the first segment's buffer, or it
    /// is external memory: then it can only be read.
    #[inline]
    pub fn is_shared(&self) -> bool {
        if self.line().origin.get().is_external() {
            return true;
        }
        // Acquire: the accesses of a clone that is gone come before ours.
        let owner = if self.line().origin.get().is_clone() {
            self.owner_of_clone()
        } else {
            self.0
        };
        // SAFETY: this mbuf's reference keeps the pool of the buffer alive, and only `head` of a
        // line that may be another's is read.
        unsafe { owner.line() }.head.load(Ordering::Acquire) & REFERENCES != 1
    }

    /// The line whose buffer this clone refers to.
    #[cold]
    fn owner_of_clone(&self) -> Handle {
        // SAFETY: this mbuf's line keeps its pool alive.
        let depot = unsafe { Lines::depot_of(self.0) };
        // SAFETY: as above.
        let lines = &unsafe { depot.as_ref() }.body().lines;
        lines
            .owner_of(self.0)
            .expect("a clone's line has an owner of its buffer")
    }

    /// Adds `count` bytes before the data, whose contents are whatever the buffer held, and returns
    /// them.
    ///
    /// # Errors
    /// The buffer is shared, or the headroom too small.
    pub fn prepend(&mut self, count: usize) -> Result<&mut [u8], MbufError> {
        let line = self.line();
        let headroom = self.headroom();
        if count > headroom {
            return Err(MbufError::Headroom {
                wanted: count,
                headroom,
            });
        }
        if self.is_shared() {
            return Err(MbufError::Shared);
        }
        // Headroom and data lie in one buffer of at most 65535 bytes; a chain has at most 65535.
        line.data_off.set((headroom - count) as u16);
        line.data_len.set(line.data_len.get() + count as u32);
        line.pkt_len.set(line.pkt_len.get() + count as u32);
        Ok(&mut self.exclusive_data()[..count])
    }

    /// Adds `count` bytes behind the data of the last segment, whose contents are whatever the
    /// buffer held, and returns them.
    ///
    /// # Errors
    /// The last segment's buffer is shared, or its tailroom too small.
    pub fn append(&mut self, count: usize) -> Result<&mut [u8], MbufError> {
        let mut last = self.last();
        let tailroom = tailroom(last.line());
        if count > tailroom {
            return Err(MbufError::Tailroom {
                wanted: count,
                tailroom,
            });
        }
        if last.is_shared() {
            return Err(MbufError::Shared);
        }
        let len = last.line().data_len.get();
        last.line().data_len.set(len + count as u32);
        let line = self.line();
        line.pkt_len.set(line.pkt_len.get() + count as u32);
        let data = std::ptr::from_mut(&mut last.exclusive_data()[len as usize..]);
        // SAFETY: `last` is a segment of this mbuf, which the result borrows exclusively.
        Ok(unsafe { &mut *data })
    }

    /// Cuts `count` bytes off the front of the first segment.
    ///
    /// # Errors
    /// It has fewer.
    pub fn adj(&mut self, count: usize) -> Result<(), MbufError> {
        let line = self.line();
        let len = self.data_len();
        if count > len {
            return Err(MbufError::TooShort { wanted: count, len });
        }
        line.data_off.set(line.data_off.get() + count as u16);
        line.data_len.set((len - count) as u32);
        line.pkt_len.set(line.pkt_len.get() - count as u32);
        Ok(())
    }

    /// Cuts `count` bytes off the end of the last segment.
    ///
    /// # Errors
    /// It has fewer.
    pub fn trim(&mut self, count: usize) -> Result<(), MbufError> {
        let last = self.last();
        let len = last.data_len();
        if count > len {
            return Err(MbufError::TooShort { wanted: count, len });
        }
        last.line().data_len.set((len - count) as u32);
        let line = self.line();
        line.pkt_len.set(line.pkt_len.get() - count as u32);
        Ok(())
    }

    /// Drops all segments but the first and makes that as [`Pool::alloc`](crate::Pool::alloc) gives
    /// it: empty, data after the headroom, no port, no offloads. If it is a clone, or has some, its
    /// data starts where the headroom ends all the same.
    pub fn reset(&mut self) {
        drop(self.unchain());
        let line = self.line();
        let origin = line.origin.get();
        // A piece of external memory may be shorter than a headroom.
        let headroom = (HEADROOM as u16).min(origin.length());
        line.data_off.set(headroom);
        line.port.set(u16::MAX);
        line.pkt_len.set(0);
        line.data_len.set(0);
        line.hash.set(0);
        line.rx.set(0);
        line.tx.set(0);
    }

    /// For drivers: whether nobody else refers to the packet's buffer, it is the mbuf's own, and the
    /// only segment.
    #[inline]
    pub fn is_simple(&self) -> bool {
        self.line().is_simple()
    }

    /// For drivers: the pool, or external memory, of the buffer that holds the first segment's data,
    /// under whose memory key a device reaches it. A clone's is that of the mbuf it was cloned from.
    #[inline]
    pub fn buffer_pool(&self) -> PoolId {
        PoolId(self.line().origin.get().pool())
    }

    /// For drivers: the address of the first byte of data.
    #[inline]
    pub fn data_address(&self) -> u64 {
        self.line().data().addr() as u64
    }
}

/// Bytes behind the data of a segment.
#[inline]
fn tailroom(line: &Line) -> usize {
    let end = u32::from(line.data_off.get()) + line.data_len.get();
    (u32::from(line.origin.get().length()) - end) as usize
}

/// The bytes of a segment. The result must not outlive the borrow of the mbuf it belongs to.
#[inline]
fn line_data(line: &Line) -> &[u8] {
    // SAFETY: offset and length lie within the buffer; its memory is initialised (the region was
    // mapped zeroed) and stays mapped while the mbuf is out. Exclusive borrows of it exist only
    // while its mbuf is borrowed exclusively and no clone exists.
    unsafe { slice::from_raw_parts(line.data(), line.data_len.get() as usize) }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the line is this mbuf's, which ends here.
        unsafe { pool::drop_one(self.0) }
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mbuf")
            .field("packet_len", &self.packet_len())
            .field("segments", &self.segments())
            .field("port", &self.port())
            .field("pool", &self.buffer_pool())
            .field("shared", &self.is_shared())
            .finish_non_exhaustive()
    }
}
