//! The device's side of work queues: cursors and doorbells (reference/mana-hardware.md §2.2, §2.7).

use gdma::wqe::{Sge, UNIT, WqeHeader, units};

use super::PdId;
use super::cq::CompletionQueue;
use super::mr::MrTable;
use super::space::DmaSpace;
use crate::findings::{FindingKind, Findings};

/// Cursors in units have 27 bits: 2^32 bytes.
const CURSOR_MASK: u32 = (1 << 27) - 1;

/// A send or receive queue.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    pub(crate) id: u32,
    pub(crate) port: usize,
    /// Context whose doorbell page rings it.
    pub(crate) context: u32,
    /// Domain in which its keys are looked up.
    pub(crate) pd: PdId,
    ring: DmaSpace,
    pub(crate) cq: CompletionQueue,
    /// In units, free-running, 27 bits: behind what the driver handed over.
    head: u32,
    /// Behind what was taken.
    tail: u32,
    /// After an error that stops the queue.
    pub(crate) disabled: bool,
}

/// A WQE as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wqe {
    pub(crate) header: WqeHeader,
    /// In units, 27 bits: where it stands.
    pub(crate) at: u32,
    pub(crate) units: u32,
    /// The OOB; short ones in the first word.
    pub(crate) oob: [u64; 3],
    pub(crate) oob_bytes: usize,
}

impl WorkQueue {
    pub(crate) fn new(
        id: u32,
        port: usize,
        context: u32,
        pd: PdId,
        ring: DmaSpace,
        cq: CompletionQueue,
    ) -> Self {
        Self {
            id,
            port,
            context,
            pd,
            ring,
            cq,
            head: 0,
            tail: 0,
            disabled: false,
        }
    }

    /// Whether a ring can be a work queue's.
    pub(crate) fn fits(ring: &DmaSpace) -> bool {
        ring.len().is_power_of_two() && (4096..=1 << 30).contains(&ring.len())
    }

    /// Units handed over and not taken.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        self.head.wrapping_sub(self.tail) & CURSOR_MASK
    }

    /// Where the next WQE stands, in units, 27 bits.
    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Takes a doorbell's cursor, in bytes.
    pub(crate) fn doorbell(&mut self, tail_bytes: u32, findings: &mut Findings) {
        let head = tail_bytes / UNIT as u32;
        let ahead = head.wrapping_sub(self.tail) & CURSOR_MASK;
        let capacity = (self.ring.len() / UNIT as u64) as u32;
        let back = ahead < self.pending();
        if !tail_bytes.is_multiple_of(UNIT as u32) || ahead > capacity || back {
            findings.add(
                FindingKind::DoorbellCursor,
                Some(self.id),
                format_args!(
                    "cursor {tail_bytes:#x} bytes; {} of {capacity} units wait after {:#x}",
                    self.pending(),
                    u64::from(self.tail) * UNIT as u64
                ),
            );
            return;
        }
        self.head = head & CURSOR_MASK;
    }

    /// The word at `offset` bytes behind cursor `at`, which wraps at the ring's end.
    #[inline]
    fn word(&self, at: u32, offset: usize) -> Option<u64> {
        let position = u64::from(at) * UNIT as u64 + offset as u64;
        self.ring.load(position & (self.ring.len() - 1))
    }

    /// [`WorkQueue::word`]; a finding where the ring can't be reached.
    #[inline]
    fn ring_word(&self, at: u32, offset: usize, findings: &mut Findings) -> Result<u64, ()> {
        self.word(at, offset).ok_or_else(|| {
            let kind = FindingKind::RingMemory;
            findings.add(kind, Some(self.id), format_args!("WQE at unit {at:#x}"));
        })
    }

    /// The next WQE, if one waits. `Err` if it can't be one; the evidence is a finding.
    #[inline]
    pub(crate) fn peek(&self, max_sges: usize, findings: &mut Findings) -> Result<Option<Wqe>, ()> {
        if self.pending() == 0 {
            return Ok(None);
        }
        let at = self.tail;
        let header = WqeHeader::from_bits(self.ring_word(at, 0, findings)?);
        let oob_bytes = 4 * usize::from(header.inline_oob_size_div4());
        let sges = usize::from(header.num_sge());
        let units = units(oob_bytes, sges);
        if !matches!(oob_bytes, 8 | 24) || sges == 0 || sges > max_sges || units > self.pending() {
            findings.add(
                FindingKind::WqeFormat,
                Some(self.id),
                format_args!(
                    "header {:#018x} at unit {at:#x}: OOB of {oob_bytes} bytes, {sges} elements, \
                     {units} units of {} handed over",
                    header.into_bits(),
                    self.pending()
                ),
            );
            return Err(());
        }
        let reserved = header.reserved0() != 0
            || header.reserved1() != 0
            || header.consume_credit()
            || header.fence()
            || header.check_sn()
            || header.sgl_direct();
        if reserved {
            let header = header.into_bits();
            findings.add(
                FindingKind::WqeReserved,
                Some(self.id),
                format_args!("header {header:#018x} at unit {at:#x}"),
            );
        }
        let mut oob = [0; 3];
        for (index, word) in oob[..oob_bytes / 8].iter_mut().enumerate() {
            *word = self.ring_word(at, 8 + 8 * index, findings)?;
        }
        Ok(Some(Wqe {
            header,
            at,
            units,
            oob,
            oob_bytes,
        }))
    }

    /// The WQE is done with.
    #[inline]
    pub(crate) fn consume(&mut self, wqe: &Wqe) {
        self.tail = self.tail.wrapping_add(wqe.units) & CURSOR_MASK;
    }

    /// Element `index` of a WQE: its memory region and the offset in it.
    #[inline]
    pub(crate) fn element(
        &self,
        wqe: &Wqe,
        index: usize,
        write: bool,
        mrs: &MrTable,
        findings: &mut Findings,
    ) -> Option<(usize, u64, usize)> {
        let offset = 8 + wqe.oob_bytes + 16 * index;
        let words = [self.word(wqe.at, offset)?, self.word(wqe.at, offset + 8)?];
        let sge = Sge::from_words(words);
        match mrs.translate(sge, self.pd, write) {
            Ok((mr, offset)) => Some((mr, offset, sge.size as usize)),
            Err(kind) => {
                let at = wqe.at;
                findings.add(
                    kind,
                    Some(self.id),
                    format_args!(
                        "element {index} of the WQE at unit {at:#x}: address {:#x}, key {:#x}, \
                         {} bytes",
                        sge.address, sge.key, sge.size
                    ),
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::space::tests::Shuffled;
    use super::*;

    /// §2.2: cursors run freely, doorbells carry them as bytes truncated to 32 bits.
    #[test]
    fn cursors_pass_two_to_the_32_bytes_without_a_break() {
        let ring = || Shuffled::new(1);
        let cq = CompletionQueue::new(2, 1, true, DmaSpace::Shuffled(ring())).unwrap();
        let memory = ring();
        let mut space = DmaSpace::Shuffled(memory.clone());
        // 128 units; the last one holds a WQE of one element, the first two one of two.
        space.write(127 * 32, &[0, 0, 0, 0, 1, 2, 0, 0]).unwrap();
        space.write(0, &[0, 0, 0, 0, 2, 2, 0, 0]).unwrap();
        let mut queue = WorkQueue::new(1, 0, 0, PdId(1), space, cq);
        (queue.head, queue.tail) = (CURSOR_MASK, CURSOR_MASK);
        let mut findings = Findings::new("model0");
        queue.doorbell(2 * 32, &mut findings);
        assert_eq!(queue.pending(), 3);
        for (at, units, left) in [(CURSOR_MASK, 1, 2), (0, 2, 0)] {
            let wqe = queue.peek(30, &mut findings).unwrap().unwrap();
            assert_eq!((wqe.at, wqe.units), (at, units));
            queue.consume(&wqe);
            assert_eq!(
                (queue.pending(), queue.tail()),
                (left, (at + units) & CURSOR_MASK)
            );
        }
        // Back behind the border: refused.
        queue.doorbell(0u32.wrapping_sub(32), &mut findings);
        assert_eq!(findings.list()[0].kind, FindingKind::DoorbellCursor);
        assert_eq!(queue.pending(), 0);
    }
}
