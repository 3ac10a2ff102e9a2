//! Ethernet frames for the suites, built byte by byte and with right checksums.

use std::sync::OnceLock;

use uverbs_abi::Mac;

use crate::rfc1071;

/// Where frames go and where they come from, in this process.
static ADDRESSES: OnceLock<[Mac; 2]> = OnceLock::new();

const USUAL: [Mac; 2] = [
    Mac([0x00, 0x0d, 0x3a, 0x11, 0x22, 0x33]),
    Mac([0x00, 0x0d, 0x3a, 0x44, 0x55, 0x66]),
];

/// Makes every frame of this process one from `mac` to `mac`: a device of hardware drops frames from
/// other addresses than its own, and a wire that loops may deliver by address. The first call counts,
/// and none does once there is a frame.
pub fn address(mac: Mac) {
    // That one is known already is no error: see above.
    let _known = ADDRESSES.set([mac; 2]);
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP over IPv4.
    UdpV4,
    /// TCP over IPv4.
    TcpV4,
    /// UDP over IPv6.
    UdpV6,
    /// TCP over IPv6.
    TcpV6,
    /// ICMP echo over IPv4.
    IcmpV4,
    /// ICMPv6 echo.
    IcmpV6,
    /// A later fragment of UDP over IPv4.
    FragmentV4,
    /// ARP.
    Arp,
}

impl Kind {
    /// Each kind once.
    pub const ALL: [Kind; 8] = [
        Kind::UdpV4,
        Kind::TcpV4,
        Kind::UdpV6,
        Kind::TcpV6,
        Kind::IcmpV4,
        Kind::IcmpV6,
        Kind::FragmentV4,
        Kind::Arp,
    ];

    /// Those with a transport checksum that a device can compute.
    pub const TRANSPORT: [Kind; 4] = [Kind::UdpV4, Kind::TcpV4, Kind::UdpV6, Kind::TcpV6];

    /// Whether it is IPv6.
    #[must_use]
    pub const fn v6(self) -> bool {
        matches!(self, Kind::UdpV6 | Kind::TcpV6 | Kind::IcmpV6)
    }

    /// The IP protocol; 0 for ARP.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Kind::UdpV4 | Kind::UdpV6 | Kind::FragmentV4 => 17,
            Kind::TcpV4 | Kind::TcpV6 => 6,
            Kind::IcmpV4 => 1,
            Kind::IcmpV6 => 58,
            Kind::Arp => 0,
        }
    }

    /// Offset of the checksum within the transport header, where there is one.
    const fn checksum_at(self) -> Option<usize> {
        match self {
            Kind::UdpV4 | Kind::UdpV6 => Some(6),
            Kind::TcpV4 | Kind::TcpV6 => Some(16),
            Kind::IcmpV4 | Kind::IcmpV6 => Some(2),
            Kind::FragmentV4 | Kind::Arp => None,
        }
    }
}

/// Length of the IP header of a frame of [`frame`] in bytes.
#[must_use]
pub const fn ip_header(kind: Kind) -> usize {
    if kind.v6() { 40 } else { 20 }
}

/// The shortest frame without FCS.
pub const SHORTEST: usize = 60;

/// A frame of `size` bytes (at least 60 and the headers; IPv6 TCP needs 74) in flow `flow`. `seed`
/// chooses the payload, so that frames of one flow differ; its low 32 bits stand in the payload's
/// last bytes, where [`seed_of`] finds them.
///
/// # Panics
///
/// If `size` is too small.
#[must_use]
pub fn frame(kind: Kind, flow: u32, seed: u32, size: usize) -> Vec<u8> {
    assert!(
        size >= SHORTEST,
        "{size} bytes are less than an Ethernet frame"
    );
    let [to, from] = ADDRESSES.get_or_init(|| USUAL);
    let mut frame = [to.0, from.0].concat();
    let [a, b, c, d] = flow.to_be_bytes();
    if kind == Kind::Arp {
        frame.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    } else if kind.v6() {
        let length = (size - 54) as u16;
        frame.extend_from_slice(&[0x86, 0xDD, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[kind.protocol(), 64]);
        frame.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]);
        frame.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, d, c, b, a]);
    } else {
        let length = (size - 14) as u16;
        let (flags, offset) = if kind == Kind::FragmentV4 {
            (0x20, 64)
        } else {
            (0x40, 0)
        };
        frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[c, d, flags, offset, 64, kind.protocol(), 0, 0]);
        frame.extend_from_slice(&[10, b, c, d, 192, 168, d, c]);
        let checksum = !rfc1071::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    let l4 = frame.len();
    match kind {
        Kind::UdpV4 | Kind::UdpV6 => {
            frame.extend_from_slice(&[0x10, d, 0x20, c]);
            frame.extend_from_slice(&((size - l4) as u16).to_be_bytes());
            frame.extend_from_slice(&[0, 0]);
        }
        Kind::TcpV4 | Kind::TcpV6 => {
            frame.extend_from_slice(&[0x30, d, 0x01, 0xBB, a, b, c, d, 0, 0, 0, 0, 0x50, 0x10]);
            frame.extend_from_slice(&[0x20, 0, 0, 0, 0, 0]);
        }
        Kind::IcmpV4 => frame.extend_from_slice(&[8, 0, 0, 0, c, d, 0, 1]),
        Kind::IcmpV6 => frame.extend_from_slice(&[128, 0, 0, 0, c, d, 0, 1]),
        Kind::FragmentV4 | Kind::Arp => {}
    }
    fill(&mut frame, seed, size);
    if let Some(at) = kind.checksum_at() {
        let checksum = transport_checksum(&frame, kind, l4);
        frame[l4 + at..l4 + at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}

/// Fills up to `size` with bytes of a small generator, the seed last.
fn fill(frame: &mut Vec<u8>, seed: u32, size: usize) {
    assert!(
        frame.len() + 4 <= size,
        "{size} bytes hold no headers and seed"
    );
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    while frame.len() < size - 4 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        frame.push(state as u8);
    }
    frame.extend_from_slice(&seed.to_be_bytes());
}

/// The seed that [`frame`] was called with.
///
/// # Panics
///
/// If the frame has no 4 bytes.
#[must_use]
pub fn seed_of(frame: &[u8]) -> u32 {
    let last = frame.last_chunk().expect("a frame has 4 bytes");
    u32::from_be_bytes(*last)
}

fn transport_checksum(frame: &[u8], kind: Kind, l4: usize) -> u16 {
    let mut covered = match kind {
        Kind::IcmpV4 => Vec::new(),
        _ if kind.v6() => frame[22..54].to_vec(),
        _ => frame[26..34].to_vec(),
    };
    if kind != Kind::IcmpV4 {
        covered.extend_from_slice(&((frame.len() - l4) as u32).to_be_bytes());
        covered.extend_from_slice(&[0, 0, 0, kind.protocol()]);
    }
    covered.extend_from_slice(&frame[l4..]);
    match !rfc1071::sum(&covered) {
        0 if kind.protocol() == 17 => 0xFFFF,
        checksum => checksum,
    }
}

/// Packets of mixed kinds, flows and sizes from 80 to `largest` bytes, all different.
#[must_use]
pub fn mixture(count: usize, largest: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let kind = Kind::ALL[i % Kind::ALL.len()];
            let size = 80 + i * 37 % (largest - 79);
            frame(kind, (i % 61 * 7) as u32, i as u32, size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_size_asked_for_right_checksums_and_their_seed() {
        for kind in Kind::ALL {
            for size in [80, 81, 1514, 9000] {
                let frame = frame(kind, 77, size as u32, size);
                assert_eq!((frame.len(), seed_of(&frame)), (size, size as u32));
                if Kind::TRANSPORT.contains(&kind) {
                    assert_eq!(rfc1071::verify(&frame), Ok(()), "{kind:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_spoilt_byte_is_seen_in_every_transport() {
        for kind in Kind::TRANSPORT {
            let mut frame = frame(kind, 1, 2, 200);
            frame[150] ^= 1;
            assert!(rfc1071::verify(&frame).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_mixture_has_no_packet_twice() {
        let mut frames = mixture(800, 1514);
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), 800);
    }
}
