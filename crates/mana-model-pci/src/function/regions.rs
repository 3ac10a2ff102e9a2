//! DMA regions: lists of pages that come in one or several messages, until a queue or a memory region
//! takes them over (reference/mana-hardware.md §6.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use mana_model::hardware::{BusMemory, BusPages};

use super::{Failure, status};

/// Addresses that all lists together may hold: 64 GiB in pages of 4 KiB.
const MOST_PAGES: u64 = 1 << 24;
/// Lists that there may be.
const MOST_REGIONS: usize = 1 << 15;
/// The largest kind of page: 2 GiB.
const LARGEST_PAGE_TYPE: u32 = 19;

/// What CREATE_DMA_REGION says of a region besides its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bytes.
    pub(super) length: u64,
    /// Where in the first page it begins.
    pub(super) offset: u32,
    /// Pages have 4 KiB times two to the power of it.
    pub(super) page_type: u32,
    /// How many there will be.
    pub(super) page_count: u32,
}

#[derive(Debug)]
struct Region {
    shape: Shape,
    pages: Vec<u64>,
}

/// Regions that the driver has a handle of.
#[derive(Debug, Default)]
pub(super) struct Regions {
    regions: BTreeMap<u64, Region>,
    last: u64,
    /// Addresses that were announced, here and where regions went.
    announced: u64,
}

/// How many addresses a region had that was taken over, to be given back by [`Regions::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Held(u64);

impl Regions {
    pub(super) fn is_empty(&self) -> bool {
        self.regions.is_empty() && self.announced == 0
    }

    /// Makes a region; returns its handle, and the status that says whether addresses are missing.
    pub(super) fn create(&mut self, shape: Shape, pages: Vec<u64>) -> Result<(u64, u32), Failure> {
        if shape.page_type > LARGEST_PAGE_TYPE {
            return Err(Failure::invalid(format!("page type {}", shape.page_type)));
        }
        let size = 4096_u64 << shape.page_type;
        let end = u64::from(shape.offset).checked_add(shape.length);
        let needed = end.map(|end| end.div_ceil(size));
        if shape.length == 0
            || u64::from(shape.offset) >= size
            || needed != Some(u64::from(shape.page_count))
            || pages.len() > shape.page_count as usize
        {
            return Err(Failure::invalid(format!(
                "{shape:?}, {} addresses",
                pages.len()
            )));
        }
        let announced = self.announced + u64::from(shape.page_count);
        if announced > MOST_PAGES || self.regions.len() >= MOST_REGIONS {
            return Err(Failure {
                status: status::LIMIT,
                why: format!("{} DMA regions with {announced} pages", self.regions.len()),
            });
        }
        aligned(&pages, size)?;
        self.last += 1;
        self.announced = announced;
        let region = Region { shape, pages };
        let status = region.status();
        self.regions.insert(self.last, region);
        Ok((self.last, status))
    }

    /// Adds addresses; returns the status that says whether more are missing.
    pub(super) fn add(&mut self, handle: u64, pages: &[u64]) -> Result<u32, Failure> {
        let region = self
            .regions
            .get_mut(&handle)
            .ok_or_else(|| missing(handle))?;
        let whole = region.pages.len() + pages.len();
        if whole > region.shape.page_count as usize {
            let why = format!("{whole} addresses of {}", region.shape.page_count);
            return Err(Failure::invalid(why));
        }
        aligned(pages, 4096 << region.shape.page_type)?;
        region.pages.extend_from_slice(pages);
        Ok(region.status())
    }

    /// Destroys a region.
    pub(super) fn destroy(&mut self, handle: u64) -> Result<(), Failure> {
        let region = self
            .regions
            .remove(&handle)
            .ok_or_else(|| missing(handle))?;
        self.announced -= u64::from(region.shape.page_count);
        Ok(())
    }

    /// The memory of a region.
    pub(super) fn memory(
        &self,
        handle: u64,
        memory: &Arc<dyn BusMemory>,
    ) -> Result<BusPages, Failure> {
        let region = self.regions.get(&handle).ok_or_else(|| missing(handle))?;
        let Shape {
            length,
            offset,
            page_type,
            ..
        } = region.shape;
        let pages = region.pages.clone();
        BusPages::new(
            Arc::clone(memory),
            pages,
            12 + page_type,
            offset.into(),
            length,
        )
        .ok_or_else(|| Failure::invalid(format!("DMA region {handle} lacks addresses")))
    }

    /// Something has taken the region over: the handle is no more.
    pub(super) fn take_over(&mut self, handle: u64) -> Held {
        let region = self.regions.remove(&handle);
        Held(region.map_or(0, |region| u64::from(region.shape.page_count)))
    }

    /// Whatever took a region over is gone.
    pub(super) fn release(&mut self, held: Held) {
        self.announced -= held.0;
    }
}

impl std::ops::Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Region {
    fn status(&self) -> u32 {
        match self.pages.len() < self.shape.page_count as usize {
            true => status::MORE_ENTRIES,
            false => status::OK,
        }
    }
}

fn missing(handle: u64) -> Failure {
    Failure::missing(format!("no DMA region {handle:#x}"))
}

fn aligned(pages: &[u64], size: u64) -> Result<(), Failure> {
    match pages.iter().find(|page| !page.is_multiple_of(size)) {
        None => Ok(()),
        Some(page) => Err(Failure::invalid(format!(
            "page at {page:#x} of {size:#x} bytes"
        ))),
    }
}
