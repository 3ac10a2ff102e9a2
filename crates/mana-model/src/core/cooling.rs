//! Where completions lie when the driver reads them.
//!
//! The model runs on the driver's core, so what it writes is in that core's first cache: nearer than
//! any device's. Hardware writes to memory or, with DDIO, to the last level of cache. For
//! measurements each completion can be moved there after it was written.

use std::fmt;
use std::str::FromStr;

/// Where a completion is moved to after it was written. Hints to the processor: what a driver reads
/// is the same, sooner or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cooling {
    /// Left where it is.
    #[default]
    None,
    /// To a more distant cache (`cldemote`). Processors without the instruction do nothing.
    L3,
    /// Out of all caches (`clflush`).
    Memory,
}

impl Cooling {
    /// Each once.
    pub const ALL: [Self; 3] = [Self::None, Self::L3, Self::Memory];

    /// The name by which the command `cool` chooses it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::L3 => "l3",
            Self::Memory => "memory",
        }
    }

    /// Moves the line of cache with this address. Does nothing but on x86-64.
    #[inline]
    pub(super) fn apply(self, line: *const u8) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::None => {}
            // SAFETY: a hint about a mapped address, which the caller has just written to; elsewhere
            // it is a no-operation by its encoding (Intel's Software Developer's Manual, CLDEMOTE).
            Self::L3 => unsafe {
                std::arch::asm!("cldemote [{}]", in(reg) line, options(nostack, preserves_flags));
            },
            // SAFETY: part of SSE2; the address is mapped, and memory keeps what was written.
            Self::Memory => unsafe { std::arch::x86_64::_mm_clflush(line) },
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

impl fmt::Display for Cooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of a [`Cooling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, l3 or memory")]
pub struct ParseCoolingError;

impl FromStr for Cooling {
    type Err = ParseCoolingError;

    fn from_str(name: &str) -> Result<Self, ParseCoolingError> {
        let found = Self::ALL.into_iter().find(|cooling| cooling.name() == name);
        found.ok_or(ParseCoolingError)
    }
}
