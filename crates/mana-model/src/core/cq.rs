//! The device's side of a completion queue (reference/mana-hardware.md §2.6, §2.8).

use gdma::cqe::{CqeTail, SIZE};
use gdma::doorbell::CompletionValue;
use gdma::owner::{initial_cursor, owner};

use super::cooling::Cooling;
use super::space::DmaSpace;
use crate::findings::{FindingKind, Findings};

/// A completion queue that serves one work queue.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    pub(crate) id: u32,
    ring: DmaSpace,
    log2: u32,
    /// Free-running, in entries; starts at the size.
    producer: u32,
    /// Where the last doorbell said the consumer is.
    consumer: u32,
    armed: bool,
    /// Queue and kind for the last dword.
    ours: CqeTail,
    overdue: bool,
    /// Where entries are moved to.
    pub(super) cooling: Cooling,
}

impl CompletionQueue {
    /// A CQ is born armed (§2.8). The ring comes back unless it is a power of two of at least a page.
    pub(crate) fn new(id: u32, wq: u32, is_sq: bool, ring: DmaSpace) -> Result<Self, DmaSpace> {
        let entries = ring.len() / SIZE as u64;
        if !ring.len().is_power_of_two() || !(64..=1 << 24).contains(&entries) {
            return Err(ring);
        }
        let first = initial_cursor(entries as u32);
        Ok(Self {
            id,
            ring,
            log2: entries.trailing_zeros(),
            producer: first,
            consumer: first,
            armed: true,
            ours: CqeTail::new().with_wq_num(wq).with_is_sq(is_sq),
            overdue: false,
            cooling: Cooling::None,
        })
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> u32 {
        1 << self.log2
    }

    /// Writes an entry; `words[7]`'s upper half is filled in here. True if an event is due.
    pub(crate) fn post(&mut self, mut words: [u64; 8], findings: &mut Findings) -> bool {
        let tail = self.ours.with_owner(owner(self.producer, self.log2));
        words[7] = words[7] & 0xFFFF_FFFF | u64::from(tail.into_bits()) << 32;
        let offset = u64::from(self.producer & (self.entries() - 1)) * SIZE as u64;
        if self.ring.store_entry(offset, &words).is_none() {
            let kind = FindingKind::RingMemory;
            findings.add(kind, Some(self.id), format_args!("CQE at byte {offset:#x}"));
        }
        if self.cooling != Cooling::None {
            self.ring.cool(offset, self.cooling);
        }
        self.producer = self.producer.wrapping_add(1);
        let behind = self.producer.wrapping_sub(self.consumer);
        if behind > 8 << self.log2 && !self.overdue {
            self.overdue = true;
            let kind = FindingKind::CqDoorbellOverdue;
            findings.add(
                kind,
                Some(self.id),
                format_args!("{behind} entries since the last one"),
            );
        }
        std::mem::take(&mut self.armed)
    }

    /// Takes a doorbell. True if an event is due at once.
    pub(crate) fn doorbell(&mut self, value: CompletionValue, findings: &mut Findings) -> bool {
        let cycle = (8 << self.log2) - 1;
        let step = value.tail().wrapping_sub(self.consumer) & cycle;
        let behind = self.producer.wrapping_sub(self.consumer);
        if value.reserved() != 0 {
            let kind = FindingKind::DoorbellReserved;
            findings.add(
                kind,
                Some(self.id),
                format_args!("CQ doorbell {:#018x}", value.into_bits()),
            );
        }
        if value.tail() > cycle || step > behind {
            findings.add(
                FindingKind::CqAhead,
                Some(self.id),
                format_args!(
                    "tail {} when {behind} entries wait after {}",
                    value.tail(),
                    self.consumer & cycle
                ),
            );
            return false;
        }
        self.consumer = self.consumer.wrapping_add(step);
        self.overdue = false;
        let waiting = behind - step;
        if waiting > self.entries() {
            // Hardware does not notify then (§2.8).
            let kind = FindingKind::CqOverflow;
            let evidence = format_args!("{waiting} entries wait in {}", self.entries());
            findings.add(kind, Some(self.id), evidence);
            return false;
        }
        self.armed = value.arm() && waiting == 0;
        value.arm() && waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::space::tests::Shuffled;
    use super::*;

    /// §2.6: "The head counter wraps at 2^32 without a phase break only if count is a power of two".
    #[test]
    fn owner_phase_and_doorbells_pass_two_to_the_32_entries_without_a_break() {
        let memory = Shuffled::new(1);
        let mut cq = CompletionQueue::new(2, 1, true, DmaSpace::Shuffled(memory.clone())).unwrap();
        (cq.producer, cq.consumer) = (u32::MAX - 1, u32::MAX - 1);
        let mut findings = Findings::new("model0");
        for (index, owner) in [(62, 7), (63, 7), (0, 0), (1, 0)] {
            cq.post([0; 8], &mut findings);
            let tail = memory.load(64 * index + 56).unwrap() >> 32;
            assert_eq!(tail >> 29, owner, "entry {index}");
        }
        // The consumer has read all four: entry 2 of lap 0, modulo eight laps.
        let told = CompletionValue::new()
            .with_id(2)
            .with_tail(2)
            .with_arm(true);
        assert!(!cq.doorbell(told, &mut findings));
        assert!(cq.armed && cq.consumer == 2 && findings.list().is_empty());
    }
}
