//! Receiving: from a frame on the link to buffers and a completion (reference/mana-hardware.md
//! §3.5-§3.8).

use std::time::{Duration, Instant};

use gdma::cqe::{CLIENT_MANA, Cqe, CqeHead, RxFlags, rx};
use gdma::wqe::MAX_RX_SGES;

use super::mr::MrTable;
use super::packet::{IpPacket, TAG, vlan_tag};
use super::queue::{WorkQueue, Wqe};
use super::vport::{Resolved, VPort};
use crate::findings::{FindingKind, Findings};
use crate::links::{Links, Patience};

/// Frames that a port receives before the next port's turn.
const TURN: usize = 256;
/// How long a frame of a tap waits for a buffer. Long enough for a driver's thread that the scheduler
/// passed over, so that TCP sees no loss which hardware with a core of its own would not have; short
/// enough for a dead one to lose frames as on hardware.
const BRIEF: Duration = Duration::from_millis(100);
/// Packets of a coalesced completion at most, where 8 were negotiated and where not.
pub(super) const COALESCED: usize = 8;
const COALESCED_UNASKED: usize = 4;

/// Length and hash of packets that wait to share a completion.
#[derive(Debug, Default)]
pub(super) struct Pending {
    packets: [(u16, u32); COALESCED],
    count: usize,
    /// Dword 1, the same for all.
    flags: u32,
    /// Position of the last one's WQE in bytes.
    wqe_offset: u32,
}

/// A receive queue with the packets that wait for their completion.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    pub(super) work: WorkQueue,
    pub(super) pending: Pending,
    /// When a frame that may wait found it without buffers, unless one found some since.
    pub(super) dry_since: Option<Instant>,
}

/// What is known of the frame in the scratch buffer.
struct Incoming {
    flags: RxFlags,
    hash: u32,
}

impl Incoming {
    /// The frame in up to two pieces, without the tag that is stripped.
    fn pieces<'f>(&self, frame: &'f [u8]) -> [&'f [u8]; 2] {
        if self.flags.vlan_present() {
            [&frame[..TAG.start], &frame[TAG.end..]]
        } else {
            [frame, &[]]
        }
    }
}

/// What reception works with.
pub(super) struct Receiver<'a> {
    pub(super) port: &'a mut VPort,
    /// Index of the port in the device.
    pub(super) index: usize,
    /// Index of the port among all links.
    pub(super) link: usize,
    pub(super) queues: &'a mut [Option<ReceiveQueue>],
    pub(super) mrs: &'a mut MrTable,
    pub(super) findings: &'a mut Findings,
    pub(super) events: &'a mut Vec<u32>,
    pub(super) scratch: &'a mut Vec<u8>,
}

impl Receiver<'_> {
    /// Receives what the link has, as far as the port's turn goes; returns the number of frames.
    pub(super) fn run(&mut self, links: &mut Links) -> usize {
        let patience = links.patience(self.link);
        let nowhere = |steering: &Resolved| steering.leads_nowhere();
        let waits =
            patience == Patience::Endless && self.port.steering.as_ref().is_none_or(nowhere);
        let mut done = 0;
        while done < TURN && !waits && self.take(links) {
            let (incoming, slot) = self.classify();
            if self.waits(patience, slot) {
                // The frame waits for its buffer, and all behind it.
                std::mem::swap(self.scratch, &mut self.port.held_frame);
                self.port.held = true;
                break;
            }
            done += 1;
            self.receive(slot, &incoming);
        }
        if done > 0 {
            self.flush_all();
        }
        done
    }

    /// Gets the next frame into the scratch buffer.
    #[inline]
    fn take(&mut self, links: &mut Links) -> bool {
        if self.port.held {
            self.port.held = false;
            std::mem::swap(self.scratch, &mut self.port.held_frame);
            return true;
        }
        links.receive(self.link, self.scratch)
    }

    /// Looks into the frame and finds its queue.
    fn classify(&mut self) -> (Incoming, Option<usize>) {
        let (mut flags, mut hash) = (RxFlags::new(), 0);
        let frame = &self.scratch[..];
        if let Some(tci) = vlan_tag(frame) {
            flags.set_vlan_present(true);
            flags.set_vlan_id(tci & 0xFFF);
        }
        let Some(steering) = &self.port.steering else {
            return (Incoming { flags, hash }, None);
        };
        if let Some(packet) = IpPacket::parse(frame) {
            let checksums = packet.checksum_flags(frame).into_bits();
            flags = RxFlags::from_bits(flags.into_bits() | checksums);
            if let Some(toeplitz) = &steering.toeplitz {
                let (value, covers) = packet.hash(frame, toeplitz, steering.hash_types);
                flags.set_hash_type(covers);
                hash = value;
            }
        }
        let slot = steering.slot(hash, flags.hash_type());
        (Incoming { flags, hash }, slot)
    }

    /// The queue in a slot, if it may receive from this port.
    #[inline]
    fn queue(&self, slot: Option<usize>) -> Option<&WorkQueue> {
        let work = &self.queues.get(slot?)?.as_ref()?.work;
        let owned = self.port.owner == Some((work.pd, work.context));
        (owned && !work.disabled).then_some(work)
    }

    /// Whether the frame for this slot shall wait for a buffer.
    fn waits(&mut self, patience: Patience, slot: Option<usize>) -> bool {
        let buffers = match patience {
            Patience::None => return false,
            _ => self.queue(slot).map(WorkQueue::pending),
        };
        if patience == Patience::Endless {
            return buffers.is_none_or(|buffers| buffers == 0);
        }
        let queue = slot.and_then(|slot| self.queues.get_mut(slot)?.as_mut());
        let (Some(buffers), Some(queue)) = (buffers, queue) else {
            return false;
        };
        if buffers > 0 {
            queue.dry_since = None;
            return false;
        }
        let since = queue.dry_since.get_or_insert_with(Instant::now);
        since.elapsed() < BRIEF
    }

    /// Puts the frame into the next buffer of its queue.
    fn receive(&mut self, slot: Option<usize>, incoming: &Incoming) {
        let (Some(slot), true) = (slot, self.queue(slot).is_some()) else {
            self.port.counters.rx_disabled += 1;
            return;
        };
        let Some(ReceiveQueue { work, pending, .. }) = &mut self.queues[slot] else {
            return;
        };
        let wqe = match work.peek(MAX_RX_SGES, self.findings) {
            Ok(Some(wqe)) => wqe,
            Ok(None) => {
                self.port.counters.rx_no_buffer += 1;
                return;
            }
            Err(()) => {
                work.disabled = true;
                self.port.counters.rx_disabled += 1;
                return;
            }
        };
        if wqe.oob_bytes != 8 || wqe.header.client_data_unit() != 0 || wqe.header.last_vbytes() != 0
        {
            let header = wqe.header.into_bits();
            self.findings.add(
                FindingKind::WqeReserved,
                Some(work.id),
                format_args!("receive header {header:#018x} at unit {:#x}", wqe.at),
            );
        }
        work.consume(&wqe);
        let pieces = incoming.pieces(self.scratch);
        let length = pieces[0].len() + pieces[1].len();
        let forced = self.port.faults.rx_truncated();
        let fits = scatter(pieces, work, &wqe, self.mrs, self.findings);
        let flags = incoming.flags.into_bits();
        // A completion counts 16 bits of length.
        let length = u16::try_from(length).ok().filter(|_| fits && !forced);
        if pending.count > 0 && (pending.flags != flags || length.is_none()) {
            self.flush(slot);
        }
        let Some(ReceiveQueue { pending, .. }) = &mut self.queues[slot] else {
            return;
        };
        (pending.flags, pending.wqe_offset) = (flags, wqe.at << 5);
        let Some(length) = length else {
            self.port.counters.rx_truncated += 1;
            self.post(slot, rx::TRUNCATED);
            return;
        };
        self.port.counters.rx_frames += 1;
        self.port.counters.rx_bytes += u64::from(length);
        self.port
            .traffic
            .received
            .count(self.scratch, u64::from(length));
        pending.packets[pending.count % COALESCED] = (length, incoming.hash);
        pending.count += 1;
        if pending.count >= self.port.packets_per_cqe() {
            self.flush(slot);
        }
    }

    /// Posts the completions of all packets that wait at queues of this port.
    fn flush_all(&mut self) {
        for slot in 0..self.queues.len() {
            let queue = self.queues[slot].as_ref();
            if queue.is_some_and(|queue| queue.work.port == self.index && queue.pending.count > 0) {
                self.flush(slot);
            }
        }
    }

    /// Posts the completion of the packets that wait at a queue.
    fn flush(&mut self, slot: usize) {
        let count = self.queues[slot]
            .as_ref()
            .map_or(0, |queue| queue.pending.count);
        let cqe_type = match self.port.packets_per_cqe() {
            _ if count <= 1 => rx::OKAY,
            ..=COALESCED_UNASKED => rx::COALESCED_4,
            _ => rx::COALESCED_8,
        };
        self.post(slot, cqe_type);
    }

    /// Posts a completion of this type for the packets that wait at a queue, of which there may be
    /// none.
    fn post(&mut self, slot: usize, cqe_type: u8) {
        let Some(ReceiveQueue { work, pending, .. }) = &mut self.queues[slot] else {
            return;
        };
        let head = CqeHead::new()
            .with_cqe_type(cqe_type)
            .with_client_type(CLIENT_MANA);
        let mut cqe = Cqe::default();
        cqe.set_dword(0, head.into_bits());
        cqe.set_dword(1, pending.flags);
        let packets = &pending.packets[..pending.count];
        if cqe_type == rx::COALESCED_8 {
            pairs(&mut cqe, packets);
        } else {
            for (index, (length, hash)) in packets.iter().enumerate() {
                cqe.set_dword(2 + 3 * index, u32::from(*length));
                cqe.set_dword(4 + 3 * index, *hash);
            }
        }
        cqe.set_dword(14, pending.wqe_offset);
        pending.count = 0;
        let words = self.port.faults.completion(cqe.words);
        if words.is_some_and(|words| work.cq.post(words, self.findings)) {
            self.events.push(work.cq.id);
        }
    }
}

/// Posts the completion that says that everything before it was received (§3.6, type 3); true if an
/// event is due.
pub(super) fn fence(queue: &mut ReceiveQueue, findings: &mut Findings) -> bool {
    let head = CqeHead::new()
        .with_cqe_type(rx::OBJECT_FENCE)
        .with_client_type(CLIENT_MANA);
    let mut cqe = Cqe::default();
    cqe.set_dword(0, head.into_bits());
    queue.work.cq.post(cqe.words, findings)
}

/// Writes packets as completions of 8 have them: each 12 bytes cover two (§3.6).
fn pairs(cqe: &mut Cqe, packets: &[(u16, u32)]) {
    for (index, pair) in packets.chunks(2).enumerate() {
        let (length, hash) = pair.get(1).copied().unwrap_or_default();
        cqe.set_dword(2 + 3 * index, pair[0].1);
        cqe.set_dword(
            3 + 3 * index,
            u32::from(pair[0].0) | u32::from(length) << 16,
        );
        cqe.set_dword(4 + 3 * index, hash);
    }
}

/// Copies a frame into the buffers of a WQE; false if they are too small, or can't be written.
fn scatter(
    mut pieces: [&[u8]; 2],
    queue: &WorkQueue,
    wqe: &Wqe,
    mrs: &mut MrTable,
    findings: &mut Findings,
) -> bool {
    for index in 0..usize::from(wqe.header.num_sge()) {
        let Some((mr, mut offset, mut room)) = queue.element(wqe, index, true, mrs, findings)
        else {
            return false;
        };
        for piece in &mut pieces {
            let (now, later) = piece.split_at(room.min(piece.len()));
            *piece = later;
            if !now.is_empty() && mrs.write(mr, offset, now).is_none() {
                return false;
            }
            offset += now.len() as u64;
            room -= now.len();
        }
        if pieces.iter().all(|piece| piece.is_empty()) {
            return true;
        }
    }
    false
}
