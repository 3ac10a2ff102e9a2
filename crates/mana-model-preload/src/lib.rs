//! The model behind the boundary of unmodified programs: a library that `mana model exec` preloads.
//!
//! It answers what libibverbs, libmana and libnl ask the kernel (reference/uverbs-boundary.md):
//! `open`, `stat`, `ioctl`, `mmap`, `munmap` and `close` of a uverbs node, and a NETLINK_RDMA
//! socket. Everything else of the program goes to the C library as it came. A store to a doorbell
//! page faults, and the fault is where the device takes it: `trap`.
//!
//! From the outside in: `exports` are the symbols; `files`, `netlink`, `trap` and `control` answer;
//! `state` is what is ours, behind the one lock of `gate`; `heap` is memory that never touches the
//! program's own.

#![cfg_attr(
    test,
    allow(
        dead_code,
        unused_imports,
        reason = "the symbols that use it are not part of tests"
    )
)]

mod control;
mod decode;
#[cfg(not(test))]
mod exports;
mod files;
mod gate;
mod heap;
mod netlink;
mod report;
mod stacks;
mod state;
mod sys;
mod trap;
