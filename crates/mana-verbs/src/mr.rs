//! Memory regions: memory that segments may name.

use std::sync::Arc;

use dma_memory::Region;
use uverbs_abi::ids::ACCESS_LOCAL_WRITE;

use crate::object::{Memory, Object};
use crate::provider::{Buffer, ObjectKind};
use crate::{ProtectionDomain, VerbsError};

/// What the device may do with registered memory (reference/mana-hardware.md §4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it: enough for sending.
    LocalRead,
    /// Read and write it: needed for receiving.
    LocalWrite,
}

impl Access {
    const fn bits(self) -> u32 {
        match self {
            Self::LocalRead => 0,
            Self::LocalWrite => ACCESS_LOCAL_WRITE,
        }
    }
}

/// A registered [`Region`]. Segments name it by address of this process and [`MemoryRegion::lkey`].
/// Dropping it deregisters.
#[derive(Debug)]
pub struct MemoryRegion {
    object: Object,
    region: Arc<Region>,
    lkey: u32,
    /// Outlives the region.
    pd: ProtectionDomain,
}

impl MemoryRegion {
    pub(crate) fn create(
        pd: &ProtectionDomain,
        region: &Arc<Region>,
        access: Access,
    ) -> Result<Self, VerbsError> {
        let memory = Buffer {
            address: region.base().as_ptr().expose_provenance() as u64,
            bytes: region.len() as u64,
        };
        // SAFETY: the region is mapped as long as an Arc of it lives and dma-memory hands out no
        // reference to it. The object made below holds an Arc and gives it up only after the
        // destroy succeeded or the context is closed; if none is made, nothing is registered.
        let created =
            unsafe { (pd.context().raw()).register_memory(pd.handle(), memory, access.bits())? };
        let memory = Some(Memory::Region(Arc::clone(region)));
        let kind = ObjectKind::MemoryRegion;
        Ok(Self {
            object: Object::new(pd.context(), kind, created.handle, memory),
            region: Arc::clone(region),
            lkey: created.lkey,
            pd: pd.clone(),
        })
    }

    /// The key by which segments name this memory.
    #[must_use]
    pub fn lkey(&self) -> u32 {
        self.lkey
    }

    /// The registered memory.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The protection domain under which the key is valid.
    #[must_use]
    pub fn protection_domain(&self) -> &ProtectionDomain {
        &self.pd
    }

    /// Deregisters now; dropping does the same but only logs an error.
    ///
    /// # Errors
    ///
    /// The kernel's. The memory is kept as the crate's documentation says.
    pub fn destroy(self) -> Result<(), VerbsError> {
        self.object.destroy()
    }
}
