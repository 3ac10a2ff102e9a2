//! The sizes of rings that libmana works out (reference/mana-hardware.md §4.3), and the requests
//! that make it arrive at ours.

/// A page of the device.
const PAGE: u64 = 4096;
/// Segments of a work request to send at most, in every release.
#[cfg(feature = "rdma-core")]
const MAX_SEND_SEGMENTS: u32 = 30;
/// Segments of a receive buffer at most.
const MAX_RECEIVE_SEGMENTS: u32 = 15;

/// Bytes of a ring of `entries` times `bytes`, as libmana rounds them.
const fn ring(entries: u32, bytes: u64) -> u64 {
    (entries as u64 * bytes)
        .next_power_of_two()
        .next_multiple_of(PAGE)
}

/// Bytes of a work request with that many segments: header and short OOB, then 16 a segment.
const fn work_request(segments: u32) -> u64 {
    (16 + 16 * segments as u64).next_multiple_of(32)
}

/// The most segments for which libmana gives `max_wr` work requests to send a ring of `bytes`. The
/// kernel does nothing with the number, and the device counts in bytes.
#[cfg(feature = "rdma-core")]
pub(super) fn send_segments(max_wr: u32, bytes: u64) -> Option<u32> {
    (1..=MAX_SEND_SEGMENTS)
        .rev()
        .find(|&segments| ring(max_wr, work_request(segments)) == bytes)
}

/// The fewest segments for which libmana gives `max_wr` receive buffers a ring of `bytes`.
pub(super) fn receive_segments(max_wr: u32, bytes: u64) -> Option<u32> {
    (1..=MAX_RECEIVE_SEGMENTS).find(|&segments| ring(max_wr, work_request(segments)) == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// reference/uverbs-boundary.md §2, T2 and R2: what libmana 56 asked its allocator for.
    #[test]
    fn sizes_are_those_that_libmana_was_seen_to_ask_for() {
        assert_eq!(ring(128, work_request(30)), 65_536);
        assert_eq!(ring(128, work_request(1)), 4096);
        // Table of reference/mana-hardware.md §4.3.
        assert_eq!(
            (work_request(1), work_request(15), work_request(30)),
            (32, 256, 512)
        );
    }

    #[test]
    fn rings_of_the_driver_are_reached_at_every_depth() {
        for depth in [64, 128, 256, 1024, 65_536] {
            #[cfg(feature = "rdma-core")]
            // 64 bytes a packet to send hold 3 segments, 32 bytes a receive buffer one.
            assert_eq!(send_segments(depth, u64::from(depth) * 64), Some(3));
            let bytes = (u64::from(depth) * 32).max(4096);
            assert_eq!(receive_segments(depth, bytes), Some(1));
        }
        #[cfg(feature = "rdma-core")]
        assert_eq!(send_segments(256, 131_072), Some(30));
        // Scattered packets: WQEs of 2 to 8 units, rounded up to a power of two.
        for (bytes, fewest) in [(64, 2), (128, 4), (256, 8)] {
            assert_eq!(receive_segments(256, 256 * bytes), Some(fewest));
        }
    }

    #[test]
    fn other_rings_are_not() {
        #[cfg(feature = "rdma-core")]
        for bytes in [0, 2048, 4096, 12_288, 262_144] {
            assert_eq!(send_segments(256, bytes), None, "{bytes}");
        }
        assert_eq!(receive_segments(256, 131_072), None);
    }
}
