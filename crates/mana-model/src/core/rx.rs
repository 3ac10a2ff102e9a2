//! Receiving: from a frame on the link to buffers and a completion (reference/mana-hardware.md
//! §3.5-§3.8).

use gdma::cqe::{CLIENT_MANA, Cqe, CqeHead, RxFlags, rx};
use gdma::wqe::MAX_RX_SGES;

use super::packet::{IpPacket, vlan_tag};
use super::queue::{Wqe, WorkQueue};
use super::{MrTable, VPort};
use crate::findings::{FindingKind, Findings};
use crate::links::Links;

/// Packets that a port receives before the next port's turn.
const TURN: usize = 256;
/// The two MAC addresses; a tag stands behind them.
const ADDRESSES: usize = 12;
/// Packets of a coalesced completion at most.
pub(super) const COALESCED: usize = 4;

/// Packets of a queue that wait to share a completion.
#[derive(Debug, Default)]
pub(super) struct Pending {
    flags: u32,
    packets: Vec<(u16, u32)>,
    wqe_offset: u32,
}

/// A receive queue with the packets that wait for their completion.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    pub(super) work: WorkQueue,
    pub(super) pending: Pending,
}

/// A frame that is being received.
struct Incoming {
    flags: RxFlags,
    hash: u32,
}

/// What reception works with.
pub(super) struct Receiver<'a> {
    pub(super) port: &'a mut VPort,
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
        let lossless = links.waits_for_buffers(self.link);
        let mut done = 0;
        while done < TURN {
            if self.port.held {
                std::mem::swap(self.scratch, &mut self.port.held_frame);
                self.port.held = false;
            } else if lossless && self.port.steering.is_none() {
                break;
            } else if !links.receive(self.link, self.scratch) {
                break;
            }
            let Some((slot, incoming)) = self.classify() else {
                self.port.counters.rx_disabled += 1;
                done += 1;
                continue;
            };
            let Some(queue) = self.queues.get_mut(slot).and_then(Option::as_mut) else { continue };
            if queue.work.pending() == 0 && lossless {
                // The frame waits for its buffer, and all behind it.
                std::mem::swap(self.scratch, &mut self.port.held_frame);
                self.port.held = true;
                break;
            }
            done += 1;
            self.receive(slot, &incoming);
        }
        for slot in 0..self.queues.len() {
            if self.queues[slot].as_ref().is_some_and(|queue| queue.work.port == self.port.index) {
                self.flush(slot);
            }
        }
        done
    }

    /// Parses the frame in the scratch buffer, strips its tag, and finds its queue.
    fn classify(&mut self) -> Option<(usize, Incoming)> {
        let steering = self.port.steering.as_ref()?;
        let mut flags = RxFlags::new();
        if let Some(tci) = vlan_tag(self.scratch) {
            flags.set_vlan_present(true);
            flags.set_vlan_id(tci & 0xFFF);
            self.scratch.drain(ADDRESSES..ADDRESSES + 4);
        }
        let (mut hash, mut slot) = (0, steering.default);
        if let Some(packet) = IpPacket::parse(self.scratch) {
            flags = RxFlags::from_bits(
                flags.into_bits() | packet.checksum_flags(self.scratch).into_bits(),
            );
            if steering.rss {
                let (value, covers) = packet.hash(self.scratch, &steering.toeplitz);
                flags.set_hash_type(covers);
                hash = value;
                slot = steering.table[hash as usize % steering.table.len()];
            }
        }
        Some((slot, Incoming { flags, hash }))
    }

    /// Puts the frame into the next buffer of a queue.
    fn receive(&mut self, slot: usize, incoming: &Incoming) {
        let Some(queue) = self.queues[slot].as_mut() else { return };
        let wqe = match queue.work.peek(MAX_RX_SGES, self.findings) {
            _ if queue.work.disabled => return,
            Ok(Some(wqe)) => wqe,
            Ok(None) => {
                self.port.counters.rx_no_buffer += 1;
                return;
            }
            Err(()) => {
                queue.work.disabled = true;
                return;
            }
        };
        if wqe.oob_bytes != 8 || wqe.header.client_data_unit() != 0 || wqe.header.last_vbytes() != 0
        {
            let header = wqe.header.into_bits();
            self.findings.add(
                FindingKind::WqeReserved,
                Some(queue.work.id),
                format_args!("receive header {header:#018x}"),
            );
        }
        queue.work.consume(&wqe);
        let fits = self.scatter(slot, &wqe);
        let forced = self.port.faults.rx_truncated();
        if fits == Some(true) && !forced {
            self.port.counters.rx_frames += 1;
            self.port.counters.rx_bytes += self.scratch.len() as u64;
            self.complete(slot, &wqe, incoming);
        } else {
            self.port.counters.rx_truncated += 1;
            self.flush(slot);
            self.post(slot, rx::TRUNCATED, incoming.flags.into_bits(), &[(0, 0)], wqe.at << 5);
        }
    }

    /// Copies the frame into the buffers of a WQE; false if they are too small.
    fn scatter(&mut self, slot: usize, wqe: &Wqe) -> Option<bool> {
        let queue = &self.queues[slot].as_ref()?.work;
        let mut rest = &self.scratch[..];
        for index in 0..usize::from(wqe.header.num_sge()) {
            let (mr, offset, size) = queue.element(wqe, index, true, self.mrs, self.findings)?;
            let (now, later) = rest.split_at(size.min(rest.len()));
            self.mrs.space(mr)?.write(offset, now)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Some(rest.is_empty())
    }

    /// Completes one packet, together with others of the same flags where that was asked for.
    fn complete(&mut self, slot: usize, wqe: &Wqe, incoming: &Incoming) {
        let flags = incoming.flags.into_bits();
        let most = self.port.packets_per_cqe();
        let Some(queue) = self.queues[slot].as_mut() else { return };
        if !queue.pending.packets.is_empty() && queue.pending.flags != flags {
            self.flush(slot);
        }
        let Some(queue) = self.queues[slot].as_mut() else { return };
        let pending = &mut queue.pending;
        pending.flags = flags;
        pending.wqe_offset = wqe.at << 5;
        pending.packets.push((self.scratch.len() as u16, incoming.hash));
        if pending.packets.len() >= most {
            self.flush(slot);
        }
    }

    /// Posts the completion of the packets that wait.
    pub(super) fn flush(&mut self, slot: usize) {
        let Some(queue) = self.queues[slot].as_mut() else { return };
        if queue.pending.packets.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut queue.pending);
        let cqe_type = if pending.packets.len() == 1 { rx::OKAY } else { rx::COALESCED_4 };
        self.post(slot, cqe_type, pending.flags, &pending.packets, pending.wqe_offset);
        if let Some(queue) = self.queues[slot].as_mut() {
            // The list's memory is used again.
            queue.pending.packets = pending.packets;
            queue.pending.packets.clear();
        }
    }

    fn post(&mut self, slot: usize, cqe_type: u8, flags: u32, packets: &[(u16, u32)], offset: u32) {
        let head = CqeHead::new().with_cqe_type(cqe_type).with_client_type(CLIENT_MANA);
        let mut cqe = Cqe::default();
        cqe.set_dword(0, head.into_bits());
        cqe.set_dword(1, flags);
        for (index, (len, hash)) in packets.iter().take(COALESCED).enumerate() {
            cqe.set_dword(2 + 3 * index, u32::from(*len));
            cqe.set_dword(4 + 3 * index, *hash);
        }
        cqe.set_dword(14, offset);
        let words = self.port.faults.garble(cqe.words);
        if let Some(queue) = self.queues[slot].as_mut()
            && queue.work.cq.post(words, self.findings)
        {
            self.events.push(queue.work.cq.id);
        }
    }
}
