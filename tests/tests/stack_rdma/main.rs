//! The provider `rdma-core` over Debian's libibverbs and libmana, of the first release with a
//! libmana and of a current one, on the preloaded model: what it sends, and what it says of
//! libraries that can't serve.

#![forbid(unsafe_code)]

mod allocator;
mod bad_input;
mod boundary;
mod commands;
mod libraries;
