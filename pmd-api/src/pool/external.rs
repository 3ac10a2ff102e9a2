//! Memory that belongs to the application and that packets can refer to, without a copy.

use std::any::Any;
use std::mem::size_of;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use dma_memory::Region;

use super::{Pool, PoolError, PoolId, next_id};
use crate::meta::Origin;
use crate::{Mbuf, MbufError};

/// Told which bytes are free again.
type Release = Box<dyn Fn(Range<usize>) + Send + Sync>;

/// Memory of the application's that packets can be sent from: a file in memory, a cache, a constant.
///
/// A handle: clones name the same memory, which lives as long as one of them, a packet that refers to
/// it, or a port that was started with it. Packets over it can only be read; headers go into a
/// segment of their own in front of it.
///
/// ```
/// use pmd_api::{ExternalMemory, Pool, PoolConfig};
///
/// let pool = Pool::new(PoolConfig { buffers: 64, cache: 0, ..PoolConfig::default() })?;
/// let memory = ExternalMemory::new("page", vec![7; 100_000])?;
/// let mut packet = pool.alloc().expect("a free buffer");
/// packet.extend_from_slice(b"headers")?;
/// packet.chain(pool.attach(&memory, 4096..5096)?).expect("two segments");
/// assert_eq!(packet.packet_len(), 1007);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ExternalMemory {
    memory: Arc<External>,
}

/// What handles and packets share.
pub(crate) struct External {
    id: u32,
    region: Arc<Region>,
    release: Option<Release>,
}

impl External {
    /// The `len` bytes at address `start` are referred to by no packet any more.
    pub(crate) fn release(&self, start: usize, len: u16) {
        if let Some(release) = &self.release {
            let start = start - self.region.base().addr().get();
            release(start..start + usize::from(len));
        }
    }
}

impl ExternalMemory {
    /// Takes `owner`, whose bytes packets can then refer to. It is dropped with the last handle,
    /// packet and port.
    ///
    /// # Errors
    /// The bytes are none, or all ids are used up.
    pub fn new<T>(name: &str, owner: T) -> Result<Self, PoolError>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        Self::of(name, owner, None)
    }

    /// The same, and `release` is called with a range of bytes each time that the last packet made of
    /// it, with its clones, is gone: on the thread that drops it, often within a burst. It must not
    /// panic: what the thread was about to drop would leak.
    ///
    /// # Errors
    /// As [`ExternalMemory::new`].
    pub fn with_release<T>(
        name: &str,
        owner: T,
        release: impl Fn(Range<usize>) + Send + Sync + 'static,
    ) -> Result<Self, PoolError>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        Self::of(name, owner, Some(Box::new(release)))
    }

    fn of<T>(name: &str, owner: T, release: Option<Release>) -> Result<Self, PoolError>
    where
        T: AsRef<[u8]> + Send + Sync + 'static,
    {
        // First of all in its place, where it stays until it is dropped: its bytes may lie in itself. A
        // box would claim them for itself alone whenever it is moved.
        let owner = Arc::new(owner);
        let bytes = (*owner).as_ref();
        let (base, len) = (NonNull::from(bytes).cast(), bytes.len());
        // SAFETY: the bytes were borrowed from the owner, which nobody else has and nobody touches
        // until it is dropped; so they stay as they are for as long.
        unsafe { Self::from_raw_parts(name, base, len, Box::new(owner), release) }
    }

    /// Takes memory that changes: an arena into which the application writes the next payload.
    ///
    /// # Errors
    /// `len` is 0 or beyond `isize::MAX`, or all ids are used up.
    ///
    /// # Safety
    /// The `len` bytes at `base` are initialised and valid until `owner` is dropped. A range of them is
    /// not written from [`Pool::attach`] until `release` names it.
    pub unsafe fn from_raw_parts(
        name: &str,
        base: NonNull<u8>,
        len: usize,
        owner: Box<dyn Any + Send + Sync>,
        release: Option<Box<dyn Fn(Range<usize>) + Send + Sync>>,
    ) -> Result<Self, PoolError> {
        // SAFETY: the caller's promise, passed on.
        let region = unsafe { Region::adopt(name, base, len, owner) }.map_err(|source| {
            PoolError::Memory {
                name: name.to_owned(),
                source,
            }
        })?;
        let id = next_id().ok_or_else(|| PoolError::Ids {
            name: name.to_owned(),
        })?;
        Ok(Self {
            memory: Arc::new(External {
                id,
                region: Arc::new(region),
                release,
            }),
        })
    }

    /// The memory's name for tables of memory keys and the like.
    #[inline]
    pub fn id(&self) -> PoolId {
        PoolId(self.memory.id)
    }

    /// The memory. Who holds it keeps it, whatever becomes of the handles.
    pub fn region(&self) -> &Arc<Region> {
        &self.memory.region
    }

    /// Name given at creation.
    pub fn name(&self) -> &str {
        self.memory.region.name()
    }
}

impl std::fmt::Debug for ExternalMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalMemory")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("len", &self.memory.region.len())
            .finish()
    }
}

const _: () = {
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<External>();
    // In the place of a line's pointer.
    assert!(size_of::<*const External>() == size_of::<*mut ()>());
};

impl Pool {
    /// Makes a packet of one segment of the bytes `piece` of `memory`, without copying; a buffer of
    /// this pool serves as its metadata until the packet and all its clones are gone. It has neither
    /// head- nor tailroom and can only be read.
    ///
    /// # Errors
    /// The piece is not within the memory or longer than 65535 bytes, or no buffer is free.
    pub fn attach(&self, memory: &ExternalMemory, piece: Range<usize>) -> Result<Mbuf, MbufError> {
        let Range { start, end } = piece;
        let region = memory.region();
        let length = end.checked_sub(start).map(u16::try_from);
        let Some(Ok(length)) = length.filter(|_| end <= region.len()) else {
            return Err(MbufError::Piece {
                start,
                end,
                len: region.len(),
            });
        };
        let mbuf = self.alloc().ok_or(MbufError::PoolExhausted)?;
        let handle = mbuf.into_handle();
        let lines = &self.body().lines;
        lines.set_external(handle, Arc::clone(&memory.memory));
        // SAFETY: the line is ours: it was taken apart a moment ago.
        let line = unsafe { handle.line() };
        line.address.set(region.base().as_ptr().wrapping_add(start));
        line.origin.set(Origin::external(memory.memory.id, length));
        line.data_off.set(0);
        line.data_len.set(length.into());
        line.pkt_len.set(length.into());
        // SAFETY: as above, and whole.
        Ok(unsafe { Mbuf::from_handle(handle) })
    }
}

#[cfg(all(test, not(mana_loom)))]
#[expect(clippy::single_range_in_vec_init)] // lists of ranges
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::testing::{batch, pool};
    use crate::{Batch, TxShadowRing};

    /// Bytes that tell when they are dropped.
    struct Owner(Vec<u8>, #[expect(dead_code)] Arc<()>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    /// 1000 bytes, what tells of ranges, and what is counted once more while they live.
    fn memory() -> (ExternalMemory, Receiver<Range<usize>>, Arc<()>) {
        let (sender, released) = channel();
        let sender = Mutex::new(sender);
        let alive = Arc::new(());
        let bytes = (0..1000).map(|at| at as u8).collect();
        let owner = Owner(bytes, Arc::clone(&alive));
        let memory = ExternalMemory::with_release("memory", owner, move |range| {
            sender.lock().unwrap().send(range).unwrap();
        });
        (memory.unwrap(), released, alive)
    }

    #[test]
    fn a_packet_over_external_memory_is_read_cut_and_released_once() {
        let pool = pool(4, 192, 2, 1);
        let (memory, released, alive) = memory();
        let mut mbuf = pool.attach(&memory, 100..400).unwrap();
        assert_eq!((mbuf.buffer_pool(), mbuf.data_len()), (memory.id(), 300));
        assert_eq!(
            mbuf.data_address(),
            memory.region().base().addr().get() as u64 + 100
        );
        assert!(!mbuf.is_simple() && mbuf.is_shared() && mbuf.data_mut().is_none());
        assert_eq!((mbuf.headroom(), mbuf.tailroom()), (0, 0));
        mbuf.adj(10).unwrap();
        mbuf.trim(20).unwrap();
        assert_eq!(mbuf.prepend(1), Err(MbufError::Shared));
        assert_eq!(mbuf.append(1), Err(MbufError::Shared));
        assert_eq!((mbuf.data_len(), mbuf.data()[0]), (270, 110));
        mbuf.reset();
        assert_eq!((mbuf.packet_len(), pool.in_use()), (0, 1));
        assert!(released.try_recv().is_err());
        drop(mbuf);
        assert_eq!(released.try_iter().collect::<Vec<_>>(), [100..400]);
        assert_eq!((pool.in_use(), Arc::strong_count(&alive)), (0, 2));
        drop(memory);
        assert_eq!(Arc::strong_count(&alive), 1);
        // The line has its own buffer again, and all of it.
        for mut mbuf in batch(&pool, 4) {
            assert!(mbuf.is_simple());
            assert_eq!((mbuf.buffer_pool(), mbuf.tailroom()), (pool.id(), 4));
            mbuf.append(4).unwrap().fill(0xEE);
        }
    }

    #[test]
    fn the_last_of_clones_and_pieces_releases_it_whoever_that_is() {
        let (lines, others) = (pool(4, 192, 0, 0), pool(8, 256, 0, 0));
        for order in 0..4 {
            let (memory, released, alive) = memory();
            let mut mbuf = lines.attach(&memory, 0..1000).unwrap();
            let clone = mbuf.clone_shared(&others).unwrap();
            let mut tail = mbuf.split_off(600, &others).unwrap();
            let again = tail.clone_shared(&lines).unwrap();
            assert_eq!((mbuf.data_len(), tail.data_len()), (600, 400));
            assert_eq!((again.data()[0], clone.data()[999]), (88, 231));
            assert!(again.is_shared() && again.buffer_pool() == memory.id());
            drop(memory);
            let mut all = vec![mbuf, clone, tail, again];
            all.rotate_left(order);
            let last = all.pop().unwrap();
            std::thread::spawn(|| drop(all)).join().unwrap();
            assert!(released.try_recv().is_err());
            assert_eq!(Arc::strong_count(&alive), 2);
            drop(last);
            assert_eq!(released.try_iter().collect::<Vec<_>>(), [0..1000]);
            assert_eq!(Arc::strong_count(&alive), 1);
            assert_eq!((lines.in_use(), others.in_use()), (0, 0));
        }
    }

    #[test]
    fn a_burst_of_equal_pieces_goes_home_to_the_lines_pool() {
        let pool = pool(16, 192, 4, 1);
        let (memory, released, _alive) = memory();
        let mut ring = TxShadowRing::new(8);
        let mut burst = Batch::with_capacity(4);
        for _ in 0..4 {
            burst.push(pool.attach(&memory, 8..72).unwrap()).unwrap();
        }
        // Neither of the short ways takes such packets, alone, or among others of the lines' pool.
        ring.allow(8);
        let mut one = batch(&pool, 1);
        assert_eq!(ring.push_alike(&mut one, 0..1, |_, _| 60), (1, 60));
        one.push(pool.attach(&memory, 0..8).unwrap()).unwrap();
        assert!(!ring.push_one(&mut one, |_| unreachable!()));
        assert_eq!(
            ring.push_alike(&mut one, 0..1, |_, _| unreachable!()),
            (0, 0)
        );
        let mut two = Batch::with_capacity(2);
        two.append(&mut batch(&pool, 1));
        two.append(&mut one);
        assert_eq!(ring.push_alike(&mut two, 0..2, |_, _| 1), (0, 0));
        assert_eq!((ring.len(), two.len()), (1, 2));
        drop(two);
        assert_eq!(released.try_iter().collect::<Vec<_>>(), [0..8]);
        ring.release(1);

        let mut push = ring.push(&mut burst, 4);
        for _ in 0..4 {
            assert_eq!(push.simple([()].iter(), |_, _| true), 0);
            assert!(push.next(|_| true));
        }
        let sent = push.finish();
        assert_eq!((sent, released.try_iter().count()), (4, 0));
        ring.release(4);
        assert_eq!(released.try_iter().collect::<Vec<_>>(), vec![8..72; 4]);
        assert_eq!(pool.available(), 16);
    }

    #[test]
    fn packets_outlive_the_handles_of_their_pool_and_their_memory() {
        let (memory, released, alive) = memory();
        let pool = pool(4, 192, 0, 0);
        let region = Arc::downgrade(pool.region());
        let mbuf = pool.attach(&memory, 5..6).unwrap();
        drop((pool, memory));
        assert_eq!(mbuf.data(), [5]);
        assert!(region.upgrade().is_some());
        drop(mbuf);
        assert_eq!(released.try_iter().collect::<Vec<_>>(), [5..6]);
        assert!(region.upgrade().is_none());
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn memory_that_lies_in_its_owner_and_a_constant_serve_as_well() {
        let pool = pool(2, 192, 0, 0);
        let inside = ExternalMemory::new("inside", [9_u8; 64]).unwrap();
        let moved = inside;
        assert_eq!(pool.attach(&moved, 0..64).unwrap().data(), [9; 64]);
        let constant: &'static [u8] = b"constant";
        let constant = ExternalMemory::new("constant", constant).unwrap();
        assert_eq!(pool.attach(&constant, 3..8).unwrap().data(), b"stant");
    }

    #[test]
    fn pieces_that_are_none_are_refused_and_take_no_buffer() {
        let pool = pool(1, 192, 0, 0);
        let memory = ExternalMemory::new("large", vec![0; 70_000]).unwrap();
        for (start, end) in [
            (0, 70_001),
            (70_001, 70_001),
            (9, 8),
            (1, 65_537),
            (usize::MAX, 3),
        ] {
            let len = 70_000;
            let error = pool.attach(&memory, start..end).unwrap_err();
            assert_eq!(error, MbufError::Piece { start, end, len });
        }
        let most = pool.attach(&memory, 4465..70_000).unwrap();
        assert_eq!(most.data_len(), 65_535);
        let error = pool.attach(&memory, 0..1).unwrap_err();
        assert_eq!(error, MbufError::PoolExhausted);
        assert!(ExternalMemory::new("empty", Vec::new()).is_err());
    }
}
