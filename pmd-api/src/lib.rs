//! What a dataplane sees of a poll-mode driver: packet buffers ([`Mbuf`]) from pools ([`Pool`]),
//! bursts of them ([`Batch`], [`RxBurst`], [`TxBurst`]), offloads, statistics, capabilities.
//!
//! Nothing here knows a device. Drivers use the shadow rings ([`RxShadowRing`], [`TxShadowRing`])
//! to own the buffers that are in their device's hands.
//!
//! ```
//! use pmd_api::{Batch, Pool, PoolConfig};
//!
//! let pool = Pool::new(PoolConfig { buffers: 512, cache: 32, ..PoolConfig::default() })?;
//! let mut batch = Batch::with_capacity(32);
//! pool.alloc_bulk(&mut batch, 32)?;
//! for mbuf in &mut batch {
//!     mbuf.extend_from_slice(&[0; 60])?;
//! }
//! assert_eq!(pool.available(), 480);
//! drop(batch);
//! assert_eq!(pool.available(), 512);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is safe
//! An mbuf may be dropped in any thread, after the last handle of its pool, leaked, or sent through
//! another port. Its metadata is private memory that no device reaches: a device that misbehaves
//! can spoil payload, never pointers. That it may write to a buffer after it has reported it
//! complete is outside what this crate guarantees.

mod batch;
mod burst;
mod capabilities;
mod histogram;
mod interrupt;
mod mbuf;
mod meta;
mod offload;
mod pool;
mod shadow;
mod stats;
mod sync;

pub use batch::Batch;
pub use burst::{BadPacket, Reject, RxBurst, TxBurst, TxOutcome};
pub use capabilities::{Capabilities, Support};
pub use histogram::Histogram;
pub use interrupt::{Armed, InterruptError, RxInterrupt, Wake};
pub use mbuf::{Mbuf, MbufError, SegmentRef, Segments, SegmentsMut};
pub use offload::{
    Checksum, ChecksumError, HashType, InternetSum, L3Type, L4Type, OffloadError, PacketType,
    RSS_KEY, RxWord, Toeplitz, TxFlags, TxOffload, TxWord, VLAN_PRESENT,
};
pub use pool::{ExternalMemory, Pool, PoolConfig, PoolError, PoolExhausted, PoolId};
pub use shadow::{
    Addresses, Arrival, PlainSegment, PlainSegments, Posted, PostedGroups, PostedNeighbours,
    RxShadowRing, ScatterShadowRing, TxPush, TxShadowRing,
};
pub use stats::{PortStats, QueueStats};

/// Bytes between the start of a buffer and where a received packet starts.
pub const HEADROOM: usize = 128;

#[cfg(all(test, not(mana_loom)))]
mod testing {
    use dma_memory::{HugePages, RegionOptions};

    use crate::{Batch, Pool, PoolConfig};

    /// A pool in ordinary pages.
    pub(crate) fn pool(buffers: u32, data_room: u32, cache: u32, cache_records: u32) -> Pool {
        Pool::new(PoolConfig {
            name: "test".to_owned(),
            buffers,
            data_room,
            cache,
            cache_records,
            memory: RegionOptions {
                huge: HugePages::Never,
                numa_node: None,
            },
        })
        .unwrap()
    }

    /// A batch of `count` packets whose first bytes count them.
    pub(crate) fn batch(pool: &Pool, count: usize) -> Batch {
        let mut batch = Batch::with_capacity(count);
        pool.alloc_bulk(&mut batch, count).unwrap();
        for (number, mbuf) in batch.iter_mut().enumerate() {
            mbuf.extend_from_slice(&[number as u8; 60]).unwrap();
        }
        batch
    }
}
