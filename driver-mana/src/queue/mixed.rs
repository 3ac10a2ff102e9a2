//! Bursts that are not of simple packets of one pool, or cross the end of a ring, or fit only in part.

use gdma::SendRing;
use pmd_api::{Mbuf, PlainSegments, Reject, TxPush};

use super::Lkeys;
use super::general::{General, write_general};
use super::template::Template;

/// What the packets of such a burst are written with, and how far that is.
pub(super) struct Mixed<'a> {
    pub(super) sq: &'a SendRing,
    pub(super) lkeys: &'a mut Lkeys,
    pub(super) template: &'a Template,
    /// Of the pool of the first packet.
    pub(super) key: Option<u32>,
    pub(super) max_segments: usize,
    /// Cursor in the ring: the next WQE, and the last one written.
    pub(super) at: u32,
    pub(super) last: u32,
    /// Bytes of the packets written.
    pub(super) bytes: u64,
    /// Why the packet behind the last one can never be sent.
    pub(super) rejected: &'a mut Option<Reject>,
}

impl Mixed<'_> {
    /// Writes the WQEs of the burst as far as there is room, and finishes it. Returns how many packets
    /// that makes, the cursors and the bytes.
    #[inline(never)]
    pub(super) fn push(mut self, mut push: TxPush<'_>) -> (usize, u32, u32, u64) {
        let end = self.sq.head().wrapping_add(self.sq.free());
        while let Some(next) = push.peek() {
            let room = end.wrapping_sub(self.at);
            let (word, one) = (next.tx_word(), next.segments() == 1);
            let alike = match self.key {
                Some(key) if !self.template.is_simple(word) => {
                    self.push_plain::<true>(key, room, &mut push)
                }
                Some(key) if one => self.push_simple(key, room, &mut push),
                Some(key) => self.push_plain::<false>(key, room, &mut push),
                None => 0,
            };
            if alike == 0 && !push.next(|mbuf| self.write(room, mbuf)) {
                break;
            }
        }
        (push.finish(), self.at, self.last, self.bytes)
    }

    /// Simple packets as far as there are some. Returns how many.
    fn push_simple(&mut self, key: u32, room: u32, push: &mut TxPush<'_>) -> usize {
        let units = self.sq.units(self.at, room);
        let count = (self.template).push_simple(key, push, units, &mut self.bytes);
        self.at = self.at.wrapping_add(count as u32);
        if count != 0 {
            self.last = self.at.wrapping_sub(1);
        }
        count
    }

    /// Plain packets as far as there are some that take a long OOB, or only a short one, and no more
    /// units than are left to the end of the ring. Returns how many.
    #[inline(never)]
    fn push_plain<const LONG: bool>(
        &mut self,
        key: u32,
        room: u32,
        push: &mut TxPush<'_>,
    ) -> usize {
        let (template, key) = (*self.template, u64::from(key));
        let mut units = self.sq.units(self.at, room);
        let all = units.len();
        // What was left before and behind the last packet accepted.
        let (mut before, mut behind, mut bytes) = (units.clone(), units.clone(), 0);
        let count = push.plain(|mbuf, segments| {
            let (word, count) = (mbuf.tx_word(), mbuf.segments());
            let right = match LONG {
                true => template.is_long(word),
                // Of one segment: back to the shorter loop.
                false => template.is_simple(word) && count != 1,
            };
            if !right || count > self.max_segments {
                return false;
            }
            let left = units.clone();
            // Elements are half a unit; in front of them are a whole one or half a one.
            let mut write = || {
                let unit = units.next()?;
                if LONG {
                    unit.write(template.long_head(word, count));
                } else {
                    let [header, oob] = template.short_head(word, count);
                    let [address, rest] = element(segments, key)?;
                    unit.write([header, oob, address, rest]);
                }
                while !segments.is_done() {
                    let [one, its] = element(segments, key)?;
                    let [other, others] = match segments.is_done() {
                        true => [0; 2],
                        false => element(segments, key)?,
                    };
                    units.next()?.write([one, its, other, others]);
                }
                Some(())
            };
            if write().is_none() {
                return false;
            }
            (before, behind) = (left, units.clone());
            bytes += mbuf.packet_len() as u64;
            true
        });
        if count != 0 {
            self.last = self.at.wrapping_add((all - before.len()) as u32);
            self.at = self.at.wrapping_add((all - behind.len()) as u32);
            self.bytes += bytes;
        }
        count
    }

    /// Any packet.
    fn write(&mut self, room: u32, mbuf: &Mbuf) -> bool {
        let (template, lkeys, max) = (*self.template, &mut *self.lkeys, self.max_segments);
        match write_general(self.sq, self.at, room, template, lkeys, max, mbuf) {
            General::Written { units } => {
                self.last = self.at;
                self.at = self.at.wrapping_add(units);
                self.bytes += mbuf.packet_len() as u64;
                return true;
            }
            General::Full => {}
            General::Rejected(reason) => *self.rejected = Some(reason),
        }
        false
    }
}

/// The element of the next segment, if that is plain.
#[inline]
fn element(segments: &mut PlainSegments<'_>, key: u64) -> Option<[u64; 2]> {
    let segment = segments.next()?;
    Some([segment.address, key | u64::from(segment.len) << 32])
}
