//! The device without a kernel in front of it, for a front that speaks its own language: what the
//! device does with memory that is reached through a bus.

pub use crate::core::{BusMemory, BusPages, EventQueue};
