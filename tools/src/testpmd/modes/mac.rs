//! mac: packets leave with the port's own MAC as source and the peer's as destination.

use uverbs_abi::Mac;

use super::ForwardMode;
use crate::testpmd::lane::Lane;

/// Destination and source of every packet that leaves.
pub struct MacForward {
    addresses: [u8; 12],
}

impl MacForward {
    /// Packets will leave from `source` to `peer`.
    pub fn new(source: Mac, peer: Mac) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&peer.0);
        addresses[6..].copy_from_slice(&source.0);
        MacForward { addresses }
    }
}

impl ForwardMode for MacForward {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received == 0 {
            return 0;
        }
        for mbuf in lane.batch.iter_mut() {
            let header = mbuf.data_mut().and_then(<[u8]>::first_chunk_mut);
            if let Some(header) = header {
                *header = self.addresses;
            }
        }
        lane.insert_tags();
        lane.transmit_all();
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::lane::tests::{frames, stream_with};

    #[test]
    fn both_addresses_are_replaced_and_nothing_else() {
        let source = Mac([0, 1, 2, 3, 4, 5]);
        let peer = Mac([2, 0, 0, 0, 0, 7]);
        let (mut stream, wire) = stream_with(&[vec![0xee; 60]]);
        assert_eq!(MacForward::new(source, peer).forward(&mut stream.lane()), 1);
        let mut expected = vec![0xee; 60];
        expected[..12].copy_from_slice(&[2, 0, 0, 0, 0, 7, 0, 1, 2, 3, 4, 5]);
        assert_eq!(frames(&wire), [expected]);
    }
}
