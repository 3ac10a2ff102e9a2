//! Statistics of the function and of its physical port (reference/mana-hardware.md §6.9).

use gdma::cqe::tx;
use mana_model::hardware::{Destinations, PortCounters, Traffic};

use super::message::{Answer, Request};
use super::{Done, Function, status};

/// Bits of a request, in the order of the counters in the answer: broadcast stands before multicast
/// there, while the bits have multicast first.
const BITS: [u32; 27] = [
    0, 1, 2, 3, 4, 7, 8, 5, 6, // received
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, // errors of sending
    19, 20, 21, 24, 25, 22, 23, // sent
    26,
];
/// Where the counters begin in either answer.
const COUNTERS: usize = 40;

/// Counters of the physical port in its answer: packets and bytes of the one class of traffic that
/// there is. The order is that of the structure; the bits are taken to be in the same order.
mod phy {
    pub(super) const COUNT: usize = 50;
    pub(super) const RX_DROPPED: usize = 0;
    pub(super) const TX_DROPPED: usize = 1;
    pub(super) const RX_PACKETS: usize = 2;
    pub(super) const TX_PACKETS: usize = 3;
    pub(super) const RX_BYTES: usize = 18;
    pub(super) const TX_BYTES: usize = 19;
}

impl Function {
    pub(super) fn query_statistics(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let values = self.statistics();
        let asked = request.u64(40);
        let mut reported = 0;
        for (index, (bit, value)) in BITS.into_iter().zip(values).enumerate() {
            if asked & 1 << bit != 0 {
                reported |= 1 << bit;
                answer.u64(COUNTERS + 8 * index, value);
            }
        }
        answer.u64(32, reported);
        Ok(status::OK)
    }

    /// The function's counters, in the order of the answer.
    fn statistics(&self) -> [u64; 27] {
        let ports = 0..self.hardware.config().ports.len();
        let mut sums = [0; 27];
        for port in ports {
            let counters = self.hardware.counters(port);
            let values = of_port(&counters, &self.hardware.traffic(port));
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
        sums
    }

    pub(super) fn query_phy_statistics(
        &self,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
    ) -> Done {
        let mut values = [0; phy::COUNT];
        for port in 0..self.hardware.config().ports.len() {
            let counters = self.hardware.counters(port);
            let Traffic { sent, received, .. } = self.hardware.traffic(port);
            values[phy::RX_DROPPED] += counters.rx_no_buffer + counters.rx_disabled;
            values[phy::TX_DROPPED] += counters.link_dropped;
            values[phy::RX_PACKETS] += received.packets();
            values[phy::TX_PACKETS] += sent.packets();
            values[phy::RX_BYTES] += received.bytes();
            values[phy::TX_BYTES] += sent.bytes();
        }
        let asked = request.u64(40);
        answer.u64(32, asked & ((1 << phy::COUNT) - 1));
        for (index, value) in values.into_iter().enumerate() {
            if asked & 1 << index != 0 {
                answer.u64(COUNTERS + 8 * index, value);
            }
        }
        Ok(status::OK)
    }
}

fn of_port(counters: &PortCounters, traffic: &Traffic) -> [u64; 27] {
    let error = |cqe_type| traffic.errors(cqe_type);
    let received = by_destination(&traffic.received);
    let sent = by_destination(&traffic.sent);
    let mut values = [0; 27];
    values[0] = counters.rx_no_buffer;
    values[1] = counters.rx_disabled;
    values[2..9].copy_from_slice(&received);
    values[9..19].copy_from_slice(&[
        error(tx::VF_DISABLED),
        error(tx::VPORT_DISABLED),
        error(tx::VPORT_IDX_OUT_OF_RANGE),
        error(tx::VLAN_TAGGING_VIOLATION),
        error(tx::INVALID_ETH_TYPE),
        error(tx::SA_DROP),
        0, // domain of a send queue: a queue has its vPort's here
        0, // domain of a completion queue, likewise
        error(tx::MTU_DROP),
        error(tx::INVALID_OOB),
    ]);
    values[19..26].copy_from_slice(&sent);
    values[26] = error(tx::GDMA_ERR) + error(tx::HDR_PROCESSING_ERROR);
    values
}

/// Bytes, then packets and bytes to one station, to all, to a group.
fn by_destination(counted: &Destinations) -> [u64; 7] {
    [
        counted.bytes(),
        counted.unicast_packets,
        counted.unicast_bytes,
        counted.broadcast_packets,
        counted.broadcast_bytes,
        counted.multicast_packets,
        counted.multicast_bytes,
    ]
}
