//! Fixed memory for copies of `T` that several threads take turns to write and read.

use std::mem::MaybeUninit;

use crate::sync::UnsafeCell;

/// Slots without any synchronisation of their own: whoever calls has exclusive use of the slots
/// that it names, until it hands them on through an atomic.
pub(crate) struct Slots<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

impl<T: Copy> Slots<T> {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            slots: (0..count)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
        }
    }
}

#[cfg(not(mana_loom))]
impl<T: Copy> Slots<T> {
    /// Writes `items` from slot `start` on.
    ///
    /// # Safety
    /// `start + items.len()` slots exist, and nobody else reads or writes those named.
    #[inline]
    pub(crate) unsafe fn write(&self, start: usize, items: &[T]) {
        debug_assert!(start + items.len() <= self.slots.len());
        let to = UnsafeCell::raw_get(self.slots.as_ptr()).cast::<T>();
        // SAFETY: the caller vouches for the range and its exclusive use; `UnsafeCell` and
        // `MaybeUninit` are transparent, so the slots are consecutive `T`s. `items` is a shared
        // borrow, so it cannot overlap slots nobody else may reach.
        unsafe {
            to.add(start)
                .copy_from_nonoverlapping(items.as_ptr(), items.len())
        }
    }

    /// Copies the slots from `start` on into `into`.
    ///
    /// # Safety
    /// `start + into.len()` slots exist and were written, and nobody writes them meanwhile.
    #[inline]
    pub(crate) unsafe fn read(&self, start: usize, into: &mut [MaybeUninit<T>]) {
        debug_assert!(start + into.len() <= self.slots.len());
        let from = UnsafeCell::raw_get(self.slots.as_ptr());
        // SAFETY: the caller vouches for the range; `into` is an exclusive borrow and therefore
        // no part of the slots.
        unsafe {
            into.as_mut_ptr()
                .copy_from_nonoverlapping(from.add(start), into.len())
        }
    }

    /// Lends `len` slots from `start` on as a slice.
    ///
    /// # Safety
    /// As for [`Slots::read`], until `with` returns.
    #[inline]
    pub(crate) unsafe fn lend<R>(
        &self,
        start: usize,
        len: usize,
        with: impl FnOnce(&[T]) -> R,
    ) -> R {
        debug_assert!(start + len <= self.slots.len());
        let from = UnsafeCell::raw_get(self.slots.as_ptr()).cast::<T>();
        // SAFETY: the caller vouches that these slots exist, were written and stay as they are.
        with(unsafe { std::slice::from_raw_parts(from.add(start), len) })
    }

    /// Moves `len` slots from `start` on to the front.
    ///
    /// # Safety
    /// `start + len` slots exist, those named were written, and nobody else uses the first
    /// `start + len`.
    pub(crate) unsafe fn move_to_front(&self, start: usize, len: usize) {
        debug_assert!(start + len <= self.slots.len());
        let base = UnsafeCell::raw_get(self.slots.as_ptr());
        // SAFETY: the caller vouches for the range and its exclusive use; `copy` allows overlap.
        unsafe { base.copy_from(base.add(start), len) }
    }
}

/// The same, slot by slot, so that loom sees each access.
#[cfg(mana_loom)]
impl<T: Copy> Slots<T> {
    pub(crate) unsafe fn write(&self, start: usize, items: &[T]) {
        for (slot, item) in self.slots[start..].iter().zip(items) {
            // SAFETY: the caller vouches for the exclusive use, and loom checks it.
            slot.with_mut(|to| unsafe { (*to).write(*item) });
        }
    }

    pub(crate) unsafe fn read(&self, start: usize, into: &mut [MaybeUninit<T>]) {
        for (slot, item) in self.slots[start..].iter().zip(into) {
            // SAFETY: the caller vouches that nobody writes meanwhile, and loom checks it.
            *item = slot.with(|from| unsafe { *from });
        }
    }

    pub(crate) unsafe fn lend<R>(
        &self,
        start: usize,
        len: usize,
        with: impl FnOnce(&[T]) -> R,
    ) -> R {
        let copies: Vec<T> = self.slots[start..start + len]
            .iter()
            // SAFETY: the caller vouches that these were written and nobody writes meanwhile.
            .map(|slot| slot.with(|from| unsafe { (*from).assume_init() }))
            .collect();
        with(&copies)
    }

    pub(crate) unsafe fn move_to_front(&self, start: usize, len: usize) {
        for to in 0..len {
            // SAFETY: as above.
            let item = self.slots[start + to].with(|from| unsafe { *from });
            // SAFETY: as above.
            self.slots[to].with_mut(|slot| unsafe { *slot = item });
        }
    }
}
