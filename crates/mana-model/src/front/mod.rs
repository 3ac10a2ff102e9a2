//! The kernel in front of the device: discovery, contexts, and the rules of ib_uverbs and mana_ib.
//!
//! From the outside in: [`system`] lists and opens devices; [`transport`] is an open context, and
//! the only place where calls and doorbell mappings are counted and made to fail; [`call`] runs one
//! method over the state of [`machine`], [`context`] and [`objects`]; [`send`], [`receive`], [`cq`],
//! [`write`] and [`query`] are the methods. [`node`] is a context for unmodified programs, whose
//! ioctls [`lift`] reads back into calls. [`presence`] lets devices go and come back. [`pages`] finds out
//! whether memory that a program names is there. What differs between kernels stands in [`rules`].

mod attributes;
mod call;
mod context;
mod cq;
mod doorbells;
mod events;
mod handles;
mod lift;
pub(crate) mod machine;
mod methods;
pub(crate) mod node;
mod objects;
mod pages;
mod presence;
pub(crate) mod query;
mod receive;
mod rules;
mod send;
mod statistics;
pub(crate) mod system;
#[cfg(test)]
mod tests;
mod transport;
mod write;

/// Bytes of a page.
const PAGE: u64 = 4096;
