//! Frames on their way to a port, in order.

use std::collections::VecDeque;

/// Frames that a sender may put on a wire before it must wait.
const FULL: usize = 4096;

/// A queue of frames whose memory is used again and again.
#[derive(Default)]
pub(super) struct Wire {
    /// The first `waiting` hold frames; the others are free.
    slots: VecDeque<Vec<u8>>,
    waiting: usize,
}

impl Wire {
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= FULL
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Appends a copy of the frame, even to a full wire.
    #[inline]
    pub(super) fn push(&mut self, frame: &[u8]) {
        match self.slots.get_mut(self.waiting) {
            Some(slot) => {
                slot.clear();
                slot.extend_from_slice(frame);
            }
            None => self.slots.push_back(frame.to_vec()),
        }
        self.waiting += 1;
    }

    /// Takes the oldest frame in exchange for the memory of what `frame` held; false if there is
    /// none.
    #[inline]
    pub(super) fn pop(&mut self, frame: &mut Vec<u8>) -> bool {
        if self.waiting == 0 {
            return false;
        }
        if let Some(oldest) = self.slots.pop_front() {
            let free = std::mem::replace(frame, oldest);
            self.slots.push_back(free);
            self.waiting -= 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_order_while_slots_are_used_again() {
        let (mut wire, mut frame) = (Wire::default(), vec![0xEE; 100]);
        let (mut sent, mut received) = (0u32, 0u32);
        for turn in 0..50u32 {
            for _ in 0..turn % 7 {
                wire.push(&sent.to_be_bytes()[..(sent % 5) as usize]);
                sent += 1;
            }
            for _ in 0..turn % 5 {
                if wire.pop(&mut frame) {
                    assert_eq!(frame, received.to_be_bytes()[..(received % 5) as usize]);
                    received += 1;
                }
            }
        }
        while wire.pop(&mut frame) {
            received += 1;
        }
        assert!(sent == received && wire.is_empty());
        assert!(wire.slots.len() < sent as usize / 2, "{}", wire.slots.len());
    }

    #[test]
    fn a_wire_is_full_after_4096_frames_and_loses_none_beyond() {
        let (mut wire, mut frame) = (Wire::default(), Vec::new());
        for _ in 0..4096 {
            assert!(!wire.is_full());
            wire.push(&[1]);
        }
        assert!(wire.is_full());
        wire.push(&[2]);
        let popped = std::iter::repeat_with(|| wire.pop(&mut frame)).take_while(|some| *some);
        assert_eq!(popped.count(), 4097);
        assert_eq!(frame, [2]);
    }
}
