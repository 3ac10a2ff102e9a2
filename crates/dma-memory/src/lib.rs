//! Memory that devices can reach: one mapping a [`Region`], in the largest pages the machine gives.
//!
//! [`Region::allocate`] tries hugetlb pages (a memfd, so that the region can be shared by its
//! descriptor), then transparent huge pages, then base pages; what it skipped and why is said once
//! in the log and kept in [`Region::steps_down`]. The page size reported is the one the kernel
//! states in `/proc/self/smaps`, never the one that was asked for.
//!
//! Every region is zeroed and populated before it is handed out: exhaustion is an error here, not
//! a SIGBUS in the middle of a burst. No function hands out a reference to the memory itself,
//! because a device may write to it at any time; users build their own cells over [`Region::base`].
//!
//! ```
//! use std::sync::Arc;
//! use dma_memory::{Arena, Region, RegionOptions};
//!
//! let region = Arc::new(Region::allocate("rings", 64 << 10, &RegionOptions::default())?);
//! println!("{} bytes in {}", region.len(), region.page_kind());
//! let mut arena = Arena::new(region);
//! let ring = arena.take(4096).expect("the region has room");
//! assert_eq!(ring.base().as_ptr() as usize % 4096, 0);
//! # Ok::<(), dma_memory::MemoryError>(())
//! ```

#![cfg(target_os = "linux")]

mod error;
mod hugepages;
mod mapping;
mod memlock;
mod numa;
mod page;
mod region;
mod segment;
mod smaps;

pub use error::MemoryError;
pub use memlock::check_memlock;
pub use page::{HugePages, PageKind};
pub use region::{Region, RegionOptions};
pub use segment::{Arena, Segment};
