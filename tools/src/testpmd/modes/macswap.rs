//! macswap: packets leave with source and destination MAC exchanged.

use super::ForwardMode;
use crate::testpmd::lane::Lane;

/// The mode; it has no state.
pub struct MacSwap;

impl ForwardMode for MacSwap {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received == 0 {
            return 0;
        }
        for mbuf in lane.batch.iter_mut() {
            let header = mbuf.data_mut().and_then(<[u8]>::first_chunk_mut::<12>);
            if let Some(header) = header {
                header.rotate_left(6);
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
    fn the_addresses_are_exchanged_and_nothing_else() {
        let frame: Vec<u8> = (0..60).collect();
        let (mut stream, wire) = stream_with(std::slice::from_ref(&frame));
        assert_eq!(MacSwap.forward(&mut stream.lane()), 1);
        let mut expected = frame;
        expected[..12].copy_from_slice(&[6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
        assert_eq!(frames(&wire), [expected]);
    }
}
