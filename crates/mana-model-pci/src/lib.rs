//! The MANA device in software as a PCI function over vfio-user: what Linux's own drivers probe.

mod function;
mod limits;

pub use function::Function;
