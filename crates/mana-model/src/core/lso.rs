//! Segmentation: one packet with one set of headers becomes many (reference/mana-hardware.md §3.3).

use gdma::oob::ShortOob;

use super::packet::{IpPacket, TCP, header_len, ip_header, word};
use crate::checksum::{checksum, fold, sum};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
/// Frames of a packet at most: the longest that Linux hands over, with the smallest MSS that TCP has.
const MOST_FRAMES: usize = 8192;

/// How a packet is cut. Offsets are in bytes from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    v6: bool,
    /// The IP header.
    ip: usize,
    /// The TCP header.
    tcp: usize,
    /// The payload.
    payload: usize,
    /// Behind the payload.
    end: usize,
    /// Payload bytes of a frame.
    mss: usize,
}

impl Cut {
    /// How `packet` is cut into frames of `mss` bytes of payload, which begins at `payload`; or what
    /// is wrong with the headers or with what the OOB asks for.
    pub(super) fn new(
        packet: &[u8],
        payload: usize,
        mss: usize,
        oob: ShortOob,
    ) -> Result<Self, &'static str> {
        let mut headers = packet.get(..payload).ok_or("no payload")?.to_vec();
        let (v6, ip) = ip_header(&headers).ok_or("no IP packet")?;
        // A whole packet for the parser: headers alone, with a length that says so. Drivers leave it
        // 0, since no one length is right.
        let (field, length) = match v6 {
            true => (ip + 4, payload.checked_sub(ip + 40)),
            false => (ip + 2, payload.checked_sub(ip)),
        };
        let length = length.ok_or("the first element ends within the IP header")?;
        if word(&headers, field) != Some(0) {
            return Err("the length in the IP header is not 0");
        }
        headers[field..field + 2].copy_from_slice(&(length as u16).to_be_bytes());
        let parsed =
            IpPacket::parse(&headers).ok_or("the first element holds no whole IP header")?;
        let tcp = parsed.l4;
        if parsed.protocol != TCP || !parsed.has_l4() {
            return Err("the first element holds no whole TCP header");
        }
        if tcp + 4 * usize::from(headers[tcp + 12] >> 4) != payload {
            return Err("the first element does not end with the TCP header");
        }
        if (oob.is_outer_ipv4(), oob.is_outer_ipv6()) != (!v6, v6) {
            return Err("not the packet's IP version");
        }
        if !oob.comp_tcp_csum() || oob.comp_udp_csum() || !v6 && !oob.comp_iphdr_csum() {
            return Err("checksums of IPv4 and TCP must be asked for, and no other");
        }
        if (packet.len() - payload).div_ceil(mss) > MOST_FRAMES {
            return Err("more than 8192 frames");
        }
        if usize::from(oob.trans_off()) != tcp {
            return Err("trans_off is not the TCP header's");
        }
        Ok(Self {
            v6,
            ip,
            tcp,
            payload,
            end: packet.len(),
            mss,
        })
    }

    /// Number of frames.
    pub(super) fn frames(&self) -> usize {
        (self.end - self.payload).div_ceil(self.mss)
    }

    /// Bytes of the largest frame.
    pub(super) fn largest(&self) -> usize {
        self.end.min(self.payload + self.mss)
    }

    /// Builds frame `index` of the packet in place of what `frame` held. The TCP checksum field of
    /// the packet holds the sum of the pseudo-header without its length.
    pub(super) fn write(&self, packet: &[u8], index: usize, frame: &mut Vec<u8>) {
        let (ip, tcp) = (self.ip, self.tcp);
        let skipped = index * self.mss;
        let start = self.payload + skipped;
        let end = self.end.min(start + self.mss);
        frame.clear();
        frame.extend_from_slice(&packet[..self.payload]);
        frame.extend_from_slice(&packet[start..end]);

        let length = frame.len() - ip;
        if self.v6 {
            frame[ip + 4..ip + 6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        } else {
            frame[ip + 2..ip + 4].copy_from_slice(&(length as u16).to_be_bytes());
            let id = u16::from_be_bytes([frame[ip + 4], frame[ip + 5]]);
            let id = id.wrapping_add(index as u16);
            frame[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
            frame[ip + 10..ip + 12].fill(0);
            let header = checksum(&frame[ip..ip + header_len(frame, ip)]);
            frame[ip + 10..ip + 12].copy_from_slice(&header.to_be_bytes());
        }

        let mut number = [0; 4];
        number.copy_from_slice(&frame[tcp + 4..tcp + 8]);
        let number = u32::from_be_bytes(number).wrapping_add(skipped as u32);
        frame[tcp + 4..tcp + 8].copy_from_slice(&number.to_be_bytes());
        if end != self.end {
            frame[tcp + 13] &= !(FIN | PSH);
        }
        if index != 0 {
            frame[tcp + 13] &= !CWR;
        }
        let length = (frame.len() - tcp) as u64;
        let value = !fold(sum(&frame[tcp..]) + length);
        frame[tcp + 16..tcp + 18].copy_from_slice(&value.to_be_bytes());
    }
}
