//! The boundary between userspace and the kernel's `ib_uverbs` + `mana_ib` drivers, as types.
//!
//! Three things live here and none of them does I/O:
//!
//! * [`ids`]: numbers of objects, methods, attributes and commands;
//! * [`wire`]: the structures that cross the boundary, with their sizes asserted;
//! * [`System`] and [`Transport`]: what a machine must offer so that a driver can find MANA
//!   devices and talk to them. Linux (crate `mana-verbs`) and the device model
//!   (crate `mana-model`) implement both.
//!
//! Sources: reference/mana-hardware.md §4-§5, reference/uverbs-boundary.md §2.

#![forbid(unsafe_op_in_unsafe_fn)]

mod address;
mod errno;
pub mod ids;
mod system;
mod transport;
pub mod wire;

pub use address::{Mac, ParseAddressError, PciAddress};
pub use errno::Errno;
pub use system::{IbDevice, Netdev, System, SystemError, SystemKind};
pub use transport::{Attribute, Call, DoorbellKind, Transport, Value};
