//! Memory regions: what a key in a scatter-gather element stands for (reference/mana-hardware.md
//! §4.8).

use gdma::wqe::Sge;

use super::PdId;
use super::space::DmaSpace;
use crate::findings::FindingKind;

/// Access bit: the device may write.
const LOCAL_WRITE: u32 = 1;
/// Keys are this many times the slot, plus a generation: a key of a region that is gone names no
/// other one.
const GENERATIONS: u32 = 256;

/// A memory region.
#[derive(Debug)]
struct Region {
    pd: PdId,
    address: u64,
    access: u32,
    space: DmaSpace,
}

/// All memory regions of a device.
#[derive(Debug, Default)]
pub(crate) struct MrTable {
    slots: Vec<(u32, Option<Region>)>,
}

impl MrTable {
    /// Enters a region that segments name by `address`; returns its key.
    pub(crate) fn add(&mut self, pd: PdId, address: u64, access: u32, space: DmaSpace) -> u32 {
        let region = Some(Region {
            pd,
            address,
            access,
            space,
        });
        let slot = self.slots.iter().position(|(_, region)| region.is_none());
        let slot = slot.unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() - 1
        });
        let entry = &mut self.slots[slot];
        // Generation 0 is never used, so that key 0 names nothing.
        entry.0 = entry.0 % (GENERATIONS - 1) + 1;
        entry.1 = region;
        slot as u32 * GENERATIONS + entry.0
    }

    /// Number of regions.
    pub(crate) fn len(&self) -> usize {
        self.slots
            .iter()
            .filter(|(_, region)| region.is_some())
            .count()
    }

    /// Whether a region is in the domain.
    pub(crate) fn uses(&self, pd: PdId) -> bool {
        let mut regions = self.slots.iter().filter_map(|(_, region)| region.as_ref());
        regions.any(|region| region.pd == pd)
    }

    /// Forgets a region.
    pub(crate) fn remove(&mut self, key: u32) {
        if let Some((generation, region)) = self.slots.get_mut((key / GENERATIONS) as usize)
            && *generation == key % GENERATIONS
        {
            *region = None;
        }
    }

    /// The slot and offset that an element names, if a queue of `pd` may reach all of it.
    #[inline]
    pub(crate) fn translate(
        &self,
        sge: Sge,
        pd: PdId,
        write: bool,
    ) -> Result<(usize, u64), FindingKind> {
        let slot = (sge.key / GENERATIONS) as usize;
        let region = match self.slots.get(slot) {
            Some((generation, Some(region))) if *generation == sge.key % GENERATIONS => region,
            _ => return Err(FindingKind::MemoryKey),
        };
        if region.pd != pd {
            return Err(FindingKind::MemoryDomain);
        }
        if sge.size == 0 {
            return Err(FindingKind::EmptyElement);
        }
        if write && region.access & LOCAL_WRITE == 0 {
            return Err(FindingKind::MemoryAccess);
        }
        let offset = sge.address.wrapping_sub(region.address);
        match offset.checked_add(sge.size.into()) {
            Some(end) if end <= region.space.len() => Ok((slot, offset)),
            _ => Err(FindingKind::MemoryBounds),
        }
    }

    /// Copies bytes out of the region in a slot.
    #[inline]
    pub(crate) fn read(&self, slot: usize, offset: u64, bytes: &mut [u8]) -> Option<()> {
        let (_, region) = self.slots.get(slot)?;
        region.as_ref()?.space.read(offset, bytes)
    }

    /// Copies bytes into the region in a slot.
    #[inline]
    pub(crate) fn write(&mut self, slot: usize, offset: u64, bytes: &[u8]) -> Option<()> {
        let (_, region) = self.slots.get_mut(slot)?;
        region.as_mut()?.space.write(offset, bytes)
    }
}
