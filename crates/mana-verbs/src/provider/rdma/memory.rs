//! libmana's external allocator: the rings it asks for are those that the caller brought.
//!
//! libmana allocates through a pair of functions that a context has once, and tells them nothing
//! but a size. So one ring at a time is on offer, put there by the creating call, which holds the
//! context's lock meanwhile, and for its thread only. The memory itself belongs to whoever brought it, with its NUMA node
//! and its pages; giving back only strikes it off the list.

use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::ffi::Allocators;
use crate::provider::Buffer;

/// The allocator of one context. It must stay where it is, and outlive the context.
#[derive(Default)]
pub(super) struct RingAllocator {
    /// One creation at a time: there is one offer.
    creating: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    offer: Option<Offer>,
    /// Size that libmana asked for when no offer, or none that fits, was there.
    refused: Option<usize>,
    /// Addresses that libmana has.
    given: HashSet<usize>,
    /// Calls of `free` with an address that it was not given.
    foreign_frees: u64,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    ring: Buffer,
    fit: Fit,
    /// libmana asks on the thread that creates.
    thread: ThreadId,
}

/// Which sizes a ring serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Its own only: the device gets told the size that libmana asks for, and wraps there.
    Exact,
    /// Smaller ones, too: the device gets told a number of entries.
    AtMost,
}

/// A ring on offer. Others wait until it is dropped.
pub(super) struct Offered<'a> {
    allocator: &'a RingAllocator,
    _creating: MutexGuard<'a, ()>,
}

impl RingAllocator {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What libmana is told. The allocator must outlive every call of the functions.
    pub(super) fn callbacks(&self) -> Allocators {
        Allocators {
            alloc: allocate,
            free: release,
            data: ptr::from_ref(self).cast_mut().cast(),
        }
    }

    /// Offers `ring` to the next allocation.
    pub(super) fn offer(&self, ring: Buffer, fit: Fit) -> Offered<'_> {
        let creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let thread = thread::current().id();
        state.offer = Some(Offer { ring, fit, thread });
        state.refused = None;
        drop(state);
        Offered {
            allocator: self,
            _creating: creating,
        }
    }

    /// Whether libmana still has the ring at `address`.
    pub(super) fn holds(&self, address: u64) -> bool {
        usize::try_from(address).is_ok_and(|address| self.state().given.contains(&address))
    }

    /// Number of frees of memory that libmana was not given.
    #[cfg(test)]
    fn foreign_frees(&self) -> u64 {
        self.state().foreign_frees
    }

    fn allocate(&self, size: usize) -> *mut c_void {
        let mut state = self.state();
        let thread = thread::current().id();
        if state.offer.is_some_and(|offer| offer.thread != thread) {
            return ptr::null_mut();
        }
        let fits = |offer: &mut Offer| {
            let bytes = usize::try_from(offer.ring.bytes).unwrap_or(0);
            match offer.fit {
                Fit::Exact => size == bytes,
                Fit::AtMost => size <= bytes,
            }
        };
        let Some(offer) = state.offer.take_if(fits) else {
            state.refused = Some(size);
            return ptr::null_mut();
        };
        let address = offer.ring.address as usize;
        state.given.insert(address);
        ptr::with_exposed_provenance_mut(address)
    }

    fn release(&self, pointer: *mut c_void) {
        // An RSS queue pair of the first releases frees a send ring that it does not have.
        if pointer.is_null() {
            return;
        }
        let mut state = self.state();
        if !state.given.remove(&pointer.addr()) {
            state.foreign_frees += 1;
            let frees = state.foreign_frees;
            drop(state);
            tracing::error!(
                frees,
                "libmana frees {pointer:p}, which it was not given: ignored"
            );
        }
    }
}

impl Offered<'_> {
    /// The size that libmana asked for in vain, if it did.
    pub(super) fn refused(&self) -> Option<usize> {
        self.allocator.state().refused
    }

    /// Whether the ring was taken.
    pub(super) fn taken(&self) -> bool {
        self.allocator.state().offer.is_none()
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        self.allocator.state().offer = None;
    }
}

/// libmana's `alloc`.
///
/// # Safety
///
/// `data` is that of [`RingAllocator::callbacks`], of an allocator that is alive.
unsafe extern "C" fn allocate(size: usize, data: *mut c_void) -> *mut c_void {
    // SAFETY: it came from a reference to an allocator that is alive, and is shared only.
    unsafe { &*data.cast::<RingAllocator>() }.allocate(size)
}

/// libmana's `free`.
///
/// # Safety
///
/// As for [`allocate`].
unsafe extern "C" fn release(pointer: *mut c_void, data: *mut c_void) {
    // SAFETY: it came from a reference to an allocator that is alive, and is shared only.
    unsafe { &*data.cast::<RingAllocator>() }.release(pointer);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ring(address: u64, bytes: u64) -> Buffer {
        Buffer { address, bytes }
    }

    /// What libmana does.
    struct Mana(Allocators);

    impl Mana {
        fn new(allocator: &RingAllocator) -> Self {
            Self(allocator.callbacks())
        }

        fn alloc(&self, size: usize) -> usize {
            // SAFETY: the tests keep the allocator.
            unsafe { (self.0.alloc)(size, self.0.data) }.addr()
        }

        fn free(&self, address: usize) {
            // SAFETY: the tests keep the allocator, which reads no memory at the address.
            unsafe { (self.0.free)(ptr::without_provenance_mut(address), self.0.data) };
        }
    }

    #[test]
    fn the_ring_on_offer_is_given_once() {
        let allocator = RingAllocator::default();
        let mana = Mana::new(&allocator);
        let offered = allocator.offer(ring(0x1000, 4096), Fit::Exact);
        assert!(!offered.taken());
        assert_eq!(mana.alloc(4096), 0x1000);
        assert!(offered.taken());
        assert_eq!(offered.refused(), None);
        // The second buffer of a creation gets none.
        assert_eq!(mana.alloc(4096), 0);
        assert_eq!(offered.refused(), Some(4096));
        drop(offered);
        assert!(allocator.holds(0x1000));
        mana.free(0x1000);
        assert!(!allocator.holds(0x1000));
    }

    #[test]
    fn a_ring_of_another_size_is_refused_with_the_size() {
        for (fit, size, fits) in [
            (Fit::Exact, 4096, false),
            (Fit::Exact, 16_384, false),
            (Fit::Exact, 8192, true),
            (Fit::AtMost, 4096, true),
            (Fit::AtMost, 16_384, false),
        ] {
            let allocator = RingAllocator::default();
            let offered = allocator.offer(ring(0x2000, 8192), fit);
            let address = Mana::new(&allocator).alloc(size);
            assert_eq!(address, if fits { 0x2000 } else { 0 });
            assert_eq!(offered.refused(), (!fits).then_some(size));
        }
    }

    #[test]
    fn nothing_is_given_where_nothing_is_on_offer() {
        let allocator = RingAllocator::default();
        let mana = Mana::new(&allocator);
        assert_eq!(mana.alloc(4096), 0);
        drop(allocator.offer(ring(0x1000, 4096), Fit::Exact));
        assert_eq!(mana.alloc(4096), 0);
    }

    #[test]
    fn a_ring_is_on_offer_for_the_creating_thread_only() {
        let allocator = RingAllocator::default();
        let offered = allocator.offer(ring(0x1000, 4096), Fit::Exact);
        thread::scope(|scope| {
            let stranger = scope.spawn(|| Mana::new(&allocator).alloc(4096));
            assert_eq!(stranger.join().unwrap(), 0);
        });
        assert!(!offered.taken());
        assert_eq!(offered.refused(), None);
        assert_eq!(Mana::new(&allocator).alloc(4096), 0x1000);
    }

    #[test]
    fn foreign_frees_are_counted_and_free_nothing() {
        let allocator = RingAllocator::default();
        let mana = Mana::new(&allocator);
        let offered = allocator.offer(ring(0x1000, 4096), Fit::Exact);
        mana.alloc(4096);
        drop(offered);
        for (address, frees) in [(0, 0), (0x3000, 1), (0x1001, 2)] {
            mana.free(address);
            assert_eq!(allocator.foreign_frees(), frees);
        }
        assert!(allocator.holds(0x1000));
        // Twice is once too often.
        mana.free(0x1000);
        mana.free(0x1000);
        assert_eq!(allocator.foreign_frees(), 3);
    }

    /// Two ports on two nodes that start at the same time through two contexts, and two threads of
    /// one context: each gets what it brought.
    #[test]
    fn creations_at_the_same_time_get_their_own_rings() {
        let allocators = [RingAllocator::default(), RingAllocator::default()];
        thread::scope(|scope| {
            for n in 0..4u64 {
                let allocator = &allocators[n as usize % 2];
                scope.spawn(move || {
                    let mana = Mana::new(allocator);
                    for round in 0..200 {
                        let address = ((n + 1) << 32) + (round << 12);
                        let offered = allocator.offer(ring(address, 4096), Fit::Exact);
                        assert_eq!(mana.alloc(4096) as u64, address);
                        drop(offered);
                        mana.free(address as usize);
                        assert!(!allocator.holds(address));
                    }
                });
            }
        });
        assert_eq!(
            allocators.map(|allocator| allocator.foreign_frees()),
            [0, 0]
        );
    }
}
