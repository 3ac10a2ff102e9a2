//! Model checks of claiming, exiting and orphaning.

use std::sync::Arc;

use ::loom::thread;

use super::*;

/// A record has one claimer at a time, and what its last one left is seen by the next.
#[test]
fn a_record_is_claimed_once() {
    ::loom::model(|| {
        let home = Arc::new(Home::new(2, 1, 2));
        let other = Arc::clone(&home);
        let work = |home: &Home| {
            if let Some(claim) = home.claim() {
                if home.prepare(&claim, 1) {
                    let index = claim.take(1).next().unwrap();
                    home.make_room(&claim, 1);
                    claim.put(index);
                }
                home.release(&claim);
            }
        };
        let thread = thread::spawn(move || work(&other));
        work(&home);
        thread.join().unwrap();
        assert!(home.is_complete());
    });
}

/// After orphaning, "all home" is never seen while a buffer is out, and is seen when the last one
/// came: by the thread that put it into the ring, or when the record's thread exits.
#[test]
fn an_orphaned_pool_is_complete_only_when_all_are_home() {
    ::loom::model(|| {
        let home = Arc::new(Home::new(2, 1, 2));
        let out = Arc::new(AtomicU32::new(2));
        let mut taken = Vec::new();
        assert!(home.take(2, |index| taken.push(index)));
        let (other, other_out, index) = (Arc::clone(&home), Arc::clone(&out), taken[0]);
        // A thread with a record drops its buffer, then exits.
        let thread = thread::spawn(move || {
            let claim = other.claim().unwrap();
            other_out.fetch_sub(1, Ordering::Release);
            if claim.record().is_orphaned() {
                other.put(std::iter::once(index));
            } else {
                other.make_room(&claim, 1);
                claim.put(index);
            }
            other.release(&claim);
        });
        // Another one drops the last handle, then its buffer.
        home.orphan();
        out.fetch_sub(1, Ordering::Release);
        home.put(std::iter::once(taken[1]));
        if home.is_complete() {
            assert_eq!(out.load(Ordering::Acquire), 0);
        }
        thread.join().unwrap();
        assert!(home.is_complete());
    });
}
