//! Formats and rings of the MANA hardware (GDMA): definitions, ring memory, cursors, doorbells.
//!
//! Nothing here does I/O or allocates. The formats are plain values ([`wqe`], [`oob`], [`cqe`],
//! [`eqe`], [`hash_type`], and the doorbell values of [`doorbell`]) that driver and device model
//! share. The rings ([`SendRing`], [`ReceiveRing`], [`ScatterRing`], [`CompletionRing`]) are the driver's side of a
//! queue: they write and read memory that a device reaches at the same time, always through
//! [`RingMemory`], one 64-bit atomic access at a time.
//!
//! Writing work and telling the device about it are two steps: nothing that was written is visible
//! as work before `commit` rings the doorbell.
//!
//! [`cycles`] reads the processor's time-stamp counter, for those who measure what a burst costs.
//!
//! All structures are little-endian; bit 0 is the least significant bit. Sources are sections of
//! `reference/mana-hardware.md`, named `§n` throughout.

#![cfg_attr(not(any(test, mana_loom)), no_std)]

#[cfg(target_endian = "big")]
compile_error!("MANA's structures are little-endian and are written here in native order");

pub mod cqe;
pub mod cycles;
pub mod doorbell;
pub mod eqe;
pub mod hash_type;
pub mod oob;
pub mod owner;
pub mod wqe;

mod completion;
mod memory;
mod receive;
mod scatter;
mod send;

pub use completion::{CompletionRing, CqCursor, Entries, Entry, Polled};
pub use doorbell::Doorbell;
pub use memory::{RingError, RingMemory};
pub use receive::{ReceiveRing, ReceiveWqes};
pub use scatter::ScatterRing;
pub use send::{SendRing, Unit, Wqe};
