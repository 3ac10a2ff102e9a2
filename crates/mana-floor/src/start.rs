//! Rings, buffers and the objects of a device for them.

use std::sync::Arc;

use dma_memory::{Arena, HugePages, MemoryError, Region, RegionOptions, Segment};
use gdma::oob::{SHORT, ShortOob};
use gdma::wqe::WqeHeader;
use gdma::{Doorbell, ReceiveRing, RingError, RingMemory};
use mana_verbs::{Access, Context, ProviderChoice, SendQueueSpec, VerbsError};
use uverbs_abi::{DoorbellKind, System, SystemError};

use crate::Floor;
use crate::bursts::{Addresses, Rx, Tx};
use crate::lines::{ADDRESS, Array, Handles, Line};

/// Lines beside those of the rings.
const SPARE: usize = 8191;
/// Before a packet.
const HEADROOM: usize = 128;
/// Smallest ring that the hardware takes (reference/mana-hardware.md §2.1).
const MIN_RING: usize = 4096;
/// Ring bytes of a packet to send: what the driver has, though one unit would do.
const SQ_BYTES: usize = 64;
const RQ_BYTES: usize = 32;
const CQE_BYTES: usize = 64;
/// Any key does: there is one queue.
const RSS_KEY: [u8; 40] = [0x6D; 40];

/// How the floor shall run.
#[derive(Debug, Clone)]
pub struct FloorConfig {
    /// Depth of both queues: a power of two from 128 on.
    pub ring: u32,
    /// Packets of every burst: a power of two up to half the depth.
    pub burst: u32,
    /// Bytes of every packet.
    pub size: u32,
    /// What pages rings and buffers lie in.
    pub huge: HugePages,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The configuration.
    #[error(
        "floor: a burst of {burst} in rings of {ring}: both are powers of two, the burst at most half the ring"
    )]
    Config {
        /// Packets of a burst.
        burst: u32,
        /// Depth.
        ring: u32,
    },
    /// There is no device.
    #[error("floor: no MANA device")]
    NoDevice,
    /// The machine could not be read.
    #[error("floor: {0}")]
    System(#[from] SystemError),
    /// An object could not be made.
    #[error("floor: {0}")]
    Verbs(#[from] VerbsError),
    /// No memory.
    #[error("floor: {0}")]
    Memory(#[from] MemoryError),
    /// A ring that the hardware does not take.
    #[error("floor: {0}")]
    Ring(#[from] RingError),
}

impl Floor {
    /// Makes queues on the first port of the first MANA device, through the kernel's own interface,
    /// and posts the first buffers.
    ///
    /// # Errors
    ///
    /// See [`FloorError`].
    pub fn start(system: &dyn System, config: &FloorConfig) -> Result<Self, FloorError> {
        let FloorConfig {
            ring, burst, size, ..
        } = *config;
        let powers = ring.is_power_of_two() && burst.is_power_of_two();
        if !powers || ring < 128 || burst > ring / 2 || size > 16384 {
            return Err(FloorError::Config { burst, ring });
        }
        let depth = ring as usize;
        let devices = system.ib_devices()?;
        let device = devices.first().ok_or(FloorError::NoDevice)?;
        let context = Context::open_through(system, device, ProviderChoice::Uverbs)?;
        let pd = context.alloc_pd()?;
        let options = RegionOptions {
            huge: config.huge,
            ..RegionOptions::default()
        };

        // As the driver has them: buffers an odd number of cache lines apart.
        let stride = ((HEADROOM + size.max(2048) as usize).div_ceil(64) | 1) * 64;
        let count = SPARE + depth;
        let buffers = Arc::new(Region::allocate("floor buffers", count * stride, &options)?);
        let region = pd.register(&buffers, Access::LocalWrite)?;
        let first = (buffers.base().as_ptr().expose_provenance() + HEADROOM) as u64;
        let lines: Vec<Line> = (0..count)
            .map(|index| {
                let mut line = Line([0; 8]);
                line.0[ADDRESS] = first + (index * stride) as u64;
                line
            })
            .collect();
        let lines = Array::new(lines);
        let mut cache = Handles::new(count);
        for index in 0..count {
            // SAFETY: `lines` and the cache both have `count` elements.
            unsafe { *cache.as_ptr().add(index) = lines.as_ptr().add(index) };
        }
        cache.len = count;

        let bytes = |entry: usize| (depth * entry).max(MIN_RING);
        let all = bytes(SQ_BYTES) + bytes(RQ_BYTES) + 2 * bytes(CQE_BYTES);
        let mut arena = Arena::new(Arc::new(Region::allocate("floor rings", all, &options)?));
        let mut take = |entry| {
            let len = bytes(entry);
            let segment = arena.take(len);
            segment.ok_or(MemoryError::Length {
                name: "ring".to_owned(),
                len,
            })
        };
        let (sq, tx_cq) = (take(SQ_BYTES)?, take(CQE_BYTES)?);
        let (rq, rx_cq) = (take(RQ_BYTES)?, take(CQE_BYTES)?);

        let cq = pd.create_cq(tx_cq.clone(), ring, 0, None)?;
        let spec = SendQueueSpec {
            port: 1,
            ring: sq.clone(),
            max_wr: ring,
            max_sge: 30,
        };
        let queue = pd.create_send_queue(spec, cq)?;
        let cq = pd.create_cq(rx_cq.clone(), ring, 0, None)?;
        let work = pd.create_work_queue(rq.clone(), ring, cq)?;
        let rss = pd.create_rss(1, vec![work], &RSS_KEY)?;
        let id = rss.ids(0).wq_id;
        // It writes the constant words of all WQEs; the address words are this crate's then.
        // SAFETY: memory and doorbell are those of the queue; nothing is committed through it.
        let _written = unsafe {
            let bell = doorbell(&context, DoorbellKind::Receive, id)?;
            let room = (stride - HEADROOM).min(u16::MAX as usize) as u32;
            ReceiveRing::new(ring_memory(&rq)?, id, bell, region.lkey(), room)?
        };

        let step = (stride / size_of::<Line>()) as u64;
        let addresses = Addresses {
            origin: first.wrapping_sub((lines.as_ptr().addr() as u64).wrapping_mul(step)),
            step,
        };
        let oob = ShortOob::new()
            .with_suppress_txcqe_gen(true)
            .with_vcq_num(queue.cq_id() & 0xFF_FFFF)
            .with_vsq_frame((queue.sq_id() >> 10 & 0x3FFF) as u16)
            .with_short_vp_offset(queue.vport_offset() as u8);
        let tx = Tx {
            ring: sq.base().cast().as_ptr(),
            mask: (sq.len() / 32 - 1) as u32,
            cq: tx_cq.base().cast().as_ptr(),
            cq_mask: ring - 1,
            shadow: Handles::new(depth),
            bell: doorbell(&context, DoorbellKind::Send, queue.sq_id())?,
            id: queue.sq_id(),
            head: 0,
            cq_head: 0,
            in_flight: 0,
            header: WqeHeader::plain(SHORT, 1).into_bits(),
            oob: oob.into_bits(),
            key: region.lkey().into(),
        };
        let rx = Rx {
            ring: rq.base().cast().as_ptr(),
            cq: rx_cq.base().cast().as_ptr(),
            mask: ring - 1,
            shadow: Handles::new(depth),
            bell: doorbell(&context, DoorbellKind::Receive, id)?,
            id,
            head: 0,
        };
        let mut floor = Self {
            tx,
            rx,
            cache,
            batch: Handles::new(burst as usize),
            addresses,
            burst: burst as usize,
            size,
            _rss: rss,
            _queue: queue,
            _region: region,
            _lines: lines,
        };
        floor.post();
        Ok(floor)
    }

    /// Posts a buffer for every packet of the receive ring.
    fn post(&mut self) {
        let (rx, cache) = (&mut self.rx, &mut self.cache);
        let depth = rx.mask as usize + 1;
        cache.len -= depth;
        for index in 0..depth {
            // SAFETY: the cache had more lines than the ring has entries; the WQEs are this value's
            // until the doorbell rings.
            unsafe {
                let line = *cache.as_ptr().add(cache.len + index);
                *rx.shadow.as_ptr().add(index) = line;
                (*rx.ring.add(index))[2] = (*line).0[ADDRESS];
            }
        }
        let tail = (depth * RQ_BYTES) as u32;
        let value = gdma::doorbell::ReceiveValue::at(rx.id, tail);
        rx.bell.ring(value.into_bits());
    }
}

fn ring_memory(segment: &Segment) -> Result<RingMemory, RingError> {
    // SAFETY: a segment is page-aligned memory of its length, which the queue made over it keeps.
    unsafe { RingMemory::new(segment.base().cast(), segment.len()) }
}

fn doorbell(context: &Context, kind: DoorbellKind, id: u32) -> Result<Doorbell, VerbsError> {
    let cell = context.doorbell(kind, id)?;
    // SAFETY: a transport's cells are aligned and valid for atomic stores while the context lives,
    // which the queues hold.
    Ok(unsafe { Doorbell::new(cell) })
}
