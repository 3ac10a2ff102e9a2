//! Memory regions: memory that segments may name.

use std::sync::Arc;

use dma_memory::{Region, check_memlock};
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
        // Others may hold references to it.
        let access = match region.is_read_only() {
            true => Access::LocalRead,
            false => access,
        };
        // SAFETY: the region is mapped as long as an Arc of it lives and dma-memory hands out no
        // reference to it, or it is only read. The object made below holds an Arc and gives it up only after
        // the destroy succeeded or the context is closed; if none is made, nothing is registered.
        let created =
            unsafe { (pd.context().raw()).register_memory(pd.handle(), memory, access.bits()) }
                .map_err(|error| error.with_memlock(|| check_memlock(region.len())))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Machine, region};

    /// Layout of reference/mana-hardware.md §5.3: start 8, length 16, hca_va 24, pd 32, access 36.
    #[test]
    fn the_whole_region_is_registered_under_its_own_addresses() {
        let machine = Machine::new();
        let pd = machine.pd();
        let region = region();
        for (access, bits) in [(Access::LocalRead, 0), (Access::LocalWrite, 1)] {
            let mr = pd.register(&region, access).unwrap();
            assert_eq!(mr.lkey(), 77);
            let script = machine.script();
            let request = &script.calls["register memory"].inputs[&0];
            let word = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
            let start = region.base().as_ptr() as u64;
            assert_eq!([word(8), word(24)], [start, start]);
            assert_eq!(word(16), region.len() as u64);
            assert_eq!(request[32..36], pd.handle().to_ne_bytes());
            assert_eq!(request[36..40], u32::to_ne_bytes(bits));
            drop(script);
            mr.destroy().unwrap();
        }
        assert_eq!(machine.live(), 1);
    }

    #[test]
    fn memory_of_others_is_registered_for_reading_whatever_is_asked() {
        static BYTES: [u8; 100] = [7; 100];
        let machine = Machine::new();
        let pd = machine.pd();
        let base = std::ptr::NonNull::from(&BYTES).cast();
        // SAFETY: a constant is always there.
        let region = unsafe { Region::adopt("constant", base, 100, Box::new(())) };
        let mr = pd.register(&Arc::new(region.unwrap()), Access::LocalWrite);
        let script = machine.script();
        let request = &script.calls["register memory"].inputs[&0];
        assert_eq!(request[36..40], u32::to_ne_bytes(0));
        assert_eq!(request[16..24], u64::to_ne_bytes(100));
        drop(script);
        mr.unwrap().destroy().unwrap();
    }

    #[test]
    fn the_domain_and_the_context_outlive_the_region() {
        let machine = Machine::new();
        let pd = machine.pd();
        let mr = pd.register(&region(), Access::LocalWrite).unwrap();
        machine.log();
        drop(pd);
        assert_eq!(machine.log(), [""; 0]);
        drop(mr);
        assert_eq!(machine.log(), ["destroy mr", "destroy pd", "close"]);
    }
}
