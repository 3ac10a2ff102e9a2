//! What software must prepare before a device computes a checksum.

use super::tx::{TxFlags, TxOffload};
use crate::Mbuf;

/// Why the checksum fields of a packet could not be prepared. The packet is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// Others refer to the buffer.
    #[error("the headers are shared with clones; copy the packet to prepare its checksums")]
    Shared,
    /// The headers named by the header lengths are not all in the first segment.
    #[error("headers of {needed} bytes, the first segment has {len}; check l2_len and l3_len")]
    TooShort {
        /// Bytes of the headers.
        needed: usize,
        /// Bytes of the first segment.
        len: usize,
    },
    /// `l3_len` is no possible length of an IP header of that version.
    #[error("l3_len of {0} bytes is no IP header of that version")]
    L3Len(usize),
    /// At `l2_len` there is no header of the IP version asked for.
    #[error("IP version {found} at byte {at}, the offload asks for {asked}; check l2_len")]
    Version {
        /// Version asked for.
        asked: u8,
        /// Version found.
        found: u8,
        /// `l2_len`.
        at: usize,
    },
    /// The IP header says that the packet ends within its headers.
    #[error("the IP header says {0} bytes, which is less than its headers")]
    IpLength(usize),
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Mbuf {
    /// Writes into the packet what the checksums of [`Mbuf::tx_offload`] need: 0 into the IPv4
    /// header checksum, the sum of the pseudo header into the TCP or UDP checksum (without the
    /// length, where TSO is asked for). Does nothing if no checksum is asked for.
    ///
    /// # Errors
    /// The data is shared, or does not hold the headers that `l2_len` and `l3_len` promise.
    pub fn prepare_checksums(&mut self) -> Result<(), ChecksumError> {
        let offload = self.tx_offload();
        let any =
            TxFlags::IPV4_CHECKSUM | TxFlags::TCP_CHECKSUM | TxFlags::UDP_CHECKSUM | TxFlags::TSO;
        if !offload.flags.intersects(any) {
            return Ok(());
        }
        prepare(self.data_mut().ok_or(ChecksumError::Shared)?, offload)
    }
}

/// The same for the bytes of the first segment.
fn prepare(data: &mut [u8], offload: TxOffload) -> Result<(), ChecksumError> {
    let TxOffload {
        flags,
        l2_len,
        l3_len,
        ..
    } = offload;
    let (l2_len, l3_len) = (usize::from(l2_len), usize::from(l3_len));
    let v6 = flags.contains(TxFlags::IPV6);
    // A protocol, and where its header has the checksum.
    let transport = if flags.intersects(TxFlags::TCP_CHECKSUM | TxFlags::TSO) {
        Some((TCP, 16))
    } else if flags.contains(TxFlags::UDP_CHECKSUM) {
        Some((UDP, 6))
    } else {
        None
    };

    if v6 && l3_len < 40 || !v6 && (!(20..=60).contains(&l3_len) || !l3_len.is_multiple_of(4)) {
        return Err(ChecksumError::L3Len(l3_len));
    }
    let l4 = l2_len + l3_len;
    let needed = l4 + transport.map_or(0, |(_, field)| field + 2);
    let len = data.len();
    let Some(headers) = data.get_mut(..needed) else {
        return Err(ChecksumError::TooShort { needed, len });
    };
    let ip = &mut headers[l2_len..];
    let (asked, found) = (if v6 { 6 } else { 4 }, ip[0] >> 4);
    if found != asked {
        return Err(ChecksumError::Version {
            asked,
            found,
            at: l2_len,
        });
    }
    // Of the IP packet, its header included.
    let ip_len = match v6 {
        true => 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
        false => usize::from(u16::from_be_bytes([ip[2], ip[3]])),
    };

    if let Some((protocol, field)) = transport {
        let tso = flags.contains(TxFlags::TSO);
        let l4_len = match ip_len.checked_sub(l3_len) {
            _ if tso => 0,
            Some(l4_len) => l4_len as u32,
            None => return Err(ChecksumError::IpLength(ip_len)),
        };
        let addresses = if v6 { &ip[8..40] } else { &ip[12..20] };
        let sum = pseudo_header_sum(addresses, protocol, l4_len);
        ip[l3_len + field..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    if flags.contains(TxFlags::IPV4_CHECKSUM) {
        ip[10..12].fill(0);
    }
    Ok(())
}

/// The ones' complement sum of a pseudo header (RFC 793, 768, 8200), not complemented.
fn pseudo_header_sum(addresses: &[u8], protocol: u8, l4_len: u32) -> u16 {
    let words = addresses
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + u32::from(protocol) + (l4_len >> 16) + (l4_len & 0xFFFF);
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    sum as u16
}
