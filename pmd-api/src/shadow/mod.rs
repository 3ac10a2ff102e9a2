//! Shadow rings: the packets that a device has in its hands, in the order of its descriptors.

mod rx;
mod scatter;
mod tx;

pub use rx::{Addresses, Arrival, Posted, PostedNeighbours, RxShadowRing};
pub use scatter::{PostedGroups, ScatterShadowRing};
pub use tx::{PlainSegment, PlainSegments, TxPush, TxShadowRing};

use std::mem::MaybeUninit;

use crate::meta::Handle;

/// Slots of a ring, 8 bytes each, a power of two. The cursors are the rings' own.
struct Slots {
    slots: Box<[MaybeUninit<Handle>]>,
}

impl Slots {
    /// `capacity` is rounded up to a power of two.
    ///
    /// # Panics
    /// If it is 0 or above 2^31.
    fn new(capacity: u32) -> Self {
        assert!(
            (1..=1 << 31).contains(&capacity),
            "a shadow ring of {capacity} slots"
        );
        let capacity = capacity.next_power_of_two() as usize;
        Self {
            slots: Box::new_uninit_slice(capacity),
        }
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// How many slots lie side by side from cursor `at` on.
    #[inline]
    fn neighbours(&self, at: u32) -> usize {
        self.slots.len() - (at as usize & self.mask())
    }

    /// Puts a handle into the slot at cursor `at`.
    #[inline]
    fn set(&mut self, at: u32, handle: Handle) {
        let index = at as usize & self.mask();
        // SAFETY: the number of slots is a power of two, so not 0: what is masked by one less than that
        // is less than it.
        let slot = unsafe { self.slots.get_unchecked_mut(index) };
        slot.write(handle);
    }

    /// `count` slots from cursor `start` on, in two pieces. At most the capacity.
    #[inline]
    fn pieces(&self, start: u32, count: u32) -> (&[MaybeUninit<Handle>], &[MaybeUninit<Handle>]) {
        let at = start as usize & self.mask();
        let before = (count as usize).min(self.slots.len() - at);
        (
            &self.slots[at..at + before],
            &self.slots[..count as usize - before],
        )
    }

    /// Those of them that lie side by side from the first on.
    #[inline]
    fn first_piece(&self, start: u32, count: usize) -> &[MaybeUninit<Handle>] {
        let behind = &self.slots[start as usize & self.mask()..];
        &behind[..count.min(behind.len())]
    }

    /// The same, to write.
    #[inline]
    fn first_piece_mut(&mut self, start: u32, count: usize) -> &mut [MaybeUninit<Handle>] {
        let at = start as usize & self.mask();
        let behind = &mut self.slots[at..];
        let count = count.min(behind.len());
        &mut behind[..count]
    }

    /// `count` slots from cursor `start` on, in two pieces, to write.
    #[inline]
    fn pieces_mut(
        &mut self,
        start: u32,
        count: u32,
    ) -> (&mut [MaybeUninit<Handle>], &mut [MaybeUninit<Handle>]) {
        let at = start as usize & self.mask();
        let (front, back) = self.slots.split_at_mut(at);
        let before = (count as usize).min(back.len());
        (&mut back[..before], &mut front[..count as usize - before])
    }
}
