//! What the WQEs of a transmit queue have in common, and the loop that writes simple ones.

use gdma::Unit;
use gdma::oob::{LONG, LongOobTail, MAX_SHORT_VPORT_OFFSET, OFFLOAD_MASK, SHORT, ShortOob};
use gdma::wqe::WqeHeader;
use mana_verbs::SendQueue;
use pmd_api::{Mbuf, TxFlags, TxPush, TxWord};

/// Requests of the transmit word that take more than the offload bits of the short OOB. The word
/// itself makes sense: it can only be built from requests that were checked.
const SPECIAL: u64 = (TxFlags::VLAN.bits() | TxFlags::TSO.bits()) as u64;

/// What all WQEs of a queue have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Template {
    /// Short OOB of a suppressed packet without offloads.
    oob: u64,
    /// The same of one that asks for its completion.
    telling: u64,
    vport_offset: u16,
    /// The vPort offset fits the short OOB.
    pub(super) short: bool,
}

impl Template {
    pub(super) fn new(queue: &SendQueue) -> Self {
        let vport_offset = queue.vport_offset();
        let short = vport_offset <= MAX_SHORT_VPORT_OFFSET;
        let oob = ShortOob::new()
            .with_suppress_txcqe_gen(true)
            .with_vcq_num(queue.cq_id() & 0xFF_FFFF)
            .with_vsq_frame((queue.sq_id() >> 10 & 0x3FFF) as u16)
            .with_short_vp_offset(if short { vport_offset as u8 } else { 0 });
        Self {
            oob: oob.into_bits(),
            telling: oob.with_suppress_txcqe_gen(false).into_bits(),
            vport_offset: (vport_offset & 0xFFF) as u16,
            short,
        }
    }

    /// Whether a packet with this word needs no more than a short OOB and plain elements.
    #[inline]
    pub(super) fn is_simple(&self, word: TxWord) -> bool {
        self.short && word.bits() & SPECIAL == 0
    }

    /// Whether a packet with this word needs a long OOB, and otherwise no more than plain elements.
    #[inline]
    pub(super) fn is_long(&self, word: TxWord) -> bool {
        let flags = word.flags();
        !flags.contains(TxFlags::TSO) && (flags.contains(TxFlags::VLAN) || !self.short)
    }

    /// The short OOB of a packet, or the first 8 bytes of its long one without the format.
    #[inline]
    pub(super) fn oob(&self, word: TxWord) -> u64 {
        self.oob | word.bits() & OFFLOAD_MASK
    }

    /// Header and short OOB of a packet of so many elements.
    #[inline]
    pub(super) fn short_head(&self, word: TxWord, sges: usize) -> [u64; 2] {
        [WqeHeader::plain(SHORT, sges).into_bits(), self.oob(word)]
    }

    /// Header and long OOB of a packet of so many elements.
    #[inline]
    pub(super) fn long_head(&self, word: TxWord, sges: usize) -> [u64; 4] {
        let short = ShortOob::from_bits(self.oob(word)).with_pkt_fmt(1);
        [
            WqeHeader::plain(LONG, sges).into_bits(),
            short.into_bits(),
            self.tail(word).into_bits(),
            0,
        ]
    }

    /// The rest of a packet's long OOB.
    #[inline]
    pub(super) fn tail(&self, word: TxWord) -> LongOobTail {
        let tail = word.vlan_tci().map_or(LongOobTail::new(), |tci| {
            LongOobTail::new()
                .with_inject_vlan_pri_tag(true)
                .with_pcp((tci >> 13) as u8)
                .with_dei(tci >> 12 & 1 != 0)
                .with_vlan_id(tci & 0xFFF)
        });
        // Which of the two offsets counts in the long format is not known; both are filled in where
        // they fit (reference/mana-hardware.md §3.2).
        tail.with_long_vp_offset(self.vport_offset)
    }

    /// Writes the WQEs of the next packets while these are simple, one into each unit, and returns how
    /// many these were; their bytes are added to `bytes`. The queue's offset fits the short OOB, and the
    /// pool of the packets has this key.
    #[inline(always)]
    pub(super) fn push_simple<'a>(
        &self,
        key: u32,
        push: &mut TxPush<'_>,
        units: impl ExactSizeIterator<Item = Unit<'a>>,
        bytes: &mut u64,
    ) -> usize {
        let (oob, key) = (self.oob, u64::from(key));
        let mut sum = 0;
        let count = push.simple(units, |mbuf, unit| {
            let len = write_simple(oob, key, mbuf, unit);
            sum += len;
            len != 0
        });
        *bytes += sum;
        count
    }

    /// What writes the WQE of a packet, if it is simple, and returns its bytes, or 0. As for
    /// [`Template::push_simple`].
    #[inline(always)]
    pub(super) fn writer<'a>(&self, key: u32) -> impl Fn(&Mbuf, Unit<'a>) -> u64 + use<'a> {
        let (oob, key) = (self.oob, u64::from(key));
        move |mbuf, unit| write_simple(oob, key, mbuf, unit)
    }

    /// Writes the WQE of one packet, with a request for its completion, if it is simple. Returns its
    /// bytes, or 0. As for [`Template::push_simple`].
    #[inline(always)]
    pub(super) fn write_one(&self, key: u32, mbuf: &Mbuf, unit: Unit<'_>) -> u64 {
        write_simple(self.telling, u64::from(key), mbuf, unit)
    }
}

/// Writes the WQE of a packet of one unshared segment, if it wants no more than a short OOB. Returns
/// its bytes, or 0.
#[inline(always)]
fn write_simple(oob: u64, key: u64, mbuf: &Mbuf, unit: Unit<'_>) -> u64 {
    const HEADER: u64 = WqeHeader::plain(SHORT, 1).into_bits();
    let (word, len) = (mbuf.tx_word().bits(), mbuf.packet_len() as u64);
    if word & SPECIAL != 0 || len == 0 {
        return 0;
    }
    let oob = oob | word & OFFLOAD_MASK;
    unit.write([HEADER, oob, mbuf.data_address(), key | len << 32]);
    len
}
