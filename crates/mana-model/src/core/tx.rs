//! Sending: from a WQE to a frame on the link (reference/mana-hardware.md §3.1-§3.4).

use gdma::cqe::{CLIENT_MANA, CqeHead, tx};
use gdma::oob::{LONG, LongOobTail, MAX_SHORT_VPORT_OFFSET, ShortOob};
use gdma::wqe::MAX_TX_SGES;

use super::lso::Cut;
use super::mr::MrTable;
use super::packet::{IpPacket, TAG, TCP, UDP, header_len};
use super::queue::{WorkQueue, Wqe};
use super::vport::VPort;
use crate::checksum::{checksum, fold, sum};
use crate::findings::{FindingKind, Findings};
use crate::links::Links;

/// Packets that a queue sends before the next queue's turn.
const TURN: usize = 64;
/// Bytes that are gathered of a packet; what is longer no driver sends, cut or not.
const LONGEST: usize = 1 << 20;
/// The shortest frame that has an Ethernet header.
const HEADER: usize = 14;

/// What the data path of one direction works with.
pub(super) struct Sender<'a> {
    pub(super) port: &'a mut VPort,
    /// Index of the port among all links.
    pub(super) link: usize,
    pub(super) mrs: &'a MrTable,
    pub(super) findings: &'a mut Findings,
    pub(super) events: &'a mut Vec<u32>,
    pub(super) scratch: &'a mut Vec<u8>,
    /// Bytes that may still be sent in this step.
    pub(super) budget: &'a mut usize,
}

impl Sender<'_> {
    /// Sends what a queue has handed over, as far as its turn and the link go; returns the number of
    /// WQEs.
    pub(super) fn run(&mut self, queue: &mut WorkQueue, links: &mut Links) -> usize {
        let mut done = 0;
        while done < TURN && *self.budget > 0 && !queue.disabled && links.can_send(self.link) {
            let wqe = match queue.peek(MAX_TX_SGES, self.findings) {
                Ok(None) => break,
                Ok(Some(wqe)) => wqe,
                Err(()) => {
                    // Hardware stops a queue that it can't follow (§3.3 "Violations").
                    queue.disabled = true;
                    self.port.counters.tx_errors += 1;
                    self.port.traffic.failed(tx::GDMA_ERR);
                    self.complete(queue, queue.tail(), tx::GDMA_ERR);
                    return done + 1;
                }
            };
            done += 1;
            match self.send(queue, &wqe) {
                Ok(cut) => {
                    self.leave(queue.id, &wqe, cut, links);
                    let suppressed = ShortOob::from_bits(wqe.oob[0]).suppress_txcqe_gen();
                    if !suppressed {
                        self.complete(queue, wqe.at, tx::OKAY);
                    }
                }
                Err(cqe_type) => {
                    self.port.counters.tx_errors += 1;
                    self.port.traffic.failed(cqe_type);
                    // Errors ignore suppression (§3.4).
                    self.complete(queue, wqe.at, cqe_type);
                    queue.disabled = cqe_type == tx::GDMA_ERR;
                }
            }
            queue.consume(&wqe);
            *self.budget = self.budget.saturating_sub(self.scratch.len());
        }
        done
    }

    /// Hands the packet of the scratch buffer to the link: as one frame, or cut into many.
    fn leave(&mut self, queue: u32, wqe: &Wqe, cut: Option<Cut>, links: &mut Links) {
        let tag = vlan_tag(wqe);
        let mut send = |frame: &mut Vec<u8>| {
            if let Some(tag) = tag {
                frame.splice(TAG.start..TAG.start, tag);
            }
            links.send(self.link, queue, frame);
            self.port.counters.tx_frames += 1;
            self.port.counters.tx_bytes += frame.len() as u64;
            self.port.traffic.sent.count(frame, frame.len() as u64);
        };
        match cut {
            None => send(self.scratch),
            Some(cut) => {
                let mut frame = Vec::new();
                for index in 0..cut.frames() {
                    cut.write(self.scratch, index, &mut frame);
                    send(&mut frame);
                }
            }
        }
    }

    /// Posts the completion of the WQE at cursor `at`.
    fn complete(&mut self, queue: &mut WorkQueue, at: u32, cqe_type: u8) {
        let head = CqeHead::new()
            .with_cqe_type(cqe_type)
            .with_client_type(CLIENT_MANA);
        let head = head.with_vendor_err(u32::from(cqe_type != tx::OKAY));
        let words = [
            u64::from(head.into_bits()),
            u64::from(at << 5),
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let words = self.port.faults.completion(words);
        if words.is_some_and(|words| queue.cq.post(words, self.findings)) {
            self.events.push(queue.cq.id);
        }
    }

    /// Builds the packet of a WQE in the scratch buffer, with how it is to be cut, or says which error
    /// ends it.
    fn send(&mut self, queue: &WorkQueue, wqe: &Wqe) -> Result<Option<Cut>, u8> {
        let header = self.check_header_element(queue, wqe)?;
        self.gather(queue, wqe)?;
        if let Some(cqe_type) = self.port.faults.tx_error(queue.id) {
            return Err(cqe_type);
        }
        if self.port.owner != Some((queue.pd, queue.context)) {
            let what = "the vPort is not configured for the queue's domain";
            self.oob_finding(FindingKind::VPort, queue.id, wqe, what);
            return Err(tx::VPORT_DISABLED);
        }
        let oob = self.check_oob(queue, wqe)?;
        if let Some(header) = header {
            let mss = usize::from(wqe.header.client_data_unit());
            let cut = Cut::new(self.scratch, header, mss, oob).map_err(|what| {
                self.oob_finding(FindingKind::Segmentation, queue.id, wqe, what);
                tx::HDR_PROCESSING_ERROR
            })?;
            if cut.largest() > self.port.adapter_mtu as usize {
                return Err(tx::MTU_DROP);
            }
            return Ok(Some(cut));
        }
        if self.scratch.len() > self.port.adapter_mtu as usize {
            return Err(tx::MTU_DROP);
        }
        if self.scratch.len() < HEADER {
            return Err(tx::HDR_PROCESSING_ERROR);
        }
        self.insert_checksums(queue.id, oob)?;
        Ok(None)
    }

    /// Checks what a WQE says of segmentation; returns the bytes of the packet's headers, which fill
    /// the first element, where the packet is to be cut. Hardware stops at a WQE that is wrong
    /// (§3.3 "Violations").
    fn check_header_element(&mut self, queue: &WorkQueue, wqe: &Wqe) -> Result<Option<usize>, u8> {
        let header = wqe.header;
        let (mss, said) = (header.client_data_unit(), usize::from(header.last_vbytes()));
        if !header.client_oob_in_sgl() {
            if mss == 0 && said == 0 {
                return Ok(None);
            }
            let what = "an MSS or a header size without headers in the first element";
            self.oob_finding(FindingKind::Segmentation, queue.id, wqe, what);
            return Err(tx::INVALID_OOB);
        }
        let (_, _, size) = queue
            .element(wqe, 0, false, self.mrs, self.findings)
            .ok_or(tx::GDMA_ERR)?;
        let what = if header.num_sge() < 2 {
            "one element, headers and payload take two"
        } else if size != said {
            "the first element is not as long as the headers are said to be"
        } else if mss == 0 {
            "an MSS of 0"
        } else {
            return Ok(Some(size));
        };
        self.oob_finding(FindingKind::Segmentation, queue.id, wqe, what);
        Err(tx::GDMA_ERR)
    }

    /// Copies the packet out of its segments.
    fn gather(&mut self, queue: &WorkQueue, wqe: &Wqe) -> Result<(), u8> {
        self.scratch.clear();
        for index in 0..usize::from(wqe.header.num_sge()) {
            let (mr, offset, size) = queue
                .element(wqe, index, false, self.mrs, self.findings)
                .ok_or(tx::GDMA_ERR)?;
            let start = self.scratch.len();
            if start + size > LONGEST {
                return Err(tx::MTU_DROP);
            }
            self.scratch.resize(start + size, 0);
            let room = &mut self.scratch[start..];
            self.mrs.read(mr, offset, room).ok_or(tx::GDMA_ERR)?;
        }
        Ok(())
    }

    fn oob_finding(&mut self, kind: FindingKind, queue: u32, wqe: &Wqe, what: &str) {
        let [first, second, third] = wqe.oob;
        self.findings.add(
            kind,
            Some(queue),
            format_args!(
                "{what}: OOB {first:#018x} {second:#018x} {third:#018x} at unit {:#x}",
                wqe.at
            ),
        );
    }

    /// Checks the OOB against itself, the queue and the vPort (§3.1, §3.2).
    fn check_oob(&mut self, queue: &WorkQueue, wqe: &Wqe) -> Result<ShortOob, u8> {
        let oob = ShortOob::from_bits(wqe.oob[0]);
        let long = wqe.oob_bytes == LONG;
        let tail = LongOobTail::from_bits(wqe.oob[1]);
        let mut wrong = |kind, what| self.oob_finding(kind, queue.id, wqe, what);
        if oob.pkt_fmt() != u8::from(long) {
            wrong(FindingKind::Oob, "format and size disagree");
            return Err(tx::INVALID_OOB);
        }
        if oob.vcq_num() != queue.cq.id {
            wrong(FindingKind::Oob, "not the queue's CQ");
            return Err(tx::INVALID_OOB);
        }
        if u32::from(oob.vsq_frame()) != queue.id >> 10 {
            wrong(FindingKind::Oob, "not the queue's frame");
            return Err(tx::INVALID_OOB);
        }
        let offset = self.port.offset;
        let short_right = u32::from(oob.short_vp_offset()) == offset;
        // In the long format public drivers fill in one of the two or both (§3.2).
        let right = match long {
            false => offset <= MAX_SHORT_VPORT_OFFSET && short_right,
            true => match (oob.short_vp_offset(), tail.long_vp_offset()) {
                (_, 0) => short_right,
                (0, long) => u32::from(long) == offset,
                (_, long) => short_right && u32::from(long) == offset,
            },
        };
        if !right {
            self.oob_finding(FindingKind::Oob, queue.id, wqe, "not the vPort's offset");
            return Err(tx::VPORT_IDX_OUT_OF_RANGE);
        }
        let encapsulation = tail.is_encap()
            || tail.inner_is_ipv6()
            || tail.inner_tcp_opt()
            || tail.inner_frame_offset() != 0
            || tail.inner_ip_rel_offset() != 0;
        if long
            && (tail.reserved0() != 0 || tail.reserved1() != 0 || wqe.oob[2] != 0 || encapsulation)
        {
            self.oob_finding(
                FindingKind::WqeReserved,
                queue.id,
                wqe,
                "reserved or tunnel bits",
            );
            return Err(tx::INVALID_OOB);
        }
        Ok(oob)
    }

    /// Fills in the checksums that the OOB asks for (§3.3): the L4 field holds the sum of the
    /// pseudo-header.
    fn insert_checksums(&mut self, queue: u32, oob: ShortOob) -> Result<(), u8> {
        let (ip, tcp, udp) = (
            oob.comp_iphdr_csum(),
            oob.comp_tcp_csum(),
            oob.comp_udp_csum(),
        );
        if !(ip || tcp || udp) {
            return Ok(());
        }
        let frame = &mut *self.scratch;
        let packet = IpPacket::parse(frame);
        let l4_wanted = if tcp { TCP } else { UDP };
        let fits = packet.filter(|packet| {
            oob.is_outer_ipv6() == packet.v6
                && oob.is_outer_ipv4() != packet.v6
                && !(ip && packet.v6)
                && !(tcp && udp)
                && (!(tcp || udp) || packet.has_l4() && packet.protocol == l4_wanted)
                && (!tcp || usize::from(oob.trans_off()) == packet.l4)
        });
        let Some(packet) = fits else {
            self.findings.add(
                FindingKind::Offload,
                Some(queue),
                format_args!("OOB {:#018x} for {packet:?}", oob.into_bits()),
            );
            return Err(tx::HDR_PROCESSING_ERROR);
        };
        // Linux leaves the offset at 0 for UDP and DPDK leaves garbage (§3.3, §8 no. 4), and both
        // work: it does not matter to the device, but garbage is no driver's intention.
        if udp && ![0, packet.l4].contains(&usize::from(oob.trans_off())) {
            self.findings.add(
                FindingKind::Offload,
                Some(queue),
                format_args!(
                    "OOB {:#018x}: the UDP header is at {}",
                    oob.into_bits(),
                    packet.l4
                ),
            );
        }
        if ip {
            let at = packet.ip + 10;
            frame[at..at + 2].fill(0);
            let header = checksum(&frame[packet.ip..packet.ip + header_len(frame, packet.ip)]);
            frame[at..at + 2].copy_from_slice(&header.to_be_bytes());
        }
        if tcp || udp {
            let at = packet.l4_checksum_at();
            let mut value = !fold(sum(&frame[packet.l4..packet.end]));
            if udp && value == 0 {
                value = 0xFFFF;
            }
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        Ok(())
    }
}

/// The tag that a WQE wants to be inserted.
fn vlan_tag(wqe: &Wqe) -> Option<[u8; 4]> {
    let tail = LongOobTail::from_bits(wqe.oob[1]);
    let wanted = wqe.oob_bytes == LONG && tail.inject_vlan_pri_tag();
    let tci = u16::from(tail.pcp()) << 13 | u16::from(tail.dei()) << 12 | tail.vlan_id();
    let [a, b] = tci.to_be_bytes();
    wanted.then_some([0x81, 0x00, a, b])
}
