//! The floor: the least that bursts over a MANA device can cost, for `mana bench` to hold drivers
//! against.
//!
//! [`Floor::tx_burst`] and [`Floor::rx_burst`] touch what a driver must touch, and do nothing else:
//! no check, no counter, no offload, no error. Nothing real can be built on them: one wrong completion and
//! they send from freed memory. Their machine code stands in `docs/floor.md`.
//!
//! | a packet out | a packet in |
//! |---|---|
//! | reads one metadata line | loads the 64 bytes of its CQE |
//! | writes a WQE of 32 bytes | writes (half of) one metadata line |
//! | writes a handle of 8 bytes into the shadow ring | reads the 8 bytes of its handle |
//! | its buffer goes back to a local cache, in one copy a burst | a buffer comes from the cache, and its address of 8 bytes goes into the prebuilt WQE |
//!
//! A burst out reads one CQE, and rings with fence, store, fence; a burst in rings likewise.
//!
//! The rings are real and made over a real or modelled device, so that the same model does the same
//! work between bursts as for any driver. One queue each way, bursts of one size that divides the
//! rings', and a device that has done all its work before the next burst is a condition.

mod bursts;
mod lines;
mod start;

pub use bursts::Floor;
pub use start::{FloorConfig, FloorError};
