//! io: packets leave as they came.

use super::ForwardMode;
use crate::testpmd::lane::Lane;

/// The mode; it has no state.
pub struct Io;

impl ForwardMode for Io {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received > 0 {
            lane.restore_tags();
            lane.transmit_all();
        }
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::lane::tests::{frames, stream_with};

    #[test]
    fn every_byte_leaves_as_it_came() {
        let sent: Vec<Vec<u8>> = (0..3).map(|i| vec![i; 60 + usize::from(i)]).collect();
        let (mut stream, wire) = stream_with(&sent);
        assert_eq!(Io.forward(&mut stream.lane()), 3);
        assert_eq!(frames(&wire), sent);
        assert_eq!(Io.forward(&mut stream.lane()), 0);
    }

    #[test]
    fn a_visit_calls_the_transmit_queue_and_leaves_what_arrived() {
        let sent = [vec![1; 60]];
        let (mut stream, wire) = stream_with(&sent);
        stream.lane().visit();
        assert_eq!((wire.reclaims(), frames(&wire).len()), (1, 0));
        assert_eq!(Io.forward(&mut stream.lane()), 1);
    }
}
