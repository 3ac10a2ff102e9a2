//! Model checks of the bulk ring.

use std::sync::Arc;

use ::loom::thread;

use super::*;

/// Two threads that exchange entries with the ring never lose or double one.
#[test]
fn entries_are_conserved() {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let ring = Arc::new(BulkRing::new(2));
        ring.put([1, 2].into_iter());
        let other = Arc::clone(&ring);
        let exchange = |ring: &BulkRing| {
            let mut taken = None;
            if ring.take(1, |value| taken = Some(value)) {
                ring.put(taken.into_iter());
            }
        };
        let thread = thread::spawn(move || exchange(&other));
        exchange(&ring);
        thread.join().unwrap();
        let mut left = Vec::new();
        assert!(ring.take(2, |value| left.push(value)));
        left.sort_unstable();
        assert_eq!(left, [1, 2]);
    });
}
