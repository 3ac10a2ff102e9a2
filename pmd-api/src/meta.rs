//! The metadata line of a packet buffer: 64 bytes of private memory that no device can reach.

use std::cell::Cell;
use std::mem::{offset_of, size_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::HEADROOM;

/// One metadata line. The first 32 bytes are what a receive writes at once.
///
/// The fields are cells because a line is reached through [`Handle`]s: its [`Mbuf`](crate::Mbuf)
/// has it alone, save for `head`, in which the clones of its buffer count.
///
/// A line of a pool's free memory (at home, or in the hand of nobody but an allocator) keeps this:
/// reference count 1, one segment, no next, its own buffer, and
/// `data_off + data_len <= buffer length`. So does the line of a packet that [`Line::is_simple`].
#[repr(C, align(64))]
pub(crate) struct Line {
    /// Bits 0-15 count the references to the line's own buffer, or the external memory in its place: the line's mbuf, unless it is
    /// dropped, and every clone. Bits 16-31 are the number of segments; right in the first one.
    pub(crate) head: AtomicU32,
    /// From the buffer's address to the first byte of data.
    pub(crate) data_off: Cell<u16>,
    pub(crate) port: Cell<u16>,
    /// Bytes in all segments; right in the first one.
    pub(crate) pkt_len: Cell<u32>,
    /// Bytes in this segment.
    pub(crate) data_len: Cell<u32>,
    pub(crate) hash: Cell<u32>,
    pub(crate) rx: Cell<u32>,
    pub(crate) tx: Cell<u64>,
    pub(crate) next: Cell<Option<Handle>>,
    /// Start of the buffer that holds the data: the line's own one, another's in a clone, or a piece
    /// of external memory.
    pub(crate) address: Cell<*mut u8>,
    pub(crate) origin: Cell<Origin>,
    pub(crate) app: Cell<u64>,
}

const _: () = {
    assert!(size_of::<Line>() == 64 && align_of::<Line>() == 64);
    assert!(offset_of!(Line, head) == 0 && size_of::<AtomicU32>() == 4);
    assert!(offset_of!(Line, data_off) == 4);
    assert!(offset_of!(Line, port) == 6);
    assert!(offset_of!(Line, pkt_len) == 8);
    assert!(offset_of!(Line, data_len) == 12);
    assert!(offset_of!(Line, hash) == 16);
    assert!(offset_of!(Line, rx) == 20);
    assert!(offset_of!(Line, tx) == 24);
    assert!(offset_of!(Line, next) == 32 && size_of::<Option<Handle>>() == 8);
    assert!(offset_of!(Line, address) == 40);
    assert!(offset_of!(Line, origin) == 48 && size_of::<Origin>() == 8);
    assert!(offset_of!(Line, app) == 56);
    // `head` is two 16-bit fields, reference count first; receives write words of 64 bits.
    assert!(cfg!(target_endian = "little"));
};

/// `head` of a line with one reference and one segment.
pub(crate) const SINGLE: u32 = 1 | 1 << SEGMENTS;
/// Position of the number of segments in `head`.
pub(crate) const SEGMENTS: u32 = 16;
/// Bits of the reference count in `head`.
pub(crate) const REFERENCES: u32 = 0xFFFF;

/// Where the data is: id of the buffer's pool or external memory (low half), buffer length in bytes
/// with the headroom, whether the buffer is another line's, and whether it is external memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Origin(u64);

impl Origin {
    const CLONE: u64 = 1 << 63;
    const EXTERNAL: u64 = 1 << 62;
    /// The first bit behind pool and length. From here on those of an own buffer are clear.
    pub(crate) const SPARE: u32 = 48;

    pub(crate) fn own(pool: u32, length: u16) -> Self {
        Self(u64::from(pool) | u64::from(length) << 32)
    }

    /// The same buffer, as seen from a line whose own one it is not.
    pub(crate) fn to_clone(self) -> Self {
        Self(self.0 | Self::CLONE)
    }

    /// A piece of external memory, as seen from the line that counts its references.
    pub(crate) fn external(id: u32, length: u16) -> Self {
        Self(u64::from(id) | u64::from(length) << 32 | Self::EXTERNAL)
    }

    /// A buffer of the same pool as seen from its own line. Of external memory no line is so.
    #[inline]
    pub(crate) fn to_own(self) -> Self {
        Self(self.0 & !(Self::CLONE | Self::EXTERNAL))
    }

    /// Whether the buffer is the line's own.
    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.0 & (Self::CLONE | Self::EXTERNAL) == 0
    }

    /// All of it. The bits from [`Origin::SPARE`] on are clear but for the two topmost.
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn is_external(self) -> bool {
        self.0 & Self::EXTERNAL != 0
    }

    #[inline]
    pub(crate) fn is_clone(self) -> bool {
        self.0 & Self::CLONE != 0
    }

    #[inline]
    pub(crate) fn pool(self) -> u32 {
        self.0 as u32
    }

    /// Length of the buffer in bytes, headroom included.
    #[inline]
    pub(crate) fn length(self) -> u16 {
        (self.0 >> 32) as u16
    }
}

impl Line {
    /// A free line whose own buffer of `length` bytes is at `address`.
    pub(crate) fn new(pool: u32, address: *mut u8, length: u16) -> Self {
        Self {
            head: AtomicU32::new(SINGLE),
            data_off: Cell::new(HEADROOM as u16),
            port: Cell::new(u16::MAX),
            pkt_len: Cell::new(0),
            data_len: Cell::new(0),
            hash: Cell::new(0),
            rx: Cell::new(0),
            tx: Cell::new(0),
            next: Cell::new(None),
            address: Cell::new(address),
            origin: Cell::new(Origin::own(pool, length)),
            app: Cell::new(0),
        }
    }

    /// Whether nobody else refers to the buffer, and it is the only segment.
    ///
    /// The load is relaxed: an acquire fence must follow before the buffer is reused, so that the
    /// last accesses of dropped clones come first.
    #[inline]
    pub(crate) fn is_single(&self) -> bool {
        self.head.load(Ordering::Relaxed) == SINGLE
    }

    /// The same, and the buffer is the line's own.
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        self.is_single() && self.origin.get().is_own()
    }

    /// The same, of the buffers of `origin`, which is an own one's.
    #[inline]
    pub(crate) fn is_simple_of(&self, origin: Origin) -> bool {
        self.is_single() && self.origin.get() == origin
    }

    #[inline]
    pub(crate) fn segments(&self) -> u32 {
        self.head.load(Ordering::Relaxed) >> SEGMENTS
    }

    /// Only the line's mbuf changes the number of segments; clones may count beside it.
    pub(crate) fn set_segments(&self, count: u16) {
        let old = self.segments();
        if old == u32::from(count) {
            return;
        }
        // Wraps into nothing: the reference count below is not touched.
        let change = u32::from(count).wrapping_sub(old) << SEGMENTS;
        self.head.fetch_add(change, Ordering::Relaxed);
    }

    /// Adds a reference to the line's own buffer; `false` if 65535 are counted.
    pub(crate) fn add_reference(&self) -> bool {
        self.head
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |head| {
                (head & REFERENCES != REFERENCES).then_some(head.wrapping_add(1))
            })
            .is_ok()
    }

    /// Takes a reference away; `true` if it was the last, in which case the line is alone and its
    /// count is 1 again, as free memory has it.
    pub(crate) fn drop_reference(&self) -> bool {
        // Acquire: the accesses of all other references come before the reuse of the buffer.
        if self.head.load(Ordering::Acquire) & REFERENCES == 1 {
            return true;
        }
        // Release: ours come before it, too.
        let last = self.head.fetch_sub(1, Ordering::AcqRel) & REFERENCES == 1;
        if last {
            self.head.fetch_add(1, Ordering::Relaxed);
        }
        last
    }

    /// The first byte of data.
    #[inline]
    pub(crate) fn data(&self) -> *mut u8 {
        // The offset never exceeds the buffer's length.
        self.address
            .get()
            .wrapping_add(usize::from(self.data_off.get()))
    }
}

/// Writes four words by two stores: a burst's stores outnumber what the processor can hold back, so fewer
/// are faster, although the words must be put together first.
///
/// # Safety
/// `to` is aligned to 16 bytes and valid for writes of 32.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn write_pairs(to: *mut [u64; 2], pairs: [[u64; 2]; 2]) {
    use std::arch::x86_64::{_mm_set_epi64x, _mm_store_si128};
    for (index, [low, high]) in pairs.into_iter().enumerate() {
        // SAFETY: SSE2 is part of x86-64. There are two pairs, so both stores lie in the 32 bytes
        // that the caller lets be written, 16 bytes from one another and thus as aligned as `to` is.
        unsafe {
            let pair = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
            _mm_store_si128(to.add(index).cast(), pair);
        }
    }
}

/// The same.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn write_pairs(to: *mut [u64; 2], pairs: [[u64; 2]; 2]) {
    // SAFETY: the 32 bytes that are written are those the caller lets be written, and `to` is aligned
    // to more than words are.
    unsafe { to.cast::<[[u64; 2]; 2]>().write(pairs) }
}

/// The address of a line. Copies of it mean nothing by themselves: who owns the line is a matter of
/// the type that holds the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Handle(NonNull<Line>);

// SAFETY: an address; what it refers to is reached only through the unsafe `line` and writes below.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    pub(crate) fn new(line: NonNull<Line>) -> Self {
        Self(line)
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> NonNull<Line> {
        self.0
    }

    /// The line.
    ///
    /// # Safety
    /// The line's pool is alive for `'a` (an item of it is not home, or it has a handle), and no
    /// other thread accesses more of the line than `head` while this one does, unless all only
    /// read.
    #[inline]
    pub(crate) unsafe fn line<'a>(self) -> &'a Line {
        // SAFETY: lines are initialised at creation and live as long as their pool.
        unsafe { self.0.as_ref() }
    }

    /// What [`Handle::write_first_half`] takes for a line that came in through `port`: one reference,
    /// one segment, data after the headroom.
    #[inline]
    pub(crate) const fn first_word(port: u16) -> u64 {
        SINGLE as u64 | (HEADROOM as u64) << 32 | (port as u64) << 48
    }

    /// Writes the first 32 bytes: [`Handle::first_word`], and what came with the packet. Reads nothing.
    ///
    /// # Safety
    /// The caller has a line for itself that keeps the invariant of free memory, and
    /// `HEADROOM + len` is at most the length of its buffer.
    #[inline]
    pub(crate) unsafe fn write_first_half(self, first_word: u64, len: u32, hash: u32, rx: u32) {
        let (len, hash, rx) = (u64::from(len), u64::from(hash), u64::from(rx));
        let halves = [[first_word, len | len << 32], [hash | rx << 32, 0]];
        // SAFETY: the caller has the line for itself, so plain stores race with nothing, not even
        // with `head`; 32 of its 64 bytes are written, aligned, with values their fields may have.
        unsafe { write_pairs(self.0.as_ptr().cast(), halves) }
    }
}
