//! Model checks: a device that writes entries while the consumer polls.

use std::sync::Arc;

use ::loom::sync::atomic::{AtomicU64, Ordering};
use ::loom::thread;

use super::*;

/// The consumer never sees an owner bit before the words that belong to it, nor an entry twice.
#[test]
fn a_ready_entry_is_whole() {
    ::loom::model(|| {
        let words: Arc<[AtomicU64]> = (0..16).map(|_| AtomicU64::new(0)).collect();
        let device_words = Arc::clone(&words);
        let device = thread::spawn(move || {
            for (entry, payload) in [(0, 11), (1, 22)] {
                device_words[entry * 8].store(payload, Ordering::Relaxed);
                device_words[entry * 8 + 7].store(0x2100_0005_0000_0000, Ordering::Release);
            }
        });
        let cell = Box::leak(Box::new(0u64));
        // SAFETY: the cell lives for ever.
        let doorbell = unsafe { Doorbell::new(core::ptr::NonNull::from(cell)) };
        let memory = RingMemory::from_words(words);
        let ring = CompletionRing::build(memory, 2, 1, 5, true, doorbell);
        let mut cursor = ring.cursor();
        for payload in [11, 22] {
            while !ring.is_ready(cursor) {
                thread::yield_now();
            }
            assert_eq!(ring.load(cursor, 0), payload);
            cursor = ring.next(cursor);
        }
        assert_eq!(ring.look(cursor), Polled::Empty);
        device.join().unwrap();
    });
}
