//! rxonly: packets are received and dropped.

use super::ForwardMode;
use crate::testpmd::lane::Lane;

/// The mode; it has no state.
pub struct RxOnly;

impl ForwardMode for RxOnly {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        lane.batch.clear();
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testpmd::lane::tests::{frames, stream_with};

    #[test]
    fn nothing_leaves_and_nothing_counts_as_dropped() {
        let (mut stream, wire) = stream_with(&[vec![1; 60], vec![2; 60]]);
        assert_eq!(RxOnly.forward(&mut stream.lane()), 2);
        assert!(frames(&wire).is_empty());
        let stats = stream.counters().snapshot();
        assert_eq!((stats.rx_packets, stats.tx_dropped), (2, 0));
    }
}
