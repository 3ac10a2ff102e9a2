//! The hash of receive side scaling, in software.

use super::packet_type::{L3Type, L4Type, PacketType};
use super::rx::HashType;

/// Bytes of a key.
pub const RSS_KEY: usize = 40;
/// Most bytes that are hashed: two IPv6 addresses and two ports.
const MAX_INPUT: usize = 36;

/// The Toeplitz hash under one key: what a device with this key would compute for a packet, for
/// those who steer or balance by it, or hash what the device did not.
///
/// ```
/// use pmd_api::{HashType, Toeplitz};
///
/// let key: [u8; 40] = std::array::from_fn(|i| i as u8);
/// let toeplitz = Toeplitz::new(&key);
/// let frame = [0; 60];
/// assert_eq!(toeplitz.packet(&frame), None, "no IP packet");
/// ```
#[derive(Debug, Clone)]
pub struct Toeplitz {
    /// What each value of each byte contributes.
    tables: Box<[[u32; 256]]>,
}

impl Toeplitz {
    /// Prepares 36 KiB of tables for a key.
    pub fn new(key: &[u8; RSS_KEY]) -> Self {
        let mut tables = vec![[0; 256]; MAX_INPUT].into_boxed_slice();
        for (position, table) in tables.iter_mut().enumerate() {
            // The 39 key bits under which the 8 bits of this byte lie, in the upper ones of 64.
            let window = (0..8).fold(0u64, |bits, i| {
                let byte = key.get(position + i).copied().unwrap_or(0);
                bits << 8 | u64::from(byte)
            });
            for (value, entry) in table.iter_mut().enumerate() {
                let bits = (0..8).filter(|bit| value & (0x80 >> bit) != 0);
                *entry = bits.fold(0, |hash, bit| hash ^ (window << bit >> 32) as u32);
            }
        }
        Self { tables }
    }

    /// The hash of up to 36 bytes: source and destination address, then, if they count, source and
    /// destination port, in network order. Further bytes don't count.
    #[inline]
    pub fn hash(&self, input: &[u8]) -> u32 {
        let bytes = self.tables.iter().zip(input);
        bytes.fold(0, |hash, (table, byte)| hash ^ table[usize::from(*byte)])
    }

    /// The hash of a packet that begins with these bytes, and over what it was computed: the
    /// addresses, and the ports of TCP and UDP, but not of fragments. `None` for what is not IP, and
    /// where the headers are cut off. Which fields a device hashes is its own business:
    /// [`Mbuf::hash`](crate::Mbuf::hash) tells it of each packet.
    pub fn packet(&self, bytes: &[u8]) -> Option<(u32, HashType)> {
        let found = PacketType::parse(bytes);
        let (l3, l4) = (usize::from(found.l2_len), usize::from(found.l3_len));
        let ip = bytes.get(l3..)?;
        let (addresses, v6) = match found.l3 {
            L3Type::Ipv4 | L3Type::Ipv4Options => (ip.get(12..20)?, false),
            L3Type::Ipv6 | L3Type::Ipv6Extensions => (ip.get(8..40)?, true),
            _ => return None,
        };
        let hash_type = match (found.l4, v6) {
            (L4Type::Tcp, false) => HashType::TcpIpv4,
            (L4Type::Udp, false) => HashType::UdpIpv4,
            (L4Type::Tcp, true) => HashType::TcpIpv6,
            (L4Type::Udp, true) => HashType::UdpIpv6,
            (_, false) => HashType::Ipv4,
            (_, true) => HashType::Ipv6,
        };
        let ports: &[u8] = match hash_type.has_ports() {
            true => ip.get(l4..l4 + 4)?,
            false => &[],
        };
        let mut input = [0; MAX_INPUT];
        let length = addresses.len() + ports.len();
        input[..addresses.len()].copy_from_slice(addresses);
        input[addresses.len()..length].copy_from_slice(ports);
        Some((self.hash(&input[..length]), hash_type))
    }
}
