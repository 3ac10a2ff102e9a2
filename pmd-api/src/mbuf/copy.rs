//! Copying bytes in and out of packets.

use super::{Mbuf, MbufError};
use crate::Pool;

impl Mbuf {
    /// Appends a copy of `bytes` behind the last segment's data.
    ///
    /// # Errors
    /// As for [`Mbuf::append`].
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), MbufError> {
        self.append(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies the packet's bytes from `offset` on into `into`, across segments. Returns how many
    /// there were: fewer than asked for if the packet ends before.
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut copied = 0;
        for segment in self {
            let data = segment.data();
            let Some(data) = data.get(skip..) else {
                skip -= data.len();
                continue;
            };
            skip = 0;
            let count = data.len().min(into.len() - copied);
            into[copied..copied + count].copy_from_slice(&data[..count]);
            copied += count;
            if copied == into.len() {
                break;
            }
        }
        copied
    }

    /// The packet's bytes in one piece of their own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.packet_len());
        for segment in self {
            bytes.extend_from_slice(segment.data());
        }
        bytes
    }

    /// Copies the packet into buffers of `pool`, as few as it takes. The copy is shared with nobody
    /// and has this packet's port, hash and offloads.
    ///
    /// # Errors
    /// `pool` has too few free buffers.
    pub fn copy(&self, pool: &Pool) -> Result<Mbuf, MbufError> {
        let mut copy = pool.alloc().ok_or(MbufError::PoolExhausted)?;
        let mut fill: Option<Mbuf> = None;
        let chain = |copy: &mut Mbuf, full: Option<Mbuf>| match full {
            Some(full) => copy.chain(full).map_err(|(_, error)| error),
            None => Ok(()),
        };
        for segment in self {
            let mut bytes = segment.data();
            while !bytes.is_empty() {
                let place = fill.as_mut().unwrap_or(&mut copy);
                let room = place.tailroom();
                if room == 0 {
                    let full = fill.replace(pool.alloc().ok_or(MbufError::PoolExhausted)?);
                    chain(&mut copy, full)?;
                    continue;
                }
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                place.extend_from_slice(now)?;
                bytes = later;
            }
        }
        chain(&mut copy, fill)?;
        let (from, to) = (self.line(), copy.line());
        to.port.set(from.port.get());
        to.hash.set(from.hash.get());
        to.rx.set(from.rx.get());
        to.tx.set(from.tx.get());
        Ok(copy)
    }

    /// Makes the first `len` bytes of the packet lie in its first segment, by moving what is missing
    /// from the segments behind it; those that become empty are dropped. Of the segments behind
    /// nothing is written, so they may be shared.
    ///
    /// # Errors
    /// The packet is shorter, or bytes must be moved and the first segment's buffer is shared or
    /// has no room for them behind its data. The packet is as before.
    pub fn pull_up(&mut self, len: usize) -> Result<(), MbufError> {
        let Some(missing) = len.checked_sub(self.data_len()).filter(|count| *count > 0) else {
            return Ok(());
        };
        if len > self.packet_len() {
            return Err(MbufError::TooShort {
                wanted: len,
                len: self.packet_len(),
            });
        }
        let tailroom = super::tailroom(self.line());
        if missing > tailroom {
            return Err(MbufError::Tailroom {
                wanted: missing,
                tailroom,
            });
        }
        if self.is_shared() {
            return Err(MbufError::Shared);
        }
        let mut left = missing;
        let mut rest = self.unchain();
        while let Some(mut segment) = rest {
            let now = left.min(segment.data_len());
            // Neither fails: there is room for all that is missing, and the segment has `now`.
            self.extend_from_slice(&segment.data()[..now])?;
            segment.adj(now)?;
            left -= now;
            if segment.data_len() > 0 {
                return self.chain(segment).map_err(|(_, error)| error);
            }
            // An empty segment that was there before goes, too.
            rest = segment.unchain();
        }
        Ok(())
    }

    /// Makes one segment of the packet by copying the others behind the first one's data.
    ///
    /// # Errors
    /// The first segment's buffer is shared, or its tailroom too small for the rest.
    pub fn linearize(&mut self) -> Result<(), MbufError> {
        let tailroom = super::tailroom(self.line());
        let wanted = self.packet_len() - self.data_len();
        if wanted == 0 && self.segments() == 1 {
            return Ok(());
        }
        if wanted > tailroom {
            return Err(MbufError::Tailroom { wanted, tailroom });
        }
        if self.is_shared() {
            return Err(MbufError::Shared);
        }
        let rest = self.unchain();
        for segment in rest.iter().flatten() {
            self.extend_from_slice(segment.data())?;
        }
        Ok(())
    }
}
