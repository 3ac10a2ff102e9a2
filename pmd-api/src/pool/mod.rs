//! Packet buffer pools.

mod depot;
mod external;
mod home;
mod lines;
mod record;
mod ring;
mod slots;
mod thread;

#[cfg(all(test, mana_loom))]
mod loom;
#[cfg(all(test, not(mana_loom)))]
mod tests;

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dma_memory::{MemoryError, Region, RegionOptions};

use crate::meta::{Handle, Line};
use crate::{Batch, HEADROOM, Mbuf};
use depot::Depot;
use record::RecordTable;

pub(crate) use external::External;
pub use external::ExternalMemory;
pub(crate) use home::{drop_all, drop_one, recycle, recycle_chains};
pub(crate) use lines::Lines;

/// What a pool is to have.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Name in errors and in the log, and of the memory.
    pub name: String,
    /// Number of buffers.
    pub buffers: u32,
    /// Bytes of a buffer, headroom of [`HEADROOM`] bytes included: testpmd's `--mbuf-size`. More
    /// than the headroom, at most 65535.
    pub data_room: u32,
    /// Buffers that a cache record aims to hold; up to 1.5 times as many rest in it. 0: no caches.
    pub cache: u32,
    /// Number of threads that can have a cache record at a time, at most 64. More threads may use
    /// the pool; they use the shared ring.
    pub cache_records: u32,
    /// The memory to take the buffers from.
    pub memory: RegionOptions,
}

impl Default for PoolConfig {
    /// 8192 buffers of 2048 bytes and the headroom, 16 records of 250.
    fn default() -> Self {
        Self {
            name: "pool".to_owned(),
            buffers: 8192,
            data_room: 2048 + HEADROOM as u32,
            cache: 250,
            cache_records: 16,
            memory: RegionOptions::default(),
        }
    }
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No buffers, or more than can be counted.
    #[error("pool `{name}`: {buffers} buffers; give 1 to {}", MAX_BUFFERS)]
    Buffers {
        /// The pool.
        name: String,
        /// Buffers asked for.
        buffers: u32,
    },
    /// Buffers too small or too large.
    #[error(
        "pool `{name}`: buffers of {data_room} bytes; give {} to {} (headroom of {} included)",
        HEADROOM + 1, u16::MAX, HEADROOM
    )]
    DataRoom {
        /// The pool.
        name: String,
        /// Bytes of a buffer asked for.
        data_room: u32,
    },
    /// One cache record could swallow the whole pool.
    #[error(
        "pool `{name}`: a cache of {cache} holds up to {} buffers, the pool has {buffers}; \
         give a cache of at most {}, or more buffers",
        u64::from(*cache) * 3 / 2, (buffers * 2 + 1) / 3
    )]
    Cache {
        /// The pool.
        name: String,
        /// Cache size asked for.
        cache: u32,
        /// Buffers of the pool.
        buffers: u32,
    },
    /// More records than a pool can have.
    #[error(
        "pool `{name}`: {records} cache records; a pool has at most {}",
        record::MAX_RECORDS
    )]
    CacheRecords {
        /// The pool.
        name: String,
        /// Records asked for.
        records: u32,
    },
    /// 2^32 pools have been made in this process; ids are never used again.
    #[error("pool `{name}`: this process has used up all pool ids; restart it")]
    Ids {
        /// The pool.
        name: String,
    },
    /// The memory could not be had.
    #[error("pool `{name}`: {source}")]
    Memory {
        /// The pool.
        name: String,
        /// Why, and what mends it.
        source: MemoryError,
    },
}

/// Fewer buffers are free than were asked for; none was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} buffers wanted, fewer are free; give the pool more buffers")]
pub struct PoolExhausted {
    /// Buffers asked for.
    pub wanted: usize,
}

/// Names a pool or an [`ExternalMemory`] for as long as the process lives: never used again for
/// another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PoolId(pub(crate) u32);

impl PoolId {
    /// The number itself.
    #[inline]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for PoolId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Most buffers of one pool.
const MAX_BUFFERS: u32 = 1 << 24;

/// What a pool consists of besides the ring and the records. Dropped when all buffers are home.
pub(crate) struct Body {
    pub(crate) lines: Lines,
    pub(crate) id: u32,
    name: String,
    region: Arc<Region>,
    stride: usize,
    pub(crate) length: u16,
    cache: u32,
}

impl Body {
    /// What turns a line of this pool into the address at which a packet received into its own
    /// buffer starts.
    pub(crate) fn data_address(&self) -> DataAddress {
        // Slot 1 has buffer 0. The base of slot 0 is only a number.
        let base = self.region.base().addr().get().wrapping_sub(self.stride) + HEADROOM;
        let step = (self.stride / size_of::<Line>()) as u64;
        let lines = self.lines.base() as u64;
        DataAddress {
            base: (base as u64).wrapping_sub(lines.wrapping_mul(step)),
            step,
        }
    }

    /// Start of the own buffer of a line of this pool.
    pub(crate) fn own_buffer(&self, line: Handle) -> *mut u8 {
        let offset = self.lines.buffer_of(line) * self.stride;
        // SAFETY: the region was allocated for every buffer number that a line has.
        unsafe { self.region.base().as_ptr().add(offset) }
    }
}

/// See [`Body::data_address`]. Looks at no line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataAddress {
    /// What would belong to a line at address 0.
    base: u64,
    /// Buffer stride in lines.
    step: u64,
}

impl DataAddress {
    /// Where a packet starts in the own buffer of `line`.
    #[inline]
    pub(crate) fn of(self, line: Handle) -> u64 {
        let line = line.as_ptr().addr().get() as u64;
        self.base.wrapping_add(line.wrapping_mul(self.step))
    }
}

pub(crate) type PoolDepot = Depot<Handle, Body>;

/// A pool of packet buffers of one size, in one memory region.
///
/// A handle: clones name the same pool. Buffers need no handle; when the last one is dropped, the
/// memory is freed as soon as every buffer is home. Buffers resting in cache records count as
/// home; in the worst case (a buffer dropped by another thread in that very moment) the memory
/// goes when the threads that hold records end. A leaked [`Mbuf`] keeps its pool's memory for
/// good.
///
/// In front of the pool's shared ring stands a fixed number of cache records. A thread takes one at
/// its first burst or bulk allocation and gives it back when it ends; threads without one use the
/// ring.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// What all handles share: the right to take from the depot.
struct Shared {
    depot: NonNull<PoolDepot>,
}

// SAFETY: the depot is made to be used by all threads: ring and records are synchronised, and the
// body is `Sync` (region, lines, numbers).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this is the last handle, and drops once.
        unsafe { Depot::retire(self.depot) }
    }
}

const _: () = {
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Pool>();
    send_and_sync::<Body>();
};

impl Pool {
    /// Allocates the memory and builds the pool, all buffers free.
    ///
    /// # Errors
    /// A configuration that cannot be, or the memory's error.
    pub fn new(config: PoolConfig) -> Result<Pool, PoolError> {
        let PoolConfig {
            name,
            buffers,
            data_room,
            cache,
            cache_records,
            memory,
        } = config;
        if buffers == 0 || buffers > MAX_BUFFERS {
            return Err(PoolError::Buffers { name, buffers });
        }
        let length = match u16::try_from(data_room) {
            Ok(length) if usize::from(length) > HEADROOM => length,
            _ => return Err(PoolError::DataRoom { name, data_room }),
        };
        if cache_records > record::MAX_RECORDS {
            return Err(PoolError::CacheRecords {
                name,
                records: cache_records,
            });
        }
        if cache_records != 0 && u64::from(cache) * 3 / 2 > u64::from(buffers) {
            return Err(PoolError::Cache {
                name,
                cache,
                buffers,
            });
        }
        // An odd number of cache lines from buffer to buffer: a power of two would put the same
        // part of every packet into the same few sets of the CPU's cache.
        let stride = (usize::from(length).div_ceil(64) | 1) * 64;
        let region = match Region::allocate(&name, lines::buffers_needed(buffers) * stride, &memory)
        {
            Ok(region) => Arc::new(region.indivisible()),
            Err(source) => return Err(PoolError::Memory { name, source }),
        };
        let Some(id) = next_id() else {
            return Err(PoolError::Ids { name });
        };
        tracing::debug!(pool = %name, id, buffers, stride, pages = %region.page_kind(), "pool made");
        let base = region.base().as_ptr();
        let lines = Lines::new(buffers, |buffer| {
            // The region has room for every buffer number.
            Line::new(id, base.wrapping_add(buffer * stride), length)
        });
        let handles = lines.handles();
        let body = Body {
            lines,
            id,
            name,
            region,
            stride,
            length,
            cache,
        };
        let depot = Depot::new(&handles, RecordTable::new(cache_records, cache), body);
        // SAFETY: just made; this handle keeps it.
        unsafe { depot.as_ref() }.body().lines.set_depot(depot);
        Ok(Pool {
            shared: Arc::new(Shared { depot }),
        })
    }

    #[inline]
    pub(crate) fn depot(&self) -> &PoolDepot {
        // SAFETY: the depot lives while a handle does.
        unsafe { self.shared.depot.as_ref() }
    }

    #[inline]
    pub(crate) fn body(&self) -> &Body {
        self.depot().body()
    }

    /// Takes one buffer: empty, after the headroom, port 65535, no offloads. The application's
    /// word is as its last user left it.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut one = [MaybeUninit::uninit()];
        let record = thread::record(self.body().id);
        if Self::take(self.depot(), record, &mut one, 1) == 0 {
            return None;
        }
        // SAFETY: `take` has initialised it, and it is ours alone.
        let handle = unsafe { one[0].assume_init() };
        // SAFETY: a free line that this thread owns.
        unsafe { handle.write_first_half(Handle::first_word(u16::MAX), 0, 0, 0) };
        // SAFETY: the line is ours, and whole.
        Some(unsafe { Mbuf::from_handle(handle) })
    }

    /// Appends `count` buffers to `batch`, or none. They are as [`Pool::alloc`] gives them.
    ///
    /// # Errors
    /// Fewer are free (those in other threads' cache records don't count).
    ///
    /// # Panics
    /// If the batch has no room for them.
    #[inline]
    pub fn alloc_bulk(&self, batch: &mut Batch, count: usize) -> Result<(), PoolExhausted> {
        let room = batch.room();
        assert!(
            count <= room,
            "{count} buffers for a batch with room for {room}"
        );
        let slots = batch.free_slots(count);
        if self.fill(slots, count) < count {
            return Err(PoolExhausted { wanted: count });
        }
        let first_word = Handle::first_word(u16::MAX);
        for slot in slots {
            // SAFETY: `fill` has initialised all of them, with free lines that this thread owns.
            unsafe {
                slot.assume_init_read()
                    .write_first_half(first_word, 0, 0, 0)
            };
        }
        // SAFETY: the next `count` slots hold mbufs now, whole ones and ours.
        unsafe { batch.grow(count) };
        Ok(())
    }

    /// Takes free lines, through this thread's record, which is claimed if need be: as many as fit
    /// into `into`, but none if fewer than `at_least` can be had. Returns how many. They are the
    /// caller's from then on, and keep the invariant of free memory.
    #[inline]
    pub(crate) fn fill(&self, into: &mut [MaybeUninit<Handle>], at_least: usize) -> usize {
        let depot = self.depot();
        // SAFETY: this handle keeps the depot alive.
        let record = unsafe { thread::claimed_record(self.body().id, || self.shared.depot) };
        Self::take(depot, record, into, at_least)
    }

    #[inline]
    fn take(
        depot: &PoolDepot,
        record: Option<thread::RecordPointer>,
        into: &mut [MaybeUninit<Handle>],
        at_least: usize,
    ) -> usize {
        match record {
            // SAFETY: this thread's record, found a moment ago, and the pool has a handle: ours.
            Some(record) => unsafe { record.as_ref().take(into, at_least, depot) },
            None => depot.take(into, at_least as u32),
        }
    }

    /// Number of buffers.
    pub fn capacity(&self) -> u32 {
        self.depot().capacity()
    }

    /// Free buffers: in the ring and in all cache records. Exact while no other thread allocates
    /// or frees; otherwise a buffer that is moving meanwhile may be missed or counted twice.
    pub fn available(&self) -> u32 {
        self.depot().available()
    }

    /// Buffers that are not free, seen as [`Pool::available`] sees it.
    pub fn in_use(&self) -> u32 {
        self.capacity() - self.available()
    }

    /// The pool's name for tables of memory keys and the like.
    #[inline]
    pub fn id(&self) -> PoolId {
        PoolId(self.body().id)
    }

    /// The memory of all buffers. Who holds it keeps it mapped, whatever becomes of the pool.
    pub fn region(&self) -> &Arc<Region> {
        &self.body().region
    }

    /// Bytes of a buffer, headroom included.
    pub fn data_room(&self) -> u32 {
        u32::from(self.body().length)
    }

    /// Buffers that a cache record aims to hold.
    pub fn cache(&self) -> u32 {
        self.body().cache
    }

    /// Name given at creation.
    pub fn name(&self) -> &str {
        &self.body().name
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("capacity", &self.capacity())
            .field("available", &self.available())
            .finish()
    }
}

/// The next id; `None` when all are used up.
fn next_id() -> Option<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(thread::NO_POOL + 1);
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
        .ok()
}
