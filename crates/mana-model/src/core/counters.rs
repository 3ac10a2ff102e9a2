//! What a vPort counts by kind: the device's own statistics (reference/mana-hardware.md §6.9), beside
//! the [`super::PortCounters`] that users of the model see.

use gdma::cqe::tx;

/// Packets and bytes of one direction, by their destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Destinations {
    /// Packets to one station.
    pub unicast_packets: u64,
    /// Their bytes.
    pub unicast_bytes: u64,
    /// Packets to a group.
    pub multicast_packets: u64,
    /// Their bytes.
    pub multicast_bytes: u64,
    /// Packets to all stations.
    pub broadcast_packets: u64,
    /// Their bytes.
    pub broadcast_bytes: u64,
}

impl Destinations {
    /// Counts a frame of so many bytes.
    #[inline]
    pub(super) fn count(&mut self, frame: &[u8], bytes: u64) {
        let (packets, sum) = match frame.get(..6) {
            Some([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]) => {
                (&mut self.broadcast_packets, &mut self.broadcast_bytes)
            }
            Some([first, ..]) if first & 1 != 0 => {
                (&mut self.multicast_packets, &mut self.multicast_bytes)
            }
            _ => (&mut self.unicast_packets, &mut self.unicast_bytes),
        };
        *packets += 1;
        *sum += bytes;
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.unicast_bytes + self.multicast_bytes + self.broadcast_bytes
    }

    /// All packets.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.unicast_packets + self.multicast_packets + self.broadcast_packets
    }
}

/// Types of completions that end a send with an error.
const ERRORS: usize = (tx::GDMA_ERR - tx::OKAY) as usize;

/// What a vPort counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What it sent.
    pub sent: Destinations,
    /// What it received.
    pub received: Destinations,
    errors: [u64; ERRORS],
}

impl Traffic {
    /// A send ended with this type of completion.
    #[inline]
    pub(super) fn failed(&mut self, cqe_type: u8) {
        if let Some(count) = cqe_type
            .checked_sub(tx::SA_DROP)
            .and_then(|index| self.errors.get_mut(usize::from(index)))
        {
            *count += 1;
        }
    }

    /// Sends that ended with this type of completion (`gdma::cqe::tx`); 0 for one that is no error.
    #[must_use]
    pub fn errors(&self, cqe_type: u8) -> u64 {
        let index = cqe_type.checked_sub(tx::SA_DROP).map(usize::from);
        index
            .and_then(|index| self.errors.get(index))
            .copied()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_by_their_destination_and_errors_by_their_type() {
        let mut traffic = Traffic::default();
        traffic.sent.count(&[0xFF; 60], 60);
        traffic.sent.count(&[0x01, 0, 0x5E, 0, 0, 1, 0], 70);
        traffic.sent.count(&[0x33, 0x33, 0, 0, 0, 1, 0], 80);
        traffic.sent.count(&[0x00, 0x0D, 0x3A, 0, 0, 1, 0], 90);
        let expected = Destinations {
            unicast_packets: 1,
            unicast_bytes: 90,
            multicast_packets: 2,
            multicast_bytes: 150,
            broadcast_packets: 1,
            broadcast_bytes: 60,
        };
        assert_eq!(traffic.sent, expected);
        assert_eq!((expected.packets(), expected.bytes()), (4, 300));
        for cqe_type in [tx::OKAY, tx::SA_DROP, tx::GDMA_ERR, tx::GDMA_ERR, 0, 255] {
            traffic.failed(cqe_type);
        }
        let counted = [tx::OKAY, tx::SA_DROP, tx::MTU_DROP, tx::GDMA_ERR, 255];
        assert_eq!(counted.map(|kind| traffic.errors(kind)), [0, 1, 0, 2, 0]);
    }
}
