//! Pieces of a region that keep it alive.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::Region;
use crate::page::BASE;

/// A piece of a region that starts on a multiple of 4096 bytes and keeps the region alive.
///
/// It is an address range, not a reference: two segments may overlap, and whoever builds cells
/// over one answers for it.
#[derive(Clone)]
pub struct Segment {
    region: Arc<Region>,
    offset: usize,
    len: usize,
}

impl Segment {
    /// The piece of `len` bytes at `offset`. `None` when it is empty, not aligned to 4096, not inside
    /// the region, or the region is [indivisible](Region::indivisible).
    pub fn new(region: &Arc<Region>, offset: usize, len: usize) -> Option<Segment> {
        let end = offset.checked_add(len)?;
        let sound = offset.is_multiple_of(BASE) && end <= region.len() && region.is_divisible();
        if len == 0 || !sound {
            return None;
        }
        Some(Segment {
            region: Arc::clone(region),
            offset,
            len,
        })
    }

    /// Address of the first byte; valid for [`Segment::len`] bytes while this value lives.
    pub fn base(&self) -> NonNull<u8> {
        // SAFETY: the constructor has checked that offset + len lies in the region's mapping, which
        // `region` keeps alive.
        unsafe { self.region.base().add(self.offset) }
    }

    /// Length in bytes, never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The region this is a piece of.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("region", &self.region.name())
            .field("offset", &self.offset)
            .field("len", &self.len)
            .finish()
    }
}

/// Carves segments out of one region, each handed out once and never taken back.
#[derive(Debug)]
pub struct Arena {
    region: Arc<Region>,
    next: usize,
}

impl Arena {
    /// An arena over the whole region. What it hands out is zeroed as long as nobody else writes
    /// to the region.
    pub fn new(region: Arc<Region>) -> Arena {
        Arena { region, next: 0 }
    }

    /// The next `len` bytes, rounded up to whole 4096. `None` when the region has no room (the
    /// arena is unchanged then) or `len` is 0.
    pub fn take(&mut self, len: usize) -> Option<Segment> {
        let segment = Segment::new(&self.region, self.next, len.checked_next_multiple_of(BASE)?)?;
        self.next += segment.len();
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HugePages, RegionOptions};

    fn region(len: usize) -> Arc<Region> {
        let options = RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        };
        Arc::new(Region::allocate("segment-test", len, &options).unwrap())
    }

    #[test]
    fn nothing_is_cut_from_an_indivisible_region() {
        let options = RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        };
        let region = Region::allocate("segment-test", BASE, &options).unwrap();
        let region = Arc::new(region.indivisible());
        assert!(Segment::new(&region, 0, BASE).is_none());
        assert!(crate::Arena::new(region).take(BASE).is_none());
    }

    #[test]
    fn a_segment_is_aligned_and_inside_its_region() {
        let region = region(4 * BASE);
        let segment = Segment::new(&region, BASE, 3 * BASE).unwrap();
        assert_eq!(
            segment.base().addr().get(),
            region.base().addr().get() + BASE
        );
        assert_eq!(segment.len(), 3 * BASE);
        for (offset, len) in [
            (0, 0),
            (64, BASE),
            (BASE, 3 * BASE + 1),
            (usize::MAX - 4095, BASE),
            (BASE, usize::MAX),
        ] {
            assert!(
                Segment::new(&region, offset, len).is_none(),
                "{offset} + {len}"
            );
        }
    }

    #[test]
    fn an_arena_hands_out_disjoint_pages_until_the_region_is_used_up() {
        let mut arena = Arena::new(region(4 * BASE));
        let first = arena.take(1).unwrap();
        let second = arena.take(BASE + 1).unwrap();
        assert_eq!((first.len(), second.len()), (BASE, 2 * BASE));
        assert_eq!(second.base().addr().get(), first.base().addr().get() + BASE);
        assert!(arena.take(BASE + 1).is_none(), "one page is left");
        assert!(arena.take(0).is_none());
        assert!(arena.take(usize::MAX).is_none());
        assert!(arena.take(BASE).is_some());
        assert!(arena.take(1).is_none());
    }

    #[test]
    fn a_segment_keeps_its_region_alive() {
        let region = region(BASE);
        let weak = Arc::downgrade(&region);
        let segment = Segment::new(&region, 0, BASE).unwrap();
        drop(region);
        assert!(weak.upgrade().is_some());
        drop(segment);
        assert!(weak.upgrade().is_none());
    }
}
