//! Suites that run over any pair of driver stack and device, and what they are made of.
//!
//! A [`Rig`] is one such pair. A [`Suite`] says what it needs of the device and proves one property
//! of the pair; [`suites::ALL`] lists them. The judges ([`toeplitz`], [`rfc1071`], [`capture`])
//! share no code with driver or model.

#![forbid(unsafe_code)]

pub mod capture;
pub mod device;
pub mod events;
pub mod guest;
pub mod host;
mod job;
pub mod matrix;
pub mod packets;
pub mod rfc1071;
pub mod rig;
pub mod running;
mod served;
mod skip;
pub mod soak;
pub mod stack;
mod steering;
pub mod suites;
pub mod tcp;
pub mod toeplitz;
mod tools;
pub mod uverbs;
pub mod vm;

pub use device::Device;
pub use rig::Rig;
pub use running::{Plan, Received, Running};
pub use served::Served;
pub use skip::skip;
pub use steering::Steering;
pub use suites::{Needs, Suite};

/// The forwarder of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
