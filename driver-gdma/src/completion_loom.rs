//! Model checks: a device in another thread, by the rules of §2.6 and §2.9.
//!
//! The rings are two WQEs or entries long, far below what hardware takes, so that laps change within
//! a few steps.

use std::sync::Arc;

use ::loom::sync::atomic::{AtomicU64, Ordering};
use ::loom::thread;

use super::*;
use crate::send::SendRing;

const WQ: u32 = 5;
const ENTRIES: u32 = 2;

type Words = Arc<[AtomicU64]>;

fn words(count: usize) -> Words {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn ring(words: &Words) -> CompletionRing {
    let doorbell = Doorbell::from_cell(Arc::new(AtomicU64::new(0)));
    let memory = RingMemory::from_words(Arc::clone(words));
    CompletionRing::build(memory, ENTRIES, 1, WQ, true, doorbell)
}

/// "write bytes 0..62, release fence, then the last byte": two words of payload, then the last one.
fn produce(words: &Words, tail: u64, payload: u64) {
    let entry = (tail % 2 * 8) as usize;
    words[entry].store(payload, Ordering::Relaxed);
    words[entry + 2].store(!payload, Ordering::Relaxed);
    let last = u64::from(WQ) | 1 << 24 | (tail / 2 % 8) << 29;
    words[entry + 7].store(last << 32 | payload, Ordering::Release);
}

fn consume(ring: &CompletionRing, cursor: CqCursor) -> u64 {
    while !ring.is_ready(cursor) {
        thread::yield_now();
    }
    let cqe = ring.cqe(cursor);
    assert_eq!(cqe.words[2], !cqe.words[0], "torn");
    assert_eq!(u64::from(cqe.dword(14)), cqe.words[0], "torn");
    cqe.words[0]
}

/// The consumer never sees owner bits before the words that belong to them, nor an entry twice.
#[test]
fn a_ready_entry_is_whole() {
    ::loom::model(|| {
        let words = words(16);
        let device_words = Arc::clone(&words);
        let device = thread::spawn(move || {
            produce(&device_words, 2, 11);
            produce(&device_words, 3, 22);
        });
        let ring = ring(&words);
        let mut cursor = ring.cursor();
        for payload in [11, 22] {
            // An entry that is still on its way is never taken for one that went wrong.
            assert!(matches!(ring.look(cursor), Polled::Empty | Polled::Ready));
            assert_eq!(consume(&ring, cursor), payload);
            cursor = ring.next(cursor);
        }
        assert_eq!(ring.look(cursor), Polled::Empty);
        device.join().unwrap();
    });
}

/// A whole round: the doorbell shows the device every word of the WQE, and what the device writes
/// after it is told of a completion's end (by the next doorbell) never disturbs an entry that is
/// still being read. Three WQEs, so that ring and owner bits change laps.
#[test]
fn work_and_its_completions_go_round_without_a_torn_word() {
    ::loom::model(|| {
        let (cq, sq) = (words(16), words(8));
        let cell = Arc::new(AtomicU64::new(0));
        let device = {
            let (cq, sq, cell) = (Arc::clone(&cq), Arc::clone(&sq), Arc::clone(&cell));
            thread::spawn(move || {
                for wqe in 0..3u64 {
                    while cell.load(Ordering::Acquire) >> 32 <= wqe * 32 {
                        thread::yield_now();
                    }
                    let word = |i: usize| sq[(wqe % 2 * 4) as usize + i].load(Ordering::Relaxed);
                    assert_eq!([word(0), word(3)], [wqe + 1, wqe + 100], "torn");
                    produce(&cq, 2 + wqe, wqe + 1);
                }
            })
        };
        let memory = RingMemory::from_words(sq);
        // SAFETY: the device of this test reads no address from a WQE.
        let sender = unsafe { SendRing::new(memory, WQ, Doorbell::from_cell(cell)) };
        let mut sender = sender.unwrap();
        let ring = ring(&cq);
        let mut cursor = ring.cursor();
        for wqe in 0..3u32 {
            let at = sender.head();
            for unit in sender.units(at, 1) {
                unit.write([u64::from(wqe) + 1, 0, 0, u64::from(wqe) + 100]);
            }
            sender.commit(at + 1);
            assert_eq!(consume(&ring, cursor), u64::from(wqe) + 1);
            cursor = ring.next(cursor);
            sender.release_to(at + 1);
        }
        assert_eq!(ring.look(cursor), Polled::Empty);
        device.join().unwrap();
    });
}
