//! What regions leave behind. Alone in its program: a second test's thread has mappings of its own.

use std::fs;

use dma_memory::{HugePages, Region, RegionOptions};

mod reserve;
use reserve::Reservation;

fn options(huge: HugePages) -> RegionOptions {
    RegionOptions {
        huge,
        numa_node: None,
    }
}

#[test]
fn a_thousand_regions_leave_no_descriptor_and_no_mapping() {
    let reservation = Reservation::of_free(1);
    let count = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        (
            descriptors,
            fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .count(),
        )
    };
    let kinds = [
        HugePages::Auto,
        HugePages::Never,
        HugePages::Require1G,
        HugePages::Auto1G,
    ];
    let round = |i: usize| {
        // Whether it can be had differs by machine; that nothing stays does not.
        drop(Region::allocate(
            "test",
            64 << 10,
            &options(kinds[i % kinds.len()]),
        ));
        assert!(Region::allocate("test", 1 << 47, &options(HugePages::Auto)).is_err());
    };
    (0..kinds.len()).for_each(round);
    let before = count();
    (0..1000).for_each(round);
    assert_eq!(count(), before);
    drop(reservation);
}
