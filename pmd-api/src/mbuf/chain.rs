//! Chains of segments.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::{Mbuf, MbufError, line_data};
use crate::PoolId;
use crate::meta::Handle;

impl Mbuf {
    /// Appends the segments of `tail` to this packet. What `tail` knew as a packet (port, hash,
    /// offloads) is forgotten.
    ///
    /// # Errors
    /// `tail` itself, if the chain would have more than 65535 segments.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), (Mbuf, MbufError)> {
        let segments = self.segments() + tail.segments();
        let Ok(count) = u16::try_from(segments) else {
            return Err((tail, MbufError::TooManySegments { segments }));
        };
        let len = self.packet_len() + tail.packet_len();
        tail.line().set_segments(1);
        tail.line().pkt_len.set(tail.line().data_len.get());
        self.last().line().next.set(Some(tail.into_handle()));
        self.line().set_segments(count);
        // 65535 segments of at most 65535 bytes fit into 32 bits.
        self.line().pkt_len.set(len as u32);
        Ok(())
    }

    /// Takes off everything behind the first segment. The result has no port and no offloads.
    pub fn unchain(&mut self) -> Option<Mbuf> {
        let line = self.line();
        let rest = line.next.take()?;
        // SAFETY: the line behind the first one was this mbuf's, and no chain leads to it now.
        let tail = unsafe { Mbuf::from_handle(rest) };
        tail.line().set_segments((self.segments() - 1) as u16);
        tail.line()
            .pkt_len
            .set(line.pkt_len.get() - line.data_len.get());
        tail.forget_packet();
        line.set_segments(1);
        line.pkt_len.set(line.data_len.get());
        Some(tail)
    }

    /// Port, hash and offloads are as in a packet that was not received, for a line that was within a
    /// chain: what is in it there is left from earlier.
    pub(super) fn forget_packet(&self) {
        let line = self.line();
        line.port.set(u16::MAX);
        line.hash.set(0);
        line.rx.set(0);
        line.tx.set(0);
    }

    /// The last segment, as if it were an mbuf of its own. It is a copy of a handle that this mbuf
    /// owns: not to be dropped, not to outlive `self`.
    pub(super) fn last(&self) -> ManuallyDrop<Mbuf> {
        let mut last = self.0;
        // SAFETY: the lines of a chain belong to its mbuf.
        while let Some(next) = unsafe { last.line() }.next.get() {
            last = next;
        }
        // SAFETY: a line of this mbuf; the caller does not drop it.
        ManuallyDrop::new(unsafe { Mbuf::from_handle(last) })
    }

    /// The segments, in order.
    #[inline]
    pub fn iter(&self) -> Segments<'_> {
        Segments {
            next: Some(self.0),
            of: PhantomData,
        }
    }

    /// The bytes of the segments, in order, to write; `None` for one whose buffer is shared.
    pub fn iter_mut(&mut self) -> SegmentsMut<'_> {
        SegmentsMut {
            next: Some(self.0),
            of: PhantomData,
        }
    }
}

impl<'a> IntoIterator for &'a Mbuf {
    type Item = SegmentRef<'a>;
    type IntoIter = Segments<'a>;

    fn into_iter(self) -> Segments<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Mbuf {
    type Item = Option<&'a mut [u8]>;
    type IntoIter = SegmentsMut<'a>;

    fn into_iter(self) -> SegmentsMut<'a> {
        self.iter_mut()
    }
}

/// One segment of a packet.
#[derive(Clone, Copy)]
pub struct SegmentRef<'a> {
    line: Handle,
    of: PhantomData<&'a Mbuf>,
}

impl<'a> SegmentRef<'a> {
    #[inline]
    fn line(&self) -> &'a crate::meta::Line {
        // SAFETY: a line of the mbuf that is borrowed for 'a.
        unsafe { self.line.line() }
    }

    /// Its bytes.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        line_data(self.line())
    }

    /// Number of its bytes.
    #[inline]
    pub fn data_len(&self) -> usize {
        self.line().data_len.get() as usize
    }

    /// For drivers: the pool of the buffer; see [`Mbuf::buffer_pool`].
    #[inline]
    pub fn buffer_pool(&self) -> PoolId {
        PoolId(self.line().origin.get().pool())
    }

    /// For drivers: the address of its first byte.
    #[inline]
    pub fn data_address(&self) -> u64 {
        self.line().data().addr() as u64
    }
}

impl std::fmt::Debug for SegmentRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentRef")
            .field("data_len", &self.data_len())
            .field("buffer_pool", &self.buffer_pool())
            .finish()
    }
}

/// Iterator over the segments of a packet.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    next: Option<Handle>,
    of: PhantomData<&'a Mbuf>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = SegmentRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<SegmentRef<'a>> {
        let segment = SegmentRef {
            line: self.next?,
            of: PhantomData,
        };
        self.next = segment.line().next.get();
        Some(segment)
    }
}

/// Iterator over the bytes of the segments of a packet.
#[derive(Debug)]
pub struct SegmentsMut<'a> {
    next: Option<Handle>,
    of: PhantomData<&'a mut Mbuf>,
}

impl<'a> Iterator for SegmentsMut<'a> {
    type Item = Option<&'a mut [u8]>;

    fn next(&mut self) -> Option<Option<&'a mut [u8]>> {
        // SAFETY: a line of the mbuf that is borrowed exclusively for 'a; not dropped.
        let mut segment = ManuallyDrop::new(unsafe { Mbuf::from_handle(self.next?) });
        self.next = segment.line().next.get();
        let data = segment.data_mut().map(std::ptr::from_mut);
        // SAFETY: not shared, so no other segment has this buffer; each is given out once, for
        // as long as the mbuf is borrowed exclusively.
        Some(data.map(|data| unsafe { &mut *data }))
    }
}
