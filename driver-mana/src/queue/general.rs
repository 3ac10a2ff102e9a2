//! The WQE of any packet: several segments, a VLAN tag, TSO, data that is shared.

use gdma::oob::{LONG, LongOob, SHORT, ShortOob};
use gdma::wqe::{MAX_TX_SGES, Sge, WqeHeader};
use gdma::{SendRing, Wqe};
use pmd_api::{Mbuf, Reject, TxFlags};

use super::Lkeys;
use super::template::Template;

/// Most header bytes of a packet for TSO: their number has 8 bits in the WQE
/// (reference/mana-hardware.md §3.3).
const MAX_TSO_HEADER: usize = 255;

/// Most bytes of a packet for TSO: what the kernel's own driver lets its stack hand over
/// (`GSO_MAX_SIZE`, reference/mana-hardware.md §3.3).
const MAX_TSO_PACKET: usize = 524_280;

/// What became of a packet.
pub(super) enum General {
    Written { units: u32 },
    Full,
    Rejected(Reject),
}

/// How a packet stands in a WQE.
pub(super) struct Shape {
    /// Bytes of the headers, where the packet is for TSO: they take the first element.
    header: Option<usize>,
    /// Elements.
    sges: usize,
}

impl Shape {
    /// The shape of a packet, or why none can be: from its metadata alone.
    pub(super) fn of(mbuf: &Mbuf, max_sges: usize) -> Result<Self, Reject> {
        let len = mbuf.packet_len();
        if len == 0 {
            return Err(Reject::Empty);
        }
        let (header, mut sges) = (tso_header(mbuf)?, mbuf.segments());
        if let Some(header) = header {
            let first = mbuf.data_len();
            if header > first {
                return Err(Reject::SplitHeader { header, first });
            }
            sges += usize::from(header < first);
        }
        if sges > max_sges {
            return Err(Reject::TooManySegments {
                segments: sges,
                max: max_sges,
            });
        }
        Ok(Self { header, sges })
    }

    /// The elements of the packet of this shape. Without keys it is only checked.
    pub(super) fn gather(
        &self,
        mbuf: &Mbuf,
        mut lkeys: Option<&mut Lkeys>,
    ) -> Result<[Sge; MAX_TX_SGES], Reject> {
        let mut sges = [Sge::default(); MAX_TX_SGES];
        let mut free = sges.iter_mut();
        let mut put = |sge| {
            if let Some(place) = free.next() {
                *place = sge;
            }
        };
        for (index, segment) in mbuf.iter().enumerate() {
            let (mut address, mut len) = (segment.data_address(), segment.data_len());
            if len == 0 {
                return Err(Reject::EmptySegment(index));
            }
            let pool = segment.buffer_pool();
            let key = match &mut lkeys {
                Some(lkeys) => lkeys.find(pool).ok_or(Reject::ForeignPool(pool))?,
                None => 0,
            };
            if let (0, Some(header)) = (index, self.header)
                && header < len
            {
                put(Sge {
                    address,
                    key,
                    size: header as u32,
                });
                address += header as u64;
                len -= header;
            }
            put(Sge {
                address,
                key,
                size: len as u32,
            });
        }
        Ok(sges)
    }
}

/// Bytes of the headers of a packet that is for TSO; the error if they, or what is behind them, can't
/// be sent so.
pub(super) fn tso_header(mbuf: &Mbuf) -> Result<Option<usize>, Reject> {
    let word = mbuf.tx_word();
    if !word.flags().contains(TxFlags::TSO) {
        return Ok(None);
    }
    let header = usize::from(word.transport_offset()) + usize::from(word.l4_len());
    let len = mbuf.packet_len();
    if header > MAX_TSO_HEADER {
        return Err(Reject::TsoHeader {
            len: header,
            max: MAX_TSO_HEADER,
        });
    }
    if header >= len {
        return Err(Reject::TsoPayload { header, len });
    }
    if len > MAX_TSO_PACKET {
        return Err(Reject::TooLong {
            len,
            max: MAX_TSO_PACKET,
        });
    }
    Ok(Some(header))
}

/// Writes the WQE of any packet at `at` if it takes no more than `room` units.
#[inline(never)]
pub(super) fn write_general(
    sq: &SendRing,
    at: u32,
    room: u32,
    template: Template,
    lkeys: &mut Lkeys,
    max_sges: usize,
    mbuf: &Mbuf,
) -> General {
    let shape = match Shape::of(mbuf, max_sges) {
        Ok(shape) => shape,
        Err(reason) => return General::Rejected(reason),
    };
    let word = mbuf.tx_word();
    let oob = if word.vlan_tci().is_some() || !template.short {
        LONG
    } else {
        SHORT
    };
    if gdma::wqe::units(oob, shape.sges) > room {
        return General::Full;
    }
    let mut header = WqeHeader::plain(oob, shape.sges);
    let mut short = ShortOob::from_bits(template.oob(word));
    if let Some(bytes) = shape.header {
        header = header
            .with_client_oob_in_sgl(true)
            .with_last_vbytes(bytes as u8)
            .with_client_data_unit(word.mss());
        // Both for IPv6, too, as in the kernel's driver (§3.3).
        short = short.with_comp_iphdr_csum(true).with_comp_tcp_csum(true);
    }
    let oob_words = if oob == LONG {
        Wqe::Long(LongOob {
            short: short.with_pkt_fmt(1),
            tail: template.tail(word),
        })
    } else {
        Wqe::Short(short)
    };
    if shape.header.is_some() {
        return match shape.gather(mbuf, Some(lkeys)) {
            Ok(sges) => General::Written {
                units: sq.write(at, header, &oob_words, sges),
            },
            Err(reason) => General::Rejected(reason),
        };
    }
    // An element a segment, straight into the ring; of what turns out to be none to be sent, nothing
    // is committed.
    let mut bad = None;
    let elements = mbuf.iter().enumerate().map_while(|(index, segment)| {
        let (len, pool) = (segment.data_len(), segment.buffer_pool());
        match lkeys.find(pool) {
            Some(key) if len != 0 => Some(Sge {
                address: segment.data_address(),
                key,
                size: len as u32,
            }),
            _ => {
                bad = Some(match len {
                    0 => Reject::EmptySegment(index),
                    _ => Reject::ForeignPool(pool),
                });
                None
            }
        }
    });
    let units = sq.write(at, header, &oob_words, elements);
    bad.map_or(General::Written { units }, General::Rejected)
}
