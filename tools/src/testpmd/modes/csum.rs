//! csum: the checksums of IPv4 headers, TCP and UDP are computed anew, by the device or in software,
//! and packets leave with the MACs of the mac mode.
//!
//! With `--tso` the device also cuts TCP packets whose payload is longer than that into many.
//!
//! As in testpmd, a UDP checksum that is absent over IPv4 stays absent, and of fragments only the
//! IPv4 header's is computed. A packet whose headers are not whole in its first segment, or
//! contradict themselves, leaves with new MACs and is else as it came. Payload may lie in further
//! segments: it is only read. A packet whose headers are shared with a clone can't be written and
//! is dropped (the driver receives none; a copy would be made for nobody).

use pmd_api::{InternetSum, Mbuf, TxFlags, TxOffload};
use uverbs_abi::Mac;

use super::ForwardMode;
use crate::testpmd::checksums::ByDevice;
use crate::testpmd::headers::{Headers, IpVersion};
use crate::testpmd::lane::Lane;
use crate::testpmd::stats::BadChecksums;

/// The mode for one stream.
pub struct Csum {
    addresses: [u8; 12],
    by_device: TxFlags,
    mss: Option<u16>,
}

impl Csum {
    /// Packets will leave from `source` to `peer`.
    pub fn new(source: Mac, peer: Mac, by_device: ByDevice) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&peer.0);
        addresses[6..].copy_from_slice(&source.0);
        Csum {
            addresses,
            by_device: by_device.flags(),
            mss: by_device.mss(),
        }
    }

    /// Rewrites one packet; false if it can't be written.
    fn rewrite(&self, mbuf: &mut Mbuf) -> bool {
        let (packet_len, tag) = (mbuf.packet_len(), mbuf.vlan());
        let Some(data) = mbuf.data_mut() else {
            return false;
        };
        if let Some(addresses) = data.first_chunk_mut() {
            *addresses = self.addresses;
        }
        // The tag that the device took out goes back in.
        let plain = TxOffload {
            flags: if tag.is_some() {
                TxFlags::VLAN
            } else {
                TxFlags::empty()
            },
            vlan_tci: tag.unwrap_or(0),
            ..TxOffload::default()
        };
        let Some(headers) = Headers::parse(data, packet_len) else {
            request(mbuf, plain);
            return true;
        };
        let there = checksums_of(&headers, data);
        if let Some(mss) = self.mss
            && is_longer(&headers, mss)
            && segment(mbuf, &headers, plain, mss)
        {
            return true;
        }
        let mut by_device = if device_can(&headers) {
            there & self.by_device
        } else {
            TxFlags::empty()
        };
        if by_device.is_empty() || !prepare(mbuf, &headers, plain, by_device) {
            request(mbuf, plain);
            by_device = TxFlags::empty();
        }
        compute(mbuf, &headers, there - by_device);
        true
    }
}

impl ForwardMode for Csum {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received == 0 {
            return 0;
        }
        let mut bad = BadChecksums::default();
        let mut writable = true;
        for mbuf in lane.batch.iter_mut() {
            bad.count(mbuf.rx_word());
            writable &= self.rewrite(mbuf);
        }
        lane.found_bad(bad);
        if !writable {
            lane.drop_those(|mbuf| mbuf.is_shared());
        }
        if self.mss.is_some() {
            lane.prepare();
        }
        lane.transmit_all();
        received
    }
}

/// The checksums that a packet has.
fn checksums_of(headers: &Headers, data: &[u8]) -> TxFlags {
    let mut there = TxFlags::empty();
    let v4 = headers.version == IpVersion::V4;
    there.set(TxFlags::IPV4_CHECKSUM, v4);
    if let Some(transport) = headers.transport {
        let absent = v4 && data[transport.checksum..transport.checksum + 2] == [0, 0];
        there.set(TxFlags::TCP_CHECKSUM, transport.tcp);
        there.set(TxFlags::UDP_CHECKSUM, !transport.tcp && !absent);
    }
    there
}

/// Whether what MANA parses is known to reach this packet's checksums: tags of 802.1Q alone before
/// the IP header, and a checksum that covers the IP packet to its end.
fn device_can(headers: &Headers) -> bool {
    let to_the_end = |end| end == headers.end;
    !headers.provider_tag && headers.transport.is_none_or(|t| to_the_end(t.end))
}

/// Whether a packet is TCP, has more payload than that, and can be cut by the device.
fn is_longer(headers: &Headers, mss: u16) -> bool {
    let tcp = headers.transport.filter(|transport| transport.tcp);
    tcp.is_some_and(|tcp| tcp.end - headers.l4 - tcp.header > usize::from(mss))
        && device_can(headers)
}

/// Asks the device to cut the packet. False if that can't be asked for.
fn segment(mbuf: &mut Mbuf, headers: &Headers, plain: TxOffload, mss: u16) -> bool {
    let offload = TxOffload {
        mss,
        ..offload_of(headers, plain, TxFlags::TSO)
    };
    // Longer headers have no place in MANA's request.
    let header = offload.l2_len + offload.l3_len + offload.l4_len;
    header <= 255 && mbuf.set_tx_offload(offload).is_ok()
}

/// Asks the device for these checksums and writes into the packet what it needs. False if that can
/// not be asked for: header lengths beyond what a request can say.
fn prepare(mbuf: &mut Mbuf, headers: &Headers, plain: TxOffload, by_device: TxFlags) -> bool {
    let offload = offload_of(headers, plain, by_device);
    mbuf.set_tx_offload(offload).is_ok() && mbuf.prepare_checksums().is_ok()
}

/// The request for this, with the header lengths of the packet.
fn offload_of(headers: &Headers, plain: TxOffload, wanted: TxFlags) -> TxOffload {
    let version = match headers.version {
        IpVersion::V4 => TxFlags::IPV4,
        IpVersion::V6 => TxFlags::IPV6,
    };
    TxOffload {
        flags: plain.flags | version | wanted,
        l2_len: headers.ip as u16,
        l3_len: (headers.l4 - headers.ip) as u16,
        l4_len: headers.transport.map_or(0, |t| t.header as u16),
        ..plain
    }
}

/// Asks for no more than the tag. Only lengths can be refused, and there are none.
fn request(mbuf: &mut Mbuf, plain: TxOffload) {
    let _ = mbuf.set_tx_offload(plain);
}

/// Computes these checksums and writes them.
fn compute(mbuf: &mut Mbuf, headers: &Headers, which: TxFlags) {
    if which.contains(TxFlags::IPV4_CHECKSUM)
        && let Some(data) = mbuf.data_mut()
    {
        let header = &mut data[headers.ip..headers.l4];
        header[10..12].fill(0);
        let mut sum = InternetSum::default();
        sum.add(header);
        header[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
    }
    let Some(transport) = headers.transport else {
        return;
    };
    if !which.intersects(TxFlags::TCP_CHECKSUM | TxFlags::UDP_CHECKSUM) {
        return;
    }
    let field = transport.checksum..transport.checksum + 2;
    let Some(data) = mbuf.data_mut() else {
        return;
    };
    data[field.clone()].fill(0);
    let length = (transport.end - headers.l4) as u32;
    let mut sum = InternetSum::pseudo_header(headers.addresses(data), headers.protocol, length);
    add_bytes(&mut sum, mbuf, headers.l4, transport.end);
    let checksum = match sum.checksum() {
        // 0 would say that there is none (RFC 768).
        0 if !transport.tcp => 0xFFFF,
        checksum => checksum,
    };
    if let Some(data) = mbuf.data_mut() {
        data[field].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Adds the bytes of a packet from `start` to `end`, over its segments.
fn add_bytes(sum: &mut InternetSum, mbuf: &Mbuf, start: usize, end: usize) {
    let mut at = 0;
    for segment in mbuf {
        let data = segment.data();
        let clip = |offset: usize| offset.saturating_sub(at).min(data.len());
        sum.add(&data[clip(start)..clip(end)]);
        at += data.len();
    }
}

#[cfg(test)]
mod tests;
