//! The bursts.

use std::ptr;

use gdma::Doorbell;
use gdma::doorbell::{ReceiveValue, SendValue};
use gdma::oob::SUPPRESS;
use mana_verbs::{MemoryRegion, RssQueuePair, SendQueue};

use crate::lines::{ADDRESS, Array, Handle, Handles, LENGTH, Line};

/// Words of a WQE of one unit.
pub(crate) type Wqe = [u64; 4];
/// Words of a CQE.
pub(crate) type Cqe = [u64; 8];
/// A quarter of a CQE, as it is loaded at once.
#[cfg(target_arch = "x86_64")]
type Quarter = std::arch::x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Quarter = u128;
/// Word of a receive WQE with its buffer's address.
const RX_ADDRESS: usize = 2;
/// Reference count and segments of a packet just received, 128 bytes of headroom, port 0.
const FRESH: u64 = 1 | 1 << 16 | 128 << 32;

/// What sends.
#[derive(Debug)]
pub(crate) struct Tx {
    pub(crate) ring: *mut Wqe,
    /// Units of the ring less one.
    pub(crate) mask: u32,
    pub(crate) cq: *const Cqe,
    /// Entries of the CQ less one; the shadow ring has as many.
    pub(crate) cq_mask: u32,
    pub(crate) shadow: Handles,
    pub(crate) bell: Doorbell,
    pub(crate) id: u32,
    /// Free-running: packets posted, CQEs read, packets of the burst before.
    pub(crate) head: u32,
    pub(crate) cq_head: u32,
    pub(crate) in_flight: u32,
    pub(crate) header: u64,
    pub(crate) oob: u64,
    pub(crate) key: u64,
}

/// What receives.
#[derive(Debug)]
pub(crate) struct Rx {
    pub(crate) ring: *mut Wqe,
    pub(crate) cq: *const Cqe,
    /// Entries of ring, CQ and shadow ring less one.
    pub(crate) mask: u32,
    pub(crate) shadow: Handles,
    pub(crate) bell: Doorbell,
    pub(crate) id: u32,
    /// Free-running: packets received.
    pub(crate) head: u32,
}

/// How a line's address becomes that of its buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// What is added to the line's address times `step`.
    pub(crate) origin: u64,
    /// Bytes of a buffer for one of a line.
    pub(crate) step: u64,
}

/// One queue each way, without any check: see the crate.
#[derive(Debug)]
pub struct Floor {
    pub(crate) tx: Tx,
    pub(crate) rx: Rx,
    pub(crate) cache: Handles,
    pub(crate) batch: Handles,
    pub(crate) addresses: Addresses,
    pub(crate) burst: usize,
    pub(crate) size: u32,
    // Before the memory that the device reaches.
    pub(crate) _rss: RssQueuePair,
    pub(crate) _queue: SendQueue,
    pub(crate) _region: MemoryRegion,
    pub(crate) _lines: Array<Line>,
}

// SAFETY: all pointers lead into memory that the value keeps alive and has alone, but for the device.
unsafe impl Send for Floor {}

impl Floor {
    /// Sends the batch, which [`Floor::fill`] or [`Floor::rx_burst`] made; returns how many that
    /// are. The device has completed the burst before.
    #[inline(never)]
    pub fn tx_burst(&mut self) -> usize {
        let (tx, cache, batch) = (&mut self.tx, &mut self.cache, &self.batch);
        let (count, done) = (batch.len, tx.in_flight as usize);
        let at = (tx.head & tx.mask) as usize;
        let shadow_at = (tx.head & tx.cq_mask) as usize;
        let before = (tx.head.wrapping_sub(tx.in_flight) & tx.cq_mask) as usize;
        // SAFETY: bursts are of one size, which divides all rings, so that none wraps within a burst;
        // `start` made every ring and the cache as large as the masks and the number of lines say;
        // handles are of lines that live. The device, which has done all its work before, reads
        // nothing of this until the doorbell.
        unsafe {
            // The completion of the burst before brings its buffers home.
            let cqe = tx.cq.add((tx.cq_head & tx.cq_mask) as usize);
            let _okay = cqe.cast::<u64>().read_volatile();
            tx.cq_head = tx.cq_head.wrapping_add((done != 0).into());
            let free = cache.as_ptr().add(cache.len);
            ptr::copy_nonoverlapping(tx.shadow.as_ptr().add(before), free, done);
            cache.len += done;
            let (ring, shadow) = (tx.ring.add(at), tx.shadow.as_ptr().add(shadow_at));
            let (batch, header, oob, key) = (batch.as_ptr(), tx.header, tx.oob, tx.key);
            for index in 0..count {
                let line = *batch.add(index);
                let length = (*line).0[LENGTH] << 32;
                let address = (*line).0[ADDRESS];
                ring.add(index).write([header, oob, address, key | length]);
                *shadow.add(index) = line;
            }
            (*ring.add(count - 1))[1] = oob & !SUPPRESS;
        }
        self.batch.len = 0;
        tx.head = tx.head.wrapping_add(count as u32);
        tx.in_flight = count as u32;
        let tail = tx.head.wrapping_mul(32);
        tx.bell.ring(SendValue::at(tx.id, tail).into_bits());
        count
    }

    /// Receives one burst into the batch, which is empty; returns how many packets that are. The
    /// device has written as many completions.
    #[inline(never)]
    pub fn rx_burst(&mut self) -> usize {
        let (rx, cache, batch) = (&mut self.rx, &mut self.cache, &mut self.batch);
        let count = self.burst;
        let at = (rx.head & rx.mask) as usize;
        let Addresses { origin, step } = self.addresses;
        // SAFETY: as in `tx_burst`; the cache has more lines than the rings take.
        unsafe {
            let (cq, shadow) = (rx.cq.add(at), rx.shadow.as_ptr().add(at));
            let to = batch.as_ptr();
            for index in 0..count {
                let cqe = cq.add(index).cast::<u64>();
                let (head, length) = (cqe.read_volatile(), cqe.add(1).read_volatile());
                let hash = cqe.add(2).cast::<u32>().read_volatile();
                let _rest = [2, 4, 6].map(|word| cqe.add(word).cast::<Quarter>().read_volatile());
                let line = *shadow.add(index);
                let half = line.cast::<u64>();
                half.write(FRESH);
                let fields = half.add(1).cast::<u32>();
                fields.write(length as u32 & 0xFFFF);
                fields.add(1).write(length as u32 & 0xFFFF);
                fields.add(2).write(hash);
                fields.add(3).write((head >> 32) as u32);
                half.add(3).write(0);
                *to.add(index) = line;
            }
            batch.len = count;
            cache.len -= count;
            let from = cache.as_ptr().add(cache.len);
            let ring = rx.ring.add(at);
            for index in 0..count {
                let line: Handle = *from.add(index);
                *shadow.add(index) = line;
                let scaled = (line.addr() as u64).wrapping_mul(step);
                (*ring.add(index))[RX_ADDRESS] = origin.wrapping_add(scaled);
            }
        }
        rx.head = rx.head.wrapping_add(count as u32);
        // The ring was full before, so it is again.
        let tail = rx.head.wrapping_add(rx.mask + 1).wrapping_mul(32);
        rx.bell.ring(ReceiveValue::at(rx.id, tail).into_bits());
        count
    }

    /// One burst in, and out again.
    #[inline(never)]
    pub fn forward_burst(&mut self) -> usize {
        self.rx_burst();
        self.tx_burst()
    }

    /// Fills the batch with a burst of packets of these bytes.
    ///
    /// # Panics
    ///
    /// If they are not as many as the packets were said to have.
    pub fn fill(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.size as usize);
        let (cache, batch) = (&mut self.cache, &mut self.batch);
        assert!(cache.len >= self.burst, "the cache is empty");
        cache.len -= self.burst;
        // SAFETY: the cache has that many lines, and the batch room for a burst; a line's data
        // has room for a packet, and nobody but its owner, which is this, reaches it.
        unsafe {
            let from = cache.as_ptr().add(cache.len);
            ptr::copy_nonoverlapping(from, batch.as_ptr(), self.burst);
            for index in 0..self.burst {
                let line = *batch.as_ptr().add(index);
                (*line).0[LENGTH] = u64::from(self.size) << 32 | u64::from(self.size);
                let data = ptr::with_exposed_provenance_mut::<u8>((*line).0[ADDRESS] as usize);
                data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        batch.len = self.burst;
    }

    /// Frees the batch.
    ///
    /// # Panics
    ///
    /// If a packet in it has another length than was said: then the device had not written its
    /// completion.
    pub fn free(&mut self) {
        let (cache, batch) = (&mut self.cache, &mut self.batch);
        // SAFETY: the batch holds that many lines, for which the cache has room: it has room for
        // all.
        unsafe {
            for index in 0..batch.len {
                let line = *batch.as_ptr().add(index);
                assert_eq!((*line).0[LENGTH] as u32, self.size, "length of a packet");
                // The next lap shall not find it.
                (*line).0[LENGTH] = 0;
            }
            let free = cache.as_ptr().add(cache.len);
            ptr::copy_nonoverlapping(batch.as_ptr(), free, batch.len);
        }
        cache.len += batch.len;
        batch.len = 0;
    }

    /// Packets in the batch.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.batch.len
    }
}
