//! The gate of a queue: its interior belongs to the owner of the handle or to the control plane,
//! never to both.
//!
//! One flag decides. The owner looks at it once a burst; the control plane asks for the interior,
//! and has it when the owner has acknowledged, or is gone:
//!
//! ```text
//!            want                 acknowledge
//!   OPEN ------------> WANTED ------------------> HELD
//!     ^                                            |
//!     +--------------------------------------------+
//!                           open
//! ```
//!
//! From each of the three, dropping the owner leads to GONE, which is for good. The owner has the
//! interior in OPEN and WANTED, the control plane in HELD and GONE. An owner that is forgotten
//! (`std::mem::forget`) keeps it for ever, which leaks it. An owner that sleeps must be woken by
//! whoever asks, after asking, and must look at the gate after it was told how it will be woken.
//!
//! With `rings.rs` the only file of this crate with unsafe code; checked with loom.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use self::sync::{Arc, AtomicU32, Ordering, UnsafeCell};

/// The owner has the interior.
const OPEN: u32 = 0;
/// The owner has it and shall give it up.
const WANTED: u32 = 1;
/// The control plane has it.
const HELD: u32 = 2;
/// There is no owner any more: the control plane has it.
const GONE: u32 = 3;

/// What both sides share.
struct Gate<T> {
    state: AtomicU32,
    /// `Some` while the owner has it.
    interior: UnsafeCell<Option<T>>,
}

// SAFETY: by the protocol of `state` one thread at a time reaches the interior, which may be sent
// between threads; each handover is a release and an acquire of `state`.
unsafe impl<T: Send> Sync for Gate<T> {}

/// A gate that stands open: the owner's side, and the control plane's.
pub(crate) fn gate<T>(interior: T) -> (Owner<T>, Control<T>) {
    let gate = Arc::new(Gate {
        state: AtomicU32::new(OPEN),
        interior: UnsafeCell::new(Some(interior)),
    });
    let owner = Owner {
        gate: Arc::clone(&gate),
        not_sync: PhantomData,
    };
    (owner, Control { gate })
}

/// A gate without an interior, which the control plane holds.
pub(crate) fn closed_gate<T>() -> (Owner<T>, Control<T>) {
    let gate = Arc::new(Gate {
        state: AtomicU32::new(HELD),
        interior: UnsafeCell::new(None),
    });
    let owner = Owner {
        gate: Arc::clone(&gate),
        not_sync: PhantomData,
    };
    (owner, Control { gate })
}

/// The side of the queue's owner. There is one, and it is on one thread at a time.
pub(crate) struct Owner<T> {
    gate: Arc<Gate<T>>,
    /// `look` hands out shared references, which must not reach a second thread.
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Owner<T> {
    /// The interior, unless the control plane has it or wants it.
    // Always inlined, and no call of a closure: for a burst of one packet a call shows.
    #[inline(always)]
    pub(crate) fn interior(&mut self) -> Option<Interior<'_, T>> {
        // Acquire pairs with the release in `Control::open`: what was put in is seen whole.
        if self.gate.state.load(Ordering::Acquire) != OPEN {
            return None;
        }
        Some(Interior {
            interior: self.gate.interior.get_mut(),
            owner: PhantomData,
        })
    }

    /// Uses the interior, unless the control plane has it or wants it.
    #[inline]
    pub(crate) fn enter<R>(&mut self, run: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.interior().map(|mut interior| run(&mut interior))
    }

    /// Looks at the interior, unless the control plane has it.
    pub(crate) fn look<R>(&self, run: impl FnOnce(&T) -> R) -> Option<R> {
        if !matches!(self.gate.state.load(Ordering::Acquire), OPEN | WANTED) {
            return None;
        }
        self.gate.interior.with(|interior| {
            // SAFETY: as for `Interior`, of which there is none while `self` is borrowed shared; as this
            // side is not `Sync`, nothing else borrows it on another thread meanwhile.
            unsafe { (*interior).as_ref() }.map(run)
        })
    }

    /// Whether the interior can be entered.
    pub(crate) fn is_open(&self) -> bool {
        self.gate.state.load(Ordering::Acquire) == OPEN
    }

    /// Gives the interior up if it is wanted; true if that was done now. The control plane may want to
    /// be told then.
    #[cold]
    pub(crate) fn acknowledge(&mut self) -> bool {
        // Release: all this side did to the interior is seen by the control plane. Nobody but this
        // side leads out of WANTED.
        let wanted = self.gate.state.load(Ordering::Relaxed) == WANTED;
        if wanted {
            self.gate.state.store(HELD, Ordering::Release);
        }
        wanted
    }
}

/// The interior in its owner's hands. The gate was open when the owner was borrowed.
pub(crate) struct Interior<'a, T> {
    interior: self::sync::MutPtr<Option<T>>,
    owner: PhantomData<&'a mut Owner<T>>,
}

impl<T> Deref for Interior<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: only the owner leads out of OPEN and WANTED to where the control plane has the
        // interior, through exclusive borrows of itself, and it is borrowed while this value lives.
        // In OPEN there is an interior: `gate` and `open` put it in before. Only this value leads to it,
        // and while it is borrowed shared it hands out no other references than these.
        self.interior
            .with(|interior| unsafe { (*interior).as_ref().unwrap_unchecked() })
    }
}

impl<T> DerefMut for Interior<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; and this value is borrowed exclusively, so there is no other reference.
        let interior = unsafe { self.interior.deref() };
        // SAFETY: as above.
        unsafe { interior.as_mut().unwrap_unchecked() }
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        // Release as in `acknowledge`, from whichever state it was.
        self.gate.state.swap(GONE, Ordering::AcqRel);
    }
}

impl<T> std::fmt::Debug for Owner<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// The side of the control plane. There is one.
pub(crate) struct Control<T> {
    gate: Arc<Gate<T>>,
}

impl<T> Control<T> {
    /// Asks the owner for the interior. An owner that sleeps must be woken afterwards.
    pub(crate) fn want(&mut self) {
        // In every other state it is asked for already, or here. The exchange tells the owner no more
        // than the flag itself.
        let _ =
            self.gate
                .state
                .compare_exchange(OPEN, WANTED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the control plane has the interior: the owner acknowledged, or is gone.
    pub(crate) fn is_held(&self) -> bool {
        // Acquire pairs with the release of the owner: what it did is seen.
        matches!(self.gate.state.load(Ordering::Acquire), HELD | GONE)
    }

    /// Takes the interior out, if it is held and there is one.
    pub(crate) fn take(&mut self) -> Option<T> {
        if !self.is_held() {
            return None;
        }
        // SAFETY: in HELD and GONE the owner does not touch the interior; only `open` leads out of
        // HELD, and this side is borrowed exclusively.
        self.gate
            .interior
            .with_mut(|interior| unsafe { (*interior).take() })
    }

    /// Puts an interior in, which must be held, and gives it to the owner, if there is still one:
    /// otherwise it stays on this side. What could not be put in comes back.
    pub(crate) fn open(&mut self, new: T) -> Result<(), T> {
        if !self.is_held() {
            return Err(new);
        }
        // SAFETY: as in `take`.
        self.gate
            .interior
            .with_mut(|interior| unsafe { *interior = Some(new) });
        // Release: the owner sees the interior whole. If it is gone meanwhile, nothing changes hands.
        let _ = self
            .gate
            .state
            .compare_exchange(HELD, OPEN, Ordering::Release, Ordering::Relaxed);
        Ok(())
    }
}

impl<T> std::fmt::Debug for Control<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}

/// What the gate is made of: the machine's own, or loom's.
mod sync {
    #[cfg(mana_loom)]
    pub(super) use loom::{
        cell::{MutPtr, UnsafeCell},
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };
    #[cfg(not(mana_loom))]
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    /// A cell with the interface of loom's.
    #[cfg(not(mana_loom))]
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    /// What is in such a cell.
    #[cfg(not(mana_loom))]
    pub(super) struct MutPtr<T>(*mut T);

    #[cfg(not(mana_loom))]
    impl<T> MutPtr<T> {
        #[inline(always)]
        pub(super) fn with<R>(&self, run: impl FnOnce(*mut T) -> R) -> R {
            run(self.0)
        }

        /// # Safety
        ///
        /// The cell lives, and what is in it may be borrowed exclusively for as long as the reference is
        /// used.
        #[allow(clippy::mut_from_ref, reason = "it is as that of loom")]
        #[inline(always)]
        pub(super) unsafe fn deref(&self) -> &mut T {
            // SAFETY: so says the caller.
            unsafe { &mut *self.0 }
        }
    }

    #[cfg(not(mana_loom))]
    impl<T> UnsafeCell<T> {
        pub(super) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(super) fn with<R>(&self, run: impl FnOnce(*const T) -> R) -> R {
            run(self.0.get())
        }

        #[inline(always)]
        pub(super) fn get_mut(&self) -> MutPtr<T> {
            MutPtr(self.0.get())
        }

        pub(super) fn with_mut<R>(&self, run: impl FnOnce(*mut T) -> R) -> R {
            run(self.0.get())
        }
    }
}

#[cfg(all(test, mana_loom))]
#[path = "gate_loom.rs"]
mod loom;

#[cfg(all(test, not(mana_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_interior_changes_hands_when_the_owner_acknowledges_and_comes_back_opened() {
        let (mut owner, mut control) = gate(1);
        assert_eq!(owner.enter(|n| *n += 1), Some(()));
        assert!(!control.is_held() && control.take().is_none());
        assert_eq!(control.open(9), Err(9));
        assert!(!owner.acknowledge(), "nobody asked");
        control.want();
        control.want();
        assert_eq!(owner.enter(|_| ()), None);
        assert!(!control.is_held(), "not acknowledged yet");
        assert_eq!(owner.look(|n| *n), Some(2));
        assert!(owner.acknowledge() && !owner.acknowledge());
        assert_eq!(owner.look(|n| *n), None);
        assert_eq!((control.take(), control.take()), (Some(2), None));
        assert!(!owner.is_open());
        control.open(7).unwrap();
        assert_eq!(owner.enter(|n| *n), Some(7));
    }

    #[test]
    fn a_closed_gate_has_nothing_inside_until_it_is_opened() {
        let (mut owner, mut control) = closed_gate();
        assert!(owner.enter(|_: &mut i32| ()).is_none() && owner.look(|_| ()).is_none());
        control.want();
        assert!(!owner.acknowledge() && control.is_held());
        assert_eq!(control.take(), None);
        control.open(3).unwrap();
        assert_eq!(owner.enter(|n| *n), Some(3));
    }

    #[test]
    fn an_owner_that_goes_leaves_the_interior_whether_it_is_wanted_or_not() {
        for wanted in [false, true] {
            let (owner, mut control) = gate(1);
            if wanted {
                control.want();
            }
            drop(owner);
            assert!(control.is_held());
            assert_eq!(control.take(), Some(1));
            // It can be given anew, and stays.
            control.open(2).unwrap();
            control.want();
            assert!(control.is_held());
            assert_eq!(control.take(), Some(2));
        }
    }

    #[test]
    fn what_is_inside_is_dropped_once_with_the_later_side() {
        let counted = std::sync::Arc::new(());
        let inside = || std::sync::Arc::strong_count(&counted) - 1;
        let (owner, control) = gate(std::sync::Arc::clone(&counted));
        drop(control);
        assert_eq!(inside(), 1);
        drop(owner);
        assert_eq!(inside(), 0);
        let (owner, control) = gate(std::sync::Arc::clone(&counted));
        std::mem::forget(owner);
        drop(control);
        assert_eq!(inside(), 1, "a forgotten owner keeps it");
    }
}
