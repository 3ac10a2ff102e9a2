//! A vPort: who owns it, where its received packets go, what it counted.

use gdma::hash_type;

use super::PdId;
use super::counters::Traffic;
use super::faults::PortFaults;
use super::rx::COALESCED;
use crate::config::PortConfig;
use crate::toeplitz::Toeplitz;

/// Entries of the indirection table (reference/mana-hardware.md §3.8).
const TABLE: usize = 64;

/// Hashes of all kinds of packets.
pub(crate) const ALL_HASHES: u16 = hash_type::L3 | hash_type::L4;

/// Where received packets go.
pub struct Steering {
    /// Receive queue ids by the low bits of the hash.
    pub table: [u32; 64],
    /// Whether packets are hashed at all.
    pub rss: bool,
    /// The queue of packets without a hash.
    pub default: u32,
    /// Toeplitz key.
    pub key: [u8; 40],
    /// Most packets that may share a completion, as far as the driver goes: 1, 4 or 8.
    pub coalescing: u8,
    /// Which packets have a hash, as a mask of types (reference/mana-hardware.md §3.7).
    pub hash_types: u16,
}

/// [`Steering`] with slots of queues in place of ids, `None` where there is no such queue.
pub(super) struct Resolved {
    table: [Option<usize>; TABLE],
    default: Option<usize>,
    /// Without RSS there is no hash.
    pub(super) toeplitz: Option<Toeplitz>,
    /// Types of hashes.
    pub(super) hash_types: u16,
    coalescing: usize,
}

impl Resolved {
    pub(super) fn new(steering: &Steering, slot: impl Fn(u32) -> Option<usize>) -> Self {
        Self {
            table: steering.table.map(&slot),
            default: slot(steering.default),
            toeplitz: steering.rss.then(|| Toeplitz::new(&steering.key)),
            hash_types: steering.hash_types,
            coalescing: usize::from(steering.coalescing),
        }
    }

    /// The queue of a packet.
    #[inline]
    pub(super) fn slot(&self, hash: u32, covers: u16) -> Option<usize> {
        if covers & (hash_type::L3 | hash_type::L4) == 0 {
            self.default
        } else {
            self.table[hash as usize % TABLE]
        }
    }

    /// Whether every queue that packets were steered to is gone.
    pub(super) fn leads_nowhere(&self) -> bool {
        self.default.is_none() && self.table.iter().all(Option::is_none)
    }

    /// The queue in `slot` is gone; its place may be another queue's soon.
    pub(super) fn forget(&mut self, slot: usize) {
        for entry in self.table.iter_mut().chain([&mut self.default]) {
            if *entry == Some(slot) {
                *entry = None;
            }
        }
    }
}

/// What a port counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCounters {
    /// Frames handed to the link.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that were lost on the link, in either direction: it has no carrier, or its tap is DOWN,
    /// gone or full. Those
    /// that the port sent are counted in `tx_frames` too.
    pub link_dropped: u64,
    /// Sends that ended in an error.
    pub tx_errors: u64,
    /// Frames put into buffers.
    pub rx_frames: u64,
    /// Their bytes, without VLAN tags that were stripped.
    pub rx_bytes: u64,
    /// Frames lost because no buffer was posted (the hardware's `rx_discards_nowqe`).
    pub rx_no_buffer: u64,
    /// Frames lost because a buffer was too small.
    pub rx_truncated: u64,
    /// Frames lost because reception was off, or the frame's queue gone or stopped.
    pub rx_disabled: u64,
}

/// A vPort.
pub(super) struct VPort {
    /// Its offset, for OOBs.
    pub(super) offset: u32,
    pub(super) adapter_mtu: u32,
    /// Most packets that one completion carries, where that was asked for.
    coalescing: usize,
    /// Domain and context whose queues may use it (§6.12, 6b).
    pub(super) owner: Option<(PdId, u32)>,
    pub(super) steering: Option<Resolved>,
    /// A frame waits for a buffer.
    pub(super) held: bool,
    pub(super) held_frame: Vec<u8>,
    pub(super) counters: PortCounters,
    pub(super) traffic: Traffic,
    pub(super) faults: PortFaults,
}

impl VPort {
    pub(super) fn new(offset: u32, coalescing: u8, config: &PortConfig) -> Self {
        Self {
            offset,
            adapter_mtu: config.adapter_mtu,
            coalescing: usize::from(coalescing).clamp(1, COALESCED),
            owner: None,
            steering: None,
            held: false,
            held_frame: Vec::new(),
            counters: PortCounters::default(),
            traffic: Traffic::default(),
            faults: PortFaults::default(),
        }
    }

    /// Forgets what the driver set up. What was counted stays, and so do failures that are ordered.
    pub(super) fn reset(&mut self) {
        (self.owner, self.steering, self.held) = (None, None, false);
    }

    #[inline]
    pub(super) fn packets_per_cqe(&self) -> usize {
        match &self.steering {
            Some(steering) => self.coalescing.min(steering.coalescing),
            None => 1,
        }
    }
}
