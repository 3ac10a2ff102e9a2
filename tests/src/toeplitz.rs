//! The judge of RSS: Toeplitz bit by bit, straight from the definition, and what of a frame it
//! covers. Shares nothing with the model or the driver.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Hash of `input` under `key`: for every set bit of the input, the 32 key bits that start at its
/// position are added modulo 2.
///
/// # Panics
///
/// If the key has fewer than 32 bits more than the input.
#[must_use]
pub fn hash(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
    let mut result = 0;
    for i in 0..input.len() * 8 {
        if bit(input, i) == 1 {
            let window = (i..i + 32).fold(0_u32, |window, k| window << 1 | u32::from(bit(key, k)));
            result ^= window;
        }
    }
    result
}

/// What the hash of an Ethernet frame covers: the addresses, and the ports of an unfragmented TCP
/// or UDP packet. `None` for what is not IP.
#[must_use]
pub fn input(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = frame.get(14..)?;
    let (mut covered, protocol, l4, fragment) = match (frame[12], frame[13]) {
        (0x08, 0x00) => {
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3FFF != 0;
            let l4 = usize::from(ip[0] & 15) * 4;
            (ip[12..20].to_vec(), ip[9], l4, fragment)
        }
        (0x86, 0xDD) => (ip[8..40].to_vec(), ip[6], 40, false),
        _ => return None,
    };
    if !fragment && matches!(protocol, 6 | 17) {
        covered.extend_from_slice(&ip[l4..l4 + 4]);
    }
    Some(covered)
}

/// The queue a frame must arrive on where `queues` receive queues share the 64 entries of the
/// indirection table: entry i holds queue i modulo `queues`. Frames that are not IP go to the queue of
/// the last entry, which mana_ib makes the default (reference/mana-hardware.md §3.8).
#[must_use]
pub fn queue(key: &[u8; 40], frame: &[u8], queues: usize) -> usize {
    let entry = input(frame).map_or(63, |input| hash(key, &input) & 63);
    entry as usize % queues
}

/// The queue on which the device must deliver the frame by that table: what is not hashed goes to the
/// last queue that the kernel was given, which is that of the last entry.
#[must_use]
pub fn queue_by(table: &[u16; 64], key: &[u8; 40], frame: &[u8]) -> usize {
    let entry = input(frame).map_or(63, |covered| hash(key, &covered) as usize % 64);
    table[entry].into()
}

/// Source address and port, destination address and port, hash over the addresses, hash over
/// addresses and ports.
type Vector<Address> = (Address, u16, Address, u16, u32, u32);

/// Microsoft's published verification vectors for IPv4 ("Verifying the RSS Hash Calculation").
pub const VECTORS_V4: [Vector<Ipv4Addr>; 5] = [
    (
        Ipv4Addr::new(66, 9, 149, 187),
        2794,
        Ipv4Addr::new(161, 142, 100, 80),
        1766,
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        Ipv4Addr::new(199, 92, 111, 2),
        14230,
        Ipv4Addr::new(65, 69, 140, 83),
        4739,
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        Ipv4Addr::new(24, 19, 198, 95),
        12898,
        Ipv4Addr::new(12, 22, 207, 184),
        38024,
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        Ipv4Addr::new(38, 27, 205, 30),
        48228,
        Ipv4Addr::new(209, 142, 163, 6),
        2217,
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        Ipv4Addr::new(153, 39, 163, 191),
        44251,
        Ipv4Addr::new(202, 188, 127, 2),
        1303,
        0x5d18_09c5,
        0x10e8_28a2,
    ),
];

/// The same for IPv6.
pub const VECTORS_V6: [Vector<Ipv6Addr>; 3] = [
    (
        Ipv6Addr::new(0x3ffe, 0x2501, 0x200, 0x1fff, 0, 0, 0, 7),
        2794,
        Ipv6Addr::new(0x3ffe, 0x2501, 0x200, 3, 0, 0, 0, 1),
        1766,
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    (
        Ipv6Addr::new(0x3ffe, 0x501, 8, 0, 0x260, 0x97ff, 0xfe40, 0xefab),
        14230,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        4739,
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    (
        Ipv6Addr::new(0x3ffe, 0x1900, 0x4545, 3, 0x200, 0xf8ff, 0xfe21, 0x67cf),
        44251,
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0xf8ff, 0xfe21, 0x67cf),
        38024,
        0x4b61_e985,
        0x02d1_feef,
    ),
];

/// The key of those vectors.
pub const VECTOR_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[u8], ports: (u16, u16), without: u32, with: u32) {
        assert_eq!(hash(&VECTOR_KEY, addresses), without);
        let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        let all = [addresses, &ports].concat();
        assert_eq!(hash(&VECTOR_KEY, &all), with);
    }

    #[test]
    fn the_published_vectors_come_out() {
        for (from, from_port, to, to_port, without, with) in VECTORS_V4 {
            let addresses = [from.octets(), to.octets()].concat();
            check(&addresses, (from_port, to_port), without, with);
        }
        for (from, from_port, to, to_port, without, with) in VECTORS_V6 {
            let addresses = [from.octets(), to.octets()].concat();
            check(&addresses, (from_port, to_port), without, with);
        }
    }

    #[test]
    fn ports_count_only_where_there_are_whole_transport_headers() {
        let mut frame = vec![0; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        assert_eq!(input(&frame).unwrap().len(), 12);
        frame[20] = 0x20; // more fragments
        assert_eq!(input(&frame).unwrap().len(), 8);
        frame[20] = 0x40; // don't fragment
        frame[23] = 1; // ICMP
        assert_eq!(input(&frame).unwrap().len(), 8);
        frame[12..14].copy_from_slice(&[8, 6]); // ARP
        assert_eq!(input(&frame), None);
        assert_eq!(queue(&VECTOR_KEY, &frame, 4), 3);
    }
}
