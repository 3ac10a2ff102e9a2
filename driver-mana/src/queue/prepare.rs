//! What `tx_prepare` does to a packet: the only place where the driver reads or writes its bytes.

use pmd_api::{BadPacket, Batch, Mbuf, Reject, TxFlags};

use super::Lkeys;
use super::general::{Shape, tso_header};

/// Bytes of a TCP header, and of a UDP header, that hold the checksum.
const TO_TCP_CHECKSUM: usize = 18;
const TO_UDP_CHECKSUM: usize = 8;

/// See [`pmd_api::TxBurst::tx_prepare`]. Without keys packets may be of any pool.
pub(super) fn prepare_all(
    batch: &mut Batch,
    mut lkeys: Option<&mut Lkeys>,
    max_sges: usize,
) -> Result<(), BadPacket> {
    for (index, mbuf) in batch.iter_mut().enumerate() {
        prepare(mbuf, lkeys.as_deref_mut(), max_sges)
            .map_err(|reason| BadPacket { index, reason })?;
    }
    Ok(())
}

/// Checks a packet and makes it ready to be sent. On an error its bytes are as before.
fn prepare(mbuf: &mut Mbuf, lkeys: Option<&mut Lkeys>, max_sges: usize) -> Result<(), Reject> {
    let tso = tso_header(mbuf)?;
    let headers = match tso {
        Some(bytes) => Some(bytes),
        None => checksum_headers(mbuf),
    };
    if let Some(bytes) = headers
        // A packet that is too short for its headers says so below.
        && bytes <= mbuf.packet_len()
    {
        mbuf.pull_up(bytes).map_err(Reject::PullUp)?;
    }
    Shape::of(mbuf, max_sges)?.gather(mbuf, lkeys)?;
    if headers.is_some() {
        mbuf.prepare_checksums()?;
    }
    if tso.is_some() {
        clear_lengths(mbuf);
    }
    Ok(())
}

/// Bytes from the start of a packet to the end of what a checksum asked for needs.
fn checksum_headers(mbuf: &Mbuf) -> Option<usize> {
    let word = mbuf.tx_word();
    let flags = word.flags();
    let transport = usize::from(word.transport_offset());
    if flags.contains(TxFlags::TCP_CHECKSUM) {
        Some(transport + TO_TCP_CHECKSUM)
    } else if flags.contains(TxFlags::UDP_CHECKSUM) {
        Some(transport + TO_UDP_CHECKSUM)
    } else {
        (flags.contains(TxFlags::IPV4_CHECKSUM)).then_some(transport)
    }
}

/// The device fills in what differs from packet to packet where it finds 0: length and checksum of
/// IPv4, the length of IPv6 (reference/mana-hardware.md §3.3).
fn clear_lengths(mbuf: &mut Mbuf) {
    let offload = mbuf.tx_offload();
    let fields = match offload.flags.contains(TxFlags::IPV6) {
        true => [4..6, 4..6],
        false => [2..4, 10..12],
    };
    // The IP header was found in there a moment ago.
    if let Some(data) = mbuf.data_mut() {
        let ip = &mut data[usize::from(offload.l2_len)..];
        for field in fields {
            ip[field].fill(0);
        }
    }
}
