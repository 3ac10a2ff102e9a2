//! The control path of MANA: verbs objects, made by one of two providers: `rdma-core` (libibverbs
//! and libmana, opened at run time, a feature) or `uverbs` (the kernel's ABI, without any library).
//!
//! A [`Context`] is one open uverbs context of a device that a [`uverbs_abi::System`] found:
//! [`LinuxSystem`] on hardware, the device model in tests. From it come a [`ProtectionDomain`],
//! memory regions, completion queues and queue pairs, each an owned value that destroys its kernel
//! object when dropped and keeps alive everything the object stands on, so that teardown is in
//! reverse by ownership: queue pair, indirection table, work queue, completion queue, channel;
//! then memory region, protection domain, context.
//!
//! Memory that a device may write is freed only when that is safe: after the destroy of the object
//! over it succeeded, or, where the kernel answers `EIO` because the device is gone, after the
//! context is closed. After any other failure it is kept for the life of the process and named in
//! the log.
//!
//! Handles dropped in a forked child do nothing.
//!
//! ```no_run
//! use mana_verbs::{Context, LinuxSystem};
//! use uverbs_abi::System;
//!
//! let system = LinuxSystem::new();
//! for device in system.ib_devices()? {
//!     let context = Context::open(&system, &device)?;
//!     println!("{}: {:?}", device.name, context.attributes());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attributes;
mod channel;
mod context;
mod cq;
mod error;
mod event;
mod fd;
mod linux;
mod listener;
mod mr;
mod object;
mod pd;
mod provider;
mod rdma_core_error;
mod readiness;
mod rss;
#[cfg(test)]
mod scripted;
mod send_queue;
mod work_queue;

pub use attributes::{DeviceAttributes, PortAttributes};
pub use channel::CompletionChannel;
pub use context::Context;
pub use cq::CompletionQueue;
pub use error::{VerbsError, operation};
pub use event::AsyncEvent;
pub use fd::Waited;
pub use linux::LinuxSystem;
pub use listener::EventListener;
pub use mr::{Access, MemoryRegion};
pub use pd::ProtectionDomain;
pub use provider::{ParseProviderError, ProviderChoice};
pub use rdma_core_error::RdmaCoreError;
pub use readiness::{EventFd, PollSet, Timer};
pub use rss::{QueueIds, RssQueuePair};
pub use send_queue::{SendQueue, SendQueueSpec};
pub use work_queue::WorkQueue;

const _: () = {
    const fn assert_send<T: Send>() {}
    assert_send::<MemoryRegion>();
    assert_send::<SendQueue>();
    assert_send::<RssQueuePair>();
    const fn assert_sync<T: Send + Sync>() {}
    assert_sync::<Context>();
    assert_sync::<ProtectionDomain>();
    assert_sync::<CompletionChannel>();
    assert_sync::<EventListener>();
};
