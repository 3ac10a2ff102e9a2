//! Clones: metadata of their own, data shared with what they were cloned from.

use super::{Mbuf, MbufError};
use crate::Pool;
use crate::meta::Handle;

impl Mbuf {
    /// Makes a packet with metadata of its own, from `pool` (any pool), whose data is this packet's,
    /// segment by segment. While both exist the data can only be read, through either; cutting
    /// ([`adj`](Mbuf::adj), [`trim`](Mbuf::trim)) and chaining changes one of them alone. A
    /// buffer goes home when the last packet that refers to it is dropped.
    ///
    /// The clone has the port, hash and offloads of this packet, and application word 0.
    /// This packet must be borrowed exclusively: that nobody clones a packet in a driver's
    /// hands is what lets the driver not look at it again.
    ///
    /// # Errors
    /// `pool` has too few free buffers (one for each segment is needed for its metadata), or a
    /// buffer has 65534 clones.
    pub fn clone_shared(&mut self, pool: &Pool) -> Result<Mbuf, MbufError> {
        let mut clone = self.clone_segment(self.0, pool)?;
        let mut last = clone.0;
        let mut segment = self.0;
        let mut count = 1;
        // Appended one by one here, because `chain` would walk to the end each time. If one fails,
        // the part that is there is dropped with what it refers to.
        // SAFETY: the lines of a chain belong to its mbuf.
        while let Some(next) = unsafe { segment.line() }.next.get() {
            let piece = self.clone_segment(next, pool)?.into_handle();
            // SAFETY: `last` is the last line of `clone`.
            unsafe { last.line() }.next.set(Some(piece));
            (last, segment) = (piece, next);
            count += 1;
            clone.line().set_segments(count);
        }
        let (from, to) = (self.line(), clone.line());
        to.port.set(from.port.get());
        to.pkt_len.set(from.pkt_len.get());
        to.hash.set(from.hash.get());
        to.rx.set(from.rx.get());
        to.tx.set(from.tx.get());
        clone.set_app_word(0);
        Ok(clone)
    }

    /// Cuts the packet at byte `at`, without copying: this packet keeps what is before it, the result
    /// is what is behind. Where the cut falls within a segment both refer to its buffer, whose data
    /// can only be read while both exist; the result's metadata there is a buffer of `pool` (any
    /// pool). Where it falls between two segments they are taken apart, and `pool` is not touched.
    ///
    /// The result has no port, no offloads and application word 0; this packet keeps its own.
    /// [`Mbuf::chain`] joins the two again.
    ///
    /// # Errors
    /// The packet has fewer bytes than `at`, `pool` has no free buffer, or the buffer that would be
    /// shared has 65534 clones. The packet is as before.
    pub fn split_off(&mut self, at: usize, pool: &Pool) -> Result<Mbuf, MbufError> {
        let len = self.packet_len();
        if at > len {
            return Err(MbufError::TooShort { wanted: at, len });
        }
        let total = self.segments();
        let (mut cut, mut segments, mut keep) = (self.0, 1, at);
        let line = loop {
            // SAFETY: the lines of a chain belong to its mbuf.
            let line = unsafe { cut.line() };
            match line.next.get() {
                Some(next) if keep > line.data_len.get() as usize => {
                    keep -= line.data_len.get() as usize;
                    (cut, segments) = (next, segments + 1);
                }
                _ => break line,
            }
        };
        let whole = keep == line.data_len.get() as usize;
        let tail = match line.next.get() {
            Some(next) if whole => {
                line.next.set(None);
                // SAFETY: the line was this mbuf's, and no chain leads to it now.
                let tail = unsafe { Mbuf::from_handle(next) };
                tail.line().set_segments((total - segments) as u16);
                tail.forget_packet();
                tail
            }
            next => {
                let tail = self.clone_segment(cut, pool)?;
                let behind = tail.line();
                // Both lie within the buffer, which has at most 65535 bytes.
                behind.data_off.set(behind.data_off.get() + keep as u16);
                behind.data_len.set(behind.data_len.get() - keep as u32);
                behind.next.set(next);
                behind.set_segments((total - segments + 1) as u16);
                line.next.set(None);
                line.data_len.set(keep as u32);
                tail
            }
        };
        tail.line().app.set(0);
        tail.line().pkt_len.set((len - at) as u32);
        self.line().set_segments(segments as u16);
        self.line().pkt_len.set(at as u32);
        Ok(tail)
    }

    /// A clone of one line of this mbuf.
    fn clone_segment(&self, of: Handle, pool: &Pool) -> Result<Mbuf, MbufError> {
        let clone = pool.alloc().ok_or(MbufError::PoolExhausted)?;
        // SAFETY: the lines of a chain belong to its mbuf. Not dropped here.
        let of = std::mem::ManuallyDrop::new(unsafe { Mbuf::from_handle(of) });
        let from = of.line();
        let owner = if from.origin.get().is_clone() {
            of.owner_of_clone()
        } else {
            of.0
        };
        // SAFETY: the reference of `of` keeps the pool of the buffer alive; of a line that may be
        // another's only `head` is touched.
        if !unsafe { owner.line() }.add_reference() {
            return Err(MbufError::TooManyClones);
        }
        pool.body().lines.set_owner(clone.0, Some(owner));
        let to = clone.line();
        to.address.set(from.address.get());
        to.origin.set(from.origin.get().to_clone());
        to.data_off.set(from.data_off.get());
        to.data_len.set(from.data_len.get());
        to.pkt_len.set(from.data_len.get());
        Ok(clone)
    }
}
