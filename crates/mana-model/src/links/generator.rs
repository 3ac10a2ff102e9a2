//! A generator of UDP packets over IPv4 with right checksums.

use uverbs_abi::Mac;

use crate::checksum::{fold, pseudo_header, sum};
use crate::config::GenConfig;

/// Where the headers begin.
const IP: usize = 14;
const UDP: usize = IP + 20;
const PAYLOAD: usize = UDP + 8;
/// Fields that differ between flows, and the checksums that cover them.
const IP_CHECKSUM: usize = IP + 10;
const SOURCE_HOST: usize = IP + 14;
const SOURCE_PORT: usize = UDP;
const UDP_CHECKSUM: usize = UDP + 6;
/// UDP's number in the IP header.
const PROTOCOL: u8 = 17;
/// Source port of the first flows.
const FIRST_PORT: u16 = 1024;

/// Endless or counted packets of a number of flows, one flow after the other.
///
/// Addresses are those of the benchmarking network 198.18.0.0/15 (RFC 2544). A flow's number stands
/// in the lower half of the source address and, above 65535, in the source port.
pub(super) struct Generator {
    /// A packet whose fields that differ between flows are zero.
    template: Vec<u8>,
    /// Unfolded sums over the template.
    ip_sum: u64,
    udp_sum: u64,
    flows: u32,
    flow: u32,
    /// Packets still to come; `None` is endless.
    left: Option<u64>,
}

impl Generator {
    /// Packets to the port with this MAC. The configuration was checked: the size is at least 60.
    pub(super) fn new(config: &GenConfig, mac: Mac) -> Self {
        let template = template(config.size as usize, mac);
        let udp_length = (template.len() - UDP) as u32;
        let addresses = &template[IP + 12..UDP];
        Self {
            ip_sum: sum(&template[IP..UDP]),
            udp_sum: pseudo_header(addresses, PROTOCOL, udp_length) + sum(&template[UDP..]),
            template,
            flows: config.flows,
            flow: 0,
            left: config.count,
        }
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    pub(super) fn is_endless(&self) -> bool {
        self.left.is_none()
    }

    /// Writes the next packet into `frame`; false after the last.
    #[inline]
    pub(super) fn next(&mut self, frame: &mut Vec<u8>) -> bool {
        if self.is_done() {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        let (host, port) = (
            self.flow as u16,
            FIRST_PORT.wrapping_add((self.flow >> 16) as u16),
        );
        let ip_sum = self.ip_sum + u64::from(host);
        let udp_checksum = !fold(self.udp_sum + u64::from(host) + u64::from(port));
        // 0 would say that there is no checksum.
        let udp_checksum = if udp_checksum == 0 {
            0xFFFF
        } else {
            udp_checksum
        };
        frame.clear();
        frame.extend_from_slice(&self.template);
        put(frame, SOURCE_HOST, host);
        put(frame, IP_CHECKSUM, !fold(ip_sum));
        put(frame, SOURCE_PORT, port);
        put(frame, UDP_CHECKSUM, udp_checksum);
        self.flow = if self.flow + 1 < self.flows {
            self.flow + 1
        } else {
            0
        };
        true
    }
}

#[inline]
fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn template(size: usize, mac: Mac) -> Vec<u8> {
    let mut frame = vec![0; size];
    frame[..6].copy_from_slice(&mac.0);
    frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 1]);
    put(&mut frame, 12, 0x0800);
    frame[IP] = 0x45;
    put(&mut frame, IP + 2, (size - IP) as u16);
    frame[IP + 8] = 64;
    frame[IP + 9] = PROTOCOL;
    frame[IP + 12..IP + 20].copy_from_slice(&[198, 18, 0, 0, 198, 19, 0, 1]);
    // The discard service.
    put(&mut frame, UDP + 2, 9);
    put(&mut frame, UDP + 4, (size - UDP) as u16);
    for (index, byte) in frame[PAYLOAD..].iter_mut().enumerate() {
        *byte = index as u8;
    }
    frame
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::checksum::checksum;

    const MAC: Mac = Mac([0x00, 0x0d, 0x3a, 1, 2, 3]);

    fn generator(flows: u32, count: Option<u64>, size: u32) -> Generator {
        let config = GenConfig {
            pps: None,
            count,
            size,
            flows,
        };
        Generator::new(&config, MAC)
    }

    /// As a receiver would check it.
    fn assert_sound(frame: &[u8]) {
        let ip_length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(ip_length + 14, frame.len());
        assert_eq!(frame[..6], MAC.0);
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_ne!(frame[40..42], [0, 0]);
        let pseudo = pseudo_header(&frame[26..34], 17, (frame.len() - 34) as u32);
        assert_eq!(fold(pseudo + sum(&frame[34..])), 0xFFFF);
    }

    #[test]
    fn checksums_are_right_and_every_flow_has_its_own_addresses() {
        for size in [60, 61, 1514, 9014] {
            let (mut generator, mut frame) = (generator(70_000, Some(70_000), size), Vec::new());
            let mut flows = HashSet::new();
            while generator.next(&mut frame) {
                assert_eq!(frame.len(), size as usize);
                if flows.len() % 97 == 0 {
                    assert_sound(&frame);
                }
                flows.insert(<[u8; 12]>::try_from(&frame[26..38]).unwrap());
            }
            assert_eq!(flows.len(), 70_000);
        }
    }

    #[test]
    fn flows_come_round_and_the_count_ends_them() {
        let mut generator = generator(3, Some(7), 60);
        let mut frame = Vec::new();
        let mut hosts = Vec::new();
        while generator.next(&mut frame) {
            hosts.push(frame[29]);
        }
        assert_eq!(hosts, [0, 1, 2, 0, 1, 2, 0]);
        assert!(generator.is_done() && !generator.next(&mut frame));
    }

    #[test]
    fn the_largest_number_of_flows_takes_no_memory() {
        let mut generator = generator(u32::MAX, None, 60);
        generator.flow = u32::MAX - 1;
        let mut frame = Vec::new();
        assert!(generator.next(&mut frame) && generator.is_endless());
        assert_sound(&frame);
        assert_eq!(generator.flow, 0);
    }
}
