//! A generator of UDP packets over IPv4 with right checksums.

use crate::checksum::{checksum, fold, pseudo_header, sum};
use crate::config::GenConfig;

/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// The shortest frame, without FCS.
const MIN_FRAME: usize = 60;

/// Endless or counted packets of a number of flows, one after the other.
pub(super) struct Generator {
    /// One frame a flow.
    flows: Vec<Vec<u8>>,
    next: usize,
    left: Option<u64>,
}

impl Generator {
    pub(super) fn new(config: &GenConfig) -> Self {
        let size = (config.size as usize).max(MIN_FRAME);
        Self {
            flows: (0..config.flows.max(1)).map(|flow| frame(flow, size)).collect(),
            next: 0,
            left: config.count,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    pub(super) fn is_endless(&self) -> bool {
        self.left.is_none()
    }

    /// Writes the next packet into `frame`.
    pub(super) fn next_into(&mut self, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.flows[self.next]);
        self.next = (self.next + 1) % self.flows.len();
        self.left = self.left.map(|left| left.saturating_sub(1));
    }
}

/// The packet of a flow: addresses of the benchmarking network (RFC 2544), the flow in source
/// address and port.
fn frame(flow: u32, size: usize) -> Vec<u8> {
    let ip_length = (size - 14) as u16;
    let udp_length = ip_length - 20;
    let mut frame = vec![0; size];
    frame[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 0]);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&ip_length.to_be_bytes());
    frame[22] = 64;
    frame[23] = 17;
    frame[26..30].copy_from_slice(&[198, 18, (flow >> 8) as u8, flow as u8]);
    frame[30..34].copy_from_slice(&[198, 19, 0, 1]);
    let header = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    frame[34..36].copy_from_slice(&(1024 + (flow >> 16) as u16).to_be_bytes());
    frame[36..38].copy_from_slice(&9u16.to_be_bytes());
    frame[38..40].copy_from_slice(&udp_length.to_be_bytes());
    for (index, byte) in frame[HEADERS..].iter_mut().enumerate() {
        *byte = index as u8;
    }
    let pseudo = pseudo_header(&frame[26..34], 17, udp_length.into());
    let udp = !fold(pseudo + sum(&frame[34..]));
    let udp = if udp == 0 { 0xFFFF } else { udp };
    frame[40..42].copy_from_slice(&udp.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right_and_flows_differ() {
        let mut flows = std::collections::HashSet::new();
        for flow in 0..600 {
            for size in [60, 61, 1514, 9014] {
                let frame = frame(flow, size);
                assert_eq!(frame.len(), size);
                assert_eq!(checksum(&frame[14..34]), 0);
                let pseudo = pseudo_header(&frame[26..34], 17, (size - 34) as u32);
                assert_eq!(fold(pseudo + sum(&frame[34..])), 0xFFFF);
            }
            flows.insert(frame(flow, 60)[26..38].to_vec());
        }
        assert_eq!(flows.len(), 600);
    }
}
