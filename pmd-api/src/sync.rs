//! Atomics, cells and thread-locals: the machine's own, or loom's under `cfg(mana_loom)`.

#[cfg(not(mana_loom))]
pub(crate) use std::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

#[cfg(mana_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// Turns spent spinning before the time slice is given away. Plain spinning collapses when there
/// are more threads than cores.
#[cfg(not(mana_loom))]
const SPINS: u32 = 64;

/// Waits a moment for another thread; `turns` counts the calls of one wait.
#[inline]
pub(crate) fn wait(turns: &mut u32) {
    #[cfg(not(mana_loom))]
    {
        *turns += 1;
        if *turns <= SPINS {
            core::hint::spin_loop();
        } else {
            *turns = 0;
            std::thread::yield_now();
        }
    }
    #[cfg(mana_loom)]
    {
        *turns += 1;
        loom::thread::yield_now();
    }
}
