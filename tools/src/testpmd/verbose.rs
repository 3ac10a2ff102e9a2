//! What `set verbose` prints of each packet, in dpdk-testpmd's words.

use std::fmt::Write;

use pmd_api::{Checksum, Mbuf, PoolId};
use uverbs_abi::Mac;

use super::display::upper;
use super::headers::{Headers, IpVersion, behind_tags};
use super::watch::Way;

/// The lines on one burst.
pub fn burst(
    port: usize,
    queue: u16,
    way: Way,
    packets: &[Mbuf],
    pools: &[(PoolId, String)],
) -> String {
    let verb = match way {
        Way::Rx => "received",
        Way::Tx => "sent",
    };
    let count = packets.len();
    let mut out = format!("port {port}/queue {queue}: {verb} {count} packets\n");
    for mbuf in packets {
        packet(&mut out, queue, way, mbuf, pools);
    }
    out
}

fn packet(out: &mut String, queue: u16, way: Way, mbuf: &Mbuf, pools: &[(PoolId, String)]) {
    let data = mbuf.data();
    let mac = |at: usize| -> String {
        let bytes = data.get(at..at + 6).and_then(|bytes| bytes.try_into().ok());
        upper(Mac(bytes.unwrap_or_default()))
    };
    let kind = data
        .get(12..14)
        .map_or(0, |b| u16::from(b[0]) << 8 | u16::from(b[1]));
    let pool = pools.iter().find(|(id, _)| *id == mbuf.buffer_pool());
    let _ = write!(
        out,
        "  src={} - dst={} - pool={} - type=0x{kind:04x} - length={} - nb_segs={}",
        mac(6),
        mac(0),
        pool.map_or("unknown", |(_, name)| name),
        mbuf.packet_len(),
        mbuf.segments(),
    );
    let hash = (way == Way::Rx).then(|| mbuf.hash()).flatten();
    if let Some((hash, _)) = hash {
        let _ = write!(out, " - RSS hash=0x{hash:x} - RSS queue=0x{queue:x}");
    }
    let tag = (way == Way::Rx).then(|| mbuf.vlan()).flatten();
    if let Some(tag) = tag {
        let _ = write!(out, " - VLAN tci=0x{tag:x}");
    }
    out.push_str(" - sw ptype: ");
    layers(out, data, mbuf.packet_len());
    let verb = match way {
        Way::Rx => "Receive",
        Way::Tx => "Send",
    };
    let _ = writeln!(out, " - {verb} queue=0x{queue:x}");
    out.push_str("  ol_flags: ");
    match way {
        Way::Rx => rx_flags(out, mbuf, hash.is_some(), tag.is_some()),
        Way::Tx => {
            let _ = write!(out, "{:?} ", mbuf.tx_offload().flags);
        }
    }
    out.push('\n');
}

/// Packet type and header lengths, as DPDK's own parser names them.
fn layers(out: &mut String, data: &[u8], packet_len: usize) {
    let Some(tagged) = behind_tags(data) else {
        out.push_str("L2_ETHER  - l2_len=14");
        return;
    };
    out.push_str(if tagged.start > 14 {
        "L2_ETHER_VLAN "
    } else {
        "L2_ETHER "
    });
    let mut lengths = format!(" - l2_len={}", tagged.start);
    if let Some(headers) = Headers::parse(data, packet_len) {
        let length = headers.l4 - headers.ip;
        out.push_str(match (headers.version, length) {
            (IpVersion::V4, 20) => "L3_IPV4 ",
            (IpVersion::V4, _) => "L3_IPV4_EXT ",
            (IpVersion::V6, 40) => "L3_IPV6 ",
            (IpVersion::V6, _) => "L3_IPV6_EXT ",
        });
        let _ = write!(lengths, " - l3_len={length}");
        if headers.fragment {
            out.push_str("L4_FRAG ");
        } else if let Some(transport) = headers.transport {
            out.push_str(if transport.tcp { "L4_TCP " } else { "L4_UDP " });
            let _ = write!(lengths, " - l4_len={}", transport.header);
        }
    }
    out.push_str(&lengths);
}

fn rx_flags(out: &mut String, mbuf: &Mbuf, hash: bool, tag: bool) {
    let verdict = |checksum| match checksum {
        Checksum::Good => "GOOD",
        Checksum::Bad => "BAD",
        Checksum::Unknown => "UNKNOWN",
    };
    if tag {
        out.push_str("RTE_MBUF_F_RX_VLAN ");
    }
    if hash {
        out.push_str("RTE_MBUF_F_RX_RSS_HASH ");
    }
    let _ = write!(
        out,
        "RTE_MBUF_F_RX_L4_CKSUM_{} RTE_MBUF_F_RX_IP_CKSUM_{} ",
        verdict(mbuf.l4_checksum()),
        verdict(mbuf.ip_checksum()),
    );
    if tag {
        out.push_str("RTE_MBUF_F_RX_VLAN_STRIPPED ");
    }
    out.push_str("RTE_MBUF_F_RX_OUTER_L4_CKSUM_UNKNOWN ");
}
