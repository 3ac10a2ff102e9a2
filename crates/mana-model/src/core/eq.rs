//! The device's side of an event queue (reference/mana-hardware.md §2.5, §2.6, §2.8).

use gdma::doorbell::EventValue;
use gdma::eqe::{Eqe, EqeTail, SIZE};
use gdma::owner::{initial_cursor, owner};

use super::bus::BusPages;

/// A ring of events and the MSI-X vector that tells of them.
#[derive(Debug)]
pub struct EventQueue {
    ring: BusPages,
    log2: u32,
    vector: u16,
    /// Free-running, in entries; starts at the size.
    producer: u32,
    /// Where the last doorbell said the consumer is.
    consumer: u32,
    armed: bool,
    /// Something was wrong already: later things are not told.
    told: bool,
}

impl EventQueue {
    /// An EQ is born armed. `None` unless the ring begins with a page, and is a power of two of at
    /// least 256 entries.
    #[must_use]
    pub fn new(ring: BusPages, vector: u16) -> Option<Self> {
        let entries = ring.len() / SIZE as u64;
        let right = ring.len().is_power_of_two() && (256..=1 << 24).contains(&entries);
        if !right || !ring.is_page_aligned() {
            return None;
        }
        let first = initial_cursor(entries as u32);
        Some(Self {
            ring,
            log2: entries.trailing_zeros(),
            vector,
            producer: first,
            consumer: first,
            armed: true,
            told: false,
        })
    }

    /// Number of its MSI-X vector.
    #[must_use]
    pub fn vector(&self) -> u16 {
        self.vector
    }

    /// Writes an event; true if the vector fires now. One for which there is no room, or whose place
    /// can't be reached, is lost.
    #[must_use = "whether the interrupt is to be raised"]
    pub fn push(&mut self, event: u8, details: [u32; 3]) -> bool {
        if self.producer.wrapping_sub(self.consumer) >= 1 << self.log2 {
            self.tell("it is full");
            return false;
        }
        let tail = EqeTail::new()
            .with_event_type(event)
            .with_owner(owner(self.producer, self.log2));
        let index = self.producer & ((1 << self.log2) - 1);
        let offset = u64::from(index) * SIZE as u64;
        if self
            .ring
            .store_entry(offset, &Eqe { details, tail }.words())
            .is_none()
        {
            self.tell("its memory can't be reached");
            return false;
        }
        self.producer = self.producer.wrapping_add(1);
        std::mem::take(&mut self.armed)
    }

    /// Says once in the queue's life what the driver did wrong.
    #[cold]
    fn tell(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("event queue of vector {}: {what}", self.vector);
        }
    }

    /// Takes a doorbell; true if the vector fires at once, because events wait that the consumer has
    /// not seen. One that tells of more events than there are is ignored.
    #[must_use = "whether the interrupt is to be raised"]
    pub fn doorbell(&mut self, value: EventValue) -> bool {
        let cycle = (8 << self.log2) - 1;
        let step = value.tail().wrapping_sub(self.consumer) & cycle;
        let behind = self.producer.wrapping_sub(self.consumer);
        if value.tail() > cycle || step > behind {
            self.tell("a doorbell is ahead of the device");
            return false;
        }
        self.consumer = self.consumer.wrapping_add(step);
        let waiting = behind - step;
        self.armed = value.arm() && waiting == 0;
        value.arm() && waiting > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::bus::BusMemory;
    use super::super::bus::tests::Pages;
    use super::*;

    const ENTRIES: u32 = 256;

    fn eq() -> (Arc<Pages>, EventQueue) {
        let memory = Arc::new(Pages::new(0x1000, 1));
        let ring = BusPages::page(memory.clone(), 0x1000).unwrap();
        (memory, EventQueue::new(ring, 3).unwrap())
    }

    fn told(tail: u32, arm: bool) -> EventValue {
        EventValue::new().with_tail(tail).with_arm(arm)
    }

    /// §2.5: "12 | 0-7 | type", "29-31 | owner bits"; §2.6: the first lap's owner is 1.
    #[test]
    fn events_stand_in_the_ring_as_the_driver_reads_them() {
        let (memory, mut eq) = eq();
        assert!(eq.push(3, [0x12, 0, 0]), "an EQ is born armed");
        assert!(!eq.push(64, [0, 0, 7]), "it is armed once");
        let mut bytes = [0; 32];
        memory.read(0x1000, &mut bytes).unwrap();
        assert_eq!(
            bytes[..16],
            [0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0x20]
        );
        assert_eq!(
            bytes[16..],
            [0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 64, 0, 0, 0x20]
        );
    }

    /// reference/kernel-in-a-vm.md §8 no. 9: the driver consumes 5 events an interrupt.
    #[test]
    fn arming_fires_again_while_events_wait() {
        let (_, mut eq) = eq();
        assert!(eq.push(129, [0; 3]));
        for _ in 0..11 {
            assert!(!eq.push(130, [0; 3]));
        }
        assert!(eq.doorbell(told(ENTRIES + 5, true)));
        assert!(eq.doorbell(told(ENTRIES + 10, true)));
        assert!(!eq.doorbell(told(ENTRIES + 12, true)));
        assert!(eq.push(131, [0; 3]), "the last doorbell armed it");
        assert!(!eq.doorbell(told(ENTRIES + 13, false)));
        assert!(!eq.push(3, [0; 3]), "not armed");
    }

    #[test]
    fn nonsense_from_the_driver_neither_fires_nor_overruns() {
        let (memory, mut eq) = eq();
        assert!(!eq.doorbell(told(ENTRIES + 1, true)), "ahead of the device");
        assert!(!eq.doorbell(told(8 * ENTRIES, true)), "beyond eight laps");
        for index in 0..ENTRIES + 3 {
            assert_eq!(eq.push(3, [index, 0, 0]), index == 0);
        }
        assert_eq!(memory.load(0x1000), Some(0), "nothing is overwritten");
        memory.unmap();
        assert!(!eq.doorbell(told(2 * ENTRIES, true)));
        assert!(!eq.push(3, [0; 3]), "its place is gone");
    }

    #[test]
    fn rings_of_other_sizes_are_refused() {
        let memory = Arc::new(Pages::new(0x1000, 3));
        let pages = |pages: &[u64], first, len| {
            BusPages::new(memory.clone(), pages.to_vec(), 12, first, len).unwrap()
        };
        assert!(EventQueue::new(pages(&[0x1000, 0x2000, 0x3000], 0, 0x3000), 0).is_none());
        assert!(EventQueue::new(pages(&[0x1000], 0, 0x800), 0).is_none());
        assert!(EventQueue::new(pages(&[0x1000, 0x2000], 64, 0x1000), 0).is_none());
        assert!(EventQueue::new(pages(&[0x1000, 0x3000], 0, 0x2000), 0).is_some());
    }
}
