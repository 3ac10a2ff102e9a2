//! Owner bits of completion and event queues: the low three bits of the lap number (§2.6).
//!
//! A cursor is a free-running `u32` that counts entries and starts at the queue's size, so that the
//! first lap is number 1 and a zeroed ring is empty. Sizes are powers of two, hence the lap is a
//! shift and the cursor may pass 2^32 without a break: 8 laps divide 2^32.

/// Where the cursors of a fresh queue start.
#[inline]
#[must_use]
pub const fn initial_cursor(entries: u32) -> u32 {
    entries
}

/// The owner bits that a valid entry at `cursor` carries in a queue of `1 << log2` entries.
#[inline]
#[must_use]
pub const fn owner(cursor: u32, log2: u32) -> u8 {
    (cursor >> log2) as u8 & 7
}

/// The owner bits that an entry still carries which waits for those of `owner`: a lap's before.
#[inline]
#[must_use]
pub const fn stale(owner: u8) -> u8 {
    owner.wrapping_sub(1) & 7
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.6: "consumer head starts at count (i.e. owner phase 1)"; "new = (head/count) & 7",
    /// "old = (head/count - 1) & 7".
    #[test]
    fn owners_are_lap_numbers_modulo_eight() {
        for log2 in 6..=25 {
            let entries = 1 << log2;
            let first = initial_cursor(entries);
            assert_eq!((owner(first, log2), stale(1)), (1, 0));
            assert_eq!(owner(first + 7 * entries, log2), 0);
            assert_eq!(stale(owner(first + 7 * entries, log2)), 7);
            for cursor in [0, 1, entries - 1, u32::MAX - 1, u32::MAX] {
                let lap = u64::from(cursor) / u64::from(entries);
                assert_eq!(u64::from(owner(cursor, log2)), lap % 8);
                assert_eq!(u64::from(stale(owner(cursor, log2))), (lap + 7) % 8);
            }
            // Across 2^32: the last lap before it is 7, the next one 0.
            assert_eq!((owner(u32::MAX, log2), owner(0, log2)), (7, 0));
        }
    }
}
